/* test_crossing.c: an archive of one vocabulary read in another: every byte is in one minimal group
   of both sides; merged targets are those of a brute-force walk in f64 with a tokenizer of its own, and near what a
   small teacher goes on to say; respelled documents are the student's prompts with the teacher's words. */
#include <math.h>

#include "corpora/crossing/align.h"
#include "corpora/crossing/crossing.h"
#include "core/base/rng.h"
#include "corpora/corpus.h"
#include "student/transplant.h"
#include "tests/suite.h"

static rt_err err;

/* ---- groups -------------------------------------------------------------------------------------
 */

static bool is_boundary(const int64_t *end, int64_t n, int64_t at)
{
    for (int64_t i = 0; i < n; i++)
        if (end[i] == at)
            return true;
    return false;
}

/* All tokens and bytes once, in order; both sides of a group the same bytes; nothing to cut inside. */
static int64_t check_groups(const int64_t *t, int64_t n_t, const int64_t *s, int64_t n_s)
{
    rt_align_group g = { 0 };
    int64_t groups = 0, at_t = 0, at_s = 0, from = 0;
    while (rt_align_next(&g, t, n_t, s, n_s)) {
        ck_assert(g.t_begin == at_t && g.s_begin == at_s);
        ck_assert(g.t_end > g.t_begin || g.s_end > g.s_begin);
        at_t = g.t_end, at_s = g.s_end;
        int64_t to = at_t ? t[at_t - 1] : 0;
        ck_assert_int_eq(to, at_s ? s[at_s - 1] : 0);
        for (int64_t b = from + 1; b < to; b++)
            ck_assert(!is_boundary(t, n_t, b) || !is_boundary(s, n_s, b));
        from = to;
        groups++;
    }
    ck_assert(at_t == n_t && at_s == n_s);
    return groups;
}

START_TEST(groups)
{
    const int64_t a[] = { 1, 3, 4, 8 }, b[] = { 3, 5, 8 }, one[] = { 8 }, none[] = { 0, 0, 8 },
                  late[] = { 8, 8 };
    ck_assert_int_eq(check_groups(a, 4, b, 3), 2); /* {1,3|3} {4,8|5,8} */
    ck_assert_int_eq(check_groups(a, 4, a, 4), 4);
    ck_assert_int_eq(check_groups(a, 4, one, 1), 1);
    ck_assert_int_eq(check_groups(one, 1, b, 3), 1);
    ck_assert_int_eq(check_groups(none, 3, one, 1), 1);
    ck_assert_int_eq(check_groups(late, 2, one, 1), 1);
    ck_assert_int_eq(check_groups(none, 2, one, 0), 1); /* no bytes at all */
    ck_assert_int_eq(check_groups(one, 0, one, 0), 0);
    for (uint64_t i = 0; i < 20000; i++) {
        int64_t t[12], s[12], bytes = 1 + rt_rng_below(i, RT_RNG_DATA, 0, 12), n_t = 0, n_s = 0;
        for (int64_t k = 1; k <= bytes; k++) {
            uint32_t cut = rt_rng_below(i, RT_RNG_DATA, (uint64_t)k, 4);
            if (cut & 1 || k == bytes)
                t[n_t++] = k;
            if (cut & 2 || k == bytes)
                s[n_s++] = k;
        }
        check_groups(t, n_t, s, n_s);
    }
}
END_TEST

/* ---- pieces -------------------------------------------------------------------------------------
 */

/* The golden SentencePiece vocabularies lack the space itself: spm is made here. */
static const char *const NAMES[] = { "qwen2",   "llama-bpe", "gpt-4o", "deepseek-v3",
                                     "kimi-k2", "gpt-2",     "spm" };

/* A vocabulary as SentencePiece makes it: bytes, letters, and words that begin with their space. */
static void open_spm(rt_chat *c)
{
#define S "\xe2\x96\x81"
    static const char *const words[] = { S,        "a",    "e",      "h",  "i",      "n",  "o",
                                         "t",      "T",    ".",      "1",  "th",     "he", "the",
                                         S "t",    S "th", S "the",  "in", "Th",     "The" };
#undef S
    enum { FIRST = 3 + 256, N = FIRST + RT_COUNT(words) };
    static char spelled[N][8];
    rt_str token[N];
    int64_t type[N];
    float score[N];
    memset(c, 0, sizeof *c);
    for (int i = 0; i < N; i++) {
        const char *text = i < 3 ? ((const char *const[]){ "<unk>", "<s>", "</s>" })[i]
                           : i < FIRST ? spelled[i] : words[i - FIRST];
        if (i >= 3 && i < FIRST)
            snprintf(spelled[i], sizeof spelled[i], "<0x%02X>", (unsigned)(i - 3));
        token[i] = (rt_str){ text, (int64_t)strlen(text) };
        type[i] = i == 0 ? RT_TOKEN_UNKNOWN : i < 3 ? RT_TOKEN_CONTROL
                  : i < FIRST ? RT_TOKEN_BYTE : RT_TOKEN_NORMAL;
        score[i] = (float)-i;
    }
    rt_tokenizer_parts p = { .model = "llama", .n_tokens = N, .token = token, .type = type,
                             .score = score, .bos = 1, .eos = 2, .pad = -1, .unk = 0,
                             .add_bos = true, .space_prefix = true };
    OK(rt_tokenizer_from_parts(&c->tokenizer, &p, "spm", &err));
}

static void open_named(rt_chat *c, const char *name)
{
    char path[300];
    if (strcmp(name, "spm") == 0) {
        open_spm(c);
        return;
    }
    snprintf(path, sizeof path, RT_SOURCE_DIR "/tests/golden/tokenizers/%s", name);
    OK(rt_chat_open(c, path, &err));
}

/* The texts of Hugging Face's tokenizers in the golden files, and random ones. */
static cJSON *load_texts(void)
{
    cJSON *json;
    OK(rt_json_load(&json, RT_SOURCE_DIR "/tests/golden/tokenizers/qwen2/cases.json", &err));
    return json;
}

/* Both tokenizers' ids of a text are the same bytes, which are the text's, in minimal groups. */
static void check_text(const rt_vocab_map *m, const char *text, int64_t *same, int64_t *all)
{
    rt_ids t = { 0 }, s = { 0 };
    int64_t skip_t, skip_s, n = (int64_t)strlen(text);
    OK(rt_tokenizer_encode(m->from.tokenizer, text, n, RT_TOKENIZE_PLAIN, &t, &err) ||
       rt_tokenizer_encode(m->to.tokenizer, text, n, RT_TOKENIZE_PLAIN, &s, &err));
    ++*all;
    if (rt_stretch_same(m, t.id, t.n, s.id, s.n, &skip_t, &skip_s)) {
        int64_t *t_end = calloc((size_t)t.n + 1, 8), *s_end = calloc((size_t)s.n + 1, 8);
        rt_stretch_ends(&m->from, t.id, t.n, skip_t, t_end);
        rt_stretch_ends(&m->to, s.id, s.n, skip_s, s_end);
        check_groups(t_end, t.n, s_end, s.n);
        ++*same;
        free(t_end);
        free(s_end);
    }
    rt_ids_free(&t);
    rt_ids_free(&s);
}

