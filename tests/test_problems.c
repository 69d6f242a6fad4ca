/* test_problems.c: an independent reader of what reasoning-problems prints: it understands the
   English, works the steps out itself, and verifies every digit step, the result of every step and
   the answer; and it must notice any digit that is changed. Also: the splits share no problem, the
   closed set of pre-tokens under PCRE2's reading of the Qwen2 pattern, the wording's distribution,
   and the bytes of a run. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/rng.h"
#include "tests/suite.h"

#define QWEN2                                                                                      \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "                          \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* ---- running the program -------------------------------------------------------------------- */

/* stdout of the program; free() it. */
static char *run_program(const char *flags, int64_t *bytes)
{
    char command[512];
    snprintf(command, sizeof command, "'%s/reasoning-problems' %s", RT_BINARY_DIR, flags);
    FILE *f = popen(command, "r");
    ck_assert_ptr_nonnull(f);
    size_t n = 0, cap = 1 << 16;
    char *data = malloc(cap);
    for (size_t got; (got = fread(data + n, 1, cap - n - 1, f)) > 0;) {
        n += got;
        if (n + 1 == cap)
            data = realloc(data, cap *= 2);
        ck_assert_ptr_nonnull(data);
    }
    data[n] = 0;
    ck_assert_msg(pclose(f) == 0, "%s failed", command);
    if (bytes)
        *bytes = (int64_t)n;
    return data;
}

typedef struct record {
    cJSON *json;
    const char *id, *prompt, *reasoning, *boxed, *answer, *family;
} record;

/* Parses the line at *at and moves on; false at the end. */
static bool next_record(record *r, char **at)
{
    char *end = strchr(*at, '\n');
    rt_err err = { { 0 }, 0 };
    if (!end)
        return false;
    *r = (record){ 0 };
    ck_assert_msg(!rt_json_parse(&r->json, *at, end - *at, "line", &err), "%s", err.text);
    const cJSON *messages = rt_json_find(r->json, "messages");
    r->id = cJSON_GetStringValue(rt_json_find(r->json, "id"));
    r->answer = cJSON_GetStringValue(rt_json_find(r->json, "answer"));
    r->family = cJSON_GetStringValue(rt_json_find(r->json, "family"));
    r->prompt = cJSON_GetStringValue(rt_json_find(r->json, "prompt"));
    if (messages) {
        const cJSON *user = cJSON_GetArrayItem(messages, 0);
        const cJSON *assistant = cJSON_GetArrayItem(messages, 1);
        r->prompt = cJSON_GetStringValue(rt_json_find(user, "content"));
        r->reasoning = cJSON_GetStringValue(rt_json_find(assistant, "reasoning_content"));
        r->boxed = cJSON_GetStringValue(rt_json_find(assistant, "content"));
        ck_assert(r->reasoning && r->boxed && cJSON_GetArraySize(messages) == 2);
    }
    ck_assert(r->id && r->prompt && r->answer && r->family);
    *at = end + 1;
    return true;
}

/* ---- understanding the English -------------------------------------------------------------- */

typedef struct work {
    int a[3], b[3], value[3], n;
    char op[3];
    char who[3][8]; /* whose sum a step of compare is, else "" */
    bool any_order; /* the first two steps may come in either order */
    char key[128];  /* numbers and operations */
} work;

static int add_work(work *w, int a, char op, int b)
{
    w->a[w->n] = a;
    w->op[w->n] = op;
    w->b[w->n] = b;
    w->who[w->n][0] = 0;
    return w->value[w->n++] = op == '+' ? a + b : op == '-' ? a - b : a * b;
}

/* Sentences of gain and loss up to the question; true when all is understood. */
static bool solve_changes(work *w, const char *s, const char *who, int have)
{
    while (strcmp(s, " How many now?")) {
        char name[8], verb[8], to[8];
        int n, used = 0;
        if (w->n == 3 || sscanf(s, " %7s %7[a-z] %d%n", name, verb, &n, &used) != 3 || !used ||
            strcmp(name, who))
            return false;
        s += used;
        bool get = !strcmp(verb, "gets"), give = !strcmp(verb, "gives");
        if (get || give) {
            used = 0;
            if (sscanf(s, get ? " from %7[A-Za-z]%n" : " to %7[A-Za-z]%n", to, &used) != 1 ||
                !strcmp(to, who))
                return false;
            s += used;
        }
        if (*s++ != '.')
            return false;
        bool up = get || !strcmp(verb, "finds") || !strcmp(verb, "buys");
        if (!up && !give && strcmp(verb, "loses") && strcmp(verb, "sells"))
            return false;
        have = add_work(w, have, up ? '+' : '-', n);
    }
    return w->n > 0;
}

