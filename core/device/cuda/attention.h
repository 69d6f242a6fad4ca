/* attention.h: what the files of attention share: the arguments of a launch, which keys a row sees,
   and the layout of the cache: [page][head][token][Dk], then, when values are not columns of the
   keys, [page][head][token][Dv] behind all keys of the page. Its elements are what the device keeps
   activations in, its rows whole groups of 8 of them, which cp.async moves; past Dk and Dv they are
   0. Private to core/device/cuda. */
#ifndef RT_CUDA_ATTENTION_H
#define RT_CUDA_ATTENTION_H

#include "core/device/cuda/cuda.h"

#include "core/device/kernels/team.h"

/* Elements as memory holds them: f32, or bf16, rounded when they are put there. */
struct elements {
    void *data;
    bool bf16;
    __device__ float operator[](int64_t i) const
    {
        return bf16 ? bf16_value(((const uint16_t *)data)[i]) : ((const float *)data)[i];
    }
    __device__ void put(int64_t i, float x) const
    {
        if (bf16)
            ((uint16_t *)data)[i] = (uint16_t)bf16_bits(x);
        else
            ((float *)data)[i] = x;
    }
    __device__ struct elements from(int64_t i) const /* those from i on */
    {
        return { (uint8_t *)data + i * (bf16 ? 2 : 4), bf16 };
    }
};
static inline struct elements elements_of(const rt_tensor *t)
{
    return { t->data, t->dtype == RT_BF16 };
}

struct attention {
    struct elements q, k, v; /* over a cache k and v are all of it */
    struct elements out, dout, dq, dk, dv;
    float *lse;                         /* NULL over a cache */
    const int32_t *offset, *pos, *page; /* page NULL: keys are rows */
    const float *sinks;
    int64_t n, segments, heads, kv_heads, width_k, width_v, window, pages;
    bool v_in_k;
    float scale;
};

/* In bf16 on tensor cores; false, and nothing done, where no form holds the widths. Bytes of
   workspace: 0 there. attention_flash.cu, attention_flash_back.cu, attention_paged.cu */
bool rt_flash_forward(rt_dev *d, const struct attention *p);
bool rt_flash_backward(rt_dev *d, const struct attention *p);
bool rt_paged_attention(rt_dev *d, const struct attention *p);
int64_t rt_flash_bytes(const rt_attention_shape *s);
int64_t rt_paged_bytes(const rt_attention_shape *s);

TEAM_FN int64_t segment_of(const struct attention *p, int64_t row)
{
    int64_t low = 0, high = p->segments;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        *(p->offset[middle] <= row ? &low : &high) = middle;
    }
    return low;
}

/* Keys [first, end) that a row sees, counted from its segment's first row or, over a cache, from
   its sequence's first token; row0 is the former. */
struct view {
    int64_t first, end, row0;
    const int32_t *page;
};

TEAM_FN struct view view_of(const struct attention *p, int64_t row)
{
    struct view v;
    int64_t s = segment_of(p, row);
    v.row0 = p->offset[s];
    v.page = p->page ? p->page + s * p->pages : NULL;
    v.end = (p->page ? p->pos[row] : row - v.row0) + 1;
    v.first = p->window && v.end > p->window ? v.end - p->window : 0;
    return v;
}

/* A page holds the keys of all heads, then their values. */
RT_BOTH int64_t cache_row(int64_t width) { return rt_align_up(width, 8); }
RT_BOTH int64_t cache_page(int64_t heads, int64_t dk, int64_t dv, bool v_in_k)
{
    return RT_KV_PAGE * heads * (cache_row(dk) + (v_in_k ? 0 : cache_row(dv)));
}

/* Token t's place in it, of values too where they are keys. */
TEAM_FN int64_t key_in_cache(const struct attention *p, int64_t page, int64_t t, int64_t head)
{
    return page * cache_page(p->kv_heads, p->width_k, p->width_v, p->v_in_k) +
           (head * RT_KV_PAGE + t % RT_KV_PAGE) * cache_row(p->width_k);
}
TEAM_FN int64_t value_in_cache(const struct attention *p, int64_t page, int64_t t, int64_t head)
{
    return p->v_in_k ? key_in_cache(p, page, t, head)
                     : key_in_cache(p, page, 0, p->kv_heads) +
                           (head * RT_KV_PAGE + t % RT_KV_PAGE) * cache_row(p->width_v);
}

TEAM_FN struct elements key_at(const struct attention *p, const struct view *v, int64_t t,
                               int64_t head)
{
    return p->k.from(v->page ? key_in_cache(p, v->page[t / RT_KV_PAGE], t, head)
                             : ((v->row0 + t) * p->kv_heads + head) * p->width_k);
}

TEAM_FN struct elements value_at(const struct attention *p, const struct view *v, int64_t t,
                                 int64_t head)
{
    return p->v.from(v->page ? value_in_cache(p, v->page[t / RT_KV_PAGE], t, head)
                             : ((v->row0 + t) * p->kv_heads + head) * p->width_v);
}

#endif
