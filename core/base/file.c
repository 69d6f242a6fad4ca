/* file.c: checked reading, memory maps, atomic replacement, content hashes (directories: folder.c).
   The write protocol: PATH.tmp.PID in the same directory, fsync, rename, fsync of the directory.
   A failed fsync is never retried (Linux may have dropped the dirty pages): the temp is removed. */
#include "core/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/path.h"

enum { OUT_BUFFER_BYTES = 256 << 10, READ_BLOCK_BYTES = 1 << 20, MAP_BLOCK_BYTES = 16 << 20 };

// --------------------------------------------------------------------------------- reading

// What `git clone` leaves in place of a large file when git-lfs is not installed.
static bool is_lfs_pointer(int fd, int64_t bytes)
{
    static const char BEGIN[] = "version https://git-lfs.github.com/spec/";
    char head[sizeof BEGIN - 1];
    return bytes >= (int64_t)sizeof head && bytes <= 1024 &&
           pread(fd, head, sizeof head, 0) == (ssize_t)sizeof head &&
           memcmp(head, BEGIN, sizeof head) == 0;
}

int rt_file_open(int *fd, int64_t *bytes, const char *path, rt_err *err)
{
    struct stat st;
    *fd = open(path,
               O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); // a pipe would wait for a writer
    if (*fd < 0)
        return rt_fail(err, "%s: cannot open: %s", path, rt_errno_text(errno));
    int rc = fstat(*fd, &st) ? rt_fail(err, "%s: cannot stat: %s", path, rt_errno_text(errno)) : 0;
    if (!rc && S_ISDIR(st.st_mode))
        rc = rt_fail(err, "%s: is a directory, a file is needed", path);
    else if (!rc && S_ISFIFO(st.st_mode))
        rc = rt_fail(err, "%s: is a pipe: give a file, inputs are read more than once", path);
    else if (!rc && !S_ISREG(st.st_mode))
        rc = rt_fail(err, "%s: is a device or a socket, not a regular file", path);
    else if (!rc && is_lfs_pointer(*fd, st.st_size))
        rc = rt_fail(err, "%s: a Git LFS pointer, not the file: run 'git lfs pull' in its clone",
                     path);
    if (rc) {
        close(*fd);
        *fd = -1;
        return -1;
    }
    *bytes = st.st_size;
    return 0;
}