/* together, units and compare say all in two sentences. */
static bool solve_fixed(work *w, const char *s)
{
    char who[8], other[8], x[8], y[8], z[8], u[8], word[8];
    int a, b, c, d, used = 0;
    if (sscanf(s, "%7s has %d %7[a-z]. %7s has %d %7[a-z]. How many together?%n", who, &a, x, other,
               &b, word, &used) == 6 &&
        used && !s[used]) {
        bool more = !strcmp(word, "more");
        if (!more && strcmp(word, "fewer"))
            return false;
        add_work(w, a, '+', add_work(w, a, more ? '+' : '-', b));
    } else if ((sscanf(
                    s,
                    "%7s travels %d weeks and %d days, then %d more days. How many days in all?%n",
                    who, &a, &b, &c, &used) == 4 ||
                sscanf(s,
                       "%7s works %d hours and %d minutes, then %d more minutes. How many minutes "
                       "in all?%n",
                       who, &a, &b, &c, &used) == 4) &&
               used && !s[used]) {
        bool weeks = strstr(s, "weeks") != NULL;
        if (b >= (weeks ? 7 : 60))
            return false;
        add_work(w, add_work(w, add_work(w, a, '*', weeks ? 7 : 60), '+', b), '+', c);
    } else if (sscanf(s,
                      "%7s has %d %7[a-z] and %d %7[a-z]. %7s has %d %7[a-z] and %d %7[a-z]. Who "
                      "has more, and how many more?%n",
                      who, &a, x, &b, y, other, &c, z, &d, u, &used) == 10 &&
               used && !s[used] && !strcmp(x, z) && !strcmp(y, u) && strcmp(x, y)) {
        int mine = add_work(w, a, '+', b), yours = add_work(w, c, '+', d);
        strcpy(w->who[0], who);
        strcpy(w->who[1], other);
        add_work(w, mine > yours ? mine : yours, '-', mine > yours ? yours : mine);
        w->any_order = true;
    } else {
        return false;
    }
    return true;
}

static bool solve(work *w, const char *prompt)
{
    *w = (work){ 0 };
    char who[8], object[8];
    int a, b, used = 0;
    bool ok;
    if (sscanf(prompt, "%7s has %d boxes with %d %7[a-z] in each.%n", who, &a, &b, object, &used) ==
            4 &&
        used)
        ok = solve_changes(w, prompt + used, who, add_work(w, a, '*', b));
    else if (strstr(prompt, "How many now?") &&
             sscanf(prompt, "%7s has %d %7[a-z].%n", who, &a, object, &used) == 3 && used)
        ok = solve_changes(w, prompt + used, who, a);
    else
        ok = solve_fixed(w, prompt);
    int n = 0;
    for (int i = 0; i < w->n; i++) {
        ok = ok && w->value[i] >= 2 && w->value[i] <= 999 && w->a[i] >= 2 && w->b[i] >= 2;
        n += snprintf(w->key + n, sizeof w->key - (size_t)n, "%d%c%d ", w->a[i], w->op[i], w->b[i]);
    }
    return ok;
}

/* ---- verifying a thought -------------------------------------------------------------------- */

/* Digits without a leading zero (unless 0 itself) at *s. */
static bool read_number(const char **s, int *n)
{
    int used = 0;
    if (**s < '0' || **s > '9' || (**s == '0' && (*s)[1] >= '0' && (*s)[1] <= '9') ||
        sscanf(*s, "%d%n", n, &used) != 1)
        return false;
    *s += used;
    return true;
}

/* One column: place i of a op b. *carry is what the column before left; *digit what it writes (two
   digits in the last column of a sum or product). True when every number is what it must be. */
static bool verify_column(const char **s, int a, char op, int b, int i, bool last, int *carry,
                          int *digit)
{
    int ten = i == 0 ? 1 : i == 1 ? 10 : 100, x = a / ten % 10, y = b / ten % 10, n, value;
    bool has_x = op == '*' || i == 0 || a >= ten, has_y = i == 0 || b >= ten;
    if (op == '*')
        x = a;
    if (has_x) {
        if (!read_number(s, &n) || n % 10 != x || (n != x && op != '-'))
            return false;
        x = n;
    }
    if (has_y && ((has_x && *(*s)++ != op) || !read_number(s, &n) || n != y))
        return false;
    value = !has_y ? x : !has_x ? y : op == '+' ? x + y : op == '-' ? x - y : x * y;
    if (op == '*') {
        if (*(*s)++ != '=' || !read_number(s, &n) || n != value)
            return false;
        if (*carry && (*(*s)++ != '+' || !read_number(s, &n) || n != *carry))
            return false;
        value += *carry;
    } else if (*carry) {
        if (*(*s)++ != op || *(*s)++ != '1')
            return false;
        value += op == '+' ? 1 : -1;
    }
    if (op != '*' || *carry)
        if (*(*s)++ != '=' || !read_number(s, &n) || n != value)
            return false;
    if (op == '-') {
        *carry = x > 9;
        *digit = value;
        return value >= 0 && value <= 9 && (x < 10 || x - 10 < y + 1) && !(last && *carry);
    }
    *carry = value / 10;
    *digit = last ? value : value % 10;
    return true;
}

