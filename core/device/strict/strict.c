/* strict.c: a device for tests, made of the CPU's kernels and as unforgiving as a GPU: its memory
   cannot be touched by the host (protected pages, a guard page after each allocation), operations
   and transfers run at the next rt_sync and not before, an upload reads its source only then, fresh
   memory holds a NaN that no operation may read, and tensors must lie in device memory. An
   operation and a copy beside it that touch the same bytes must be told by a mark which is first.
   What repeats is called each time, and compared with the first time to the byte. Who breaks a rule
   of device.h ends the process with one line that names the rule and the caller.
   Environment RETORT_STRICT_FAIL=N: operation N and everything after it fails, as a lost GPU would.
   Built with RETORT_STRICT=ON, where it is the first device; never part of the product. */
#include <execinfo.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "core/base/hash.h"
#include "core/base/memory.h"
#include "core/device/backend.h"

extern char **environ;

enum { PAGE = 4096, FRESH = 0x7fc0dead, REGIONS_MAX = 4096, QUEUE_MAX = 1 << 16 };
/* A cache planned for the longest answer is not filled to its end. */
static const int64_t FILL_MAX = (int64_t)256 << 20;

struct region {
    uint8_t *pages, *data;
    int64_t mapped, bytes;
    const char *label;
};

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

/* Bytes that an item touched, and who it was. */
struct touch {
    const uint8_t *p;
    int64_t bytes;
    struct item by;
};

struct strict {
    rt_dev *cpu; /* whose kernels run */
    rt_ops ops;
    struct order {
        uint8_t *queue; /* items one after another, of which those from `at` on are to run */
        int64_t at, used, cap, given, done;
        int64_t seen;        /* as item.seen, of what is given next */
        struct touch *touch; /* but by items that all later ones of the other order follow */
        int64_t touches, cap_touches;
    } order[2];
    int64_t calls, ran, fail_at; /* since the device was opened */
    bool failed;
};

/* Of all strict devices of the process: the fault handler has no device at hand. */
static struct region regions[REGIONS_MAX];
static int n_regions;

/* --- faults ------------------------------------------------------------------------------------- */

/* file:line of an address, by addr2line where it is installed. */
static void say_place(const void *address)
{
    char place[32], self[] = "/proc/self/exe", exe[1024];
    ssize_t n = readlink(self, exe, sizeof exe - 1);
    void *frame[1] = { (void *)(uintptr_t)address };
    char **symbol = backtrace_symbols(frame, 1);
    const char *offset = symbol ? strstr(symbol[0], "(+") : NULL;
    pid_t pid;
    exe[n > 0 ? n : 0] = 0;
    snprintf(place, sizeof place, "%.20s", offset ? offset + 2 : "0");
    place[strcspn(place, ")")] = 0;
    char *argv[] = { "addr2line", "-fpse", exe, place, NULL };
    posix_spawn_file_actions_t to;
    posix_spawn_file_actions_init(&to);
    posix_spawn_file_actions_adddup2(&to, 2, 1);
    fflush(stderr);
    if (!offset || posix_spawnp(&pid, argv[0], &to, NULL, argv, environ) != 0 ||
        waitpid(pid, NULL, 0) < 0)
        fprintf(stderr, "%s\n", symbol ? symbol[0] : "?");
    posix_spawn_file_actions_destroy(&to);
    free(symbol);
}

__attribute__((noreturn, format(printf, 3, 4))) static void
fault(const char *what, const void *caller, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "device strict: %s: ", what);
    vfprintf(stderr, format, args);
    fprintf(stderr, ", called from ");
    say_place(caller);
    va_end(args);
    signal(SIGABRT, SIG_DFL);
    abort();
}

static const struct region *find_region(const void *p)
{
    const uint8_t *at = p;
    for (int i = 0; i < n_regions; i++)
        if (at >= regions[i].pages && at < regions[i].pages + regions[i].mapped)
            return &regions[i];
    return NULL;
}

