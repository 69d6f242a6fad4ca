/* pipeline.c: parsing the three lists of tokenizer.json, running the normalizers and pre-tokenizers
   depth first over borrowed text, and decoding. Follows huggingface/tokenizers : normalizers/,
   pre_tokenizers/, decoders/, tokenizer/normalizer.rs (split). */
#include "corpora/tokenizer/pipeline.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "core/base/memory.h"
#include "corpora/tokenizer/bpe.h"
#include "corpora/tokenizer/unicode.h"

#define PUNCTUATION_PATTERN "[!-/:-@\\[-`{-~\\p{P}]" /* ASCII punctuation is more than \p{P} */

static const char *const behaviors[] = { "Isolated", "Removed", "MergedWithPrevious",
                                         "MergedWithNext", "Contiguous" };

/* ---- parsing ------------------------------------------------------------------------------- */

rt_step *rt_steps_add(rt_steps *s, rt_step_kind kind, rt_err *err)
{
    if (s->n == RT_STEPS_MAX) {
        rt_fail(err, "tokenizer: more than %d steps in a pipeline", RT_STEPS_MAX);
        return NULL;
    }
    s->step[s->n] = (rt_step){ .kind = kind };
    return &s->step[s->n++];
}

void rt_steps_free(rt_steps *s)
{
    for (int i = 0; i < s->n; i++) {
        rt_regex_close(s->step[i].regex);
        free(s->step[i].text);
    }
    *s = (rt_steps){ 0 };
}

static int add_split(rt_steps *s, const char *pattern, bool literal, rt_split_behavior behavior,
                     bool invert, rt_err *err)
{
    rt_step *step;
    if (!(step = rt_steps_add(s, RT_STEP_SPLIT, err)))
        return -1;
    step->behavior = behavior;
    step->invert = invert;
    return rt_regex_open(&step->regex, pattern, literal, err);
}

int rt_steps_add_split(rt_steps *s, const char *pattern, rt_err *err)
{
    return add_split(s, pattern, false, RT_SPLIT_ISOLATED, false, err);
}

/* {"String": "..."} or {"Regex": "..."} under `key`. */
static int get_pattern(const cJSON *json, const char **pattern, bool *literal, rt_err *err)
{
    const cJSON *p;
    *pattern = NULL;
    if (rt_json_get_object(json, "pattern", &p, err))
        return -1;
    *literal = rt_json_find(p, "String") != NULL;
    return rt_json_get_str(p, *literal ? "String" : "Regex", pattern, err);
}

static int get_behavior(const cJSON *json, rt_split_behavior *out, rt_err *err)
{
    const char *name = "Isolated";
    if (rt_json_opt_str(json, "behavior", &name, err))
        return -1;
    for (int i = 0; i < RT_COUNT(behaviors); i++)
        if (strcmp(name, behaviors[i]) == 0) {
            *out = (rt_split_behavior)i;
            return 0;
        }
    return rt_fail(err, "split behavior %s is unknown", name);
}

static int set_text(rt_step *step, const char *text)
{
    step->text = rt_strdup(text);
    return 0;
}

static int add_replace(rt_steps *s, const cJSON *json, rt_err *err)
{
    const char *pattern, *content;
    bool literal;
    rt_step *step;
    return get_pattern(json, &pattern, &literal, err) ||
                   rt_json_get_str(json, "content", &content, err) ||
                   !(step = rt_steps_add(s, RT_STEP_REPLACE, err)) || set_text(step, content)
               ? -1
               : rt_regex_open(&step->regex, pattern, literal, err);
}

/* {"type": "Metaspace"} as a pre-tokenizer (with its split) or as a decoder. */
static int add_metaspace(rt_steps *s, const cJSON *json, bool decoder, rt_err *err)
{
    static const char *const schemes[] = { "always", "first", "never" };
    const char *scheme = NULL, *text = "\xe2\x96\x81";
    bool prefix = true, split = true;
    rt_step *step;
    if (rt_json_opt_str(json, "prepend_scheme", &scheme, err) ||
        rt_json_opt_str(json, "replacement", &text, err) ||
        rt_json_opt_bool(json, "add_prefix_space", &prefix, err) ||
        rt_json_opt_bool(json, "split", &split, err) ||
        !(step = rt_steps_add(s, RT_STEP_METASPACE, err)) || set_text(step, text))
        return -1;
    if (!scheme)
        scheme = prefix ? "always" : "never";
    int k = 0;
    while (k < 3 && strcmp(scheme, schemes[k]) != 0)
        k++;
    if (k == 3)
        return rt_fail(err, "Metaspace: prepend_scheme %s is unknown", scheme);
    step->scheme = (rt_prepend_scheme)k;
    return split && !decoder ? add_split(s, text, true, RT_SPLIT_MERGED_WITH_NEXT, false, err) : 0;
}

