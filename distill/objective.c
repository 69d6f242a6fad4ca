#include "distill/objective.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/suggest.h"

static const struct term {
    const char *name;
    size_t field;
    bool soft, from_random;
} terms[] = {
#define TERM(name, field, soft, from_random, formula)                                              \
    { name, offsetof(rt_loss_spec, field), soft, from_random },
    RT_LOSS_TERMS(TERM)
#undef TERM
};
enum { TERMS = RT_COUNT(terms), WEIGHT_MAX = 1000 };

static float *field_of(rt_loss_spec *s, int term)
{
    return (float *)(void *)((uint8_t *)s + terms[term].field);
}

static float weight_of(const rt_loss_spec *s, int term)
{
    return *(const float *)(const void *)((const uint8_t *)s + terms[term].field);
}

/* ---- words --------------------------------------------------------------------------------------
 */

static int find_term(const char *flag, const char *name, rt_err *err)
{
    const char *names[TERMS];
    char nearest[64];
    for (int i = 0; i < TERMS; i++) {
        names[i] = terms[i].name;
        if (strcmp(names[i], name) == 0)
            return i;
    }
    if (strcmp("policy", name) == 0)
        return rt_usage(err, "%s: policy weighs a token by its advantage, and no command gives "
                             "documents one", flag);
    return rt_usage(err, "%s: no loss is called \"%.40s\"%s", flag, name,
                    rt_suggest_name(nearest, sizeof nearest, name, names, TERMS));
}

/* "NAME" or "NAME:WEIGHT", which is cut in two. */
static int read_term(rt_loss_spec *s, const char *flag, char *word, rt_err *err)
{
    char *colon = strchr(word, ':'), *end = NULL;
    double weight = 1;
    if (colon) {
        *colon = 0;
        weight = strtod(colon + 1, &end);
        if (end == colon + 1 || *end || !(weight > 0 && weight <= WEIGHT_MAX))
            return rt_usage(err, "%s: the weight of %.40s is \"%.40s\": give a number above 0, %d at "
                                 "most", flag, word, colon + 1, WEIGHT_MAX);
    }
    int term = find_term(flag, word, err);
    if (term < 0)
        return -1;
    if (weight_of(s, term) > 0)
        return rt_usage(err, "%s: %s stands twice", flag, word);
    *field_of(s, term) = (float)weight;
    return 0;
}

static bool is_soft(const rt_loss_spec *s)
{
    for (int i = 0; i < TERMS; i++)
        if (terms[i].soft && weight_of(s, i) > 0)
            return true;
    return false;
}

static bool learns_from_random(const rt_loss_spec *s)
{
    for (int i = 0; i < TERMS; i++)
        if (terms[i].from_random && weight_of(s, i) > 0)
            return true;
    return false;
}

static int read_mixture(rt_loss_spec *s, const char *flag, const char *words,
                        const rt_objective *o, rt_err *err)
{
    char *copy = strdupa(words), *word;
    int bad = *words ? 0 : rt_usage(err, "%s: is empty: name a loss, such as forward", flag);
    memset(s, 0, sizeof *s);
    while (!bad && (word = strsep(&copy, ",")))
        bad = read_term(s, flag, word, err);
    if (bad)
        return -1;
    s->temperature = is_soft(s) ? (float)o->temperature : 1;
    s->jsd_beta = (float)o->jsd_beta;
    s->skew_alpha = (float)o->skew_alpha;
    if (!is_soft(s) || o->hard_weight == 0)
        return 0;
    if (s->ce > 0)
        return rt_usage(err, "%s gives hard a weight, and so does --hard-weight: give one", flag);
    for (int i = 0; i < TERMS; i++)
        *field_of(s, i) *= terms[i].soft ? (float)(1 - o->hard_weight) : 1;
    s->ce = (float)o->hard_weight;
    return 0;
}

static int read_change(rt_loss_plan *plan, const char *words, rt_err *err)
{
    char *end, *rest = NULL;
    plan->begin = strtod(words, &end);
    if (end != words && *end == ':')
        plan->end = strtod(end + 1, &rest);
    if (!rest || rest == end + 1 || *rest || !(plan->begin >= 0) || !(plan->end <= 1) ||
        !(plan->begin <= plan->end) || !(plan->end > 0))
        return rt_usage(err, "--loss-change is \"%.40s\": give two shares of the steps, such as "
                             "0.1:0.5", words);
    return 0;
}