/* "Opener[ Name] A op B:\n" columns " word R\n"; *s ends behind it. */
static bool verify_step(const char **s, int a, char op, int b, const char *name, int value)
{
    char head[64], want[64], opener[16], result[16];
    int used = 0, digit, carry = 0, total = 0, n;
    if (sscanf(*s, "%15[A-Za-z]%63[^\n]%n", opener, head, &used) != 2)
        return false;
    snprintf(want, sizeof want, *name ? " %s %d%c%d:" : "%s %d%c%d:", name, a, op, b);
    if (strcmp(head, want) || (*s)[used] != '\n')
        return false;
    *s += used + 1;
    int wide = op == '*' || b > a ? b : a;
    for (int i = 0, ten = 1; ten <= wide; i++, ten *= 10) {
        bool last = ten * 10 > wide;
        if (!verify_column(s, a, op, b, i, last, &carry, &digit))
            return false;
        total += digit * ten;
        if (!last && *(*s)++ != '\n')
            return false;
    }
    used = 0;
    if (sscanf(*s, " %15[a-z] %n", result, &used) != 1 || !used)
        return false;
    *s += used;
    return read_number(s, &n) && n == total && n == value && *(*s)++ == '\n';
}

static bool verify_thought(const work *given, const char *s)
{
    work w = *given;
    char name[8] = "", closing[16];
    int used = 0;
    if (w.any_order && sscanf(s, "%*s %7s", name) == 1 && strcmp(name, w.who[0])) {
        w.a[0] = given->a[1], w.b[0] = given->b[1], w.value[0] = given->value[1];
        w.a[1] = given->a[0], w.b[1] = given->b[0], w.value[1] = given->value[0];
        strcpy(w.who[0], given->who[1]);
        strcpy(w.who[1], given->who[0]);
    }
    for (int i = 0; i < w.n; i++)
        if (!verify_step(&s, w.a[i], w.op[i], w.b[i], w.who[i], w.value[i]))
            return false;
    return sscanf(s, "%15[A-Za-z].%n", closing, &used) == 1 && used && !s[used];
}

static bool verify_record(const record *r, const work *w)
{
    char boxed[32];
    snprintf(boxed, sizeof boxed, "\\boxed{%d}", w->value[w->n - 1]);
    return verify_thought(w, r->reasoning) && !strcmp(r->boxed, boxed) &&
           atoi(r->answer) == w->value[w->n - 1];
}

/* ---- tests ---------------------------------------------------------------------------------- */

