/* tokenizer.c: encoding and decoding with an open tokenizer, and what is known about its tokens.
   Follows huggingface/tokenizers : tokenizer/mod.rs for the order of things. */
#include "corpora/tokenizer/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "corpora/tokenizer/detokenize.h"

/* ---- filling -------------------------------------------------------------------------------- */

rt_tokenizer *rt_tokenizer_alloc(int32_t vocab, int64_t pool_bytes)
{
    rt_tokenizer *t = rt_alloc(1, sizeof *t, "a tokenizer");
    t->token = rt_alloc(vocab, sizeof *t->token, "tokens");
    t->type = rt_alloc(vocab, 1, "token types");
    t->pool = rt_alloc(pool_bytes, 1, "the bytes of tokens");
    pthread_mutex_init(&t->lock, NULL);
    t->vocab = vocab;
    t->pool_bytes = pool_bytes;
    t->bos = t->eos = t->pad = t->unk = -1;
    t->bpe.unk = -1;
    t->model = "gpt2";
    return t;
}

int rt_tokenizer_put(rt_tokenizer *t, int64_t id, const char *spelling, int64_t bytes, rt_err *err)
{
    if (id < 0 || id >= t->vocab || bytes >= t->pool_bytes - t->pool_used + 1)
        rt_bug("token %lld of %d does not fit", (long long)id, t->vocab);
    if (t->token[id].data)
        return rt_fail(err, "two tokens have the id %lld: %.80s and %.80s", (long long)id,
                       t->token[id].data, spelling);
    if (bytes > RT_TOKEN_BYTES_MAX || rt_utf8_check(spelling, bytes) != bytes ||
        memchr(spelling, 0, (size_t)bytes))
        return rt_fail(err, "token %lld is not text of at most %d bytes", (long long)id,
                       RT_TOKEN_BYTES_MAX);
    char *to = t->pool + t->pool_used;
    memcpy(to, spelling, (size_t)bytes);
    to[bytes] = 0;
    t->token[id] = (rt_str){ to, bytes };
    t->pool_used += bytes + 1;
    return 0;
}

static int by_content(const void *a, const void *b)
{
    return strcmp(((const rt_added *)a)->content.data, ((const rt_added *)b)->content.data);
}

/* The normal form of contents that are searched in normal text. Kept in fresh memory that the
   added token owns when it differs. */
static int normalize_added(rt_tokenizer *t, rt_err *err)
{
    rt_matcher m = { 0 };
    rt_text text = { 0 }, spare = { 0 };
    int bad = rt_matcher_open(&m, err);
    for (int64_t i = 0; i < t->n_added && !bad; i++) {
        rt_added *a = &t->added[i];
        a->search = a->content;
        if (!a->normalized || rt_normal_already(&t->normal, a->content.data, a->content.bytes))
            continue;
        rt_text_clear(&text);
        bad = rt_text_add(&text, a->content.data, a->content.bytes, err) ||
              rt_normalize(&t->normal, &m, &text, &spare, err);
        if (!bad)
            a->search = (rt_str){ rt_strndup(text.data, text.bytes), text.bytes };
    }
    rt_matcher_close(&m);
    rt_text_free(&text);
    rt_text_free(&spare);
    return bad;
}

static void set_types(rt_tokenizer *t)
{
    for (int32_t i = 0; i < t->vocab; i++)
        t->type[i] = t->token[i].data ? RT_TOKEN_NORMAL : RT_TOKEN_UNUSED;
    for (int i = 0; i < 256 && t->bpe.byte_fallback; i++)
        if (t->bpe.byte_id[i] >= 0)
            t->type[t->bpe.byte_id[i]] = RT_TOKEN_BYTE;
    for (int64_t i = 0; i < t->n_added; i++)
        t->type[t->added[i].id] = t->added[i].special ? RT_TOKEN_CONTROL : RT_TOKEN_USER;
    t->unk = t->bpe.unk;
    if (t->unk >= 0)
        t->type[t->unk] = RT_TOKEN_UNKNOWN;
}

