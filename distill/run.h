/* run.h: a recipe's stages, in order, each a command of this program with its own options table.
   A stage is skipped when its settings and the content of its inputs are what they were when it
   finished, resumed when it was cut off, and done anew (its old output removed) when they changed.

     {"run": {"out": "out/NAME"},
      "traces":  {"command": "sample", "teacher": "{recipe}/teacher", "out": "{out}/a.traces", ...},
      "student": {"command": "train", "data": ["{out}/a.traces"], "out": "{out}/student", ...},
      "report":  {"models": {"student": "STAGE of eval", ...}, "kl": {"NAME": "STAGE of eval"},
                  "archive": "STAGE of sample"}}

   {out} is the run folder, {recipe} the recipe's own folder. Stamps live in {out}/stages.
   Refuses: running two stages at once, removing anything outside the run folder. */
#ifndef RT_RUN_H
#define RT_RUN_H

#include "core/option.h"

RT_BEGIN

typedef struct rt_run_options {
    char *recipe, *out;
    rt_strlist set;
    int64_t probe;
    bool fresh, plan, json;
} rt_run_options;

enum { RT_RUN_OPTIONS = 7 };
extern const rt_option rt_run_table[RT_RUN_OPTIONS];

/* commands (n): what a stage may name. */
int rt_run(const rt_run_options *o, const rt_command *const *commands, int n, rt_err *err);

/* A command whose stdout goes to `to`: stdout is the report's. */
int rt_run_aside(const rt_command *command, void *values, int to, rt_err *err);
/* A file or a tree, never through a link. */
int rt_run_remove(const char *path, rt_err *err);

RT_END

#endif