/* One by one, what the map looks up. */
static int32_t count_begun(const rt_vocab_map *m)
{
    int32_t begun = 0;
    for (int32_t id = 0; id < m->from.vocab; id++) {
        bool both = false;
        if (m->same[id] >= 0 || m->first[id] < 0)
            continue;
        rt_str first = rt_pieces_bytes(&m->to, m->first[id]), whole = rt_pieces_bytes(&m->from, id);
        ck_assert(first.bytes <= whole.bytes && !memcmp(first.data, whole.data, (size_t)first.bytes));
        for (int32_t k = 0; k < m->from.vocab && !both; k++) {
            rt_str s = rt_pieces_bytes(&m->from, k);
            both = !rt_pieces_special(&m->from, k) && s.bytes == first.bytes &&
                   !memcmp(s.data, first.data, (size_t)s.bytes);
        }
        begun += both;
    }
    return begun;
}

START_TEST(pairs)
{
    static const char *const letters[] = { "a",  "th",  " ",  "The", "\n", "12", "é", "日本",
                                           "🙂", " the", ".", "ing", "\t", "'s", "ß", " \n\n" };
    rt_chat a, b;
    rt_vocab_map m;
    cJSON *texts = load_texts();
    const cJSON *c;
    int64_t same = 0, all = 0;
    open_named(&a, NAMES[_i / RT_COUNT(NAMES)]);
    open_named(&b, NAMES[_i % RT_COUNT(NAMES)]);
    OK(rt_vocab_map_open(&m, &a, &b, &err));
    ck_assert_int_eq(m.n_begun, count_begun(&m));
    cJSON_ArrayForEach(c, texts)
    {
        check_text(&m, rt_json_find(c, "text")->valuestring, &same, &all);
    }
    for (uint64_t i = 0; i < 300; i++) {
        char text[200] = "";
        for (uint32_t k = 0; k < 1 + rt_rng_below(i, RT_RNG_DATA, 99, 10); k++)
            strcat(text, letters[rt_rng_below(i, RT_RNG_DATA, k, RT_COUNT(letters))]);
        check_text(&m, text, &same, &all);
    }
    ck_assert_int_gt(all, 310);
    ck_assert_msg(same * 100 >= all * 90, "%s, %s: %lld of %lld texts", NAMES[_i / RT_COUNT(NAMES)],
                  NAMES[_i % RT_COUNT(NAMES)], (long long)same, (long long)all);
    if (_i / RT_COUNT(NAMES) == _i % RT_COUNT(NAMES)) { /* its own: every token is itself */
        ck_assert_int_eq(same, all);
        for (int32_t id = 0; id < m.from.vocab; id++)
            if (rt_pieces_bytes(&m.from, id).bytes && !rt_pieces_special(&m.from, id))
                ck_assert_msg(m.same[id] == id || rt_tokenizer_type(a.tokenizer, id) == RT_TOKEN_BYTE,
                              "%s: %d -> %d", NAMES[_i % RT_COUNT(NAMES)], id, m.same[id]);
    }
    cJSON_Delete(texts);
    rt_vocab_map_close(&m);
    rt_chat_close(&a);
    rt_chat_close(&b);
}
END_TEST

/* ---- merged targets -----------------------------------------------------------------------------
 */

enum { LETTERS = 3, MERGES = 7, TINY = LETTERS + MERGES, LONGEST = 24 };

/* A vocabulary over a, b and c whose merges are drawn, with a BPE of its own. */
typedef struct tiny {
    char token[TINY][LONGEST];
    int left[TINY], right[TINY];
    int n;
    rt_chat chat;
} tiny;

static void make_tiny(tiny *v, uint64_t seed)
{
    char merges[MERGES][2 * LONGEST + 2];
    rt_str token[TINY + 1], merge[MERGES];
    v->n = LETTERS;
    for (int i = 0; i < LETTERS; i++)
        snprintf(v->token[i], LONGEST, "%c", 'a' + i);
    for (uint64_t k = 0; v->n < TINY; k++) {
        uint32_t n = (uint32_t)v->n, l = rt_rng_below(seed, RT_RNG_DATA, 2 * k, n),
                 r = rt_rng_below(seed, RT_RNG_DATA, 2 * k + 1, n);
        bool known = strlen(v->token[l]) + strlen(v->token[r]) > 5;
        char made[2 * LONGEST];
        snprintf(made, sizeof made, "%s%s", v->token[l], v->token[r]);
        for (int i = 0; i < v->n; i++)
            known |= strcmp(v->token[i], made) == 0;
        if (known)
            continue;
        memcpy(v->token[v->n], made, strlen(made) + 1);
        v->left[v->n] = (int)l, v->right[v->n] = (int)r;
        snprintf(merges[v->n - LETTERS], sizeof merges[0], "%s %s", v->token[l], v->token[r]);
        merge[v->n - LETTERS] = (rt_str){ merges[v->n - LETTERS],
                                          (int64_t)strlen(merges[v->n - LETTERS]) };
        v->n++;
    }
    for (int i = 0; i < TINY; i++)
        token[i] = (rt_str){ v->token[i], (int64_t)strlen(v->token[i]) };
    token[TINY] = (rt_str){ "<end>", 5 };
    int64_t type[TINY + 1];
    for (int i = 0; i <= TINY; i++)
        type[i] = i < TINY ? RT_TOKEN_NORMAL : RT_TOKEN_CONTROL;
    rt_tokenizer_parts p = { .model = "gpt2", .pre = "gpt-2", .n_tokens = TINY + 1, .token = token,
                             .type = type, .n_merges = MERGES, .merge = merge, .bos = -1,
                             .eos = TINY, .pad = -1, .unk = -1 };
    memset(&v->chat, 0, sizeof v->chat);
    OK(rt_tokenizer_from_parts(&v->chat.tokenizer, &p, "tiny", &err));
    v->chat.reasoning.stop[v->chat.reasoning.n_stops++] = TINY;
}

/* Merge rank by rank, leftmost first: what BPE is. */
static int bpe(const tiny *v, const char *text, int *ids)
{
    int n = 0;
    for (; *text; text++)
        ids[n++] = *text - 'a';
    for (;;) {
        int best = TINY, at = -1;
        for (int i = 0; i + 1 < n; i++)
            for (int k = LETTERS; k < best; k++)
                if (v->left[k] == ids[i] && v->right[k] == ids[i + 1])
                    best = k, at = i;
        if (at < 0)
            return n;
        ids[at] = best;
        memmove(ids + at + 1, ids + at + 2, (size_t)(n - at - 2) * sizeof *ids);
        n--;
    }
}

