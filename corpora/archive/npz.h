/* npz.h: .npy columns and ordinary ZIP files of them. Writing goes through libarchive (STORED, no
   timestamps, so equal content gives equal bytes); reading is our own strict walk over a memory
   map, so that a column is a pointer into the file and no byte of the ZIP is left unexplained.
   Refuses: compression, encryption, ZIP64, gaps or overlaps between entries, names with
   slashes, Fortran order, pickled objects. numpy.load and unzip -t read what is written here. */
#ifndef RT_NPZ_H
#define RT_NPZ_H

#include "core/base/err.h"

RT_BEGIN

enum { RT_NPY_HEAD = 128, RT_NPZ_ENTRIES_MAX = 64, RT_NPZ_NAME_MAX = 47 };
#define RT_NPZ_BYTES_MAX 0xFFFF0000LL /* a ZIP without the 64-bit extension ends at 4 GiB */

/* A .npy file in memory, format 1.0, C order. */
typedef struct rt_npy {
    char descr[16];      /* "<i4", "<f4", "|u1", "|S12" */
    int64_t item;        /* bytes of one element, from descr */
    int rank;            /* 0 .. 4 */
    int64_t dim[4];      /* outermost first; unused are 1 */
    const uint8_t *data; /* not aligned: read through memcpy */
    int64_t bytes;
} rt_npy;

/* Exactly RT_NPY_HEAD bytes to put before the data. */
void rt_npy_head(uint8_t head[RT_NPY_HEAD], const char *descr, int rank, const int64_t *dim);
/* Strict: the data fill the rest of the buffer exactly. what: the name in messages. */
int rt_npy_parse(rt_npy *npy, const uint8_t *data, int64_t bytes, const char *what, rt_err *err);

typedef struct rt_npz_entry {
    char name[RT_NPZ_NAME_MAX + 1];
    const uint8_t *data;
    int64_t bytes;
} rt_npz_entry;

/* The whole ZIP to fd, in the order given. */
int rt_npz_write(int fd, const rt_npz_entry *entry, int n, const char *what, rt_err *err);

typedef struct rt_npz {
    rt_npz_entry entry[RT_NPZ_ENTRIES_MAX];
    int n;
} rt_npz;

/* entry[].data point into data. Checks structure, not content (the CRC-32 are for unzip; the
   archive has stronger hashes of its own). */
int rt_npz_parse(rt_npz *z, const uint8_t *data, int64_t bytes, const char *what, rt_err *err);
/* What a damaged ZIP still yields: entries found by walking the local headers, then those the
   directory adds. Nothing is promised about their content. */
void rt_npz_salvage(rt_npz *z, const uint8_t *data, int64_t bytes);
const rt_npz_entry *rt_npz_find(const rt_npz *z, const char *name); /* NULL = absent */

RT_END

#endif
