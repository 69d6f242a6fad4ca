/* emulate.cc: emulate.h. Streams are lists of closures; a block's threads are fibers.
   Nothing here is fast, and all of it runs on the thread that waits. */
#include "core/device/cuda/emulate.h"

#include <algorithm>
#include <deque>
#include <map>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

const size_t PAGE = 4096;
const size_t FILL_MAX = (size_t)256 << 20; /* a cache planned for the longest is not filled to its end */
const char *running = NULL;                /* the kernel or copy at work */

__attribute__((noreturn, format(printf, 1, 2))) void fault(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "device cuda, emulated: %s%s", running ? running : "", running ? ": " : "");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    signal(SIGABRT, SIG_DFL);
    abort();
}

const char *setting(const char *name, const char *otherwise)
{
    const char *v = getenv(name);
    return v && *v ? v : otherwise;
}

bool said(const char *name, const char *value) { return !strcmp(setting(name, ""), value); }

/* --- memory ------------------------------------------------------------------------------------- */

struct region {
    uint8_t *pages, *data;
    size_t mapped, bytes;
};
/* Never destroyed: leak checks look after the last static destructor. */
std::vector<region> &regions = *new std::vector<region>;
size_t taken = 0;
int open_depth = 0;

size_t capacity(void)
{
    return (size_t)strtoull(setting("RETORT_EMULATE_MEMORY", "68719476736"), NULL, 10);
}

const region *find(const void *p)
{
    for (const region &r : regions)
        if ((const uint8_t *)p >= r.pages && (const uint8_t *)p < r.pages + r.mapped)
            return &r;
    return NULL;
}

void protect(int how)
{
    for (const region &r : regions)
        if (mprotect(r.pages, r.mapped - PAGE, how))
            fault("mprotect fails");
}

/* Device memory is open while one lives. For larger teams, whose business is the kernels, it stays
   open: closing costs more than they do. */
struct opened {
    opened()
    {
        if (open_depth++ == 0 && emu_team() == 1)
            protect(PROT_READ | PROT_WRITE);
    }
    ~opened()
    {
        if (--open_depth == 0 && emu_team() == 1)
            protect(PROT_NONE);
    }
};

void on_segv(int sig, siginfo_t *info, void *)
{
    const region *r = find(info->si_addr);
    signal(sig, SIG_DFL);
    if (!r)
        return;
    long long at = (const uint8_t *)info->si_addr - r->data;
    if (open_depth || emu_team() > 1)
        fault("leaves device memory: byte %lld of %lld", at, (long long)r->bytes);
    fault("the host touches device memory (byte %lld of %lld)", at, (long long)r->bytes);
}

/* Bytes [p, p + n) are one allocation's. */
void look(const char *what, const void *p, size_t n)
{
    const region *r = find(p);
    if (!r)
        fault("%s: %p is not device memory", what, p);
    if ((const uint8_t *)p < r->data || (const uint8_t *)p + n > r->data + r->bytes)
        fault("%s: %lld bytes at byte %lld of %lld", what, (long long)n,
              (long long)((const uint8_t *)p - r->data), (long long)r->bytes);
}

/* --- failures ----------------------------------------------------------------------------------- */

long launches = 0;
cudaError_t sticky = cudaSuccess, last = cudaSuccess;

cudaError_t give(cudaError_t e)
{
    if (e != cudaSuccess)
        last = e;
    return e;
}

/* Counts a launch or copy when it runs; false once the device is lost. */
bool alive(void)
{
    long at = atol(setting("RETORT_EMULATE_FAIL", "0"));
    if (at && ++launches >= at)
        sticky = cudaErrorIllegalAddress;
    return sticky == cudaSuccess;
}

/* --- fibers ------------------------------------------------------------------------------------- */

enum state { READY, AT_BLOCK, AT_WARP, ENDED };

struct copy { /* cp.async under way */
    void *to;
    const void *from;
    size_t bytes, valid;
    int group;
};