static void on_segv(int sig, siginfo_t *info, void *context)
{
    const struct region *r = find_region(info->si_addr);
    const ucontext_t *u = context;
    signal(sig, SIG_DFL);
    if (!r)
        return; /* again, and then the default */
#ifdef __x86_64__
    const void *pc = (const void *)(uintptr_t)u->uc_mcontext.gregs[REG_RIP];
#else
    const void *pc = u;
#endif
    int64_t at = (const uint8_t *)info->si_addr - r->data;
    if (at >= r->bytes || at < 0)
        fault("an operation", pc, "leaves device memory (%s, byte %lld of %lld)", r->label,
              (long long)at, (long long)r->bytes);
    fault("the host", pc, "touches device memory (%s, byte %lld) outside an operation", r->label,
          (long long)at);
}

/* --- memory ------------------------------------------------------------------------------------- */

static void settle(struct strict *s);

static void protect(int how)
{
    for (int i = 0; i < n_regions; i++)
        if (mprotect(regions[i].pages, (size_t)(regions[i].mapped - PAGE), how))
            rt_bug("device strict: mprotect fails");
}

static void fill_fresh(struct region *r)
{
    uint32_t *word = (uint32_t *)(void *)r->data;
    for (int64_t i = 0; i < r->bytes / 4; i++)
        word[i] = FRESH;
}

