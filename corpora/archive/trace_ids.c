/* trace_ids.c: the ids and plan indices an archive already has, and whether they came in index
   order. Refuses: samples. */
#include <string.h>

#include "corpora/archive/trace_inside.h"

// Asked only for an index below the last one; most archives never are.
static int has_index(rt_trace_ids *ids, int64_t index, bool *has, rt_err *err)
{
    for (int64_t k = ids->indices.n; k < ids->map.n; k++)
        if (rt_bytes_map_put(&ids->indices, (const char *)&ids->map.entry[k].value, 8, err) < 0)
            return -1;
    *has = rt_bytes_map_find(&ids->indices, (const char *)&index, 8) >= 0;
    return 0;
}

bool rt_trace_ids_has(const rt_trace_ids *ids, const char *id)
{
    return rt_bytes_map_find(&ids->map, id, (int64_t)strlen(id)) >= 0;
}

int rt_trace_ids_add(rt_trace_ids *ids, const char *id, int64_t bytes, int64_t index,
                     const char *path, rt_err *err)
{
    int64_t k = rt_bytes_map_find(&ids->map, id, bytes);
    if (k >= 0 && ids->map.entry[k].value == index)
        return 1;
    bool below = ids->map.n > 0 && index <= ids->last_index, has = false;
    if (k < 0 && below && has_index(ids, index, &has, err))
        return -1;
    if (k >= 0 || has)
        return rt_fail(err, "%s: sample %.*s: its %s stands in the archive already", path,
                       (int)bytes, id, k >= 0 ? "id" : "plan index");
    if ((k = rt_bytes_map_put(&ids->map, id, bytes, err)) < 0)
        return rt_wrap(err, "%s", path);
    ids->map.entry[k].value = index;
    ids->unordered |= below;
    ids->last_index = below ? ids->last_index : index;
    return 0;
}
