/* stored.h: the tensors of a checkpoint as a model's weights: a safetensors directory or a GGUF,
   opened by its headers and memory-mapped, nothing read before it is asked for; then all bytes of
   a tensor are checked once against the checksum that retort's own files carry. Finds a weight
   under the names and in the forms checkpoints keep it in, checks shapes, and gives rows of it as
   f32; this is the only place where codes meet their scales. What is found:

     X                       any plain dtype, or a block dtype of GGUF
     X, X_scale_inv          e4m3 codes, one multiplier a block of rows x columns, ragged at ends
     X_packed, _scale, _shape   int4 of compressed-tensors: eight codes an int32, a scale a group
     experts.gate_up_proj,   all experts in one tensor: (E,2F,C) (E,C,F) or transposed (E,C,2F)
       experts.down_proj     (E,F,C); gate before up, or row by row interleaved (gpt_oss)
     ..._blocks, ..._scales  the same as MXFP4: (E,rows,C/32,16) codes, (E,rows,C/32) exponents
     blk.N.x                 GGUF's names; llama's query and key rows in Hugging Face's order
     blk.N.attn_k_b, _v_b    kv_b in two, the keys transposed
     blk.N.ffn_gate_up_exps  (E,2F,C)

   Refuses: codes without their scale, scales that are not finite, zero points, activation order. */
#ifndef RT_STORED_H
#define RT_STORED_H

#include "core/device/piece.h"
#include "core/formats/gguf.h"
#include "core/formats/safetensors.h"
#include "core/network/params.h"

RT_BEGIN

typedef struct rt_store {
    const char *path; /* in messages: borrowed, or the GGUF that was found there */
    bool is_gguf;
    rt_gguf gguf;
    rt_safetensors st;
    uint8_t *used;    /* per tensor of the container: a weight was found in it */
    uint8_t *checked; /* its bytes are those that were written */
} rt_store;

int rt_store_open(rt_store *s, const char *path, rt_err *err); /* on failure nothing to close */
void rt_store_close(rt_store *s);                              /* accepts a zeroed s */
int64_t rt_store_count(const rt_store *s);
const char *rt_store_name(const rt_store *s, int64_t i);
int64_t rt_store_file_bytes(const rt_store *s); /* of all files that it reads */
void rt_store_forget(const rt_store *s);        /* pages of its maps that this process holds */
/* Where bytes of a map of the store lie: the file, and the offset there. */
const char *rt_store_place(const rt_store *s, const uint8_t *data, int64_t *offset);
bool rt_store_summed(const rt_store *s);        /* carries checksums of its tensors */

typedef enum rt_stored_form {
    RT_STORED_PLAIN,
    RT_STORED_FP8,
    RT_STORED_MXFP4,
    RT_STORED_INT4,
    RT_STORED_LATENT /* keys (H,R,nope) in scale, values (H,Dv,R) in data: rows of kv_b by head */
} rt_stored_form;

enum { RT_STORED_PARTS = 4 };

/* One matrix (a vector is one row) as it lies in the map. Row r of it is row first + r * step of
   the tensor, or column first + r * step when transposed. */
typedef struct rt_stored {
    char name[176]; /* of the tensor with the codes, in messages */
    const char *path;
    const rt_store *store;         /* that it was found in */
    int64_t part[RT_STORED_PARTS]; /* (parts) tensors of the container that it is read from */
    int parts;
    rt_stored_form form;
    rt_dtype dtype, scale_dtype;
    const uint8_t *data, *scale;
    int64_t rows, cols;
    int64_t first, step, width; /* width: elements a row of the tensor has */
    bool transposed;
    int64_t heads; /* whose rows stand in rotary pairs, as GGUF's llama keeps them; 0 = as here */
    int64_t scale_rows, scale_cols; /* weights under one scale; LATENT: nope, Dv */
} rt_stored;

static inline int64_t rt_stored_blocks(int64_t n, int64_t size)
{
    return n / size + (n % size != 0);
}

/* Weight p, or its expert e when p is a stack, as cfg describes the checkpoint. */
int rt_store_find(rt_store *s, const rt_config *cfg, const rt_param *p, int64_t e, rt_stored *out,
                  rt_err *err);
/* Matrices that weight p is found as: the experts of a stack, else 1. */
int64_t rt_store_pieces(const rt_param *p);
/* Headers only: every weight of list is there in its shape, and nothing else is but what no forward
   pass reads (layers that predict further tokens, a head that is the embedding again). */
int rt_store_check(rt_store *s, const rt_config *cfg, const rt_params *list, rt_err *err);
/* The bytes of every tensor that t is read from; each is read once and then known: after that,
   threads may read rows of it side by side. */
int rt_stored_check(const rt_stored *t, rt_err *err);
/* The same as products read it from the map. */
rt_piece rt_stored_piece(const rt_stored *t);
/* out (n, cols) = rows first .. first + n - 1 */
int rt_stored_rows(const rt_stored *t, float *out, int64_t first, int64_t n, rt_err *err);
/* One weight of the registry, all experts of a stack, as f32 rows in host. */
int rt_store_rows(rt_store *s, const rt_config *c, const rt_param *p, float *host, rt_err *err);

RT_END

#endif