static void *alloc_bytes(rt_dev *d, int64_t bytes, bool sparse, const char *label)
{
    (void)d;
    if (bytes < 0 || bytes > INT64_MAX / 2 || n_regions == REGIONS_MAX)
        return NULL;
    int64_t padded = rt_align_up(rt_max(bytes, 1), RT_CACHE_LINE);
    struct region r = { .mapped = rt_align_up(padded, PAGE) + PAGE, .bytes = padded, .label = label };
    r.pages = mmap(NULL, (size_t)r.mapped, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (r.pages == MAP_FAILED)
        return NULL;
    r.data = r.pages + r.mapped - PAGE - padded; /* its end meets the guard page */
    if (!sparse || bytes < FILL_MAX)
        fill_fresh(&r);
    if (mprotect(r.pages, (size_t)r.mapped, PROT_NONE))
        rt_bug("device strict: mprotect fails");
    regions[n_regions++] = r;
    return r.data;
}

static void release_bytes(rt_dev *d, void *p)
{
    settle(d->state);
    for (int i = 0; i < n_regions; i++)
        if (regions[i].data == p) {
            munmap(regions[i].pages, (size_t)regions[i].mapped);
            regions[i] = regions[--n_regions];
            return;
        }
    fault("release", d->caller, "%p is not device memory", p);
}

/* --- the queue ---------------------------------------------------------------------------------- */

static struct item *first_item(const struct order *o)
{
    return (struct item *)(void *)(o->queue + o->at);
}

/* The first items of an order up to `number`, and of the other what they follow. */
static void run_until(struct strict *s, rt_order order, int64_t number)
{
    struct order *o = &s->order[order];
    while (o->done < number) {
        struct item *it = first_item(o);
        run_until(s, !order, it->seen);
        s->failed = s->failed || ++s->ran == s->fail_at;
        if (!s->failed)
            it->run(s->cpu, it);
        o->at += it->bytes;
        o->done++;
    }
    if (o->at == o->used)
        o->at = o->used = 0;
}

static void run_open(struct strict *s, rt_order order, int64_t number)
{
    if (s->order[order].done >= number)
        return;
    protect(PROT_READ | PROT_WRITE);
    run_until(s, order, number);
    protect(PROT_NONE);
}

static void run_all(struct strict *s)
{
    run_open(s, RT_BESIDE, s->order[RT_BESIDE].given); /* as early as it may */
    run_open(s, RT_COMPUTE, s->order[RT_COMPUTE].given);
}

/* The host waits for the first items of an order: what it gives from now on runs after them. */
static void wait_for(struct strict *s, rt_order order, int64_t number)
{
    struct order *o = &s->order[order], *other = &s->order[!order];
    int64_t kept = 0, seen;
    run_open(s, order, number);
    other->seen = rt_max(other->seen, number);
    seen = other->done == other->given ? other->seen : first_item(other)->seen;
    for (int64_t i = 0; i < o->touches; i++)
        if (o->touch[i].by.number > seen)
            o->touch[kept++] = o->touch[i];
    o->touches = kept;
}

/* For the operations, and the copies that they follow. */
static void wait_for_operations(struct strict *s)
{
    wait_for(s, RT_BESIDE, s->order[RT_COMPUTE].seen);
    wait_for(s, RT_COMPUTE, s->order[RT_COMPUTE].given);
}

static void settle(struct strict *s)
{
    wait_for(s, RT_BESIDE, s->order[RT_BESIDE].given);
    wait_for(s, RT_COMPUTE, s->order[RT_COMPUTE].given);
}

/* Room for an item of `bytes` at the end of an order. */
static void *later_in(rt_dev *d, rt_order order, const char *what,
                      void (*run)(rt_dev *, struct item *), int64_t bytes)
{
    struct strict *s = d->state;
    struct order *o = &s->order[order];
    if (o->given - o->done == QUEUE_MAX)
        run_all(s);
    bytes = rt_align_up(bytes, 16);
    rt_grow(&o->queue, &o->cap, o->used + bytes, 1, "the queue of device strict");
    struct item *it = (struct item *)(void *)(o->queue + o->used);
    memset(it, 0, (size_t)bytes);
    *it = (struct item){ run, what, d->caller, bytes, s, order, ++o->given, ++s->calls, o->seen };
    o->used += bytes;
    return it;
}

static void *later(rt_dev *d, const char *what, void (*run)(rt_dev *, struct item *), int64_t bytes)
{
    return later_in(d, RT_COMPUTE, what, run, bytes);
}

static int say_failed(const struct strict *s, rt_err *err)
{
    return s->failed ? rt_fail(err, "device strict: operation %lld failed (RETORT_STRICT_FAIL)",
                               (long long)s->fail_at)
                     : 0;
}

static int sync_strict(rt_dev *d, rt_err *err)
{
    struct strict *s = d->state;
    wait_for_operations(s);
    return say_failed(s, err);
}

/* --- transfers ---------------------------------------------------------------------------------- */

struct transfer {
    struct item it;
    void *dst;
    const void *src;
    int64_t bytes;
    uint64_t hash; /* of the source when it was given */
};

static void look_inside(const struct item *it, const void *p, int64_t bytes)
{
    const struct region *r = find_region(p);
    const uint8_t *at = p;
    if (!r)
        fault(it->what, it->caller, "%p is not device memory", p);
    if (at < r->data || at + bytes > r->data + r->bytes)
        fault(it->what, it->caller, "%lld bytes at byte %lld leave device memory (%s)",
              (long long)bytes, (long long)(at - r->data), r->label);
}

/* An item that runs uses bytes of device memory. */
static void use_bytes(const struct item *it, const void *p, int64_t bytes)
{
    struct order *own = &it->of->order[it->order], *other = &it->of->order[!it->order];
    look_inside(it, p, bytes);
    for (int64_t i = 0; i < other->touches; i++) {
        const struct touch *t = &other->touch[i];
        if (t->by.number <= it->seen || (const uint8_t *)p >= t->p + t->bytes ||
            (const uint8_t *)p + bytes <= t->p)
            continue;
        const struct item *copy = it->order == RT_BESIDE ? it : &t->by;
        const struct item *operation = it->order == RT_BESIDE ? &t->by : it;
        if (operation->call < copy->call)
            fault(copy->what, copy->caller,
                  "it fills what an earlier %s may still use: no mark behind that is followed",
                  operation->what);
        fault(operation->what, operation->caller,
              "an earlier copy beside may still fill what it uses: no mark behind that is followed");
    }
    rt_grow(&own->touch, &own->cap_touches, own->touches + 1, sizeof *own->touch,
            "what items of device strict touch");
    own->touch[own->touches++] = (struct touch){ p, bytes, *it };
}

static void run_upload(rt_dev *cpu, struct item *it)
{
    struct transfer *t = (struct transfer *)it;
    (void)cpu;
    if (rt_hash64(t->src, t->bytes, 0) != t->hash)
        fault(it->what, it->caller, "its source changed before the device read it");
    use_bytes(it, t->dst, t->bytes);
    memcpy(t->dst, t->src, (size_t)t->bytes);
}

static void run_download(rt_dev *cpu, struct item *it)
{
    struct transfer *t = (struct transfer *)it;
    (void)cpu;
    use_bytes(it, t->src, t->bytes);
    memcpy(t->dst, t->src, (size_t)t->bytes);
}

static void upload_in(rt_dev *d, rt_order order, const char *what, void *dst, const void *src,
                      int64_t bytes)
{
    struct transfer *t = later_in(d, order, what, run_upload, sizeof *t);
    t->dst = dst, t->src = src, t->bytes = bytes;
    if (find_region(src))
        fault(what, d->caller, "its source is device memory");
    look_inside(&t->it, dst, bytes);
    t->hash = rt_hash64(src, bytes, 0);
}

static void upload(rt_dev *d, void *dst, const void *src, int64_t bytes)
{
    upload_in(d, RT_COMPUTE, "upload", dst, src, bytes);
}

static void upload_beside(rt_dev *d, void *dst, const void *src, int64_t bytes)
{
    upload_in(d, RT_BESIDE, "upload beside", dst, src, bytes);
}

static void download(rt_dev *d, void *dst, const void *src, int64_t bytes)
{
    struct transfer *t = later(d, "download", run_download, sizeof *t);
    t->dst = dst, t->src = src, t->bytes = bytes;
    if (find_region(dst))
        fault("download", d->caller, "its destination is device memory");
    look_inside(&t->it, src, bytes);
    memset(dst, 0xa5, (size_t)bytes); /* means nothing until the next wait */
}

/* --- marks -------------------------------------------------------------------------------------- */

struct point {
    rt_order of;
    int64_t number; /* items of it that come before */
};

static void mark_set(rt_dev *d, rt_mark *m, rt_order of)
{
    struct strict *s = d->state;
    struct point *p = m->at ? m->at : rt_alloc(1, sizeof *p, "a mark");
    *p = (struct point){ of, s->order[of].given };
    m->at = p;
}

static void mark_follow(rt_dev *d, const rt_mark *m, rt_order order)
{
    const struct point *p = m->at;
    struct order *o = &((struct strict *)d->state)->order[order];
    if (p->of != order)
        o->seen = rt_max(o->seen, p->number);
}

static int mark_wait(rt_dev *d, const rt_mark *m, rt_err *err)
{
    const struct point *p = m->at;
    wait_for(d->state, p->of, p->number);
    return say_failed(d->state, err);
}

static void mark_free(rt_dev *d, rt_mark *m)
{
    (void)d;
    free(m->at);
}

/* --- what repeats ------------------------------------------------------------------------------- */

#if defined __has_builtin
#if __has_builtin(__builtin_clear_padding)
#define HAS_CLEAR_PADDING 1
#endif
#endif
#ifndef HAS_CLEAR_PADDING
#define HAS_CLEAR_PADDING 0
#endif

struct recorded {
    uint8_t *item; /* as they stood in the queue, the first time */
    int64_t bytes, cap;
    int64_t begin; /* of the queue: where the call's items begin */
};

/* Items that were called now, against those of the first time. */
static void compare_items(const struct recorded *r, const uint8_t *now, int64_t bytes,
                          const void *caller)
{
    int64_t at = 0, n = 1;
    for (const struct item *a, *b; at < rt_min(bytes, r->bytes); at += a->bytes, n++) {
        a = (const struct item *)(const void *)(r->item + at);
        b = (const struct item *)(const void *)(now + at);
        if (a->run != b->run)
            fault(b->what, b->caller, "operation %lld of what repeats was %s the first time",
                  (long long)n, a->what);
        if (HAS_CLEAR_PADDING && memcmp(a + 1, b + 1, (size_t)a->bytes - sizeof *a) != 0)
            fault(b->what, b->caller,
                  "operation %lld of what repeats had other arguments the first time",
                  (long long)n);
    }
    if (bytes != r->bytes)
        fault("rt_repeat", caller, "%s operations than the first time",
              bytes > r->bytes ? "more" : "fewer");
}

static bool repeat(rt_dev *d, rt_graph *g)
{
    struct strict *s = d->state;
    struct order *o = &s->order[RT_COMPUTE];
    struct recorded *r = g->recorded;
    if (!r)
        g->recorded = r = rt_alloc(1, sizeof *r, "a graph");
    if (!g->open) {
        if (o->given - o->done > QUEUE_MAX / 2)
            run_all(s); /* not among them */
        r->begin = o->used;
        return true;
    }
    if (r->item) {
        compare_items(r, o->queue + r->begin, o->used - r->begin, d->caller);
    } else {
        r->bytes = o->used - r->begin;
        rt_grow(&r->item, &r->cap, rt_max(1, r->bytes), 1, "a graph");
        memcpy(r->item, o->queue + r->begin, (size_t)r->bytes);
    }
    return false;
}

static void graph_free(rt_dev *d, rt_graph *g)
{
    struct recorded *r = g->recorded;
    (void)d;
    free(r->item);
    free(r);
}

/* --- operations: arguments are kept by value, then run on the CPU ------------------------------- */

struct held {
    rt_tensor t;
    bool there;
};

static struct held hold(const rt_tensor *t)
{
    return t ? (struct held){ *t, true } : (struct held){ .there = false };
}

static rt_tensor *of(struct held *h) { return h->there ? &h->t : NULL; }

static void look_output(const struct item *it, const struct held *h)
{
    if (h->there && h->t.rank > 0 && rt_tensor_bytes(&h->t) > 0)
        use_bytes(it, h->t.data, rt_tensor_bytes(&h->t));
}

static void look_piece(const struct item *it, const rt_tensor *t)
{
    int64_t n = t->rank == 3 ? t->dim[0] : 1;
    for (int64_t e = 0; e < n; e++) {
        const rt_piece *p = &t->piece[e];
        use_bytes(it, p->data + rt_piece_data(p, 1).first, p->row_bytes);
        if (p->code != RT_CODE_ROWS)
            use_bytes(it, p->scale + rt_piece_scales(p, 1).first, 1);
        if (it->what[0] == 'm' && strstr(it->what, "heads"))
            break; /* one piece of all heads */
    }
}

/* Nobody wrote what still holds the fresh pattern. */
static void look_input(const struct item *it, const struct held *h)
{
    const rt_tensor *t = &h->t;
    if (!h->there || t->rank == 0 || rt_tensor_bytes(t) == 0)
        return;
    if (t->piece)
        look_piece(it, t);
    if (t->panels)
        use_bytes(it, t->panels, 1);
    if (t->piece || t->panels)
        return;
    use_bytes(it, t->data, rt_tensor_bytes(t));
    const uint32_t *word = t->data;
    for (int64_t i = 0; (t->dtype == RT_F32 || t->dtype == RT_I32) && i < rt_tensor_elements(t); i++)
        if (word[i] == FRESH)
            fault(it->what, it->caller, "element %lld of an input was never written", (long long)i);
}

static void look_address(const struct item *it, const rt_tensor *t, bool input)
{
    struct held h = { *t, t->rank > 0 };
    if (input)
        look_input(it, &h);
    else
        look_output(it, &h);
}

/* Kinds of parameters: OUT, IN tensors (ADD: an output that was something before; SUM: so with beta 1; ANY: an input
   parts of which nobody wrote), V a value, P a struct, and the structs of tensors. Each kind says its field, its parameter, how it is kept, what
   is passed on and what is looked at before. */
#define FIELD_OUT(x) struct held x;
#define PARAM_OUT(x) , rt_tensor *x
#define SAVE_OUT(x) a->x = hold(x);
#define PASS_OUT(x) , of(&a->x)
#define LOOK_OUT(x) look_output(it, &a->x);
#define FIELD_IN(x) struct held x;
#define PARAM_IN(x) , const rt_tensor *x
#define SAVE_IN(x) a->x = hold(x);
#define PASS_IN(x) , of(&a->x)
#define LOOK_IN(x) look_input(it, &a->x);
#define FIELD_ADD(x) struct held x;
#define PARAM_ADD(x) , rt_tensor *x
#define SAVE_ADD(x) a->x = hold(x);
#define PASS_ADD(x) , of(&a->x)
#define LOOK_ADD(x) look_input(it, &a->x);
#define FIELD_SUM(x) struct held x;
#define PARAM_SUM(x) , rt_tensor *x
#define SAVE_SUM(x) a->x = hold(x);
#define PASS_SUM(x) , of(&a->x)
#define LOOK_SUM(x) (a->beta != 0.0f ? look_input : look_output)(it, &a->x);
#define FIELD_ANY(x) struct held x;
#define PARAM_ANY(x) , const rt_tensor *x
#define SAVE_ANY(x) a->x = hold(x);
#define PASS_ANY(x) , of(&a->x)
#define LOOK_ANY(x) look_output(it, &a->x);
#define FIELD_V(type, x) type x;
#define PARAM_V(type, x) , type x
#define SAVE_V(type, x) a->x = x;
#define PASS_V(type, x) , a->x
#define LOOK_V(type, x)
#define FIELD_P(type, x) type x;
#define PARAM_P(type, x) , const type *x
#define SAVE_P(type, x) a->x = *x;
#define PASS_P(type, x) , &a->x
#define LOOK_P(type, x)
#define FIELD_ROWS(x) rt_rows x;
#define PARAM_ROWS(x) , const rt_rows *x
#define SAVE_ROWS(x) a->x = *x;
#define PASS_ROWS(x) , &a->x
#define LOOK_ROWS(x)                                                                               \
    look_address(it, &a->x.offset, true);                                                          \
    look_address(it, &a->x.page, false);
#define FIELD_RULE(x)                                                                              \
    rt_attention_rule x;                                                                           \
    struct held sinks_of_rule;
#define PARAM_RULE(x) , const rt_attention_rule *x
#define SAVE_RULE(x) a->x = *x, a->x.sinks = NULL, a->sinks_of_rule = hold(x->sinks);
#define PASS_RULE(x) , &a->x
#define LOOK_RULE(x)                                                                               \
    look_input(it, &a->sinks_of_rule);                                                             \
    a->x.sinks = of(&a->sinks_of_rule);
#define FIELD_CACHE(x) rt_kv x;
#define PARAM_CACHE(x) , rt_kv *x
#define SAVE_CACHE(x) a->x = *x;
#define PASS_CACHE(x) , &a->x
#define LOOK_CACHE(x) use_bytes(it, a->x.data, 1);
#define FIELD_CACHED(x) rt_kv x;
#define PARAM_CACHED(x) , const rt_kv *x
#define SAVE_CACHED(x) a->x = *x;
#define PASS_CACHED(x) , &a->x
#define LOOK_CACHED(x) use_bytes(it, a->x.data, 1);
#define FIELD_TARGETS(x) rt_targets x;
#define PARAM_TARGETS(x) , const rt_targets *x
#define SAVE_TARGETS(x) a->x = *x;
#define PASS_TARGETS(x) , &a->x
#define LOOK_TARGETS(x)                                                                            \
    look_address(it, &a->x.label, true), look_address(it, &a->x.weight, true);                     \
    look_address(it, &a->x.offset, true), look_address(it, &a->x.head_n, true);                    \
    look_address(it, &a->x.id, true), look_address(it, &a->x.logp, true);                          \
    look_address(it, &a->x.hits, true), look_address(it, &a->x.tail, true);                        \
    look_address(it, &a->x.entropy, true), look_address(it, &a->x.logz, true);
#define FIELD_CAPTURED(x) rt_capture x;
#define PARAM_CAPTURED(x) , rt_capture *x
#define SAVE_CAPTURED(x) a->x = *x;
#define PASS_CAPTURED(x) , &a->x
#define LOOK_CAPTURED(x)                                                                           \
    look_address(it, &a->x.head_id, false), look_address(it, &a->x.draw_id, false);                \
    look_address(it, &a->x.logz, false), look_address(it, &a->x.taken, false);

#define EACH1(F, a) F##a
#define EACH2(F, a, ...) F##a EACH1(F, __VA_ARGS__)
#define EACH3(F, a, ...) F##a EACH2(F, __VA_ARGS__)
#define EACH4(F, a, ...) F##a EACH3(F, __VA_ARGS__)
#define EACH5(F, a, ...) F##a EACH4(F, __VA_ARGS__)
#define EACH6(F, a, ...) F##a EACH5(F, __VA_ARGS__)
#define EACH7(F, a, ...) F##a EACH6(F, __VA_ARGS__)
#define EACH8(F, a, ...) F##a EACH7(F, __VA_ARGS__)
#define EACH9(F, a, ...) F##a EACH8(F, __VA_ARGS__)
#define EACH10(F, a, ...) F##a EACH9(F, __VA_ARGS__)
#define EACH11(F, a, ...) F##a EACH10(F, __VA_ARGS__)
#define COUNT(a, b, c, d, e, f, g, h, i, j, k, n, ...) EACH##n
#define EACH(F, ...) COUNT(__VA_ARGS__, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)(F, __VA_ARGS__)

/* Equal arguments have equal bytes; where the compiler cannot see to it, none are compared. */
#if HAS_CLEAR_PADDING
#define CLEAR_PADDING(a) __builtin_clear_padding(a)
#else
#define CLEAR_PADDING(a) ((void)(a))
#endif

#define LATE(name, ...)                                                                            \
    struct args_##name {                                                                           \
        struct item it;                                                                            \
        EACH(FIELD_, __VA_ARGS__)                                                                  \
    };                                                                                             \
    static void run_##name(rt_dev *cpu, struct item *it)                                           \
    {                                                                                              \
        struct args_##name *a = (struct args_##name *)it;                                          \
        EACH(LOOK_, __VA_ARGS__)                                                                   \
        cpu->ops->name(cpu EACH(PASS_, __VA_ARGS__));                                              \
    }                                                                                              \
    static void name(rt_dev *d EACH(PARAM_, __VA_ARGS__))                                          \
    {                                                                                              \
        struct args_##name *a = later(d, #name, run_##name, sizeof *a);                            \
        EACH(SAVE_, __VA_ARGS__)                                                                   \
        CLEAR_PADDING(a);                                                                          \
    }

