/* muon.h: Muon (Jordan et al. 2024; its step scaled as in arXiv 2502.16982): the momentum of a matrix
   made orthogonal by Newton-Schulz steps before it is applied. Owns the scratch of one matrix at a
   time. Refuses: which weights are moved so. */
#ifndef RT_MUON_H
#define RT_MUON_H

#include "core/device/arenas.h"
#include "core/device/ops.h"

RT_BEGIN

typedef struct rt_muon {
    int64_t most, least; /* elements of the largest matrix, and the longest shorter side */
    rt_tensor u, y;      /* (most) */
    rt_tensor gram, step; /* (least * least) */
    rt_tensor partial;    /* (B) of u's squares */
    rt_arena arena;
} rt_muon;

/* Room for matrices of (out, in); then plans memory, which the list places. */
void rt_muon_hold(rt_muon *o, int64_t out, int64_t in);
void rt_muon_plan(rt_muon *o, rt_arenas *l);

typedef struct rt_muon_step {
    double lr, momentum, decay, grad_scale;
    rt_rounding rounding;
} rt_muon_step;
/* w(O,I) -= lr decay w + lr 0.2 sqrt(max(O,I)) ortho(u), u the momentum m(O*I) looking ahead, g(O*I):
   a step whose entries are as large, on average, as AdamW's at the same rate. */
void rt_muon_update(rt_dev *d, rt_muon *o, rt_tensor *w, rt_tensor *m, const rt_tensor *g,
                    const rt_muon_step *s);

RT_END

#endif
