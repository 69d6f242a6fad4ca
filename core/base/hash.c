#include "core/base/hash.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "core/base/memory.h"

static const char ZEROS[] = "00000000000000000000000000000000";

static rt_hash to_hex(XXH128_hash_t h)
{
    rt_hash out;
    snprintf(out.hex, sizeof out.hex, "%016llx%016llx", (unsigned long long)h.high64,
             (unsigned long long)h.low64);
    return out;
}

rt_hash rt_hash_bytes(const void *data, int64_t bytes)
{
    return to_hex(XXH3_128bits(bytes ? data : "", (size_t)bytes));
}

uint64_t rt_hash64(const void *data, int64_t bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes ? data : "", (size_t)bytes, seed);
}

bool rt_hash_same(const char *digits, const rt_hash *hash)
{
    return memcmp(digits, hash->hex, RT_HASH_DIGITS) == 0;
}

bool rt_hash_fits(const char *digits, const void *data, int64_t bytes)
{
    rt_hash hash = rt_hash_bytes(data, bytes);
    return rt_hash_same(digits, &hash);
}

static void make_state(rt_hasher *h)
{
    if (!h->state && !(h->state = XXH3_createState()))
        rt_out_of_memory(-1, "the state of a hash");
}

void rt_hasher_begin(rt_hasher *h)
{
    make_state(h);
    XXH3_128bits_reset(h->state);
}

void rt_hasher_add(rt_hasher *h, const void *data, int64_t bytes)
{
    if (bytes > 0)
        XXH3_128bits_update(h->state, data, (size_t)bytes);
}

rt_hash rt_hasher_end(rt_hasher *h) { return to_hex(XXH3_128bits_digest(h->state)); }

void rt_hasher_begin64(rt_hasher *h, uint64_t seed)
{
    make_state(h);
    XXH3_64bits_reset_withSeed(h->state, seed);
}

void rt_hasher_add64(rt_hasher *h, const void *data, int64_t bytes)
{
    if (bytes > 0)
        XXH3_64bits_update(h->state, data, (size_t)bytes);
}

uint64_t rt_hasher_end64(rt_hasher *h) { return XXH3_64bits_digest(h->state); }

void rt_hasher_free(rt_hasher *h)
{
    XXH3_freeState(h->state);
    h->state = NULL;
}

rt_hash rt_hash_around(const void *data, int64_t bytes, int64_t own)
{
    rt_hasher h = { 0 };
    const char *p = data;
    rt_hasher_begin(&h);
    rt_hasher_add(&h, p, own);
    rt_hasher_add(&h, ZEROS, RT_HASH_DIGITS);
    rt_hasher_add(&h, p + own + RT_HASH_DIGITS, bytes - own - RT_HASH_DIGITS);
    rt_hash out = rt_hasher_end(&h);
    rt_hasher_free(&h);
    return out;
}
