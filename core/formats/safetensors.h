/* safetensors.h: weights in the safetensors format, one file or many with an index, read in place
   from memory maps and written streaming, sharded and atomically. The format:
   https://github.com/huggingface/safetensors (u64 header length, JSON header, one packed buffer).
   What retort writes carries checksums in __metadata__ (which other readers step over):
     "retort.header"  XXH3-128 of length and header, these 32 digits counted as zeros
     "retort.xxh3"    one of each tensor's bytes, in the order of the data, a space between two
   The header's is checked when a file is opened, a tensor's by rt_safetensors_check.
   Reading is strict: header <= 100 MB, offsets without overlap or hole that cover the buffer, shape
   times dtype equal to the extent, no duplicate names, index file names without a path.
   Refuses: pickle (.bin, .pt, .pth), converting dtypes, and trusting any number of the file. */
#ifndef RT_SAFETENSORS_H
#define RT_SAFETENSORS_H

#include "core/base/dtype.h"
#include "core/base/file.h"

RT_BEGIN

enum { RT_ST_RANK_MAX = 8 };

/* How the header of a file of ours begins, up to the 32 digits of its own checksum. */
#define RT_ST_HEADER_BEGIN "{\"__metadata__\":{\"format\":\"pt\",\"retort.header\":\""

typedef struct rt_st_tensor {
    char *name;
    rt_dtype dtype;   /* RT_DTYPE_COUNT when retort has no such dtype; `type` then says which */
    const char *type; /* as written in the file: "BF16", "F8_E4M3", "I64", ... */
    int rank;         /* 0 for a scalar */
    int64_t dim[RT_ST_RANK_MAX]; /* outermost first; unused are 1 */
    const uint8_t *data;         /* in the map; ANY alignment (rt_decode_f32 reads any) */
    int64_t bytes, elements;
    int file;        /* index into rt_safetensors.path */
    int64_t offset;  /* of data in that file, for readers that bypass the map */
    const char *sum; /* 32 digits; NULL: written by another program */
} rt_st_tensor;

typedef struct rt_safetensors {
    rt_st_tensor *tensor; /* (n_tensors) ascending by name */
    int64_t n_tensors;
    char **path; /* (n_files) */
    rt_map *map; /* (n_files) */
    char **sums; /* (n_files) private: of the tensors, NUL, of the header */
    int n_files;
} rt_safetensors;

/* dir_or_file: a directory with model.safetensors or model.safetensors.index.json, one .safetensors
   file, or an index file. Reads headers only. On failure nothing is left to close. */
int rt_safetensors_open(rt_safetensors *st, const char *dir_or_file, rt_err *err);
void rt_safetensors_close(rt_safetensors *st); /* accepts a zeroed st */
const rt_st_tensor *rt_safetensors_find(const rt_safetensors *st, const char *name); /* or NULL */
/* elements [first, first + n) as f32; an error names the tensor when its dtype has no conversion.
 */
int rt_safetensors_read_f32(float *out, const rt_st_tensor *t, int64_t first, int64_t n,
                            rt_err *err);

/* Reads every byte of t; 0 when they are those that were written, or nobody knows. */
int rt_safetensors_check(const rt_safetensors *st, const rt_st_tensor *t, rt_err *err);
/* The checksum of a file's header, which holds those of its tensors; "" in a file of others. */
const char *rt_safetensors_header(const rt_safetensors *st, int file);

/* Writer. Declare every tensor, begin, push the data in the declared order in pieces of any size,
   commit. dir_or_file ending in ".safetensors" is one file; else a directory (made when missing)
   that receives model.safetensors, or model-00001-of-0000N.safetensors and the index when the data
   exceed max_shard_bytes (0 = never split; a tensor is never split). Final names appear at commit.
   Killed at any moment it leaves the old model or the new one whole: shards that replace as many
   others are named model-2-00001-of-0000N.safetensors, the next time again model-00001-of-0000N.
   The bytes are a function of names, dtypes, shapes and data only; data start 64-byte aligned. */
typedef struct rt_safetensors_writer {
    struct rt_st_decl *decl; /* private */
    struct rt_st_shard *shard;
    int64_t n_decl, cap_decl, at, at_bytes; /* at: tensor being pushed, at_bytes of it done */
    int n_shards, set;                      /* set: which of the names below */
    int64_t max_shard_bytes;
    char *path;
    bool single;
    rt_hasher hasher; /* of the tensor being pushed */
} rt_safetensors_writer;

void rt_safetensors_writer_init(rt_safetensors_writer *w, const char *dir_or_file,
                                int64_t max_shard_bytes);
/* dim outermost first. A block dtype, a second use of a name or rank > 8 is our mistake. */
void rt_safetensors_writer_add(rt_safetensors_writer *w, const char *name, rt_dtype dtype, int rank,
                               const int64_t *dim);
/* Bytes of the files that begin .. commit would write, the index not counted. */
int64_t rt_safetensors_writer_bytes(rt_safetensors_writer *w);
int rt_safetensors_writer_begin(rt_safetensors_writer *w, rt_err *err);
int rt_safetensors_writer_push(rt_safetensors_writer *w, const void *data, int64_t bytes,
                               rt_err *err);
int rt_safetensors_writer_commit(rt_safetensors_writer *w, rt_err *err); /* frees in all cases */
void rt_safetensors_writer_abort(rt_safetensors_writer *w); /* accepts zeroed and committed w */

RT_END

#endif
