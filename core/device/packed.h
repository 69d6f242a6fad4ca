/* packed.h: small tensors that travel together: one block of memory on the device, the same block on
   the host, one transfer. Tensors are laid out for the sizes at hand, each on 64 bytes.
   Refuses: knowing what they hold. */
#ifndef RT_PACKED_H
#define RT_PACKED_H

#include "core/device/tensor.h"

RT_BEGIN

/* Bytes of n tensors one after another in the shapes they have; their data when base is not NULL. */
static inline int64_t rt_packed_layout(rt_tensor *const *tensor, int n, void *base)
{
    int64_t at = 0;
    for (int i = 0; i < n; i++) {
        tensor[i]->data = base ? (uint8_t *)base + at : NULL;
        at += rt_align_up(rt_tensor_bytes(tensor[i]), RT_CACHE_LINE);
    }
    return at;
}

/* Where the copy of t, whose block begins at base, lies in the block at copy. */
static inline void *rt_packed_copy(const rt_tensor *t, const void *base, void *copy)
{
    return (uint8_t *)copy + ((const uint8_t *)t->data - (const uint8_t *)base);
}

RT_END

#endif
