/* emulate_block.cc: the inside of a launch: blocks one after another, the threads of a block as fibers,
   and what they say to each other: barriers, shared memory, shuffles, fragments, copies under way.
   Nothing here is fast. */
#include "core/device/cuda/emulate_inside.h"

#include <algorithm>
#include <map>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

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
            emu_fault("threads %u and %u of a warp wait at different calls", first, i);
        kind = fibers[i]->kind;
    }
    if (kind < 0)
        return false;
    for (unsigned i = first; i < end; i++) {
        if (fibers[i]->is == ENDED)
            emu_fault("thread %u ended, others wait at a barrier", i);
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
    bool backwards = emu_said("RETORT_EMULATE_ORDER", "backwards");
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
            emu_fault("threads wait for each other at different barriers");
    }
}

} // namespace

void emu_run_grid(dim3 grid, dim3 block, size_t shared, const std::function<void()> &kernel)
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

namespace {

void wait_at(state where, int kind)
{
    if (!current)
        emu_fault("a barrier outside a kernel");
    current->is = where;
    current->kind = kind;
    yield();
}

} // namespace

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
        emu_fault("mma by a warp of %u lanes", ranks - warp);
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
        emu_fault("ldmatrix: a row is not on 16 bytes");
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
        emu_fault("cp.async of %zu bytes: not aligned", bytes);
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
