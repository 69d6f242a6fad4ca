/* config_key.h: a number of rt_config under the name that a file has for it: one row of the tables
   of config.json (config_table.c) and of a GGUF (config_gguf.c). Owns how a value is checked and stored,
   the bounds that no real model reaches, and how keys that no table knows are named. */
#ifndef RT_CONFIG_KEY_H
#define RT_CONFIG_KEY_H

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "core/base/log.h"
#include "core/network/config.h"

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

typedef struct rt_config_scaling {
    rt_rope_scaling kind;
    int bit; /* in `families` of rt_config_rope_keys */
    const char *name;
} rt_config_scaling;

/* config_table.c; a row without a name is the end */
extern const rt_config_key rt_config_keys[], rt_config_rope_keys[];
extern const rt_config_scaling rt_config_scalings[];

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

/* Keys of a file that are neither used nor known to be without effect: one warning names them. */
typedef struct rt_unknown_keys {
    char names[400];
    int64_t bytes;
} rt_unknown_keys;

static inline void rt_unknown_add(rt_unknown_keys *u, const char *name)
{
    int64_t room = (int64_t)sizeof u->names - u->bytes;
    int n = snprintf(u->names + u->bytes, (size_t)room, "%s%.80s", u->bytes ? ", " : "", name);
    if (n < room)
        u->bytes += n;
    else
        u->names[u->bytes] = 0;
}

static inline void rt_unknown_warn(const rt_unknown_keys *u, const char *what)
{
    if (u->bytes)
        rt_warn("%s: keys that retort does not know and does not use: %s: if one changes what the "
                "model computes, its numbers will be others here",
                what, u->names);
}

static inline bool rt_key_among(const char *const *names, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

#endif
