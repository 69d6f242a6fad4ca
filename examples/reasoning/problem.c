/* problem.c: the five families and their thoughts; the tables of words are the whole vocabulary.
   Every draw is a pure function of (seed, index, attempt, count), by core/base/rng.h. */
#include "examples/reasoning/problem.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/err.h"
#include "core/base/rng.h"

static const char *const names[] = { "Ann", "Ben", "Cal", "Dan", "Eva", "Fay",
                                     "Gus", "Ida", "Jon", "Kim", "Leo", "Mia" };
static const char *const objects[] = { "pears", "figs",  "nuts", "eggs", "pens",  "cups",
                                       "coins", "cards", "keys", "hats", "beads", "stamps" };
static const char *const openers[] = { "Now",  "So",   "Next", "Then", "Well",  "Okay",
                                       "Here", "Take", "Let",  "See",  "Right", "Hmm" };
static const char *const results[] = {
    "makes", "gives", "so", "is", "thus", "then", "now", "hence"
};
static const char *const closings[] = { "Done",  "Good",   "Great", "Fine",
                                        "Ready", "Solved", "Nice",  "Easy" };
static const char *const finds[] = { "finds", "buys", "gets" };   /* gets N from NAME */
static const char *const loses[] = { "loses", "sells", "gives" }; /* gives N to NAME */

/* Every other pre-token of prompts and traces; leading spaces belong to words. */
static const char *const fixed_words[] = {
    "0",      "1",        "2",      "3",      "4",         "5",       "6",        "7",      "8",
    "9",      " ",        "\n",     "+",      "-",         "*",       "=",        ":\n",    ".",
    ".\n",    ",",        "?",      "{",      "}",         "\\boxed", " has",     " finds", " buys",
    " gets",  " from",    " loses", " sells", " to",       " boxes",  " with",    " in",    " each",
    " How",   " how",     " many",  " more",  " fewer",    " works",  " travels", " weeks", " days",
    " hours", " minutes", " and",   " all",   " together", " Who"
};

/* 1000 * (1 .. 12)^-0.3: integers, so that no libm decides a draw. */
static const uint32_t rank_weight[] = {
    1000, 812, 719, 660, 617, 584, 558, 536, 517, 501, 487, 475
};

const char *const rt_family_names[] = { "chain", "together", "boxes", "units", "compare" };
static const uint32_t family_weight[] = { 4, 2, 3, 2, 0 };

/* A site of random numbers: draws 0, 1, ... of one attempt at one problem. */
typedef struct draws {
    uint64_t seed, base;
    uint32_t used;
} draws;

enum { WORDING_ATTEMPT = 60000, FAMILY_ATTEMPT }; /* sites beyond every attempt */

static void put(rt_line *t, const char *fmt, ...) RT_PRINTF(2, 3);
static void put(rt_line *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->data + t->bytes, (size_t)(RT_PROBLEM_TEXT_MAX - t->bytes), fmt, ap);
    va_end(ap);
    if (n < 0 || n >= RT_PROBLEM_TEXT_MAX - t->bytes)
        rt_bug("problems: a text of more than %d bytes", RT_PROBLEM_TEXT_MAX);
    t->bytes += n;
}

/* ---- draws ---------------------------------------------------------------------------------- */

static int draw_below(draws *d, int n)
{
    if (d->used > 255)
        rt_bug("problems: more than 256 draws for one problem");
    return (int)rt_rng_below(d->seed, RT_RNG_DATA, d->base + d->used++, (uint32_t)n);
}

static draws draws_at(int64_t seed, int64_t index, int attempt)
{
    return (draws){ (uint64_t)seed, ((uint64_t)index << 24) | ((uint64_t)attempt << 8), 0 };
}

/* lo .. hi; 2 times in 5 without a third digit. */
static int draw_number(draws *d, int lo, int hi)
{
    if (draw_below(d, 5) < 2 && lo <= 99 && hi > 99)
        hi = 99;
    return lo + draw_below(d, hi - lo + 1);
}