static int normalizer_item(rt_steps *s, const char *type, const cJSON *json, rt_err *err)
{
    static const char *const forms[] = { "NFC", "NFD", "NFKC", "NFKD" };
    const char *text;
    rt_step *step;
    for (int i = 0; i < RT_COUNT(forms); i++)
        if (strcmp(type, forms[i]) == 0) {
            if (!(step = rt_steps_add(s, RT_STEP_UNICODE, err)))
                return -1;
            step->form = (rt_unicode_form)i;
            return 0;
        }
    if (strcmp(type, "Prepend") == 0)
        return rt_json_get_str(json, "prepend", &text, err) ||
                       !(step = rt_steps_add(s, RT_STEP_PREPEND, err))
                   ? -1
                   : set_text(step, text);
    if (strcmp(type, "Replace") == 0)
        return add_replace(s, json, err);
    if (strcmp(type, "Strip") == 0) {
        if (!(step = rt_steps_add(s, RT_STEP_STRIP, err)))
            return -1;
        step->left = step->right = true;
        return rt_json_opt_bool(json, "strip_left", &step->left, err) ||
                       rt_json_opt_bool(json, "strip_right", &step->right, err)
                   ? -1
                   : 0;
    }
    return rt_fail(err, "normalizer %s is not supported", type);
}

static int add_byte_level(rt_steps *s, const cJSON *json, rt_err *err)
{
    bool prefix = true, use_regex = true;
    if (rt_json_opt_bool(json, "add_prefix_space", &prefix, err) ||
        rt_json_opt_bool(json, "use_regex", &use_regex, err) ||
        (prefix && !rt_steps_add(s, RT_STEP_PREFIX_SPACE, err)) ||
        (use_regex && rt_steps_add_split(s, RT_GPT2_PATTERN, err)))
        return -1;
    return rt_steps_add(s, RT_STEP_BYTES, err) ? 0 : -1;
}

static int pre_tokenizer_item(rt_steps *s, const char *type, const cJSON *json, rt_err *err)
{
    rt_split_behavior behavior = RT_SPLIT_ISOLATED;
    const char *pattern;
    bool flag = false, literal;
    if (strcmp(type, "ByteLevel") == 0)
        return add_byte_level(s, json, err);
    if (strcmp(type, "Split") == 0)
        return get_pattern(json, &pattern, &literal, err) || get_behavior(json, &behavior, err) ||
                       rt_json_opt_bool(json, "invert", &flag, err)
                   ? -1
                   : add_split(s, pattern, literal, behavior, flag, err);
    if (strcmp(type, "Digits") == 0)
        return rt_json_opt_bool(json, "individual_digits", &flag, err)
                   ? -1
                   : add_split(s, "\\p{N}", false, flag ? RT_SPLIT_ISOLATED : RT_SPLIT_CONTIGUOUS,
                               false, err);
    if (strcmp(type, "Punctuation") == 0)
        return get_behavior(json, &behavior, err)
                   ? -1
                   : add_split(s, PUNCTUATION_PATTERN, false, behavior, false, err);
    if (strcmp(type, "Whitespace") == 0)
        return add_split(s, RT_RUST_WORD "+|[^" RT_RUST_WORD "\\s]+", false, RT_SPLIT_REMOVED, true,
                         err);
    if (strcmp(type, "WhitespaceSplit") == 0)
        return add_split(s, "\\s", false, RT_SPLIT_REMOVED, false, err);
    if (strcmp(type, "Metaspace") == 0)
        return add_metaspace(s, json, false, err);
    return rt_fail(err, "pre-tokenizer %s is not supported", type);
}

