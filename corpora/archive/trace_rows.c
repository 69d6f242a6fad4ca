/* trace_rows.c: soft rows to bits and back; the format is ROWS in trace.h. Ids are sorted sets in a
   Rice code whose parameter each row chooses, the token that was taken is never written twice, and
   a row whose head is that token alone costs 13 bits. The encoder checks the stated error bounds
   and takes the full form where the short one would break them; the decoder believes nothing. */
#include <math.h>
#include <string.h>

#include "corpora/archive/trace_inside.h"

static const double LOGP_ERROR = 2.5e-4, SHORT_TAIL = -5.5, SHORT_ENTROPY_ERROR = 5e-3;
static const float SCALE = 2048.0f, LOGZ_SCALE = 1024.0f;

enum { CERTAIN = 255, ROW_BYTES_MAX = 8192, RICE_MAX = 15 };

void rt_trace_codec_init(rt_trace_codec *c, const rt_trace_manifest *m)
{
    memset(c, 0, sizeof *c);
    c->vocab = m->vocab_size;
    c->temps = m->capture.n_temperatures;
    c->soft = m->capture.head_max > 0;
    c->head_max = m->capture.head_max;
    c->head_bits = c->head_max > 1 ? 32 - __builtin_clz((uint32_t)c->head_max - 1) : 0;
    c->draws = m->capture.tail_spacing > 0;
    for (int a = 0; a < CERTAIN; a++) {
        double log_t = SHORT_TAIL - a / 8.0, t = exp(log_t);
        c->logp[a] = (float)log1p(-t);
        double h = -(1 - t) * log1p(-t) - t * log_t;
        for (int b = 0; b < 16; b++)
            c->entropy[a][b] = (float)(h + t * log((double)c->vocab) * b / 15);
    }
}

// ---- bits ----

typedef struct bit_writer {
    uint8_t *at; // ROW_BYTES_MAX were reserved before a row
    uint64_t acc;
    int have;
} bit_writer;

// n <= 32
static void put_bits(bit_writer *w, uint32_t value, int n)
{
    w->acc |= (uint64_t)value << w->have;
    w->have += n;
    while (w->have >= 8) {
        *w->at++ = (uint8_t)w->acc;
        w->acc >>= 8;
        w->have -= 8;
    }
}

static void put_gamma(bit_writer *w, uint32_t n)
{
    int low = 31 - __builtin_clz(n);
    put_bits(w, 0, low);
    put_bits(w, 1, 1);
    put_bits(w, n & ((1u << low) - 1), low);
}

static void put_rice(bit_writer *w, uint32_t gap, int k)
{
    for (uint32_t q = gap >> k; q > 0;) {
        int n = (int)rt_min(q, 24);
        put_bits(w, (1u << n) - 1, n);
        q -= (uint32_t)n;
    }
    put_bits(w, 0, 1);
    put_bits(w, gap & ((1u << k) - 1), k);
}

typedef struct bit_reader {
    const uint8_t *data;
    int64_t bit, bits;
    bool bad; // ran past the end, or a code no encoder writes
} bit_reader;

// The bits ahead, at least 57 of them; zeros past the end.
static uint64_t peek(const bit_reader *r)
{
    uint64_t word = 0;
    int64_t byte = r->bit >> 3, left = (r->bits >> 3) - byte;
    if (left >= 8)
        memcpy(&word, r->data + byte, 8);
    else if (left > 0)
        memcpy(&word, r->data + byte, (size_t)left);
    return word >> (r->bit & 7);
}

static void skip(bit_reader *r, int64_t n)
{
    r->bit += n;
    if (r->bit > r->bits) {
        r->bad = true;
        r->bit = r->bits;
    }
}

// n <= 32
static uint32_t get_bits(bit_reader *r, int n)
{
    uint64_t word = peek(r);
    skip(r, n);
    return (uint32_t)(word & ((1ull << n) - 1));
}

static uint32_t get_gamma(bit_reader *r)
{
    int low = __builtin_ctzll(peek(r) | 1ull << 32);
    if (low > 16)
        r->bad = true;
    skip(r, low + 1);
    return r->bad ? 1 : 1u << low | get_bits(r, low);
}

static uint32_t get_rice(bit_reader *r, int k)
{
    uint32_t q = 0;
    int run;
    do {
        run = (int)rt_min(__builtin_ctzll(~peek(r) | 1ull << 56), 56);
        skip(r, run);
        q += (uint32_t)run;
    } while (run == 56 && !r->bad);
    skip(r, 1);
    if (q > (uint32_t)(RT_TRACE_VOCAB_MAX >> k))
        r->bad = true;
    return r->bad ? 0 : (q << k) + get_bits(r, k);
}

