/* team.h: threads that work together, of a CPU device or of a command. A job is units taken from a
   counter, whoever comes first: a thread that the system has put aside keeps nobody waiting but for
   the unit it holds, and finds the rest done when it comes back. Helpers look out for the next job
   for a few microseconds and then sleep, so that they take nothing from the programs beside.
   Refuses: jobs within jobs, and two callers of one team at once. */
#ifndef RT_TEAM_H
#define RT_TEAM_H

#include "core/base/err.h"

typedef struct rt_team rt_team;

/* One unit of a job; member: 0 for the caller, 1 .. for helpers. What a unit makes must not depend
   on who does it, nor on when. */
typedef void rt_unit_fn(void *ctx, int64_t unit, int member);

int rt_team_open(rt_team **team, int members, rt_err *err);
void rt_team_close(rt_team *team); /* accepts NULL */
/* Units 0 .. units - 1 by at most `members` threads, the caller among them; returns when all are
   done, and sees what they wrote. */
void rt_team_run(rt_team *team, rt_unit_fn *fn, void *ctx, int64_t units, int members);

#endif
