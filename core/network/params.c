#include "core/network/params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/base/processor.h"
#include "core/base/rng.h"
#include "core/base/team.h"

enum { DRAWN_UNIT = 1 << 16 /* elements drawn by one thread at a time */ };

void rt_param_add(rt_params *p, rt_tensor *slot, const char *name, const char *gguf,
                  rt_param_init init, unsigned flags, int64_t d0, int64_t d1, int64_t d2)
{
    rt_grow(&p->item, &p->cap, p->n + 1, sizeof *p->item, "a list of weights");
    rt_param *w = &p->item[p->n++];
    memset(w, 0, sizeof *w);
    if (p->layer >= 0) {
        snprintf(w->name, sizeof w->name, "model.layers.%d.%s", p->layer, name);
        if (gguf)
            snprintf(w->gguf, sizeof w->gguf, "blk.%d.%s", p->layer, gguf);
    } else {
        snprintf(w->name, sizeof w->name, "%s", name);
        if (gguf)
            snprintf(w->gguf, sizeof w->gguf, "%s", gguf);
    }
    w->layer = p->layer;
    w->experts = strstr(name, "%d") ? d0 : 0;
    w->slot = slot;
    w->init = init;
    w->flags = flags;
    *slot = d2   ? rt_tensor_3(NULL, RT_F32, d0, d1, d2)
            : d1 ? rt_tensor_2(NULL, RT_F32, d0, d1)
                 : rt_tensor_1(NULL, RT_F32, d0);
    p->total += rt_tensor_elements(slot);
}

rt_dtype rt_param_form_bf16(const rt_param *p)
{
    return p->slot->rank >= 2 && !(p->flags & RT_PARAM_FIXED) ? RT_BF16 : RT_F32;
}

void rt_params_free(rt_params *p)
{
    free(p->item);
    memset(p, 0, sizeof *p);
}

void rt_param_expert_name(const rt_param *p, int64_t expert, char *out, size_t size)
{
    const char *hole = strstr(p->name, "%d");
    if (!hole)
        rt_bug("%s is not a stack over experts", p->name);
    snprintf(out, size, "%.*s%lld%s", (int)(hole - p->name), p->name, (long long)expert, hole + 2);
}

/* Before the first weight of a layer, or of what follows them. */
static void next_turn(rt_arena *a, int layer, int64_t *start, int64_t *most)
{
    if (*start < 0 && layer >= 0)
        *start = *most = rt_arena_mark(a);
    if (*start < 0)
        return;
    *most = rt_max(*most, rt_arena_mark(a));
    rt_arena_release(a, *start);
    if (layer < 0) {
        rt_arena_take(a, a->label, *most - *start);
        *start = -1;
    }
}

void rt_params_plan(void *params, rt_arena *a)
{
    rt_params *p = params;
    int64_t start = -1, most = 0;
    for (int i = 0; i < p->n; i++) {
        rt_tensor *t = p->item[i].slot;
        if (p->in_turns && (i == 0 || p->item[i].layer != p->item[i - 1].layer))
            next_turn(a, p->item[i].layer, &start, &most);
        rt_dtype dtype = p->form && t->rank ? p->form(&p->item[i]) : RT_F32;
        if (dtype == RT_DTYPE_COUNT)
            t->rank = 0;
        if (t->rank == 0)
            continue;
        t->dtype = dtype;
        t->data = rt_arena_take(a, a->label, rt_tensor_bytes(t));
    }
}

void rt_params_put(const rt_params *p, int i, rt_dev *d, const void *host)
{
    const rt_tensor *t = p->item[i].slot;
    if (p->where == RT_ON_HOST)
        memcpy(t->data, host, (size_t)rt_tensor_bytes(t));
    else
        rt_upload(d, t->data, host, rt_tensor_bytes(t));
}

void rt_params_get(const rt_params *p, int i, rt_dev *d, void *host)
{
    const rt_tensor *t = p->item[i].slot;
    if (p->where == RT_ON_HOST)
        memcpy(host, t->data, (size_t)rt_tensor_bytes(t));
    else
        rt_download(d, host, t->data, rt_tensor_bytes(t));
}

