/* integrity.h: is what retort wrote still what it wrote? Reads every byte of an archive, a model
   directory, a checkpoint, a GGUF, or a folder of such, from the disk and not from what is
   remembered of it, and compares it with the checksums that are kept in it (safetensors.h, gguf.h,
   listing.h, trace.h). Files of other programs have none: their structure is checked, and the
   report says so. Refuses: repairing, and saying anything of files that belong to no output. */
#ifndef RT_INTEGRITY_H
#define RT_INTEGRITY_H

#include "core/base/err.h"

RT_BEGIN

typedef enum rt_integrity_kind {
    RT_DAMAGED, /* not as it was written; what and where */
    RT_UNKNOWN, /* no checksums in it: written by another program, or by an older retort; or aside
                 */
    RT_WHOLE    /* nothing of the other two; text is the path alone */
} rt_integrity_kind;

/* One call a finding, and one for each archive, file of weights or folder's small files that is
   whole; text begins with the path. */
typedef void rt_integrity_report(void *ctx, rt_integrity_kind kind, const char *text);

typedef struct rt_integrity {
    rt_integrity_report *report; /* or NULL */
    void *ctx;
    bool progress;  /* a line on stderr while long work goes on */
    bool from_disk; /* not what is remembered of it in memory */
    int64_t damaged, unknown;
    int64_t files, tensors, bytes; /* read; an archive is one file */
} rt_integrity;

/* Adds what is found at path to c. -1: there is nothing of the kind, or it was interrupted. */
int rt_integrity_check(rt_integrity *c, const char *path, rt_err *err);

/* For a caller that wants one answer: 0 when nothing at path is damaged, else -1 and the first
   finding. */
int rt_integrity_whole(const char *path, rt_err *err);

RT_END

#endif