static int first_of(const tiny *v, const char *text, bool exactly)
{
    int ids[200];
    for (int i = 0; i < TINY; i++)
        if (strcmp(v->token[i], text) == 0)
            return i;
    bpe(v, text, ids);
    return exactly ? -1 : ids[0];
}

/* The teacher: some distribution after each row; <end> is one of its tokens. */
static void teach(uint64_t seed, int64_t row, double *p)
{
    double sum = 0;
    for (int v = 0; v <= TINY; v++)
        sum += p[v] = exp(6 * (double)rt_rng_uniform(seed, RT_RNG_DATA,
                                                     1000 + (uint64_t)(row * 64 + v)));
    for (int v = 0; v <= TINY; v++)
        p[v] /= sum;
}

/* Rows of the teacher's along a text, of which the head_max heaviest tokens are kept. */
static void teacher_rows(rt_soft *soft, uint64_t seed, int64_t n, const int32_t *taken,
                         int head_max)
{
    rt_soft_init(soft);
    for (int64_t r = 0; r < n; r++) {
        double p[TINY + 1], tail = 0, entropy = 0;
        bool kept[TINY + 1] = { false };
        teach(seed, r, p);
        for (int k = 0; k < head_max && k <= TINY; k++) {
            int best = -1;
            for (int v = 0; v <= TINY; v++)
                if (!kept[v] && (best < 0 || p[v] > p[best]))
                    best = v;
            kept[best] = true;
        }
        int64_t at = rt_soft_add_row(soft, rt_min(head_max, TINY + 1), 0), i = soft->offset[at];
        for (int v = 0; v <= TINY; v++) {
            entropy -= p[v] * log(p[v]);
            if (kept[v]) {
                soft->id[i] = v;
                soft->logp[i++] = (float)log(p[v]);
            } else {
                tail += p[v];
            }
        }
        soft->head_n[at] = (int32_t)rt_min(head_max, TINY + 1);
        soft->tail_logmass[at] = tail > 0 ? (float)log(tail) : -INFINITY;
        soft->entropy[at] = (float)entropy;
        soft->taken_logp[at] = (float)log(p[taken[r]]);
    }
}

/* What texts were seen to begin with. */
static const struct seen {
    const char *text;
    int id, times;
} SEEN[] = { { "a", 3, 5 }, { "a", 0, 2 }, { "ab", 4, 1 }, { "bc", 1, 9 }, { "abc", 5, 3 }, { "c", 2, 1 } };

/* mass goes to what `way` was seen to begin with, and to `otherwise` as one time more. */
static void spread(const char *way, int otherwise, double mass, double *wanted)
{
    int all = 1;
    for (int i = 0; i < RT_COUNT(SEEN); i++)
        all += strcmp(SEEN[i].text, way) ? 0 : SEEN[i].times;
    for (int i = 0; i < RT_COUNT(SEEN); i++)
        if (strcmp(SEEN[i].text, way) == 0)
            wanted[SEEN[i].id] += mass * SEEN[i].times / all;
    wanted[otherwise] += mass / all;
}

/* Every way of leaving t_1 .. t_k, and the one of not leaving it. wanted (TINY + 2): masses of the
   student's tokens, the end, and what no token begins. */
static void brute_force(const tiny *teacher, const tiny *student, uint64_t seed, int64_t row,
                        int64_t k, const int32_t *taken, int token, rt_unmatched unmatched, double *wanted)
{
    char text[300] = "";
    double reach = 1, p[TINY + 1];
    for (int64_t i = 0; i < k; i++) {
        teach(seed, row + i, p);
        for (int v = 0; v <= TINY; v++) {
            char way[400];
            if (v == taken[i])
                continue;
            snprintf(way, sizeof way, "%s%s", text, v < TINY ? teacher->token[v] : "");
            int to = *way ? first_of(student, way, unmatched == RT_UNMATCHED_TAIL)
                          : TINY; /* the end at once: the end */
            to = to < 0 ? TINY + 1 : to;
            if (unmatched == RT_UNMATCHED_SEEN && v < TINY)
                spread(way, to, reach * p[v], wanted);
            else
                wanted[to] += reach * p[v];
        }
        strcat(text, teacher->token[taken[i]]);
        reach *= p[taken[i]];
    }
    wanted[token] += reach;
}

/* The ways that begin with the student's tokens before the one wanted: all of them, as shares of their sum. */
static void brute_inner(const tiny *teacher, const tiny *student, uint64_t seed, int64_t row,
                        int64_t k, const int32_t *taken, const int *said, int n, double *wanted)
{
    char text[300] = "";
    double reach = 1, p[TINY + 1], all = 0;
    for (int64_t i = 0; i < k; i++) {
        teach(seed, row + i, p);
        for (int v = 0; v <= TINY; v++) {
            char way[400];
            int ids[200], same = 0;
            if (v == taken[i])
                continue;
            snprintf(way, sizeof way, "%s%s", text, v < TINY ? teacher->token[v] : "");
            int m = bpe(student, way, ids);
            while (same < n && same < m && ids[same] == said[same])
                same++;
            if (same == n && m > n)
                wanted[ids[n]] += reach * p[v];
            else if (same == m && m > 0) /* says no more than that */
                wanted[TINY + 1] += reach * p[v];
        }
        strcat(text, teacher->token[taken[i]]);
        reach *= p[taken[i]];
    }
    wanted[said[n]] += reach;
    for (int v = 0; v < TINY + 2; v++)
        all += wanted[v];
    for (int v = 0; v < TINY + 2; v++)
        wanted[v] /= all;
}

static void check_row(const rt_soft *out, const double *wanted, int head_max)
{
    double sum = exp((double)out->tail_logmass[0]), entropy = 0, rest = wanted[TINY + 1];
    for (int64_t i = 0; i < out->n_items; i++) {
        double got = exp((double)out->logp[i]), want = wanted[out->id[i]];
        sum += got;
        ck_assert(i == 0 || out->id[i] > out->id[i - 1]);
        if (head_max > TINY)
            ck_assert_msg(fabs(got - want) < 1e-6 + 1e-5 * want, "%d: %g, not %g", out->id[i], got,
                          want);
        else
            ck_assert_msg(got < want + 1e-6, "%d: %g of %g", out->id[i], got, want);
    }
    ck_assert_msg(fabs(sum - 1) < 1e-5, "all: %.9f", sum);
    if (head_max <= TINY)
        return;
    ck_assert_msg(fabs(exp((double)out->tail_logmass[0]) - rest) < 1e-6, "tail %g, not %g",
                  exp((double)out->tail_logmass[0]), rest);
    for (int v = 0; v <= TINY; v++)
        entropy -= wanted[v] > 0 ? wanted[v] * log(wanted[v]) : 0;
    if (rest == 0)
        ck_assert_msg(fabs((double)out->entropy[0] - entropy) < 1e-5, "entropy %g, not %g",
                      (double)out->entropy[0], entropy);
}

