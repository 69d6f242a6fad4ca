/* isa_attention.h: attention of one unit (a segment and a key head, with all query heads that share
   it), included by isa.c once an instruction set. Built on the tile kernel of isa_matmul.h:
     scores   tile of query rows x panels of 32 keys, a chain over the head width
     output   the tile's weights, transposed, x panels of 32 value columns, a chain over the keys
   A query row's result depends on its own keys alone: a masked key has weight 0, which a fused
   multiply-add leaves without trace. Softmax sums by key index mod 16 lanes. Where every row of a
   tile has left a panel of keys behind its window, the panel is skipped: blocks of the contract lie
   at fixed keys, so the bits stay.
   "Query rows" here are pairs (row, head of the group), row-major, so that heads which share keys
   fill a tile even when there is a single row. */
#include "core/device/cpu/attention.h"
#include "core/device/kernels/math.h"

/* c(m,32) = or += tile(k,m)ᵀ panel(k,32) over [from, k), in blocks of the numeric contract */
static void attention_product(int64_t m, int64_t from, int64_t k, const float *tile, int64_t lda,
                              const float *panel, float *c, int64_t ldc, bool add)
{
    for (int64_t k0 = from, next; k0 < k; k0 = next) {
        next = rt_min(k, (k0 / RT_K_BLOCK + 1) * RT_K_BLOCK);
        isa_tiles[m](next - k0, tile + k0 * lda, lda, panel + k0 * RT_PANEL, c, ldc,
                     add || k0 > from);
    }
}

/* x(n) and y(n) in 16 lanes and the tree of the contract */
static float attention_dot(const float *x, const float *y, int64_t n)
{
    rt_v16 sum = v16_zero();
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        sum = v16_fma(v16_load(x + i), v16_load(y + i), sum);
    if (i < n)
        sum = v16_fma(v16_load_n(x + i, (int)(n - i)), v16_load_n(y + i, (int)(n - i)), sum);
    return v16_sum(sum);
}

/* Keys [first, n) of a row inside keys [begin, end) of its tile: all others become 0. Whole vectors
   were computed, so lanes up to the next 16 too. */
static void attention_mask(float *s, int64_t begin, int64_t first, int64_t n, int64_t end)
{
    memset(s + begin, 0, (size_t)(first - begin) * sizeof *s);
    memset(s + n, 0, (size_t)(rt_max(rt_align_up(n, 16), end) - n) * sizeof *s);
}

/* Scores s of keys [first, n) -> weights exp(scale (s - max)), 0 elsewhere in [begin, end); returns
   their sum, *lse its log. begin is a multiple of 16. Works on whole vectors. */
static float attention_softmax(float *s, int64_t begin, int64_t first, int64_t n, int64_t end,
                               float scale, float *lse)
{
    int64_t low = rt_min(n, rt_align_up(first, 16)), whole = rt_max(low, n / 16 * 16);
    int64_t from = first / 16 * 16, up = rt_align_up(n, 16);
    rt_v16 high = v16_set1(s[first]), part = v16_zero();
    for (int64_t i = low; i < whole; i += 16)
        high = v16_max(high, v16_load(s + i));
    float most = v16_max_lane(high);
    for (int64_t i = first; i < low; i++)
        most = s[i] > most ? s[i] : most;
    for (int64_t i = whole; i < n; i++)
        most = s[i] > most ? s[i] : most;
    for (int64_t i = from; i < up; i++)
        s[i] = rt_expf((s[i] - most) * scale);
    attention_mask(s, begin, first, n, end);
    for (int64_t i = from; i < up; i += 16)
        part = v16_add(part, v16_load(s + i));
    float sum = v16_sum(part);
    *lse = fmaf(most, scale, rt_logf(sum));
    return sum;
}

/* What the keys keep when a sink takes its share of a row with log-sum-exp *lse, which becomes that
   of both. */
static float attention_sink(float sink, float *lse)
{
    float most = sink > *lse ? sink : *lse;
    float keys = rt_expf(*lse - most), sum = keys + rt_expf(sink - most);
    *lse = most + rt_logf(sum);
    return keys / sum;
}

static int64_t head_offset(const struct rt_attention_unit *u, int64_t r, int64_t width)
{
    return ((u->row0 + r / u->group) * u->heads + u->head0 + r % u->group) * width;
}

