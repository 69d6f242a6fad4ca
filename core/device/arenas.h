/* arenas.h: the arenas of an object in one list, each with where it lies and the plan of what lies
   in it. So they are measured, placed and given back in one place, and what is placed is what was
   measured. Who has parts hands them the list, and their arenas go into it with its own; needs.h
   prints it. Refuses: owning the arenas (they and ctx stay where they are while they are listed).
 */
#ifndef RT_ARENAS_H
#define RT_ARENAS_H

#include "core/device/device.h"

RT_BEGIN

typedef enum rt_arena_where { RT_ON_DEVICE, RT_ON_HOST } rt_arena_where;

/* Takes from a what ctx needs, in one order: run to measure and again once there is memory. */
typedef void rt_arena_plan(void *ctx, rt_arena *a);

typedef struct rt_arenas_item {
    rt_arena *arena;
    rt_arena_where where;
    rt_arena_plan *plan;
    void *ctx;
} rt_arenas_item;

typedef struct rt_arenas {
    rt_arenas_item item[12];
    int n;
} rt_arenas; /* zeroed: empty */

/* Initializes and measures a. */
void rt_arenas_add(rt_arenas *l, rt_arena *a, const char *label, rt_arena_where where,
                   rt_arena_plan *plan, void *ctx);
/* Those that are not yet placed. */
int rt_arenas_place(rt_arenas *l, rt_dev *d, rt_err *err);
int64_t rt_arenas_bytes(const rt_arenas *l);  /* what placing takes */
void rt_arenas_free(rt_arenas *l, rt_dev *d); /* and empties the list */

RT_END

#endif
