/* staging.h: a directory that appears whole: filled as OUT.tmp.PID beside its place, then renamed. Killed
   at any moment it leaves nothing under its name; what a killed run left goes when the next one begins.
   What stands at the name and may be replaced goes to old/ beside it.
   Refuses: directories with files of others in them. */
#ifndef RT_STAGING_H
#define RT_STAGING_H

#include "core/base/err.h"

RT_BEGIN

typedef struct rt_staging {
    char *out, *dir; /* without a slash at the end; where to write */
    bool replace;
} rt_staging;

/* 0: dir is made and empty; 1: `command` has finished this very work (identity) there; -1. */
int rt_staging_open(rt_staging *s, const char *out, const char *command, const char *identity,
                    bool overwrite, rt_err *err);
int rt_staging_commit(rt_staging *s, rt_err *err);
void rt_staging_close(rt_staging *s); /* removes what was not committed; accepts a zeroed s */

RT_END

#endif
