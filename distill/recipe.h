/* recipe.h: a recipe read whole: stages in order, each a command of this program with its own
   options table, and everything that can be said about them without looking at their inputs.

     {"run": {"out": "out/NAME"},
      "traces":  {"command": "sample", "teacher": "{recipe}/teacher", "out": "{out}/a.traces", ...},
      "student": {"command": "train", "data": ["{out}/a.traces"], "out": "{out}/student", ...},
      "report":  {"models": {"NAME": "STAGE of eval", ...}, "kl": {"NAME": "STAGE of eval"},
                  "archive": "STAGE of sample"}}

   {out} is the run folder, {recipe} the recipe's own folder.
   Refuses: a recipe that runs itself, two stages that write one place, a stage that writes what it
   reads, an output that is a root, a home, the run folder or one of its own files. */
#ifndef RT_RECIPE_H
#define RT_RECIPE_H

#include "core/base/option.h"

RT_BEGIN

enum { RT_STAGE_OUTPUTS_MAX = 2 };

typedef struct rt_stage {
    const char *name; /* borrowed from the recipe */
    const rt_command *command;
    void *values;
    const char *out; /* its --out, inside values, or NULL */
    /* Everything it writes: the option, the path (inside values), and where that is (owned). */
    struct {
        const rt_option *option;
        const char *path;
        char *real, *place;
    } output[RT_STAGE_OUTPUTS_MAX];
    int n_outputs;
} rt_stage;

typedef struct rt_recipe {
    const char *file; /* borrowed */
    cJSON *json;
    char *folder, *home; /* run folder as it was given, the recipe's folder */
    char *root;          /* run folder: absolute, links resolved */
    rt_stage *stage;
    int n;
} rt_recipe;

/* out: instead of the recipe's run.out, or NULL. commands (n): what a stage may name. */
int rt_recipe_open(rt_recipe *r, const char *file, const char *out, const rt_strlist *set,
                   const rt_command *const *commands, int n, rt_err *err);
void rt_recipe_close(rt_recipe *r); /* accepts a zeroed recipe */

/* Where a path is, however it is spelled: below the run folder relative to it, else absolute. Links
   are resolved but for the last name. free() it. */
char *rt_recipe_place(const rt_recipe *r, const char *path);
/* The path of a place. free() it. */
char *rt_recipe_path(const rt_recipe *r, const char *place);
/* The last stage before `end` that writes path, something that holds it, or something below it; -1
   = none. exact, or NULL: whether it is the output itself. */
int rt_recipe_writer(const rt_recipe *r, int end, const char *path, bool *exact);
const rt_stage *rt_recipe_stage(const rt_recipe *r, const char *name);

RT_END

#endif
