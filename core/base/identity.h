/* identity.h: whether a file or a tree of files still holds what it held: a hash of content, never
   of names outside the tree, times or owners. Reading 700 GB twice is a loss, so the hash of a
   large file is kept in $XDG_CACHE_HOME/retort (else ~/.cache/retort) under the file's device,
   inode, size and times; a file changed within the last two seconds is not kept, and a cache that
   cannot be read or written is no error. Reading shows progress and stops at the first Ctrl-C.
   Not counted is what stands beside a result: lock, metrics.jsonl, checkpoints, rounds of a student's
   own answers (round-*), temporary files; of a model its README.md and names that begin with a dot.
   Refuses: pipes and devices (they would be empty the second time), attackers (XXH3-128). */
#ifndef RT_IDENTITY_H
#define RT_IDENTITY_H

#include "core/base/file.h"
#include "core/base/json.h"

RT_BEGIN

typedef enum rt_identity_use {
    RT_IDENTITY_READ,   /* every byte, whatever the cache says; it learns what was read */
    RT_IDENTITY_CACHED, /* only what the cache does not know; it learns the rest */
    RT_IDENTITY_STAT    /* reads no large file: known is false where the cache lacks one */
} rt_identity_use;

typedef struct rt_identity {
    rt_hash hash;
    int64_t bytes;
    bool known;
} rt_identity;

/* path: a file (of a GGUF in parts any one: all are read) or a directory. One file has the hash
   that rt_hash_file gives. files, or NULL: an object to fill with {"bytes", "hash" unless it is
   unknown} of every file by its path below `path`; "." is that file itself. */
int rt_identity_of(rt_identity *id, const char *path, rt_identity_use use, cJSON *files,
                   rt_err *err);

/* For other values that depend on the bytes below a path: what the file system says of them, and a
   value kept for as long as it says the same. */
typedef struct rt_identity_mark {
    uint64_t place;
    rt_hash stat;
    bool settled; /* large, and not changed just now: worth and safe to keep */
} rt_identity_mark;
int rt_identity_mark_of(rt_identity_mark *mark, const char *path, rt_err *err);
bool rt_identity_recall(rt_hash *value, const rt_identity_mark *mark, const char *kind);
void rt_identity_keep(const rt_hash *value, const rt_identity_mark *mark, const char *kind);

RT_END

#endif
