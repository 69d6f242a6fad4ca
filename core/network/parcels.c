#include "core/network/parcels.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/memory.h"

enum { READ_BYTES = 8 << 20 };

/* ---- which bytes --------------------------------------------------------------------------------
 */

typedef struct range {
    int file;
    int64_t offset, bytes;
    int spot;
    bool scale;
} range;

typedef struct ranges {
    rt_parcels *all;
    range *item;
    int64_t n, cap, cap_spots;
    rt_parcel *p;
} ranges;

static int file_of(rt_parcels *all, const char *path)
{
    for (int i = all->n - 1; i >= 0; i--)
        if (all->file[i].path == path)
            return i;
    rt_grow(&all->file, &all->cap, all->n + 1, sizeof *all->file, "files of weights");
    all->file[all->n] = (rt_parcel_file){ path, -1, true };
    return all->n++;
}

int rt_parcels_place(rt_parcels *all, const uint8_t *data, int64_t *offset)
{
    return file_of(all, rt_store_place(&all->x->store, data, offset));
}

static void add_range(ranges *r, const uint8_t *data, int64_t bytes, bool scale)
{
    rt_grow(&r->item, &r->cap, r->n + 1, sizeof *r->item, "places of weights");
    range *one = &r->item[r->n++];
    *one = (range){ .bytes = bytes, .spot = r->p->n_spots - 1, .scale = scale };
    one->file = rt_parcels_place(r->all, data, &one->offset);
}

/* Matrix e of weight i. What lies before its first row is cut off, so that all of it is read; what
   lies transposed is read whole. */
static void add_piece(ranges *r, int i, int64_t e)
{
    rt_mapping *x = r->all->x;
    rt_piece *piece = &x->piece[i][e];
    rt_extent data = rt_piece_data(piece, x->stored[i][e].rows);
    rt_extent scales = rt_piece_scales(piece, x->stored[i][e].rows);
    rt_grow(&r->p->spot, &r->cap_spots, r->p->n_spots + 1, sizeof *r->p->spot, "places of weights");
    r->p->spot[r->p->n_spots++] = (rt_spot){ piece, 0, -1 };
    piece->data += data.first;
    piece->scale += scales.n ? scales.first : 0;
    piece->first = piece->transposed ? piece->first : 0;
    add_range(r, piece->data, data.n, false);
    if (scales.n)
        add_range(r, piece->scale, scales.n, true);
}

static int by_place(const void *pa, const void *pb)
{
    const range *a = pa, *b = pb;
    if (a->file != b->file)
        return a->file < b->file ? -1 : 1;
    return a->offset != b->offset ? (a->offset < b->offset ? -1 : 1) : 0;
}

static void add_reads(rt_parcel *p, int64_t *cap, int in, int64_t begin, int64_t end, int64_t at)
{
    for (int64_t to; begin < end; at += to - begin, begin = to) {
        to = rt_min(begin + READ_BYTES, rt_align_up(end, RT_DISK_BLOCK));
        rt_grow(&p->read, cap, p->n + 1, sizeof *p->read, "places of weights");
        p->read[p->n++] = (rt_read){ in, begin, to - begin, rt_min(to, end) - begin, at };
    }
}

/* Ranges become reads: those that share a block of the disk, or touch, are one. */
static void make_reads(ranges *r)
{
    rt_parcel *p = r->p;
    int64_t cap = 0, begin = 0, end = 0, seen = 0;
    if (r->n)
        qsort(r->item, (size_t)r->n, sizeof *r->item, by_place);
    for (int64_t i = 0; i < r->n; i++) {
        const range *one = &r->item[i];
        bool joined = i && one->file == one[-1].file &&
                      one->offset <= rt_align_up(end, RT_DISK_BLOCK);
        if (!joined) {
            if (i)
                add_reads(p, &cap, one[-1].file, begin, end, p->bytes);
            p->bytes += i ? rt_align_up(end, RT_DISK_BLOCK) - begin : 0;
            begin = one->offset / RT_DISK_BLOCK * RT_DISK_BLOCK;
            end = seen = one->offset;
        }
        int64_t at = p->bytes + one->offset - begin, to = one->offset + one->bytes;
        *(one->scale ? &p->spot[one->spot].scale : &p->spot[one->spot].data) = at;
        p->weights += rt_max(0, to - rt_max(seen, one->offset));
        end = seen = rt_max(end, to);
    }
    if (r->n) {
        add_reads(p, &cap, r->item[r->n - 1].file, begin, end, p->bytes);
        p->bytes += rt_align_up(end, RT_DISK_BLOCK) - begin;
    }
}

