/* gguf_inside.h: what the files of the GGUF reader share. Private to them. */
#ifndef RT_GGUF_INSIDE_H
#define RT_GGUF_INSIDE_H

#include "core/formats/gguf.h"

/* Keys, tensors and checksums of the mapped g->map, all checked. g->path is in messages. */
int rt_gguf_parse(rt_gguf *g, rt_err *err);
/* The orders by name, into tables of the right size; a name that occurs twice is an error. */
int rt_gguf_index(rt_gguf *g, rt_err *err);

static inline uint64_t rt_load_le(const uint8_t *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

#endif
