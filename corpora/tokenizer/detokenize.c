/* detokenize.c: each decoder step turns one list of pieces into the next; the last list, joined, is
   the text. Follows huggingface/tokenizers : decoders/. */
#include "corpora/tokenizer/detokenize.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "corpora/tokenizer/bpe.h"

typedef struct pieces {
    rt_text text;
    int64_t *end; /* (n) of each piece in text */
    bool *plain;  /* (n) */
    int64_t n;
} pieces;

static void pieces_open(pieces *p, int64_t cap)
{
    *p = (pieces){ .end = rt_alloc(cap, sizeof *p->end, "pieces"),
                   .plain = rt_alloc(cap, 1, "pieces") };
}

static void pieces_close(pieces *p)
{
    rt_text_free(&p->text);
    free(p->end);
    free(p->plain);
}

/* End the piece whose text was just appended. */
static void pieces_mark(pieces *p, bool plain)
{
    p->plain[p->n] = plain;
    p->end[p->n++] = p->text.bytes;
}

/* One foreign character, and the whole token stands for itself. */
static int unspell_bytes(const char *s, int64_t n, rt_text *out, rt_err *err)
{
    if (rt_text_reserve(out, n, err))
        return -1;
    int64_t made = rt_bytes_unspell((rt_str){ s, n }, out->data + out->bytes);
    if (made < 0)
        return rt_text_add(out, s, n, err);
    out->bytes += made;
    return 0;
}

static int hex_digit(char c)
{
    return isdigit((unsigned char)c)    ? c - '0'
           : isxdigit((unsigned char)c) ? (c | 32) - 'a' + 10
                                        : -1;
}

/* The byte of "<0xHH>", or -1. */
static int fallback_byte(const char *s, int64_t n)
{
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>')
        return -1;
    int high = hex_digit(s[3]), low = hex_digit(s[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static int put_metaspace(const rt_step *p, const char *s, int64_t n, bool first, rt_text *out,
                         rt_err *err)
{
    int64_t mark = (int64_t)strlen(p->text);
    for (int64_t i = 0; i < n;) {
        bool hit = mark > 0 && n - i >= mark && memcmp(s + i, p->text, (size_t)mark) == 0;
        bool drop = hit && first && p->scheme != RT_PREPEND_NEVER;
        if (!drop && rt_text_add(out, hit ? " " : s + i, 1, err))
            return -1;
        i += hit ? mark : 1;
    }
    return 0;
}

static int put_trimmed(const rt_step *p, const char *s, int64_t n, rt_text *out, rt_err *err)
{
    int64_t mark = (int64_t)strlen(p->text);
    for (int64_t k = 0; k < p->start && mark && n >= mark && memcmp(s, p->text, (size_t)mark) == 0;
         k++) {
        s += mark;
        n -= mark;
    }
    for (int64_t k = 0;
         k < p->stop && mark && n >= mark && memcmp(s + n - mark, p->text, (size_t)mark) == 0; k++)
        n -= mark;
    return rt_text_add(out, s, n, err);
}

static int run_step(const rt_step *p, const rt_matcher *m, const pieces *in, int64_t most,
                    pieces *out, rt_err *err)
{
    out->n = 0;
    rt_text_clear(&out->text);
    bool bytes_open = false; /* the last piece of out is a run of fallback bytes */
    for (int64_t i = 0; i < in->n; i++) {
        int64_t begin = i ? in->end[i - 1] : 0, n = in->end[i] - begin;
        const char *s = in->text.data + begin;
        int bad, byte = p->kind == RT_STEP_BYTE_FALLBACK ? fallback_byte(s, n) : -1;
        char c = (char)byte;
        if (p->kind == RT_STEP_BYTES && !in->plain[i])
            bad = unspell_bytes(s, n, &out->text, err);
        else if (p->kind == RT_STEP_REPLACE && rt_utf8_check(s, n) == n)
            bad = rt_step_replace(p, m, s, n, most, &out->text, err);
        else if (p->kind == RT_STEP_METASPACE)
            bad = put_metaspace(p, s, n, i == 0, &out->text, err);
        else if (p->kind == RT_STEP_TRIM)
            bad = put_trimmed(p, s, n, &out->text, err);
        else
            bad = rt_text_add(&out->text, byte >= 0 ? &c : s, byte >= 0 ? 1 : n, err);
        if (bad)
            return -1;
        out->n -= (bytes_open && byte >= 0) || (p->kind == RT_STEP_FUSE && i > 0);
        bytes_open = byte >= 0;
        pieces_mark(out, in->plain[i]);
    }
    return 0;
}

int rt_detokenize(const rt_steps *s, const rt_matcher *m, const rt_str *piece, const bool *plain,
                  int64_t n, rt_text *out, rt_err *err)
{
    pieces a = { 0 }, b = { 0 };
    int bad = 0;
    pieces_open(&a, n);
    pieces_open(&b, n);
    for (int64_t i = 0; i < n && !bad; i++) {
        bad = (s->n == 0 && i > 0 && rt_text_puts(&a.text, " ", err)) ||
              rt_text_add(&a.text, piece[i].data, piece[i].bytes, err);
        pieces_mark(&a, plain[i]);
    }
    int64_t most = RT_STEPS_MOST(a.text.bytes);
    for (int i = 0; i < s->n && !bad; i++) {
        bad = run_step(&s->step[i], m, &a, most, &b, err);
        pieces t = a;
        a = b;
        b = t;
    }
    if (!bad)
        bad = rt_text_add(out, a.text.data, a.text.bytes, err);
    pieces_close(&a);
    pieces_close(&b);
    return bad ? -1 : 0;
}
