/* strict_inside.h: what the strict device's two files share: an item of its queues, and what the
   operations ask of the device. Private to core/device/strict. */
#ifndef RT_STRICT_INSIDE_H
#define RT_STRICT_INSIDE_H

#include "core/device/backend.h"

enum { RT_STRICT_FRESH = 0x7fc0dead }; /* a word of memory that nobody wrote: a NaN */

#if defined __has_builtin
#if __has_builtin(__builtin_clear_padding)
#define HAS_CLEAR_PADDING 1
#endif
#endif
#ifndef HAS_CLEAR_PADDING
#define HAS_CLEAR_PADDING 0
#endif

struct item {
    void (*run)(rt_dev *cpu, struct item *it);
    const char *what;
    const void *caller;
    int64_t bytes; /* of the item with its arguments */
    struct strict *of;
    rt_order order;
    int64_t number, call; /* in its order; of all calls */
    int64_t seen;         /* items of the other order that have run before it */
};

__attribute__((noreturn, format(printf, 3, 4))) void
rt_strict_fault(const char *what, const void *caller, const char *format, ...);
rt_dev *rt_strict_cpu(const rt_dev *d); /* whose kernels run */
/* Room for an item of `bytes`, its arguments behind it, at the end of the operations. */
void *rt_strict_later(rt_dev *d, const char *what, void (*run)(rt_dev *, struct item *),
                      int64_t bytes);
/* An item that runs uses bytes of device memory. */
void rt_strict_use(const struct item *it, const void *p, int64_t bytes);
void rt_strict_ops(rt_ops *ops); /* strict_ops.c */

#endif