int rt_objective_read(rt_loss_plan *plan, const rt_objective *o, rt_err *err)
{
    const char *first = o->first;
    memset(plan, 0, sizeof *plan);
    if (read_mixture(&plan->last, "--loss", o->loss, o, err) ||
        read_change(plan, o->change, err))
        return -1;
    plan->chosen = strcmp(first, "auto") == 0;
    if (plan->chosen)
        first = o->random && !learns_from_random(&plan->last) ? "forward" : "none";
    if (strcmp(first, "none") == 0) {
        plan->begin = plan->end = 0;
        return strcmp(o->change, RT_LOSS_CHANGE)
                   ? rt_usage(err, "--loss-change %s: nothing comes before --loss %s: give "
                                   "--loss-first too", o->change, o->loss)
                   : 0;
    }
    return read_mixture(&plan->first, "--loss-first", first, o, err);
}

/* ---- the loss of a step -------------------------------------------------------------------------
 */

bool rt_loss_plan_soft(const rt_loss_plan *plan)
{
    return is_soft(&plan->last) || (plan->end > 0 && is_soft(&plan->first));
}

bool rt_loss_plan_has(const rt_loss_plan *plan, size_t field)
{
    const rt_loss_spec *both[] = { &plan->last, &plan->first }; /* first is zeroed where it is not */
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < TERMS; i++)
            if (terms[i].field == field && weight_of(both[k], i) > 0)
                return true;
    return false;
}

rt_loss_spec rt_loss_plan_most(const rt_loss_plan *plan)
{
    rt_loss_spec s = plan->last;
    for (int i = 0; i < TERMS; i++)
        *field_of(&s, i) += weight_of(&plan->first, i);
    if (s.temperature == 1 && plan->end > 0)
        s.temperature = plan->first.temperature;
    return s;
}

static int fit(rt_loss_spec *s, const char *flag, const rt_soft_config *archive, rt_err *err)
{
    s->tail_spacing = archive->tail_spacing;
    if (s->drawn > 0 && s->temperature != 1)
        return rt_usage(err, "%s forward uses draws made at temperature 1: take --temperature 1, "
                             "or %s bucket", flag, flag);
    if (s->drawn > 0 && archive->tail_spacing == 0) /* head_max cuts, whatever head_floor says */
        return rt_usage(err, "%s forward needs an archive with tail draws (--tail-spacing above "
                             "0), or %s bucket", flag, flag);
    return 0;
}

int rt_loss_plan_fit(rt_loss_plan *plan, const rt_soft_config *archive, rt_err *err)
{
    rt_loss_spec *first = &plan->first;
    if (plan->chosen && (first->temperature != 1 || archive->tail_spacing == 0)) {
        first->bucket = first->drawn;
        first->drawn = 0;
    }
    return fit(&plan->last, "--loss", archive, err) ||
                   (plan->end > 0 && fit(first, "--loss-first", archive, err))
               ? -1
               : 0;
}

rt_loss_spec rt_loss_plan_at(const rt_loss_plan *plan, int64_t done, int64_t steps)
{
    double at = (double)done / (double)rt_max(steps, 1), wide = plan->end - plan->begin;
    rt_loss_spec s = plan->last;
    if (at >= plan->end)
        return s;
    double share = at <= plan->begin ? 0 : (at - plan->begin) / wide;
    for (int i = 0; i < TERMS; i++)
        *field_of(&s, i) = (float)((1 - share) * (double)weight_of(&plan->first, i) +
                                   share * (double)weight_of(&plan->last, i));
    s.temperature = is_soft(&s) && !is_soft(&plan->last) ? plan->first.temperature : s.temperature;
    return s;
}

static void say_mixture(const rt_loss_spec *s, char *text, size_t size)
{
    size_t at = 0;
    for (int i = 0; i < TERMS; i++)
        if (weight_of(s, i) > 0 && at < size)
            at += (size_t)snprintf(text + at, size - at, weight_of(s, i) == 1 ? "%s%s" : "%s%s:%g",
                                   at ? "," : "", terms[i].name, (double)weight_of(s, i));
}

void rt_loss_plan_say(const rt_loss_plan *plan, char *text, size_t size)
{
    char first[160], last[160];
    *text = 0;
    if (plan->end <= 0)
        return;
    say_mixture(&plan->first, first, sizeof first);
    say_mixture(&plan->last, last, sizeof last);
    snprintf(text, size, "%s for %g %% of the steps, then over to %s until %g %%", first,
             100 * plan->begin, last, 100 * plan->end);
}