static int decoder_item(rt_steps *s, const char *type, const cJSON *json, rt_err *err)
{
    static const struct {
        const char *type;
        rt_step_kind kind;
    } plain[] = { { "ByteLevel", RT_STEP_BYTES },
                  { "ByteFallback", RT_STEP_BYTE_FALLBACK },
                  { "Fuse", RT_STEP_FUSE } };
    const char *content;
    rt_step *step;
    for (int i = 0; i < RT_COUNT(plain); i++)
        if (strcmp(type, plain[i].type) == 0)
            return rt_steps_add(s, plain[i].kind, err) ? 0 : -1;
    if (strcmp(type, "Replace") == 0)
        return add_replace(s, json, err);
    if (strcmp(type, "Metaspace") == 0)
        return add_metaspace(s, json, true, err);
    if (strcmp(type, "Strip") == 0)
        return rt_json_get_str(json, "content", &content, err) ||
                       !(step = rt_steps_add(s, RT_STEP_TRIM, err)) || set_text(step, content) ||
                       rt_json_get_i64(json, "start", 0, 1 << 20, &step->start, err)
                   ? -1
                   : rt_json_get_i64(json, "stop", 0, 1 << 20, &step->stop, err);
    return rt_fail(err, "decoder %s is not supported", type);
}

typedef int item_fn(rt_steps *s, const char *type, const cJSON *json, rt_err *err);

/* One item, or the members of a Sequence, which `list` names. */
static int parse_items(rt_steps *s, const cJSON *json, const char *list, item_fn *item, rt_err *err)
{
    const char *type;
    const cJSON *members, *m;
    if (!json || cJSON_IsNull(json))
        return 0;
    if (rt_json_get_str(json, "type", &type, err))
        return -1;
    if (strcmp(type, "Sequence") != 0)
        return item(s, type, json, err);
    if (rt_json_get_array(json, list, &members, err))
        return -1;
    cJSON_ArrayForEach(m, members) if (parse_items(s, m, list, item, err)) return -1;
    return 0;
}

int rt_normalizer_parse(rt_steps *s, const cJSON *json, rt_err *err)
{
    return parse_items(s, json, "normalizers", normalizer_item, err);
}

int rt_pre_tokenizer_parse(rt_steps *s, const cJSON *json, rt_err *err)
{
    return parse_items(s, json, "pretokenizers", pre_tokenizer_item, err);
}

int rt_decoder_parse(rt_steps *s, const cJSON *json, rt_err *err)
{
    return parse_items(s, json, "decoders", decoder_item, err);
}

int rt_steps_describe(const rt_steps *s, rt_text *out, rt_err *err)
{
    for (int i = 0; i < s->n; i++) {
        const rt_step *p = &s->step[i];
        if (rt_text_printf(out, err, "%d/%d/%d/%d/%d%d%d/%lld/%lld/%s/%s\n", p->kind, p->behavior,
                           p->form, p->scheme, p->invert, p->left, p->right, (long long)p->start,
                           (long long)p->stop, p->regex ? rt_regex_source(p->regex) : "",
                           p->text ? p->text : ""))
            return -1;
    }
    return 0;
}

/* ---- normalizing --------------------------------------------------------------------------- */

bool rt_normal_already(const rt_steps *s, const char *text, int64_t bytes)
{
    bool nfc = true;
    for (int i = 0; i < s->n; i++) {
        if (s->step[i].kind != RT_STEP_UNICODE)
            return false;
        nfc = nfc && s->step[i].form == RT_NFC;
    }
    if (s->n == 0)
        return true;
    for (int64_t i = 0; i < bytes;) {
        uint8_t c = (uint8_t)text[i];
        if (c < 0x80 || (nfc && c < 0xcc)) { /* below U+0300 nothing composes */
            i++;
            continue;
        }
        uint32_t cp;
        int n = nfc ? rt_utf8_decode(text + i, bytes - i, &cp) : 0;
        bool starter = n && ((cp >= 0x388 && cp <= 0x482) || (cp >= 0x2010 && cp <= 0x2027) ||
                             (cp >= 0x3001 && cp <= 0x3029) || (cp >= 0x3041 && cp <= 0x3096) ||
                             (cp >= 0x30a1 && cp <= 0x30fa) || (cp >= 0x3400 && cp <= 0x4dbf) ||
                             (cp >= 0x4e00 && cp <= 0x9fff) || (cp >= 0xac00 && cp <= 0xd7a3) ||
                             (cp >= 0xff01 && cp <= 0xff5e) || (cp >= 0x1f300 && cp <= 0x1faff));
        if (!starter)
            return false;
        i += n;
    }
    return true;
}

