#include "teacher/residual.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/memory.h"

enum { HEAD = 4096 }; /* two of them, then the rows */

/* Numbers are the machine's own: the file is of this run and its continuation. */
typedef struct head {
    char magic[8];
    int64_t rows, row_bytes, layer;
    rt_hash key, sum, own; /* of the rows; of what stands before it */
} head;

static const char MAGIC[8] = "RTPASS1";

static void seal(head *h) { h->own = rt_hash_bytes(h, (int64_t)offsetof(head, own)); }

static bool read_head(int fd, int which, head *h)
{
    if (pread(fd, h, sizeof *h, which * HEAD) != (ssize_t)sizeof *h)
        return false;
    rt_hash own = rt_hash_bytes(h, (int64_t)offsetof(head, own));
    return !memcmp(h->magic, MAGIC, sizeof MAGIC) && !memcmp(own.hex, h->own.hex, sizeof own.hex);
}

/* Not ours: the first head is there, or nothing has been written to its place yet. */
static bool is_foreign(int fd)
{
    static const char NONE[sizeof MAGIC];
    char first[sizeof MAGIC];
    ssize_t n = pread(fd, first, sizeof first, 0);
    return n > 0 && (n < (ssize_t)sizeof first ||
                     (memcmp(first, MAGIC, sizeof first) && memcmp(first, NONE, sizeof first)));
}

int64_t rt_residual_rows(const char *path)
{
    head h = { .rows = 0 };
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool found = fd >= 0 && (read_head(fd, 0, &h) || read_head(fd, 1, &h));
    if (fd >= 0)
        close(fd);
    return found ? h.rows : 0;
}

static int64_t place(const rt_residual *r, int64_t layer, int64_t row)
{
    return 2 * HEAD + (layer % 2 * r->rows + row) * r->row_bytes;
}

static int move(const rt_residual *r, bool write, char *data, int64_t bytes, int64_t at,
                rt_err *err)
{
    while (bytes > 0) {
        ssize_t n = write ? pwrite(r->fd, data, (size_t)bytes, at)
                          : pread(r->fd, data, (size_t)bytes, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return rt_fail(err, "%s: %s failed: %s", r->path, write ? "writing" : "reading",
                           n ? rt_errno_text(errno) : "it has become shorter");
        data += n;
        bytes -= n;
        at += n;
    }
    return 0;
}

/* Whether the rows of a head are those that were put. */
static bool rows_fit(const rt_residual *r, const head *h)
{
    enum { BLOCK = 1 << 20 };
    rt_hasher hasher = { 0 };
    rt_err ignored;
    int64_t begin = place(r, h->layer, 0), end = place(r, h->layer, r->rows);
    char *block = rt_alloc(1, BLOCK, "rows of a pass");
    int bad = 0;
    rt_hasher_begin(&hasher);
    for (int64_t at = begin, n; !bad && at < end; at += n) {
        n = rt_min(BLOCK, end - at);
        bad = move(r, false, block, n, at, &ignored);
        rt_hasher_add(&hasher, block, bad ? 0 : n);
    }
    rt_hash sum = rt_hasher_end(&hasher);
    rt_hasher_free(&hasher);
    free(block);
    return !bad && !memcmp(sum.hex, h->sum.hex, sizeof sum.hex);
}

/* The furthest layer whose rows are whole: what a later one has begun to overwrite does not fit. */
static int64_t find_layer(const rt_residual *r)
{
    head h;
    int64_t layer = 0;
    for (int i = 0; i < 2; i++)
        if (read_head(r->fd, i, &h) && h.rows == r->rows && h.row_bytes == r->row_bytes &&
            !memcmp(h.key.hex, r->key.hex, sizeof h.key.hex) && h.layer > layer && rows_fit(r, &h))
            layer = h.layer;
    return layer;
}

int rt_residual_open(rt_residual *r, const char *path, const rt_hash *key, int64_t rows,
                     int64_t row_bytes, rt_err *err)
{
    *r = (rt_residual){ .path = rt_strdup(path), .rows = rows, .row_bytes = row_bytes, .key = *key };
    r->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (r->fd < 0)
        return rt_fail(err, "%s: cannot open: %s", path, rt_errno_text(errno));
    if (is_foreign(r->fd))
        return rt_fail(err, "%s: is in the way and no pass of retort's: move it", path);
    r->layer = find_layer(r);
    if (!r->layer && ftruncate(r->fd, 0))
        return rt_fail(err, "%s: cannot truncate: %s", path, rt_errno_text(errno));
    return 0;
}

int rt_residual_put(rt_residual *r, int64_t layer, int64_t first, int64_t n, const void *x,
                    rt_err *err)
{
    if (first == 0)
        rt_hasher_begin(&r->hasher);
    rt_hasher_add(&r->hasher, x, n * r->row_bytes);
    return move(r, true, (char *)(uintptr_t)x, n * r->row_bytes,
                place(r, layer, first), err);
}

int rt_residual_get(rt_residual *r, int64_t layer, int64_t first, int64_t n, void *x, rt_err *err)
{
    return move(r, false, x, n * r->row_bytes, place(r, layer, first),
                err);
}

int rt_residual_commit(rt_residual *r, int64_t layer, rt_err *err)
{
    head h;
    memset(&h, 0, sizeof h);
    memcpy(h.magic, MAGIC, sizeof MAGIC);
    h.rows = r->rows;
    h.row_bytes = r->row_bytes;
    h.layer = layer;
    h.key = r->key;
    h.sum = rt_hasher_end(&r->hasher);
    seal(&h);
    if (fdatasync(r->fd) || move(r, true, (char *)&h, sizeof h, layer % 2 * HEAD, err) ||
        fdatasync(r->fd))
        return rt_fail(err, "%s: cannot be brought to disk: %s", r->path, rt_errno_text(errno));
    r->layer = layer;
    return 0;
}

void rt_residual_remove(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool ours = fd >= 0 && !is_foreign(fd);
    if (fd >= 0)
        close(fd);
    if (ours)
        unlink(path);
}

void rt_residual_close(rt_residual *r, bool remove)
{
    if (r->path && r->fd >= 0)
        close(r->fd);
    if (r->path && remove)
        unlink(r->path);
    free(r->path);
    rt_hasher_free(&r->hasher);
    *r = (rt_residual){ .fd = -1 };
}