static void check_merged(const tiny *a, const tiny *b, const rt_vocab_map *m, const char *text,
                         uint64_t seed, int head_max, rt_unmatched unmatched, int64_t *merged)
{
    int t[200], s[200], n_t = bpe(a, text, t), n_s = bpe(b, text, s);
    int32_t taken[200], said[200];
    int64_t t_end[200], s_end[200];
    rt_soft_mapper mapper;
    rt_soft soft, out;
    rt_align_group g = { 0 };
    const rt_soft_config config = { .head_max = 64 };
    for (int i = 0; i < n_t; i++) {
        taken[i] = t[i];
        t_end[i] = (i ? t_end[i - 1] : 0) + (int64_t)strlen(a->token[t[i]]);
    }
    for (int i = 0; i < n_s; i++)
        s_end[i] = (i ? s_end[i - 1] : 0) + (int64_t)strlen(b->token[s[i]]);
    teacher_rows(&soft, seed, n_t, taken, head_max);
    rt_soft_mapper_open(&mapper, m, unmatched, &config);
    for (int i = 0; i < RT_COUNT(SEEN); i++)
        for (int k = 0; k < SEEN[i].times; k++)
            OK(rt_seen_add(&mapper.seen, SEEN[i].text, (int64_t)strlen(SEEN[i].text), SEEN[i].id,
                           &err));
    rt_soft_init(&out);
    while (rt_align_next(&g, t_end, n_t, s_end, n_s)) {
        double wanted[TINY + 2] = { 0 };
        int64_t k = 1;
        while (t_end[g.t_begin + k - 1] < s_end[g.s_begin])
            k++;
        *merged += k > 1;
        rt_soft_clear(&out);
        OK(rt_soft_map_row(&mapper, &out, &soft, g.t_begin, k, taken + g.t_begin, s[g.s_begin], 7,
                           &err));
        brute_force(a, b, seed, g.t_begin, k, taken + g.t_begin, s[g.s_begin],
                    unmatched, wanted);
        check_row(&out, wanted, head_max);
        for (int64_t i = g.s_begin + 1; i < g.s_end && head_max > TINY; i++) {
            memset(wanted, 0, sizeof wanted);
            while (t_end[g.t_begin + k - 1] < s_end[i])
                k++;
            for (int64_t j = g.s_begin; j < i; j++)
                said[j - g.s_begin] = s[j];
            rt_soft_clear(&out);
            OK(rt_soft_map_inner(&mapper, &out, &soft, g.t_begin, k, taken + g.t_begin, said,
                                 i - g.s_begin, s[i], &err));
            brute_inner(a, b, seed, g.t_begin, k, taken + g.t_begin, s + g.s_begin,
                        (int)(i - g.s_begin), wanted);
            check_row(&out, wanted, head_max);
        }
    }
    rt_soft_free(&soft);
    rt_soft_free(&out);
    rt_soft_mapper_close(&mapper);
}

START_TEST(targets)
{
    int64_t merged = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        tiny a, b;
        rt_vocab_map m;
        make_tiny(&a, 2 * seed);
        make_tiny(&b, 2 * seed + 1);
        OK(rt_vocab_map_open(&m, &a.chat, &b.chat, &err));
        ck_assert_int_eq(m.same[TINY], TINY);
        for (uint64_t i = 0; i < 50; i++) {
            char text[32] = "";
            for (uint32_t k = 0; k < 1 + rt_rng_below(seed, RT_RNG_DATA, 500 + i, 24); k++)
                text[k] = (char)('a' + rt_rng_below(seed * 64 + i, RT_RNG_DATA, 700 + k, LETTERS));
            check_merged(&a, &b, &m, text, seed, TINY + 1, RT_UNMATCHED_FIRST, &merged);
            check_merged(&a, &b, &m, text, seed, TINY + 1, RT_UNMATCHED_TAIL, &merged);
            check_merged(&a, &b, &m, text, seed, TINY + 1, RT_UNMATCHED_SEEN, &merged);
            check_merged(&a, &b, &m, text, seed, 3, RT_UNMATCHED_FIRST, &merged);
            check_merged(&a, &b, &m, text, seed, 1, RT_UNMATCHED_TAIL, &merged);
        }
        rt_vocab_map_close(&m);
        rt_tokenizer_close(a.chat.tokenizer);
        rt_tokenizer_close(b.chat.tokenizer);
    }
    ck_assert_int_gt(merged, 2000);
}
END_TEST

/* Counts as they were added, the most frequent first, for a few texts and many tokens. */
START_TEST(frequencies)
{
    static const char *const texts[] = { "a", "", "ab", "\xff" };
    rt_seen seen = { 0 };
    int64_t times[4][200] = { 0 }, all[4] = { 0 };
    for (uint64_t i = 0; i < 20000; i++) {
        uint32_t k = rt_rng_below(1, RT_RNG_DATA, 3 * i, 4), id = rt_rng_below(1, RT_RNG_DATA, 3 * i + 1, 200);
        id = rt_rng_below(1, RT_RNG_DATA, 3 * i + 2, id + 1); /* small ones more often */
        OK(rt_seen_add(&seen, texts[k], (int64_t)strlen(texts[k]), (int32_t)id, &err));
        times[k][id]++;
        all[k]++;
    }
    for (int k = 0; k < 4; k++) {
        const rt_seen_text *t = rt_seen_find(&seen, texts[k], (int64_t)strlen(texts[k]));
        ck_assert(t && t->times == all[k]);
        int64_t before = INT64_MAX;
        for (int32_t i = t->first; i >= 0; i = seen.token[i].next) {
            ck_assert_int_eq(seen.token[i].times, times[k][seen.token[i].id]);
            ck_assert(seen.token[i].times <= before && seen.token[i].times > 0);
            before = seen.token[i].times;
            all[k] -= before;
        }
        ck_assert_int_eq(all[k], 0);
    }
    ck_assert(!rt_seen_find(&seen, "b", 1));
    rt_seen_free(&seen);
}
END_TEST

/* A row of one's own vocabulary comes back as it was, and draws below the first token of a group
   keep their expectation. */
