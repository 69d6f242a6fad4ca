/* exact.c: schoolbook arithmetic in base 10^9, fractions that are never reduced (equality is a
   difference of 0), and square roots told apart by: sqrt(n) and sqrt(m) are multiples of each other
   exactly when n / gcd and m / gcd are squares; roots that are not are linearly independent. */
#include "corpora/verify/exact.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

#define BASE UINT32_C(1000000000)

typedef rt_natural natural;

/* ---- the pool ------------------------------------------------------------------------------- */

static void *take(rt_exact *p, int64_t n, int64_t each)
{
    struct block {
        struct block *next;
        uint64_t data[];
    } *b = rt_alloc(1, (int64_t)sizeof *b + n * each, "an answer's numbers");
    b->next = p->block;
    p->block = b;
    return b->data;
}

void rt_exact_free(rt_exact *p)
{
    for (void *next; p->block; p->block = next) {
        memcpy(&next, p->block, sizeof next);
        free(p->block);
    }
}

/* false, and the pool failed, when the budget does not cover it. */
static bool spend(rt_exact *p, int64_t units)
{
    p->failed |= units > p->budget;
    p->budget -= p->failed ? 0 : units;
    return !p->failed;
}

/* ---- natural numbers ------------------------------------------------------------------------ */

static natural trim(natural a)
{
    while (a.n && a.limb[a.n - 1] == 0)
        a.n--;
    return a;
}

/* Room for n limbs of zero; no limbs where that is beyond the budget. */
static natural zeros(rt_exact *p, int64_t n)
{
    natural a = { NULL, 0 };
    if (!spend(p, n))
        return a;
    a.limb = take(p, n, (int64_t)sizeof *a.limb);
    a.n = n;
    return a;
}

static natural small(rt_exact *p, uint64_t value)
{
    natural a = zeros(p, 3);
    for (int64_t i = 0; i < a.n; i++, value /= BASE)
        a.limb[i] = (uint32_t)(value % BASE);
    return trim(a);
}

static natural read_digits(rt_exact *p, const char *digits, int64_t n)
{
    natural a = zeros(p, n / 9 + 1);
    for (int64_t i = 0; a.n && i < n; i++) {
        uint32_t *limb = &a.limb[(n - 1 - i) / 9];
        *limb = *limb * 10 + (uint32_t)(digits[i] - '0');
    }
    return trim(a);
}

static int compare(natural a, natural b)
{
    if (a.n != b.n)
        return a.n < b.n ? -1 : 1;
    for (int64_t i = a.n - 1; i >= 0; i--)
        if (a.limb[i] != b.limb[i])
            return a.limb[i] < b.limb[i] ? -1 : 1;
    return 0;
}

/* a + b, or a - b for a >= b */
static natural add(rt_exact *p, natural a, natural b, bool minus)
{
    int64_t carry = 0;
    natural c = zeros(p, rt_max(a.n, b.n) + 1);
    for (int64_t i = 0; i < c.n; i++) {
        int64_t y = i < b.n ? b.limb[i] : 0;
        carry += (i < a.n ? a.limb[i] : 0) + (minus ? -y : y);
        c.limb[i] = (uint32_t)((carry + BASE) % BASE);
        carry = (carry + BASE) / BASE - 1;
    }
    return trim(c);
}

static natural multiply(rt_exact *p, natural a, natural b)
{
    natural c = { NULL, 0 };
    int64_t work;
    if (!rt_mul_ok(a.n, b.n, &work) || !spend(p, work))
        p->failed = true;
    else
        c = zeros(p, a.n + b.n);
    for (int64_t i = 0; c.n && i < a.n; i++) {
        uint64_t carry = 0;
        for (int64_t k = 0; k < b.n || carry; k++) {
            carry += c.limb[i + k] + (k < b.n ? (uint64_t)a.limb[i] * b.limb[k] : 0);
            c.limb[i + k] = (uint32_t)(carry % BASE);
            carry /= BASE;
        }
    }
    return trim(c);
}

static natural ten_to(rt_exact *p, int64_t e)
{
    natural a = zeros(p, e / 9 + 1);
    if (a.n)
        a.limb[a.n - 1] = 1;
    for (int64_t i = 0; a.n && i < e % 9; i++)
        a.limb[a.n - 1] *= 10;
    return a;
}

static bool to_u64(natural a, uint64_t *out)
{
    *out = 0;
    for (int64_t i = a.n - 1; i >= 0; i--)
        if (__builtin_mul_overflow(*out, (uint64_t)BASE, out) ||
            __builtin_add_overflow(*out, (uint64_t)a.limb[i], out))
            return false;
    return true;
}

