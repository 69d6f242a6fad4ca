/* attention.h: what one unit of attention work is: a segment, a key head, and the query heads that
   share it. Private to core/device/cpu; attention.c makes units, isa_attention.h does them. */
#ifndef RT_CPU_ATTENTION_H
#define RT_CPU_ATTENTION_H

#include "core/device/cpu/isa.h"

enum { RT_ATTENTION_BLOCK = 128 /* query rows whose weights are held at once in backward */ };

struct rt_attention_unit {
    const float *q;         /* (N,H,Dk), the whole tensor; row0 and head0 say where */
    const float *k, *v;     /* first key and value row of the segment and head, or cached panels */
    float *out, *lse;       /* (N,H,Dv) (N,H); lse may be NULL */
    const float *dout;      /* (N,H,Dv) */
    float *dq;              /* (N,H,Dk) */
    float *dk_out, *dv_out; /* as k, v */
    int64_t row0, rows;     /* query rows of the segment */
    int64_t pos0, keys;     /* position of row0; keys of the last row: pos0 + rows */
    int64_t heads, kv_heads, head0, group, dk, dv;
    int64_t window; /* keys a row sees at most */
    int64_t length; /* of the cache; value panels are (Dv/32, length, 32) */
    bool v_in_k;
    float scale;
    const float *sinks; /* (H) or NULL */
};

typedef void rt_attention_fn(const struct rt_attention_unit *u, float *scratch);

#endif
