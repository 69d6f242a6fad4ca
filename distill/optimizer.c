#include "distill/optimizer.h"

#include <math.h>
#include <string.h>

enum {
    BLOCK = 4096,    /* elements a partial sum of the norm covers (ops.h) */
    PIECE = 1 << 22, /* elements that pass through the device together; whole blocks */
    CODES = 256      /* elements of a block of codes (kernels/moment.h) */
};

/* Without a gradient it has none. */
static int64_t blocks_of(const rt_param *p)
{
    return p->flags & RT_PARAM_FIXED ? 0 : rt_ceil_div(rt_tensor_elements(p->slot), BLOCK);
}

/* ---- forms of the state ---------------------------------------------------------------------- */

static bool hidden(const rt_param *p)
{
    return p->layer >= 0 && p->slot->rank >= 2 && (p->flags & RT_PARAM_PRODUCT);
}

/* Small ones, and what is no matrix, are not worth the codes. */
static bool codable(const rt_param *p)
{
    int64_t n = rt_tensor_elements(p->slot), one = n / rt_max(p->experts, 1);
    return p->slot->rank >= 2 && n >= BLOCK && one % CODES == 0;
}

static rt_dtype form_plain(const rt_param *p)
{
    return p->flags & RT_PARAM_FIXED ? RT_DTYPE_COUNT : RT_F32;
}
static rt_dtype form_m8(const rt_param *p) { return codable(p) ? RT_M8 : form_plain(p); }
static rt_dtype form_v8(const rt_param *p) { return codable(p) ? RT_V8 : form_plain(p); }
static rt_dtype form_rest(const rt_param *p) { return hidden(p) ? RT_DTYPE_COUNT : form_plain(p); }
static rt_dtype form_rest8(const rt_param *p) { return hidden(p) ? RT_DTYPE_COUNT : form_v8(p); }

/* ---- memory ----------------------------------------------------------------------------------- */

static void plan_there(void *ctx, rt_arena *a)
{
    rt_optimizer *o = ctx;
    o->partial = rt_plan_1(a, "norm", RT_F32, o->blocks);
}

static void plan_here(void *ctx, rt_arena *a)
{
    rt_optimizer *o = ctx;
    o->host = rt_arena_take(a, "norm", o->blocks * (int64_t)sizeof *o->host);
}

static const rt_params *part_of(const rt_optimizer *o, int k)
{
    const rt_weights *const part[RT_OPTIMIZER_STATE] = { o->w, &o->m, &o->v,
                                                         o->spec.mean > 0 ? &o->mean : NULL };
    return part[k] ? rt_weights_learned(part[k]) : NULL;
}

static bool on_host(const rt_optimizer *o)
{
    return part_of(o, 0)->where == RT_ON_HOST || o->spec.where == RT_ON_HOST;
}

/* Bytes of a piece of any weight, of what lies on the host. */
static void plan_staging(void *ctx, rt_arena *a)
{
    rt_optimizer *o = ctx;
    for (int k = 0; k < RT_OPTIMIZER_STATE; k++) {
        const rt_params *list = part_of(o, k);
        int64_t most = 0;
        for (int i = 0; list && list->where == RT_ON_HOST && i < list->n; i++) {
            const rt_tensor *t = list->item[i].slot;
            int64_t n = t->rank ? rt_min(rt_tensor_elements(t), o->piece) : 0;
            most = rt_max(most, n ? rt_dtype_bytes(t->dtype, n) : 0);
        }
        for (int turn = 0; most && turn < RT_COUNT(o->turn); turn++)
            o->turn[turn].at[k] = rt_arena_take(a, "staging", most);
    }
}

void rt_optimizer_plan(rt_optimizer *o, const rt_config *cfg, rt_weights *w,
                       const rt_optimizer_spec *spec)
{
    memset(o, 0, sizeof *o);
    o->spec = *spec;
    o->w = w;
    o->piece = PIECE;
    const rt_params *list = rt_weights_learned(w);
    for (int i = 0; i < list->n; i++) {
        const rt_param *p = &list->item[i];
        const int64_t *dim = p->slot->dim + p->slot->rank - 2;
        o->blocks += blocks_of(p);
        if (spec->muon && hidden(p)) {
            rt_muon_hold(&o->matrix, dim[0], dim[1]);
            o->piece = rt_max(o->piece, dim[0] * dim[1]);
        }
    }
    rt_placing m = { .label = "moment 1",
                     .form = spec->coded ? form_m8 : form_plain,
                     .where = spec->where };
    rt_placing v = { .label = "moment 2",
                     .form = spec->muon ? (spec->coded ? form_rest8 : form_rest)
                                        : (spec->coded ? form_v8 : form_plain),
                     .where = spec->where };
    rt_weights_plan_like(&o->m, &o->arenas, cfg, w, &m);
    rt_weights_plan_like(&o->v, &o->arenas, cfg, w, &v);
    if (spec->mean > 0)
        rt_weights_plan_like(&o->mean, &o->arenas, cfg, w,
                             &(rt_placing){ .label = "mean", .form = form_plain, .where = spec->where });
    if (spec->muon)
        rt_muon_plan(&o->matrix, &o->arenas);
    rt_arenas_add(&o->arenas, &o->there, "optimizer", RT_ON_DEVICE, plan_there, o);
    rt_arenas_add(&o->arenas, &o->here, "host", RT_ON_HOST, plan_here, o);
    if (on_host(o))
        rt_arenas_add(&o->arenas, &o->staging, "optimizer", RT_ON_DEVICE, plan_staging, o);
}