static const char *draw_other(draws *d, const char *const *list, int n, const char *not_this)
{
    const char *word = list[draw_below(d, n)];
    return word == not_this ? draw_other(d, list, n, not_this) : word;
}

/* One of n words by rank; its information and the expected one are added to p. */
static const char *draw_wording(rt_problem *p, draws *d, const char *const *list, int n)
{
    uint32_t total = 0, k = 0;
    for (int i = 0; i < n; i++)
        total += rank_weight[i];
    for (int i = 0; i < n; i++)
        p->entropy_nats += rank_weight[i] * log((double)total / rank_weight[i]) / total;
    uint32_t at = (uint32_t)draw_below(d, (int)total);
    while (at >= rank_weight[k])
        at -= rank_weight[k++];
    p->nats += log((double)total / rank_weight[k]);
    return list[k];
}

/* ---- problems ------------------------------------------------------------------------------- */

static int step_result(const rt_step *s)
{
    return s->op == '+' ? s->a + s->b : s->op == '-' ? s->a - s->b : s->a * s->b;
}

static int add_step(rt_problem *p, int a, char op, int b)
{
    rt_step *s = &p->step[p->n_steps++];
    *s = (rt_step){ a, b, op, NULL };
    return step_result(s);
}

/* One gain or loss of `who`: its sentence, its step, what there is after it. */
static int draw_change(rt_problem *p, draws *d, const char *who, int have)
{
    bool up = draw_below(d, 2) == 0;
    up = have < 4 || (up && have <= 997);
    int n = draw_number(d, 2, up ? 999 - have : have - 2), verb = draw_below(d, RT_COUNT(finds));
    put(&p->prompt, " %s %s %d", who, up ? finds[verb] : loses[verb], n);
    if (verb == 2)
        put(&p->prompt, " %s %s", up ? "from" : "to", draw_other(d, names, RT_COUNT(names), who));
    put(&p->prompt, ".");
    put(&p->key, " %c %d", up ? '+' : '-', n);
    return add_step(p, have, up ? '+' : '-', n);
}

static int draw_chain(rt_problem *p, draws *d, const char *who)
{
    int have = draw_number(d, 2, 999), changes = 2 + draw_below(d, 2);
    put(&p->prompt, "%s has %d %s.", who, have, objects[draw_below(d, RT_COUNT(objects))]);
    put(&p->key, " %d", have);
    for (int i = 0; i < changes; i++)
        have = draw_change(p, d, who, have);
    put(&p->prompt, " How many now?");
    return have;
}

static int draw_together(rt_problem *p, draws *d, const char *who)
{
    int a = draw_number(d, 4, 497);
    bool more = draw_below(d, 2) == 0;
    int b = draw_number(d, 2, more ? 999 - 2 * a : a - 2);
    put(&p->prompt, "%s has %d %s. %s has %d %s. How many together?", who, a,
        objects[draw_below(d, RT_COUNT(objects))], draw_other(d, names, RT_COUNT(names), who), b,
        more ? "more" : "fewer");
    put(&p->key, " %d %c %d", a, more ? '+' : '-', b);
    return add_step(p, a, '+', add_step(p, a, more ? '+' : '-', b));
}

static int draw_boxes(rt_problem *p, draws *d, const char *who)
{
    int boxes = 2 + draw_below(d, 8), each = 11 + draw_below(d, 89);
    put(&p->prompt, "%s has %d boxes with %d %s in each.", who, boxes, each,
        objects[draw_below(d, RT_COUNT(objects))]);
    put(&p->key, " %d * %d", boxes, each);
    int have = draw_change(p, d, who, add_step(p, boxes, '*', each));
    put(&p->prompt, " How many now?");
    return have;
}