static int64_t keys_of(const struct rt_attention_unit *u, int64_t r)
{
    return u->pos0 + r / u->group + 1;
}

/* The first key that row r sees. */
static int64_t first_key(const struct rt_attention_unit *u, int64_t r)
{
    return rt_max(0, keys_of(u, r) - u->window);
}

/* Where the keys of a tile begin whose first row is r: a whole panel. */
static int64_t first_panel(const struct rt_attention_unit *u, int64_t r)
{
    return first_key(u, r) / RT_PANEL * RT_PANEL;
}

/* out(width,m) = rows r0 .. r0+m of x, transposed */
static void gather_tile(const struct rt_attention_unit *u, float *out, const float *x,
                        int64_t width, int64_t r0, int64_t m)
{
    const float *row[ISA_TILE_ROWS];
    for (int64_t j = 0; j < m; j++)
        row[j] = x + head_offset(u, r0 + j, width);
    pack_rows(out, row, m, width);
}

/* The page that holds key `key`. */
static const float *page_of(const struct rt_attention_panels *p, int64_t key)
{
    return p->data + (p->page ? p->page[key / p->tokens] * p->step : 0);
}

static const float *key_panel(const struct rt_attention_panels *p, int64_t panel, int64_t dk)
{
    return page_of(p, panel * RT_PANEL) + panel * RT_PANEL % p->tokens * dk;
}

/* c(m, 32 panels) of one panel, or of two that lie `stride` floats apart. */
static void attention_tiles(int64_t m, int64_t k, const float *tile, const float *panel,
                            int64_t panels, int64_t stride, float *c, int64_t ldc,
                            enum rt_chain chain)
{
    if (panels == 2)
        isa_pairs[m](k, tile, panel, stride, c, ldc, chain);
    else
        isa_tiles[m](k, tile, m, panel, c, ldc, chain);
}

/* Scores of m rows and the panels [begin, end) of keys: two at once where few rows find them in one
   page. */
static void attention_scores(int64_t m, int64_t dk, const float *tile,
                             const struct rt_attention_panels *keys, int64_t begin, int64_t end,
                             float *scores, int64_t ld)
{
    int64_t page = keys->tokens / RT_PANEL;
    for (int64_t p = begin, panels; p < end; p += panels) {
        const float *panel = key_panel(keys, p, dk);
        float *to = scores + p * RT_PANEL;
        panels = m <= PAIR_ROWS && dk <= RT_K_BLOCK && p + 1 < end && p % page + 1 < page ? 2 : 1;
        if (panels == 2)
            attention_tiles(m, dk, tile, panel, panels, dk * RT_PANEL, to, ld, RT_CHAIN_SET);
        else
            attention_product(m, 0, dk, tile, m, panel, to, ld, false);
    }
}

/* c(m, 32 panels) = tile(k,m)ᵀ · columns 32 w .. of the values of keys [from, k): a chain a block
   of the numeric contract, which goes on from page to page. */
static void attention_values(int64_t m, int64_t from, int64_t k, const float *tile,
                             const struct rt_attention_panels *values, int64_t w, int64_t panels,
                             float *c, int64_t ldc)
{
    float later[ISA_TILE_ROWS * 2 * RT_PANEL];
    int64_t width = panels * RT_PANEL;
    for (int64_t k0 = from, end; k0 < k; k0 = end) {
        float *sum = k0 == from ? c : later;
        int64_t ld = k0 == from ? ldc : width;
        enum rt_chain chain = RT_CHAIN_SET;
        end = rt_min(k, (k0 / RT_K_BLOCK + 1) * RT_K_BLOCK);
        for (int64_t at = k0, next; at < end; at = next, chain = RT_CHAIN_ON) {
            const float *panel = page_of(values, at) +
                                 (w * values->tokens + at % values->tokens) * RT_PANEL;
            next = rt_min(end, (at / values->tokens + 1) * values->tokens);
            attention_tiles(m, next - at, tile + at * m, panel, panels, values->tokens * RT_PANEL,
                            sum, ld, chain);
        }
        for (int64_t i = 0; sum == later && i < m; i++)
            for (int64_t j = 0; j < width; j++)
                c[i * ldc + j] += later[i * width + j];
    }
}

