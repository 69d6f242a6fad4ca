/* kind.h: what a person would call what stands at a path, for the line that says it is the wrong
   one. Looks at names in a directory and at the first bytes of a file. Refuses: opening, and
   vouching for, any of it. */
#ifndef RT_KIND_H
#define RT_KIND_H

#include "core/base/err.h"

RT_BEGIN

/* "a GGUF", "a trace archive" ...; NULL: none of the kinds that retort reads or writes. */
const char *rt_kind_name(const char *path);
/* Always -1: that path is missing, or is something else than `wanted` ("a trace archive"); then, or
   NULL, a hint of what to do. */
int rt_kind_fail(const char *path, const char *wanted, const char *hint, rt_err *err);

RT_END

#endif
