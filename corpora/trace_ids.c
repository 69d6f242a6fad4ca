/* trace_ids.c: the ids and plan indices an archive already has, and whether they came in index
   order. Refuses: samples. */
#include <string.h>

#include "corpora/trace_inside.h"

// Linear, but asked only for an index below the last one.
static bool has_index(const rt_trace_ids *ids, int64_t index)
{
    for (int64_t k = 0; k < ids->map.n; k++)
        if (ids->map.entry[k].value == index)
            return true;
    return false;
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
    bool below = ids->map.n > 0 && index <= ids->last_index;
    if (k >= 0 || (below && has_index(ids, index)))
        return rt_fail(err, "%s: sample %.*s: its %s stands in the archive already", path,
                       (int)bytes, id, k >= 0 ? "id" : "plan index");
    if ((k = rt_bytes_map_put(&ids->map, id, bytes, err)) < 0)
        return rt_wrap(err, "%s", path);
    ids->map.entry[k].value = index;
    ids->unordered |= below;
    ids->last_index = below ? ids->last_index : index;
    return 0;
}