/* A switch of stacks: swapcontext asks the system for the signal mask each time, and a block of a
   kernel switches a million times. */
#ifdef __x86_64__
typedef void *context; /* the stack pointer, with the registers that calls keep pushed */
extern "C" void emu_switch(context *from, context to);
asm(".text\n.type emu_switch,@function\nemu_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
    ".size emu_switch,.-emu_switch\n");
void switch_to(context *from, context *to) { emu_switch(from, *to); }
void start_at(context *c, uint8_t *stack, size_t size, void (*entry)(void))
{
    void **top = (void **)(void *)(stack + size);
    *--top = NULL; /* as after a call: 16-byte aligned plus the return address */
    *--top = (void *)entry;
    for (int i = 0; i < 6; i++)
        *--top = NULL;
    *c = top;
}
#else
#include <ucontext.h>
typedef ucontext_t context;
void switch_to(context *from, context *to) { swapcontext(from, to); }
void start_at(context *c, uint8_t *stack, size_t size, void (*entry)(void))
{
    getcontext(c);
    c->uc_stack.ss_sp = stack;
    c->uc_stack.ss_size = size;
    c->uc_link = NULL;
    makecontext(c, entry, 0);
}
#endif

struct fiber {
    context at;
    state is;
    dim3 thread;
    unsigned rank;
    int kind; /* of the collective it waits at */
    std::vector<copy> copies;
    int groups; /* committed */
    void *fake; /* ASan's */
};

const size_t STACK = 256 << 10;
std::vector<fiber *> &fibers = *new std::vector<fiber *>; /* of the running block: the first `ranks` */
std::vector<uint8_t *> &stacks = *new std::vector<uint8_t *>;
unsigned ranks = 0;
fiber *current = NULL;
context scheduler;
#if defined(__SANITIZE_ADDRESS__)
void *scheduler_fake;
const void *scheduler_bottom;
size_t scheduler_size;
#endif
const std::function<void()> *body = NULL;
std::vector<uint32_t> &slots = *new std::vector<uint32_t>; /* of emu_exchange, a rank each */

struct shared_site {
    uint8_t *data;
    size_t bytes;
    long block; /* whose it was last */
};
std::map<const void *, shared_site> &sites = *new std::map<const void *, shared_site>;
uint8_t *dynamic_shared = NULL;
long block_number = 0;

void enter_fiber(void)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(NULL, &scheduler_bottom, &scheduler_size);
#endif
    (*body)();
    current->is = ENDED;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(NULL, scheduler_bottom, scheduler_size);
#endif
    switch_to(&current->at, &scheduler);
}

void yield(void)
{
#if defined(__SANITIZE_ADDRESS__)
    fiber *me = current;
    __sanitizer_start_switch_fiber(&me->fake, scheduler_bottom, scheduler_size);
    switch_to(&me->at, &scheduler);
    __sanitizer_finish_switch_fiber(me->fake, &scheduler_bottom, &scheduler_size);
#else
    switch_to(&current->at, &scheduler);
#endif
}

void resume(fiber *f)
{
    current = f;
    threadIdx = f->thread;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&scheduler_fake, stacks[f->rank], STACK);
    switch_to(&scheduler, &f->at);
    __sanitizer_finish_switch_fiber(scheduler_fake, NULL, NULL);
#else
    switch_to(&scheduler, &f->at);
#endif
    current = NULL;
}

void begin(fiber *f, unsigned rank)
{
    f->is = READY;
    f->rank = rank;
    f->thread = dim3(rank % blockDim.x, rank / blockDim.x % blockDim.y,
                     rank / (blockDim.x * blockDim.y));
    f->copies.clear();
    f->groups = 0;
    start_at(&f->at, stacks[rank], STACK, enter_fiber);
}