START_TEST(every_trace_is_right_and_every_changed_digit_is_seen)
{
    static const char *const flags[] = { "--n 4000 --form trace",
                                         "--n 2000 --form trace --split heldout --seed 7",
                                         "--n 2000 --form trace --family compare --seed 3" };
    uint64_t draw = 0;
    for (int f = 0; f < RT_COUNT(flags); f++) {
        char *text = run_program(flags[f], NULL), *at = text;
        for (record r; next_record(&r, &at); cJSON_Delete(r.json)) {
            work w;
            ck_assert_msg(solve(&w, r.prompt), "not understood: %s", r.prompt);
            ck_assert_msg(verify_record(&r, &w), "%s\n%s\n%s", r.prompt, r.reasoning, r.boxed);
            char *wrong = strdup(r.reasoning);
            size_t i, n = strlen(wrong);
            do
                i = rt_rng_below(1, RT_RNG_DATA, draw++, (uint32_t)n);
            while (wrong[i] < '0' || wrong[i] > '9');
            wrong[i] = (char)('0' +
                              (wrong[i] - '0' + 1 + (int)rt_rng_below(2, RT_RNG_DATA, draw++, 9)) %
                                  10);
            ck_assert_msg(!verify_thought(&w, wrong), "not noticed: %s\n%s", r.prompt, wrong);
            strcpy(wrong, r.reasoning); /* and a line left out */
            char *line = wrong;
            for (uint32_t k = rt_rng_below(3, RT_RNG_DATA, draw++, 4); k && strchr(line, '\n'); k--)
                line = strchr(line, '\n') + 1;
            char *next = strchr(line, '\n');
            memmove(line, next ? next + 1 : line + strlen(line), next ? strlen(next + 1) + 1 : 1);
            ck_assert_msg(!verify_thought(&w, wrong), "not noticed: %s\n%s", r.prompt, wrong);
            free(wrong);
        }
        free(text);
    }
}
END_TEST

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted keys of a run; n are expected, all different. */
static char **run_keys(const char *flags, int n)
{
    char **key = malloc((size_t)n * sizeof *key), *text = run_program(flags, NULL), *at = text;
    int k = 0;
    for (record r; next_record(&r, &at); cJSON_Delete(r.json)) {
        work w;
        ck_assert_msg(k < n && solve(&w, r.prompt), "%s", r.prompt);
        key[k++] = strdup(w.key);
    }
    free(text);
    ck_assert_int_eq(k, n);
    qsort(key, (size_t)n, sizeof *key, compare_text);
    for (int i = 1; i < n; i++)
        ck_assert_msg(strcmp(key[i - 1], key[i]), "twice in one run: %s", key[i]);
    return key;
}

START_TEST(splits_share_no_problem)
{
    enum { N = 8000 };
    char **train[] = { run_keys("--n 8000", N), run_keys("--n 8000 --seed 2", N) };
    char **held[] = { run_keys("--n 8000 --split heldout", N),
                      run_keys("--n 8000 --split heldout --seed 5", N) };
    int common = 0;
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < N; i++) {
            for (int h = 0; h < 2; h++)
                ck_assert_msg(!bsearch(&train[t][i], held[h], N, sizeof(char *), compare_text),
                              "in both splits: %s", train[t][i]);
            common += t && bsearch(&train[t][i], train[0], N, sizeof(char *), compare_text);
        }
    ck_assert_int_gt(common, 0); /* or the search above could find nothing */
    for (int i = 0; i < N; i++)
        for (int k = 0; k < 2; k++) {
            free(train[k][i]);
            free(held[k][i]);
        }
    for (int k = 0; k < 2; k++) {
        free(train[k]);
        free(held[k]);
    }
}
END_TEST

typedef struct word_set {
    char *word[400];
    int64_t seen[400];
    int n;
} word_set;

static int find_word(const word_set *set, const char *word, size_t bytes)
{
    for (int i = 0; i < set->n; i++)
        if (strlen(set->word[i]) == bytes && !memcmp(set->word[i], word, bytes))
            return i;
    return -1;
}

/* Pre-tokens of text by PCRE2, each counted in set; one outside it fails. */
static int split_text(pcre2_code *code, pcre2_match_data *match, word_set *set, const char *text)
{
    size_t bytes = strlen(text), at = 0;
    int n = 0;
    for (; at < bytes; n++) {
        ck_assert_int_gt(pcre2_match(code, (PCRE2_SPTR)text, bytes, at, 0, match, NULL), 0);
        const size_t *span = pcre2_get_ovector_pointer(match);
        ck_assert_uint_eq(span[0], at);
        int i = find_word(set, text + at, span[1] - at);
        ck_assert_msg(i >= 0, "not in --words: '%.*s'", (int)(span[1] - at), text + at);
        set->seen[i]++;
        at = span[1];
    }
    return n;
}

static void read_words(word_set *set)
{
    char *text = run_program("--words", NULL);
    rt_err err = { { 0 }, 0 };
    set->n = 0;
    for (char *at = text, *end; (end = strchr(at, '\n')); at = end + 1) {
        cJSON *json;
        ck_assert_msg(!rt_json_parse(&json, at, end - at, "--words", &err), "%s", err.text);
        const char *word = cJSON_GetStringValue(rt_json_find(json, "text"));
        ck_assert_msg(word && find_word(set, word, strlen(word)) < 0, "twice: %s", at);
        ck_assert_int_lt(set->n, RT_COUNT(set->word));
        set->word[set->n] = strdup(word);
        set->seen[set->n++] = 0;
        cJSON_Delete(json);
    }
    free(text);
}

