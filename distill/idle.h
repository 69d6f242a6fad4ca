/* idle.h: options of `retort train` that say how something is done which the rest of the command line
   does not do: one table of option -> what it needs. A value that differs from the option's default
   and would change nothing is a mistake, and told so. Refuses: values, and needs that an option
   checks where it is used, for it cannot do without (--prompts, --config). */
#ifndef RT_IDLE_H
#define RT_IDLE_H

#include "distill/training.h"

RT_BEGIN

/* A usage error for the first option of the table that lacks what it needs. loss: as it was read. */
int rt_idle_check(const rt_train_options *o, const rt_loss_plan *loss, rt_err *err);

RT_END

#endif
