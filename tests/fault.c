/* fault.c: a library to preload: counts the calls by which a program changes files, and makes the
   N-th of them fail, or ends the process there.

     FAULT_AT=N          which call, from 1; without it they are only counted
     FAULT_HOW=enospc|eio|kill
     FAULT_LOG=FILE      one line: how many calls there were, and the name of the N-th
     FAULT_BELOW=DIR     only calls on paths below DIR, or on descriptors opened there

   For tests/check_run_faults.sh. It knows the calls that retort and its libraries make. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define REAL(name) ((__typeof__(&name))(uintptr_t)dlsym(RTLD_NEXT, #name))

enum { DESCRIPTORS = 1024 };
static long calls;
static char hit[160] = "-";
static bool ours[DESCRIPTORS];

static void write_log(void)
{
    char text[256];
    const char *path = getenv("FAULT_LOG");
    int fd = path ? REAL(open)(path, O_WRONLY | O_CREAT | O_TRUNC, 0666) : -1;
    int n = snprintf(text, sizeof text, "%ld %s\n", calls, hit);
    if (fd >= 0 && REAL(write)(fd, text, (size_t)n) != n)
        _exit(97);
    if (fd >= 0)
        REAL(close)(fd);
}

__attribute__((destructor)) static void at_exit(void) { write_log(); }

static bool below(const char *path)
{
    const char *dir = getenv("FAULT_BELOW");
    char resolved[4200], *at;
    if (!dir)
        return true;
    snprintf(resolved, sizeof resolved, "%s", path);
    if (path[0] != '/') {
        char here[4000];
        if (!getcwd(here, sizeof here))
            return false;
        snprintf(resolved, sizeof resolved, "%s/%s", here, path);
    }
    at = strstr(resolved, dir);
    return at == resolved;
}

/* Whether this call is to fail; does not return when the process is to end here. */
static bool fault(const char *name, const char *about)
{
    const char *at = getenv("FAULT_AT"), *how = getenv("FAULT_HOW");
    calls++;
    if (!at || calls != atol(at))
        return false;
    snprintf(hit, sizeof hit, "%s %.120s", name, about);
    if (how && !strcmp(how, "kill")) {
        write_log();
        raise(SIGKILL);
    }
    errno = how && !strcmp(how, "eio") ? EIO : ENOSPC;
    return true;
}

static bool path_fault(const char *name, const char *path)
{
    return below(path) && fault(name, path);
}

static bool fd_fault(const char *name, int fd)
{
    return fd >= 0 && fd < DESCRIPTORS && ours[fd] && fault(name, "");
}

static int remember(int fd, const char *path)
{
    if (fd >= 0 && fd < DESCRIPTORS)
        ours[fd] = below(path);
    return fd;
}

#define OPEN(name)                                                                                 \
    EXPORT int name(const char *path, int flags, ...)                                              \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, flags);                                                                     \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;                    \
        va_end(args);                                                                              \
        return path_fault(#name, path) ? -1 : remember(REAL(name)(path, flags, mode), path);       \
    }
OPEN(open)
OPEN(open64)

#define FOPEN(name)                                                                                \
    EXPORT FILE *name(const char *path, const char *mode)                                          \
    {                                                                                              \
        FILE *f = path_fault(#name, path) ? NULL : REAL(name)(path, mode);                         \
        if (f)                                                                                     \
            remember(fileno(f), path);                                                             \
        return f;                                                                                  \
    }
FOPEN(fopen)
FOPEN(fopen64)

#define LOOK(name, T)                                                                              \
    EXPORT int name(const char *path, T *to)                                                       \
    {                                                                                              \
        return path_fault(#name, path) ? -1 : REAL(name)(path, to);                                \
    }
LOOK(stat, struct stat)
LOOK(lstat, struct stat)
LOOK(stat64, struct stat64)
LOOK(lstat64, struct stat64)
EXPORT int access(const char *path, int mode)
{
    return path_fault("access", path) ? -1 : REAL(access)(path, mode);
}
EXPORT DIR *opendir(const char *path)
{
    return path_fault("opendir", path) ? NULL : REAL(opendir)(path);
}

EXPORT int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    return path_fault("renameat2", to) ? -1 : REAL(renameat2)(from_dir, from, to_dir, to, flags);
}
EXPORT int rename(const char *from, const char *to)
{
    return path_fault("rename", to) ? -1 : REAL(rename)(from, to);
}
EXPORT int unlink(const char *path) { return path_fault("unlink", path) ? -1 : REAL(unlink)(path); }
EXPORT int rmdir(const char *path) { return path_fault("rmdir", path) ? -1 : REAL(rmdir)(path); }
EXPORT int mkdir(const char *path, mode_t mode)
{
    return path_fault("mkdir", path) ? -1 : REAL(mkdir)(path, mode);
}
EXPORT int link(const char *from, const char *to)
{
    return path_fault("link", to) ? -1 : REAL(link)(from, to);
}
EXPORT ssize_t write(int fd, const void *data, size_t n)
{
    return fd_fault("write", fd) ? -1 : REAL(write)(fd, data, n);
}
EXPORT ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    return fd_fault("pwrite", fd) ? -1 : REAL(pwrite)(fd, data, n, at);
}
EXPORT ssize_t pwrite64(int fd, const void *data, size_t n, off_t at)
{
    return fd_fault("pwrite64", fd) ? -1 : REAL(pwrite64)(fd, data, n, at);
}
EXPORT ssize_t read(int fd, void *data, size_t n)
{
    return fd_fault("read", fd) ? -1 : REAL(read)(fd, data, n);
}
EXPORT int fsync(int fd) { return fd_fault("fsync", fd) ? -1 : REAL(fsync)(fd); }
EXPORT int fdatasync(int fd) { return fd_fault("fdatasync", fd) ? -1 : REAL(fdatasync)(fd); }
EXPORT int ftruncate(int fd, off_t n)
{
    return fd_fault("ftruncate", fd) ? -1 : REAL(ftruncate)(fd, n);
}
EXPORT int ftruncate64(int fd, off_t n)
{
    return fd_fault("ftruncate64", fd) ? -1 : REAL(ftruncate64)(fd, n);
}
EXPORT int close(int fd)
{
    bool fails = fd_fault("close", fd);
    if (fd >= 0 && fd < DESCRIPTORS)
        ours[fd] = false;
    int rc = REAL(close)(fd);
    if (fails)
        errno = EIO;
    return fails ? -1 : rc;
}