/* Equal text, equal ids for every text: spellings with whether they are added tokens, merges, and
   the family's name or else the pipeline itself. What only a tokenizer.json can say (strip flags,
   order of decoders) is left out, so that a GGUF of the same tokenizer has the same fingerprint. */
static int take_fingerprint(rt_tokenizer *t, rt_err *err)
{
    rt_text x = { 0 };
    const rt_bpe *b = &t->bpe;
    int bad = rt_text_printf(&x, err, "%s %s %d\n", t->model, t->family ? t->family : "-",
                             t->space_prefix);
    if (!bad && !t->family)
        bad = rt_text_printf(&x, err, "%d%d%d%d\n", b->byte_level, b->byte_fallback, b->fuse_unk,
                             b->ignore_merges) ||
              rt_steps_describe(&t->normal, &x, err) || rt_steps_describe(&t->pre, &x, err);
    for (int32_t i = 0; i < t->vocab && !bad; i++) {
        bool added = t->type[i] == RT_TOKEN_CONTROL || t->type[i] == RT_TOKEN_USER;
        if (t->type[i] != RT_TOKEN_UNUSED)
            bad = rt_text_printf(&x, err, "%d %d ", i, added) ||
                  rt_text_add(&x, t->token[i].data, t->token[i].bytes + 1, err);
    }
    for (int64_t i = 0; i < b->n_merges && !bad; i++)
        bad = rt_text_printf(&x, err, "%d %d\n", b->left[i], b->right[i]);
    t->fingerprint = rt_hash_bytes(x.data, x.bytes);
    rt_text_free(&x);
    return bad;
}

int rt_tokenizer_finish(rt_tokenizer *t, rt_err *err)
{
    if (t->n_added)
        qsort(t->added, (size_t)t->n_added, sizeof *t->added, by_content);
    bool words = false;
    for (int64_t i = 0; i < t->n_added; i++)
        words = words || t->added[i].single_word;
    set_types(t);
    rt_err ignored = { 0 };
    const rt_split *family = t->bpe.byte_level ? rt_split_of(t, &ignored) : NULL;
    t->family = family ? family->name : NULL;
    if (normalize_added(t, err))
        return -1;
    rt_added_set_open(&t->set[0], t->added, t->n_added, false);
    rt_added_set_open(&t->set[1], t->added, t->n_added, true);
    return (words && rt_regex_open(&t->word, RT_RUST_WORD, false, err)) || take_fingerprint(t, err)
               ? -1
               : 0;
}

static void scratch_free(rt_scratch *s)
{
    rt_matcher_close(&s->matcher);
    rt_bpe_work_close(&s->work);
    rt_text_free(&s->clean);
    rt_text_free(&s->normal);
    rt_text_free(&s->spare);
    for (int i = 0; i < RT_STEPS_MAX; i++)
        rt_text_free(&s->step[i]);
    free(s);
}