int rt_params_write(const rt_params *p, int i, rt_dev *d, float *host, rt_err *err)
{
    const rt_tensor *t = p->item[i].slot;
    int64_t n = rt_tensor_elements(t);
    if (t->dtype == RT_BF16) /* in place: each is read before its half is written */
        for (int64_t k = 0; k < n; k++) {
            uint16_t half = rt_f32_to_bf16(host[k]);
            memcpy((uint8_t *)host + 2 * k, &half, sizeof half);
        }
    rt_params_put(p, i, d, host);
    return rt_sync(d, err);
}

int rt_params_read(const rt_params *p, int i, int64_t first, int64_t n, rt_dev *d, float *host,
                   rt_err *err)
{
    const rt_tensor *t = p->item[i].slot;
    const uint8_t *from = (const uint8_t *)t->data + rt_dtype_bytes(t->dtype, first);
    int64_t bytes = rt_dtype_bytes(t->dtype, n);
    if (p->where == RT_ON_HOST)
        memcpy(host, from, (size_t)bytes);
    else
        rt_download(d, host, from, bytes);
    if (rt_sync(d, err))
        return -1;
    for (int64_t k = n - 1; k >= 0 && t->dtype == RT_BF16; k--) {
        uint16_t half;
        memcpy(&half, (uint8_t *)host + 2 * k, sizeof half);
        host[k] = rt_bf16_to_f32(half);
    }
    return 0;
}

/* Box-Muller on one counter: no state, so the order of filling does not matter. */
static float normal(uint64_t seed, uint64_t index)
{
    rt_u32x4 bits = rt_rng_bits(seed, RT_RNG_INIT, index);
    double u = ((double)bits.v[0] + 1) * 0x1p-32, v = (double)bits.v[1] * 0x1p-32;
    return (float)(sqrt(-2 * log(u)) * cos(2 * M_PI * v));
}

struct drawing {
    float *host, std;
    uint64_t seed, first;
    int64_t n;
};

static void draw_unit(void *ctx, int64_t unit, int member)
{
    const struct drawing *a = ctx;
    int64_t end = rt_min((unit + 1) * DRAWN_UNIT, a->n);
    (void)member;
    for (int64_t j = unit * DRAWN_UNIT; j < end; j++)
        a->host[j] = a->std * normal(a->seed, a->first + (uint64_t)j);
}

/* By all cores where it is worth the threads: a draw does not depend on who makes it. */
static void draw_normal(struct drawing *a)
{
    int64_t units = rt_ceil_div(a->n, DRAWN_UNIT);
    rt_team *team = NULL;
    rt_err alone; /* without threads it takes longer, nothing else */
    int cores = rt_threads_here();
    if (units > 4 && cores > 1 && rt_team_open(&team, cores, &alone) == 0)
        rt_team_run(team, draw_unit, a, units, cores);
    else
        for (int64_t unit = 0; unit < units; unit++)
            draw_unit(a, unit, 0);
    rt_team_close(team);
}

void rt_param_draw(const rt_params *p, int i, const rt_config *cfg, uint64_t seed, float *host)
{
    const rt_param *w = &p->item[i];
    struct drawing a = { .host = host,
                         .std = (float)cfg->init_std,
                         .seed = seed,
                         .first = (uint64_t)i << 40,
                         .n = rt_tensor_elements(w->slot) };
    if (w->init == RT_INIT_OUTPUT)
        a.std = (float)(cfg->init_std / sqrt(2.0 * (double)cfg->layers));
    if (w->init == RT_INIT_NORMAL || w->init == RT_INIT_OUTPUT)
        draw_normal(&a);
    else
        for (int64_t j = 0; j < a.n; j++)
            host[j] = w->init == RT_INIT_ONES ? 1.0f : 0.0f;
}

int rt_params_init(rt_params *p, rt_dev *d, const rt_config *cfg, uint64_t seed, rt_err *err)
{
    int64_t most = 0;
    int bad = 0;
    for (int i = 0; i < p->n; i++)
        most = rt_max(most, rt_tensor_elements(p->item[i].slot));
    float *host = rt_alloc(most, sizeof *host, "initial weights");
    for (int i = 0; !bad && i < p->n; i++) {
        rt_param_draw(p, i, cfg, seed, host);
        bad = rt_params_write(p, i, d, host, err);
    }
    free(host);
    return bad;
}
