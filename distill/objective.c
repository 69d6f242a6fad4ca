#include "distill/objective.h"

#include <string.h>

bool rt_objective_soft(const rt_objective *o) { return strcmp(o->kind, "hard") != 0; }

int rt_objective_spec(rt_loss_spec *spec, const rt_objective *o, const rt_soft_config *archive,
                      rt_err *err)
{
    static const struct {
        const char *kind;
        size_t field;
    } terms[] = { { "forward", offsetof(rt_loss_spec, drawn) },
                  { "bucket", offsetof(rt_loss_spec, bucket) },
                  { "renorm", offsetof(rt_loss_spec, renorm) },
                  { "reverse", offsetof(rt_loss_spec, reverse) },
                  { "jsd", offsetof(rt_loss_spec, jsd) },
                  { "skew", offsetof(rt_loss_spec, skew) },
                  { "skew-reverse", offsetof(rt_loss_spec, skew_reverse) },
                  { "tvd", offsetof(rt_loss_spec, tvd) } };
    memset(spec, 0, sizeof *spec);
    spec->temperature = (float)o->temperature;
    spec->jsd_beta = (float)o->jsd_beta;
    spec->skew_alpha = (float)o->skew_alpha;
    spec->tail_spacing = archive->tail_spacing;
    if (!rt_objective_soft(o)) {
        spec->ce = 1;
        spec->temperature = 1;
        return 0;
    }
    spec->ce = (float)o->hard_weight;
    for (int i = 0; i < RT_COUNT(terms); i++)
        if (strcmp(terms[i].kind, o->kind) == 0)
            *(float *)(void *)((uint8_t *)spec + terms[i].field) = (float)(1 - o->hard_weight);
    if (spec->drawn > 0 && o->temperature != 1)
        return rt_usage(err, "--loss forward uses draws made at temperature 1: take --temperature "
                             "1, or --loss bucket");
    if (spec->drawn > 0 && archive->tail_spacing == 0) /* head_max cuts, whatever head_floor says */
        return rt_usage(
            err, "--loss forward needs an archive with tail draws (--tail-spacing above 0), or "
                 "--loss bucket");
    return 0;
}
