/* bpe.c: vocabulary and merge tables by hash, and the merge loop: a scan over short pieces, a heap
   over long ones, with one cache line per remembered piece in front of both. */
#include "corpora/tokenizer/bpe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/memory.h"

#define NO_PAIR UINT64_MAX
#define NO_VALUE UINT64_MAX

enum { SHORT_SYMBOLS = 64, CACHE_SLOTS = 1 << 14, CACHED_BYTES = 22, CACHED_IDS = 10 };

/* A remembered pre-token; n_bytes 0 = empty slot. */
typedef struct rt_bpe_cached {
    uint8_t n_bytes, n_ids;
    char bytes[CACHED_BYTES];
    int32_t id[CACHED_IDS];
} rt_bpe_cached;

/* A merge that waits: its rank and result as in rt_merge_slot, and the symbol on its left. */
typedef struct rt_bpe_due {
    uint64_t value;
    int64_t at;
} rt_bpe_due;

/* ---- byte-level spelling ------------------------------------------------------------------- */

uint32_t rt_byte_char(uint8_t b)
{
    if ((b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b != 0xad))
        return b;
    /* the other 68 in order: 00..20, 7f..a0, ad */
    return 256u + (b <= 0x20 ? b : b <= 0xa0 ? b - 0x7fu + 33 : 67u);
}

int rt_char_byte(uint32_t cp)
{
    if (cp < 256)
        return rt_byte_char((uint8_t)cp) == cp ? (int)cp : -1;
    uint32_t k = cp - 256;
    return k > 67 ? -1 : k <= 0x20 ? (int)k : k <= 66 ? (int)(k - 33 + 0x7f) : 0xad;
}

int rt_bytes_spell(const char *s, int64_t bytes, rt_text *out, rt_err *err)
{
    if (rt_text_reserve(out, 2 * bytes, err))
        return -1;
    for (int64_t i = 0; i < bytes; i++)
        out->bytes += rt_utf8_encode(rt_byte_char((uint8_t)s[i]), out->data + out->bytes);
    out->data[out->bytes] = 0;
    return 0;
}

int64_t rt_bytes_unspell(rt_str s, char *out)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s.bytes;) {
        uint32_t cp;
        int len = rt_utf8_decode(s.data + i, s.bytes - i, &cp);
        int byte = len ? rt_char_byte(cp) : -1;
        if (byte < 0)
            return -1;
        out[n++] = (char)byte;
        i += len;
    }
    return n;
}

/* ---- tables -------------------------------------------------------------------------------- */

int32_t rt_bpe_find(const rt_bpe *b, const char *piece, int64_t bytes)
{
    int64_t i = rt_bytes_map_find(&b->piece, piece, bytes);
    return i < 0 ? -1 : (int32_t)b->piece.entry[i].value;
}

/* The ids that single bytes have: as themselves, or spelled <0xHH>. */
static void find_bytes(rt_bpe *b)
{
    for (int i = 0; i < 256; i++) {
        char spelled[8], raw = (char)i;
        snprintf(spelled, sizeof spelled, "<0x%02X>", i);
        b->byte_id[i] = b->byte_level ? rt_bpe_find(b, &raw, 1) : rt_bpe_find(b, spelled, 6);
    }
}

int rt_bpe_set_vocab(rt_bpe *b, const rt_str *token, int32_t vocab, bool byte_level, rt_err *err)
{
    char raw[RT_TOKEN_BYTES_MAX];
    b->byte_level = byte_level;
    for (int32_t id = 0; id < vocab; id++) {
        rt_str s = token[id];
        if (!s.data || s.bytes == 0)
            continue;
        if (byte_level) /* -1: never the result of byte-level text, only an added token can be it */
            s = (rt_str){ raw, rt_bytes_unspell(s, raw) };
        if (s.bytes < 0)
            continue;
        int64_t n = b->piece.n, at = rt_bytes_map_put(&b->piece, s.data, s.bytes, err);
        if (at < 0)
            return -1;
        if (at < n)
            return rt_fail(err, "tokenizer: token %d repeats the spelling %.*s", id,
                           (int)rt_min(token[id].bytes, 80), token[id].data);
        b->piece.entry[at].value = id;
    }
    find_bytes(b);
    return 0;
}