LATE(copy, OUT(y), IN(x))
LATE(zero, OUT(y))
LATE(matmul, SUM(c), IN(a1), V(bool, ta), IN(b), V(bool, tb), V(float, beta))
LATE(matmul_grouped, SUM(c), IN(a1), V(bool, ta), IN(b), V(bool, tb), IN(offset), V(float, beta))
LATE(matmul_heads, OUT(c), V(int64_t, c0), ANY(a1), V(int64_t, a0), IN(w), V(int64_t, w0),
     V(int64_t, n), V(bool, tb))
LATE(pack_weight, V(void *, panels), IN(w))
LATE(gather_rows, OUT(y), ANY(x), IN(index))
LATE(scatter_add_rows, ADD(x), IN(y), IN(index))
LATE(unpermute_rows, ADD(x), IN(y), IN(slot))
LATE(scale, OUT(y), IN(x), V(float, s))
LATE(bias_forward, ADD(y), IN(b), IN(offset))
LATE(bias_backward, ADD(db), IN(dy), IN(offset))
LATE(rmsnorm_forward, OUT(y), OUT(rstd), IN(x), IN(w), V(float, eps))
LATE(rmsnorm_backward, OUT(dx), ADD(dw), IN(dy), IN(x), IN(w), IN(rstd), V(float, beta))
LATE(rope, OUT(x), IN(table), IN(pos), V(int64_t, first), V(bool, interleaved), V(bool, backward))
LATE(attention_forward, OUT(out), OUT(lse), IN(q), IN(k), IN(v), ROWS(rows), RULE(rule))
LATE(attention_backward, OUT(dq), OUT(dk), OUT(dv), IN(dout), IN(out), IN(lse), IN(q), IN(k), IN(v),
     ROWS(rows), RULE(rule))
