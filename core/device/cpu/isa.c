/* isa.c: the inner loops of the CPU backend, compiled once for each instruction set. CMake defines
   RT_ISA as scalar, avx2 or avx512 (and RT_ISA_<that>) and sets the compiler flags. Only static
   functions here and in the isa_*.h files it includes, so that the three copies never meet in the
   linker; what leaves is one table. */
#include "core/device/cpu/isa.h"
#include "core/device/cpu/simd.h"
#include "core/device/cpu/isa_matmul.h"
#include "core/device/cpu/isa_rows.h"
#include "core/device/cpu/isa_attention.h"

#define ISA_JOIN(a, b) a##b
#define ISA_NAME(isa) ISA_JOIN(rt_isa_, isa)
#define ISA_TEXT_OF(isa) #isa
#define ISA_TEXT(isa) ISA_TEXT_OF(isa)

const struct rt_isa ISA_NAME(RT_ISA) = {
    .name = ISA_TEXT(RT_ISA),
    .tile_rows = ISA_TILE_ROWS,
    .tile = isa_tiles,
    .thin = thin,
    .dot_panels = dot_panels,
    .pack_panels = pack_panels,
    .pack_tile = pack_tile,
    .rows = &isa_rows,
    .attention_forward = attention_forward,
    .attention_backward = attention_backward,
    .attention_cached = attention_cached,
};
