/* emulate.cc: the runtime of emulate.h: memory, streams as lists of closures, failures. All of
   it runs on the thread that waits. What happens inside a launch: emulate_block.cc. */
#include "core/device/cuda/emulate_inside.h"

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

namespace {

const size_t PAGE = 4096;
const size_t FILL_MAX = (size_t)256 << 20; /* a cache planned for the longest is not filled to its end */
const char *running = NULL;                /* the kernel or copy at work */

} // namespace

void emu_fault(const char *format, ...)
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

const char *emu_setting(const char *name, const char *otherwise)
{
    const char *v = getenv(name);
    return v && *v ? v : otherwise;
}

bool emu_said(const char *name, const char *value) { return !strcmp(emu_setting(name, ""), value); }

namespace {

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
    return (size_t)strtoull(emu_setting("RETORT_EMULATE_MEMORY", "68719476736"), NULL, 10);
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
            emu_fault("mprotect fails");
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
        emu_fault("leaves device memory: byte %lld of %lld", at, (long long)r->bytes);
    emu_fault("the host touches device memory (byte %lld of %lld)", at, (long long)r->bytes);
}

/* Bytes [p, p + n) are one allocation's. */
void look(const char *what, const void *p, size_t n)
{
    const region *r = find(p);
    if (!r)
        emu_fault("%s: %p is not device memory", what, p);
    if ((const uint8_t *)p < r->data || (const uint8_t *)p + n > r->data + r->bytes)
        emu_fault("%s: %lld bytes at byte %lld of %lld", what, (long long)n,
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
    long at = atol(emu_setting("RETORT_EMULATE_FAIL", "0"));
    if (at && ++launches >= at)
        sticky = cudaErrorIllegalAddress;
    return sticky == cudaSuccess;
}

} // namespace

/* --- streams and events: each stream runs its own tasks in order, and of another's what an event
   asks for ---------------------------------------------------------------------------------------- */

struct emu_stream;

/* So many tasks of a stream: a point in it. */
struct emu_event {
    emu_stream *of;
    long at;
};

struct emu_task {
    std::string name;
    std::function<void()> run;
    emu_event after; /* of == NULL: of nothing but the tasks before */
};

struct emu_graph {
    std::vector<emu_task> task;
};

struct emu_stream {
    std::deque<emu_task> queue;
    long given, done;
    emu_graph *capture; /* under way, or NULL */
    bool broken;        /* by what is forbidden meanwhile */
};

