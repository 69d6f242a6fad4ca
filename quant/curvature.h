/* curvature.h: how much an error in a matrix's weights costs, seen from its inputs: H = sum of x xᵀ
   over calibration rows x, so that the squared error of the outputs is tr(E H Eᵀ) for errors E of the
   rows. Factored once as H = U D Uᵀ, U unit upper triangular: carried through U, errors of columns
   cost their squares alone, weighted by D (LDLQ, arXiv 2307.13304; GPTQ, arXiv 2210.17323, is the
   same rounding).
   Refuses: where rows come from (quant/calibrate.h), rounding (quant/compensate.h). */
#ifndef RT_CURVATURE_H
#define RT_CURVATURE_H

#include "core/device/ops.h"

RT_BEGIN

typedef struct rt_curvature {
    int64_t n;     /* columns */
    int64_t rows;  /* that were summed */
    float *h;      /* (n,n) host; symmetric */
    float *ut;     /* (n,n) transpose of U: ut[c n + r] = U_rc; since factored */
    float *weight; /* (n) D */
} rt_curvature;

void rt_curvature_init(rt_curvature *c, int64_t n);
void rt_curvature_free(rt_curvature *c); /* accepts a zeroed one */
/* h += xᵀ x of x(N,n); d is a device whose memory is the host's. */
void rt_curvature_add(rt_curvature *c, rt_dev *d, const rt_tensor *x);
/* Few texts say little of how columns go together: the fewer rows a column, the more the diagonal counts.
   With s = n / rows it becomes (1.01 + 4 s) (diagonal + s mean of it), s and 4 s at most 1, and more where
   that is not enough for a factor. Found on two models: with 28 rows a column and 11 (SmolLM2-135M, 16k
   tokens) a fixed hundredth gave nearly twice the KL; with 256 more than that costs a tenth.
   h is damped on return. */
int rt_curvature_factor(rt_curvature *c, rt_dev *d, rt_err *err);
/* Between dry begin and end: the products of both, for n columns and rows of a pass. */
void rt_curvature_dry(rt_dev *d, int64_t n, int64_t rows);

RT_END

#endif