START_TEST(draws)
{
    tiny a;
    rt_vocab_map m;
    rt_soft_mapper mapper;
    rt_soft soft, out;
    const rt_soft_config config = { .head_max = 4, .tail_spacing = 0.02f };
    make_tiny(&a, 5);
    OK(rt_vocab_map_open(&m, &a.chat, &a.chat, &err));
    rt_soft_mapper_open(&mapper, &m, RT_UNMATCHED_FIRST, &config);
    rt_soft_init(&soft);
    rt_soft_init(&out);
    for (int r = 0; r < 2; r++) {
        int64_t at = rt_soft_add_row(&soft, 3, 0), i = soft.offset[at];
        soft.id[i] = 1, soft.logp[i] = logf(0.7f);
        soft.id[i + 1] = 0, soft.hits[i + 1] = 2;
        soft.id[i + 2] = 2, soft.hits[i + 2] = 5;
        soft.head_n[at] = 1;
        soft.tail_logmass[at] = logf(0.3f);
        soft.entropy[at] = 1;
        soft.taken_logp[at] = logf(0.7f);
    }
    const int32_t taken[] = { 1, 1 };
    OK(rt_soft_map_row(&mapper, &out, &soft, 0, 1, taken, 1, 3, &err));
    ck_assert_int_eq(out.n_items, 3);
    ck_assert_int_eq(out.head_n[0], 1);
    for (int i = 0; i < 3; i++)
        ck_assert(out.id[i] == soft.id[i] && out.hits[i] == soft.hits[i] &&
                  fabsf(out.logp[i] - soft.logp[i]) < 1e-6f);
    ck_assert(fabsf(out.tail_logmass[0] - logf(0.3f)) < 1e-6f && out.entropy[0] == 1);
    double sum = 0;
    enum { TIMES = 40000 };
    int32_t whole = rt_pieces_find(&m.to, "bb", 2) >= 0 ? rt_pieces_find(&m.to, "bb", 2) : 1;
    for (uint64_t seed = 0; seed < TIMES; seed++) { /* by "b", then "c": a text that begins with ... */
        rt_soft_clear(&out);
        OK(rt_soft_map_row(&mapper, &out, &soft, 0, 2, taken, whole, seed, &err));
        double mass = exp((double)out.tail_logmass[0]);
        for (int64_t i = 0; i < out.n_items; i++) {
            sum += (double)out.hits[i];
            mass += i < out.head_n[0] ? exp((double)out.logp[i]) : 0;
        }
        ck_assert(fabs(mass - 1) < 1e-5);
        for (int64_t i = 0; i < out.head_n[0]; i++) /* draws that became exact ones */
            if (out.id[i] != whole)
                sum += exp((double)out.logp[i]) / 0.02;
            else
                sum += (exp((double)out.logp[i]) - 0.49) / 0.02;
    }
    /* 7 hits of the first row stay; of the second's 7, 0.7 survive on average */
    ck_assert_msg(fabs(sum / TIMES - 7 * 1.7) < 0.02, "%g hits", sum / TIMES);
    rt_soft_free(&soft);
    rt_soft_free(&out);
    rt_soft_mapper_close(&mapper);
    rt_vocab_map_close(&m);
    rt_tokenizer_close(a.chat.tokenizer);
}
END_TEST

/* ---- what the ways not taken are worth ----------------------------------------------------------
 */

enum { PATH = 12, TOTAL = RT_UNMATCHED_TAIL + 1 };

/* A teacher that looks at one token: p(v | u), without an end. */
static void follow(uint64_t seed, int u, double *p)
{
    double sum = 0;
    teach(seed, u, p);
    p[TINY] = 0;
    for (int v = 0; v < TINY; v++)
        sum += p[v];
    for (int v = 0; v < TINY; v++)
        p[v] /= sum;
}

/* PATH tokens that it says after u, their text and where each ends in it. */
static void speak(const tiny *a, uint64_t seed, uint64_t draw, int u, int32_t *path, int64_t *end,
                  char *text)
{
    double p[TINY + 1];
    *text = 0;
    for (int i = 0; i < PATH; i++) {
        double x = (double)rt_rng_uniform(seed, RT_RNG_DATA, 100000 + draw * PATH + (uint64_t)i);
        int v = 0;
        follow(seed, u, p);
        while (v < TINY - 1 && (x -= p[v]) >= 0)
            v++;
        path[i] = u = v;
        strcat(text, a->token[v]);
        end[i] = (int64_t)strlen(text);
    }
}

/* Counts of what texts begin with, over sequences of its own. */
static void fill_seen(rt_seen *seen, const tiny *a, const tiny *b, uint64_t seed)
{
    for (uint64_t i = 0; i < 2000; i++) {
        int32_t path[PATH];
        int64_t t_end[PATH], s_end[200];
        char text[200];
        int s[200];
        rt_align_group g = { 0 };
        speak(a, seed, i, (int)(i % TINY), path, t_end, text);
        int n = bpe(b, text, s);
        for (int k = 0; k < n; k++)
            s_end[k] = (k ? s_end[k - 1] : 0) + (int64_t)strlen(b->token[s[k]]);
        while (rt_align_next(&g, t_end, PATH, s_end, n))
            for (int64_t t = g.t_begin; t < g.t_end; t++) {
                int64_t from = g.t_begin ? t_end[g.t_begin - 1] : 0;
                OK(rt_seen_add(seen, text + from, t_end[t] - from, s[g.s_begin], &err));
                if (t_end[t] >= s_end[g.s_begin])
                    break;
            }
    }
}

/* got += the target that one path after u gives the student's first token. */
static void add_target(rt_soft_mapper *m, uint64_t seed, int u, const int32_t *path, int64_t k,
                       int token, double *got)
{
    rt_soft soft, out;
    rt_soft_init(&soft);
    rt_soft_init(&out);
    for (int64_t i = 0; i < k; i++) {
        double p[TINY + 1];
        follow(seed, i ? path[i - 1] : u, p);
        int64_t r = rt_soft_add_row(&soft, TINY, 0), at = soft.offset[r];
        for (int v = 0; v < TINY; v++) {
            soft.id[at + v] = v;
            soft.logp[at + v] = (float)log(p[v]);
        }
        soft.head_n[r] = TINY;
        soft.tail_logmass[r] = -INFINITY;
        soft.taken_logp[r] = (float)log(p[path[i]]);
    }
    OK(rt_soft_map_row(m, &out, &soft, 0, k, path, token, 1, &err));
    for (int64_t i = 0; i < out.n_items; i++)
        got[out.id[i]] += exp((double)out.logp[i]);
    rt_soft_free(&soft);
    rt_soft_free(&out);
}

/* How far, in total variation, the mean target after u is from what the teacher goes on to say. */
static void measure(rt_soft_mapper *m, const tiny *a, const tiny *b, uint64_t seed, int u,
                    double *apart)
{
    enum { TIMES = 1500 };
    double truth[TINY] = { 0 }, got[TOTAL][TINY] = { { 0 } };
    for (uint64_t i = 0; i < TIMES; i++) {
        int32_t path[PATH];
        int64_t end[PATH], k = 1;
        char text[200];
        int s[200];
        speak(a, seed, 10000 + i, u, path, end, text);
        bpe(b, text, s);
        truth[s[0]] += 1.0 / TIMES;
        while (end[k - 1] < (int64_t)strlen(b->token[s[0]]))
            k++;
        for (int mode = 0; mode < TOTAL; mode++)
            add_target(&m[mode], seed, u, path, k, s[0], got[mode]);
    }
    for (int mode = 0; mode < TOTAL; mode++) {
        double sum = 0;
        for (int v = 0; v < TINY; v++)
            sum += got[mode][v];
        for (int v = 0; v < TINY; v++)
            apart[mode] += fabs(truth[v] - got[mode][v] / sum) / 2;
    }
}

