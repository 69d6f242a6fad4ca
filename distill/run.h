/* run.h: `retort run`: a recipe's stages in order. A stage is skipped when its identity (stage.h)
   is what it was and its output holds every byte it held, resumed when it was cut off, taken back
   when the same work was replaced earlier, and done anew else. First everything that can be checked
   is checked: the recipe, every input, every command's own plan; only then anything is written.
   What a stage replaces moves to old/ in the run folder. The folder is locked for the whole run.
   Refuses: removing or replacing what it did not make. */
#ifndef RT_RUN_H
#define RT_RUN_H

#include "core/base/option.h"

RT_BEGIN

typedef struct rt_run_options {
    char *recipe, *out;
    rt_strlist set;
    bool fresh, plan, dry_run, status, json;
} rt_run_options;

enum { RT_RUN_OPTIONS = 8 };
extern const rt_option rt_run_table[RT_RUN_OPTIONS];

/* commands (n): what a stage may name. */
int rt_run(const rt_run_options *o, const rt_command *const *commands, int n, rt_err *err);

RT_END

#endif