static uint64_t mix(uint64_t pair)
{
    pair *= 0x9E3779B97F4A7C15u;
    return pair ^ pair >> 32;
}

static uint64_t find_merge(const rt_bpe *b, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    if (!b->merge_slots)
        return NO_VALUE;
    for (uint64_t at = mix(pair);; at++) {
        const rt_merge_slot *s = &b->merge[at & (uint64_t)(b->merge_slots - 1)];
        if (s->pair == pair)
            return s->value;
        if (s->pair == NO_PAIR)
            return NO_VALUE;
    }
}

int32_t rt_bpe_merged(const rt_bpe *b, int32_t left, int32_t right)
{
    uint64_t value = find_merge(b, left, right);
    return value == NO_VALUE ? -1 : (int32_t)(uint32_t)value;
}

int32_t rt_bpe_find_spelled(const rt_bpe *b, rt_str s)
{
    char raw[RT_TOKEN_BYTES_MAX];
    if (!b->byte_level)
        return rt_bpe_find(b, s.data, s.bytes);
    int64_t n = s.bytes > RT_TOKEN_BYTES_MAX ? -1 : rt_bytes_unspell(s, raw);
    return n < 0 ? -1 : rt_bpe_find(b, raw, n);
}

static int64_t power_of_two(int64_t at_least)
{
    int64_t n = 16;
    while (n < at_least)
        n *= 2;
    return n;
}

int rt_bpe_add_merge(rt_bpe *b, rt_str left, rt_str right, int64_t most, rt_err *err)
{
    if (!b->merge) {
        b->merge_slots = power_of_two(2 * most);
        b->merge = rt_alloc(b->merge_slots, sizeof *b->merge, "merges");
        b->left = rt_alloc(most, sizeof *b->left, "merges");
        b->right = rt_alloc(most, sizeof *b->right, "merges");
        memset(b->merge, 0xff, (size_t)b->merge_slots * sizeof *b->merge);
    }
    if (left.bytes + right.bytes > RT_TOKEN_BYTES_MAX || b->n_merges >= most)
        return rt_fail(err, "tokenizer: merge %lld is longer than a token may be",
                       (long long)b->n_merges);
    char both[RT_TOKEN_BYTES_MAX];
    memcpy(both, left.data, (size_t)left.bytes);
    memcpy(both + left.bytes, right.data, (size_t)right.bytes);
    int32_t l = rt_bpe_find_spelled(b, left), r = rt_bpe_find_spelled(b, right);
    int32_t id = rt_bpe_find_spelled(b, (rt_str){ both, left.bytes + right.bytes });
    if (l < 0 || r < 0 || id < 0) {
        rt_str s = l < 0 ? left : r < 0 ? right : (rt_str){ both, left.bytes + right.bytes };
        return rt_fail(err, "tokenizer: merge %lld names %.*s, which is not in the vocabulary",
                       (long long)b->n_merges, (int)rt_min(s.bytes, 80), s.data);
    }
    uint64_t pair = (uint64_t)(uint32_t)l << 32 | (uint32_t)r, at = mix(pair);
    rt_merge_slot *s;
    while ((s = &b->merge[at & (uint64_t)(b->merge_slots - 1)])->pair != NO_PAIR && s->pair != pair)
        at++;
    *s = (rt_merge_slot){ pair,
                          (uint64_t)b->n_merges << 32 | (uint32_t)id }; /* the last one wins */
    b->left[b->n_merges] = l;
    b->right[b->n_merges++] = r;
    return 0;
}

int rt_bpe_add_merge_text(rt_bpe *b, rt_str both, int64_t most, rt_err *err)
{
    const char *space = both.bytes > 1 ? memchr(both.data + 1, ' ', (size_t)both.bytes - 1) : NULL;
    if (!space)
        return rt_fail(err, "merge %lld is not of the form \"a b\"", (long long)b->n_merges);
    int64_t left = space - both.data;
    return rt_bpe_add_merge(b, (rt_str){ both.data, left },
                            (rt_str){ space + 1, both.bytes - left - 1 }, most, err);
}

