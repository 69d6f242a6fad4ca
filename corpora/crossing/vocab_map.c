#include "corpora/crossing/vocab_map.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

/* ---- pieces -------------------------------------------------------------------------------------
 */

/* A letter that is decoded to itself alone: what decoders do to the first token of a text (SentencePiece
   drops its space) is done to this one. -1 where there is none. */
static int32_t find_anchor(const rt_tokenizer *t)
{
    char letter[2] = "a";
    int32_t id = -1;
    for (; id < 0 && *letter <= 'z'; ++*letter)
        id = rt_tokenizer_id(t, letter);
    return id;
}

static int add_piece(rt_pieces *p, int32_t id, int32_t anchor, rt_text *work, rt_err *err)
{
    const int32_t two[] = { anchor, id };
    int64_t lead = anchor >= 0;
    rt_text_clear(work);
    if (rt_tokenizer_decode(p->tokenizer, two + !lead, 1 + lead, 0, work, err))
        return -1;
    return rt_text_add(&p->pool, work->data + lead, rt_max(work->bytes - lead, 0), err);
}

/* Words before single bytes, which may be spelled again as <0xHH>. */
static int index_pieces(rt_pieces *p, rt_token_type type, rt_err *err)
{
    for (int32_t id = 0; id < p->vocab; id++) {
        rt_str s = rt_pieces_bytes(p, id);
        if (s.bytes == 0 || rt_tokenizer_type(p->tokenizer, id) != type || rt_pieces_special(p, id))
            continue;
        int64_t n = p->id.n, at = rt_bytes_map_put(&p->id, s.data, s.bytes, err);
        if (at < 0)
            return -1;
        if (at == n)
            p->id.entry[at].value = id;
    }
    return 0;
}

int rt_pieces_open(rt_pieces *p, const rt_tokenizer *t, rt_err *err)
{
    rt_text work = { 0 };
    int32_t anchor = find_anchor(t);
    *p = (rt_pieces){ .tokenizer = t, .vocab = rt_tokenizer_vocab(t) };
    p->offset = rt_alloc(p->vocab + 1, sizeof *p->offset, "the bytes of tokens");
    int bad = rt_text_reserve(&work, 1, err);
    for (int32_t id = 0; id < p->vocab && !bad; id++) {
        if (rt_tokenizer_token(t, id).data)
            bad = add_piece(p, id, anchor, &work, err);
        p->offset[id + 1] = p->pool.bytes;
    }
    rt_text_free(&work);
    return bad || index_pieces(p, RT_TOKEN_NORMAL, err) || index_pieces(p, RT_TOKEN_BYTE, err) ? -1
                                                                                              : 0;
}

void rt_pieces_close(rt_pieces *p)
{
    rt_text_free(&p->pool);
    free(p->offset);
    rt_bytes_map_free(&p->id);
    *p = (rt_pieces){ 0 };
}

rt_str rt_pieces_bytes(const rt_pieces *p, int32_t id)
{
    return (rt_str){ p->pool.data + p->offset[id], p->offset[id + 1] - p->offset[id] };
}

int32_t rt_pieces_find(const rt_pieces *p, const char *s, int64_t bytes)
{
    int64_t at = rt_bytes_map_find(&p->id, s, bytes);
    return at < 0 ? -1 : (int32_t)p->id.entry[at].value;
}

bool rt_pieces_special(const rt_pieces *p, int32_t id)
{
    rt_token_type type = rt_tokenizer_type(p->tokenizer, id);
    return type == RT_TOKEN_CONTROL || type == RT_TOKEN_USER || type == RT_TOKEN_UNKNOWN;
}

/* From inside a word, which SentencePiece cannot encode alone: the longest pieces, left to right. */
static int cut_greedily(const rt_pieces *p, const char *s, int64_t bytes, rt_ids *ids, rt_err *err)
{
    const int64_t before = ids->n;
    for (int64_t at = 0, n; at < bytes; at += n) {
        int32_t id = -1;
        for (n = bytes - at; n > 0 && (id = rt_pieces_find(p, s + at, n)) < 0;)
            n--;
        if (id < 0) {
            ids->n = before;
            return 0;
        }
        if (rt_ids_add(ids, id, err))
            return -1;
    }
    return 0;
}