LATE(sinks_backward, ADD(dsinks), IN(dout), IN(out), IN(lse), IN(sinks))
LATE(kv_append, CACHE(kv), IN(k), IN(v), ROWS(rows))
LATE(kv_copy, CACHE(kv), V(int64_t, to), V(int64_t, from))
LATE(attention_cached, OUT(out), IN(q), CACHED(kv), ROWS(rows), RULE(rule))
LATE(mla_expand_forward, OUT(k), OUT(v), IN(kvb), IN(kr))
LATE(mla_expand_backward, OUT(dkvb), OUT(dkr), IN(dk), IN(dv))
LATE(copy_columns, OUT(y), V(int64_t, y0), ANY(x), V(int64_t, x0), V(int64_t, n))
LATE(swiglu_forward, OUT(y), IN(gate), IN(up), P(rt_swiglu_rule, rule))
LATE(swiglu_backward, OUT(dgate), OUT(dup), IN(dy), IN(gate), IN(up), P(rt_swiglu_rule, rule))
LATE(route_forward, OUT(idx), OUT(weight), OUT(score), IN(logits), IN(bias), P(rt_route_policy, p))
LATE(route_backward, OUT(dlogits), IN(dweight), IN(idx), IN(weight), IN(score),
     P(rt_route_policy, p))
