/* bpe_learn.c: the learning of merges. Counts are exact after every merge (a word's pairs are taken
   off, the word is rewritten, its pairs are put back), so the result depends on the counts alone.
   Follows Sennrich et al. 2016, incremental as huggingface/tokenizers : models/bpe/trainer.rs, with
   its rule for equal counts. */
#include "corpora/tokenizer/bpe_learn.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "corpora/tokenizer/bpe.h"

/* ---- pairs ----------------------------------------------------------------------------------- */

typedef struct pair {
    uint64_t key; /* left id << 32 | right id */
    int64_t count;
    int64_t where; /* list of words that hold or held it, -1 = end */
    bool touched;  /* by the merge under way */
} pair;

typedef struct place {
    int64_t word, next;
} place;

typedef struct pairs {
    rt_bytes_map key; /* of each pair: 8 bytes */
    pair *pair;       /* (key.n) */
    int64_t cap;
    place *place; /* (n_places) */
    int64_t n_places, places_cap;
    struct best {
        int64_t count;
        uint64_t key;
    } * heap; /* (heap_n) largest count first, then smallest key; may be out of date */
    int64_t heap_n, heap_cap;
    int64_t *touched; /* (n_touched) */
    int64_t n_touched, touched_cap;
} pairs;

static pair *pairs_get(pairs *p, int32_t left, int32_t right, rt_err *err)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    int64_t n = p->key.n, i = rt_bytes_map_put(&p->key, (const char *)&key, sizeof key, err);
    if (i < 0)
        return NULL;
    rt_grow(&p->pair, &p->cap, i + 1, sizeof *p->pair, "pairs of tokens");
    if (i == n)
        p->pair[i] = (pair){ .key = key, .where = -1 };
    return &p->pair[i];
}

static void pairs_place(pairs *p, pair *q, int64_t word)
{
    if (q->where >= 0 && p->place[q->where].word == word)
        return;
    rt_grow(&p->place, &p->places_cap, p->n_places + 1, sizeof *p->place, "places of pairs");
    p->place[p->n_places] = (place){ word, q->where };
    q->where = p->n_places++;
}

static bool better(struct best a, struct best b)
{
    return a.count > b.count || (a.count == b.count && a.key < b.key);
}

static void heap_push(pairs *p, struct best x)
{
    rt_grow(&p->heap, &p->heap_cap, p->heap_n + 1, sizeof *p->heap, "pairs of tokens");
    int64_t i = p->heap_n++;
    for (; i > 0 && better(x, p->heap[(i - 1) / 2]); i = (i - 1) / 2)
        p->heap[i] = p->heap[(i - 1) / 2];
    p->heap[i] = x;
}

static struct best heap_pop(pairs *p)
{
    struct best top = p->heap[0], x = p->heap[--p->heap_n];
    int64_t i = 0, child;
    while ((child = 2 * i + 1) < p->heap_n) {
        child += child + 1 < p->heap_n && better(p->heap[child + 1], p->heap[child]);
        if (!better(p->heap[child], x))
            break;
        p->heap[i] = p->heap[child];
        i = child;
    }
    p->heap[i] = x;
    return top;
}

static void pairs_free(pairs *p)
{
    free(p->pair);
    rt_bytes_map_free(&p->key);
    free(p->place);
    free(p->heap);
    free(p->touched);
}

/* ---- learning -------------------------------------------------------------------------------- */

typedef struct corpus {
    int32_t **id;  /* (words) symbols of each */
    int32_t *n;    /* (words) */
    int64_t *seen; /* (words) the last merge that went over it */
} corpus;

/* Subtract (sign -1) or add (+1) a word's pairs; adding also notes the places of pairs with
 * `fresh`. */
static int count_word(pairs *p, const corpus *c, const rt_learner *t, int64_t w, int sign,
                      int32_t fresh, rt_err *err)
{
    for (int32_t i = 0; i + 1 < c->n[w]; i++) {
        int32_t l = c->id[w][i], r = c->id[w][i + 1];
        pair *q = pairs_get(p, l, r, err);
        if (!q)
            return -1;
        q->count += sign * t->words.entry[w].value;
        if (sign < 0 || (fresh >= 0 && l != fresh && r != fresh))
            continue;
        pairs_place(p, q, w);
        if (!q->touched) {
            rt_grow(&p->touched, &p->touched_cap, p->n_touched + 1, sizeof *p->touched, "pairs");
            q->touched = true;
            p->touched[p->n_touched++] = q - p->pair;
        }
    }
    return 0;
}

static void push_touched(pairs *p)
{
    for (int64_t i = 0; i < p->n_touched; i++) {
        pair *q = &p->pair[p->touched[i]];
        q->touched = false;
        heap_push(p, (struct best){ q->count, q->key });
    }
    p->n_touched = 0;
}

