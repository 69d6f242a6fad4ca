/* device.h: where tensors live and operations run: devices by name, their memory, moving data in
   and out, waiting. What an operation computes is ops.h.

   ORDER AND LATENESS. Operations and transfers of a device run one after another in the order of
   the calls, but a call may return before its work is done, or begun. So
     - the source of rt_upload is read, and the destination of rt_download written, at some moment
       before the next rt_sync returns: until then the one must not change, the other means nothing;
     - the source of rt_put, and every tensor struct, is free as soon as the call returns;
     - device memory is read and written by operations and transfers alone, never by the host;
     - what fails late is said by the next rt_sync, and by every one after it;
     - giving memory back waits for what may use it.
   BESIDE. Copies of rt_upload_beside are a second order: they run while operations of the first do.
   Neither waits for the other but where a mark says so, nor does rt_sync for copies that no
   operation follows. A buffer that copies beside fill is read by operations that follow a mark set
   behind its copy, and is filled again by a copy that follows a mark set behind those operations.
   A wait costs more than the work waited for when it is small, so waits are counted: a training
   step, a generated token batch and a scored pass of a resident model have one each; a layer whose
   weights are streamed has one when it is left, for its copies, and one before for its routes. */
#ifndef RT_DEVICE_H
#define RT_DEVICE_H

#include "core/base/arena.h"
#include "core/base/dtype.h"

RT_BEGIN

typedef struct rt_dev rt_dev;

typedef struct rt_cost {
    double flops; /* of products and attention; a fused multiply-add is two */
    double bytes; /* that any operation reads or writes: weights in the form they lie in */
} rt_cost;

/* Device i of this build, i = 0, 1, ... until NULL; the first is the one that NULL opens. */
const char *rt_dev_name(int i);

/* name: "cpu", "cuda", "cuda:1"; NULL: what environment RETORT_DEVICE names, else the first. threads
   0 = all cores. Environment RETORT_ISA=scalar|avx2|avx512 overrides the choice of a CPU's
   instructions. */
int rt_dev_open(rt_dev **d, const char *name, int threads, rt_err *err);
/* As the options of a command choose it (OPT_DEVICE). */
typedef struct rt_dev_choice {
    char *name; /* NULL = the first of this build */
    int64_t threads;
    int64_t memory; /* the most bytes of the device's memory that may be taken, 0 = all */
    char *precision; /* of products: "exact" or "int8" of a CPU, "f32", "bf16" or "fp8" of a GPU;
                        NULL = exact, or as its kind of GPU has it */
} rt_dev_choice;
/* dry: for dry runs alone. A GPU that is not there is then taken to be a GeForce RTX 4090, so that
   work can be planned on a machine without one. */
int rt_dev_choose(rt_dev **d, const rt_dev_choice *c, bool dry, rt_err *err);
void rt_dev_close(rt_dev *d); /* accepts NULL */

typedef struct rt_dev_facts {
    const char *name; /* "cpu" */
    const char *isa;  /* "avx512" | "avx2" | "scalar"; of a GPU, its architecture: "sm_89" */
    const char *chip; /* of a GPU: "NVIDIA GeForce RTX 4090"; NULL of a CPU */
    int threads;
    bool cpu_bits;   /* its results are those of ops.h's contract, to the bit */
    bool bf16;       /* products and attention round their operands to bf16 */
    bool int8;       /* products with packed weights in blocks round their rows to int8 (ops.h) */
    bool fp8;        /* products that give bf16 activations round theirs to e4m3 */
    rt_dtype act;    /* what activations and their gradients are best kept in: f32 or bf16 */
    bool maps_files; /* operations read mapped files where they lie */
    int64_t free;    /* bytes of memory that nobody has taken */
    int64_t memory;  /* bytes of all its memory; 0 = that of the host */
    rt_cost rate;    /* of a GPU that is not there (rt_dev_choose); 0 = rt_dev_probe finds it */
    int64_t waits;   /* rt_sync and rt_mark_wait calls, and puts that had to wait for room */
} rt_dev_facts;

rt_dev_facts rt_dev_get(rt_dev *d);

/* --- memory --------------------------------------------------------------------------------- */

/* After measuring: `high` bytes of device memory for the arena. What fresh memory holds is not
   said: what is read before an operation wrote it is to be zeroed (rt_zero). */
int rt_dev_place(rt_dev *d, rt_arena *a, rt_err *err);
/* The same in memory of rt_dev_host_alloc, or any of the host's where there is none or too little:
   transfers are slower then, nothing else. */