LATE(route_sort, OUT(offset), OUT(row), OUT(slot), IN(idx))
LATE(route_balance, ADD(bias), IN(load), V(float, rate))
LATE(route_load, ADD(load), IN(offset))
LATE(combine_forward, ADD(y), IN(ys), IN(slot), IN(weight))
LATE(combine_backward, OUT(dys), OUT(dweight), IN(dy), IN(ys), IN(slot), IN(weight))
LATE(loss, OUT(stats), ADD(logits), TARGETS(t), P(rt_loss_spec, spec), V(int64_t, vocab),
     V(float, scale), V(bool, gradient))
LATE(sample, OUT(token), IN(logits), IN(seed), IN(index), P(rt_sampling, s), V(int64_t, vocab))
LATE(capture_rows, CAPTURED(out), ADD(logits), IN(token), IN(seed), IN(index),
     P(rt_soft_config, c), V(int64_t, vocab))
LATE(kl_rows, OUT(kl), OUT(agree), IN(p), IN(q), V(int64_t, vocab))
LATE(sumsq, OUT(partial), IN(g))
LATE(adamw_step, ADD(w), ADD(m), ADD(v), IN(g), P(rt_adamw, h))

/* Answers of the host, at once. */
static int64_t panels_bytes(rt_dev *d, const rt_tensor *w)
{
    rt_dev *cpu = ((struct strict *)d->state)->cpu;
    return cpu->ops->panels_bytes(cpu, w);
}

