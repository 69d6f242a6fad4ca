#include "distill/schedule.h"

#include <math.h>
#include <string.h>

double rt_schedule_rate(const char *kind, double peak, double floor, int64_t warmup, int64_t steps,
                        int64_t step)
{
    if (step <= warmup)
        return peak * (double)step / (double)warmup;
    if (strcmp(kind, "constant") == 0)
        return peak;
    double done = (double)(step - warmup) / (double)rt_max(steps - warmup, 1);
    double share = strcmp(kind, "linear") == 0 ? 1 - done : 0.5 * (1 + cos(M_PI * done));
    return peak * (floor + (1 - floor) * share);
}
