/* gguf_write.h: a GGUF v3 file, streamed and atomic. Order of calls: open, every key, every
   tensor's declaration, begin, the data in the declared order in pieces of any size, commit. The
   bytes are a function of the calls alone and, without checksums, equal those of the `gguf` Python
   package's writer.
   Refuses: deciding types (quant/mix.h) and names (quant/export.h). */
#ifndef RT_GGUF_WRITE_H
#define RT_GGUF_WRITE_H

#include "core/base/file.h"
#include "core/formats/gguf.h"

RT_BEGIN

typedef struct rt_gguf_writer {
    rt_out out;
    struct rt_gguf_decl *decl; /* private */
    int64_t n_keys, n_decl, cap_decl;
    int64_t at, at_bytes; /* tensor being pushed, at_bytes of it done */
    bool begun, summed, finished;
    int64_t own_at, sums_at, data_at; /* of the checksums' first digits, of the data */
    int64_t head_bytes;               /* before the padding to data_at */
    rt_hasher hasher;                 /* of the tensor being pushed */
} rt_gguf_writer;

/* path NULL: only count the bytes; abort ends it. */
int rt_gguf_writer_open(rt_gguf_writer *w, const char *path, rt_err *err);

int rt_gguf_put_u32(rt_gguf_writer *w, const char *key, uint32_t v, rt_err *err);
int rt_gguf_put_f32(rt_gguf_writer *w, const char *key, float v, rt_err *err);
int rt_gguf_put_bool(rt_gguf_writer *w, const char *key, bool v, rt_err *err);
int rt_gguf_put_str(rt_gguf_writer *w, const char *key, const char *text, rt_err *err);
/* Any scalar or array of plain elements; data are n little-endian elements of the type. */
int rt_gguf_put_raw(rt_gguf_writer *w, const char *key, rt_gguf_type type, bool array,
                    const void *data, int64_t n, rt_err *err);
/* Arrays of strings are streamed: begin, then exactly n items. */
int rt_gguf_put_strs_begin(rt_gguf_writer *w, const char *key, int64_t n, rt_err *err);
int rt_gguf_put_strs_item(rt_gguf_writer *w, const void *text, int64_t bytes, rt_err *err);

/* dim outermost first, as rt_tensor; names are < 64 bytes, else our mistake. */
void rt_gguf_writer_add(rt_gguf_writer *w, const char *name, rt_dtype dtype, int rank,
                        const int64_t *dim);
/* Before begin: the file gets the checksums of core/formats/gguf.h. */
void rt_gguf_writer_checksums(rt_gguf_writer *w);
int rt_gguf_writer_begin(rt_gguf_writer *w, rt_err *err);
int64_t rt_gguf_writer_bytes(const rt_gguf_writer *w); /* after begin: of the whole file */
int rt_gguf_writer_push(rt_gguf_writer *w, const void *data, int64_t bytes, rt_err *err);
/* All data are pushed: the checksums are written, and the file can be read at w->out.temp. */
int rt_gguf_writer_finish(rt_gguf_writer *w, rt_err *err);
int rt_gguf_writer_commit(rt_gguf_writer *w, rt_err *err); /* frees in all cases */
void rt_gguf_writer_abort(rt_gguf_writer *w);              /* accepts a zeroed and a committed w */

RT_END

#endif
