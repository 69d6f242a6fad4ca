/* path.h: where paths lead: one spelling for one place, and whether places overlap. Refuses:
   reading or making anything there. */
#ifndef RT_PATH_H
#define RT_PATH_H

#include "core/base/err.h"

RT_BEGIN

/* The absolute path, links followed; of what does not exist the parents are resolved and the rest
   stays as it is. free() it. */
char *rt_path_resolve(const char *path);
/* The same, but a link at the end is not followed: the name that a rename would replace. */
char *rt_path_resolve_parent(const char *path);
/* Where a link leads, of all else the path as it is spelled: a folder renamed over a link would replace
   the link and leave the folder behind it. free() it. */
char *rt_path_target(const char *path);
char *rt_path_parent(const char *path); /* by the letter; "." of a bare name */
/* inner is outer, or lies below it. Both resolved. */
bool rt_path_holds(const char *outer, const char *inner);
bool rt_path_overlap(const char *a, const char *b);

RT_END

#endif