/* The truth is what the teacher goes on to say: what was seen comes nearest to it. */
START_TEST(estimates)
{
    const rt_soft_config config = { .head_max = 64 };
    double apart[TOTAL] = { 0 };
    for (uint64_t seed = 0; seed < 6; seed++) {
        tiny a, b;
        rt_vocab_map map;
        rt_soft_mapper m[TOTAL];
        make_tiny(&a, 100 + 2 * seed);
        make_tiny(&b, 101 + 2 * seed);
        OK(rt_vocab_map_open(&map, &a.chat, &b.chat, &err));
        for (int mode = 0; mode < TOTAL; mode++)
            rt_soft_mapper_open(&m[mode], &map, (rt_unmatched)mode, &config);
        fill_seen(&m[RT_UNMATCHED_SEEN].seen, &a, &b, seed);
        for (int u = 0; u < TINY; u++)
            measure(m, &a, &b, seed, u, apart);
        for (int mode = 0; mode < TOTAL; mode++)
            rt_soft_mapper_close(&m[mode]);
        rt_vocab_map_close(&map);
        rt_tokenizer_close(a.chat.tokenizer);
        rt_tokenizer_close(b.chat.tokenizer);
    }
    ck_assert(apart[RT_UNMATCHED_SEEN] < 0.7 * apart[RT_UNMATCHED_FIRST]);
    ck_assert(apart[RT_UNMATCHED_SEEN] < 0.7 * apart[RT_UNMATCHED_TAIL]);
}
END_TEST

/* ---- documents ----------------------------------------------------------------------------------
 */

#define USER "{%- for m in messages %}{%- if m.role == 'user' %}{{- '<|user|>' + m.content }}{%- else %}"
#define NEXT "{%- endif %}{%- endfor %}{%- if add_generation_prompt %}"
/* Thinks, in markers that the model writes; in markers that the prompt opens; in channels; not. */
static const char THINKS[] = USER
    "{{- '<|assistant|>' }}{%- if m.reasoning_content %}{{- '<think>\\n' + m.reasoning_content + "
    "'\\n</think>\\n' }}{%- endif %}{{- m.content + '<|end|>' }}" NEXT
    "{{- '<|assistant|>' }}{%- endif %}";
static const char OPENS[] = USER "{{- '<|assistant|>' + m.content + '<|end|>' }}" NEXT
                                 "{{- '<|assistant|><think>\\n' }}{%- endif %}";
static const char PLAIN[] = USER "{{- '<|bot|>' + m.content + '<|eot|>' }}" NEXT
                                 "{{- '<|bot|>' }}{%- endif %}";

static void make_chat(rt_chat *c, const char *template, const char *texts, const char *dir)
{
    bool plain = template == PLAIN, harmony = strstr(template, "<|channel|>") != NULL;
    static const char *const special[] = { "<|user|>", "<|assistant|>", "<|end|>", "<|bot|>",
                                           "<|eot|>" },
                             *const channels[] = { "<|start|>", "<|end|>", "<|message|>",
                                                   "<|channel|>", "<|return|>" },
                             *const added[] = { "<think>", "</think>", "analysis", "final" };
    rt_trainer_config config = { .pre = "gpt-2",
                                 .vocab = plain ? 330 : 310,
                                 .special = harmony ? channels : special,
                                 .n_special = RT_COUNT(special),
                                 .added = harmony ? added + 2 : added,
                                 .n_added = plain ? 0 : 2,
                                 .eos = harmony ? "<|return|>" : plain ? "<|eot|>" : "<|end|>",
                                 .chat_template = template };
    rt_trainer *t;
    OK(rt_trainer_open(&t, &config, &err) ||
       rt_trainer_add(t, texts, (int64_t)strlen(texts), &err) || rt_trainer_write(t, dir, &err));
    rt_trainer_close(t);
    OK(rt_chat_open(c, dir, &err));
}

#define TALK                                                                                       \
    "[{\"role\":\"user\",\"content\":\"add\"},{\"role\":\"assistant\",\"content\":\"12 and 34\"},"     \
    "{\"role\":\"user\",\"content\":\"What is it?\"}]"

/* The teacher's sample of TALK and a response; a row for each learned token that is sure of it. */
static void make_sample(rt_trace_sample *s, const rt_chat *c, rt_ids *ids, rt_ids *spans,
                        const char *reasoning, const char *answer)
{
    cJSON *talk = rt_json_object(), *messages = cJSON_Parse(TALK), *last = rt_json_object();
    rt_json_put_str(last, "role", "assistant");
    rt_json_put_str(last, "content", answer);
    if (reasoning)
        rt_json_put_str(last, "reasoning_content", reasoning);
    cJSON_AddItemToArray(messages, last);
    rt_json_put(talk, "messages", messages);
    OK(rt_chat_turns(c, talk, true, ids, spans, NULL, &err));
    cJSON_Delete(talk);
    rt_trace_sample_init(s);
    s->id = "s/0", s->messages = TALK, s->reasoning = reasoning, s->answer = answer;
    s->tokens = ids->id, s->n_tokens = ids->n;
    s->spans = (const rt_trace_span *)(const void *)spans->id;
    s->n_spans = (int32_t)(spans->n / 2);
    s->prompt_tokens = s->spans[s->n_spans - 1].begin;
    s->soft_first = s->spans[0].begin;
    rt_soft_init(&s->soft);
    for (int64_t i = s->soft_first; i < s->n_tokens; i++) {
        int64_t r = rt_soft_add_row(&s->soft, 1, 0);
        s->soft.id[s->soft.offset[r]] = s->tokens[i];
        s->soft.head_n[r] = 1;
        s->soft.tail_logmass[r] = -INFINITY;
    }
}

/* What is learned, in the student's spelling, special tokens too. */
static void learned(rt_text *text, const rt_chat *c, const rt_ids *ids, const rt_ids *spans)
{
    OK(rt_text_puts(text, "", &err));
    for (int64_t i = 0; i < spans->n; i += 2)
        OK(rt_text_puts(text, "{", &err) ||
           rt_tokenizer_decode(c->tokenizer, ids->id + spans->id[i],
                               spans->id[i + 1] - spans->id[i], 0, text, &err) ||
           rt_text_puts(text, "}", &err));
}