int rt_map_open(rt_map *map, const char *path, rt_err *err)
{
    int fd, rc = 0;
    int64_t bytes = 0;
    *map = (rt_map){ 0 };
    if (rt_file_open(&fd, &bytes, path, err))
        return -1;
    map->path = rt_strdup(path);
    if (bytes == 0) {
        map->data = (const uint8_t *)"";
    } else {
        void *base = mmap(NULL, (size_t)bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (base == MAP_FAILED)
            rc = errno == ENOMEM ? rt_fail_memory(err, bytes, path)
                                 : rt_fail(err, "%s: cannot map %lld bytes: %s", path,
                                           (long long)bytes, rt_errno_text(errno));
        else
            *map = (rt_map){ .data = base, .bytes = bytes, .base = base, .path = map->path };
    }
    close(fd);
    if (rc)
        rt_map_close(map);
    return rc;
}

void rt_map_close(rt_map *map)
{
    if (map->base)
        munmap(map->base, (size_t)map->bytes);
    free(map->path);
    *map = (rt_map){ 0 };
}

void rt_map_forget(const void *data, int64_t bytes)
{
    const uintptr_t page = 4095; // pages half inside stay
    uintptr_t begin = ((uintptr_t)data + page) & ~page,
              end = ((uintptr_t)data + (uintptr_t)bytes) & ~page;
    if (end > begin)
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}

bool rt_map_fits(const char *digits, const void *data, int64_t bytes)
{
    rt_hasher h = { 0 };
    const char *p = data;
    rt_hasher_begin(&h);
    for (int64_t at = 0, n; at < bytes; at += n) {
        n = rt_min(MAP_BLOCK_BYTES, bytes - at);
        rt_hasher_add(&h, p + at, n);
        if (bytes > MAP_BLOCK_BYTES) // a tensor that fits once is read next
            rt_map_forget(p + at, n);
    }
    rt_hash hash = rt_hasher_end(&h);
    rt_hasher_free(&h);
    return rt_hash_same(digits, &hash);
}

void rt_file_forget(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return;
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

// Up to `want` bytes, over EINTR and short counts; the count read, 0 at the end, -1 on error.
static int64_t read_full(int fd, void *to, int64_t want)
{
    int64_t done = 0;
    while (done < want) {
        ssize_t n = read(fd, (char *)to + done, (size_t)(want - done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += n;
    }
    return done;
}

int rt_file_read(char **data, int64_t *bytes, const char *path, int64_t max_bytes, rt_err *err)
{
    int64_t size, used = 0;
    char *text = NULL;
    int fd, rc = -1;
    if (rt_file_open(&fd, &size, path, err))
        return -1;
    // The size is only a first guess (0 in /proc); what counts is what read() returns.
    int64_t cap = size > 0 ? size + 1 : 65536;
    for (;;) {
        if (cap > max_bytes + 1)
            cap = max_bytes + 1;
        text = rt_realloc(text, cap + 1, 1, path);
        int64_t n = read_full(fd, text + used, cap - used);
        if (n < 0) {
            rt_fail(err, "%s: read failed at byte %lld: %s", path, (long long)used,
                    rt_errno_text(errno));
            break;
        }
        used += n;
        if (used > max_bytes) {
            rt_fail(err, "%s: larger than the %lld bytes allowed here", path, (long long)max_bytes);
            break;
        }
        if (used < cap) {
            rc = 0;
            break;
        }
        cap *= 2;
    }
    close(fd);
    if (rc) {
        free(text);
        return -1;
    }
    text[used] = 0;
    *data = text;
    *bytes = used;
    return 0;
}

// --------------------------------------------------------------------------------- writing

int rt_fd_write(int fd, const void *data, int64_t bytes, const char *path, rt_err *err)
{
    int64_t done = 0;
    while (done < bytes) {
        ssize_t n = write(fd, (const char *)data + done, (size_t)(bytes - done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return rt_fail(err, "%s: write failed: %s", path, rt_errno_text(n ? errno : EIO));
        done += n;
    }
    return 0;
}

// The writer's process id of a "NAME.tmp.PID", or 0 when the name is not one.
static long temp_writer(const char *name)
{
    const char *at = strrchr(name, '.');
    if (!at || at - name < 5 || strncmp(at - 4, ".tmp", 4))
        return 0;
    char *end;
    long pid = strtol(at + 1, &end, 10);
    return at[1] && !*end && pid > 0 ? pid : 0;
}

// Left over: its writer is gone, by its process id and by the lock that it would hold.
static bool is_leftover(const char *path, long pid)
{
    if (pid != (long)getpid() && (kill((pid_t)pid, 0) == 0 || errno != ESRCH))
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool held = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
    if (fd >= 0)
        close(fd);
    return !held;
}

// base: only what writers of this file left; NULL: of any
static int clean_temps(const char *dir, const char *base, rt_err *err)
{
    char **names;
    int n, rc = 0;
    size_t length = base ? strlen(base) : 0;
    if (rt_dir_list(&names, &n, dir, err))
        return -1;
    for (int i = 0; i < n && !rc; i++) {
        long pid = temp_writer(names[i]);
        char *file = rt_path_join(dir, names[i]);
        if (pid &&
            (!base ||
             (!strncmp(names[i], base, length) && !strncmp(names[i] + length, ".tmp.", 5))) &&
            is_leftover(file, pid) && unlink(file) && errno != ENOENT)
            rc = rt_fail(err, "%s: cannot remove a leftover: %s", file, rt_errno_text(errno));
        free(file);
    }
    rt_names_free(names, n);
    return rc;
}

int rt_dir_clean_temps(const char *path, rt_err *err) { return clean_temps(path, NULL, err); }

// What a killed writer of the same file left goes when the file is written again.
static void clean_temps_of(const char *path)
{
    rt_err ignored;
    char *dir = rt_path_parent(path);
    clean_temps(dir, rt_path_base(path), &ignored);
    free(dir);
}

int rt_out_open(rt_out *out, const char *path, rt_err *err)
{
    *out = (rt_out){ .fd = -1 };
    struct stat st;
    // Renaming over a device or a directory would replace it: refuse before anything is written.
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return rt_fail(err, "%s: is %s, so it cannot be written as a file; name another path", path,
                       S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
    char suffix[32];
    snprintf(suffix, sizeof suffix, ".tmp.%ld", (long)getpid());
    clean_temps_of(path);
    char *temp = rt_alloc((int64_t)(strlen(path) + sizeof suffix), 1, "a path");
    strcpy(temp, path);
    strcat(temp, suffix);
    unlink(temp); // from a dead process that had our id
    int fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        rt_fail(err, "%s: cannot create: %s", path, rt_errno_text(errno));
        free(temp);
        return -1;
    }
    flock(fd, LOCK_EX | LOCK_NB); // so that nobody takes it for a leftover
    out->fd = fd;
    out->temp = temp;
    out->path = rt_strdup(path);
    out->buffer = rt_alloc(OUT_BUFFER_BYTES, 1, "an output buffer");
    return 0;
}

int rt_out_open_count(rt_out *out, rt_err *err)
{
    *out = (rt_out){ .fd = open("/dev/null", O_WRONLY | O_CLOEXEC) };
    if (out->fd < 0)
        return rt_fail(err, "/dev/null: cannot open: %s", rt_errno_text(errno));
    out->temp = rt_strdup(""); // no file's name: abort removes nothing
    out->path = rt_strdup("/dev/null");
    out->buffer = rt_alloc(OUT_BUFFER_BYTES, 1, "an output buffer");
    return 0;
}

void rt_out_abort(rt_out *out)
{
    if (out->temp) {
        if (out->fd >= 0)
            close(out->fd);
        unlink(out->temp);
    }
    free(out->path);
    free(out->temp);
    free(out->buffer);
    *out = (rt_out){ .fd = -1 };
}

static int out_alive(const rt_out *out, rt_err *err)
{
    return out->temp ? 0 : rt_fail(err, "output file: not open (an earlier write failed)");
}

// Writes past the buffer; a failure aborts the whole file, so it can never be committed.
static int out_through(rt_out *out, const void *data, int64_t bytes, rt_err *err)
{
    if (rt_fd_write(out->fd, data, bytes, out->path, err) == 0)
        return 0;
    rt_out_abort(out);
    return -1;
}

static int out_flush(rt_out *out, rt_err *err)
{
    if (out_alive(out, err))
        return -1;
    int64_t n = out->buffered;
    out->buffered = 0;
    return n ? out_through(out, out->buffer, n, err) : 0;
}

int rt_out_write(rt_out *out, const void *data, int64_t bytes, rt_err *err)
{
    if (out_alive(out, err))
        return -1;
    if (bytes > OUT_BUFFER_BYTES - out->buffered) {
        if (out_flush(out, err))
            return -1;
        if (bytes >= OUT_BUFFER_BYTES) {
            out->bytes += bytes;
            return out_through(out, data, bytes, err);
        }
    }
    if (bytes > 0)
        memcpy(out->buffer + out->buffered, data, (size_t)bytes);
    out->buffered += bytes;
    out->bytes += bytes;
    return 0;
}

int rt_out_patch(rt_out *out, int64_t at, const void *data, int64_t bytes, rt_err *err)
{
    if (out_flush(out, err))
        return -1;
    while (bytes > 0) {
        ssize_t n = pwrite(out->fd, data, (size_t)bytes, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            rt_fail(err, "%s: write failed: %s", out->path, rt_errno_text(n ? errno : EIO));
            rt_out_abort(out);
            return -1;
        }
        data = (const char *)data + n;
        bytes -= n;
        at += n;
    }
    return 0;
}

int rt_out_read(rt_out *out, int64_t at, void *data, int64_t bytes, rt_err *err)
{
    if (out_flush(out, err))
        return -1;
    while (bytes > 0) {
        ssize_t n = pread(out->fd, data, (size_t)bytes, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return rt_fail(err, "%s: cannot read back what was written: %s", out->path,
                           rt_errno_text(n ? errno : EIO));
        data = (char *)data + n;
        bytes -= n;
        at += n;
    }
    return 0;
}

int rt_out_printf(rt_out *out, rt_err *err, const char *fmt, ...)
{
    char small[512], *text = small;
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(small, sizeof small, fmt, args);
    va_end(args);
    if (n < 0)
        return rt_fail(err, "%s: text could not be formatted", out->path ? out->path : "output");
    if (n >= (int)sizeof small) {
        text = rt_alloc(n + 1, 1, "a text");
        va_start(args, fmt);
        vsnprintf(text, (size_t)n + 1, fmt, args);
        va_end(args);
    }
    int rc = rt_out_write(out, text, n, err);
    if (text != small)
        free(text);
    return rc;
}

static bool same_bytes(const char *path, const char *other)
{
    rt_map a, b;
    rt_err ignored;
    if (rt_map_open(&a, path, &ignored))
        return false;
    bool same = !rt_map_open(&b, other, &ignored);
    same = same && a.bytes == b.bytes && !memcmp(a.data, b.data, (size_t)a.bytes);
    rt_map_close(&a);
    rt_map_close(&b);
    return same;
}

// A second name in the first of DIR/old, old-2 ... without it, so that the first one never lacks a
// file; where the file system knows no second names, the only one.
static int keep_old(const char *path, rt_err *err)
{
    char *dir = rt_path_parent(path);
    int rc = 1;
    for (int i = 1; rc == 1 && i < 10000; i++) {
        char name[32];
        snprintf(name, sizeof name, i == 1 ? "old" : "old-%d", i);
        char *old = rt_path_join(dir, name), *to = rt_path_join(old, rt_path_base(path));
        struct stat st;
        if (mkdir(old, 0777) && errno != EEXIST)
            rc = rt_fail(err, "%s: cannot make directory: %s", old, rt_errno_text(errno));
        else if (lstat(to, &st) == 0)
            rc = 1;
        else if (link(path, to) && rename(path, to))
            rc = rt_fail(err, "%s: cannot be moved to %s: %s", path, to, rt_errno_text(errno));
        else if (!(rc = rt_dir_sync(old, err)))
            rt_info("%s: what stood there was moved to %s", path, to);
        free(old);
        free(to);
    }
    free(dir);
    return rc == 1 ? rt_fail(err, "%s: too many old-N beside it; remove some", path) : rc;
}

int rt_out_commit(rt_out *out, rt_err *err)
{
    if (out_flush(out, err))
        return -1;
    int rc = 0;
    struct stat st;
    if (fsync(out->fd))
        rc = rt_fail(err, "%s: fsync failed: %s", out->path, rt_errno_text(errno));
    int fd = out->fd;
    out->fd = -1;
    if (close(fd) && !rc)
        rc = rt_fail(err, "%s: close failed: %s", out->path, rt_errno_text(errno));
    if (!rc && out->keep && lstat(out->path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size &&
        !same_bytes(out->temp, out->path))
        rc = keep_old(out->path, err);
    if (!rc && rename(out->temp, out->path))
        rc = rt_fail(err, "%s: cannot put the finished file in place: %s", out->path,
                     rt_errno_text(errno));
    if (!rc) {
        free(out->temp);
        out->temp = NULL;
        char *dir = rt_path_parent(out->path);
        rc = rt_dir_sync(dir, err);
        free(dir);
    }
    rt_out_abort(out); // removes the temp unless it was renamed
    return rc;
}

int rt_file_write(const char *path, const void *data, int64_t bytes, rt_err *err)
{
    rt_out out;
    int rc = rt_out_open(&out, path, err) || rt_out_write(&out, data, bytes, err) ||
             rt_out_commit(&out, err);
    rt_out_abort(&out);
    return rc ? -1 : 0;
}

// --------------------------------------------------------------------------------- paths

bool rt_path_exists(const char *path)
{
    return access(path, F_OK) == 0 ||
           (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG && errno != EINVAL);
}

bool rt_path_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int rt_path_size(const char *path, int64_t *bytes, rt_err *err)
{
    struct stat st;
    if (stat(path, &st))
        return rt_fail(err, "%s: %s", path, rt_errno_text(errno));
    *bytes = st.st_size;
    return 0;
}

char *rt_path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir);
    char *path = rt_alloc((int64_t)(n + strlen(name) + 2), 1, "a path");
    strcpy(path, dir);
    if (n && dir[n - 1] != '/')
        path[n++] = '/';
    strcpy(path + n, name);
    return path;
}

const char *rt_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

// --------------------------------------------------------------------------------- hashes

int rt_hash_file(rt_hash *hash, const char *path, rt_err *err)
{
    int fd;
    int64_t bytes;
    if (rt_file_open(&fd, &bytes, path, err))
        return -1;
    rt_hasher h = { 0 };
    char *block = rt_alloc(READ_BLOCK_BYTES, 1, "a block to read");
    rt_hasher_begin(&h);
    int64_t n;
    while ((n = read_full(fd, block, READ_BLOCK_BYTES)) > 0)
        rt_hasher_add(&h, block, n);
    int rc = n < 0 ? rt_fail(err, "%s: read failed: %s", path, rt_errno_text(errno)) : 0;
    if (!rc)
        *hash = rt_hasher_end(&h);
    free(block);
    rt_hasher_free(&h);
    close(fd);
    return rc;
}