static int draw_units(rt_problem *p, draws *d, const char *who)
{
    bool weeks = draw_below(d, 2) == 0;
    int large = 2 + draw_below(d, 8), small = 2 + draw_below(d, weeks ? 5 : 58);
    int more = draw_number(d, 2, 400), each = weeks ? 7 : 60;
    const char *unit = weeks ? "days" : "minutes";
    put(&p->prompt, "%s %s %d %s and %d %s, then %d more %s. How many %s in all?", who,
        weeks ? "travels" : "works", large, weeks ? "weeks" : "hours", small, unit, more, unit,
        unit);
    put(&p->key, " %d * %d %d %d", large, each, small, more);
    int first = add_step(p, large, '*', each);
    return add_step(p, add_step(p, first, '+', small), '+', more);
}

static int draw_compare(rt_problem *p, draws *d, const char *who)
{
    const char *other = draw_other(d, names, RT_COUNT(names), who);
    const char *x = objects[draw_below(d, RT_COUNT(objects))];
    const char *y = draw_other(d, objects, RT_COUNT(objects), x);
    int n[4], mine, yours;
    do {
        for (int i = 0; i < 4; i++)
            n[i] = draw_number(d, 2, 497);
        mine = n[0] + n[1];
        yours = n[2] + n[3];
    } while (abs(mine - yours) < 2);
    put(&p->prompt,
        "%s has %d %s and %d %s. %s has %d %s and %d %s. Who has more, and how many more?", who,
        n[0], x, n[1], y, other, n[2], x, n[3], y);
    int first = mine > yours ? 0 : 2; /* the key does not depend on who is named first */
    put(&p->key, " %d %d %d %d", n[first], n[first + 1], n[2 - first], n[3 - first]);
    int turned = draw_below(d, 2); /* free: whose sum comes first in the thought */
    p->nats += log(2);
    p->entropy_nats += log(2);
    for (int i = 0; i < 2; i++) {
        int at = 2 * (i ^ turned);
        add_step(p, n[at], '+', n[at + 1]);
        p->step[i].name = at ? other : who;
    }
    return add_step(p, mine > yours ? mine : yours, '-', mine > yours ? yours : mine);
}

static rt_family draw_family(draws *d)
{
    uint32_t total = 0, k = 0;
    for (int i = 0; i < RT_FAMILIES; i++)
        total += family_weight[i];
    uint32_t at = (uint32_t)draw_below(d, (int)total);
    while (at >= family_weight[k])
        at -= family_weight[k++];
    return (rt_family)k;
}

void rt_problem_draw(rt_problem *p, int64_t seed, int64_t index, int attempt, rt_family family)
{
    static int (*const draw[])(rt_problem *, draws *, const char *) = { draw_chain, draw_together,
                                                                        draw_boxes, draw_units,
                                                                        draw_compare };
    draws d = draws_at(seed, index, FAMILY_ATTEMPT);
    if (family == RT_FAMILIES) /* once an index, so that rejections do not bend the mix */
        family = draw_family(&d);
    d = draws_at(seed, index, attempt);
    *p = (rt_problem){ 0 };
    p->family = family;
    put(&p->key, "%s", rt_family_names[family]);
    p->answer = draw[family](p, &d, names[draw_below(&d, RT_COUNT(names))]);
}

/* ---- thoughts ------------------------------------------------------------------------------- */

static int count_digits(int n) { return n > 99 ? 3 : n > 9 ? 2 : 1; }

static int digit_at(int n, int place)
{
    while (place-- > 0)
        n /= 10;
    return n % 10;
}

/* "5+7=12\n9+1+1=11": a column of one digit and no carry is "4=4". */
static void put_sum(rt_line *t, int a, int b)
{
    int na = count_digits(a), nb = count_digits(b), carry = 0;
    for (int i = 0; i < (na > nb ? na : nb); i++) {
        int x = digit_at(a, i), y = digit_at(b, i), sum = x + y + carry;
        put(t, i ? "\n" : "");
        if (i < na)
            put(t, "%d", x);
        if (i < nb)
            put(t, i < na ? "+%d" : "%d", y);
        put(t, carry ? "+1=%d" : "=%d", sum);
        carry = sum / 10;
    }
}

