/* isa.h: what one instruction set offers the CPU backend. isa.c is one text compiled three
   times (scalar, AVX2+FMA, AVX-512); each copy exports one constant rt_isa, and rt_dev_open chooses
   by feature bits. Everything outside isa.c is ordinary C for the oldest machine, so no function
   with newer instructions can leak into it. All copies give the same bits (core/device/ops.h). */
#ifndef RT_CPU_ISA_H
#define RT_CPU_ISA_H

#include "core/device/ops.h"

/* Rows [begin, end) of a row operation; scratch is private to the calling thread
 * (rt_cpu_need_rows). */
typedef void rt_row_fn(const void *args, int64_t begin, int64_t end, uint8_t *scratch);

struct rt_attention_unit;
struct rt_isa_rows; /* core/device/cpu/rows.h: one rt_row_fn a row operation */

/* Matrix products see b as panels of 32 columns, [k][32] f32, columns past the edge 0. */
enum { RT_PANEL = 32, RT_K_BLOCK = 2048 /* of the numeric contract */ };

/* The right operand before packing: element (k, n) is data[k * ld + n], one of two that are
   interleaved, or data[n * ld + k] when t. Where there is a piece, rows of data are those of the
   piece from row0 on; what lies transposed was brought into the other form before (matmul.h). */
struct rt_matrix {
    const void *data;
    rt_dtype dtype;
    bool t;
    int64_t ld, n; /* elements between rows of data; columns of the operand */
    const rt_piece *piece;
    int64_t row0;
    const int64_t
        *number; /* NULL, or where columns number0, number0 + 1 ... are stored, worked out */
    int64_t number0;
    const uint8_t **ahead; /* NULL, or a place in what will be read: packing moves it on by as many
                              bytes as it reads, and the lines it passes are asked for */
    int interleaved; /* of a plain dtype without t: 1: the even columns of data, 2: the odd ones */
};

/* What a chain of multiply-adds begins with, and what becomes of its end. */
enum rt_chain {
    RT_CHAIN_SET, /* 0, and c = its end */
    RT_CHAIN_ADD, /* 0, and c += its end */
    RT_CHAIN_ON   /* c, and c = its end: goes on where the last steps of k stopped */
};

/* c(m,32) from tile(k,m)ᵀ · panel(k,32); tile rows are lda floats apart, c's ldc. */
typedef void rt_tile_fn(int64_t k, const float *tile, int64_t lda, const float *panel, float *c,
                        int64_t ldc, enum rt_chain chain);
/* The same for `count` panels `stride` floats apart, whose c are (m,32) one after the other: chains
   of few rows are too few to keep the multipliers busy a panel at a time. */
typedef void rt_thin_fn(int64_t m, int64_t k, const float *tile, const float *panels,
                        int64_t stride, int64_t count, float *c, enum rt_chain chain);

struct rt_isa {
    const char *name;
    int tile_rows;           /* most rows of a tile kernel */
    rt_tile_fn *const *tile; /* [m], 1 <= m <= tile_rows */
    rt_thin_fn *thin;        /* m <= tile_rows; lda is m */
    /* chains of one row x over [k0, k1), on from what sums(count,32) hold; returns how many of the
       steps from k0 on it made */
    int64_t (*dot_panels)(float *sums, const float *x, const struct rt_matrix *b, int64_t p0,
                          int64_t count, int64_t k0, int64_t k1);
    /* rows [k0, k1) of panels [p0, p0 + count) to out, `stride` floats between panels; for blocked
       dtypes k0, or p0 * 32 without t, is a whole number of blocks. Columns past the edge hold
       anything finite. */
    void (*pack_panels)(float *out, int64_t stride, const struct rt_matrix *b, int64_t p0,
                        int64_t count, int64_t k0, int64_t k1);
    /* out(k,m) = a(m,k)ᵀ, or a(k,m) when ta */
    void (*pack_tile)(float *out, const float *a, int64_t lda, bool ta, int64_t m, int64_t k);
    const struct rt_isa_rows *rows;
    /* one unit of core/device/cpu/attention.h */
    void (*attention_forward)(const struct rt_attention_unit *u, float *scratch);
    void (*attention_backward)(const struct rt_attention_unit *u, float *scratch);
    void (*attention_cached)(const struct rt_attention_unit *u, float *scratch);
};

extern const struct rt_isa rt_isa_scalar, rt_isa_avx2, rt_isa_avx512;

#endif
