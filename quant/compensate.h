/* compensate.h: rows of a matrix into blocks, each column's rounding error carried into the columns
   after it so that the outputs over calibration text suffer least (curvature.h). The scales of a
   block are searched on what is left for it to hold, weighted by what errors there cost; once its
   codes are fixed its f16 scales are solved again by least squares in the same terms, and codes and
   scales take turns until nothing improves. The bytes of a row depend on that row, the curvature and
   the type alone.
   Refuses: types whose codes are no steps of one size (quant/grid.h); choosing the type. */
#ifndef RT_COMPENSATE_H
#define RT_COMPENSATE_H

#include "core/base/team.h"
#include "quant/curvature.h"

RT_BEGIN

typedef struct rt_compensation {
    rt_dev *d; /* its memory is the host's */
    rt_team *team;
    int threads;
} rt_compensation;

bool rt_compensate_supported(rt_dtype t);
/* w(rows, n) of the curvature, which is factored -> out, rows * rt_dtype_bytes(t, n). */
int rt_compensate(const rt_compensation *by, uint8_t *out, const float *w, rt_dtype t, int64_t rows,
                  const rt_curvature *c, rt_err *err);
/* Between dry begin and end. */
void rt_compensate_dry(rt_dev *d, int64_t n);
int64_t rt_compensate_bytes(int64_t n); /* of host memory at most */

RT_END

#endif
