#include "corpora/crossing/soft_map.h"

#include <math.h>
#include <stdlib.h>

#include "core/base/memory.h"
#include "core/base/rng.h"

/* A token of the student's with what it gets: mass of the head, or hits. */
typedef struct rt_way {
    int32_t id, hits;
    double mass;
} rt_way;

enum {
    HEAD_TIMES = 4, /* heads of several rows, of which the heaviest stay */
    SEEN_MOST = 64  /* tokens that one text is spread over */
};

rt_soft_config rt_soft_mapped(const rt_soft_config *teacher)
{
    rt_soft_config c = *teacher;
    c.head_max = (int32_t)rt_min(RT_SOFT_HEAD_MAX, HEAD_TIMES * (int64_t)teacher->head_max);
    c.n_temperatures = 0;
    return c;
}

void rt_soft_mapper_open(rt_soft_mapper *m, const rt_vocab_map *map, rt_unmatched unmatched,
                         const rt_soft_config *teacher)
{
    *m = (rt_soft_mapper){ .map = map,
                           .unmatched = unmatched,
                           .config = rt_soft_mapped(teacher) };
}

void rt_soft_mapper_close(rt_soft_mapper *m)
{
    free(m->way);
    rt_seen_free(&m->seen);
    rt_text_free(&m->text);
    rt_ids_free(&m->ids);
    *m = (rt_soft_mapper){ 0 };
}

void rt_soft_certain_row(rt_soft *out, int32_t token, const rt_soft_config *c)
{
    const int32_t temps = c->n_temperatures;
    int64_t r = rt_soft_add_row(out, 1, temps);
    out->id[out->offset[r]] = token;
    out->head_n[r] = 1;
    out->logp[out->offset[r]] = out->taken_logp[r] = log1pf(-0x1p-10f);
    out->tail_logmass[r] = logf(0x1p-10f);
    for (int32_t i = 0; i < temps; i++) {
        float by = 1 / c->temperature[i];
        out->logz[r * temps + i] = logf(expf(by * out->logp[out->offset[r]]) +
                                        expf(by * out->tail_logmass[r]));
    }
}

static double plogp(double p) { return p > 0 ? p * log(p) : 0; }

static void add_way(rt_soft_mapper *m, int32_t id, double mass, int32_t hits)
{
    if (mass <= 0 && !hits) /* along a path of no probability */
        return;
    rt_grow(&m->way, &m->cap_ways, m->n_ways + 1, sizeof *m->way, "soft targets");
    m->way[m->n_ways++] = (rt_way){ id, hits, mass };
}

/* What the text of `text` and then v may begin with, besides what was seen; -1 = not known. */
static int find_target(int32_t *id, rt_soft_mapper *m, int32_t v, bool at_once, rt_err *err)
{
    const rt_vocab_map *map = m->map;
    bool cut = m->unmatched != RT_UNMATCHED_TAIL;
    if (at_once) {
        *id = cut ? map->first[v] : map->same[v];
        return 0;
    }
    *id = rt_pieces_find(&map->to, m->text.data, m->text.bytes);
    if (*id >= 0 || !cut)
        return 0;
    rt_ids_clear(&m->ids);
    int bad = rt_pieces_cut(&map->to, m->text.data, m->text.bytes, &m->ids, err);
    *id = m->ids.n ? m->ids.id[0] : -1;
    return bad;
}

/* A row in the making, and what its items do not say. */
struct sums {
    double tail, entropy;
};

/* `mass`, or hits, over the tokens that a text was seen to begin with and `id`, which counts as one
   time more. A draw falls on one of them. The rare ones of many are tail. */
static void spread(rt_soft_mapper *m, const rt_seen_text *seen, int32_t id, double mass,
                   int32_t hits, double u, struct sums *sums)
{
    const double times = 1 + (seen ? (double)seen->times : 0);
    const double all = hits ? hits * (double)m->config.tail_spacing : mass;
    double left = 1 - 1 / times, fall = u * times - 1;
    int32_t at = seen ? seen->first : -1;
    if (id >= 0 && (!hits || fall < 0))
        add_way(m, id, mass / times, hits);
    else
        sums->tail += mass / times;
    sums->entropy -= all * plogp(1 / times);
    for (int n = 0; at >= 0 && n < SEEN_MOST; n++) {
        const rt_seen_token *t = &m->seen.token[at];
        double share = (double)t->times / times;
        if (!hits || (fall >= 0 && fall < (double)t->times))
            add_way(m, t->id, mass * share, hits);
        fall -= (double)t->times;
        left -= share;
        sums->entropy -= all * plogp(share);
        at = t->next;
    }
    if (at >= 0) {
        sums->tail += mass * left;
        sums->entropy -= all * plogp(left);
    }
}