static int64_t kv_bytes(rt_dev *d, const rt_kv *kv)
{
    rt_dev *cpu = ((struct strict *)d->state)->cpu;
    return cpu->ops->kv_bytes(cpu, kv);
}

/* --- life --------------------------------------------------------------------------------------- */

static int open_strict(rt_dev *d, int index, int threads, rt_err *err)
{
    (void)index;
    const char *fail = getenv("RETORT_STRICT_FAIL");
    struct sigaction act = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };
    struct strict *s = rt_alloc(1, sizeof *s, "device strict");
    if (rt_dev_open(&s->cpu, rt_backend_cpu.name, threads, err)) {
        free(s);
        return -1;
    }
    sigaction(SIGSEGV, &act, NULL);
    s->fail_at = fail ? atoll(fail) : 0;
#define ENTRY(name) s->ops.name = name;
    RT_OPS(ENTRY)
#undef ENTRY
    d->ops = &s->ops;
    d->state = s;
    return 0;
}

static void close_strict(rt_dev *d)
{
    struct strict *s = d->state;
    settle(s);
    rt_dev_close(s->cpu);
    for (int i = 0; i < 2; i++) {
        free(s->order[i].queue);
        free(s->order[i].touch);
    }
    free(s);
}

static rt_dev *cpu_of(const rt_dev *d) { return ((const struct strict *)d->state)->cpu; }

