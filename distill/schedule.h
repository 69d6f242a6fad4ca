/* schedule.h: the learning rate of a step, a pure function of the step. */
#ifndef RT_SCHEDULE_H
#define RT_SCHEDULE_H

#include "core/base/base.h"

RT_BEGIN

#define RT_SCHEDULES "cosine|linear|wsd|constant"

/* step 1 .. steps. Linear warm-up over `warmup` steps, then from peak to peak * floor; wsd stays at
   peak until the last share `cooldown` of the steps, over which it falls linearly. */
double rt_schedule_rate(const char *kind, double peak, double floor, double cooldown,
                        int64_t warmup, int64_t steps, int64_t step);

RT_END

#endif