void rt_parcel_make(rt_parcels *all, rt_parcel *p, const rt_params *list, int first, int end,
                    int64_t expert)
{
    ranges r = { .all = all, .p = p };
    for (int i = first; i < end; i++) {
        bool stack = list->item[i].experts != 0;
        if (all->x->piece[i] && stack == (expert >= 0))
            add_piece(&r, i, stack ? expert : 0);
    }
    make_reads(&r);
    free(r.item);
}

void rt_parcel_free(rt_parcel *p)
{
    free(p->read);
    free(p->spot);
}

/* ---- reading ------------------------------------------------------------------------------------
 */

uint8_t *rt_parcels_take(rt_arena *a, const char *name, int64_t bytes)
{
    uint8_t *p = rt_arena_take(a, name, bytes ? bytes + RT_DISK_BLOCK : 0);
    return p ? p + (RT_DISK_BLOCK - (uintptr_t)p % RT_DISK_BLOCK) % RT_DISK_BLOCK : NULL;
}

static int open_file(rt_parcel_file *f, rt_err *err)
{
    f->fd = f->direct ? open(f->path, O_RDONLY | O_CLOEXEC | O_DIRECT) : -1;
    if (f->fd < 0) {
        f->direct = false;
        f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
    }
    return f->fd < 0 ? rt_fail(err, "%s: cannot open: %s", f->path, rt_errno_text(errno)) : 0;
}

/* A file system may open a file for direct reads and refuse them later: its own plain descriptor
   takes over for this read. */
static ssize_t read_plain(const rt_parcel_file *f, uint8_t *to, int64_t bytes, int64_t offset)
{
    int fd = open(f->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = pread(fd, to, (size_t)bytes, offset);
    int why = errno;
    posix_fadvise(fd, offset, bytes, POSIX_FADV_DONTNEED);
    close(fd);
    errno = why;
    return n;
}

int rt_parcels_read(const rt_parcels *all, const rt_read *p, uint8_t *buffer, bool *plain,
                    rt_err *err)
{
    const rt_parcel_file *f = &all->file[p->file];
    int64_t done = 0;
    uint8_t *to = buffer + p->at;
    while (done < p->need) {
        int64_t want = f->direct ? p->bytes - done : p->need - done;
        ssize_t n = *plain && f->direct ? read_plain(f, to + done, want, p->offset + done)
                                        : pread(f->fd, to + done, (size_t)want, p->offset + done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EINVAL && f->direct && !*plain) {
            *plain = true;
            continue;
        }
        if (n <= 0)
            return rt_fail(err, "%s: read failed at byte %lld: %s", f->path,
                           (long long)(p->offset + done),
                           n ? rt_errno_text(errno) : "the file has become shorter");
        done += n;
    }
    if (!f->direct)
        posix_fadvise(f->fd, p->offset, p->need, POSIX_FADV_DONTNEED);
    *plain = *plain || !f->direct;
    return 0;
}

void rt_parcel_point(const rt_parcel *p, const uint8_t *buffer)
{
    for (int i = 0; i < p->n_spots; i++) {
        const rt_spot *at = &p->spot[i];
        at->piece->data = buffer + at->data;
        if (at->scale >= 0)
            at->piece->scale = buffer + at->scale;
    }
}

int rt_parcels_open(rt_parcels *all, rt_err *err)
{
    for (int i = 0; i < all->n; i++)
        if (all->file[i].fd < 0 && open_file(&all->file[i], err))
            return -1;
    return 0;
}

void rt_parcels_close(rt_parcels *all)
{
    for (int i = 0; i < all->n; i++)
        if (all->file[i].fd >= 0)
            close(all->file[i].fd);
    free(all->file);
}