/* All ranks of [first, end) that live wait for the same: they go on. */
bool release(unsigned first, unsigned end, state where)
{
    int kind = -1;
    for (unsigned i = first; i < end; i++) {
        if (fibers[i]->is == ENDED && where == AT_BLOCK)
            continue; /* told apart below */
        if (fibers[i]->is != where)
            return false;
        if (kind >= 0 && fibers[i]->kind != kind)
            fault("threads %u and %u of a warp wait at different calls", first, i);
        kind = fibers[i]->kind;
    }
    if (kind < 0)
        return false;
    for (unsigned i = first; i < end; i++) {
        if (fibers[i]->is == ENDED)
            fault("thread %u ended, others wait at a barrier", i);
        fibers[i]->is = READY;
    }
    return true;
}

/* A warp runs until all of it waits for the block or has ended; true when it did anything. */
bool run_warp(unsigned first, bool backwards)
{
    unsigned n = std::min(32u, ranks - first);
    bool any = false, ran = true;
    while (ran) {
        ran = false;
        for (unsigned i = 0; i < n; i++) {
            fiber *f = fibers[first + (backwards ? n - 1 - i : i)];
            if (f->is == READY) {
                resume(f);
                ran = true;
            }
        }
        ran = release(first, first + n, AT_WARP) || ran;
        any = any || ran;
    }
    return any;
}

/* Warp after warp, each as far ahead of the others as barriers let it. */
void run_fibers(void)
{
    bool backwards = said("RETORT_EMULATE_ORDER", "backwards");
    unsigned warps = (ranks + 31) / 32;
    for (;;) {
        bool ran = false;
        unsigned ended = 0;
        for (unsigned w = 0; w < warps; w++)
            ran = run_warp(32 * (backwards ? warps - 1 - w : w), backwards) || ran;
        for (unsigned i = 0; i < ranks; i++)
            ended += fibers[i]->is == ENDED;
        if (ended == ranks)
            return;
        if (!release(0, ranks, AT_BLOCK) && !ran)
            fault("threads wait for each other at different barriers");
    }
}

void run_grid(dim3 grid, dim3 block, size_t shared, const std::function<void()> &kernel)
{
    blockDim = block, gridDim = grid;
    ranks = block.x * block.y * block.z;
    body = &kernel;
    while (fibers.size() < ranks) {
        fibers.push_back(new fiber());
        stacks.push_back((uint8_t *)mmap(NULL, STACK, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    }
    slots.assign(ranks, 0);
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = dim3(x, y, z);
                block_number++;
                dynamic_shared = shared ? (uint8_t *)aligned_alloc(128, (shared + 127) / 128 * 128)
                                        : NULL;
                if (shared)
                    memset(dynamic_shared, 0xff, shared);
                for (unsigned i = 0; i < ranks; i++)
                    begin(fibers[i], i);
                run_fibers();
                free(dynamic_shared);
                dynamic_shared = NULL;
            }
    body = NULL;
    ranks = 0;
}

void wait_at(state where, int kind)
{
    if (!current)
        fault("a barrier outside a kernel");
    current->is = where;
    current->kind = kind;
    yield();
}

} // namespace

/* --- streams and events: seen by name only ------------------------------------------------------- */

struct emu_task {
    std::string name;
    std::function<void()> run;
};

struct emu_stream {
    std::deque<emu_task> queue;
};

struct emu_event {
    emu_stream *stream;
    long recorded, done;
};

namespace {

std::vector<emu_stream *> &streams = *new std::vector<emu_stream *>;

void run_one(emu_stream *s)
{
    emu_task t = s->queue.front();
    s->queue.pop_front();
    const char *outer = running;
    running = t.name.c_str();
    t.run();
    running = outer;
}

void run_stream(emu_stream *s)
{
    opened memory;
    while (!s->queue.empty())
        run_one(s);
}

void add(emu_stream *s, const char *name, std::function<void()> run)
{
    s->queue.push_back(emu_task{ name, run });
    if (said("RETORT_EMULATE_ORDER", "eager"))
        run_stream(s);
}

void reach(emu_event *e, long target)
{
    opened memory;
    while (e->done < target) {
        if (e->stream->queue.empty())
            fault("a wait for an event that nothing records");
        run_one(e->stream);
    }
}

} // namespace

