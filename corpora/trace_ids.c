/* trace_ids.c: the ids and plan indices an archive already has: a hash table over a list, and
   whether the list came in index order. Refuses: samples. */
#include <stdlib.h>
#include <string.h>

#include "corpora/trace_inside.h"

static int64_t *find_slot(const rt_trace_ids *ids, const char *id, int64_t bytes)
{
    uint64_t mask = (uint64_t)ids->n_slots - 1, at = rt_hash64(id, bytes, 0) & mask;
    for (;; at = (at + 1) & mask) {
        int64_t k = ids->slot[at];
        if (k < 0)
            return &ids->slot[at];
        const char *have = ids->item[k].id;
        if (strncmp(have, id, (size_t)bytes) == 0 && have[bytes] == '\0')
            return &ids->slot[at];
    }
}

// Twice the slots, and room in the list for half as many ids.
static int grow(rt_trace_ids *ids)
{
    int64_t n = rt_max(1024, 2 * ids->n_slots);
    rt_trace_known *item = realloc(ids->item, (size_t)n / 2 * sizeof *item);
    int64_t *slot = malloc((size_t)n * sizeof *slot);
    ids->item = item ? item : ids->item;
    if (!item || !slot) {
        free(slot);
        return -1;
    }
    memset(slot, 0xff, (size_t)n * sizeof *slot);
    free(ids->slot);
    ids->slot = slot;
    ids->n_slots = n;
    for (int64_t k = 0; k < ids->n; k++)
        *find_slot(ids, ids->item[k].id, (int64_t)strlen(ids->item[k].id)) = k;
    return 0;
}

// Linear, but asked only for an index below the last one.
static bool has_index(const rt_trace_ids *ids, int64_t index)
{
    for (int64_t k = 0; k < ids->n; k++)
        if (ids->item[k].index == index)
            return true;
    return false;
}

bool rt_trace_ids_has(const rt_trace_ids *ids, const char *id)
{
    return ids->n_slots > 0 && *find_slot(ids, id, (int64_t)strlen(id)) >= 0;
}

int rt_trace_ids_add(rt_trace_ids *ids, const char *id, int64_t bytes, int64_t index,
                     const char *path, rt_err *err)
{
    if (2 * (ids->n + 1) > ids->n_slots && grow(ids))
        return rt_fail(err, "%s: out of memory for %lld ids", path, (long long)ids->n);
    int64_t *slot = find_slot(ids, id, bytes);
    if (*slot >= 0 && ids->item[*slot].index == index)
        return 1;
    bool below = ids->n > 0 && index <= ids->last_index;
    if (*slot >= 0 || (below && has_index(ids, index)))
        return rt_fail(err, "%s: sample %.*s: its %s stands in the archive already", path,
                       (int)bytes, id, *slot >= 0 ? "id" : "plan index");
    char *copy = strndup(id, (size_t)bytes);
    if (!copy)
        return rt_fail(err, "%s: out of memory for an id", path);
    ids->unordered |= below;
    ids->last_index = below ? ids->last_index : index;
    ids->item[ids->n] = (rt_trace_known){ index, copy };
    *slot = ids->n++;
    return 0;
}

void rt_trace_ids_free(rt_trace_ids *ids)
{
    for (int64_t k = 0; k < ids->n; k++)
        free(ids->item[k].id);
    free(ids->item);
    free(ids->slot);
    memset(ids, 0, sizeof *ids);
}
