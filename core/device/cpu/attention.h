/* attention.h: what one unit of attention work is: a segment, a key head, and the query heads that
   share it. Private to core/device/cpu; attention.c makes units, isa_attention.h does them. */
#ifndef RT_CPU_ATTENTION_H
#define RT_CPU_ATTENTION_H

#include "core/device/cpu/isa.h"

enum { RT_ATTENTION_BLOCK = 128 /* query rows whose weights are held at once in backward */ };

/* Packed keys, panels of 32 keys [Dk][32], or values, panels of 32 columns [tokens][32], page after
   page. A page holds whole key panels. */
struct rt_attention_panels {
    const float *data;   /* page 0 */
    const int32_t *page; /* where the sequence's pages lie; NULL: there is one, which holds all */
    int64_t tokens;      /* of a page */
    int64_t step;        /* floats between pages */
};

struct rt_attention_unit {
    const float *q;         /* (N,H,Dk), the whole tensor; row0 and head0 say where */
    const float *k, *v;     /* first key and value row of the segment and head; not when cached */
    struct rt_attention_panels keys_at, values_at; /* cached: what the pages hold of the head */
    float *out, *lse;       /* (N,H,Dv) (N,H); lse may be NULL */
    const float *dout;      /* (N,H,Dv) */
    float *dq;              /* (N,H,Dk) */
    float *dk_out, *dv_out; /* as k, v */
    int64_t row0, rows;     /* query rows of the segment */
    int64_t pos0, keys;     /* position of row0; keys of the last row: pos0 + rows */
    int64_t heads, kv_heads, head0, group, dk, dv;
    int64_t window; /* keys a row sees at most */
    bool v_in_k;
    float scale;
    const float *sinks; /* (H) or NULL */
};

typedef void rt_attention_fn(const struct rt_attention_unit *u, float *scratch);

#endif
