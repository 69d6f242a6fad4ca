/* mma.h: what kernels say to tensor cores and to the copy unit (PTX ISA 8: mma.sync m16n8k16,
   ldmatrix, cp.async; sm_80 and newer), and for emulation the same by what each lane holds. All 32
   lanes of a warp call together. Fragments, g = lane / 4, t = lane % 4, two bf16 a word, the lower
   column or k first:
     a[0..3]  rows g, g+8, g, g+8 at k 2t, 2t, 2t+8, 2t+8      of a(16,16) row-major
     b[0..1]  column g at k 2t, 2t+8                           of b(16,8)
     c[0..3]  (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1)       of c(16,8) f32 */
#ifndef RT_CUDA_MMA_H
#define RT_CUDA_MMA_H

#include "core/device/cuda/gpu.h"

#include "core/device/kernels/team.h"

LANES_FN uint32_t bf16_pair(float low, float high)
{
#ifdef RT_EMULATE
    return bf16_bits(low) | bf16_bits(high) << 16;
#else
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
#endif
}

#ifdef RT_EMULATE

LANES_FN void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    emu_mma_bf16(c, a, b);
}
LANES_FN void load_matrices(uint32_t r[4], const void *row) { emu_ldmatrix(r, row, 4, false); }
LANES_FN void load_matrices_t(uint32_t r[4], const void *row) { emu_ldmatrix(r, row, 4, true); }
LANES_FN void copy_async(void *shared, const void *global, int valid)
{
    emu_copy_async(shared, global, 16, (size_t)valid);
}
LANES_FN void copy_commit(void) { emu_copy_commit(); }
template <int LEFT> LANES_FN void copy_wait(void) { emu_copy_wait(LEFT); }

#else

/* c += a b */
LANES_FN void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8 x 8 matrices of bf16 in shared memory; lane l gives where row l % 8 of matrix l / 8 begins
   (16 bytes, aligned). r[i] = row g, columns 2t and 2t+1 of matrix i; _t: of its transpose. */
LANES_FN void load_matrices(uint32_t r[4], const void *row)
{
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
LANES_FN void load_matrices_t(uint32_t r[4], const void *row)
{
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

/* 16 bytes (both aligned) on their way to shared memory, the first `valid` of them read, the others
   0; they are there once copy_wait has left their group behind and the block has met at a barrier. */
LANES_FN void copy_async(void *shared, const void *global, int valid)
{
    uint32_t at = (uint32_t)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(global), "r"(valid)
                 : "memory");
}
LANES_FN void copy_commit(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* All but the last LEFT groups of this thread have arrived. */
template <int LEFT> LANES_FN void copy_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

#endif

#endif
