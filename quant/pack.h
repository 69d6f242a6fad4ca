/* pack.h: codes and scales into the bytes of GGUF's blocks, the other way round than
   core/base/decode.c reads them; layouts are facts of ggml-common.h. Codes are whole numbers from 0
   on, one a byte, in the order of the row. Refuses: choosing them (encode.h, ggml.h). */
#ifndef RT_QUANT_PACK_H
#define RT_QUANT_PACK_H

#include <string.h>

#include "core/base/dtype.h"

static inline void pack_f16(uint8_t *p, float d)
{
    uint16_t h = rt_f32_to_f16(d);
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
}

/* 32 codes of 4 bits as 16 bytes: the low halves are codes 0-15 */
static inline void pack_nibbles(uint8_t *p, const uint8_t *c)
{
    for (int j = 0; j < 16; j++)
        p[j] = (uint8_t)((c[j] & 15) | (c[j + 16] & 15) << 4);
}

/* bit 4 of 32 codes as 4 bytes */
static inline void pack_fifth_bits(uint8_t *p, const uint8_t *c)
{
    for (int j = 0; j < 4; j++) {
        unsigned bits = 0;
        for (int i = 0; i < 8; i++)
            bits |= (unsigned)(c[8 * j + i] >> 4 & 1) << i;
        p[j] = (uint8_t)bits;
    }
}

/* the low two bits of 256 codes as 64 bytes: byte l of a half holds codes l, l + 32, l + 64, l + 96 */
static inline void pack_twos(uint8_t *p, const uint8_t *c)
{
    for (int half = 0; half < 2; half++, c += 128)
        for (int l = 0; l < 32; l++)
            *p++ = (uint8_t)((c[l] & 3) | (c[l + 32] & 3) << 2 | (c[l + 64] & 3) << 4 |
                             (c[l + 96] & 3) << 6);
}

/* Q4_K and (five) Q5_K: d, dmin, 8 six-bit scales and minima in 12 bytes, (fifth bits,) nibbles */
static inline void pack_q45_k(uint8_t *p, float d, float dmin, const uint8_t *sc, const uint8_t *m,
                              const uint8_t *c, bool five)
{
    uint8_t *s = p + 4;
    pack_f16(p, d);
    pack_f16(p + 2, dmin);
    for (int j = 0; j < 4; j++) {
        s[j] = (uint8_t)(sc[j] | sc[j + 4] >> 4 << 6);
        s[j + 4] = (uint8_t)(m[j] | m[j + 4] >> 4 << 6);
        s[j + 8] = (uint8_t)((sc[j + 4] & 15) | (m[j + 4] & 15) << 4);
    }
    p += 16;
    for (int l = 0; l < 32 && five; l++) {
        unsigned bits = 0;
        for (int j = 0; j < 8; j++)
            bits |= (unsigned)(c[j * 32 + l] >> 4) << j;
        *p++ = (uint8_t)bits;
    }
    for (int j = 0; j < 256; j += 64)
        for (int l = 0; l < 32; l++)
            *p++ = (uint8_t)((c[j + l] & 15) | (c[j + 32 + l] & 15) << 4);
}

/* low nibbles, high two bits, 16 scales (int8), d */
static inline void pack_q6_k(uint8_t *p, float d, const uint8_t *sc, const uint8_t *c)
{
    uint8_t high[256];
    for (int half = 0; half < 2; half++)
        for (int l = 0; l < 64; l++)
            p[64 * half + l] =
                (uint8_t)((c[128 * half + l] & 15) | (c[128 * half + 64 + l] & 15) << 4);
    for (int i = 0; i < 256; i++)
        high[i] = c[i] >> 4;
    pack_twos(p + 128, high);
    memcpy(p + 192, sc, 16);
    pack_f16(p + 208, d);
}

/* third bits, low two bits, 16 scales of 6 bits (each plus 32) in 12 bytes, d */
static inline void pack_q3_k(uint8_t *p, float d, const uint8_t *sc, const uint8_t *c)
{
    for (int l = 0; l < 32; l++) {
        unsigned bits = 0;
        for (int j = 0; j < 8; j++)
            bits |= (unsigned)(c[j * 32 + l] >> 2 & 1) << j;
        p[l] = (uint8_t)bits;
    }
    pack_twos(p + 32, c);
    for (int j = 0; j < 8; j++)
        p[96 + j] = (uint8_t)((sc[j] & 15) | (sc[j + 8] & 15) << 4);
    for (int j = 0; j < 4; j++)
        p[104 + j] = (uint8_t)(sc[j] >> 4 | sc[j + 4] >> 4 << 2 | sc[j + 8] >> 4 << 4 |
                               sc[j + 12] >> 4 << 6);
    pack_f16(p + 108, d);
}

/* 16 bytes of a scale and a minimum of 4 bits, two-bit codes, d, dmin */
static inline void pack_q2_k(uint8_t *p, float d, float dmin, const uint8_t *sc, const uint8_t *m,
                             const uint8_t *c)
{
    for (int j = 0; j < 16; j++)
        p[j] = (uint8_t)(sc[j] | m[j] << 4);
    pack_twos(p + 16, c);
    pack_f16(p + 80, d);
    pack_f16(p + 82, dmin);
}

/* d, high two and low four bits of 8 scales (each plus 32), nibbles */
static inline void pack_iq4_xs(uint8_t *p, float d, const uint8_t *sc, const uint8_t *c)
{
    unsigned high = 0;
    pack_f16(p, d);
    for (int j = 0; j < 8; j++)
        high |= (unsigned)(sc[j] >> 4) << (2 * j);
    p[2] = (uint8_t)high;
    p[3] = (uint8_t)(high >> 8);
    for (int j = 0; j < 4; j++)
        p[4 + j] = (uint8_t)((sc[2 * j] & 15) | (sc[2 * j + 1] & 15) << 4);
    for (int j = 0; j < 8; j++)
        pack_nibbles(p + 8 + 16 * j, c + 32 * j);
}

/* 4 codes a byte, as they lie in the row, after d */
static inline void pack_q2_0(uint8_t *p, float d, const uint8_t *c)
{
    pack_f16(p, d);
    for (int j = 0; j < 16; j++, c += 4)
        p[2 + j] = (uint8_t)(c[0] | c[1] << 2 | c[2] << 4 | c[3] << 6);
}

/* codes of 16 as 8 bytes, the low halves first: a quarter of an NVFP4 block */
static inline void pack_sixteen(uint8_t *p, const uint8_t *c)
{
    for (int j = 0; j < 8; j++)
        p[j] = (uint8_t)((c[j] & 15) | (c[j + 8] & 15) << 4);
}

#endif