/* --- the runtime's calls ------------------------------------------------------------------------ */

cudaError_t cudaGetDeviceCount(int *n)
{
    struct sigaction act;
    memset(&act, 0, sizeof act);
    act.sa_sigaction = on_segv;
    act.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &act, NULL);
    *n = 0;
    if (said("RETORT_EMULATE_DRIVER", "none"))
        return give(cudaErrorNoDevice);
    if (said("RETORT_EMULATE_DRIVER", "old") || said("RETORT_EMULATE_DRIVER", "unloaded"))
        return give(cudaErrorInsufficientDriver);
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int i) { return give(i == 0 ? cudaSuccess : cudaErrorInvalidDevice); }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int)
{
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "emulated");
    p->major = 8, p->minor = 9;
    p->multiProcessorCount = 3;
    p->totalGlobalMem = capacity();
    p->sharedMemPerBlockOptin = 99 << 10;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *v)
{
    *v = said("RETORT_EMULATE_DRIVER", "unloaded") ? 0
         : said("RETORT_EMULATE_DRIVER", "old")    ? 11040
                                                   : 13000;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *v) { return *v = 13000, cudaSuccess; }

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    *total = capacity();
    *free_bytes = *total - std::min(taken, *total);
    return sticky;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    *p = NULL;
    if (sticky)
        return give(sticky);
    if (bytes > capacity() || taken > capacity() - bytes)
        return give(cudaErrorMemoryAllocation);
    size_t padded = (std::max(bytes, (size_t)1) + 255) / 256 * 256;
    region r = { NULL, NULL, (padded + PAGE - 1) / PAGE * PAGE + PAGE, bytes };
    r.pages = (uint8_t *)mmap(NULL, r.mapped, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (r.pages == MAP_FAILED)
        return give(cudaErrorMemoryAllocation);
    r.data = r.pages + r.mapped - PAGE - padded; /* its end meets the guard page */
    if (padded <= FILL_MAX)
        memset(r.data, 0xff, padded);
    mprotect(r.pages, r.mapped - PAGE, open_depth || emu_team() > 1 ? PROT_READ | PROT_WRITE : PROT_NONE);
    mprotect(r.pages + r.mapped - PAGE, PAGE, PROT_NONE);
#if defined(__SANITIZE_ADDRESS__)
    ASAN_POISON_MEMORY_REGION(r.data + bytes, padded - bytes);
#endif
    regions.push_back(r);
    taken += bytes;
    *p = r.data;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (!p)
        return cudaSuccess;
    for (emu_stream *s : streams)
        run_stream(s);
    for (size_t i = 0; i < regions.size(); i++)
        if (regions[i].data == p) {
#if defined(__SANITIZE_ADDRESS__)
            ASAN_UNPOISON_MEMORY_REGION(regions[i].pages, regions[i].mapped);
#endif
            munmap(regions[i].pages, regions[i].mapped);
            taken -= regions[i].bytes;
            regions.erase(regions.begin() + (long)i);
            return cudaSuccess;
        }
    fault("cudaFree: %p is not device memory", p);
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    *p = aligned_alloc(PAGE, (std::max(bytes, (size_t)1) + PAGE - 1) / PAGE * PAGE);
    return give(*p ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *p)
{
    for (emu_stream *s : streams)
        run_stream(s);
    free(p);
    return cudaSuccess;
}

static uint64_t mix_bytes(const void *p, size_t bytes)
{
    const uint8_t *b = (const uint8_t *)p;
    uint64_t h = 1469598103934665603u, w;
    size_t i = 0;
    for (; i + 8 <= bytes; i += 8) {
        memcpy(&w, b + i, 8);
        h = (h ^ w) * 1099511628211u;
        h ^= h >> 29;
    }
    for (; i < bytes; i++)
        h = (h ^ b[i]) * 1099511628211u;
    return h;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t s)
{
    if (kind == cudaMemcpyHostToDevice ? find(src) != NULL : find(src) == NULL)
        fault("copy: the source is %sdevice memory", find(src) ? "" : "not ");
    if (kind == cudaMemcpyDeviceToHost ? find(dst) != NULL : find(dst) == NULL)
        fault("copy: the destination is %sdevice memory", find(dst) ? "" : "not ");
    if (find(src))
        look("copy", src, bytes);
    if (find(dst))
        look("copy", dst, bytes);
    uint64_t hash = kind == cudaMemcpyHostToDevice ? mix_bytes(src, bytes) : 0;
    if (kind == cudaMemcpyDeviceToHost)
        memset(dst, 0xa5, bytes); /* means nothing until the next wait */
    add(s, "copy", [=] {
        if (kind == cudaMemcpyHostToDevice && mix_bytes(src, bytes) != hash)
            fault("its source changed before the device read it");
        if (alive())
            memmove(dst, src, bytes);
    });
    return give(sticky);
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t s)
{
    look("memset", dst, bytes);
    add(s, "memset", [=] {
        if (alive())
            memset(dst, value, bytes);
    });
    return give(sticky);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    *s = new emu_stream();
    streams.push_back(*s);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    run_stream(s);
    streams.erase(std::find(streams.begin(), streams.end(), s));
    delete s;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    run_stream(s);
    return give(sticky);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    long target = e->recorded;
    if (target)
        add(s, "wait", [=] { reach(e, target); });
    return give(sticky);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    *e = new emu_event();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    for (emu_stream *s : streams)
        run_stream(s);
    delete e;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    long n = ++e->recorded;
    e->stream = s;
    add(s, "record", [=] { e->done = n; });
    return give(sticky);
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    reach(e, e->recorded);
    return give(sticky);
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t e = sticky ? sticky : last;
    last = cudaSuccess;
    return e;
}

const char *cudaGetErrorName(cudaError_t e)
{
    switch (e) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    default: return "cudaError";
    }
}

