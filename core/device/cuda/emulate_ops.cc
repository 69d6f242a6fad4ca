/* emulate_ops.cc: the operations of the emulated device for a team of one: each keeps its arguments
   by value and runs the CPU's operation when the stream does. So the whole suite sees the bits of
   the CPU through the memory, the transfers and the lateness of the CUDA device; the kernels
   themselves run with larger teams. Never part of the product. */
#include "core/device/cuda/cuda.h"

#include <tuple>

namespace {

/* A parameter kept by value: structs that a pointer leads to are copied, NULL stays NULL. */
template <typename T> struct kept {
    T value;
    explicit kept(T v) : value(v) {}
    T get() { return value; }
};

template <typename T> struct kept<T *> {
    T value;
    bool there;
    explicit kept(T *p) : value(p ? *p : T{}), there(p != NULL) {}
    T *get() { return there ? &value : NULL; }
};

template <typename T> struct kept<const T *> {
    T value;
    bool there;
    explicit kept(const T *p) : value(p ? *p : T{}), there(p != NULL) {}
    const T *get() { return there ? &value : NULL; }
};

template <> struct kept<void *> {
    void *value;
    explicit kept(void *p) : value(p) {}
    void *get() { return value; }
};

template <> struct kept<const rt_attention_rule *> {
    rt_attention_rule value;
    rt_tensor sinks;
    explicit kept(const rt_attention_rule *p) : value(*p), sinks(p->sinks ? *p->sinks : rt_tensor{})
    {
    }
    const rt_attention_rule *get()
    {
        value.sinks = value.sinks ? &sinks : NULL;
        return &value;
    }
};

template <typename T, T op> struct form;

template <typename... P, void (*rt_ops::*op)(rt_dev *, P...)>
struct form<void (*rt_ops::*)(rt_dev *, P...), op> {
    static void call(rt_dev *d, P... p)
    {
        rt_dev *cpu = rt_cuda_of(d)->cpu;
        std::tuple<kept<P>...> all{ kept<P>(p)... };
        emu_call(rt_cuda_of(d)->stream, "an operation", [=]() mutable {
            std::apply([&](auto &...k) { (cpu->ops->*op)(cpu, k.get()...); }, all);
        });
    }
};

/* Answers of the host, at once. */
template <typename... P, int64_t (*rt_ops::*op)(rt_dev *, P...)>
struct form<int64_t (*rt_ops::*)(rt_dev *, P...), op> {
    static int64_t call(rt_dev *d, P... p)
    {
        rt_dev *cpu = rt_cuda_of(d)->cpu;
        return (cpu->ops->*op)(cpu, p...);
    }
};

} // namespace

void rt_cuda_emulated_ops(rt_ops *ops)
{
#define ENTRY(name) ops->name = form<decltype(&rt_ops::name), &rt_ops::name>::call;
    RT_OPS(ENTRY)
#undef ENTRY
}
