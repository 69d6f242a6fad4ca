/* list.h: every team kernel, once. X(name, args) stands for rt_<name>_unit over struct
   rt_args_<args>; a backend makes its launchers from this list. */
#ifndef RT_KERNELS_LIST_H
#define RT_KERNELS_LIST_H

#include "core/device/kernels/capture.h"
#include "core/device/kernels/choose.h"
#include "core/device/kernels/data.h"
#include "core/device/kernels/ffn.h"
#include "core/device/kernels/loss.h"
#include "core/device/kernels/norm.h"
#include "core/device/kernels/optim.h"
#include "core/device/kernels/route.h"

/* over activations; and all */
#define RT_KERNELS_ACT(X)                                                                          \
    X(gather_rows, gather_rows)                                                                    \
    X(scatter_add_rows, scatter_add_rows)                                                          \
    X(unpermute_rows, unpermute_rows)                                                              \
    X(scale, scale)                                                                                \
    X(bias_forward, bias)                                                                          \
    X(bias_backward, bias)                                                                         \
    X(rmsnorm_forward, rmsnorm_forward)                                                            \
    X(rmsnorm_backward, rmsnorm_backward)                                                          \
    X(rmsnorm_backward_w, rmsnorm_backward)                                                        \
    X(rope, rope)                                                                                  \
    X(mla_expand_forward, mla_expand_forward)                                                      \
    X(mla_expand_backward, mla_expand_backward)                                                    \
    X(copy_columns, copy_columns)                                                                  \
    X(sinks_backward, sinks_backward)                                                              \
    X(swiglu_forward, swiglu_forward)                                                              \
    X(swiglu_backward, swiglu_backward)                                                            \
    X(combine_forward, combine_forward)                                                            \
    X(combine_backward, combine_backward)                                                          \
    X(sumsq, sumsq)                                                                                \
    X(adamw, adamw)                                                                                \
    X(momentum, momentum)

#define RT_KERNELS(X)                                                                              \
    RT_KERNELS_ACT(X)                                                                              \
    X(sum_parts, sum_parts)                                                                        \
    X(route_forward, route_forward)                                                                \
    X(route_backward, route_backward)                                                              \
    X(route_count, route_sort)                                                                     \
    X(route_offsets, route_sort)                                                                   \
    X(route_place, route_sort)                                                                     \
    X(route_balance, route_balance)                                                                \
    X(route_load, route_load)                                                                      \
    X(loss, loss)                                                                                  \
    X(sample, sample)                                                                              \
    X(capture, capture)                                                                            \
    X(kl_rows, kl_rows)                                                                            \
    X(unit_norm, unit_norm)                                                                        \
    X(axpby, axpby)

enum rt_kernel {
#define RT_KERNEL_NUMBER(name, args) RT_KERNEL_##name,
    RT_KERNELS(RT_KERNEL_NUMBER)
#undef RT_KERNEL_NUMBER
    RT_KERNEL_COUNT
};

#endif