/* A way that leaves the text by token v. */
static int add_leaving(rt_soft_mapper *m, int32_t v, double mass, int32_t hits, double u,
                       struct sums *sums, rt_err *err)
{
    int64_t before = m->text.bytes;
    rt_str piece = rt_pieces_bytes(&m->map->from, v);
    const rt_seen_text *seen = NULL;
    int32_t id;
    bool special = rt_pieces_special(&m->map->from, v);
    if (special && before) /* the text before it stands alone, and is no longer */
        piece.bytes = 0;
    if (rt_text_add(&m->text, piece.data, piece.bytes, err))
        return -1;
    if (m->unmatched == RT_UNMATCHED_SEEN && !special)
        seen = rt_seen_find(&m->seen, m->text.data, m->text.bytes);
    int bad = find_target(&id, m, v, before == 0, err);
    m->text.bytes = before;
    if (!bad)
        spread(m, seen, id, mass, hits, u, sums);
    return bad;
}

/* Ways that leave the text by another token than `taken` at one depth, which is reached with
   probability `reach`: ways of the head and draws. Returns in *on the probability of going on. */
static int add_row(rt_soft_mapper *m, const rt_soft *t, int64_t row, int32_t taken, double reach,
                   uint64_t seed, struct sums *sums, double *on, rt_err *err)
{
    const int64_t from = t->offset[row], head = from + t->head_n[row];
    bool in_head = false;
    *on = exp((double)t->taken_logp[row]);
    for (int64_t i = from; i < t->offset[row + 1]; i++) {
        double mass = i < head ? reach * exp((double)t->logp[i]) : 0;
        double u = (double)rt_rng_uniform(seed, RT_RNG_ROUND, 2 * (uint64_t)i + 1);
        int32_t hits = i < head ? 0 : t->hits[i];
        if (t->id[i] == taken) {
            if (i < head)
                *on = exp((double)t->logp[i]);
            in_head |= i < head;
            continue;
        }
        if (hits && m->text.bytes)
            hits = (int32_t)floor(hits * reach + (double)rt_rng_uniform(seed, RT_RNG_ROUND,
                                                                        2 * (uint64_t)i));
        if (i >= head && !hits)
            continue;
        if (add_leaving(m, t->id[i], mass, hits, u, sums, err))
            return -1;
    }
    double left = exp((double)t->tail_logmass[row]) - (in_head ? 0 : *on);
    sums->entropy += reach * (double)t->entropy[row];
    sums->tail += reach * fmax(left, 0);
    return 0;
}

static int by_id(const void *a, const void *b)
{
    const rt_way *x = a, *y = b;
    return x->id != y->id ? (x->id > y->id) - (x->id < y->id)
                          : (x->mass < y->mass) - (x->mass > y->mass);
}
static int by_mass(const void *a, const void *b)
{
    const rt_way *x = a, *y = b;
    return x->mass != y->mass ? (x->mass < y->mass) - (x->mass > y->mass) : by_id(a, b);
}

/* One way a token. What falls together is no longer uncertain. */
static void join(rt_soft_mapper *m, struct sums *sums)
{
    int64_t n = 0;
    qsort(m->way, (size_t)m->n_ways, sizeof *m->way, by_id);
    for (int64_t i = 0; i < m->n_ways; i++) {
        rt_way *w = n ? &m->way[n - 1] : NULL;
        if (w && w->id == m->way[i].id) {
            double sum = w->mass + m->way[i].mass;
            sums->entropy += plogp(w->mass) + plogp(m->way[i].mass) - plogp(sum);
            w->mass = sum;
            w->hits += m->way[i].hits;
        } else {
            m->way[n++] = m->way[i];
        }
    }
    m->n_ways = n;
    for (int64_t i = 0; i < n; i++) {
        rt_way *w = &m->way[i];
        if (w->mass > 0 && w->hits) {
            double drawn = fmin(w->hits * (double)m->config.tail_spacing, sums->tail);
            w->mass += drawn;
            sums->tail -= drawn;
            w->hits = 0;
        }
    }
}

