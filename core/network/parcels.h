/* parcels.h: which bytes of a checkpoint are read together: a layer's own weights, one expert of
   it, the head; as few large reads, each into its place of a buffer, and where in that buffer the
   matrices then lie. Bytes that weights share, or that lie side by side, are read once. Owns the
   files, and one read. Refuses: when, by whom, and into which buffer (stream.h). */
#ifndef RT_PARCELS_H
#define RT_PARCELS_H

#include "core/network/mapping.h"

RT_BEGIN

enum { RT_DISK_BLOCK = 4096 }; /* direct reads begin and end at multiples of it, buffers too */

/* One read: bytes of a file that go to `at` of a buffer. */
typedef struct rt_read {
    int file;
    int64_t offset, bytes, need; /* need: of bytes, up to the end of the last weight */
    int64_t at;
} rt_read;

/* Where a piece's codes and scales lie in the buffer; -1 = no scales. */
typedef struct rt_spot {
    rt_piece *piece;
    int64_t data, scale;
} rt_spot;

typedef struct rt_parcel {
    rt_read *read;
    rt_spot *spot;
    int n, n_spots;
    int64_t bytes, weights; /* of the buffer; of weights */
} rt_parcel;

typedef struct rt_parcel_file {
    const char *path; /* borrowed */
    int fd;
    bool direct;
} rt_parcel_file;

/* The files that parcels of one checkpoint are read from. */
typedef struct rt_parcels {
    rt_mapping *x;
    rt_parcel_file *file;
    int n;
    int64_t cap;
} rt_parcels;

/* Of weights [first, end) of the list: what is no stack of experts (expert -1), or one expert of
   each stack. Pieces of the mapping are brought to begin with their first row. */
void rt_parcel_make(rt_parcels *all, rt_parcel *p, const rt_params *list, int first, int end,
                    int64_t expert);
void rt_parcel_free(rt_parcel *p);
/* The pieces, as they lie in a buffer that holds p. */
void rt_parcel_point(const rt_parcel *p, const uint8_t *buffer);
/* The file that bytes of the map lie in, and where. After rt_parcels_open only files that are
 * known. */
int rt_parcels_place(rt_parcels *all, const uint8_t *data, int64_t *offset);
int rt_parcels_open(rt_parcels *all, rt_err *err);
void rt_parcels_close(rt_parcels *all);
/* Memory that reads may fill: on a block of the disk. */
uint8_t *rt_parcels_take(rt_arena *a, const char *name, int64_t bytes);
/* One read. *plain: in, whether direct reads were refused before; out, whether this one was not
 * direct. */
int rt_parcels_read(const rt_parcels *all, const rt_read *r, uint8_t *buffer, bool *plain,
                    rt_err *err);

RT_END

#endif
