#include "core/base/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void describe(char *text, size_t size, int64_t bytes, const char *what)
{
    if (bytes < 0)
        snprintf(text, size, "out of memory: %s", what);
    else if (bytes < 1 << 20)
        snprintf(text, size, "out of memory: %s, %lld bytes", what, (long long)bytes);
    else
        snprintf(text, size, "out of memory: %s, %.2f GiB", what, (double)bytes / (1 << 30));
}

/* Read without a stream, which would take memory itself. */
int64_t rt_memory_available(void)
{
    char text[1024] = "";
    int64_t bytes;
    long long kib = -1;
    int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    const char *line = n > 0 ? strstr(text, "MemAvailable:") : NULL;
    if (!line || sscanf(line, "MemAvailable: %lld kB", &kib) != 1)
        kib = -1;
    if (fd >= 0)
        close(fd);
    if (kib < 0)
        return rt_mul_ok(sysconf(_SC_AVPHYS_PAGES), sysconf(_SC_PAGESIZE), &bytes) && bytes > 0
                   ? bytes
                   : INT64_MAX;
    return rt_mul_ok(kib, 1024, &bytes) ? bytes : INT64_MAX;
}

int rt_fail_memory(rt_err *err, int64_t bytes, const char *what)
{
    char text[256];
    describe(text, sizeof text, bytes, what);
    return rt_fail(err, "%s", text);
}

void rt_out_of_memory(int64_t bytes, const char *what)
{
    char text[256], line[300];
    describe(text, sizeof text, bytes, what);
    int n = snprintf(line, sizeof line, "retort: %s\n", text);
    if (write(STDERR_FILENO, line, (size_t)n) < 0) { /* nobody to tell */
    }
    _exit(1); /* no handlers: they may allocate, and other threads may be running */
}

static int64_t product(int64_t n, int64_t each, const char *what)
{
    int64_t bytes;
    if (!rt_mul_ok(n, each, &bytes))
        rt_out_of_memory(INT64_MAX, what);
    return rt_max(bytes, 1);
}

static _Thread_local const char *purpose; // while rt_alloc or rt_realloc runs

const char *rt_memory_purpose(void) { return purpose ? purpose : "a library"; }

static void *done(void *p, int64_t bytes, const char *what)
{
    purpose = NULL;
    if (!p)
        rt_out_of_memory(bytes, what);
    return p;
}

void *rt_alloc(int64_t n, int64_t each, const char *what)
{
    int64_t bytes = product(n, each, what);
    purpose = what;
    return done(calloc(1, (size_t)bytes), bytes, what);
}

void *rt_realloc(void *p, int64_t n, int64_t each, const char *what)
{
    int64_t bytes = product(n, each, what);
    purpose = what;
    return done(realloc(p, (size_t)bytes), bytes, what);
}

char *rt_strdup(const char *text) { return rt_strndup(text, (int64_t)strlen(text)); }

char *rt_strndup(const char *text, int64_t bytes)
{
    size_t n = strnlen(text, (size_t)bytes);
    char *copy = rt_alloc((int64_t)n + 1, 1, "a string");
    memcpy(copy, text, n);
    return copy;
}

void rt_grow(void *p, int64_t *cap, int64_t n, int64_t each, const char *what)
{
    if (n <= *cap)
        return;
    void *list;
    memcpy(&list, p, sizeof list); /* p is the address of a pointer of any type */
    int64_t more = rt_max(rt_max(n, 16), *cap > INT64_MAX / 2 ? n : 2 * *cap);
    list = rt_realloc(list, more, each, what);
    memset((char *)list + *cap * each, 0, (size_t)((more - *cap) * each));
    memcpy(p, &list, sizeof list);
    *cap = more;
}

FILE *rt_memory_stream(char **text, size_t *bytes)
{
    FILE *f = open_memstream(text, bytes);
    if (!f)
        rt_out_of_memory(-1, "a text");
    return f;
}

void rt_memory_stream_close(FILE *f)
{
    bool failed = fflush(f) != 0 || ferror(f);
    if (fclose(f) || failed)
        rt_out_of_memory(-1, "a text");
}
