#include "distill/learning.h"

#include <string.h>

#include "core/network/mapping.h"

static const char *const MODES[] = { "resident", "stream", "fused" };

const char *rt_memory_mode_name(rt_memory_mode mode) { return MODES[mode]; }

int rt_learning_modes(rt_memory_mode mode[3], const rt_learn_options *o)
{
    int n = 0;
    bool any = !strcmp(o->mode, "auto");
    for (int k = 0; k < RT_COUNT(MODES); k++)
        if (any || !strcmp(o->mode, MODES[k]))
            mode[n++] = (rt_memory_mode)k;
    if (n == 0) /* lora4 */
        mode[n++] = RT_MODE_RESIDENT;
    return n;
}

rt_learning rt_learning_of(const rt_learn_options *o, rt_memory_mode mode)
{
    bool lean = mode != RT_MODE_RESIDENT;
    return (rt_learning){
        .mode = mode,
        .bf16 = !strcmp(o->master, "bf16") || (!strcmp(o->master, "auto") && lean),
        .coded = !strcmp(o->moments, "8bit") || (!strcmp(o->moments, "auto") && lean)
    };
}

void rt_learning_put(const rt_learning *l, cJSON *json)
{
    const char *const what[][2] = { { "master_dtype", l->bf16 ? "bf16" : "f32" },
                                    { "moments", l->coded ? "8bit" : "f32" } };
    for (int i = 0; i < RT_COUNT(what); i++) {
        cJSON_DeleteItemFromObjectCaseSensitive(json, what[i][0]);
        rt_json_put_str(json, what[i][0], what[i][1]);
    }
}

static int check_adapters(const rt_learn_options *o, const rt_learning *l, const rt_learn_case *c,
                          rt_err *err)
{
    bool lora4 = !strcmp(o->mode, "lora4");
    if (!c->m->w.adapters)
        return 0;
    if (l->mode != RT_MODE_RESIDENT)
        return rt_usage(err, "--memory-mode %s is for learning all weights: adapters, and what they "
                             "need, stay on the device (lora4)",
                        o->mode);
    if (l->bf16)
        return rt_usage(err, "--master-dtype bf16: adapters are few, and stay f32");
    if (!strcmp(o->optimizer, "muon"))
        return rt_usage(err, "--optimizer muon is for whole matrices, not for adapters");
    double bits = 8.0 * (double)(c->m->mapping ? c->m->mapping->bytes : 0) / (double)rt_max(c->m->w.params.total, 1);
    if (lora4 && bits > 6)
        return rt_fail(err, "%s: %.1f bits a weight: --memory-mode lora4 wants a base of about 4: "
                            "retort quantize --type Q4_K_M makes one",
                       c->m->path, bits);
    return 0;
}

int rt_learning_check(const rt_learn_options *o, const rt_learning *l, const rt_learn_case *c,
                      rt_err *err)
{
    if (check_adapters(o, l, c, err))
        return -1;
    if (l->mode == RT_MODE_RESIDENT)
        return 0;
    const char *name = rt_memory_mode_name(l->mode);
    if (c->m->cfg.family->routed)
        return rt_usage(err, "--memory-mode %s is for dense models: a pass would copy all experts",
                        name);
    if (l->mode != RT_MODE_FUSED)
        return 0;
    if (c->batch_tokens > c->rows)
        return rt_usage(err, "--memory-mode fused moves weights in the backward pass, so a step is one "
                             "pass: --batch-tokens %lld may not exceed --pass-tokens %lld",
                        (long long)c->batch_tokens, (long long)c->rows);
    if (c->clip > 0 && !c->recompute)
        return rt_usage(err, "--memory-mode fused: --clip costs a second backward pass, which needs "
                             "--recompute block or offload; or take --clip 0");
    if (o->mean > 0)
        return rt_usage(err, "--memory-mode fused: --ema would need all weights once more on the "
                             "device");
    return 0;
}

rt_optimizer_spec rt_learning_spec(const rt_learn_options *o, const rt_learning *l, uint64_t seed)
{
    return (rt_optimizer_spec){ .muon = !strcmp(o->optimizer, "muon"),
                                .coded = l->coded,
                                .beta1 = o->beta1,
                                .beta2 = o->beta2,
                                .eps = o->eps,
                                .decay = o->decay,
                                .momentum = o->momentum,
                                .mean = o->mean,
                                .seed = seed };
}
