/* config_key.h: a number of rt_config under the name that a file has for it: one row of the tables of
   config.json (config.c) and of a GGUF (config_gguf.c). Owns how a value is checked and stored, and
   the bounds that no real model reaches. */
#ifndef RT_CONFIG_KEY_H
#define RT_CONFIG_KEY_H

#include <math.h>
#include <stddef.h>

#include "core/config.h"

typedef enum rt_key_kind { RT_KEY_INT, RT_KEY_FLOAT, RT_KEY_BOOL } rt_key_kind;

typedef struct rt_config_key {
    const char *name;
    rt_key_kind kind;
    size_t offset; /* in rt_config: int64_t, double or bool */
    int families;  /* RT_KEYS_* that have it */
    bool required;
    double def, min, max;
} rt_config_key;

#define RT_DIM_MAX (1 << 24) /* of widths, ranks and counts */

static inline bool rt_config_key_fits(const rt_config_key *k, double v)
{
    return v >= k->min && v <= k->max && (k->kind == RT_KEY_FLOAT || v == floor(v));
}

static inline void rt_config_key_store(rt_config *cfg, const rt_config_key *k, double v)
{
    uint8_t *field = (uint8_t *)cfg + k->offset;
    if (k->kind == RT_KEY_INT)
        *(int64_t *)(void *)field = (int64_t)v;
    else if (k->kind == RT_KEY_FLOAT)
        *(double *)(void *)field = v;
    else
        *(bool *)field = v != 0;
}

#endif