static void attend(const struct rt_attention_unit *u, const struct rt_attention_panels *keys,
                   const struct rt_attention_panels *values, float *scratch)
{
    int64_t dk = u->dk, dv = u->dv, ld = rt_align_up(u->keys, RT_PANEL),
            wide = rt_align_up(dv, RT_PANEL);
    float *scores = scratch, *tile = scores + ISA_TILE_ROWS * ld;
    float *out = tile + 16 * rt_max(ld, dk) + 16, inverse[ISA_TILE_ROWS];
    int64_t rows = u->rows * u->group;
    for (int64_t r0 = 0; r0 < rows; r0 += ISA_TILE_ROWS) {
        int64_t m = rt_min(ISA_TILE_ROWS, rows - r0), most = keys_of(u, r0 + m - 1);
        int64_t begin = first_panel(u, r0);
        gather_tile(u, tile, u->q, dk, r0, m);
        attention_scores(m, dk, tile, keys, begin / RT_PANEL, rt_ceil_div(most, RT_PANEL), scores,
                         ld);
        for (int64_t j = 0; j < m; j++) {
            float lse;
            inverse[j] = 1.0f / attention_softmax(scores + j * ld, begin, first_key(u, r0 + j),
                                                  keys_of(u, r0 + j), most, u->scale, &lse);
            if (u->sinks)
                inverse[j] *= attention_sink(u->sinks[u->head0 + (r0 + j) % u->group], &lse);
            if (u->lse)
                u->lse[head_offset(u, r0 + j, 1)] = lse;
        }
        pack_tile(tile + begin * m, scores + begin, ld, false, m, most - begin);
        for (int64_t p = 0, n = wide / RT_PANEL, panels; p < n; p += panels) {
            panels = m <= PAIR_ROWS && p + 1 < n ? 2 : 1;
            attention_values(m, begin, most, tile, values, p, panels, out + p * RT_PANEL, wide);
        }
        for (int64_t j = 0; j < m; j++) {
            float *to = u->out + head_offset(u, r0 + j, dv);
            for (int64_t d = 0; d < dv; d++)
                to[d] = out[j * wide + d] * inverse[j];
        }
    }
}

/* Key panels [T/32][Dk][32] and value panels [Dv/32][T][32] of a whole sequence, then attend. */
static void attention_forward(const struct rt_attention_unit *u, float *scratch)
{
    int64_t t = u->keys, padded = rt_align_up(t, RT_PANEL), wide = rt_align_up(u->dv, RT_PANEL);
    float *keys = scratch, *values = keys + padded * u->dk, *rest = values + wide * t;
    struct rt_matrix k = { u->k, RT_F32, true, u->kv_heads * u->dk, t, .row0 = 0 };
    struct rt_matrix v = { u->v, RT_F32, false, u->kv_heads * u->dv, u->dv, .row0 = 0 };
    struct rt_attention_panels keys_at = { keys, NULL, padded, 0 },
                               values_at = { values, NULL, t, 0 };
    pack_panels(keys, u->dk * RT_PANEL, &k, 0, padded / RT_PANEL, 0, u->dk);
    pack_panels(values, t * RT_PANEL, &v, 0, wide / RT_PANEL, 0, t);
    attend(u, &keys_at, &values_at, rest);
}

/* The same over cached panels; under MLA the values are the keys' first columns, transposed here.
 */
static void attention_cached(const struct rt_attention_unit *u, float *scratch)
{
    struct rt_attention_panels transposed = { scratch, NULL, rt_align_up(u->keys, RT_PANEL), 0 };
    int64_t wide = rt_align_up(u->dv, RT_PANEL);
    if (!u->v_in_k) {
        attend(u, &u->keys_at, &u->values_at, scratch);
        return;
    }
    for (int64_t p = 0; p < transposed.tokens / RT_PANEL; p++) {
        struct rt_matrix k = { .data = key_panel(&u->keys_at, p, u->dk),
                               .dtype = RT_F32,
                               .t = true,
                               .ld = RT_PANEL,
                               .n = u->dv };
        pack_panels(scratch + p * RT_PANEL * RT_PANEL, transposed.tokens * RT_PANEL, &k, 0,
                    wide / RT_PANEL, 0, RT_PANEL);
    }
    attend(u, &u->keys_at, &transposed, scratch + wide * transposed.tokens);
}