static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

static bool is_square(uint64_t n, uint64_t *root)
{
    uint64_t r = 0;
    for (uint64_t bit = UINT64_C(1) << 31; bit; bit >>= 1)
        if ((r | bit) * (r | bit) <= n)
            r |= bit;
    *root = r;
    return r * r == n;
}

/* ---- terms ---------------------------------------------------------------------------------- */

static bool same_letters(const rt_term *a, const rt_term *b)
{
    bool same = a->n_factors == b->n_factors;
    for (int i = 0; same && i < a->n_factors; i++)
        same = a->factor[i].power == b->factor[i].power &&
               a->factor[i].bytes == b->factor[i].bytes &&
               memcmp(a->factor[i].name, b->factor[i].name, (size_t)a->factor[i].bytes) == 0;
    return same;
}

static int compare_names(const rt_factor *a, const rt_factor *b)
{
    int order = memcmp(a->name, b->name, (size_t)rt_min(a->bytes, b->bytes));
    return order ? order : (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

/* f^power into t, sorted by name; powers of 0 go. */
static void put_factor(rt_exact *p, rt_term *t, rt_factor f)
{
    int at = 0, order = -1;
    while (at < t->n_factors && (order = compare_names(&t->factor[at], &f)) < 0)
        at++;
    bool there = at < t->n_factors && order == 0;
    if (there && (t->factor[at].power += f.power) != 0)
        return;
    if (!there && (t->n_factors == RT_TERM_FACTORS || rt_max(f.power, -f.power) > 1000000)) {
        p->failed = true;
        return;
    }
    memmove(&t->factor[at + !there], &t->factor[at + there],
            (size_t)(t->n_factors - at - there) * sizeof f);
    t->n_factors += there ? -1 : 1;
    if (!there)
        t->factor[at] = f;
}

static rt_term multiply_terms(rt_exact *p, const rt_term *a, const rt_term *b)
{
    rt_term t = *a;
    uint64_t g = gcd(a->radicand, b->radicand), root;
    t.minus = a->minus != b->minus;
    t.num = multiply(p, multiply(p, a->num, b->num), small(p, g));
    t.den = multiply(p, a->den, b->den);
    if (__builtin_mul_overflow(a->radicand / g, b->radicand / g, &t.radicand))
        p->failed = true;
    if (is_square(t.radicand, &root)) {
        t.num = multiply(p, t.num, small(p, root));
        t.radicand = 1;
    }
    for (int i = 0; i < b->n_factors; i++)
        put_factor(p, &t, b->factor[i]);
    return t;
}

/* The sum of two terms into a, when they are multiples of each other by a fraction. */
static bool join(rt_exact *p, rt_term *a, const rt_term *b)
{
    uint64_t g = gcd(a->radicand, b->radicand), s, t;
    if (!same_letters(a, b) || !is_square(b->radicand / g, &s) || !is_square(a->radicand / g, &t))
        return false;
    natural x = multiply(p, a->num, small(p, t)), y = multiply(p, b->num, small(p, s));
    natural den = multiply(p, a->den, small(p, t)); /* sqrt(b) = s / t * sqrt(a) */
    if (compare(a->den, b->den) != 0) {
        x = multiply(p, x, b->den);
        y = multiply(p, y, a->den);
        den = multiply(p, den, b->den);
    }
    int order = compare(x, y);
    if (a->minus == b->minus) {
        a->num = add(p, x, y, false);
    } else {
        a->num = order < 0 ? add(p, y, x, true) : add(p, x, y, true);
        a->minus = order < 0 ? b->minus : a->minus;
    }
    a->den = den;
    return true;
}

static rt_sum one_term(rt_exact *p, rt_term t)
{
    rt_sum a = { take(p, 1, (int64_t)sizeof t), t.num.n > 0 };
    p->failed |= t.den.n == 0;
    a.term[0] = t;
    return a;
}

/* ---- sums ----------------------------------------------------------------------------------- */

rt_sum rt_sum_decimal(rt_exact *p, const char *digits, int64_t n, int64_t scale)
{
    rt_term t = { read_digits(p, digits, n), ten_to(p, scale), false, 1, { { 0 } }, 0 };
    return one_term(p, t);
}

rt_sum rt_sum_letter(rt_exact *p, const char *name, int64_t bytes)
{
    return one_term(p, (rt_term){ small(p, 1), small(p, 1), false, 1, { { name, bytes, 1 } }, 1 });
}

rt_sum rt_sum_add(rt_exact *p, rt_sum a, rt_sum b, bool minus)
{
    rt_sum c = { NULL, 0 };
    if (!spend(p, a.n + b.n + 1))
        return c;
    c.term = take(p, a.n + b.n, (int64_t)sizeof *c.term);
    for (int i = 0; i < a.n + b.n; i++) {
        rt_term t = i < a.n ? a.term[i] : b.term[i - a.n];
        t.minus ^= i >= a.n && minus;
        int k = 0;
        while (k < c.n && !join(p, &c.term[k], &t))
            k++;
        if (k == c.n)
            c.term[c.n++] = t;
        else if (c.term[k].num.n == 0)
            c.term[k] = c.term[--c.n];
    }
    p->failed |= c.n > RT_SUM_TERMS;
    return p->failed ? (rt_sum){ NULL, 0 } : c;
}

rt_sum rt_sum_multiply(rt_exact *p, rt_sum a, rt_sum b)
{
    rt_sum c = { NULL, 0 };
    for (int i = 0; i < a.n; i++)
        for (int k = 0; k < b.n && !p->failed; k++)
            c = rt_sum_add(p, c, one_term(p, multiply_terms(p, &a.term[i], &b.term[k])), false);
    return c;
}

rt_sum rt_sum_divide(rt_exact *p, rt_sum a, rt_sum b)
{
    if (b.n != 1 || p->failed) {
        p->failed = true;
        return a;
    }
    rt_term t = b.term[0]; /* 1 / (q sqrt(n)) = sqrt(n) / (q n) */
    t.num = b.term[0].den;
    t.den = multiply(p, b.term[0].num, small(p, t.radicand));
    for (int i = 0; i < t.n_factors; i++)
        t.factor[i].power = -t.factor[i].power;
    return rt_sum_multiply(p, a, one_term(p, t));
}

rt_sum rt_sum_power(rt_exact *p, rt_sum a, int64_t e)
{
    rt_sum c = rt_sum_decimal(p, "1", 1, 0);
    bool inverse = e < 0;
    p->failed |= e == 0 && a.n == 0;
    for (e = inverse ? -e : e; e > 0 && !p->failed; e /= 2) {
        if (e % 2)
            c = rt_sum_multiply(p, c, a);
        if (e > 1)
            a = rt_sum_multiply(p, a, a);
    }
    return inverse ? rt_sum_divide(p, rt_sum_decimal(p, "1", 1, 0), c) : c;
}

rt_sum rt_sum_root(rt_exact *p, rt_sum a)
{
    uint64_t n, root;
    if (a.n == 0)
        return a;
    rt_term t = a.term[0]; /* sqrt(x / y) = sqrt(x y) / y */
    if (a.n > 1 || t.minus || t.radicand != 1 || t.n_factors ||
        !to_u64(multiply(p, t.num, t.den), &n)) {
        p->failed = true;
        return a;
    }
    bool square = is_square(n, &root);
    t.num = small(p, square ? root : 1);
    t.radicand = square ? 1 : n;
    return one_term(p, t);
}

bool rt_sum_integer(rt_sum a, int64_t *out)
{
    const rt_term *t = a.term;
    *out = 0;
    if (a.n == 0)
        return true;
    if (a.n > 1 || t->n_factors || t->radicand != 1 || t->num.n != 1 || t->den.n != 1 ||
        t->den.limb[0] != 1)
        return false;
    *out = t->minus ? -(int64_t)t->num.limb[0] : (int64_t)t->num.limb[0];
    return true;
}

bool rt_sum_constant(rt_sum a)
{
    for (int i = 0; i < a.n; i++)
        for (int k = 0; k < a.term[i].n_factors; k++) {
            const rt_factor *f = &a.term[i].factor[k];
            if (!(f->bytes == 3 && memcmp(f->name, "\\pi", 3) == 0) &&
                !(f->bytes == 6 && memcmp(f->name, "\\infty", 6) == 0))
                return false;
        }
    return true;
}

rt_same rt_sum_same(rt_exact *p, rt_sum a, rt_sum b)
{
    rt_sum d = rt_sum_add(p, a, b, true);
    return p->failed                        ? RT_SAME_UNKNOWN
           : d.n == 0                       ? RT_SAME_YES
           : d.n == 1 || rt_sum_constant(d) ? RT_SAME_NO
                                            : RT_SAME_UNKNOWN;
}
