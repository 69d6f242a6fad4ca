/* team.h: the two meanings of the text in kernels/. A team works on one unit (a row, a block of
   columns): on the CPU it is one thread and `lanes` are the 16 lanes of the numeric contract
   (core/device/ops.h); under nvcc it is a block of threads and a lane is one float a thread. So
     for (i = team_rank(); i < n; i += team_size())       elements, gcc vectorizes
     for (i = lanes_first(); i < n; i += lanes_step())    sums, through lanes_load .. team_sum_lanes
   are each other's equals. Every rank of a team takes the same branches around team_sync and the
   functions that hold one (team_*). solo_* functions are for one rank alone. Activations are of
   type act: float, or bf16 where a GPU's kernels are compiled a second time for them (RT_ACT_BF16).
   Plain C11 that is C++17 too. Holds no operation. */
#ifndef RT_KERNELS_TEAM_H
#define RT_KERNELS_TEAM_H

#include "core/device/kernels/math.h"
#include "core/device/ops.h"
#include "core/base/rng.h"

#ifdef RT_TEAM_THREADS /* core/device/cuda/gpu.h */

#define TEAM_FN static __device__ inline
#define LANES_FN static __device__ __forceinline__
#define TEAM_SHARED(type, name, count) BLOCK_SHARED(type, name, count)
#define TEAM_LOOP

enum { TEAM_LANES = 1 };
#define TEAM_BLOCK (INT64_C(128) * team_size())
typedef float lanes;