static void facts(rt_dev *d, rt_dev_facts *f)
{
    rt_dev *cpu = cpu_of(d);
    cpu->backend->facts(cpu, f);
}

static void need_product(rt_dev *d, int64_t groups, int64_t n, int64_t k, rt_dtype a,
                         const rt_tensor *b)
{
    rt_backend_cpu.need_product(cpu_of(d), groups, n, k, a, b);
}

static void need_attention(rt_dev *d, const rt_attention_shape *s)
{
    rt_backend_cpu.need_attention(cpu_of(d), s);
}

static void need_rows(rt_dev *d, int64_t bytes) { rt_backend_cpu.need_rows(cpu_of(d), bytes); }
static int ready(rt_dev *d, rt_err *err) { return rt_dev_ready(cpu_of(d), err); }
static int64_t workspace(const rt_dev *d) { return rt_dev_workspace(cpu_of(d)); }

const rt_backend rt_backend_strict = {
    .name = "strict",
    .late = true,
    .open = open_strict,
    .close = close_strict,
    .facts = facts,
    .alloc = alloc_bytes,
    .release = release_bytes,
    .upload = upload,
    .download = download,
    .sync = sync_strict,
    .upload_beside = upload_beside,
    .mark_set = mark_set,
    .mark_follow = mark_follow,
    .mark_wait = mark_wait,
    .mark_free = mark_free,
    .repeat = repeat,
    .graph_free = graph_free,
    .need_product = need_product,
    .need_attention = need_attention,
    .need_rows = need_rows,
    .ready = ready,
    .workspace = workspace,
};