/* ---- backward -----------------------------------------------------------------------------------
 */

/* Query rows [r0, r0+n) of x as panels [width/32][n][32]. */
static void gather_panels(const struct rt_attention_unit *u, float *out, const float *x,
                          int64_t width, int64_t r0, int64_t n)
{
    for (int64_t p = 0; p < rt_ceil_div(width, RT_PANEL); p++)
        for (int64_t j = 0; j < n; j++) {
            const float *from = x + head_offset(u, r0 + j, width) + p * RT_PANEL;
            float *to = out + (p * n + j) * RT_PANEL;
            int64_t left = rt_min(RT_PANEL, width - p * RT_PANEL);
            memcpy(to, from, (size_t)left * sizeof *to);
            memset(to + left, 0, (size_t)(RT_PANEL - left) * sizeof *to);
        }
}

struct attention_gradient {
    float *keys, *keys_n, *values; /* panels [T/32][Dk][32], [Dk/32][T][32], [T/32][Dv][32] */
    float *weights, *dscores;      /* (RT_ATTENTION_BLOCK, T) of the running block of query rows */
    float *q, *dout;               /* their panels */
    float *dk, *dv;                /* (T, Dk) (T, Dv), widths padded to panels */
    float *tile;
    int64_t ld, wide_k, wide_v;
};

/* weights = exp(scale s - lse) and dscores = scale weights (dweights - delta) of one tile, 0 for
   masked keys in [begin, end). */
static void attention_tile_backward(const struct rt_attention_unit *u,
                                    const struct attention_gradient *g, int64_t r0, int64_t at,
                                    int64_t m, int64_t begin, int64_t end)
{
    int64_t most = keys_of(u, r0 + m - 1), panels = rt_ceil_div(most, RT_PANEL);
    int64_t panel0 = first_panel(u, r0) / RT_PANEL;
    float *w = g->weights + at * g->ld, *ds = g->dscores + at * g->ld;
    gather_tile(u, g->tile, u->q, u->dk, r0, m);
    for (int64_t p = panel0; p < panels; p++)
        attention_product(m, 0, u->dk, g->tile, m, g->keys + p * u->dk * RT_PANEL, w + p * RT_PANEL,
                          g->ld, false);
    gather_tile(u, g->tile, u->dout, u->dv, r0, m);
    for (int64_t p = panel0; p < panels; p++)
        attention_product(m, 0, u->dv, g->tile, m, g->values + p * u->dv * RT_PANEL,
                          ds + p * RT_PANEL, g->ld, false);
    for (int64_t j = 0; j < m; j++, w += g->ld, ds += g->ld) {
        int64_t first = first_key(u, r0 + j), n = keys_of(u, r0 + j),
                o = head_offset(u, r0 + j, u->dv);
        float lse = u->lse[head_offset(u, r0 + j, 1)],
              delta = attention_dot(u->dout + o, u->out + o, u->dv);
        int64_t up = rt_align_up(n, 16);
        for (int64_t i = first / 16 * 16; i < up; i++) {
            w[i] = rt_expf(fmaf(w[i], u->scale, -lse));
            ds[i] = w[i] * (ds[i] - delta) * u->scale;
        }
        attention_mask(w, begin, first, n, end);
        attention_mask(ds, begin, first, n, end);
    }
}

