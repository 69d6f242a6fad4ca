/* hash.h: XXH3 of bytes: identity of content against accidents, not against an attacker. Owns the
   32 hex digits that outputs carry as checksums, and how a header carries its own. Refuses: files
   and paths (core/base/file.h), what is to be hashed. */
#ifndef RT_HASH_H
#define RT_HASH_H

#include "core/base/err.h"

RT_BEGIN

enum { RT_HASH_DIGITS = 32 };

/* XXH3-128 as 32 hex digits + NUL. */
typedef struct rt_hash {
    char hex[RT_HASH_DIGITS + 1];
} rt_hash;

rt_hash rt_hash_bytes(const void *data, int64_t bytes);
/* The same of bytes that hold this very hash: its 32 digits at `own` count as zeros ('0'). */
rt_hash rt_hash_around(const void *data, int64_t bytes, int64_t own);
/* digits: 32 of them, not terminated, of any origin. */
bool rt_hash_fits(const char *digits, const void *data, int64_t bytes);
bool rt_hash_same(const char *digits, const rt_hash *hash);
uint64_t rt_hash64(const void *data, int64_t bytes, uint64_t seed);

/* Of bytes that come in pieces; begin again for the next. */
typedef struct rt_hasher {
    void *state; /* private */
} rt_hasher;

void rt_hasher_begin(rt_hasher *h); /* accepts a zeroed and a used h */
void rt_hasher_add(rt_hasher *h, const void *data, int64_t bytes);
rt_hash rt_hasher_end(rt_hasher *h);
/* The same of rt_hash64. */
void rt_hasher_begin64(rt_hasher *h, uint64_t seed);
void rt_hasher_add64(rt_hasher *h, const void *data, int64_t bytes);
uint64_t rt_hasher_end64(rt_hasher *h);
void rt_hasher_free(rt_hasher *h); /* accepts a zeroed h */

RT_END

#endif