const char *cudaGetErrorString(cudaError_t e) { return cudaGetErrorName(e); }

/* --- launches ------------------------------------------------------------------------------------ */

void emu_launch(cudaStream_t s, const char *name, dim3 grid, dim3 block, size_t shared,
                std::function<void()> kernel)
{
    if (!grid.x || !grid.y || !grid.z || !block.x || block.x * block.y * block.z > 1024 ||
        grid.y > 65535 || grid.z > 65535 || shared > (99 << 10))
        fault("launch of %s: grid %u %u %u, block %u %u %u, %zu bytes shared", name, grid.x, grid.y,
              grid.z, block.x, block.y, block.z, shared);
    add(s, name, [=] {
        if (alive())
            run_grid(grid, block, shared, kernel);
    });
}

void emu_call(cudaStream_t s, const char *name, std::function<void()> call)
{
    add(s, name, [=] {
        if (alive())
            call();
    });
}

int emu_team(void)
{
    static int team = 0;
    if (!team)
        team = std::max(1, atoi(setting("RETORT_EMULATE_TEAM", "1")));
    return team;
}

void *emu_shared(const void *site, size_t bytes)
{
    shared_site &s = sites[site];
    if (s.bytes != bytes) {
        free(s.data);
        s.data = (uint8_t *)aligned_alloc(16, (bytes + 15) / 16 * 16);
        s.bytes = bytes;
        s.block = -1;
#if defined(__SANITIZE_ADDRESS__)
        ASAN_POISON_MEMORY_REGION(s.data + bytes, (bytes + 15) / 16 * 16 - bytes);
#endif
    }
    if (s.block != block_number) {
        memset(s.data, 0xff, bytes);
        s.block = block_number;
    }
    return s.data;
}

void *emu_dynamic(void) { return dynamic_shared; }

