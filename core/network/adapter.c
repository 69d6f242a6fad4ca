#include "core/network/adapter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/network/linear.h"

/* "model.layers.0.self_attn.q_proj.weight" -> "q_proj" (n characters). */
static const char *projection(const rt_param *p, int *n)
{
    const char *end = strrchr(p->name, '.'), *begin = end;
    while (begin > p->name && begin[-1] != '.')
        begin--;
    *n = (int)(end - begin);
    return begin;
}

/* The next name of a list "a,b", of n characters; false past the last. */
static bool next_name(const char **list, const char **name, int *n)
{
    *name = *list;
    *n = (int)strcspn(*list, ",");
    *list += *n + ((*list)[*n] == ',');
    return *n > 0;
}

static bool is_called(const rt_param *p, const char *name, int n)
{
    int own;
    const char *at = projection(p, &own);
    return p->flags & RT_PARAM_LINEAR && own == n && !strncmp(at, name, (size_t)n);
}

/* Whether its name stands in the list; all are meant to be all but routers. */
static bool is_target(const char *targets, const rt_param *p)
{
    const char *name;
    int n;
    bool found = false;
    if (!strcmp(targets, "all"))
        return p->flags & RT_PARAM_LINEAR && !strstr(p->gguf, "ffn_gate_inp");
    while (!found && next_name(&targets, &name, &n))
        found = is_called(p, name, n);
    return found;
}

/* Every name of the list is some layer's, and there is one. */
static int check_targets(const rt_params *of, const char *targets, rt_err *err)
{
    const char *at = targets, *name;
    int n;
    if (!*targets)
        return rt_usage(err, "adapters: no layer is named: use all, or names like q_proj");
    while (strcmp(targets, "all") && next_name(&at, &name, &n)) {
        bool found = false;
        for (int i = 0; i < of->n && !found; i++)
            found = is_called(&of->item[i], name, n);
        if (!found)
            return rt_usage(
                err, "adapters: no linear layer is called %.*s: use all, or names like q_proj", n,
                name);
    }
    return *targets == ',' ? rt_usage(err, "adapters: an empty name in %s", targets) : 0;
}

static void add(rt_adapters *a, const rt_param *p, rt_tensor *slot, char side, int64_t out,
                int64_t in)
{
    char name[sizeof p->name + 16];
    int stem = (int)(strrchr(p->name, '.') - p->name);
    snprintf(name, sizeof name, "%.*s.lora_%c.weight", stem, p->name, side);
    a->params.layer = -1; /* the name is whole */
    if (p->experts)
        rt_param_add(&a->params, slot, name, NULL, RT_INIT_ZEROS, RT_PARAM_DECAY, p->experts, out,
                     in);
    else
        rt_param_add(&a->params, slot, name, NULL, RT_INIT_ZEROS, RT_PARAM_DECAY, out, in, 0);
    rt_param *added = &a->params.item[a->params.n - 1];
    added->layer = p->layer;
    snprintf(added->gguf, sizeof added->gguf, "%s", p->gguf);
}

int rt_adapters_new(rt_adapters **out, rt_params *of, const rt_adapter_spec *spec, rt_err *err)
{
    *out = NULL;
    if (check_targets(of, spec->targets, err))
        return -1;
    rt_adapters *a = rt_alloc(1, sizeof *a, "adapters");
    a->spec = *spec;
    a->spec.targets = rt_strdup(spec->targets);
    double rank = (double)spec->rank;
    a->scale = (float)(spec->alpha / (spec->rank_stabilized ? sqrt(rank) : rank));
    for (int i = 0; i < of->n; i++) {
        const rt_param *p = &of->item[i];
        if (!is_target(a->spec.targets, p))
            continue;
        rt_linear *l = rt_linear_of(p);
        int64_t in = l->w.dim[l->w.rank - 1], wide = l->w.dim[l->w.rank - 2];
        add(a, p, &l->down, 'A', spec->rank, in);
        add(a, p, &l->up, 'B', wide, spec->rank);
        l->adapters = a;
    }
    *out = a;
    return 0;
}

void rt_adapters_free(rt_dev *d, rt_adapters *a)
{
    if (!a)
        return;
    rt_dev_free(d, &a->arena);
    rt_dev_free(d, &a->scratch);
    rt_params_free(&a->params);
    free(a->spec.targets);
    free(a);
}

static void plan_scratch(void *ctx, rt_arena *arena)
{
    rt_adapters *a = ctx;
    a->inner = rt_plan_2(arena, "adapters.inner", a->act, a->rows, a->spec.rank);
    a->dinner = rt_plan_2(arena, "adapters.inner", a->act, a->rows, a->spec.rank);
}

void rt_adapters_plan(rt_adapters *a, rt_arenas *l, rt_dev *d, int64_t rows)
{
    a->rows = rows;
    a->act = rt_dev_get(d).act;
    rt_arenas_add(l, &a->arena, "adapters", RT_ON_DEVICE, rt_params_plan, &a->params);
    rt_arenas_add(l, &a->scratch, "adapters", RT_ON_DEVICE, plan_scratch, a);
}

int rt_adapters_init(rt_adapters *a, rt_dev *d, uint64_t seed, rt_err *err)
{
    int64_t most = 0;
    int bad = 0;
    for (int i = 0; i < a->params.n; i++)
        most = rt_max(most, rt_tensor_elements(a->params.item[i].slot));
    float *host = rt_alloc(most, sizeof *host, "initial adapters");
    for (int i = 0; !bad && i < a->params.n; i += 2) { /* down, up */
        const rt_tensor *down = a->params.item[i].slot;
        rt_tensor *up = a->params.item[i + 1].slot;
        int64_t n = rt_tensor_elements(down);
        float bound = 1.0f / sqrtf((float)down->dim[down->rank - 1]);
        for (int64_t j = 0; j < n; j++)
            host[j] = bound * (2.0f * rt_rng_uniform(seed, RT_RNG_INIT,
                                                     ((uint64_t)i << 40) + (uint64_t)j) -
                               1.0f);
        rt_upload(d, down->data, host, n * (int64_t)sizeof *host);
        rt_zero(d, up);
        bad = rt_sync(d, err); /* host is filled again */
    }
    free(host);
    return bad ? -1 : 0;
}
