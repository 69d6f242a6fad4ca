#include "core/formats/kld.h"

#include <math.h>
#include <string.h>

static const char MAGIC[8] = { '_', 'l', 'o', 'g', 'i', 't', 's', '_' };
enum { HEAD = 20, WINDOW_MAX = 1 << 24, STEPS = 65535 };
static const float CUT = 16; /* nats */

int64_t rt_kld_rows(int64_t window) { return window - 1 - window / 2; }

int64_t rt_kld_row_bytes(int64_t vocab) { return 8 + 2 * rt_align_up(vocab, 2); }

int64_t rt_kld_bytes(int64_t window, int64_t vocab, int64_t windows)
{
    int64_t tokens, rows, all;
    if (!rt_mul_ok(windows, 4 * window, &tokens) ||
        !rt_mul_ok(windows, rt_kld_rows(window), &rows) ||
        !rt_mul_ok(rows, rt_kld_row_bytes(vocab), &rows) || !rt_add_ok(tokens, rows, &all) ||
        !rt_add_ok(all, HEAD, &all))
        return -1;
    return all;
}

static int32_t i32_at(const uint8_t *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static int check(const rt_kld *k, rt_err *err)
{
    const char *path = k->map.path;
    if (k->window < 3 || k->window > WINDOW_MAX || k->vocab < 2 || k->vocab > RT_VOCAB_MAX ||
        k->windows < 1)
        return rt_fail(err,
                       "%s: %lld windows of %lld tokens and a vocabulary of %lld: not a file of "
                       "llama-perplexity --kl-divergence-base",
                       path, (long long)k->windows, (long long)k->window, (long long)k->vocab);
    int64_t want = rt_kld_bytes(k->window, k->vocab, k->windows);
    if (want != k->map.bytes)
        return rt_fail(err, "%s: has %lld bytes where its head says %lld: cut short? make it anew",
                       path, (long long)k->map.bytes, (long long)want);
    for (int64_t i = 0; i < k->windows * k->window; i++) {
        int32_t id = i32_at(k->map.data + HEAD + 4 * i);
        if (id < 0 || id >= k->vocab)
            return rt_fail(err, "%s: token %d at %lld: its vocabulary has %lld", path, id,
                           (long long)i, (long long)k->vocab);
    }
    return 0;
}

int rt_kld_open(rt_kld *k, const char *path, rt_err *err)
{
    *k = (rt_kld){ 0 };
    if (rt_map_open(&k->map, path, err))
        return -1;
    int bad = k->map.bytes < HEAD || memcmp(k->map.data, MAGIC, sizeof MAGIC);
    if (bad) {
        rt_fail(
            err,
            "%s: does not begin with _logits_: not a file of llama-perplexity --kl-divergence-base",
            path);
    } else {
        k->window = i32_at(k->map.data + 8);
        k->vocab = i32_at(k->map.data + 12);
        k->windows = i32_at(k->map.data + 16);
        bad = check(k, err);
    }
    if (bad)
        rt_kld_close(k);
    return bad ? -1 : 0;
}

void rt_kld_close(rt_kld *k)
{
    rt_map_close(&k->map);
    *k = (rt_kld){ 0 };
}

int32_t rt_kld_token(const rt_kld *k, int64_t window, int64_t at)
{
    return i32_at(k->map.data + HEAD + 4 * (window * k->window + at));
}

void rt_kld_row(const rt_kld *k, int64_t window, int64_t r, float *out)
{
    const uint8_t *row = k->map.data + HEAD + 4 * k->windows * k->window +
                         (window * rt_kld_rows(k->window) + r) * rt_kld_row_bytes(k->vocab);
    float scale, least;
    memcpy(&scale, row, 4);
    memcpy(&least, row + 4, 4);
    for (int64_t i = 0; i < k->vocab; i++) {
        uint16_t q;
        memcpy(&q, row + 8 + 2 * i, 2);
        out[i] = scale * (float)q + least;
    }
}

int rt_kld_begin(rt_out *out, int64_t window, int64_t vocab, int64_t windows, const int32_t *token,
                 rt_err *err)
{
    const int32_t head[3] = { (int32_t)window, (int32_t)vocab, (int32_t)windows };
    return rt_out_write(out, MAGIC, sizeof MAGIC, err) ||
                   rt_out_write(out, head, sizeof head, err) ||
                   rt_out_write(out, token, windows * window * (int64_t)sizeof *token, err)
               ? -1
               : 0;
}

void rt_kld_encode(uint8_t *row, const float *logits, int64_t vocab)
{
    float most = logits[0], least = logits[0];
    double sum = 0;
    memset(row, 0, (size_t)rt_kld_row_bytes(vocab));
    for (int64_t i = 1; i < vocab; i++) {
        most = fmaxf(most, logits[i]);
        least = fminf(least, logits[i]);
    }
    least = fmaxf(least, most - CUT);
    for (int64_t i = 0; i < vocab; i++)
        sum += (double)expf(logits[i] - most);
    float scale = (most - least) / STEPS, least_logp = least - most - (float)log(sum);
    memcpy(row, &scale, 4);
    memcpy(row + 4, &least_logp, 4);
    float inverse = 1 / scale;
    for (int64_t i = 0; scale > 0 && i < vocab; i++) {
        float steps = logits[i] > least ? rintf((logits[i] - least) * inverse) : 0;
        uint16_t q = (uint16_t)fminf(steps, STEPS);
        memcpy(row + 8 + 2 * i, &q, 2);
    }
}