void rt_tokenizer_close(rt_tokenizer *t)
{
    if (!t)
        return;
    for (rt_scratch *s = t->scratch, *next; s; s = next) {
        next = s->next;
        scratch_free(s);
    }
    for (int64_t i = 0; i < t->n_added; i++)
        if (t->added[i].search.data != t->added[i].content.data)
            free((char *)t->added[i].search.data);
    rt_added_set_close(&t->set[0]);
    rt_added_set_close(&t->set[1]);
    rt_bpe_free(&t->bpe);
    rt_steps_free(&t->normal);
    rt_steps_free(&t->pre);
    rt_steps_free(&t->decode);
    rt_regex_close(t->word);
    rt_ids_free(&t->prefix);
    rt_ids_free(&t->suffix);
    free(t->added);
    free(t->chat_template);
    free(t->token);
    free(t->type);
    free(t->pool);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* ---- encoding ------------------------------------------------------------------------------- */

/* The tokenizer is const to its users; only the list of idle work memory changes, under its lock.
 */
static rt_scratch *scratch_take(const rt_tokenizer *t, rt_err *err)
{
    rt_tokenizer *own = (rt_tokenizer *)(uintptr_t)t;
    pthread_mutex_lock(&own->lock);
    rt_scratch *s = own->scratch;
    if (s)
        own->scratch = s->next;
    pthread_mutex_unlock(&own->lock);
    if (s)
        return s;
    s = rt_alloc(1, sizeof *s, "scratch of a tokenizer");
    rt_bpe_work_open(&s->work);
    if (rt_matcher_open(&s->matcher, err)) {
        scratch_free(s);
        return NULL;
    }
    return s;
}

static void scratch_give(const rt_tokenizer *t, rt_scratch *s)
{
    rt_tokenizer *own = (rt_tokenizer *)(uintptr_t)t;
    pthread_mutex_lock(&own->lock);
    s->next = own->scratch;
    own->scratch = s;
    pthread_mutex_unlock(&own->lock);
}

typedef struct encoding {
    const rt_tokenizer *t;
    rt_scratch *s;
    enum rt_added_want want;
    bool guarded;
    rt_ids *out;
} encoding;

static int emit_piece(void *user, const char *piece, int64_t bytes, rt_err *err)
{
    encoding *e = user;
    return rt_bpe_encode(&e->t->bpe, &e->s->work, piece, bytes, e->out, err);
}

/* Ordinary text between added tokens. level 0: as given; 1: normalized, to be searched again. */
static int encode_text(encoding *e, int level, const char *text, int64_t bytes, bool first,
                       rt_err *err);

/* Added tokens of one level and the text between them. */
static int encode_level(encoding *e, int level, const char *text, int64_t bytes, bool first,
                        rt_err *err)
{
    rt_added_walk w = { .set = &e->t->set[level],
                        .word = e->t->word,
                        .matcher = &e->s->matcher,
                        .want = e->want,
                        .text = text,
                        .bytes = bytes };
    for (;;) {
        const rt_added *token;
        int64_t done = w.done, begin = bytes, end;
        if (rt_added_next(&w, &token, &begin, &end, err))
            return -1;
        if (begin > done &&
            encode_text(e, level, text + done, begin - done, first && done == 0, err))
            return -1;
        if (!token)
            return 0;
        if (rt_ids_add(e->out, token->id, err))
            return -1;
    }
}

static int drop_guards(rt_text *spare, const char **text, int64_t *bytes, rt_err *err)
{
    const int64_t width = (int64_t)strlen(RT_TOKENIZE_GUARD);
    rt_text_clear(spare);
    for (int64_t at = 0, n; at < *bytes; at += n + width) {
        const char *from = *text + at,
                   *guard = memmem(from, (size_t)(*bytes - at), RT_TOKENIZE_GUARD, (size_t)width);
        n = guard ? guard - from : *bytes - at;
        if (rt_text_add(spare, from, n, err))
            return -1;
    }
    *text = spare->bytes ? spare->data : "";
    *bytes = spare->bytes;
    return 0;
}

static int encode_text(encoding *e, int level, const char *text, int64_t bytes, bool first,
                       rt_err *err)
{
    const rt_tokenizer *t = e->t;
    rt_scratch *s = e->s;
    if (level == 1) {
        if (e->guarded && drop_guards(&s->spare, &text, &bytes, err))
            return -1;
        rt_pre_run run = { &t->pre, &s->matcher, s->step, emit_piece, e };
        return rt_pre_tokenize(&run, text, bytes, first, err);
    }
    if (rt_normal_already(&t->normal, text, bytes))
        return encode_level(e, 1, text, bytes, first, err);
    rt_text_clear(&s->normal);
    if (rt_text_add(&s->normal, text, bytes, err) ||
        rt_normalize(&t->normal, &s->matcher, &s->normal, &s->spare, err))
        return -1;
    return encode_level(e, 1, s->normal.data, s->normal.bytes, first, err);
}

/* A byte that is no UTF-8. */
static int emit_byte(encoding *e, const char *byte, rt_err *err)
{
    bool known = e->t->bpe.byte_id[(uint8_t)*byte] >= 0;
    return known ? emit_piece(e, byte, 1, err) : emit_piece(e, "\xef\xbf\xbd", 3, err);
}

/* Well-formed runs go through the pipeline; what is no UTF-8 becomes bytes or U+FFFD. */
static int encode_bytes(encoding *e, const char *text, int64_t bytes, rt_err *err)
{
    rt_text *clean = &e->s->clean;
    bool byte_level = e->t->bpe.byte_level;
    rt_text_clear(clean);
    for (int64_t i = 0; i < bytes;) {
        int64_t good = rt_utf8_check(text + i, bytes - i);
        if (byte_level || good == bytes) {
            if (good && encode_level(e, 0, text + i, good, i == 0, err))
                return -1;
        } else if (rt_text_add(clean, text + i, good, err)) {
            return -1;
        }
        i += good;
        if (i < bytes &&
            (byte_level ? emit_byte(e, text + i, err) : rt_text_puts(clean, "\xef\xbf\xbd", err)))
            return -1;
        i += i < bytes;
    }
    return clean->bytes ? encode_level(e, 0, clean->data, clean->bytes, true, err) : 0;
}

static int add_all(rt_ids *out, const rt_ids *ids, rt_err *err)
{
    for (int64_t i = 0; i < ids->n; i++)
        if (rt_ids_add(out, ids->id[i], err))
            return -1;
    return 0;
}

int rt_tokenizer_encode(const rt_tokenizer *t, const char *text, int64_t bytes, unsigned flags,
                        rt_ids *out, rt_err *err)
{
    encoding e = { t, scratch_take(t, err),
                   flags & RT_TOKENIZE_PLAIN     ? RT_ADDED_NONE
                   : flags & RT_TOKENIZE_SPECIAL ? RT_ADDED_ALL
                                                 : RT_ADDED_ORDINARY,
                   flags & RT_TOKENIZE_GUARDED, out };
    if (!e.s)
        return -1;
    bool wrap = flags & RT_TOKENIZE_BOS;
    int bad = (wrap && add_all(out, &t->prefix, err)) || encode_bytes(&e, text, bytes, err) ||
              (wrap && add_all(out, &t->suffix, err));
    scratch_give(t, e.s);
    return bad ? -1 : 0;
}

int rt_tokenizer_guard(const rt_tokenizer *t, const char *text, const int32_t *keep, int n_keep,
                       rt_text *out, rt_err *err)
{
    const rt_added_set *set = t->set;
    int64_t n = (int64_t)strlen(text);
    rt_text once = { 0 };
    if (!rt_added_guard(&set[0], text, n, keep, n_keep, RT_TOKENIZE_GUARD, NULL, err) &&
        !rt_added_guard(&set[1], text, n, keep, n_keep, RT_TOKENIZE_GUARD, NULL, err))
        return 0; /* nearly always */
    int bad = rt_added_guard(&set[0], text, n, keep, n_keep, RT_TOKENIZE_GUARD, &once, err) < 0 ||
              rt_added_guard(&set[1], once.data, once.bytes, keep, n_keep, RT_TOKENIZE_GUARD, out,
                             err) < 0;
    rt_text_free(&once);
    return bad ? -1 : 1;
}

/* ---- decoding ------------------------------------------------------------------------------- */

static const rt_added *find_added(const rt_tokenizer *t, int32_t id)
{
    rt_added key = { .content = t->token[id] };
    return t->n_added ? bsearch(&key, t->added, (size_t)t->n_added, sizeof key, by_content) : NULL;
}

int rt_tokenizer_decode(const rt_tokenizer *t, const int32_t *ids, int64_t n, unsigned flags,
                        rt_text *out, rt_err *err)
{
    rt_str *piece = rt_alloc(n, sizeof *piece, "tokens to decode");
    bool *plain = rt_alloc(n, 1, "tokens to decode");
    rt_scratch *s = scratch_take(t, err);
    int bad = s ? 0 : -1;
    int64_t kept = 0;
    for (int64_t i = 0; i < n && !bad; i++) {
        if (ids[i] < 0 || ids[i] >= t->vocab) {
            bad = rt_fail(err, "token id %d is outside the vocabulary of %d", ids[i], t->vocab);
            break;
        }
        int type = t->type[ids[i]];
        const rt_added *a = type == RT_TOKEN_NORMAL || type == RT_TOKEN_UNUSED
                                ? NULL
                                : find_added(t, ids[i]);
        if (type == RT_TOKEN_UNUSED || (a && a->special && flags & RT_DETOKENIZE_SKIP_SPECIAL))
            continue;
        piece[kept] = a ? a->search : t->token[ids[i]];
        plain[kept++] = a != NULL;
    }
    if (!bad)
        bad = rt_detokenize(&t->decode, &s->matcher, piece, plain, kept, out, err);
    if (s)
        scratch_give(t, s);
    free(piece);
    free(plain);
    return bad;
}

/* ---- facts ---------------------------------------------------------------------------------- */

int32_t rt_tokenizer_vocab(const rt_tokenizer *t) { return t->vocab; }
int32_t rt_tokenizer_bos(const rt_tokenizer *t) { return t->bos; }
int32_t rt_tokenizer_eos(const rt_tokenizer *t) { return t->eos; }
int32_t rt_tokenizer_pad(const rt_tokenizer *t) { return t->pad; }
int32_t rt_tokenizer_unk(const rt_tokenizer *t) { return t->unk; }
const char *rt_tokenizer_chat_template(const rt_tokenizer *t) { return t->chat_template; }
rt_hash rt_tokenizer_fingerprint(const rt_tokenizer *t) { return t->fingerprint; }
int64_t rt_tokenizer_merges(const rt_tokenizer *t) { return t->bpe.n_merges; }
const char *rt_tokenizer_model(const rt_tokenizer *t) { return t->model; }
const char *rt_tokenizer_pre(const rt_tokenizer *t) { return t->family; }
bool rt_tokenizer_space_prefix(const rt_tokenizer *t) { return t->space_prefix; }

bool rt_tokenizer_adds_bos(const rt_tokenizer *t)
{
    return t->prefix.n > 0 && t->prefix.id[0] == t->bos;
}

bool rt_tokenizer_adds_eos(const rt_tokenizer *t)
{
    return t->suffix.n > 0 && t->suffix.id[t->suffix.n - 1] == t->eos;
}

int32_t rt_tokenizer_id(const rt_tokenizer *t, const char *token)
{
    rt_added key = { .content = { token, (int64_t)strlen(token) } };
    const rt_added *a = t->n_added
                            ? bsearch(&key, t->added, (size_t)t->n_added, sizeof key, by_content)
                            : NULL;
    return a ? a->id : rt_bpe_find_spelled(&t->bpe, key.content);
}

rt_str rt_tokenizer_token(const rt_tokenizer *t, int32_t id)
{
    return id < 0 || id >= t->vocab ? (rt_str){ NULL, 0 } : t->token[id];
}

rt_token_type rt_tokenizer_type(const rt_tokenizer *t, int32_t id)
{
    return id < 0 || id >= t->vocab ? RT_TOKEN_UNUSED : (rt_token_type)t->type[id];
}

int rt_tokenizer_merge(const rt_tokenizer *t, int64_t i, rt_text *out, rt_err *err)
{
    if (i < 0 || i >= t->bpe.n_merges)
        rt_bug("merge %lld of %lld", (long long)i, (long long)t->bpe.n_merges);
    rt_str l = t->token[t->bpe.left[i]], r = t->token[t->bpe.right[i]];
    if (memchr(l.data + 1, ' ', (size_t)(l.bytes - 1)) || memchr(r.data, ' ', (size_t)r.bytes))
        return rt_fail(err,
                       "merge %lld joins pieces that hold a space and cannot be written as "
                       "\"a b\"; this tokenizer has no GGUF form",
                       (long long)i);
    return rt_text_add(out, l.data, l.bytes, err) || rt_text_puts(out, " ", err) ||
                   rt_text_add(out, r.data, r.bytes, err)
               ? -1
               : 0;
}