void rt_bpe_free(rt_bpe *b)
{
    rt_bytes_map_free(&b->piece);
    free(b->merge);
    free(b->left);
    free(b->right);
    *b = (rt_bpe){ 0 };
}

/* ---- one pre-token ------------------------------------------------------------------------- */

void rt_bpe_work_open(rt_bpe_work *w)
{
    *w = (rt_bpe_work){ .cache = rt_alloc(CACHE_SLOTS, sizeof *w->cache, "pre-tokens") };
}

void rt_bpe_work_close(rt_bpe_work *w)
{
    free(w->cache);
    free(w->heap);
    *w = (rt_bpe_work){ 0 };
}

static int work_reserve(rt_bpe_work *w, int64_t symbols, rt_err *err)
{
    if (symbols <= w->cap)
        return 0;
    if (symbols >= INT32_MAX / 4)
        return rt_fail(err, "tokenizer: a single word of %lld bytes", (long long)symbols);
    int64_t cap = rt_max(symbols, 1024);
    free(w->heap);
    w->heap = rt_alloc(cap, 3 * sizeof *w->heap + sizeof *w->value + 3 * sizeof *w->id, "a word");
    w->cap = cap;
    w->value = (uint64_t *)(w->heap + 3 * cap);
    w->id = (int32_t *)(w->value + cap);
    w->next = w->id + cap;
    w->prev = w->next + cap;
    return 0;
}

/* Symbols of the piece into w->id; their number. Unknown characters wait in `unk`, so that
   neighbours may fuse, and are put down before the next known one (not before fallback bytes: so
   does the reference). */
static int64_t first_symbols(const rt_bpe *b, rt_bpe_work *w, const char *piece, int64_t bytes)
{
    int64_t n = 0;
    int unk = 0;
    for (int64_t i = 0, len; i < bytes; i += len) {
        uint32_t cp;
        len = b->byte_level ? 1 : rt_utf8_decode(piece + i, bytes - i, &cp);
        int32_t id = b->byte_level ? b->byte_id[(uint8_t)piece[i]] : rt_bpe_find(b, piece + i, len);
        if (id >= 0) {
            if (unk)
                w->id[n++] = b->unk;
            unk = 0;
            w->id[n++] = id;
            continue;
        }
        bool bytes_known = b->byte_fallback;
        for (int64_t k = 0; k < len; k++)
            bytes_known = bytes_known && b->byte_id[(uint8_t)piece[i + k]] >= 0;
        if (bytes_known) {
            for (int64_t k = 0; k < len; k++)
                w->id[n++] = b->byte_id[(uint8_t)piece[i + k]];
        } else if (b->unk >= 0) {
            if (unk && !b->fuse_unk)
                w->id[n++] = b->unk;
            unk = 1;
        }
    }
    if (unk)
        w->id[n++] = b->unk;
    return n;
}

/* Merge in place over w->id[0 .. n) by scanning for the lowest rank; the new n. */
static int64_t merge_short(const rt_bpe *b, rt_bpe_work *w, int64_t n)
{
    int32_t *id = w->id;
    uint64_t *value = w->value; /* of the pair (i, i + 1) */
    for (int64_t i = 0; i + 1 < n; i++)
        value[i] = find_merge(b, id[i], id[i + 1]);
    while (n > 1) {
        int64_t best = 0;
        for (int64_t i = 1; i + 1 < n; i++)
            best = value[i] < value[best] ? i : best;
        if (value[best] == NO_VALUE)
            break;
        id[best] = (int32_t)(uint32_t)value[best];
        n--;
        for (int64_t i = best + 1; i < n; i++)
            id[i] = id[i + 1];
        for (int64_t i = best + 1; i + 1 < n; i++)
            value[i] = value[i + 1];
        if (best + 1 < n)
            value[best] = find_merge(b, id[best], id[best + 1]);
        if (best > 0)
            value[best - 1] = find_merge(b, id[best - 1], id[best]);
    }
    return n;
}