/* "10-7=3\n8-1-1=6\n4=4": the borrow is taken in the column that needs it, repaid in the next. */
static void put_difference(rt_line *t, int a, int b)
{
    int na = count_digits(a), nb = count_digits(b), borrow = 0;
    for (int i = 0; i < na; i++) {
        int x = digit_at(a, i), y = digit_at(b, i) + borrow, top = x < y ? x + 10 : x;
        put(t, i ? "\n%d" : "%d", top);
        if (i < nb)
            put(t, "-%d", y - borrow);
        put(t, borrow ? "-1=%d" : "=%d", top - y);
        borrow = x < y;
    }
}

/* a has one digit: "8*4=32\n8*4=32+3=35". */
static void put_product(rt_line *t, int a, int b)
{
    int carry = 0;
    for (int i = 0; i < count_digits(b); i++) {
        int y = digit_at(b, i), product = a * y;
        put(t, i ? "\n%d*%d=%d" : "%d*%d=%d", a, y, product);
        if (carry)
            put(t, "+%d=%d", carry, product + carry);
        carry = (product + carry) / 10;
    }
}

void rt_problem_word(rt_problem *p, int64_t seed, int64_t index)
{
    draws site = draws_at(seed, index, WORDING_ATTEMPT), *d = &site;
    rt_line *t = &p->reasoning;
    for (int i = 0; i < p->n_steps; i++) {
        const rt_step *s = &p->step[i];
        put(t, "%s", draw_wording(p, d, openers, RT_COUNT(openers)));
        if (s->name)
            put(t, " %s", s->name);
        put(t, " %d%c%d:\n", s->a, s->op, s->b);
        if (s->op == '+')
            put_sum(t, s->a, s->b);
        else if (s->op == '-')
            put_difference(t, s->a, s->b);
        else
            put_product(t, s->a, s->b);
        put(t, " %s %d\n", draw_wording(p, d, results, RT_COUNT(results)), step_result(s));
    }
    put(t, "%s.", draw_wording(p, d, closings, RT_COUNT(closings)));
}

/* ---- pre-tokens ----------------------------------------------------------------------------- */

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_sign(char c) { return c > ' ' && !is_letter(c) && !is_digit(c); }

/* Bytes of the pre-token at s (not empty) under the Qwen2 pattern, for ASCII without apostrophes.
 */
static int pretoken_bytes(const char *s)
{
    int n = 0;
    if (is_letter(s[0]) || (is_letter(s[1]) && s[0] != '\n' && !is_digit(s[0]))) {
        for (n = 1; is_letter(s[n]);)
            n++;
        return n;
    }
    if (is_digit(s[0]))
        return 1;
    n = s[0] == ' ';
    if (is_sign(s[n])) {
        while (is_sign(s[n]))
            n++;
        while (s[n] == '\n')
            n++;
        return n;
    }
    int newline = 0;
    for (n = 0; s[n] == ' ' || s[n] == '\n'; n++)
        newline = s[n] == '\n' ? n + 1 : newline;
    return newline ? newline : s[n] && n > 1 ? n - 1 : n;
}

int rt_pretoken_count(const char *text)
{
    int n = 0;
    for (; *text; text += pretoken_bytes(text))
        n++;
    return n;
}

static void emit_list(void (*emit)(const char *), const char *space, const char *const *list, int n)
{
    for (int i = 0; i < n; i++) {
        rt_line t = { { 0 }, 0 };
        put(&t, "%s%s", space, list[i]);
        emit(t.data);
    }
}

void rt_problem_words(void (*emit)(const char *word))
{
    emit_list(emit, "", fixed_words, RT_COUNT(fixed_words));
    emit_list(emit, "", names, RT_COUNT(names));
    emit_list(emit, " ", names, RT_COUNT(names));
    emit_list(emit, " ", objects, RT_COUNT(objects));
    emit_list(emit, "", openers, RT_COUNT(openers));
    emit_list(emit, " ", results, RT_COUNT(results));
    emit_list(emit, "", closings, RT_COUNT(closings));
}
