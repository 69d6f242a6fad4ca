/* attention.h: what the files of attention share: the arguments of a launch, which keys a row sees,
   and the layout of the cache: [page][head][token][Dk], then, when values are not columns of the
   keys, [page][head][token][Dv] behind all keys of the page. Private to core/device/cuda. */
#ifndef RT_CUDA_ATTENTION_H
#define RT_CUDA_ATTENTION_H

#include "core/device/cuda/cuda.h"

#include "core/device/kernels/team.h"

struct attention {
    const float *q, *k, *v;
    float *out, *lse; /* lse NULL over a cache */
    const float *dout;
    float *dq, *dk, *dv;
    const int32_t *offset, *pos, *page; /* page NULL: keys are rows */
    const float *sinks;
    int64_t n, segments, heads, kv_heads, width_k, width_v, window, pages;
    const float *cache;
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
TEAM_FN int64_t page_floats(const struct attention *p)
{
    return RT_KV_PAGE * p->kv_heads * (p->width_k + (p->v_in_k ? 0 : p->width_v));
}

TEAM_FN const float *key_at(const struct attention *p, const struct view *v, int64_t t,
                            int64_t head)
{
    if (!v->page)
        return p->k + ((v->row0 + t) * p->kv_heads + head) * p->width_k;
    return p->cache + v->page[t / RT_KV_PAGE] * page_floats(p) +
           (head * RT_KV_PAGE + t % RT_KV_PAGE) * p->width_k;
}

TEAM_FN const float *value_at(const struct attention *p, const struct view *v, int64_t t,
                              int64_t head)
{
    if (!v->page)
        return p->v + ((v->row0 + t) * p->kv_heads + head) * p->width_v;
    if (p->v_in_k)
        return key_at(p, v, t, head);
    return p->cache + v->page[t / RT_KV_PAGE] * page_floats(p) +
           RT_KV_PAGE * p->kv_heads * p->width_k +
           (head * RT_KV_PAGE + t % RT_KV_PAGE) * p->width_v;
}

#endif
