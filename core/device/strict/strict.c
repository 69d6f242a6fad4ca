/* strict.c: a device for tests, made of the CPU's kernels and as unforgiving as a GPU: its memory
   cannot be touched by the host (protected pages, a guard page after each allocation), operations
   and transfers run at the next rt_sync and not before, an upload reads its source only then, fresh
   memory holds a NaN that no operation may read, and tensors must lie in device memory. An
   operation and a copy beside it that touch the same bytes must be told by a mark which is first.
   What repeats is called each time, and compared with the first time to the byte. Who breaks a rule
   of device.h ends the process with one line that names the rule and the caller.
   Environment RETORT_STRICT_FAIL=N: operation N and everything after it fails, as a lost GPU would.
   Built with RETORT_STRICT=ON, where it is the first device; never part of the product. What
   operations keep and look at: strict_ops.c. */
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
#include "core/device/strict/strict_inside.h"

extern char **environ;

enum { PAGE = 4096, REGIONS_MAX = 4096, QUEUE_MAX = 1 << 16 };
/* A cache planned for the longest answer is not filled to its end. */
static const int64_t FILL_MAX = (int64_t)256 << 20;

struct region {
    uint8_t *pages, *data;
    int64_t mapped, bytes;
    const char *label;
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

void rt_strict_fault(const char *what, const void *caller, const char *format, ...)
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
        rt_strict_fault("an operation", pc, "leaves device memory (%s, byte %lld of %lld)", r->label,
              (long long)at, (long long)r->bytes);
    rt_strict_fault("the host", pc, "touches device memory (%s, byte %lld) outside an operation", r->label,
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
        word[i] = RT_STRICT_FRESH;
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
    rt_strict_fault("release", d->caller, "%p is not device memory", p);
}

/* --- the queue ---------------------------------------------------------------------------------- */

rt_dev *rt_strict_cpu(const rt_dev *d) { return ((const struct strict *)d->state)->cpu; }

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

void *rt_strict_later(rt_dev *d, const char *what, void (*run)(rt_dev *, struct item *), int64_t bytes)
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
        rt_strict_fault(it->what, it->caller, "%p is not device memory", p);
    if (at < r->data || at + bytes > r->data + r->bytes)
        rt_strict_fault(it->what, it->caller, "%lld bytes at byte %lld leave device memory (%s)",
              (long long)bytes, (long long)(at - r->data), r->label);
}

void rt_strict_use(const struct item *it, const void *p, int64_t bytes)
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
            rt_strict_fault(copy->what, copy->caller,
                  "it fills what an earlier %s may still use: no mark behind that is followed",
                  operation->what);
        rt_strict_fault(operation->what, operation->caller,
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
        rt_strict_fault(it->what, it->caller, "its source changed before the device read it");
    rt_strict_use(it, t->dst, t->bytes);
    memcpy(t->dst, t->src, (size_t)t->bytes);
}

static void run_download(rt_dev *cpu, struct item *it)
{
    struct transfer *t = (struct transfer *)it;
    (void)cpu;
    rt_strict_use(it, t->src, t->bytes);
    memcpy(t->dst, t->src, (size_t)t->bytes);
}

static void upload_in(rt_dev *d, rt_order order, const char *what, void *dst, const void *src,
                      int64_t bytes)
{
    struct transfer *t = later_in(d, order, what, run_upload, sizeof *t);
    t->dst = dst, t->src = src, t->bytes = bytes;
    if (find_region(src))
        rt_strict_fault(what, d->caller, "its source is device memory");
    look_inside(&t->it, dst, bytes);
    t->hash = rt_hash64(src, bytes, 0);
}

static void upload(rt_dev *d, void *dst, const void *src, int64_t bytes)
{
    upload_in(d, RT_COMPUTE, "upload", dst, src, bytes);
}