// ---- encoding ----

// round(-x * 2048) into 0 .. 65534; x was checked not to be NaN
static uint32_t quantize(float x)
{
    double v = -(double)x * (double)SCALE;
    return v <= 0 ? 0 : v >= 65534 ? 65534 : (uint32_t)(v + 0.5);
}

typedef struct row_view {
    const int32_t *id, *hits;
    const float *logp, *logz;
    int32_t head, draws, taken;
    int32_t taken_at; // in the head, -1 = not there
    float tail, entropy, taken_logp;
} row_view;

static bool ascending(const int32_t *id, int64_t n, int32_t vocab)
{
    for (int64_t i = 0; i < n; i++)
        if (id[i] < 0 || id[i] >= vocab || (i > 0 && id[i] <= id[i - 1]))
            return false;
    return true;
}

static bool disjoint(const int32_t *a, int32_t n_a, const int32_t *b, int32_t n_b)
{
    for (int32_t i = 0, j = 0; i < n_a && j < n_b;) {
        if (a[i] == b[j])
            return false;
        if (a[i] < b[j])
            i++;
        else
            j++;
    }
    return true;
}

// A log-probability: not NaN, at most 0 but for rounding.
static bool is_logp(float x) { return x <= 1e-3f; }

// Fill v from row r; a reason when the row is not what soft.h promises, else NULL.
static const char *view_row(row_view *v, const rt_trace_codec *c, const rt_soft *s, int64_t r,
                            int32_t taken)
{
    int64_t at = s->offset[r], items = s->offset[r + 1] - at;
    int32_t head = s->head_n[r];
    if (at < 0 || items < 1 || items > RT_SOFT_HEAD_MAX + RT_SOFT_DRAWS_MAX ||
        at + items > s->n_items || head < 1 || head > c->head_max || head > items)
        return "item counts out of range";
    *v = (row_view){ .id = s->id + at,
                     .hits = s->hits + at + head,
                     .logp = s->logp + at,
                     .logz = c->temps ? s->logz + r * c->temps : NULL,
                     .head = head,
                     .draws = (int32_t)items - head,
                     .taken = taken,
                     .taken_at = -1,
                     .tail = s->tail_logmass[r],
                     .entropy = s->entropy[r],
                     .taken_logp = s->taken_logp[r] };
    if (!ascending(v->id, head, c->vocab) || !ascending(v->id + head, v->draws, c->vocab))
        return "ids are not ascending below the vocabulary size";
    if (!disjoint(v->id, head, v->id + head, v->draws))
        return "a drawn id is also in the head";
    if (v->draws > 0 && !c->draws)
        return "drawn ids though the archive's tail_spacing is 0";
    int64_t hits = 0;
    for (int32_t i = 0; i < v->draws; i++) {
        if (v->hits[i] < 1)
            return "a drawn id without hits";
        hits += v->hits[i];
    }
    if (hits > RT_SOFT_DRAWS_MAX)
        return "too many draws";
    for (int32_t i = 0; i < head; i++) {
        if (!is_logp(v->logp[i]))
            return "a log-probability above 0 or NaN";
        if (v->id[i] == taken)
            v->taken_at = i;
    }
    if (!is_logp(v->tail) || !is_logp(v->taken_logp))
        return "a log-probability above 0 or NaN";
    if (!(v->entropy >= -1e-3f && v->entropy < 32))
        return "an entropy out of range";
    if (v->taken_at >= 0 && fabsf(v->logp[v->taken_at] - v->taken_logp) > 1e-3f)
        return "two different log-probabilities of the token taken";
    for (int32_t t = 0; t < c->temps; t++)
        if (!(fabsf(v->logz[t]) <= 31.9f))
            return "a log Z beyond +-31.9: use temperatures nearer to 1";
    return NULL;
}

// The short form when it keeps its bounds.
static bool put_short(bit_writer *w, const rt_trace_codec *c, const row_view *v)
{
    if (v->head != 1 || v->draws || v->taken_at != 0 || !(v->tail <= SHORT_TAIL + 0.0625))
        return false;
    double steps = (SHORT_TAIL - (double)v->tail) * 8;
    int a = isinf(v->tail) ? CERTAIN : steps <= 0 ? 0 : steps >= 254 ? 254 : (int)(steps + 0.5);
    if (fabs((double)(c->logp[a] - v->logp[0])) > LOGP_ERROR ||
        fabs((double)(c->logp[a] - v->taken_logp)) > LOGP_ERROR)
        return false;
    int best = 0;
    for (int b = 1; b < 16 && a != CERTAIN; b++)
        if (fabsf(c->entropy[a][b] - v->entropy) < fabsf(c->entropy[a][best] - v->entropy))
            best = b;
    if (fabs((double)(c->entropy[a][best] - v->entropy)) > SHORT_ENTROPY_ERROR)
        return false;
    put_bits(w, 1, 1);
    put_bits(w, (uint32_t)a, 8);
    put_bits(w, (uint32_t)best, 4);
    return true;
}

