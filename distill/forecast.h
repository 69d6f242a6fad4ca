/* forecast.h: what the stages of a recipe would take: memory and disk by name (each command's
   plan), the seconds that a finished stage took, and those that another is expected to take. Prints
   it. Refuses: planning. */
#ifndef RT_FORECAST_H
#define RT_FORECAST_H

#include "core/base/option.h"
#include "core/network/needs.h"

RT_BEGIN

typedef struct rt_forecast {
    const char *name;
    const rt_command *command;
    bool done;
    double seconds; /* it took; < 0 = unknown */
    rt_needs needs;
    bool planned;   /* needs are filled */
    char why[1024]; /* else why not, one line */
} rt_forecast;

/* stage (n). Tables on stdout, or one JSON object. */
void rt_forecast_print(const rt_forecast *stage, int n, bool json);

RT_END

#endif