/* Counts all pre-tokens of a run and compares the mean with what --stats prints. */
static void count_run(pcre2_code *code, pcre2_match_data *match, word_set *set, const char *flags)
{
    char line[256], *text, *at;
    snprintf(line, sizeof line, "%s --form trace", flags);
    at = text = run_program(line, NULL);
    int64_t tokens = 0, n = 0;
    for (record r; next_record(&r, &at); cJSON_Delete(r.json), n++) {
        char whole[2048]; /* the markers between these texts are one token each, 5 in all */
        tokens += 5 + split_text(code, match, set, r.prompt);
        snprintf(whole, sizeof whole, "\n%s\n", r.reasoning);
        tokens += split_text(code, match, set, whole);
        snprintf(whole, sizeof whole, "\n%s", r.boxed);
        tokens += split_text(code, match, set, whole);
    }
    free(text);
    snprintf(line, sizeof line, "%s --stats", flags);
    text = run_program(line, NULL);
    double steps, prompt, response, mean;
    long long problems;
    ck_assert_int_eq(sscanf(strstr(text, "\nall "), " all %lld %lf %lf %lf %lf", &problems, &steps,
                            &prompt, &response, &mean),
                     5);
    ck_assert_int_eq(problems, n);
    ck_assert_double_le(fabs(mean - (double)tokens / (double)n), 0.00501);
    free(text);
}

START_TEST(words_are_closed_and_all_used)
{
    word_set set;
    int code_err;
    PCRE2_SIZE where;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)QWEN2, PCRE2_ZERO_TERMINATED,
                                     PCRE2_UTF | PCRE2_UCP, &code_err, &where, NULL);
    ck_assert_ptr_nonnull(code);
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(code, NULL);
    read_words(&set);
    count_run(code, match, &set, "--n 3000");
    count_run(code, match, &set, "--n 300 --family compare");
    for (int i = 0; i < set.n; i++) {
        ck_assert_msg(set.seen[i] > 0, "in --words but never seen: '%s'", set.word[i]);
        free(set.word[i]);
    }
    pcre2_match_data_free(match);
    pcre2_code_free(code);
}
END_TEST

static int descending(const void *a, const void *b) { return *(const int *)b - *(const int *)a; }

/* The first words of 12000 thoughts: 12 openers with p proportional to rank^-0.3, within 5 sigma.
 */
START_TEST(openers_follow_their_ranks)
{
    enum { N = 12000 };
    char *text = run_program("--n 12000 --form trace", NULL), *at = text;
    word_set set;
    int count[64] = { 0 };
    set.n = 0;
    for (record r; next_record(&r, &at); cJSON_Delete(r.json)) {
        size_t n = strcspn(r.reasoning, " ");
        int i = find_word(&set, r.reasoning, n);
        if (i < 0) {
            ck_assert_int_lt(set.n, 12);
            i = set.n++;
            set.word[i] = strndup(r.reasoning, n);
        }
        count[i]++;
    }
    free(text);
    ck_assert_int_eq(set.n, 12);
    qsort(count, 12, sizeof *count, descending);
    double total = 0;
    for (int i = 0; i < 12; i++)
        total += pow(i + 1, -0.3);
    for (int i = 0; i < 12; i++) {
        double p = pow(i + 1, -0.3) / total;
        ck_assert_double_le(fabs(count[i] - N * p), 5 * sqrt(N * p * (1 - p)));
        free(set.word[i]);
    }
}
END_TEST

START_TEST(a_run_is_its_flags)
{
    int64_t bytes, head_bytes;
    char *text = run_program("--n 1000 --form trace --seed 42", &bytes);
    char *head = run_program("--n 100 --form trace --seed 42", &head_bytes);
    ck_assert_int_lt(head_bytes, bytes);
    ck_assert_mem_eq(text, head, (size_t)head_bytes);
    ck_assert_str_eq(rt_hash_bytes(text, bytes).hex, "2a52728bb90feeebd5da19eca8151b7e");
    free(head);
    head = run_program("--n 1000 --seed 42", NULL);
    char *a = text, *b = head;
    for (record r, s; next_record(&r, &a) && next_record(&s, &b);) {
        ck_assert_str_eq(r.id, s.id);
        ck_assert_str_eq(r.prompt, s.prompt);
        ck_assert_str_eq(r.answer, s.answer);
        ck_assert(!s.reasoning);
        cJSON_Delete(r.json);
        cJSON_Delete(s.json);
    }
    ck_assert(!*a && !*b);
    free(text);
    free(head);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { every_trace_is_right_and_every_changed_digit_is_seen, 1 },
                                 { splits_share_no_problem, 1 },
                                 { words_are_closed_and_all_used, 1 },
                                 { openers_follow_their_ranks, 1 },
                                 { a_run_is_its_flags, 1 } };
    return suite_run("problems", NULL, tests, RT_COUNT(tests));
}
