/* arena.c: measure and place. While measuring, every take is remembered until it is released, so
   the table can say exactly what was live at the high-water mark; once placed, a take is a bounds
   check and an addition. Sizes saturate: an absurd configuration fails in rt_arena_place, in words.
   Under AddressSanitizer whatever is not taken is poisoned, so use after release is caught. */
#include "core/base/arena.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/memory.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

static const int64_t TOO_MUCH = INT64_MAX & ~(int64_t)(RT_CACHE_LINE - 1);

struct rt_take {
    int64_t end; // `used` after this take
    int64_t bytes;
    int slot;
};

void rt_arena_init(rt_arena *a, const char *label)
{
    memset(a, 0, sizeof *a);
    a->label = label;
}

static int find_slot(rt_arena *a, const char *name)
{
    for (int i = 0; i < a->n_slots; i++)
        if (a->slot[i].name == name || !strcmp(a->slot[i].name, name))
            return i;
    if (a->n_slots == RT_COUNT(a->slot))
        rt_bug("arena %s: slot table is full at %s", a->label, name);
    a->slot[a->n_slots].name = name;
    return a->n_slots++;
}

static void measure(rt_arena *a, const char *name, int64_t bytes)
{
    rt_grow(&a->take, &a->cap_takes, a->n_takes + 1, sizeof *a->take, "a memory plan");
    int slot = find_slot(a, name);
    if (bytes > TOO_MUCH - a->used)
        bytes = TOO_MUCH - a->used;
    a->used += bytes;
    a->slot[slot].live += bytes;
    a->take[a->n_takes++] = (struct rt_take){ .end = a->used, .bytes = bytes, .slot = slot };
    if (a->used <= a->high)
        return;
    a->high = a->used;
    for (int i = 0; i < a->n_slots; i++)
        a->slot[i].bytes = a->slot[i].live;
}

void *rt_arena_take(rt_arena *a, const char *name, int64_t bytes)
{
    if (bytes < 0)
        rt_bug("arena %s: %s asks for %lld bytes", a->label, name, (long long)bytes);
    int64_t padded = bytes > TOO_MUCH ? TOO_MUCH : rt_align_up(bytes, RT_CACHE_LINE);
    if (!a->base) {
        measure(a, name, padded);
        return NULL;
    }
    if (padded > a->size - a->used)
        rt_bug("arena %s: %s asks for %lld bytes, %lld of %lld are left: the plan was not repeated",
               a->label, name, (long long)bytes, (long long)(a->size - a->used),
               (long long)a->size);
    void *p = a->base + a->used;
    if (!a->adopted)
        ASAN_UNPOISON_MEMORY_REGION(p, (size_t)bytes);
    a->used += padded;
    return p;
}

int64_t rt_arena_mark(const rt_arena *a) { return a->used; }

void rt_arena_release(rt_arena *a, int64_t mark)
{
    if (mark < 0 || mark > a->used)
        rt_bug("arena %s: release of a mark that was not taken", a->label);
    while (!a->base && a->n_takes && a->take[a->n_takes - 1].end > mark) {
        a->n_takes--;
        a->slot[a->take[a->n_takes].slot].live -= a->take[a->n_takes].bytes;
    }
    if (a->base && !a->adopted)
        ASAN_POISON_MEMORY_REGION(a->base + mark, (size_t)(a->used - mark));
    a->used = mark;
}

/* What stands in the 64 bytes before the memory that is handed out. */
struct origin {
    void *base;
    size_t mapped; // 0: of the heap
};
enum { ORIGIN = 64, HUGE_PAGE = 2 << 20 };

static void *remember(uint8_t *p, void *base, size_t mapped)
{
    memcpy(p - ORIGIN, &(struct origin){ base, mapped }, sizeof(struct origin));
    return p;
}

void *rt_memory_alloc(int64_t bytes, bool sparse)
{
    void *base = NULL;
    (void)sparse;
    if (bytes < 0 || bytes > INT64_MAX / 2)
        return NULL;
    size_t size = (size_t)rt_max(bytes, RT_CACHE_LINE) + ORIGIN;
#if defined(MADV_HUGEPAGE) &&                                                                      \
    !defined(__SANITIZE_ADDRESS__) // which knows the edges of its own heap only
    if (bytes >= HUGE_PAGE) {
        size += HUGE_PAGE;
        base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED)
            return NULL;
        uint8_t *p = (uint8_t *)rt_align_up((int64_t)(uintptr_t)base + ORIGIN, HUGE_PAGE);
        // a wish; its failure changes nothing
        (void)madvise(p, (size_t)bytes, sparse ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
        return remember(p, base, size);
    }
#endif
    if (posix_memalign(&base, RT_CACHE_LINE, size))
        return NULL;
    memset(base, 0, size);
    return remember((uint8_t *)base + ORIGIN, base, 0);
}

void rt_memory_free(void *p)
{
    struct origin from;
    if (!p)
        return;
    memcpy(&from, (uint8_t *)p - ORIGIN, sizeof from);
    if (from.mapped)
        munmap(from.base, from.mapped);
    else
        free(from.base);
}

static void take_base(rt_arena *a, void *base)
{
    if (a->base)
        rt_bug("arena %s: placed twice", a->label);
    free(a->take);
    a->take = NULL;
    a->n_takes = a->cap_takes = 0;
    a->base = base;
    a->size = a->high;
    a->used = 0;
}

int rt_arena_place(rt_arena *a, rt_err *err)
{
    char need[32], have[32];
    int64_t memory = 0;
    if (!rt_mul_ok(sysconf(_SC_PHYS_PAGES), sysconf(_SC_PAGESIZE), &memory))
        memory = INT64_MAX;
    if (a->high > memory)
        return rt_fail(err,
                       "%s: %s are needed, this machine has %s of memory; see --plan for what "
                       "takes the most",
                       a->label, rt_fmt_bytes(need, sizeof need, a->high),
                       rt_fmt_bytes(have, sizeof have, memory));
    void *base = rt_memory_alloc(a->high, a->sparse);
    if (!base)
        return rt_fail(err, "%s: out of memory for %s; see --plan for what takes the most",
                       a->label, rt_fmt_bytes(need, sizeof need, a->high));
    ASAN_POISON_MEMORY_REGION(base, (size_t)a->high);
    take_base(a, base);
    return 0;
}

void rt_arena_adopt(rt_arena *a, void *base)
{
    take_base(a, base);
    a->adopted = true;
}

void rt_arena_free(rt_arena *a)
{
    if (a->base && !a->adopted) {
        ASAN_UNPOISON_MEMORY_REGION(a->base, (size_t)a->size);
        rt_memory_free(a->base);
    }
    free(a->take);
    rt_arena_init(a, a->label);
}