static const struct {
    const char *teacher, *student; /* NULL: harmony */
    const char *reasoning, *answer, *learned;
} CROSSINGS[] = {
    { THINKS, THINKS, "12+34\n=46", "It is 46",
      "{12 and 34<|end|>}{<think>\n12+34\n=46\n</think>\nIt is 46<|end|>}" },
    { THINKS, OPENS, "12+34", "46 <|end|> is text", /* earlier turns are each template's own */
      "{12 and 34<|end|>}{12+34\n</think>\n46 <|end|> is text<|end|>}" },
    { OPENS, THINKS, "12+34", "46",
      "{12 and 34<|end|>}{<think>\n12+34\n</think>\n\n46<|end|>}" },
    { THINKS, PLAIN, "12+34", "46",
      "{12 and 34<|eot|>}{<think>\n12+34\n</think>\n46<|eot|>}" },
    { PLAIN, THINKS, NULL, "It is 46", "{12 and 34<|end|>}{It is 46<|end|>}" },
    { NULL, THINKS, "12+34", "46", "{12 and 34<|end|>}{<think>\n12+34\n</think>\n\n46<|end|>}" },
    { NULL, PLAIN, "12+34", "46", "{12 and 34<|eot|>}{<think>\n12+34\n</think>\n\n46<|eot|>}" },
};

static void check_document(const rt_chat *student, const rt_trace_sample *s, const char *wanted)
{
    rt_crossing *c;
    rt_crossing_counts counts = { 0 };
    rt_ids ids = { 0 }, spans = { 0 }, stretches = { 0 };
    rt_text text = { 0 };
    rt_soft out;
    const rt_soft_config config = { .head_max = 1 };
    OK(rt_crossing_open(&c, "teacher", student, RT_UNMATCHED_FIRST, &err) ||
       rt_crossing_document(c, s, true, &ids, &spans, &stretches, &counts, &err));
    learned(&text, student, &ids, &spans);
    ck_assert_str_eq(text.data, wanted);
    rt_soft_init(&out);
    int64_t first = spans.id[0], mapped = 0, learns = 0;
    OK(rt_crossing_soft(c, s, &config, ids.id, ids.n, (const rt_stretch *)(const void *)stretches.id,
                        stretches.n / RT_STRETCH_IDS, first, &out, &err));
    ck_assert_int_eq(out.n, ids.n - first);
    for (int64_t i = 0; i < spans.n; i += 2)
        for (int64_t t = spans.id[i]; t < spans.id[i + 1]; t++, learns++) {
            ck_assert_int_eq(out.id[out.offset[t - first]], ids.id[t]);
            mapped += out.tail_logmass[t - first] < -100; /* the teacher's, who is sure */
        }
    ck_assert_int_eq(counts.learned, learns);
    ck_assert_int_eq(counts.one + counts.merged, mapped);
    /* a marker that is spelled is many labels */
    ck_assert_msg(mapped * 7 > learns, "%lld of %lld mapped", (long long)mapped,
                  (long long)learns);
    ck_assert_msg(out.tail_logmass[out.n - 1] < -100, "the end of the turn has no target");
    rt_soft_free(&out);
    rt_text_free(&text);
    rt_ids_free(&ids);
    rt_ids_free(&spans);
    rt_ids_free(&stretches);
    rt_crossing_close(c);
}

START_TEST(documents)
{
    char *harmony;
    int64_t bytes;
    rt_chat teacher, student;
    rt_trace_sample s;
    rt_ids ids = { 0 }, spans = { 0 };
    OK(rt_file_read(&harmony, &bytes, RT_SOURCE_DIR "/tests/golden/templates/harmony.jinja",
                    1 << 20, &err));
    const char *theirs = CROSSINGS[_i].teacher ? CROSSINGS[_i].teacher : harmony;
    make_chat(&teacher, theirs, "What is it? It is 46 It is 46 and 12 and 12", "teacher");
    make_chat(&student, CROSSINGS[_i].student, "12+34 =46 12+34 =46 is is text text", "student");
    make_sample(&s, &teacher, &ids, &spans, CROSSINGS[_i].reasoning, CROSSINGS[_i].answer);
    check_document(&student, &s, CROSSINGS[_i].learned);
    rt_soft_free(&s.soft);
    rt_ids_free(&ids);
    rt_ids_free(&spans);
    rt_chat_close(&teacher);
    rt_chat_close(&student);
    free(harmony);
}
END_TEST

/* A turn that the sample does not teach is not learned in other tokens either. */
START_TEST(unlearned)
{
    rt_chat teacher, student;
    rt_trace_sample s;
    rt_ids ids = { 0 }, spans = { 0 }, none = { 0 };
    rt_crossing *c;
    rt_crossing_counts counts = { 0 };
    make_chat(&teacher, THINKS, "What is it? It is 46 It is 46 and 12 and 12", "teacher");
    make_chat(&student, PLAIN, "12+34 =46 12+34 =46 is is text text", "student");
    make_sample(&s, &teacher, &ids, &spans, "12+34", "46");
    s.spans++, s.n_spans--;
    check_document(&student, &s, "{<think>\n12+34\n</think>\n46<|eot|>}");
    s.spans--;
    OK(rt_crossing_open(&c, "teacher", &student, RT_UNMATCHED_FIRST, &err));
    FAILS(rt_crossing_document(c, &s, true, &none, &none, &none, &counts, &err),
          "sample s/0: its response is not learned");
    rt_crossing_close(c);
    rt_soft_free(&s.soft);
    rt_ids_free(&ids);
    rt_ids_free(&spans);
    rt_chat_close(&teacher);
    rt_chat_close(&student);
}
END_TEST

static void write_archive(const char *path, const rt_chat *teacher, int32_t vocab,
                          const rt_trace_sample *s)
{
    rt_trace_manifest m;
    rt_trace_writer *w;
    rt_trace_manifest_init(&m);
    snprintf(m.teacher, sizeof m.teacher, "t");
    m.tokenizer_hash = rt_tokenizer_fingerprint(teacher->tokenizer);
    m.vocab_size = vocab;
    m.capture = (rt_soft_config){ .head_max = 1 };
    OK(rt_trace_open_append(&w, path, &m, &err) || rt_trace_append(w, s, &err) ||
       rt_trace_finish(w, &err) || rt_trace_close(w, &err));
}