/* What a download that comes before will have left there is known once it has run. */
static void await_source(rt_dev *d, const void *src, int64_t bytes)
{
    struct strict *s = d->state;
    const struct order *o = &s->order[RT_COMPUTE];
    int64_t last = 0;
    for (int64_t at = o->at; at < o->used;) {
        const struct transfer *t = (const void *)(o->queue + at);
        at += t->it.bytes;
        if (t->it.run != run_download || (const uint8_t *)src >= (const uint8_t *)t->dst + t->bytes ||
            (const uint8_t *)src + bytes <= (const uint8_t *)t->dst)
            continue;
        last = t->it.number;
        if (last > s->order[RT_BESIDE].seen)
            rt_strict_fault("upload beside", d->caller,
                  "an earlier download may still write its source: no mark behind that is followed");
    }
    if (last)
        wait_for(s, RT_COMPUTE, last);
}

static void upload_beside(rt_dev *d, void *dst, const void *src, int64_t bytes)
{
    await_source(d, src, bytes);
    upload_in(d, RT_BESIDE, "upload beside", dst, src, bytes);
}

static void download(rt_dev *d, void *dst, const void *src, int64_t bytes)
{
    struct strict *s = d->state;
    if (s->order[RT_BESIDE].done < s->order[RT_COMPUTE].seen) /* their sources may be its destination */
        wait_for(s, RT_BESIDE, s->order[RT_COMPUTE].seen);
    struct transfer *t = rt_strict_later(d, "download", run_download, sizeof *t);
    t->dst = dst, t->src = src, t->bytes = bytes;
    if (find_region(dst))
        rt_strict_fault("download", d->caller, "its destination is device memory");
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
            rt_strict_fault(b->what, b->caller, "operation %lld of what repeats was %s the first time",
                  (long long)n, a->what);
        if (HAS_CLEAR_PADDING && memcmp(a + 1, b + 1, (size_t)a->bytes - sizeof *a) != 0)
            rt_strict_fault(b->what, b->caller,
                  "operation %lld of what repeats had other arguments the first time",
                  (long long)n);
    }
    if (bytes != r->bytes)
        rt_strict_fault("rt_repeat", caller, "%s operations than the first time",
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

/* --- life --------------------------------------------------------------------------------------- */

static int open_strict(rt_dev *d, int index, int threads, rt_err *err)
{
    (void)index;
    const char *fail = getenv("RETORT_STRICT_FAIL");
    struct sigaction act = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };
    struct strict *s = rt_alloc(1, sizeof *s, "device strict");
    rt_dev_choice cpu = { .name = (char *)(uintptr_t)rt_backend_cpu.name,
                          .threads = threads,
                          .precision = (char *)(uintptr_t)d->precision };
    if (rt_dev_choose(&s->cpu, &cpu, false, err)) {
        free(s);
        return -1;
    }
    sigaction(SIGSEGV, &act, NULL);
    s->fail_at = fail ? atoll(fail) : 0;
    rt_strict_ops(&s->ops);
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

static void facts(rt_dev *d, rt_dev_facts *f)
{
    rt_dev *cpu = rt_strict_cpu(d);
    cpu->backend->facts(cpu, f);
}

static void need_product(rt_dev *d, int64_t groups, int64_t n, int64_t k, rt_dtype a,
                         const rt_tensor *b)
{
    rt_backend_cpu.need_product(rt_strict_cpu(d), groups, n, k, a, b);
}

static void need_attention(rt_dev *d, const rt_attention_shape *s)
{
    rt_backend_cpu.need_attention(rt_strict_cpu(d), s);
}

static void need_rows(rt_dev *d, int64_t bytes) { rt_backend_cpu.need_rows(rt_strict_cpu(d), bytes); }
static int ready(rt_dev *d, rt_err *err) { return rt_dev_ready(rt_strict_cpu(d), err); }
static int64_t workspace(const rt_dev *d) { return rt_dev_workspace(rt_strict_cpu(d)); }

const rt_backend rt_backend_strict = {
    .name = "strict",
    .late = true,
    .precisions = "exact|int8",
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
