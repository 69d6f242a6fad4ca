/* gguf.h: reading GGUF v2/v3 (docs/gguf.md of ggml) in place from a memory map: typed metadata keys
   and tensors. As strict as ggml's loader or stricter: every count is checked against the bytes
   that remain, strings <= 64 MiB, alignment a power of two <= 1 MiB, tensors contiguous in their
   order, names unique and < 64 bytes, rank <= 4, every extent inside the file, no nested arrays.
   What retort writes carries checksums in two keys, which other readers step over:
     retort.header  XXH3-128 of all bytes before the data, these 32 digits counted as zeros; then
                    the number of keys, the bytes of the header and of the file, 16 digits each
     retort.xxh3    one of each tensor's bytes, in the order of the tensors
   The header's is checked when a file is opened, a tensor's by rt_gguf_check. A program that edits,
   splits or quantizes the file copies both keys, but not the three numbers: then they say nothing.
   Refuses: big-endian files, version 1, writing (quant/gguf_write.h). */
#ifndef RT_GGUF_H
#define RT_GGUF_H

#define RT_GGUF_HEADER_KEY "retort.header"
#define RT_GGUF_SUMS_KEY "retort.xxh3"
#define RT_GGUF_HEADER_DIGITS (RT_HASH_DIGITS + 3 * 16)

#include "core/base/dtype.h"
#include "core/base/file.h"

RT_BEGIN

typedef enum rt_gguf_type {
    RT_GGUF_U8,
    RT_GGUF_I8,
    RT_GGUF_U16,
    RT_GGUF_I16,
    RT_GGUF_U32,
    RT_GGUF_I32,
    RT_GGUF_F32,
    RT_GGUF_BOOL,
    RT_GGUF_STR,
    RT_GGUF_ARRAY,
    RT_GGUF_U64,
    RT_GGUF_I64,
    RT_GGUF_F64,
    RT_GGUF_TYPE_COUNT
} rt_gguf_type;

typedef struct rt_gguf_str {
    const char *text; /* not terminated, in the map */
    int64_t bytes;
} rt_gguf_str;

typedef struct rt_gguf_key {
    char *name;
    rt_gguf_type type; /* of the value, or of each element when array */
    bool array;
    int64_t n;           /* elements; 1 for a scalar */
    const uint8_t *data; /* in the map, any alignment; a string is u64 length + bytes */
    int64_t bytes;
} rt_gguf_key;

typedef struct rt_gguf_tensor {
    char *name;
    rt_dtype dtype;   /* RT_DTYPE_COUNT when retort does not decode this type */
    const char *type; /* "Q4_K", "IQ2_XXS", ... as ggml names it */
    int rank;
    int64_t dim[4]; /* OUTERMOST FIRST as rt_tensor (the file stores them reversed); unused are 1 */
    const uint8_t *data; /* in the map, aligned as the file says */
    int64_t bytes, elements;
    int64_t offset; /* of data from the start of its file */
    const char *sum; /* 32 digits in the map, not terminated; NULL: written by another program */
} rt_gguf_tensor;

/* A model in parts is one rt_gguf: the keys of the first part, the tensors of all. */
typedef struct rt_gguf {
    rt_map map;
    rt_map *more; /* (n_more) maps of the parts after the first */
    int n_more;
    char *path; /* of the first part */
    uint32_t version;
    int64_t alignment;
    bool rewritten; /* ours once, but another program wrote it since: no checksums */
    rt_gguf_key *key; /* (n_keys) in file order */
    int64_t n_keys;
    rt_gguf_tensor *tensor; /* (n_tensors) in file order */
    int64_t n_tensors;
    int32_t *by_key, *by_tensor; /* private: positions ascending by name */
} rt_gguf;

/* path: a file, the first of NAME-00001-of-0000N.gguf (opens all), or a directory that holds either
   and nothing else of the kind. On failure nothing to close. */
int rt_gguf_open(rt_gguf *g, const char *path, rt_err *err);
void rt_gguf_close(rt_gguf *g); /* accepts a zeroed g */
/* Is this to be read as a GGUF: is its name .gguf, does it begin with "GGUF", or is it a directory
   without config.json that holds .gguf? */
bool rt_gguf_is(const char *path);

const rt_gguf_key *rt_gguf_find_key(const rt_gguf *g, const char *name); /* or NULL */
const rt_gguf_tensor *rt_gguf_find(const rt_gguf *g, const char *name);  /* or NULL */
/* Reads every byte of t; 0 when they are those that were written, or nobody knows. */
int rt_gguf_check(const rt_gguf *g, const rt_gguf_tensor *t, rt_err *err);
const char *rt_gguf_type_name(rt_gguf_type t);                           /* "u32", "str", ... */

/* Getters. get = required; opt = leaves *out alone when the key is absent. A wrong type or range is
   an error that names file and key. Integers of every width are one kind; f64 takes f32 and f64. */
int rt_gguf_get_i64(const rt_gguf *g, const char *key, int64_t min, int64_t max, int64_t *out,
                    rt_err *err);
int rt_gguf_opt_i64(const rt_gguf *g, const char *key, int64_t min, int64_t max, int64_t *out,
                    rt_err *err);
int rt_gguf_get_f64(const rt_gguf *g, const char *key, double *out, rt_err *err);
int rt_gguf_opt_f64(const rt_gguf *g, const char *key, double *out, rt_err *err);
int rt_gguf_opt_bool(const rt_gguf *g, const char *key, bool *out, rt_err *err);
int rt_gguf_get_str(const rt_gguf *g, const char *key, rt_gguf_str *out, rt_err *err);
int rt_gguf_opt_str(const rt_gguf *g, const char *key, rt_gguf_str *out, rt_err *err);
/* Arrays, malloc'd (free() them); *n elements. A scalar counts as an array of one (keys that may be
   given a layer or once). An empty array gives a valid pointer and n = 0. */
int rt_gguf_get_i64s(const rt_gguf *g, const char *key, int64_t **out, int64_t *n, rt_err *err);
int rt_gguf_get_f32s(const rt_gguf *g, const char *key, float **out, int64_t *n, rt_err *err);
int rt_gguf_get_strs(const rt_gguf *g, const char *key, rt_gguf_str **out, int64_t *n, rt_err *err);
bool rt_gguf_str_is(rt_gguf_str s, const char *text);

/* ggml's tensor types by id: what a reader must know to step over one it cannot decode. */
typedef struct rt_ggml_type {
    int32_t id;
    const char *name;
    int32_t block, block_bytes;
} rt_ggml_type;
const rt_ggml_type *rt_ggml_type_get(int64_t id); /* or NULL */

RT_END

#endif
