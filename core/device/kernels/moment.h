/* moment.h: an optimizer's moments in eight bits an element: blocks of 256 codes behind one f32
   scale, the largest magnitude of the block. The codes are the dynamic ones of arXiv 2110.02861:
   seven decades below 1, each twice as fine as the one below it, whose points are the middles of
   2^e equal parts of (0.1, 1] times a power of ten; and 0 and 1.
     m8  a first moment: a sign and 127 magnitudes; 0x80 is +1
     v8  a second moment, as its root, so that two gradients may be 10^6 apart and not 10^3:
         254 magnitudes; 255 is 1, and only 0 is 0, or a step would divide by nothing
   Refuses: knowing what a moment is for. */
#ifndef RT_KERNELS_MOMENT_H
#define RT_KERNELS_MOMENT_H

#include "core/device/kernels/team.h"

enum { RT_MOMENT_BLOCK = 256, RT_MOMENT_BYTES = 260 };

LANES_FN float power_of_ten(int e) /* 10^-e, e in 0 .. 6 */
{
    return e == 0 ? 1.0f : e == 1 ? 1e-1f : e == 2 ? 1e-2f : e == 3 ? 1e-3f : e == 4 ? 1e-4f
         : e == 5 ? 1e-5f : 1e-6f;
}
LANES_FN float power_of_two(int e) { return rt_float_of_bits((uint32_t)(e + 127) << 23); }

/* Point q >= 1, of which decade d has 2^e, the first of them 2^e: e = d, or d + 1 where `finer`. */
LANES_FN float moment_point(int q, int finer)
{
    int e = (int)(rt_bits_of_float((float)q) >> 23) - 127;
    float part = ((float)(q - (1 << e)) + 0.5f) * power_of_two(-e);
    return power_of_ten(6 + finer - e) * fmaf(0.9f, part, 0.1f);
}

/* The point nearest to x in [0, 1]: its q, in first .. last; before the first lies 0. */
LANES_FN int moment_nearest(float x, int finer, int last)
{
    int d = (x > 1e-6f) + (x > 1e-5f) + (x > 1e-4f) + (x > 1e-3f) + (x > 1e-2f) + (x > 1e-1f);
    int e = d + finer, first = 1 << finer;
    float up = d == 6 ? 1.0f : d == 5 ? 1e1f : d == 4 ? 1e2f : d == 3 ? 1e3f : d == 2 ? 1e4f
             : d == 1 ? 1e5f : 1e6f;
    float part = (x * up - 0.1f) * (1.0f / 0.9f) * power_of_two(e);
    int j = (int)(part > 0.0f ? part : 0.0f), q = (1 << e) + (j < (1 << e) ? j : (1 << e) - 1);
    float at = moment_point(q, finer), below = q > first ? moment_point(q - 1, finer) : 0.0f;
    float above = q < last ? moment_point(q + 1, finer) : 1.0f;
    return q + (2.0f * x >= at + above) - (2.0f * x < at + below);
}

LANES_FN float m8_value(uint8_t code)
{
    int q = code & 127;
    float x = q ? moment_point(q, 0) : code ? 1.0f : 0.0f;
    return q && code > 127 ? -x : x;
}

/* x in [-1, 1] */
LANES_FN uint8_t m8_code(float x)
{
    int q = moment_nearest(x < 0.0f ? -x : x, 0, 127);
    if (x < 0.0f)
        return (uint8_t)(q == 0 ? 0 : q > 127 ? 255 : 128 + q);
    return (uint8_t)q; /* 128 is 1 */
}

LANES_FN float v8_root(uint8_t code)
{
    return code == 255 ? 1.0f : code ? moment_point(code + 1, 1) : 0.0f;
}

/* x in [0, 1] */
LANES_FN uint8_t v8_code(float x)
{
    int q = moment_nearest(x, 1, 255);
    return (uint8_t)(x > 0.0f && q < 2 ? 1 : q - 1);
}

LANES_FN uint8_t *moment_block(const rt_tensor *t, int64_t at)
{
    return (uint8_t *)t->data + at / RT_MOMENT_BLOCK * RT_MOMENT_BYTES;
}

/* x (n <= 256) as codes; `size` (n) its magnitudes. Every rank calls it. */
TEAM_FN void m8_store(uint8_t *block, const float *x, const float *size, int64_t n)
{
    float most = team_max(size, n), by = most > 0.0f ? 1.0f / most : 0.0f;
    team_sync(); /* the old scale has been read */
    if (team_rank() == 0)
        *(float *)(void *)block = most;
    for (int64_t i = team_rank(); i < n; i += team_size())
        block[4 + i] = m8_code(size[i] == most ? (x[i] < 0.0f ? -1.0f : x[i] > 0.0f) : x[i] * by);
}

/* root (n <= 256), none below 0 */
TEAM_FN void v8_store(uint8_t *block, const float *root, int64_t n)
{
    float most = team_max(root, n), by = most > 0.0f ? 1.0f / most : 0.0f;
    team_sync();
    if (team_rank() == 0)
        *(float *)(void *)block = most;
    for (int64_t i = team_rank(); i < n; i += team_size())
        block[4 + i] = v8_code(root[i] == most ? root[i] * by > 0.0f : root[i] * by);
}

#endif
