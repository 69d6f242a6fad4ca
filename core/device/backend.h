/* backend.h: what a device implements: one table of operations (ops.h, one entry each), one of
   memory and transfers (device.h). Private to core/device: callers use the checked functions. */
#ifndef RT_BACKEND_H
#define RT_BACKEND_H

#include "core/device/ops.h"

RT_BEGIN

/* Every operation of ops.h; rt_<name> checks and calls the entry of the same name. */
#define RT_OPS(X)                                                                                  \
    X(copy)                                                                                        \
    X(zero) X(matmul) X(matmul_grouped) X(matmul_heads) X(panels_bytes) X(pack_weight)             \
        X(gather_rows) X(scatter_add_rows) X(unpermute_rows) X(scale) X(bias_forward) X(bias_backward) X(rmsnorm_forward)     \
            X(rmsnorm_backward) X(rope) X(attention_forward) X(attention_backward)                 \
                X(sinks_backward) X(kv_bytes) X(kv_append) X(kv_copy) X(attention_cached)          \
                    X(mla_expand_forward) X(mla_expand_backward) X(copy_columns) X(swiglu_forward) \
                        X(swiglu_backward) X(route_forward) X(route_backward) X(route_sort)        \
                            X(route_balance) X(route_load) X(combine_forward) X(combine_backward)  \
                                X(loss) X(sample) X(capture_rows) X(kl_rows) X(sumsq)              \
                                    X(adamw_step) X(momentum) X(unit_norm) X(axpby)

typedef struct rt_ops {
#define ENTRY(name) __typeof__(rt_##name) *name;
    RT_OPS(ENTRY)
#undef ENTRY
} rt_ops;

/* What attention of a dry run is planned for. */
typedef struct rt_attention_shape {
    int64_t rows, longest; /* longest: keys that a row may see */
    int64_t heads, kv_heads, dk, dv;
    int64_t pages; /* of a sequence's table; 0: keys are rows of the batch */
    bool backward;
    rt_dtype act; /* of q, k, v and what is made of them */
} rt_attention_shape;

typedef struct rt_backend {
    const char *name;
    bool maps_files; /* its memory is the host's, and so is a mapped file */
    const char *precisions; /* "a|b|c" that rt_dev_choose may ask for */
    bool late;       /* calls may return before their work is done */
    /* Sets d->ops and d->state. index: of several devices of the kind. d->dry: nothing will run. */
    int (*open)(rt_dev *d, int index, int threads, rt_err *err);
    void (*close)(rt_dev *d);
    void (*facts)(rt_dev *d, rt_dev_facts *f); /* fills what it knows better */
    void *(*alloc)(rt_dev *d, int64_t bytes, bool sparse, const char *label);
    void (*release)(rt_dev *d, void *p);
    void *(*host_alloc)(rt_dev *d, int64_t bytes); /* these two NULL: any memory is as good */
    void (*host_release)(rt_dev *d, void *p);
    void (*upload)(rt_dev *d, void *dst, const void *src, int64_t bytes);
    void (*download)(rt_dev *d, void *dst, const void *src, int64_t bytes);
    int (*sync)(rt_dev *d, rt_err *err);
    /* All NULL where nothing is late: copies beside are uploads then. m->at is NULL until the first
       mark_set; follow, wait and free are not called before. */
    void (*upload_beside)(rt_dev *d, void *dst, const void *src, int64_t bytes);
    void (*mark_set)(rt_dev *d, rt_mark *m, rt_order of);
    void (*mark_follow)(rt_dev *d, const rt_mark *m, rt_order order);
    int (*mark_wait)(rt_dev *d, const rt_mark *m, rt_err *err);
    void (*mark_free)(rt_dev *d, rt_mark *m);
    /* Both NULL where nothing is recorded. g->open: the operations have been called. Whether they
       are to be called now. */
    bool (*repeat)(rt_dev *d, rt_graph *g);
    void (*graph_free)(rt_dev *d, rt_graph *g);
    /* What an operation of a dry run needs of workspace: a product of rows of dtype a and
       `groups` matrices b (k,n); attention; rows of a head. */
    void (*need_product)(rt_dev *d, int64_t groups, int64_t n, int64_t k, rt_dtype a,
                         const rt_tensor *b);
    void (*need_attention)(rt_dev *d, const rt_attention_shape *s);
    void (*need_rows)(rt_dev *d, int64_t bytes); /* of a team, to itself */
    void (*need_shared)(rt_dev *d, int64_t bytes); /* of the launches of one operation; or NULL */
    /* A team kernel over `units` units of about `cost` floats touched; each team at work has
       `scratch` bytes of the workspace. enum rt_kernel and struct rt_args_<args>:
       core/device/kernels/list.h; act: the dtype of activations among them. A unit's result does
       not depend on who runs it. */
    void (*launch)(rt_dev *d, int kernel, rt_dtype act, const void *args, int64_t units,
                   int64_t cost, int64_t scratch);
    int64_t (*teams)(rt_dev *d, int64_t columns); /* worth having for sums over rows */
    /* Workspace that the launches of one operation share, none of which has scratch. Who has it
       cuts sums over rows and the router's sort into parts for many teams; NULL: they are not cut.
     */
    void *(*shared)(rt_dev *d, int64_t bytes);
    __typeof__(rt_dev_ready) *ready;
    __typeof__(rt_dev_workspace) *workspace;
} rt_backend;

/* The entries whose bodies are team kernels (core/device/rows.c), the same for every backend that
   has a launch; what a row of logits needs of a team's workspace, and parts of sums and of the sort
   of what is shared. */
void rt_rows_ops(rt_ops *ops);
int64_t rt_rows_head_bytes(int64_t vocab);
int64_t rt_rows_parts_bytes(int64_t rows, int64_t groups, int64_t columns);
int64_t rt_rows_sort_bytes(int64_t choices, int64_t experts);

extern const rt_backend rt_backend_cpu;    /* core/device/cpu/cpu.c */
extern const rt_backend rt_backend_cuda;   /* core/device/cuda/cuda.cu */
extern const rt_backend rt_backend_strict; /* core/device/strict/strict.c */

struct rt_dev {
    const rt_backend *backend;
    const rt_ops *ops;
    const char *precision; /* asked for, or NULL; while it is opened */
    rt_dtype act;       /* of activations, beside f32 which every device takes */
    void *state;        /* the backend's own */
    const void *caller; /* return address of the running checked call */
    uint8_t *stage;     /* copies of what rt_put was given */
    int64_t stage_need, stage_size, stage_used;
    int64_t most, held; /* bytes of device memory that may be taken (0 = all), that are */
    struct rt_dev_block {
        void *p;
        int64_t bytes;
    } *block; /* what was taken */
    int64_t n_blocks, cap_blocks;
    bool dry;
    bool repeating;    /* inside rt_repeat */
    rt_cost cost;      /* of the dry run */
    int64_t stage_dry; /* bytes put since its last wait */
    int64_t waits;
};

RT_END

#endif