/* dq of n query rows of the block, and their share of dk and dv. */
static void attention_block_backward(const struct rt_attention_unit *u,
                                     const struct attention_gradient *g, int64_t r0, int64_t n)
{
    int64_t most = keys_of(u, r0 + n - 1), begin = first_panel(u, r0);
    float rows[ISA_TILE_ROWS * RT_PANEL];
    for (int64_t at = 0; at < n; at += ISA_TILE_ROWS)
        attention_tile_backward(u, g, r0 + at, at, rt_min(ISA_TILE_ROWS, n - at), begin, most);
    gather_panels(u, g->q, u->q, u->dk, r0, n);
    gather_panels(u, g->dout, u->dout, u->dv, r0, n);
    for (int64_t key = begin; key < most; key += ISA_TILE_ROWS) {
        int64_t m = rt_min(ISA_TILE_ROWS, most - key);
        /* rows before `first` and from `last` on see none of these keys */
        int64_t first = rt_max(0, (key - u->pos0) * u->group - r0);
        int64_t last = rt_min(n, (key + m - 1 + u->window - u->pos0) * u->group - r0);
        int64_t k = last - first;
        for (int64_t p = 0; p < g->wide_v / RT_PANEL; p++)
            attention_product(m, 0, k, g->weights + first * g->ld + key, g->ld,
                              g->dout + (p * n + first) * RT_PANEL,
                              g->dv + key * g->wide_v + p * RT_PANEL, g->wide_v, true);
        for (int64_t p = 0; p < g->wide_k / RT_PANEL; p++)
            attention_product(m, 0, k, g->dscores + first * g->ld + key, g->ld,
                              g->q + (p * n + first) * RT_PANEL,
                              g->dk + key * g->wide_k + p * RT_PANEL, g->wide_k, true);
    }
    for (int64_t at = 0; at < n; at += ISA_TILE_ROWS) {
        int64_t m = rt_min(ISA_TILE_ROWS, n - at), keys = keys_of(u, r0 + at + m - 1);
        int64_t from = first_panel(u, r0 + at);
        pack_tile(g->tile + from * m, g->dscores + at * g->ld + from, g->ld, false, m, keys - from);
        for (int64_t p = 0; p < g->wide_k / RT_PANEL; p++) {
            int64_t left = rt_min(RT_PANEL, u->dk - p * RT_PANEL);
            attention_product(m, from, keys, g->tile, m, g->keys_n + p * u->keys * RT_PANEL, rows,
                              RT_PANEL, false);
            for (int64_t j = 0; j < m; j++)
                memcpy(u->dq + head_offset(u, r0 + at + j, u->dk) + p * RT_PANEL,
                       rows + j * RT_PANEL, (size_t)left * sizeof *rows);
        }
    }
}

static void attention_backward(const struct rt_attention_unit *u, float *scratch)
{
    int64_t t = u->keys, padded = rt_align_up(t, RT_PANEL), block = RT_ATTENTION_BLOCK;
    struct attention_gradient g = { .ld = padded,
                                    .wide_k = rt_align_up(u->dk, RT_PANEL),
                                    .wide_v = rt_align_up(u->dv, RT_PANEL) };
    float **const parts[] = { &g.keys, &g.keys_n, &g.values, &g.weights, &g.dscores,
                              &g.q,    &g.dout,   &g.dk,     &g.dv,      &g.tile };
    const int64_t floats[] = {
        padded * u->dk,   g.wide_k * t,     padded * u->dv, block * padded, block * padded,
        g.wide_k * block, g.wide_v * block, t * g.wide_k,   t * g.wide_v,   0
    };
    for (int i = 0; i < RT_COUNT(parts); scratch += floats[i++])
        *parts[i] = scratch;
    struct rt_matrix k = { u->k, RT_F32, true, u->kv_heads * u->dk, t, .row0 = 0 };
    struct rt_matrix kn = { u->k, RT_F32, false, u->kv_heads * u->dk, u->dk, .row0 = 0 };
    struct rt_matrix v = { u->v, RT_F32, true, u->kv_heads * u->dv, t, .row0 = 0 };
    pack_panels(g.keys, u->dk * RT_PANEL, &k, 0, padded / RT_PANEL, 0, u->dk);
    pack_panels(g.keys_n, t * RT_PANEL, &kn, 0, g.wide_k / RT_PANEL, 0, t);
    pack_panels(g.values, u->dv * RT_PANEL, &v, 0, padded / RT_PANEL, 0, u->dv);
    memset(g.dk, 0, (size_t)(t * g.wide_k) * sizeof *g.dk);
    memset(g.dv, 0, (size_t)(t * g.wide_v) * sizeof *g.dv);
    for (int64_t r0 = 0; r0 < t * u->group; r0 += block)
        attention_block_backward(u, &g, r0, rt_min(block, t * u->group - r0));
    for (int64_t i = 0; i < t; i++) {
        memcpy(u->dk_out + i * u->kv_heads * u->dk, g.dk + i * g.wide_k,
               (size_t)u->dk * sizeof *g.dk);
        memcpy(u->dv_out + i * u->kv_heads * u->dv, g.dv + i * g.wide_v,
               (size_t)u->dv * sizeof *g.dv);
    }
}