namespace {

std::vector<emu_stream *> &streams = *new std::vector<emu_stream *>;

void run_until(emu_stream *s, long at);
void run_ahead(void);

bool came(const emu_event &e) { return !e.of || e.of->done >= e.at; }

/* The first task of s, or those that it waits for. */
void run_one(emu_stream *s)
{
    emu_task t = s->queue.front();
    if (!came(t.after)) {
        run_until(t.after.of, t.after.at);
        return; /* the task may have run by now */
    }
    s->queue.pop_front();
    const char *outer = running;
    running = t.name.c_str();
    t.run();
    running = outer;
    s->done++;
}

void run_until(emu_stream *s, long at)
{
    opened memory;
    while (s->done < at) {
        run_one(s);
        run_ahead();
    }
}

void run_stream(emu_stream *s) { run_until(s, s->given); }

/* Of those that run early what waits for nothing. */
void run_ahead(void)
{
    if (!emu_said("RETORT_EMULATE_ORDER", "ahead"))
        return;
    opened memory;
    for (size_t i = 1; i < streams.size(); i++)
        while (!streams[i]->queue.empty() && came(streams[i]->queue.front().after))
            run_one(streams[i]);
}

void add(emu_stream *s, const char *name, std::function<void()> run, emu_event after = {})
{
    if (s->capture) {
        s->capture->task.push_back(emu_task{ name, run, after });
        return;
    }
    s->queue.push_back(emu_task{ name, run, after });
    s->given++;
    if (emu_said("RETORT_EMULATE_ORDER", "eager"))
        run_stream(s);
    run_ahead();
}

/* Whether a call is forbidden because a stream is captured, which it breaks. */
bool breaks_capture(void)
{
    bool any = false;
    for (emu_stream *s : streams)
        if (s->capture)
            any = s->broken = true;
    return any;
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
    if (emu_said("RETORT_EMULATE_DRIVER", "none"))
        return give(cudaErrorNoDevice);
    if (emu_said("RETORT_EMULATE_DRIVER", "old") || emu_said("RETORT_EMULATE_DRIVER", "unloaded"))
        return give(cudaErrorInsufficientDriver);
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int i) { return give(i == 0 ? cudaSuccess : cudaErrorInvalidDevice); }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int)
{
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "emulated");
    int arch = atoi(emu_setting("RETORT_EMULATE_ARCH", "89"));
    p->major = arch / 10, p->minor = arch % 10;
    p->multiProcessorCount = 3;
    p->totalGlobalMem = capacity();
    p->sharedMemPerBlockOptin = 99 << 10;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *v)
{
    *v = emu_said("RETORT_EMULATE_DRIVER", "unloaded") ? 0
         : emu_said("RETORT_EMULATE_DRIVER", "old")    ? 11040
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
    if (breaks_capture())
        return give(cudaErrorStreamCaptureUnsupported);
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
    if (breaks_capture())
        return give(cudaErrorStreamCaptureUnsupported);
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
    emu_fault("cudaFree: %p is not device memory", p);
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    *p = NULL;
    if (breaks_capture())
        return give(cudaErrorStreamCaptureUnsupported);
    if (bytes > (size_t)1 << 40) /* more than any host has, which a sanitizer would stop at */
        return give(cudaErrorMemoryAllocation);
    *p = aligned_alloc(PAGE, (std::max(bytes, (size_t)1) + PAGE - 1) / PAGE * PAGE);
    return give(*p ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *p)
{
    if (breaks_capture())
        return give(cudaErrorStreamCaptureUnsupported);
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

/* The host's sides of copies that have not run. */
struct emu_side {
    const uint8_t *at;
    size_t bytes;
    bool written;
    long number;
};
static std::vector<emu_side> sides;

/* Of copies before `number`, one that writes (or reads) some of the same bytes. */
static bool met(const void *p, size_t bytes, bool written, long number)
{
    const uint8_t *at = (const uint8_t *)p;
    for (const emu_side &s : sides)
        if (s.written == written && s.number < number && at < s.at + s.bytes && s.at < at + bytes)
            return true;
    return false;
}

static void leave_side(long number)
{
    for (size_t i = 0; i < sides.size(); i++)
        if (sides[i].number == number) {
            sides[i] = sides.back();
            sides.pop_back();
            return;
        }
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t s)
{
    if (kind == cudaMemcpyHostToDevice ? find(src) != NULL : find(src) == NULL)
        emu_fault("copy: the source is %sdevice memory", find(src) ? "" : "not ");
    if (kind == cudaMemcpyDeviceToHost ? find(dst) != NULL : find(dst) == NULL)
        emu_fault("copy: the destination is %sdevice memory", find(dst) ? "" : "not ");
    if (find(src))
        look("copy", src, bytes);
    if (find(dst))
        look("copy", dst, bytes);
    static long copies;
    long number = ++copies;
    bool up = kind == cudaMemcpyHostToDevice, down = kind == cudaMemcpyDeviceToHost;
    bool later = up && met(src, bytes, true, number); /* it reads what another copy will have left */
    uint64_t hash = up && !later ? mix_bytes(src, bytes) : 0;
    if (down && !met(dst, bytes, false, number))
        memset(dst, 0xa5, bytes); /* means nothing until the next wait */
    if (up || down)
        sides.push_back({ (const uint8_t *)(down ? dst : src), bytes, down, number });
    add(s, "copy", [=] {
        leave_side(number);
        if (later && met(src, bytes, true, number))
            emu_fault("an earlier copy has still to write its source");
        if (up && !later && mix_bytes(src, bytes) != hash)
            emu_fault("its source changed before the device read it");
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
    if (s->capture && breaks_capture())
        return give(cudaErrorStreamCaptureUnsupported);
    run_stream(s);
    return give(sticky);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    if (s->capture && breaks_capture())
        return give(cudaErrorStreamCaptureUnsupported);
    add(s, "event", [] {}, *e);
    return give(sticky);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    *e = new emu_event();
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    if (s->capture && breaks_capture())
        return give(cudaErrorStreamCaptureUnsupported);
    *e = { s, s->given };
    return give(sticky);
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    if (breaks_capture())
        return give(cudaErrorStreamCaptureUnsupported);
    if (!came(*e))
        run_until(e->of, e->at);
    return give(sticky);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    delete e;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode)
{
    if (s->capture)
        return give(cudaErrorIllegalState);
    s->capture = new emu_graph();
    s->broken = false;
    return give(sticky);
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
    *g = NULL;
    if (!s->capture)
        return give(cudaErrorIllegalState);
    if (s->broken)
        delete s->capture;
    else
        *g = s->capture;
    s->capture = NULL;
    return give(s->broken ? cudaErrorStreamCaptureInvalidated : sticky);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long)
{
    *e = NULL;
    if (emu_said("RETORT_EMULATE_GRAPHS", "none"))
        return give(cudaErrorMemoryAllocation);
    *e = new emu_graph(*g);
    return give(sticky);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s)
{
    for (const emu_task &t : e->task)
        add(s, t.name.c_str(), t.run);
    return give(sticky);
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete g;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e)
{
    delete e;
    return cudaSuccess;
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
        emu_fault("launch of %s: grid %u %u %u, block %u %u %u, %zu bytes shared", name, grid.x, grid.y,
              grid.z, block.x, block.y, block.z, shared);
    add(s, name, [=] {
        if (alive())
            emu_run_grid(grid, block, shared, kernel);
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
        team = std::max(1, atoi(emu_setting("RETORT_EMULATE_TEAM", "1")));
    return team;
}