static int normal_form(rt_unicode_form form, const rt_text *in, rt_text *out, rt_err *err)
{
    static const int flags[] = { UTF8PROC_STABLE | UTF8PROC_COMPOSE,
                                 UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
                                 UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
                                 UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT };
    for (int64_t i = 0, run; i < in->bytes; i += run) {
        run = rt_unicode_old_run(in->data + i, in->bytes - i);
        if (run == 0) {
            uint32_t cp;
            run = rt_utf8_decode(in->data + i, in->bytes - i, &cp);
            if (rt_text_add(out, in->data + i, run, err))
                return -1;
            continue;
        }
        utf8proc_uint8_t *made = NULL;
        utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)in->data + i, run, &made,
                                          (utf8proc_option_t)flags[form]);
        if (n < 0)
            return rt_fail(err, "tokenizer: Unicode normal form: %s", utf8proc_errmsg(n));
        int bad = rt_text_add(out, made, n, err);
        free(made);
        if (bad)
            return -1;
    }
    return 0;
}

int rt_step_replace(const rt_step *p, const rt_matcher *m, const char *text, int64_t bytes,
                    int64_t most, rt_text *out, rt_err *err)
{
    int64_t done = 0, from = 0, a, b;
    int r = 0;
    while (from <= bytes && (r = rt_regex_find(p->regex, m, text, bytes, from, &a, &b, err)) > 0) {
        if (rt_text_add(out, text + done, a - done, err) || rt_text_puts(out, p->text, err))
            return -1;
        if (out->bytes > most)
            return rt_fail(err, "tokenizer: Replace steps turn %lld bytes into more than %lld",
                           (long long)bytes, (long long)most);
        done = b;
        uint32_t cp;
        from = b > a ? b : b < bytes ? b + rt_utf8_decode(text + b, bytes - b, &cp) : bytes + 1;
    }
    return r < 0 ? -1 : rt_text_add(out, text + done, bytes - done, err);
}

static void strip_bounds(const rt_step *p, const rt_text *in, int64_t *a, int64_t *b)
{
    uint32_t cp;
    *a = 0;
    *b = in->bytes;
    for (int n; p->left && *a < *b; *a += n) {
        n = rt_utf8_decode(in->data + *a, *b - *a, &cp);
        if (!rt_utf8_is_space(cp))
            break;
    }
    while (p->right && *b > *a) {
        int64_t at = *b - 1;
        while (at > *a && ((uint8_t)in->data[at] & 0xc0) == 0x80)
            at--;
        rt_utf8_decode(in->data + at, *b - at, &cp);
        if (!rt_utf8_is_space(cp))
            break;
        *b = at;
    }
}

int rt_normalize(const rt_steps *s, const rt_matcher *m, rt_text *text, rt_text *spare, rt_err *err)
{
    int64_t most = RT_STEPS_MOST(text->bytes);
    for (int i = 0; i < s->n; i++) {
        const rt_step *p = &s->step[i];
        int64_t a, b;
        int bad = 0;
        rt_text_clear(spare);
        switch (p->kind) {
        case RT_STEP_UNICODE:
            bad = normal_form(p->form, text, spare, err);
            break;
        case RT_STEP_PREPEND:
            bad = (text->bytes && rt_text_puts(spare, p->text, err)) ||
                  rt_text_add(spare, text->data, text->bytes, err);
            break;
        case RT_STEP_REPLACE:
            bad = rt_step_replace(p, m, text->data, text->bytes, most, spare, err);
            break;
        case RT_STEP_STRIP:
            strip_bounds(p, text, &a, &b);
            bad = rt_text_add(spare, text->data + a, b - a, err);
            break;
        default:
            rt_bug("normalizer step %d", p->kind);
        }
        if (bad)
            return -1;
        rt_text t = *text;
        *text = *spare;
        *spare = t;
    }
    return 0;
}

/* ---- pre-tokenizing ------------------------------------------------------------------------ */

typedef struct split_state {
    const rt_pre_run *run;
    int step;
    const char *text;
    int64_t begin, end; /* the segment held back, when any */
    bool held, match;   /* match: what the last segment was */
    bool first;
} split_state;

static int pre_step(const rt_pre_run *run, int step, const char *s, int64_t n, bool first,
                    rt_err *err);

static int flush(split_state *t, rt_err *err)
{
    if (!t->held)
        return 0;
    t->held = false;
    return pre_step(t->run, t->step + 1, t->text + t->begin, t->end - t->begin,
                    t->first && t->begin == 0, err);
}

/* The next segment [a, b), a match or what lies between matches; segments may join the one before.
 */
