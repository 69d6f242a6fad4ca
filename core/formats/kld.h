/* kld.h: the base file of llama.cpp's llama-perplexity --kl-divergence-base (tools/perplexity):
   texts in windows of equal length and, for the second half of each, a model's log-probabilities in
   16 bits:

     "_logits_"; i32 window, vocab, windows; i32 tokens (windows, window)
     of each window rows for tokens window/2 .. window - 2, each: f32 scale, f32 least, u16 q (V
   made even)

   log p = scale q + least; what lies 16 nats below the most probable is cut off there. A model
   against its own file has a KL of about 1e-6. Refuses: running models (student/windows.h), a file
   whose size is not what it says. */
#ifndef RT_KLD_H
#define RT_KLD_H

#include "core/base/file.h"

RT_BEGIN

typedef struct rt_kld {
    rt_map map;
    int64_t window, vocab, windows; /* tokens of a window, columns, how many */
} rt_kld;

int rt_kld_open(rt_kld *k, const char *path, rt_err *err); /* on failure nothing to close */
void rt_kld_close(rt_kld *k);                              /* accepts a zeroed k */
/* Rows of a window, the first for token window/2, which predicts the one after it. */
int64_t rt_kld_rows(int64_t window);
int64_t rt_kld_row_bytes(int64_t vocab);
int64_t rt_kld_bytes(int64_t window, int64_t vocab, int64_t windows); /* -1: beyond 2^63 */
int32_t rt_kld_token(const rt_kld *k, int64_t window, int64_t at);
/* out (vocab): log-probabilities of row r of a window. */
void rt_kld_row(const rt_kld *k, int64_t window, int64_t r, float *out);

/* The file up to its rows; token (windows, window). */
int rt_kld_begin(rt_out *out, int64_t window, int64_t vocab, int64_t windows, const int32_t *token,
                 rt_err *err);
/* One row of rt_kld_row_bytes from logits (vocab). */
void rt_kld_encode(uint8_t *row, const float *logits, int64_t vocab);

RT_END

#endif