// Gaps of a sorted set, one entry left out (skip = -1: none), after those already in gap.
static int32_t add_gaps(uint32_t *gap, int32_t n, const int32_t *id, int32_t count, int32_t skip)
{
    int32_t previous = -1;
    for (int32_t i = 0; i < count; i++) {
        if (i == skip)
            continue;
        gap[n++] = (uint32_t)(id[i] - previous - 1);
        previous = id[i];
    }
    return n;
}

static int best_rice(const uint32_t *gap, int32_t n)
{
    int best = 0;
    uint64_t best_bits = UINT64_MAX;
    for (int k = 0; k <= RICE_MAX; k++) {
        uint64_t bits = 0;
        for (int32_t i = 0; i < n; i++)
            bits += (gap[i] >> k) + (uint64_t)k;
        if (bits < best_bits) {
            best_bits = bits;
            best = k;
        }
    }
    return best;
}

static void put_full(bit_writer *w, const rt_trace_codec *c, const row_view *v)
{
    uint32_t gap[RT_SOFT_HEAD_MAX + RT_SOFT_DRAWS_MAX], number[RT_SOFT_HEAD_MAX + 3], most = 0;
    int32_t n = add_gaps(gap, 0, v->id, v->head, v->taken_at), numbers = 0;
    n = add_gaps(gap, n, v->id + v->head, v->draws, -1);
    for (int32_t i = 0; i < v->head; i++)
        number[numbers++] = quantize(v->logp[i]);
    if (v->taken_at < 0)
        number[numbers++] = quantize(v->taken_logp);
    number[numbers++] = quantize(-v->entropy);
    number[numbers++] = isinf(v->tail) ? 0 : quantize(v->tail);
    for (int32_t i = 0; i < numbers; i++)
        most = number[i] > most ? number[i] : most;
    int k = best_rice(gap, n), width = 32 - __builtin_clz(most + 1); // all ones stays free
    if (isinf(v->tail))
        number[numbers - 1] = (1u << width) - 1;
    put_bits(w, 0, 1);
    put_bits(w, v->taken_at >= 0, 1);
    put_bits(w, (uint32_t)v->head - 1, c->head_bits);
    put_gamma(w, (uint32_t)v->draws + 1);
    put_bits(w, (uint32_t)k, 4);
    put_bits(w, (uint32_t)width - 1, 4);
    for (int32_t i = 0; i < n; i++)
        put_rice(w, gap[i], k);
    for (int32_t i = 0; i < v->draws; i++)
        put_gamma(w, (uint32_t)v->hits[i]);
    for (int32_t i = 0; i < numbers; i++)
        put_bits(w, number[i], width);
}

int rt_trace_rows_encode(const rt_trace_codec *c, rt_text *out, const rt_soft *soft,
                         const int32_t *taken, rt_err *err)
{
    if (soft->n > 0 && !c->soft)
        return rt_fail(err,
                       "soft rows, though the archive was opened without capture (head_max 0)");
    bit_writer w = { 0 };
    for (int64_t r = 0; r < soft->n; r++) {
        row_view v;
        const char *why = view_row(&v, c, soft, r, taken[r]);
        if (why)
            return rt_fail(err, "soft row %lld: %s", (long long)r, why);
        if (rt_text_reserve(out, ROW_BYTES_MAX, err))
            return -1;
        w.at = (uint8_t *)out->data + out->bytes;
        if (!put_short(&w, c, &v))
            put_full(&w, c, &v);
        for (int32_t t = 0; t < c->temps; t++)
            put_bits(&w, (uint32_t)lrintf(v.logz[t] * LOGZ_SCALE) & 0xFFFF, 16);
        out->bytes = (char *)w.at - out->data;
    }
    if (w.have > 0) {
        put_bits(&w, 0, 8 - w.have);
        out->bytes = (char *)w.at - out->data;
    }
    return 0;
}

// ---- decoding ----

// A number of a full row; -inf when all bits are ones.
static float get_number(bit_reader *r, int width)
{
    uint32_t q = get_bits(r, width);
    return q == (1u << width) - 1 ? -INFINITY : 0 - (float)q / SCALE;
}

static float get_finite(bit_reader *r, int width)
{
    float x = get_number(r, width);
    if (isinf(x))
        r->bad = true;
    return x;
}

