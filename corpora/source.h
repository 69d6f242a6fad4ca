/* source.h: lines and whole files out of what people have: a file, a directory (walked in byte
   order, hidden names left out), stdin ("-", as it is), and .gz .zst .xz .bz2 streams or .tar
   (compressed too) and .zip archives through libarchive, told apart by content, not by name.
   Compressed streams are read to the end and their checksums are checked (zstd's where it has one).
   Refuses: unpacking to disk; names with ".." or control characters inside archives; text that is
   not UTF-8 or has NUL bytes; pipes and devices; lines, entries and expansions beyond the caps
   below. In directories and archives links and devices are passed over. */
#ifndef RT_SOURCE_H
#define RT_SOURCE_H

#include "core/base/err.h"

RT_BEGIN

#define RT_SOURCE_MAX_LINE (64LL << 20)  /* bytes of one line or whole file */
#define RT_SOURCE_MAX_ENTRY (64LL << 30) /* bytes of one expanded entry */
#define RT_SOURCE_MAX_RATIO 1000         /* expanded : packed, checked after the first 16 MiB */
#define RT_SOURCE_MAX_ENTRIES 1000000

typedef struct rt_source rt_source;

typedef enum rt_source_mode {
    RT_SOURCE_LINES, /* one item a line without its newline (CR LF too); empty ones passed over */
    RT_SOURCE_ALL_LINES, /* as they are: empty lines and byte order marks kept */
    RT_SOURCE_FILES,     /* one item a file */
    RT_SOURCE_RECORDS    /* by name: LINES of .jsonl .ndjson .json and stdin, FILES of all others */
} rt_source_mode;

typedef struct rt_item {
    const char *data; /* NUL-terminated, valid until the next call */
    int64_t bytes;
    const char *where; /* "PATH:LINE", "A.zip/inner.jsonl:LINE"; "PATH" for whole files */
    bool whole;        /* a whole file, not a line */
} rt_item;

int rt_source_open(rt_source **out, const char *path, rt_source_mode mode, rt_err *err);
/* 1 = *item is filled, 0 = the end, -1 = failed. */
int rt_source_next(rt_source *s, rt_item *item, rt_err *err);
void rt_source_close(rt_source *s); /* accepts NULL */

RT_END

#endif
