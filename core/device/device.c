/* device.c: the devices of this build by name, and what is the same for all of them: arenas in
   device memory, the stage of rt_put, the count of waits. The only file that knows which backends
   were compiled in. Refuses: operations (ops.c). */
#include "core/device/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/device/backend.h"

static const rt_backend *const backends[] = {
#ifdef RT_STRICT_DEVICE
    &rt_backend_strict,
#endif
#ifdef RT_EMULATE
    &rt_backend_cuda,
#endif
    &rt_backend_cpu,
#if defined RT_CUDA_DEVICE && !defined RT_EMULATE
    &rt_backend_cuda,
#endif
};

static void outside_repeat(const rt_dev *d, const char *call)
{
    if (d->repeating)
        rt_bug("%s among operations that repeat", call);
}

/* The return address names the caller where a backend has to say who was wrong. */
#define FROM_HERE(d) ((d)->caller = __builtin_return_address(0), outside_repeat(d, __func__))

/* --- life --------------------------------------------------------------------------------------
 */

const char *rt_dev_name(int i)
{
    return i >= 0 && i < RT_COUNT(backends) ? backends[i]->name : NULL;
}

/* The backend that `name` begins with and the number behind a colon; NULL when there is none. */
static const rt_backend *find_backend(const char *name, int *index)
{
    *index = 0;
    for (int i = 0; i < RT_COUNT(backends); i++) {
        size_t n = strlen(backends[i]->name);
        if (strncmp(name, backends[i]->name, n))
            continue;
        if (name[n] == 0)
            return backends[i];
        if (name[n] == ':' && name[n + 1] >= '0' && name[n + 1] <= '9' && strlen(name + n) <= 4) {
            char *end;
            *index = (int)strtol(name + n + 1, &end, 10);
            if (*end == 0)
                return backends[i];
        }
    }
    return NULL;
}

static int refuse_name(const char *name, rt_err *err)
{
    char names[64] = "";
    for (int i = 0; i < RT_COUNT(backends); i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? " or " : "",
                 backends[i]->name);
    return rt_usage(err, "device %s: not in this build: use %s", name, names);
}

/* One of "a|b|c". */
static bool is_choice(const char *word, const char *choices)
{
    size_t n = strlen(word);
    for (const char *at = choices; at; at = strchr(at, '|')) {
        at += *at == '|';
        if (!strncmp(at, word, n) && (at[n] == '|' || at[n] == 0))
            return true;
    }
    return false;
}

static int open_device(rt_dev **out, const char *name, int threads, const char *precision, bool dry,
                       rt_err *err)
{
    int index = 0;
    name = name ? name : getenv("RETORT_DEVICE");
    const rt_backend *b = name ? find_backend(name, &index) : backends[0];
    *out = NULL;
    if (!b)
        return refuse_name(name, err);
    if (precision && !is_choice(precision, b->precisions))
        return rt_usage(err,
                        "--precision %s: device %s has %s: give another --device, or leave it out",
                        precision, b->name, b->precisions);
    rt_dev *d = rt_alloc(1, sizeof *d, "a device");
    d->backend = b;
    d->act = RT_F32;
    d->precision = precision;
    d->dry = dry;
    if (b->open(d, index, threads, err)) {
        free(d);
        return -1;
    }
    d->precision = NULL;
    d->dry = false;
    *out = d;
    return 0;
}

int rt_dev_open(rt_dev **d, const char *name, int threads, rt_err *err)
{
    return open_device(d, name, threads, NULL, false, err);
}

int rt_dev_choose(rt_dev **d, const rt_dev_choice *c, bool dry, rt_err *err)
{
    if (open_device(d, c->name, (int)c->threads, c->precision, dry, err))
        return -1;
    if (c->memory && (*d)->backend->maps_files) {
        rt_dev_close(*d);
        *d = NULL;
        return rt_usage(err, "--gpu-memory bounds the memory of a GPU: give --device cuda too, or "
                             "leave it out");
    }
    (*d)->most = c->memory;
    return 0;
}

void rt_dev_close(rt_dev *d)
{
    if (!d)
        return;
    rt_dev_host_release(d, d->stage);
    d->backend->close(d);
    free(d->block);
    free(d);
}

rt_dev_facts rt_dev_get(rt_dev *d)
{
    rt_dev_facts f = { .name = d->backend->name,
                       .cpu_bits = true,
                       .act = d->act,
                       .maps_files = d->backend->maps_files,
                       .waits = d->waits };
    d->backend->facts(d, &f);
    if (d->most)
        f.free = rt_min(f.free, d->most - d->held);
    return f;
}

/* --- memory ------------------------------------------------------------------------------------
 */

