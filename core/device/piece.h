/* piece.h: one matrix of weights in the bytes of a checkpoint: where a row of it lies, and what its
   codes mean under their scales: what kernels that read them faster are held to. Refuses: finding them
   (core/network/stored.h), vouching that they are numbers. */
#ifndef RT_PIECE_H
#define RT_PIECE_H

#include "core/base/dtype.h"

RT_BEGIN

typedef enum rt_code {
    RT_CODE_ROWS,  /* rows of dtype */
    RT_CODE_FP8,   /* e4m3 codes, a scale a block of scale_rows x scale_cols */
    RT_CODE_MXFP4, /* e2m1 codes two a byte, an exponent a row and 32 columns */
    RT_CODE_INT4,  /* codes two a byte, each less 8, a scale a row and scale_cols columns */
    RT_CODE_LATENT /* rows of each head: its keys, then its values. Keys are the columns of
                      (H, R, scale_rows) of scale_dtype at scale, values the rows of
                      (H, scale_cols, R) of dtype at data; transposed is R */
} rt_code;

/* Row r is row first + step * r of what lies at data, or column when that is transposed; with pair,
   where the halves of every `pair` rows are interleaved. */
typedef struct rt_piece {
    rt_code code;
    rt_dtype dtype, scale_dtype;
    const uint8_t *data, *scale;
    int64_t row_bytes, first, step, pair;
    int64_t transposed; /* rows that lie at data, of row_bytes each, when its columns are ours */
    int64_t scale_rows, scale_cols, scale_ld; /* scale_ld: scales of a row of blocks */
} rt_piece;

int64_t rt_piece_row(const rt_piece *p, int64_t r);
/* The bytes that a piece of `rows` rows is read from: n of them from `first` on at data, and at
   scale (n = 0: nothing is). */
typedef struct rt_extent {
    int64_t first, n;
} rt_extent;
rt_extent rt_piece_data(const rt_piece *p, int64_t rows);
rt_extent rt_piece_scales(const rt_piece *p, int64_t rows);
/* Bytes that its (rows, cols) numbers take, without scales. */
int64_t rt_piece_bytes(const rt_piece *p, int64_t rows, int64_t cols);
/* out(n) = columns [first, first + n) of row r, which lies as a row; first and n whole blocks of
   what is stored, but at the end of the row. */
void rt_piece_decode(float *out, const rt_piece *p, int64_t r, int64_t first, int64_t n);
/* The scale of (stored) row r in column `at`. */
float rt_piece_scale(const rt_piece *p, int64_t r, int64_t at);

RT_END

#endif