/* The ways as a row: the heaviest of the head, then the drawn ones, each ascending. */
static void write_row(rt_soft_mapper *m, rt_soft *out, int32_t token, const struct sums *sums)
{
    double tail = sums->tail;
    int64_t head = 0, drawn = 0, most = RT_SOFT_DRAWS_MAX;
    if (m->config.tail_spacing > 0)
        most = (int64_t)ceilf(1 / m->config.tail_spacing) + 1;
    qsort(m->way, (size_t)m->n_ways, sizeof *m->way, by_mass); /* drawn ones last */
    for (int64_t i = 0; i < m->n_ways; i++)
        head += m->way[i].mass > 0;
    drawn = rt_min(m->n_ways - head, most);
    rt_way *draws = m->way + head;
    for (; head > m->config.head_max; head--)
        tail += m->way[head - 1].mass;
    qsort(m->way, (size_t)head, sizeof *m->way, by_id);
    qsort(draws, (size_t)drawn, sizeof *m->way, by_id);
    int64_t r = rt_soft_add_row(out, head + drawn, 0), at = out->offset[r];
    out->head_n[r] = (int32_t)head;
    out->tail_logmass[r] = tail > 1e-30 ? (float)log(tail) : -INFINITY;
    out->entropy[r] = (float)fmax(sums->entropy, 0);
    for (int64_t i = 0; i < head; i++) {
        out->id[at + i] = m->way[i].id;
        out->logp[at + i] = (float)log(m->way[i].mass);
        if (m->way[i].id == token)
            out->taken_logp[r] = out->logp[at + i];
    }
    for (int64_t i = 0; i < drawn; i++) {
        out->id[at + head + i] = draws[i].id;
        out->hits[at + head + i] = draws[i].hits;
    }
}

int rt_soft_map_row(rt_soft_mapper *m, rt_soft *out, const rt_soft *teacher, int64_t row,
                    int64_t k, const int32_t *taken, int32_t token, uint64_t seed, rt_err *err)
{
    struct sums sums = { 0, 0 };
    double reach = 1;
    m->n_ways = 0;
    rt_text_clear(&m->text);
    for (int64_t i = 0; i < k; i++) {
        double on;
        rt_str piece = rt_pieces_bytes(&m->map->from, taken[i]);
        if (add_row(m, teacher, row + i, taken[i], reach, seed, &sums, &on, err) ||
            rt_text_add(&m->text, piece.data, piece.bytes, err))
            return -1;
        reach *= on;
    }
    add_way(m, token, fmax(reach, 1e-30), 0);
    join(m, &sums);
    write_row(m, out, token, &sums);
    return 0;
}

/* ---- inside a token -----------------------------------------------------------------------------
 */

/* What the student has said of a group, and the probability of texts that say no more than that. */
struct said {
    const int32_t *id; /* (n) */
    int64_t n;
    double open;
};

/* A way that leaves the text by token v: what follows `said` in it, if it begins so. */
static int add_following(rt_soft_mapper *m, int32_t v, double mass, struct said *said, rt_err *err)
{
    int64_t before = m->text.bytes, same = 0;
    rt_str piece = rt_pieces_bytes(&m->map->from, v);
    if (rt_pieces_special(&m->map->from, v))
        piece.bytes = 0;
    if (rt_text_add(&m->text, piece.data, piece.bytes, err))
        return -1;
    rt_ids_clear(&m->ids);
    int bad = rt_pieces_cut(&m->map->to, m->text.data, m->text.bytes, &m->ids, err);
    m->text.bytes = before;
    while (same < rt_min(said->n, m->ids.n) && m->ids.id[same] == said->id[same])
        same++;
    if (same == said->n && m->ids.n > said->n)
        add_way(m, m->ids.id[said->n], mass, 0);
    else if (same == m->ids.n && same > 0)
        said->open += mass;
    return bad;
}

int rt_soft_map_inner(rt_soft_mapper *m, rt_soft *out, const rt_soft *t, int64_t row, int64_t k,
                      const int32_t *taken, const int32_t *before, int64_t n, int32_t token,
                      rt_err *err)
{
    struct said said = { before, n, 0 };
    double reach = 1, all = 0;
    m->n_ways = 0;
    rt_text_clear(&m->text);
    for (int64_t r = row; r < row + k; r++) {
        const int64_t from = t->offset[r], head = from + t->head_n[r];
        const int32_t on = taken[r - row];
        for (int64_t i = from; i < t->offset[r + 1]; i++) {
            double p = i < head ? exp((double)t->logp[i])
                                : t->hits[i] * (double)m->config.tail_spacing;
            if (t->id[i] != on && add_following(m, t->id[i], reach * p, &said, err))
                return -1;
        }
        rt_str piece = rt_pieces_bytes(&m->map->from, on);
        if (rt_text_add(&m->text, piece.data, piece.bytes, err))
            return -1;
        reach *= exp((double)t->taken_logp[r]);
    }
    add_way(m, token, fmax(reach, 1e-30), 0);
    for (int64_t i = 0; i < m->n_ways; i++)
        all += m->way[i].mass;
    all += said.open;
    for (int64_t i = 0; i < m->n_ways; i++)
        m->way[i].mass /= all;
    struct sums sums = { said.open / all, -plogp(said.open / all) };
    for (int64_t i = 0; i < m->n_ways; i++)
        sums.entropy -= plogp(m->way[i].mass);
    join(m, &sums);
    write_row(m, out, token, &sums);
    return 0;
}