/* The mean begins as the weights. */
static int begin_mean(rt_optimizer *o, rt_dev *d, rt_err *err)
{
    const rt_params *w = part_of(o, 0), *mean = part_of(o, 3);
    for (int i = 0; i < w->n; i++) {
        rt_tensor *to = mean->item[i].slot;
        if (to->rank == 0)
            continue;
        if (mean->where == RT_ON_DEVICE)
            rt_axpby(d, to, w->item[i].slot, 1.0f, 0.0f, NULL);
        else if (rt_params_read(w, i, 0, rt_tensor_elements(to), d, to->data, err))
            return -1;
    }
    return 0;
}

int rt_optimizer_place(rt_optimizer *o, rt_dev *d, rt_err *err)
{
    if (rt_arenas_place(&o->arenas, d, err))
        return -1;
    for (int k = 1; k <= 2 && o->spec.where == RT_ON_DEVICE; k++) /* the host's is zeroed */
        for (int i = 0; i < part_of(o, k)->n; i++)
            if (part_of(o, k)->item[i].slot->rank)
                rt_zero(d, part_of(o, k)->item[i].slot);
    return o->spec.mean > 0 ? begin_mean(o, d, err) : 0;
}

void rt_optimizer_free(rt_optimizer *o, rt_dev *d)
{
    for (int k = 0; k < RT_COUNT(o->turn); k++) {
        rt_mark_free(d, &o->turn[k].ready);
        rt_mark_free(d, &o->turn[k].done);
    }
    rt_arenas_free(&o->arenas, d);
    rt_weights_free(d, &o->m);
    rt_weights_free(d, &o->v);
    rt_weights_free(d, &o->mean);
    memset(o, 0, sizeof *o);
}

rt_checkpoint_state rt_optimizer_state(rt_optimizer *o)
{
    return (rt_checkpoint_state){ .n = o->spec.mean > 0 ? 4 : 3,
                                  .prefix = { "weight.", "moment1.", "moment2.", "mean." },
                                  .part = { o->w, &o->m, &o->v, &o->mean } };
}

/* ---- the norm --------------------------------------------------------------------------------- */

void rt_optimizer_sums(rt_dev *d, rt_optimizer *o, const rt_weights *grads, int layer)
{
    const rt_params *list = rt_weights_learned(grads), *w = part_of(o, 0);
    int64_t at = 0;
    for (int i = 0; i < list->n; i++) {
        int64_t n = blocks_of(&w->item[i]);
        if (n && (layer == RT_LAYERS_ALL || layer == w->item[i].layer)) {
            rt_tensor part = rt_tensor_rows(&o->partial, at, n);
            rt_sumsq(d, &part, list->item[i].slot);
        }
        at += n;
    }
}

void rt_optimizer_fetch(rt_dev *d, rt_optimizer *o)
{
    rt_download(d, o->host, o->partial.data, rt_tensor_bytes(&o->partial));
}

double rt_optimizer_norm(const rt_optimizer *o)
{
    double sum = 0;
    for (int64_t b = 0; b < o->blocks; b++)
        sum += (double)o->host[b];
    return sqrt(sum);
}

/* ---- the step --------------------------------------------------------------------------------- */

struct step {
    int64_t number;
    rt_adamw adamw;
    rt_muon_step muon;
};

/* Elements [at, at + n) as rows of one; of rank 0 none. */
static rt_tensor piece_of(const rt_tensor *t, int64_t at, int64_t n)
{
    if (t->rank == 0)
        return *t;
    uint8_t *data = t->data ? (uint8_t *)t->data + rt_dtype_bytes(t->dtype, at) : NULL;
    return rt_tensor_1(data, t->dtype, n);
}

/* What of a piece lies on the host is copied to the device, and ours is its copy. */
static void bring(rt_dev *d, rt_optimizer *o, struct rt_optimizer_turn *turn,
                  const rt_tensor state[], rt_tensor ours[])
{
    rt_mark_follow(d, &turn->done, RT_BESIDE);
    for (int k = 0; k < RT_OPTIMIZER_STATE; k++) {
        ours[k] = state[k];
        if (state[k].rank == 0 || part_of(o, k)->where != RT_ON_HOST)
            continue;
        ours[k].data = turn->at[k];
        rt_upload_beside(d, ours[k].data, state[k].data, rt_tensor_bytes(&state[k]));
    }
    rt_mark_set(d, &turn->ready, RT_BESIDE);
    rt_mark_follow(d, &turn->ready, RT_COMPUTE);
}