/* Rounded to nearest even; NaN stays NaN. */
LANES_FN uint32_t bf16_bits(float x)
{
    uint32_t u = rt_bits_of_float(x);
    return x != x ? 0x7fc0u : (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
}
LANES_FN float bf16_value(uint32_t bits) { return rt_float_of_bits(bits << 16); }

#ifdef RT_ACT_BF16
/* An activation as it is stored: what arithmetic sees is a float. */
struct act {
    uint16_t bits;
    __device__ operator float() const { return bf16_value(bits); }
    __device__ act &operator=(float x)
    {
        bits = (uint16_t)bf16_bits(x);
        return *this;
    }
    __device__ act &operator+=(float x) { return *this = float(*this) + x; }
};
#else
typedef float act;
#endif

LANES_FN int64_t team_rank(void) { return threadIdx.x; }
LANES_FN int64_t team_size(void) { return blockDim.x; }
LANES_FN void team_sync(void) { __syncthreads(); }

LANES_FN lanes lanes_set(float x) { return x; }
LANES_FN lanes lanes_load(const float *p, int64_t left, float fill) { return left > 0 ? *p : fill; }
LANES_FN void lanes_store(float *p, lanes x, int64_t left)
{
    if (left > 0)
        *p = x;
}
#ifdef RT_ACT_BF16
LANES_FN lanes lanes_load(const act *p, int64_t left, float fill)
{
    return left > 0 ? float(*p) : fill;
}
LANES_FN void lanes_store(act *p, lanes x, int64_t left)
{
    if (left > 0)
        *p = x;
}
#endif
LANES_FN lanes lanes_add(lanes a, lanes b) { return a + b; }
LANES_FN lanes lanes_sub(lanes a, lanes b) { return a - b; }
LANES_FN lanes lanes_mul(lanes a, lanes b) { return a * b; }
LANES_FN lanes lanes_fma(lanes a, lanes b, lanes c) { return fmaf(a, b, c); }
LANES_FN lanes lanes_max(lanes a, lanes b) { return a > b ? a : b; }
LANES_FN lanes lanes_where_ge(lanes x, lanes key, lanes edge) { return key >= edge ? x : 0.0f; }
LANES_FN float solo_sum_lanes(lanes x) { return x; }
LANES_FN float solo_max_lanes(lanes x) { return x; }

/* What the lane `step` away holds; `none` where the team has no such rank. */
LANES_FN float team_from(float x, int step, float none)
{
    float y = __shfl_xor_sync(0xffffffffu, x, step);
    return (threadIdx.x ^ (unsigned)step) < blockDim.x ? y : none;
}

/* Of the caller's warp, to all its lanes. */
LANES_FN float warp_sum(float x)
{
    for (int step = 16; step > 0; step /= 2)
        x += team_from(x, step, 0.0f);
    return __shfl_sync(0xffffffffu, x, 0);
}
LANES_FN float warp_max(float x)
{
    for (int step = 16; step > 0; step /= 2)
        x = lanes_max(x, team_from(x, step, -INFINITY));
    return __shfl_sync(0xffffffffu, x, 0);
}

/* Warps by shuffles, then every warp over the warps' results. */
TEAM_FN float team_sum_lanes(lanes x)
{
    TEAM_SHARED(float, part, 32);
    x = warp_sum(x);
    team_sync();
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = x;
    team_sync();
    return warp_sum(threadIdx.x % 32 < (blockDim.x + 31) / 32 ? part[threadIdx.x % 32] : 0.0f);
}

TEAM_FN float team_max_lanes(lanes x)
{
    TEAM_SHARED(float, part, 32);
    x = warp_max(x);
    team_sync();
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = x;
    team_sync();
    return warp_max(threadIdx.x % 32 < (blockDim.x + 31) / 32 ? part[threadIdx.x % 32] : -INFINITY);
}

/* Lowest i in [0, n) with x[i] == value, n when there is none. */
TEAM_FN int64_t team_find(const float *x, int64_t n, float value)
{
    TEAM_SHARED(unsigned long long, found, 1);
    team_sync();
    if (threadIdx.x == 0)
        found[0] = (unsigned long long)n;
    team_sync();
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        if (x[i] == value) {
            atomicMin(found, (unsigned long long)i);
            break;
        }
    team_sync();
    return (int64_t)found[0];
}

#else

#include "core/device/cpu/simd.h"

#define TEAM_FN static inline __attribute__((unused))
#define LANES_FN static inline __attribute__((always_inline, unused))
#define TEAM_SHARED(type, name, count) type name[count]
/* Before a loop over TEAM_LANES: gcc would unroll it too early to make vectors of it. */
#define TEAM_LOOP _Pragma("GCC unroll 1")

enum { TEAM_LANES = 16 };
#define TEAM_BLOCK INT64_C(2048)
typedef rt_v16 lanes;
typedef float act;

LANES_FN int64_t team_rank(void) { return 0; }
LANES_FN int64_t team_size(void) { return 1; }
LANES_FN void team_sync(void) {}

LANES_FN lanes lanes_set(float x) { return v16_set1(x); }
LANES_FN lanes lanes_load(const float *p, int64_t left, float fill)
{
    return left >= TEAM_LANES ? v16_load(p) : v16_load_fill(p, (int)left, fill);
}
LANES_FN void lanes_store(float *p, lanes x, int64_t left)
{
    if (left >= TEAM_LANES)
        v16_store(p, x);
    else
        v16_store_n(p, x, (int)left);
}
LANES_FN lanes lanes_add(lanes a, lanes b) { return v16_add(a, b); }
LANES_FN lanes lanes_sub(lanes a, lanes b) { return v16_sub(a, b); }
LANES_FN lanes lanes_mul(lanes a, lanes b) { return v16_mul(a, b); }
LANES_FN lanes lanes_fma(lanes a, lanes b, lanes c) { return v16_fma(a, b, c); }
LANES_FN lanes lanes_max(lanes a, lanes b) { return v16_max(a, b); }
LANES_FN lanes lanes_where_ge(lanes x, lanes key, lanes edge) { return v16_where_ge(x, key, edge); }
LANES_FN float solo_sum_lanes(lanes x) { return v16_sum(x); }
LANES_FN float solo_max_lanes(lanes x) { return v16_max_lane(x); }
LANES_FN float team_sum_lanes(lanes x) { return v16_sum(x); }
LANES_FN float team_max_lanes(lanes x) { return v16_max_lane(x); }

/* Lowest i in [0, n) with x[i] == value, n when there is none. */
TEAM_FN int64_t team_find(const float *x, int64_t n, float value)
{
    int64_t i = 0;
    for (; i + 4 * TEAM_LANES <= n; i += 4 * TEAM_LANES) {
        int hit = 0;
        TEAM_LOOP for (int l = 0; l < 4 * TEAM_LANES; l++) hit |= x[i + l] == value;
        if (hit)
            break;
    }
    while (i < n && x[i] != value)
        i++;
    return i;
}

#endif

LANES_FN int64_t team_block_end(int64_t begin, int64_t n)
{
    return n - begin > TEAM_BLOCK ? begin + TEAM_BLOCK : n;
}
LANES_FN int64_t lanes_first(void) { return team_rank() * TEAM_LANES; }
LANES_FN int64_t lanes_step(void) { return team_size() * TEAM_LANES; }

/* e^x of every lane, x <= 0 */
LANES_FN lanes lanes_exp(lanes x)
{
    float t[TEAM_LANES];
    lanes_store(t, x, TEAM_LANES);
    TEAM_LOOP for (int l = 0; l < TEAM_LANES; l++) t[l] = rt_soft_expf(t[l]);
    return lanes_load(t, TEAM_LANES, 0.0f);
}

LANES_FN float *team_f32(const rt_tensor *t) { return (float *)t->data; }
LANES_FN int32_t *team_i32(const rt_tensor *t) { return (int32_t *)t->data; }
LANES_FN int64_t team_elements(const rt_tensor *t)
{
    return t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3];
}
LANES_FN act *team_act(const rt_tensor *t) { return (act *)t->data; }
LANES_FN act *act_row(const rt_tensor *t, int64_t i, int64_t width)
{
    return (act *)t->data + i * width;
}
/* row i of a tensor whose rows are its outermost dimension, f32 */
LANES_FN float *team_row(const rt_tensor *t, int64_t i, int64_t width)
{
    return (float *)t->data + i * width;
}

