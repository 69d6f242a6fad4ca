#include "distill/schedule.h"

#include <math.h>
#include <string.h>

double rt_schedule_rate(const char *kind, double peak, double floor, double cooldown,
                        int64_t warmup, int64_t steps, int64_t step)
{
    if (step <= warmup)
        return peak * (double)step / (double)warmup;
    if (strcmp(kind, "constant") == 0)
        return peak;
    if (strcmp(kind, "wsd") == 0) {
        int64_t from = rt_max(warmup, steps - (int64_t)(cooldown * (double)steps + 0.5));
        double fallen = step <= from ? 0 : (double)(step - from) / (double)rt_max(steps - from, 1);
        return peak * (floor + (1 - floor) * (1 - fallen));
    }
    double done = (double)(step - warmup) / (double)rt_max(steps - warmup, 1);
    double share = strcmp(kind, "linear") == 0 ? 1 - done : 0.5 * (1 + cos(M_PI * done));
    return peak * (floor + (1 - floor) * share);
}
