/* arena.h: memory is planned, then placed. The same plan code runs twice: first on an arena without
   a base, which only counts; then on one with memory, which hands out pointers. So sizes cannot
   disagree with pointers, and --plan prints a byte-exact table by name before anything is
   allocated. An arena never grows after rt_arena_place. Every slot is 64-byte aligned. The slots
   show, by name, what is live at the high-water mark: they add up to `high`; needs.h prints them.
 */
#ifndef RT_ARENA_H
#define RT_ARENA_H

#include "core/base/err.h"

RT_BEGIN

/* Summed over equal names, padding to 64 bytes included. */
typedef struct rt_slot {
    const char *name;
    int64_t bytes; /* live at the high-water mark */
    int64_t live;  /* private: live now, while measuring */
} rt_slot;

typedef struct rt_arena {
    const char *label;  /* "weights", "activations", ... in the plan */
    uint8_t *base;      /* NULL while measuring */
    int64_t used, size; /* size: bytes of memory behind base */
    int64_t high;       /* high-water mark of used (mark/release inside a step) */
    bool sparse;        /* set before placing: filled here and there, maybe never to the end */
    bool adopted;       /* base belongs to who gave it */
    rt_slot slot[96];   /* table by name, for --plan */
    int n_slots;
    int64_t n_takes, cap_takes; /* private: the takes not yet released, while measuring */
    struct rt_take *take;       /* private */
} rt_arena;

/* Zeroed memory, 64-byte aligned, on huge pages where it is large and the system has them (matrix
   products are a few percent faster). Large memory is given by the system as it is touched: what is
   never used costs nothing, but for the rest of a huge page, of which there are none when sparse.
   NULL when there is none. */
void *rt_memory_alloc(int64_t bytes, bool sparse);
void rt_memory_free(void *p); /* accepts NULL */

void rt_arena_init(rt_arena *a, const char *label);
/* bytes of 64-byte-aligned memory, NULL while measuring. name must outlive the arena (a literal).
 */
void *rt_arena_take(rt_arena *a, const char *name, int64_t bytes);
/* Scratch inside a step: what was taken since mark is free again. high keeps the maximum. */
int64_t rt_arena_mark(const rt_arena *a);
void rt_arena_release(rt_arena *a, int64_t mark);
/* After measuring: allocate `high` bytes (zeroed), reset used, keep the slot table. */
int rt_arena_place(rt_arena *a, rt_err *err);
/* The same with memory of another kind, `high` bytes at base, which is never looked into here and
   which its owner frees. */
void rt_arena_adopt(rt_arena *a, void *base);
void rt_arena_free(rt_arena *a);

RT_END

#endif