/* Sums run in blocks of TEAM_BLOCK elements, whose sums are added in order in f64: a chain over a
   whole vocabulary would lose a light tail. */
TEAM_FN float team_sum(const float *x, int64_t n)
{
    double sum = 0.0;
    for (int64_t b = 0; b < n; b += TEAM_BLOCK) {
        int64_t end = team_block_end(b, n);
        lanes s = lanes_set(0.0f);
        for (int64_t i = b + lanes_first(); i < end; i += lanes_step())
            s = lanes_add(s, lanes_load(x + i, end - i, 0.0f));
        sum += (double)team_sum_lanes(s);
    }
    return (float)sum;
}

#ifdef RT_ACT_BF16
template <typename act> /* these, and floats */
#endif
TEAM_FN float team_dot(const act *x, const act *y, int64_t n)
{
    double sum = 0.0;
    for (int64_t b = 0; b < n; b += TEAM_BLOCK) {
        int64_t end = team_block_end(b, n);
        lanes s = lanes_set(0.0f);
        for (int64_t i = b + lanes_first(); i < end; i += lanes_step())
            s = lanes_fma(lanes_load(x + i, end - i, 0.0f), lanes_load(y + i, end - i, 0.0f), s);
        sum += (double)team_sum_lanes(s);
    }
    return (float)sum;
}

TEAM_FN float team_max(const float *x, int64_t n)
{
    lanes s = lanes_set(-INFINITY);
    for (int64_t i = lanes_first(); i < n; i += lanes_step())
        s = lanes_max(lanes_load(x + i, n - i, -INFINITY), s);
    return team_max_lanes(s);
}

/* Of one rank alone. */
TEAM_FN float solo_sum(const float *x, int64_t n)
{
    lanes s = lanes_set(0.0f);
    for (int64_t i = 0; i < n; i += TEAM_LANES)
        s = lanes_add(s, lanes_load(x + i, n - i, 0.0f));
    return solo_sum_lanes(s);
}

TEAM_FN float solo_max(const float *x, int64_t n)
{
    lanes s = lanes_set(-INFINITY);
    for (int64_t i = 0; i < n; i += TEAM_LANES)
        s = lanes_max(lanes_load(x + i, n - i, -INFINITY), s);
    return solo_max_lanes(s);
}

#endif