static void *take(rt_dev *d, int64_t bytes, bool sparse, const char *label)
{
    if (d->most && bytes > d->most - d->held)
        return NULL;
    void *p = d->backend->alloc(d, bytes, sparse, label);
    if (p) {
        rt_grow(&d->block, &d->cap_blocks, d->n_blocks + 1, sizeof *d->block,
                "blocks of device memory");
        d->block[d->n_blocks++] = (struct rt_dev_block){ p, bytes };
        d->held += bytes;
    }
    return p;
}

void *rt_dev_alloc(rt_dev *d, int64_t bytes)
{
    FROM_HERE(d);
    return take(d, bytes, false, "memory");
}

void rt_dev_release(rt_dev *d, void *p)
{
    FROM_HERE(d);
    if (!p)
        return;
    for (int64_t i = d->n_blocks - 1; i >= 0; i--)
        if (d->block[i].p == p) {
            d->held -= d->block[i].bytes;
            d->block[i] = d->block[--d->n_blocks];
            break;
        }
    d->backend->release(d, p);
}

void *rt_dev_host_alloc(rt_dev *d, int64_t bytes)
{
    return d->backend->host_alloc ? d->backend->host_alloc(d, bytes)
                                  : rt_memory_alloc(bytes, false);
}

void rt_dev_host_release(rt_dev *d, void *p)
{
    if (p && d->backend->host_release)
        d->backend->host_release(d, p);
    else
        rt_memory_free(p);
}

int rt_dev_place(rt_dev *d, rt_arena *a, rt_err *err)
{
    char need[32], have[32];
    FROM_HERE(d);
    if (d->backend->maps_files)
        return rt_arena_place(a, err);
    void *base = take(d, a->high, a->sparse, a->label);
    if (!base)
        return rt_fail(err,
                       "%s: %s are needed, device %s has %s left; see --plan for what takes the "
                       "most",
                       a->label, rt_fmt_bytes(need, sizeof need, a->high), d->backend->name,
                       rt_fmt_bytes(have, sizeof have, rt_dev_get(d).free));
    rt_arena_adopt(a, base);
    return 0;
}

int rt_dev_place_host(rt_dev *d, rt_arena *a, rt_err *err)
{
    void *base = d->backend->host_alloc && !a->sparse ? d->backend->host_alloc(d, a->high) : NULL;
    if (!base)
        return rt_arena_place(a, err);
    rt_arena_adopt(a, base);
    return 0;
}

void rt_dev_free(rt_dev *d, rt_arena *a)
{
    bool there = false;
    for (int64_t i = 0; a->adopted && i < d->n_blocks; i++)
        there = there || d->block[i].p == a->base;
    if (there)
        rt_dev_release(d, a->base);
    else if (a->adopted)
        rt_dev_host_release(d, a->base);
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

/* --- beside -------------------------------------------------------------------------------------
 */

void rt_upload_beside(rt_dev *d, void *dst, const void *src, int64_t bytes)
{
    const rt_backend *b = d->backend;
    FROM_HERE(d);
    if (bytes > 0 && !d->dry)
        (b->upload_beside ? b->upload_beside : b->upload)(d, dst, src, bytes);
}

void rt_mark_set(rt_dev *d, rt_mark *m, rt_order of)
{
    FROM_HERE(d);
    if (d->backend->mark_set && !d->dry)
        d->backend->mark_set(d, m, of);
}

void rt_mark_follow(rt_dev *d, const rt_mark *m, rt_order order)
{
    FROM_HERE(d);
    if (m->at && !d->dry)
        d->backend->mark_follow(d, m, order);
}

int rt_mark_wait(rt_dev *d, const rt_mark *m, rt_err *err)
{
    FROM_HERE(d);
    if (d->dry)
        return 0;
    d->waits++;
    return m->at ? d->backend->mark_wait(d, m, err) : 0;
}

void rt_mark_free(rt_dev *d, rt_mark *m)
{
    if (m->at)
        d->backend->mark_free(d, m);
    m->at = NULL;
}

/* --- what repeats -------------------------------------------------------------------------------
 */

bool rt_repeat(rt_dev *d, rt_graph *g)
{
    if (d->repeating != g->open)
        rt_bug("rt_repeat among operations that repeat");
    d->caller = __builtin_return_address(0);
    g->open = d->backend->repeat && !d->dry ? d->backend->repeat(d, g) : !g->open;
    d->repeating = g->open;
    return g->open;
}

void rt_graph_free(rt_dev *d, rt_graph *g)
{
    FROM_HERE(d);
    if (g->recorded)
        d->backend->graph_free(d, g);
    *g = (rt_graph){ 0 };
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
        rt_dev_host_release(d, d->stage);
        d->stage_size = 0;
        d->stage = rt_dev_host_alloc(d, d->stage_need);
        if (!d->stage)
            return rt_fail_memory(err, d->stage_need, "what goes to the device");
        d->stage_size = d->stage_need;
    }
    return d->backend->ready(d, err);
}

int64_t rt_dev_workspace(const rt_dev *d) { return d->backend->workspace(d); }
int64_t rt_dev_stage(const rt_dev *d) { return d->stage_need; }