/* Through a corpus; an archive whose ids are beyond the tokenizer that it names is refused. */
START_TEST(archives)
{
    rt_chat teacher, student;
    rt_trace_sample s;
    rt_ids ids = { 0 }, spans = { 0 };
    rt_corpus *c;
    rt_document doc = { 0 };
    const char *path = "a.traces", *lies = "b.traces";
    char *list[] = { "student", "teacher" };
    make_chat(&teacher, THINKS, "What is it? It is 46 It is 46 and 12 and 12", "teacher");
    make_chat(&student, PLAIN, "12+34 =46 12+34 =46 is is text text", "student");
    make_sample(&s, &teacher, &ids, &spans, "12+34", "46");
    int32_t vocab = rt_tokenizer_vocab(teacher.tokenizer);
    for (int64_t i = 0; i < s.soft.n; i++)
        s.soft.entropy[i] = 0;
    write_archive(path, &teacher, vocab, &s);
    ids.id[ids.n - 2] = s.soft.id[s.soft.n - 2] = vocab + 3;
    write_archive(lies, &teacher, vocab + 4, &s);
    rt_corpus_options o = { .chat = &student, .max_length = 200, .need_soft = true };
    FAILS(rt_corpus_open(&c, &path, 1, &o, &err), "--teacher-tokenizer TEACHER");
    o.teachers = (rt_strlist){ .item = list, .n = 1 };
    FAILS(rt_corpus_open(&c, &path, 1, &o, &err), "neither");
    o.teachers = (rt_strlist){ .item = list, .n = 2 };
    FAILS(rt_corpus_open(&c, &lies, 1, &o, &err), "vocab_size");
    OK(rt_corpus_open(&c, &path, 1, &o, &err));
    ck_assert_int_eq(rt_corpus_count(c), 1);
    OK(rt_corpus_get(c, 0, &doc, &err));
    ck_assert(doc.n_spans == 2 && doc.n == rt_corpus_tokens(c));
    ck_assert_int_eq(doc.token[doc.n - 1], rt_tokenizer_eos(student.tokenizer));
    ck_assert_int_eq(rt_document_soft(&doc)->n, doc.n - doc.soft_first);
    rt_document_free(&doc);
    rt_corpus_close(c);
    rt_soft_free(&s.soft);
    rt_ids_free(&ids);
    rt_ids_free(&spans);
    rt_chat_close(&teacher);
    rt_chat_close(&student);
}
END_TEST

/* ---- a model in another vocabulary --------------------------------------------------------------
 */

static int draw_rows(void *ctx, int i, float *host, rt_err *e)
{
    const rt_model *m = ctx;
    (void)e;
    rt_param_draw(&m->w.params, i, &m->cfg, 3, host);
    return 0;
}

static void small_config(rt_config *cfg, int64_t vocab, bool tied)
{
    cJSON *json = cJSON_Parse("{\"model_type\": \"llama\", \"num_hidden_layers\": 1, \"hidden_size\": 16,"
                              "\"num_attention_heads\": 2, \"num_key_value_heads\": 1,"
                              "\"intermediate_size\": 24, \"max_position_embeddings\": 64,"
                              "\"rms_norm_eps\": 1e-6}");
    rt_json_put_i64(json, "vocab_size", vocab);
    rt_json_put_bool(json, "tie_word_embeddings", tied);
    OK(rt_config_parse(cfg, json, "small", &err));
    cJSON_Delete(json);
}

/* Wanted of one token, by its text alone: the old token of that text or the mean of those it is cut in. */
static void check_new_row(const rt_chat *old, const rt_chat *new, int32_t id, const float *table,
                          int64_t rows, const float *got)
{
    rt_text text = { 0 };
    rt_ids ids = { 0 };
    double wanted[16] = { 0 };
    rt_str spelled = rt_tokenizer_token(new->tokenizer, id);
    int32_t named = rt_tokenizer_id(old->tokenizer, spelled.data ? spelled.data : "none");
    if (spelled.data && rt_tokenizer_type(new->tokenizer, id) == RT_TOKEN_CONTROL) {
        if (id == rt_tokenizer_eos(new->tokenizer))
            named = rt_tokenizer_eos(old->tokenizer);
        if (named >= 0)
            OK(rt_ids_add(&ids, named, &err));
    } else if (spelled.data && named >= 0) { /* byte-level on both sides: spelled the same */
        OK(rt_ids_add(&ids, named, &err));
    } else if (spelled.data) {
        OK(rt_tokenizer_decode(new->tokenizer, &id, 1, 0, &text, &err) ||
           rt_tokenizer_encode(old->tokenizer, text.data, text.bytes, RT_TOKENIZE_PLAIN, &ids, &err));
    }
    for (int64_t i = 0; !ids.n && i < rows; i++)
        for (int k = 0; k < 16; k++)
            wanted[k] += (double)table[i * 16 + k] / (double)rows;
    for (int64_t i = 0; i < ids.n; i++)
        for (int k = 0; k < 16; k++)
            wanted[k] += (double)table[ids.id[i] * 16 + k] / (double)ids.n;
    for (int k = 0; k < 16; k++)
        ck_assert_msg(fabs(wanted[k] - (double)got[k]) < 1e-7, "token %d \"%s\"", id,
                      spelled.data ? spelled.data : "none");
    rt_text_free(&text);
    rt_ids_free(&ids);
}

START_TEST(transplants)
{
    rt_chat old, new;
    rt_config cfg, next;
    rt_model before, after;
    rt_transplant t;
    bool tied = _i;
    make_chat(&old, THINKS, "What is it? It is 46 It is 46 and 12 and 12", "old");
    make_chat(&new, PLAIN, "12+34 =46 12+34 =46 is is text text", "new");
    small_config(&cfg, 320, tied);
    rt_model_init(&before, &cfg);
    OK(rt_model_save_rows(&before, "old", RT_F32, draw_rows, &before, &err) ||
       rt_transplant_open(&t, &next, "old", &new, &err));
    ck_assert_int_eq(next.vocab, 320); /* 270 or so, and padding */
    ck_assert_int_eq(next.eos[0], rt_tokenizer_eos(new.tokenizer));
    rt_model_init(&after, &next);
    ck_assert_int_eq(after.w.params.n, before.w.params.n);
    for (int i = 0; i < after.w.params.n; i++) {
        const rt_param *p = &after.w.params.item[i];
        int64_t n = rt_tensor_elements(p->slot), bytes = n * (int64_t)sizeof(float);
        float *had = calloc((size_t)rt_max(n, 16 * 320), sizeof *had), *got = calloc((size_t)n, sizeof *got);
        rt_param_draw(&before.w.params, i, &cfg, 3, had);
        OK(rt_transplant_rows(&t, &after, i, got, &err));
        if (p->slot == &after.w.embed || p->slot == &after.w.head)
            for (int32_t id = 0; id < next.vocab; id++)
                check_new_row(&old, &new, id, had, rt_tokenizer_vocab(old.tokenizer), got + 16 * id);
        else
            ck_assert(memcmp(had, got, (size_t)bytes) == 0);
        free(had);
        free(got);
    }
    ck_assert(t.kept > 250 && t.made > 0);
    rt_transplant_close(&t);
    rt_weights_free(NULL, &before.w);
    rt_weights_free(NULL, &after.w);
    rt_chat_close(&old);
    rt_chat_close(&new);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { groups, 1 },
                                 { pairs, RT_COUNT(NAMES) * RT_COUNT(NAMES) },
                                 { targets, 1 },
                                 { frequencies, 1 },
                                 { draws, 1 },
                                 { estimates, 1 },
                                 { documents, RT_COUNT(CROSSINGS) },
                                 { archives, 1 },
                                 { unlearned, 1 },
                                 { transplants, 2 } };
    return suite_run("crossing", NULL, tests, RT_COUNT(tests));
}
