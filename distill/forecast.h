/* forecast.h: what the stages of a recipe would take before any of them runs: memory and disk by
   name (each command's plan; a stage finds what earlier ones will leave), and seconds: those that a
   finished stage recorded, or of a short probe. A probe runs each stage that is not done twice,
   with n and with 3 n prompts or steps, on a folder beside the run's that is removed, and draws the
   line through both. Refuses: touching the run folder, deciding whether a stage is done. */
#ifndef RT_FORECAST_H
#define RT_FORECAST_H

#include "core/needs.h"
#include "core/option.h"

RT_BEGIN

typedef struct rt_forecast {
    const char *name;
    const rt_command *command;
    void *values;
    bool done;
    double seconds; /* recorded when done, else of the probe; < 0 = unknown */
    rt_needs needs;
    bool planned;   /* needs are filled */
    bool timed;     /* probes got through */
    char why[1024]; /* else why not, one line */
} rt_forecast;

/* stage (n): name .. seconds filled; the rest zeroed and freed here. folder: the run's. probe 0 =
   none. The tables on stdout, or one JSON object. */
int rt_forecast_run(rt_forecast *stage, int n, const char *folder, int64_t probe, bool json,
                    rt_err *err);

RT_END

#endif