int rt_pieces_cut(const rt_pieces *p, const char *s, int64_t bytes, rt_ids *ids, rt_err *err)
{
    const int64_t before = ids->n;
    int64_t space = rt_tokenizer_space_prefix(p->tokenizer); /* encoding puts one there */
    if (bytes == 0)
        return 0;
    if (space && *s != ' ')
        return cut_greedily(p, s, bytes, ids, err);
    if (rt_tokenizer_encode(p->tokenizer, s + space, bytes - space, RT_TOKENIZE_PLAIN, ids, err))
        return -1;
    bool same = true;
    int64_t at = 0;
    for (int64_t i = before; i < ids->n && same; i++) {
        rt_str got = rt_pieces_bytes(p, ids->id[i]);
        same = got.bytes <= bytes - at && memcmp(got.data, s + at, (size_t)got.bytes) == 0;
        at += got.bytes;
    }
    if (!same || at != bytes)
        ids->n = before;
    return 0;
}

/* ---- the map ------------------------------------------------------------------------------------
 */

static bool ends_turn(const rt_chat *c, int32_t id)
{
    for (int i = 0; i < c->reasoning.n_stops; i++)
        if (c->reasoning.stop[i] == id)
            return true;
    return false;
}

static int32_t find_same(const rt_vocab_map *m, const rt_chat *teacher, const rt_chat *student,
                         int32_t id)
{
    int32_t eos = rt_tokenizer_eos(student->tokenizer);
    if (eos >= 0 && ends_turn(teacher, id))
        return eos;
    if (!rt_pieces_special(&m->from, id)) {
        rt_str s = rt_pieces_bytes(&m->from, id);
        return s.bytes ? rt_pieces_find(&m->to, s.data, s.bytes) : -1;
    }
    int32_t bos = rt_tokenizer_bos(student->tokenizer);
    if (bos >= 0 && id == rt_tokenizer_bos(teacher->tokenizer))
        return bos;
    int32_t named = rt_tokenizer_id(student->tokenizer,
                                    rt_tokenizer_token(teacher->tokenizer, id).data);
    return named >= 0 && rt_pieces_special(&m->to, named) ? named : -1;
}

/* A word that the student has not, or a marker that it would spell; not a control token. */
static bool has_text(const rt_vocab_map *m, int32_t id)
{
    return rt_tokenizer_type(m->from.tokenizer, id) == RT_TOKEN_USER ||
           !rt_pieces_special(&m->from, id);
}

rt_unmatched rt_unmatched_named(const char *name)
{
    return strcmp(name, "tail") == 0    ? RT_UNMATCHED_TAIL
           : strcmp(name, "first") == 0 ? RT_UNMATCHED_FIRST
                                        : RT_UNMATCHED_SEEN;
}

int rt_vocab_map_open(rt_vocab_map *m, const rt_chat *teacher, const rt_chat *student,
                      rt_err *err)
{
    rt_ids work = { 0 };
    *m = (rt_vocab_map){ 0 };
    int bad = rt_pieces_open(&m->from, teacher->tokenizer, err) ||
              rt_pieces_open(&m->to, student->tokenizer, err);
    m->same = rt_alloc(m->from.vocab, sizeof *m->same, "a map of tokens");
    m->first = rt_alloc(m->from.vocab, sizeof *m->first, "a map of tokens");
    for (int32_t id = 0; id < m->from.vocab && !bad; id++) {
        m->same[id] = m->first[id] = -1;
        if (!rt_tokenizer_token(teacher->tokenizer, id).data)
            continue;
        m->same[id] = m->first[id] = find_same(m, teacher, student, id);
        m->n_same += m->same[id] >= 0;
        rt_str s = rt_pieces_bytes(&m->from, id);
        if (m->same[id] >= 0 || !has_text(m, id))
            continue;
        rt_ids_clear(&work);
        bad = rt_pieces_cut(&m->to, s.data, s.bytes, &work, err);
        if (!work.n)
            continue;
        m->first[id] = work.id[0];
        rt_str begins = rt_pieces_bytes(&m->to, work.id[0]);
        m->n_begun += rt_pieces_find(&m->from, begins.data, begins.bytes) >= 0;
    }
    rt_ids_free(&work);
    if (bad)
        rt_vocab_map_close(m);
    return bad ? -1 : 0;
}

void rt_vocab_map_close(rt_vocab_map *m)
{
    rt_pieces_close(&m->from);
    rt_pieces_close(&m->to);
    free(m->same);
    free(m->first);
    *m = (rt_vocab_map){ 0 };
}
