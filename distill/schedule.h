/* schedule.h: the learning rate of a step, a pure function of the step. */
#ifndef RT_SCHEDULE_H
#define RT_SCHEDULE_H

#include "core/base/base.h"

RT_BEGIN

#define RT_SCHEDULES "cosine|linear|constant"

/* step 1 .. steps. Linear warm-up over `warmup` steps, then from peak to peak * floor. */
double rt_schedule_rate(const char *kind, double peak, double floor, int64_t warmup, int64_t steps,
                        int64_t step);

RT_END

#endif
