/* calibrated.h: the matrices of an export encoded with calibration texts in view, layer by layer: sums
   of inputs (calibrate.h), rounding by the method (compensate.h, or encode.h with the mean squares of
   the inputs as importance), and the layer goes on with the weights as they will be read.
   Refuses: order of tensors in the file, row order (quant/export.c). */
#ifndef RT_CALIBRATED_H
#define RT_CALIBRATED_H

#include "core/base/team.h"
#include "quant/calibrate.h"
#include "quant/export.h"

RT_BEGIN

typedef struct rt_calibrated rt_calibrated;

typedef struct rt_calibrated_matrix {
    const uint8_t *block; /* (O) rows in the registry's order, until the next matrix */
    double lost, all;     /* sum of (x - decoded)^2, of x^2 */
    bool compensated, weighed;
} rt_calibrated_matrix;

int rt_calibrated_open(rt_calibrated **c, const rt_export *job, const rt_config *cfg, rt_store *store,
                       rt_team *team, int threads, rt_err *err);
void rt_calibrated_close(rt_calibrated *c); /* accepts NULL */
const rt_calibration *rt_calibrated_texts(const rt_calibrated *c);
/* job->importance_out, once all matrices are made: sums of squares of what each multiplies. */
int rt_calibrated_write(rt_calibrated *c, rt_err *err);
/* Of layers and of the head: matrix i of the registry, as t. Layers ascend, the head is last. */
bool rt_calibrated_takes(const rt_config *cfg, const rt_param *p);
int rt_calibrated_matrix_of(rt_calibrated *c, const rt_param *p, int i, rt_dtype t,
                            rt_calibrated_matrix *out, rt_err *err);

RT_END

#endif
