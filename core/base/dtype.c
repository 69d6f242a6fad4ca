/* dtype.c: the table of number formats, and conversions of one number. */
#include "core/base/dtype.h"

#include <string.h>

#include "core/base/err.h"

// Block layouts and ids are facts of GGUF (ggml_type in ggml.h).
static const rt_dtype_info DTYPES[RT_DTYPE_COUNT] = {
    [RT_F32] = { "f32", 1, 4, 0, "F32" },       [RT_F16] = { "f16", 1, 2, 1, "F16" },
    [RT_BF16] = { "bf16", 1, 2, 30, "BF16" },   [RT_I32] = { "i32", 1, 4, 26, "I32" },
    [RT_U8] = { "u8", 1, 1, -1, "U8" },         [RT_Q8_0] = { "q8_0", 32, 34, 8, NULL },
    [RT_Q4_0] = { "q4_0", 32, 18, 2, NULL },    [RT_Q4_K] = { "q4_K", 256, 144, 12, NULL },
    [RT_Q6_K] = { "q6_K", 256, 210, 14, NULL },  [RT_Q4_1] = { "q4_1", 32, 20, 3, NULL },
    [RT_Q5_0] = { "q5_0", 32, 22, 6, NULL },    [RT_Q5_1] = { "q5_1", 32, 24, 7, NULL },
    [RT_Q5_K] = { "q5_K", 256, 176, 13, NULL }, [RT_IQ4_NL] = { "iq4_nl", 32, 18, 20, NULL },
    [RT_MXFP4] = { "mxfp4", 32, 17, 39, NULL }, [RT_Q2_K] = { "q2_K", 256, 84, 10, NULL },
    [RT_Q3_K] = { "q3_K", 256, 110, 11, NULL }, [RT_IQ4_XS] = { "iq4_xs", 256, 136, 23, NULL },
    [RT_NVFP4] = { "nvfp4", 64, 36, 40, NULL }, [RT_TQ2_0] = { "tq2_0", 256, 66, 35, NULL },
    [RT_Q2_0] = { "q2_0", 64, 18, 42, NULL },
    [RT_F8_E4M3] = { "f8_e4m3", 1, 1, -1, "F8_E4M3" },
    [RT_F8_E8M0] = { "f8_e8m0", 1, 1, -1, "F8_E8M0" },
    [RT_M8] = { "m8", 256, 260, -1, NULL },     [RT_V8] = { "v8", 256, 260, -1, NULL },
};

const rt_dtype_info *rt_dtype_get(rt_dtype t)
{
    if ((unsigned)t >= RT_DTYPE_COUNT)
        rt_bug("dtype %d does not exist", (int)t);
    return &DTYPES[t];
}

int64_t rt_dtype_bytes(rt_dtype t, int64_t elements)
{
    const rt_dtype_info *info = rt_dtype_get(t);
    int64_t bytes;
    if (elements == INT64_MAX)
        return INT64_MAX;
    if (elements < 0 || elements % info->block)
        rt_bug("%lld elements are not whole blocks of %s", (long long)elements, info->name);
    return rt_mul_ok(elements / info->block, info->block_bytes, &bytes) ? bytes : INT64_MAX;
}

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

float rt_bf16_to_f32(uint16_t h) { return float_of((uint32_t)h << 16); }

uint16_t rt_f32_to_bf16(float f)
{
    uint32_t u = bits_of(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) // NaN: stays one, quiet
        return (uint16_t)((u >> 16) | 0x40u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

float rt_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, mag = h & 0x7fffu;
    if (mag >= 0x7c00u) // infinity, NaN
        return float_of(sign | 0x7f800000u | (mag & 0x3ffu) << 13);
    if (mag >= 0x0400u)
        return float_of(sign | ((mag << 13) + (112u << 23)));
    float f = (float)mag * 0x1p-24f; // zero, subnormals: exact
    return sign ? -f : f;
}

uint16_t rt_f32_to_f16(float f)
{
    uint32_t u = bits_of(f), sign = (u >> 16) & 0x8000u, mag = u & 0x7fffffffu;
    if (mag > 0x7f800000u) // NaN: stays one, quiet
        return (uint16_t)(sign | 0x7e00u | ((mag >> 13) & 0x3ffu));
    if (mag >= 0x47800000u) // 65536 and more
        return (uint16_t)(sign | 0x7c00u);
    if (mag < 0x38800000u) {
        // Below 2^-14: adding 0.5 leaves units of 2^-24 in the mantissa, rounded by the hardware.
        return (uint16_t)(sign | (bits_of(float_of(mag) + 0.5f) - 0x3f000000u));
    }
    mag -= 112u << 23;
    mag += 0xfffu + ((mag >> 13) & 1u); // carries into the exponent, up to infinity
    return (uint16_t)(sign | (mag >> 13));
}

rt_dtype rt_dtype_written(const char *name)
{
    return strcmp(name, "bf16") == 0 ? RT_BF16 : strcmp(name, "f16") == 0 ? RT_F16 : RT_F32;
}

void rt_encode_f32(void *out, const float *x, int64_t n, rt_dtype t)
{
    uint16_t *half = out;
    if (t == RT_F32) {
        memcpy(out, x, (size_t)n * sizeof *x);
        return;
    }
    if (t != RT_BF16 && t != RT_F16)
        rt_bug("rt_encode_f32: as %s", rt_dtype_get(t)->name);
    for (int64_t i = 0; i < n; i++)
        half[i] = t == RT_BF16 ? rt_f32_to_bf16(x[i]) : rt_f32_to_f16(x[i]);
}