// A sorted set of n ids; false when one reaches the vocabulary size.
static void get_set(bit_reader *r, int32_t *id, int32_t n, int k, int32_t vocab)
{
    int64_t previous = -1;
    for (int32_t i = 0; i < n; i++) {
        int64_t next = previous + 1 + get_rice(r, k);
        if (next >= vocab)
            r->bad = true;
        id[i] = r->bad ? 0 : (int32_t)next;
        previous = id[i];
    }
}

// Put the taken token into its place among the n - 1 sorted ids; its place, or bad.
static int32_t insert_taken(bit_reader *r, int32_t *id, int32_t n, int32_t taken)
{
    int32_t at = n - 1;
    while (at > 0 && id[at - 1] > taken) {
        id[at] = id[at - 1];
        at--;
    }
    if (at > 0 && id[at - 1] == taken)
        r->bad = true;
    id[at] = taken;
    return at;
}

static int64_t get_full(bit_reader *b, const rt_trace_codec *c, rt_soft *s, int32_t taken)
{
    bool in_head = get_bits(b, 1);
    int32_t head = (int32_t)get_bits(b, c->head_bits) + 1, draws = (int32_t)get_gamma(b) - 1;
    int k = (int)get_bits(b, 4), width = (int)get_bits(b, 4) + 1;
    if (b->bad || head > c->head_max || draws > RT_SOFT_DRAWS_MAX || (draws > 0 && !c->draws)) {
        b->bad = true;
        return 0;
    }
    int64_t row = rt_soft_add_row(s, head + draws, c->temps), at = s->offset[row];
    int32_t *id = s->id + at, taken_at = -1, hits = 0;
    get_set(b, id, head - in_head, k, c->vocab);
    if (in_head)
        taken_at = insert_taken(b, id, head, taken);
    get_set(b, id + head, draws, k, c->vocab);
    for (int32_t i = 0; i < draws; i++)
        hits += s->hits[at + head + i] = (int32_t)get_gamma(b);
    for (int32_t i = 0; i < head; i++) {
        s->logp[at + i] = get_finite(b, width);
        if (!in_head && id[i] == taken)
            b->bad = true;
    }
    s->head_n[row] = head;
    s->taken_logp[row] = in_head ? s->logp[at + taken_at] : get_finite(b, width);
    s->entropy[row] = 0 - get_finite(b, width);
    s->tail_logmass[row] = get_number(b, width);
    if (hits > RT_SOFT_DRAWS_MAX || !disjoint(id, head, id + head, draws))
        b->bad = true;
    return row;
}

static int64_t get_short(bit_reader *b, const rt_trace_codec *c, rt_soft *s, int32_t taken)
{
    int64_t row = rt_soft_add_row(s, 1, c->temps), at = s->offset[row];
    uint32_t a = get_bits(b, 8), e = get_bits(b, 4);
    if (a == CERTAIN && e != 0)
        b->bad = true;
    s->head_n[row] = 1;
    s->id[at] = taken;
    s->logp[at] = s->taken_logp[row] = c->logp[a];
    s->tail_logmass[row] = a == CERTAIN ? -INFINITY : (float)SHORT_TAIL - (float)a / 8;
    s->entropy[row] = c->entropy[a][e];
    return row;
}

int rt_trace_rows_decode(const rt_trace_codec *c, rt_soft *soft, const uint8_t *data, int64_t bytes,
                         int64_t rows, const uint8_t *taken, int64_t *shorts, rt_err *err)
{
    // a row is 13 bits at least, so a lying count fails before it costs memory
    if (rows > 0 && (!c->soft || rows > bytes * 8 / 13))
        return rt_fail(err, "%lld soft rows cannot stand in %lld bytes", (long long)rows,
                       (long long)bytes);
    bit_reader b = { .data = data, .bits = bytes * 8 };
    for (int64_t r = 0; r < rows; r++) {
        int32_t token;
        memcpy(&token, taken + 4 * r, 4);
        bool is_short = get_bits(&b, 1);
        int64_t row = is_short ? get_short(&b, c, soft, token) : get_full(&b, c, soft, token);
        for (int32_t t = 0; t < c->temps && !b.bad; t++)
            soft->logz[row * c->temps + t] = (float)(int16_t)get_bits(&b, 16) / LOGZ_SCALE;
        if (b.bad)
            return rt_fail(err, "soft row %lld: damaged bits", (long long)r);
        *shorts += is_short;
    }
    if (b.bits - b.bit >= 8 || get_bits(&b, (int)(b.bits - b.bit)) != 0)
        return rt_fail(err, "bytes left over after soft row %lld", (long long)rows);
    return 0;
}
