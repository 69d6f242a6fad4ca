/* fail_malloc.c: a preloaded library in which one allocation of the process fails, for
   check_malloc.sh. FAIL_MALLOC=N: the N-th only; FAIL_MALLOC_FROM=N: that one and all after it;
   FAIL_MALLOC_COUNT=FILE: how many there were. FAIL_MALLOC_TRACE=1 shows who asked.
   Large memory that libc takes from the kernel itself is not seen; what the program asks of mmap
   is. */
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

static atomic_long count;
static long only, from;

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("FAIL_MALLOC");
    only = text ? atol(text) : 0;
    text = getenv("FAIL_MALLOC_FROM");
    from = text ? atol(text) : 0;
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("FAIL_MALLOC_COUNT");
    char text[32];
    int n = snprintf(text, sizeof text, "%ld\n", (long)count);
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666) : -1;
    if (fd >= 0 && write(fd, text, (size_t)n) == n)
        close(fd);
}

static bool fails(void)
{
    long at = atomic_fetch_add(&count, 1) + 1;
    if (at != only && (from == 0 || at < from))
        return false;
    if (getenv("FAIL_MALLOC_TRACE") && (at == only || at == from)) {
        void *frame[24];
        only = from = 0; // what backtrace needs itself is there
        backtrace_symbols_fd(frame, backtrace(frame, 24), STDERR_FILENO);
    }
    errno = ENOMEM;
    return true;
}

void *malloc(size_t n) { return fails() ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return fails() ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { return fails() ? NULL : __libc_realloc(p, n); }
void *memalign(size_t align, size_t n) { return fails() ? NULL : __libc_memalign(align, n); }
void *aligned_alloc(size_t align, size_t n) { return memalign(align, n); }

int posix_memalign(void **p, size_t align, size_t n)
{
    void *got = memalign(align, n);
    if (!got)
        return ENOMEM;
    *p = got;
    return 0;
}

void *mmap(void *at, size_t n, int access, int flags, int fd, off_t offset)
{
    if ((flags & MAP_ANONYMOUS) && fails())
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, n, access, flags, fd, offset);
}