static bool before(rt_bpe_due a, rt_bpe_due b)
{
    return a.value < b.value || (a.value == b.value && a.at < b.at);
}

static void heap_push(rt_bpe_work *w, uint64_t value, int64_t at)
{
    rt_bpe_due due = { value, at };
    if (value == NO_VALUE)
        return;
    int64_t i = w->heap_n++;
    for (; i > 0 && before(due, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = due;
}

static rt_bpe_due heap_pop(rt_bpe_work *w)
{
    rt_bpe_due first = w->heap[0], last = w->heap[--w->heap_n];
    int64_t i = 0;
    for (int64_t child; (child = 2 * i + 1) < w->heap_n; i = child) {
        child += child + 1 < w->heap_n && before(w->heap[child + 1], w->heap[child]);
        if (!before(w->heap[child], last))
            break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return first;
}

/* The same with a heap of (rank, position) over a linked list. An entry is stale when its pair's
   value has changed since. */
static int64_t merge_long(const rt_bpe *b, rt_bpe_work *w, int64_t n)
{
    w->heap_n = 0;
    for (int64_t i = 0; i < n; i++) {
        w->prev[i] = (int32_t)i - 1;
        w->next[i] = i + 1 < n ? (int32_t)i + 1 : -1;
        w->value[i] = i + 1 < n ? find_merge(b, w->id[i], w->id[i + 1]) : NO_VALUE;
        heap_push(w, w->value[i], i);
    }
    while (w->heap_n) {
        rt_bpe_due due = heap_pop(w);
        int32_t at = (int32_t)due.at;
        if (w->value[at] != due.value)
            continue;
        int32_t gone = w->next[at], after = w->next[gone], ahead = w->prev[at];
        w->id[at] = (int32_t)(uint32_t)due.value;
        w->value[gone] = NO_VALUE;
        w->next[at] = after;
        if (after >= 0)
            w->prev[after] = at;
        w->value[at] = after >= 0 ? find_merge(b, w->id[at], w->id[after]) : NO_VALUE;
        heap_push(w, w->value[at], at);
        if (ahead >= 0) {
            w->value[ahead] = find_merge(b, w->id[ahead], w->id[at]);
            heap_push(w, w->value[ahead], ahead);
        }
    }
    int64_t kept = 0;
    for (int32_t i = 0; i >= 0; i = w->next[i])
        w->id[kept++] = w->id[i];
    return kept;
}

static int append(rt_ids *out, const int32_t *id, int64_t n, rt_err *err)
{
    if (out->cap - out->n < n && rt_ids_reserve(out, n, err))
        return -1;
    for (int64_t i = 0; i < n; i++)
        out->id[out->n + i] = id[i];
    out->n += n;
    return 0;
}

int rt_bpe_encode(const rt_bpe *b, rt_bpe_work *w, const char *piece, int64_t bytes, rt_ids *out,
                  rt_err *err)
{
    if (bytes == 0)
        return 0;
    rt_bpe_cached *c = NULL;
    if (bytes <= CACHED_BYTES) {
        c = &w->cache[rt_hash64(piece, bytes, 0) & (CACHE_SLOTS - 1)];
        if (c->n_bytes == bytes && memcmp(c->bytes, piece, (size_t)bytes) == 0)
            return append(out, c->id, c->n_ids, err);
    }
    int32_t whole = b->ignore_merges ? rt_bpe_find(b, piece, bytes) : -1;
    if (whole >= 0)
        return append(out, &whole, 1, err);
    if (work_reserve(w, bytes, err))
        return -1;
    int64_t n = first_symbols(b, w, piece, bytes);
    n = n <= SHORT_SYMBOLS ? merge_short(b, w, n) : merge_long(b, w, n);
    if (c && n <= CACHED_IDS) {
        c->n_bytes = (uint8_t)bytes;
        c->n_ids = (uint8_t)n;
        memcpy(c->bytes, piece, (size_t)bytes);
        memcpy(c->id, w->id, (size_t)n * sizeof *w->id);
    }
    return append(out, w->id, n, err);
}
