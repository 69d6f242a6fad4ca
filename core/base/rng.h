/* rng.h: counter-based random numbers, Philox4x32-10 (Salmon et al., SC'11). A draw is a pure
   function of (seed, stream, index): nothing to save, nothing to restore, the same on every
   backend and for any thread count or batch composition. Plain C that nvcc also reads. */
#ifndef RT_RNG_H
#define RT_RNG_H

#include "core/base/base.h"

#ifdef __CUDACC__
#define RT_RNG_FN __host__ __device__ static inline
#else
#define RT_RNG_FN static inline
#endif

/* Streams keep sites apart: the same (seed, index) at two sites must not give the same draw. */
enum rt_rng_stream {
    RT_RNG_INIT = 1,    /* weight initialisation: index = (param << 40) + element */
    RT_RNG_SHUFFLE = 2, /* document order: index = epoch << 34 ^ round << 32 ^ half a position */
    RT_RNG_SAMPLE = 3,  /* token choice: seed = sample seed, index = position */
    RT_RNG_TAIL = 4,    /* tail draws of the archive: seed = sample seed, index = position */
    RT_RNG_DATA = 5,    /* generated problems and test data */
    RT_RNG_ROUND = 6    /* stochastic rounding */
};

typedef struct rt_u32x4 { uint32_t v[4]; } rt_u32x4;

RT_RNG_FN rt_u32x4 rt_rng_bits(uint64_t seed, uint32_t stream, uint64_t index)
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    rt_u32x4 c;
    c.v[0] = (uint32_t)index;
    c.v[1] = (uint32_t)(index >> 32);
    c.v[2] = stream;
    c.v[3] = 0;
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c.v[0], b = (uint64_t)0xCD9E8D57u * c.v[2];
        uint32_t n0 = (uint32_t)(b >> 32) ^ c.v[1] ^ k0, n2 = (uint32_t)(a >> 32) ^ c.v[3] ^ k1;
        c.v[1] = (uint32_t)b;
        c.v[3] = (uint32_t)a;
        c.v[0] = n0;
        c.v[2] = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

RT_RNG_FN uint32_t rt_rng_u32(uint64_t seed, uint32_t stream, uint64_t index)
{
    return rt_rng_bits(seed, stream, index).v[0];
}

/* Uniform in [0, 1), 24 bits. */
RT_RNG_FN float rt_rng_uniform(uint64_t seed, uint32_t stream, uint64_t index)
{
    return (float)(rt_rng_u32(seed, stream, index) >> 8) * 0x1p-24f;
}

/* Uniform integer in [0, n), n < 2^32, bias < 2^-32. */
RT_RNG_FN uint32_t rt_rng_below(uint64_t seed, uint32_t stream, uint64_t index, uint32_t n)
{
    return (uint32_t)(((uint64_t)rt_rng_u32(seed, stream, index) * n) >> 32);
}

#endif
