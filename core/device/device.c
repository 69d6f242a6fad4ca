/* device.c: the devices of this build by name, and what is the same for all of them: arenas in
   device memory, the stage of rt_put, the count of waits. The only file that knows which backends
   were compiled in. Refuses: operations (ops.c). */
#include "core/device/device.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/device/backend.h"

static const rt_backend *const backends[] = {
#ifdef RT_STRICT_DEVICE
    &rt_backend_strict,
#endif
    &rt_backend_cpu,
};

/* The return address names the caller where a backend has to say who was wrong. */
#define FROM_HERE(d) ((d)->caller = __builtin_return_address(0))

/* --- life --------------------------------------------------------------------------------------
 */

const char *rt_dev_name(int i)
{
    return i >= 0 && i < RT_COUNT(backends) ? backends[i]->name : NULL;
}

int rt_dev_open(rt_dev **out, const char *name, int threads, rt_err *err)
{
    const rt_backend *b = name ? NULL : backends[0];
    *out = NULL;
    for (int i = 0; name && i < RT_COUNT(backends); i++)
        if (!strcmp(name, backends[i]->name))
            b = backends[i];
    if (!b)
        return rt_usage(err, "device %s: not in this build: use %s", name, backends[0]->name);
    rt_dev *d = rt_alloc(1, sizeof *d, "a device");
    d->backend = b;
    if (b->open(d, threads, err)) {
        free(d);
        return -1;
    }
    *out = d;
    return 0;
}

void rt_dev_close(rt_dev *d)
{
    if (!d)
        return;
    d->backend->close(d);
    rt_memory_free(d->stage);
    free(d);
}

rt_dev_facts rt_dev_get(rt_dev *d)
{
    rt_dev_facts f = { .name = d->backend->name,
                       .maps_files = d->backend->maps_files,
                       .waits = d->waits };
    d->backend->facts(d, &f);
    return f;
}

/* --- memory ------------------------------------------------------------------------------------
 */

void *rt_dev_alloc(rt_dev *d, int64_t bytes)
{
    FROM_HERE(d);
    return d->backend->alloc(d, bytes, false, "memory");
}

void rt_dev_release(rt_dev *d, void *p)
{
    FROM_HERE(d);
    if (p)
        d->backend->release(d, p);
}

int rt_dev_place(rt_dev *d, rt_arena *a, rt_err *err)
{
    char need[32], have[32];
    FROM_HERE(d);
    if (d->backend->maps_files)
        return rt_arena_place(a, err);
    void *base = d->backend->alloc(d, a->high, a->sparse, a->label);
    if (!base)
        return rt_fail(err,
                       "%s: %s are needed, device %s has %s left; see --plan for what takes the "
                       "most",
                       a->label, rt_fmt_bytes(need, sizeof need, a->high), d->backend->name,
                       rt_fmt_bytes(have, sizeof have, rt_dev_get(d).free));
    rt_arena_adopt(a, base);
    return 0;
}

void rt_dev_free(rt_dev *d, rt_arena *a)
{
    if (a->adopted)
        rt_dev_release(d, a->base);
    rt_arena_free(a);
}

static void dry_wait(rt_dev *d);

/* --- transfers ---------------------------------------------------------------------------------
 */

void rt_upload(rt_dev *d, void *dst, const void *src, int64_t bytes)
{
    FROM_HERE(d);
    if (bytes > 0 && !d->dry)
        d->backend->upload(d, dst, src, bytes);
}

void rt_put(rt_dev *d, void *dst, const void *src, int64_t bytes)
{
    int64_t room = rt_align_up(bytes, RT_CACHE_LINE);
    FROM_HERE(d);
    if (bytes <= 0 || d->dry) {
        d->stage_dry += rt_max(room, 0);
        return;
    }
    if (!d->backend->late) {
        d->backend->upload(d, dst, src, bytes);
        return;
    }
    if (room > d->stage_size - d->stage_used) {
        rt_err later; /* is sticky: the caller's own rt_sync says it again */
        (void)rt_sync(d, &later);
    }
    if (room > d->stage_size)
        rt_bug("a put of %lld bytes, a dry run showed %lld", (long long)bytes,
               (long long)d->stage_size);
    uint8_t *aside = d->stage + d->stage_used;
    d->stage_used += room;
    memcpy(aside, src, (size_t)bytes);
    d->backend->upload(d, dst, aside, bytes);
}

void rt_download(rt_dev *d, void *dst, const void *src, int64_t bytes)
{
    FROM_HERE(d);
    if (bytes > 0 && !d->dry)
        d->backend->download(d, dst, src, bytes);
}

int rt_sync(rt_dev *d, rt_err *err)
{
    FROM_HERE(d);
    if (d->dry) {
        dry_wait(d);
        return 0;
    }
    d->waits++;
    d->stage_used = 0;
    return d->backend->sync(d, err);
}

/* --- dry runs -----------------------------------------------------------------------------------
 */

void rt_dev_dry_begin(rt_dev *d)
{
    d->dry = true;
    d->cost = (rt_cost){ 0 };
    d->stage_dry = 0;
}

/* Puts between two waits are on the stage together. */
static void dry_wait(rt_dev *d)
{
    if (d->backend->late)
        d->stage_need = rt_max(d->stage_need, d->stage_dry);
    d->stage_dry = 0;
}

rt_cost rt_dev_dry_end(rt_dev *d)
{
    dry_wait(d);
    d->dry = false;
    return d->cost;
}

int rt_dev_ready(rt_dev *d, rt_err *err)
{
    if (d->stage_need > d->stage_size) {
        if (rt_sync(d, err))
            return -1;
        rt_memory_free(d->stage);
        d->stage_size = 0;
        d->stage = rt_memory_alloc(d->stage_need, false);
        if (!d->stage)
            return rt_fail_memory(err, d->stage_need, "what goes to the device");
        d->stage_size = d->stage_need;
    }
    return d->backend->ready(d, err);
}

int64_t rt_dev_workspace(const rt_dev *d) { return d->stage_need + d->backend->workspace(d); }