void __syncthreads(void) { wait_at(AT_BLOCK, 0); }
void __syncwarp(unsigned) { wait_at(AT_WARP, 1); }

uint32_t emu_exchange(uint32_t bits, unsigned from)
{
    unsigned warp = current->rank / 32 * 32;
    slots[current->rank] = bits;
    wait_at(AT_WARP, 2);
    bits = warp + from < ranks ? slots[warp + from] : 0x7fc0dead;
    wait_at(AT_WARP, 3);
    return bits;
}

unsigned __ballot_sync(unsigned, int yes)
{
    unsigned warp = current->rank / 32 * 32, all = 0;
    slots[current->rank] = yes != 0;
    wait_at(AT_WARP, 4);
    for (unsigned i = warp; i < std::min(warp + 32, ranks); i++)
        all |= slots[i] << (i - warp);
    wait_at(AT_WARP, 5);
    return all;
}

namespace {

struct fragment {
    uint32_t a[4], b[2];
    const void *row;
} fragments[1024];

float bf16_of(uint32_t word, int high)
{
    uint32_t bits = high ? word & 0xffff0000u : word << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

} // namespace

/* Products of bf16 are exact in f64; the hardware's order of their sum is not told, so one rounding
   stands for it. */
void emu_mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    unsigned warp = current->rank / 32 * 32, lane = current->rank % 32;
    if (ranks % 32)
        fault("mma by a warp of %u lanes", ranks - warp);
    memcpy(fragments[current->rank].a, a, 16);
    memcpy(fragments[current->rank].b, b, 8);
    wait_at(AT_WARP, 6);
    for (unsigned i = 0; i < 4; i++) {
        unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        double sum = (double)c[i];
        for (unsigned k = 0; k < 16; k++) {
            const fragment &x = fragments[warp + row % 8 * 4 + k % 8 / 2];
            const fragment &y = fragments[warp + column * 4 + k % 8 / 2];
            sum += (double)bf16_of(x.a[row / 8 + k / 8 * 2], k % 2) *
                   (double)bf16_of(y.b[k / 8], k % 2);
        }
        c[i] = (float)sum;
    }
    wait_at(AT_WARP, 7);
}

void emu_ldmatrix(uint32_t *r, const void *row, int matrices, bool transposed)
{
    unsigned warp = current->rank / 32 * 32, lane = current->rank % 32;
    if ((uintptr_t)row % 16 && (int)lane < 8 * matrices)
        fault("ldmatrix: a row is not on 16 bytes");
    fragments[current->rank].row = row;
    wait_at(AT_WARP, 8);
    for (int m = 0; m < matrices; m++) {
        uint16_t pair[2];
        for (unsigned i = 0; i < 2; i++) {
            unsigned y = transposed ? lane % 4 * 2 + i : lane / 4;
            unsigned x = transposed ? lane / 4 : lane % 4 * 2 + i;
            memcpy(&pair[i], (const uint8_t *)fragments[warp + 8 * (unsigned)m + y].row + 2 * x, 2);
        }
        r[m] = pair[0] | (uint32_t)pair[1] << 16;
    }
    wait_at(AT_WARP, 9);
}

void emu_copy_async(void *shared, const void *global, size_t bytes, size_t valid)
{
    if (((uintptr_t)shared | (uintptr_t)global) % bytes)
        fault("cp.async of %zu bytes: not aligned", bytes);
    current->copies.push_back(copy{ shared, global, bytes, valid, current->groups });
}

void emu_copy_commit(void) { current->groups++; }

void emu_copy_wait(int left)
{
    std::vector<copy> later;
    for (const copy &c : current->copies) {
        if (c.group >= current->groups - left) {
            later.push_back(c);
            continue;
        }
        memcpy(c.to, c.from, c.valid);
        memset((uint8_t *)c.to + c.valid, 0, c.bytes - c.valid);
    }
    current->copies.swap(later);
}