static int segment(split_state *t, int64_t a, int64_t b, bool match, rt_err *err)
{
    const rt_step *p = &t->run->steps->step[t->step];
    match = match != p->invert;
    bool join = false;
    switch (p->behavior) {
    case RT_SPLIT_ISOLATED:
        break;
    case RT_SPLIT_REMOVED:
        if (match)
            return 0;
        break;
    case RT_SPLIT_CONTIGUOUS:
        join = t->held && match == t->match;
        break;
    case RT_SPLIT_MERGED_WITH_PREVIOUS:
        join = t->held && match && !t->match;
        break;
    case RT_SPLIT_MERGED_WITH_NEXT:
        join = t->held && t->match && !match;
        break;
    }
    t->match = match;
    if (!join && flush(t, err))
        return -1;
    if (!join)
        t->begin = a;
    t->end = b;
    t->held = true;
    return 0;
}

/* Matches as Oniguruma's find_iter gives them: an empty match right after a match is passed over,
   any other one cuts. */
static int pre_split(const rt_pre_run *run, int step, const char *s, int64_t n, bool first,
                     rt_err *err)
{
    split_state t = { .run = run, .step = step, .text = s, .first = first };
    int64_t done = 0, from = 0, last = -1, a, b;
    int r = 0;
    const char *matched = s; /* what the pattern sees; the pieces are cut from s */
    if (rt_unicode_is_newer(s, n)) {
        rt_text *copy = &run->buffer[step];
        rt_text_clear(copy);
        if (rt_unicode_stand_ins(s, n, copy, err))
            return -1;
        matched = copy->data;
    }
    while (from <= n && (r = rt_regex_find(run->steps->step[step].regex, run->matcher, matched, n,
                                           from, &a, &b, err)) > 0) {
        if (a == b && a == last) {
            uint32_t cp;
            from += from < n ? rt_utf8_decode(s + from, n - from, &cp) : 1;
            continue;
        }
        if ((done != a && segment(&t, done, a, false, err)) || segment(&t, a, b, true, err))
            return -1;
        done = last = from = b;
    }
    if (r < 0 || (done != n && segment(&t, done, n, false, err)))
        return -1;
    return flush(&t, err);
}

static int metaspace(const rt_step *p, const char *s, int64_t n, bool first, rt_text *out,
                     rt_err *err)
{
    size_t mark = strlen(p->text);
    bool has = s[0] == ' ' || ((size_t)n >= mark && memcmp(s, p->text, mark) == 0);
    bool want = p->scheme == RT_PREPEND_ALWAYS || (p->scheme == RT_PREPEND_FIRST && first);
    if (want && !has && rt_text_puts(out, p->text, err))
        return -1;
    for (int64_t i = 0, run; i < n; i += run) {
        const char *space = memchr(s + i, ' ', (size_t)(n - i));
        run = space ? space - (s + i) : n - i;
        if (rt_text_add(out, s + i, run, err) || (space && rt_text_puts(out, p->text, err)))
            return -1;
        run += space != NULL;
    }
    return 0;
}

static int pre_step(const rt_pre_run *run, int step, const char *s, int64_t n, bool first,
                    rt_err *err)
{
    if (n == 0)
        return 0;
    if (step == run->steps->n)
        return run->emit(run->user, s, n, err);
    const rt_step *p = &run->steps->step[step];
    if (p->kind == RT_STEP_SPLIT)
        return pre_split(run, step, s, n, first, err);
    if (p->kind == RT_STEP_PREFIX_SPACE && s[0] == ' ')
        return pre_step(run, step + 1, s, n, first, err);
    rt_text *out = &run->buffer[step];
    rt_text_clear(out);
    int bad;
    switch (p->kind) {
    case RT_STEP_PREFIX_SPACE:
        bad = rt_text_puts(out, " ", err) || rt_text_add(out, s, n, err);
        break;
    case RT_STEP_BYTES:
        bad = rt_bytes_spell(s, n, out, err);
        break;
    case RT_STEP_METASPACE:
        bad = metaspace(p, s, n, first, out, err);
        break;
    default:
        rt_bug("pre-tokenizer step %d", p->kind);
    }
    return bad ? -1 : pre_step(run, step + 1, out->data, out->bytes, first, err);
}

int rt_pre_tokenize(const rt_pre_run *run, const char *text, int64_t bytes, bool first, rt_err *err)
{
    return pre_step(run, 0, text, bytes, first, err);
}
