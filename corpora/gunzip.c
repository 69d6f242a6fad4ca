#include "corpora/gunzip.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "core/base/memory.h"

enum { BLOCK = 64 << 10, GZIP_ONLY = 16 + 15 }; /* as inflateInit2 wants it */

struct rt_gunzip {
    int fd;
    z_stream z;
    bool inside; /* a member has begun and not ended */
    int64_t packed;
    const char *problem;
    uint8_t in[BLOCK], out[BLOCK];
};

rt_gunzip *rt_gunzip_open(int fd)
{
    rt_gunzip *g = rt_alloc(1, (int64_t)sizeof *g, "a gzip file's buffers");
    g->fd = fd;
    if (inflateInit2(&g->z, GZIP_ONLY) != Z_OK)
        rt_out_of_memory(-1, "zlib");
    return g;
}

void rt_gunzip_close(rt_gunzip *g)
{
    if (!g)
        return;
    inflateEnd(&g->z);
    close(g->fd);
    free(g);
}

/* 1, 0 at the end of the file, -1. */
static int fill(rt_gunzip *g)
{
    ssize_t n;
    do
        n = read(g->fd, g->in, BLOCK);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        g->problem = rt_errno_text(errno);
        return -1;
    }
    g->packed += n;
    g->z.next_in = g->in;
    g->z.avail_in = (uInt)n;
    return n > 0;
}

int64_t rt_gunzip_next(rt_gunzip *g, const void **data)
{
    g->z.next_out = g->out;
    g->z.avail_out = BLOCK;
    while (g->z.avail_out == BLOCK) {
        int more = g->z.avail_in ? 1 : fill(g);
        if (more == 0 && g->inside)
            g->problem = "the file is cut short";
        if (more <= 0)
            return more < 0 || g->inside ? -1 : 0;
        if (!g->inside && *g->z.next_in == 0) { /* padding of a tape's block */
            g->z.next_in++;
            g->z.avail_in--;
            continue;
        }
        if (!g->inside)
            inflateReset(&g->z);
        g->inside = true;
        int r = inflate(&g->z, Z_NO_FLUSH);
        if (r == Z_MEM_ERROR)
            rt_out_of_memory(-1, "zlib");
        if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR) {
            g->problem = g->z.msg ? g->z.msg : "damaged gzip data";
            return -1;
        }
        g->inside = r != Z_STREAM_END;
    }
    *data = g->out;
    return BLOCK - (int64_t)g->z.avail_out;
}

const char *rt_gunzip_problem(const rt_gunzip *g) { return g->problem; }

int64_t rt_gunzip_packed(const rt_gunzip *g) { return g->packed; }