int rt_dev_place_host(rt_dev *d, rt_arena *a, rt_err *err);
void rt_dev_free(rt_dev *d, rt_arena *a); /* of either kind */
/* 64-byte aligned; NULL = none left. */
void *rt_dev_alloc(rt_dev *d, int64_t bytes);
void rt_dev_release(rt_dev *d, void *p); /* accepts NULL */
/* Memory of the host that transfers are fast from and to, where the device knows of such (pinned);
   zeroed, 64-byte aligned; NULL = none left. */
void *rt_dev_host_alloc(rt_dev *d, int64_t bytes);
void rt_dev_host_release(rt_dev *d, void *p); /* accepts NULL */

/* --- transfers and waiting -------------------------------------------------------------------- */

void rt_upload(rt_dev *d, void *dst, const void *src, int64_t bytes);
/* For what is small and rebuilt at once: copied aside first where the device is late. */
void rt_put(rt_dev *d, void *dst, const void *src, int64_t bytes);
void rt_download(rt_dev *d, void *dst, const void *src, int64_t bytes);
int rt_sync(rt_dev *d, rt_err *err);

/* Its source is read, as that of rt_upload, until the wait for a mark behind it; or until a download
   that follows such a mark writes there. It may be what a download leaves, before any wait, when the
   copy follows a mark behind that download. */
void rt_upload_beside(rt_dev *d, void *dst, const void *src, int64_t bytes);

typedef enum rt_order { RT_COMPUTE, RT_BESIDE } rt_order;
/* A point in one order of one device. Zeroed: before everything, nobody waits for it. */
typedef struct rt_mark {
    void *at; /* the backend's own */
} rt_mark;
/* Behind all calls so far of the order; where the mark was before is forgotten. */
void rt_mark_set(rt_dev *d, rt_mark *m, rt_order of);
/* What is called from now on in `order` runs when everything before the mark, as it is set now, has
   run. The host does not wait. */
void rt_mark_follow(rt_dev *d, const rt_mark *m, rt_order order);
/* The host waits for all before the mark, and for nothing else. */
int rt_mark_wait(rt_dev *d, const rt_mark *m, rt_err *err);
void rt_mark_free(rt_dev *d, rt_mark *m); /* before the device is closed */

/* --- what repeats -------------------------------------------------------------------------------
   A GPU runs small operations faster than the host can start them one by one. Recorded once,

     while (rt_repeat(d, &graph))
         operations;

   starts them with one call. They run once each time this is reached, and are called as long as the
   device has no recording. The caller promises that they are the same ones with the same arguments
   each time: what differs lies in device memory, or there is another graph for it. Transfers,
   marks, waits and memory are not to be asked for among them. */
typedef struct rt_graph {
    void *recorded; /* the backend's own */
    bool open;      /* the operations are being called */
} rt_graph;         /* zeroed: nothing was recorded */
bool rt_repeat(rt_dev *d, rt_graph *g);
void rt_graph_free(rt_dev *d, rt_graph *g); /* before the device is closed */

/* --- dry runs -----------------------------------------------------------------------------------
   Between begin and end a device looks at shapes only: operations are checked and not run,
   transfers move nothing, and tensors need no data. So a plan runs the very calls of the step it
   plans. What they would need of workspace is remembered, the most of all dry runs, until
   rt_dev_ready takes it once: an operation that needs more than a dry run has shown is rt_bug. */


void rt_dev_dry_begin(rt_dev *d);
rt_cost rt_dev_dry_end(rt_dev *d);
/* What a device of this name does in a second, measured on one of its own: flops of a wide product,
   bytes of a product of one row. */
int rt_dev_probe(rt_cost *rate, const char *name, int threads, rt_err *err);
/* The same more widely, for people, in a second or two; before anything was planned on d. */
typedef struct rt_dev_speed {
    double up, down;  /* bytes a second, to the device and back, from and to rt_dev_host_alloc */
    double f32, bf16; /* flops a second of a wide product with weights of the type */
    double row;       /* bytes of bf16 weights a second in a product of one row */
} rt_dev_speed;
int rt_dev_measure(rt_dev_speed *s, rt_dev *d, rt_err *err);
int rt_dev_ready(rt_dev *d, rt_err *err);
/* Bytes that rt_dev_ready will hold: of the device's memory, and of the host's for what is put. */
int64_t rt_dev_workspace(const rt_dev *d);
int64_t rt_dev_stage(const rt_dev *d);

RT_END

#endif