static void take_back(rt_dev *d, rt_optimizer *o, struct rt_optimizer_turn *turn,
                      const rt_tensor state[], const rt_tensor ours[])
{
    for (int k = 0; k < RT_OPTIMIZER_STATE; k++)
        if (state[k].rank && part_of(o, k)->where == RT_ON_HOST)
            rt_download(d, state[k].data, ours[k].data, rt_tensor_bytes(&state[k]));
    rt_mark_set(d, &turn->done, RT_COMPUTE);
}

static void move_matrix(rt_dev *d, rt_optimizer *o, const rt_param *p, rt_tensor ours[],
                        const rt_tensor *g, const struct step *s)
{
    const int64_t *dim = p->slot->dim + p->slot->rank - 2;
    rt_tensor w = rt_tensor_2(ours[0].data, ours[0].dtype, dim[0], dim[1]);
    rt_muon_update(d, &o->matrix, &w, &ours[1], g, &s->muon);
}

static void move_piece(rt_dev *d, rt_optimizer *o, int i, int64_t at, int64_t n, const rt_tensor *g,
                       struct step *s)
{
    const rt_param *p = &part_of(o, 0)->item[i];
    struct rt_optimizer_turn *turn = &o->turn[o->pieces++ % RT_COUNT(o->turn)];
    rt_tensor state[RT_OPTIMIZER_STATE] = { { 0 } }, ours[RT_OPTIMIZER_STATE];
    rt_tensor grad = piece_of(g, at, n);
    bool host = on_host(o);
    for (int k = 0; k < RT_OPTIMIZER_STATE; k++)
        if (part_of(o, k))
            state[k] = piece_of(part_of(o, k)->item[i].slot, at, n);
    memcpy(ours, state, sizeof state);
    if (host)
        bring(d, o, turn, state, ours);
    s->adamw.rounding.first = s->muon.rounding.first = ((uint64_t)i << 40) + (uint64_t)at;
    if (o->spec.muon && hidden(p))
        move_matrix(d, o, p, ours, &grad, s);
    else
        rt_adamw_step(d, &ours[0], &ours[1], &ours[2], &grad, &s->adamw);
    if (ours[3].rank) { /* the first steps' weights are soon forgotten */
        double keep = fmin(o->spec.mean, (double)(1 + s->number) / (double)(10 + s->number));
        rt_axpby(d, &ours[3], &ours[0], (float)(1 - keep), (float)keep, NULL);
    }
    if (host)
        take_back(d, o, turn, state, ours);
}

void rt_optimizer_update(rt_dev *d, rt_optimizer *o, const rt_weights *grads, int layer, double lr,
                         double scale, int64_t step)
{
    const rt_optimizer_spec *c = &o->spec;
    uint64_t seed = c->seed + (uint64_t)step * UINT64_C(0x9E3779B97F4A7C15);
    struct step s = { .number = step,
                      .adamw = { .lr = (float)lr,
                                 .beta1 = (float)c->beta1,
                                 .beta2 = (float)c->beta2,
                                 .eps = (float)c->eps,
                                 .bias1 = (float)(1 - pow(c->beta1, (double)step)),
                                 .bias2 = (float)(1 - pow(c->beta2, (double)step)),
                                 .grad_scale = (float)scale,
                                 .rounding = { .seed = seed } },
                      .muon = { .lr = lr,
                                .momentum = c->momentum,
                                .decay = c->decay,
                                .grad_scale = scale,
                                .rounding = { .seed = seed } } };
    const rt_params *list = part_of(o, 0), *g = rt_weights_learned(grads);
    for (int i = 0; i < list->n; i++) {
        const rt_param *p = &list->item[i];
        if ((p->flags & RT_PARAM_FIXED) || (layer != RT_LAYERS_ALL && layer != p->layer))
            continue;
        int64_t all = rt_tensor_elements(p->slot);
        int64_t n = c->muon && hidden(p) ? all / rt_max(p->experts, 1) : on_host(o) ? PIECE : all;
        s.adamw.decay = p->flags & RT_PARAM_DECAY ? (float)c->decay : 0.0f;
        for (int64_t at = 0; at < all; at += n)
            move_piece(d, o, i, at, rt_min(n, all - at), g->item[i].slot, &s);
    }
}

void rt_optimizer_swap_mean(rt_optimizer *o)
{
    if (o->spec.mean <= 0)
        return;
    const rt_params *w = part_of(o, 0), *mean = part_of(o, 3);
    for (int i = 0; i < w->n; i++)
        if (mean->item[i].slot->rank) {
            rt_tensor t = *w->item[i].slot;
            *w->item[i].slot = *mean->item[i].slot;
            *mean->item[i].slot = t;
        }
}