/* Merge (l, r) -> id in every word that has it. */
static int merge_everywhere(pairs *p, corpus *c, rt_learner *t, uint64_t key, int32_t id,
                            rt_err *err)
{
    int32_t l = (int32_t)(key >> 32), r = (int32_t)(key & 0x7fffffff);
    pair *q = pairs_get(p, l, r, err);
    for (int64_t at = q ? q->where : -1; at >= 0; at = p->place[at].next) {
        int64_t w = p->place[at].word;
        if (c->seen[w] == t->n_merges)
            continue;
        c->seen[w] = t->n_merges;
        if (count_word(p, c, t, w, -1, id, err))
            return -1;
        int32_t kept = 0, *s = c->id[w];
        for (int32_t i = 0; i < c->n[w]; i++) {
            bool hit = i + 1 < c->n[w] && s[i] == l && s[i + 1] == r;
            s[kept++] = hit ? id : s[i];
            i += hit;
        }
        c->n[w] = kept;
        if (count_word(p, c, t, w, 1, id, err))
            return -1;
    }
    push_touched(p);
    return q ? 0 : -1;
}

static int learn(rt_learner *t, pairs *p, corpus *c, int64_t target, rt_err *err)
{
    rt_text both = { 0 };
    int bad = 0;
    for (int64_t w = 0; w < t->words.n && !bad; w++)
        bad = count_word(p, c, t, w, 1, -1, err);
    push_touched(p);
    while (!bad && p->heap_n && t->tokens.n < target) {
        struct best b = heap_pop(p);
        int32_t l = (int32_t)(b.key >> 32), r = (int32_t)(b.key & 0x7fffffff);
        pair *q = pairs_get(p, l, r, err);
        if (!q) {
            bad = -1;
        } else if (q->count != b.count) {
            if (q->count > 1)
                heap_push(p, (struct best){ q->count, b.key });
        } else if (b.count < 2) {
            break;
        } else {
            const rt_bytes *e = t->tokens.entry;
            rt_text_clear(&both);
            bad = rt_text_add(&both, t->tokens.pool.data + e[l].offset, e[l].bytes, err) ||
                  rt_text_add(&both, t->tokens.pool.data + e[r].offset, e[r].bytes, err);
            int64_t id = bad ? -1 : rt_bytes_map_put(&t->tokens, both.data, both.bytes, err);
            t->left[t->n_merges] = l;
            t->right[t->n_merges++] = r;
            bad = id < 0 || merge_everywhere(p, c, t, b.key, (int32_t)id, err);
        }
        if (!bad && rt_interrupted())
            bad = rt_fail(err, "interrupted; nothing was written");
    }
    rt_text_free(&both);
    return bad ? -1 : 0;
}

/* Ids 0..255 in the order of their byte-level characters. */
static int first_tokens(rt_learner *t, int32_t rank[256], rt_err *err)
{
    int n = 0;
    for (uint32_t cp = 0; cp < 324; cp++) {
        int byte = rt_char_byte(cp);
        char raw = (char)byte;
        if (byte < 0)
            continue;
        if (rt_bytes_map_put(&t->tokens, &raw, 1, err) < 0)
            return -1;
        rank[byte] = n++;
    }
    return 0;
}

int rt_bpe_learn(rt_learner *t, int64_t tokens, rt_err *err)
{
    int32_t rank[256];
    int64_t n = t->words.n, symbols = t->words.pool.bytes;
    pairs p = { 0 };
    corpus c = { rt_alloc(n, sizeof *c.id, "words"), rt_alloc(n, sizeof *c.n, "words"),
                 rt_alloc(n, sizeof *c.seen, "words") };
    int32_t *all = rt_alloc(symbols, sizeof *all, "words");
    t->left = rt_alloc(symbols, sizeof *t->left, "merges"); /* a merge takes away a symbol */
    t->right = rt_alloc(symbols, sizeof *t->right, "merges");
    int bad = first_tokens(t, rank, err);
    for (int64_t w = 0, used = 0; w < n && !bad; w++) {
        const rt_bytes *e = &t->words.entry[w];
        c.id[w] = all + used;
        c.n[w] = (int32_t)e->bytes;
        c.seen[w] = 0;
        for (int64_t i = 0; i < e->bytes; i++)
            all[used++] = rank[(uint8_t)t->words.pool.data[e->offset + i]];
    }
    if (!bad)
        bad = learn(t, &p, &c, tokens, err);
    pairs_free(&p);
    free(c.id);
    free(c.n);
    free(c.seen);
    free(all);
    return bad ? -1 : 0;
}

void rt_learner_free(rt_learner *t)
{
    rt_bytes_map_free(&t->words);
    rt_bytes_map_free(&t->tokens);
    free(t->left);
    free(t->right);
}
