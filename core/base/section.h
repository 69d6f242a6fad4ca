/* section.h: one section of a recipe for one command that runs alone: found by name, checked to be
   for that command, and printed (--print-recipe). Refuses: {out} and {recipe}, which only a whole
   run knows (distill/recipe.h). */
#ifndef RT_SECTION_H
#define RT_SECTION_H

#include "core/base/option.h"

RT_BEGIN

typedef struct rt_section {
    cJSON *recipe, *values; /* the file, and the section in it, its "command" taken out */
} rt_section;

int rt_section_open(rt_section *s, const char *file, const char *name, const rt_command *cmd,
                    rt_err *err);
void rt_section_close(rt_section *s); /* accepts a zeroed one */

/* A value from the recipe that still holds {out} or {recipe} is an error that names the flag. */
int rt_section_places(const rt_command *cmd, const void *values, const rt_origin *origin,
                      rt_err *err);
/* The effective values as a recipe, to stdout; a comment key says where those not default are from.
 */
void rt_section_print(const rt_command *cmd, const char *name, const void *values,
                      const rt_origin *origin);

RT_END

#endif
