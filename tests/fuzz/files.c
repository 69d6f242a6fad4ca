/* files.c: see fuzz.h. The linker (--wrap) sends every call of these functions from another file
   here first; a path that is not below FUZZ_DIR goes on to the real one. Also what holds for
   every execution: AddressSanitizer's settings, and a second of processor time at most. */
#include "fuzz.h"

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "core/formats/gguf.h"

enum { FILES_MAX = 4 };

typedef struct memory_file {
    const char *name;
    const void *data;
    size_t bytes;
} memory_file;

static memory_file files[FILES_MAX];

int __real_rt_map_open(rt_map *map, const char *path, rt_err *err);
void __real_rt_map_close(rt_map *map);
int __real_rt_file_read(char **data, int64_t *bytes, const char *path, int64_t max, rt_err *err);
bool __real_rt_path_exists(const char *path);
bool __real_rt_path_is_dir(const char *path);
bool __real_rt_gguf_is(const char *path);
int __wrap_rt_map_open(rt_map *map, const char *path, rt_err *err);
void __wrap_rt_map_close(rt_map *map);
int __wrap_rt_file_read(char **data, int64_t *bytes, const char *path, int64_t max, rt_err *err);
bool __wrap_rt_path_exists(const char *path);
bool __wrap_rt_path_is_dir(const char *path);
bool __wrap_rt_gguf_is(const char *path);
const char *__asan_default_options(void);

/* Reads of the mutated input dominate: a small quarantine keeps memory in the cache. */
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=1:thread_local_quarantine_size_kb=128:malloc_context_size=2:"
           "allocator_may_return_null=1:"
           "detect_stack_use_after_return=0";
}

// ---- a second an execution ----

static volatile sig_atomic_t executions;

/* Every second of processor time: is it still the execution of a second ago? A busy machine is then
   no finding. */
static void tick(int number)
{
    static sig_atomic_t seen = -1;
    if (executions == seen)
        rt_bug("an execution takes more than a second (signal %d)", number);
    seen = executions;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!executions) {
        struct sigaction action = { .sa_handler = tick, .sa_flags = SA_RESTART };
        const struct itimerval second = { { 1, 0 }, { 1, 0 } };
        FUZZ_CHECK(!sigaction(SIGPROF, &action, NULL) && !setitimer(ITIMER_PROF, &second, NULL));
    }
    executions++;
    return fuzz_one(data, size);
}

// ---- files ----

static const char *inside(const char *path)
{
    size_t n = strlen(FUZZ_DIR);
    return strncmp(path, FUZZ_DIR, n) == 0 && path[n] == '/' ? path + n + 1 : NULL;
}

static const memory_file *find(const char *path)
{
    const char *name = inside(path);
    for (int i = 0; name && i < FILES_MAX; i++)
        if (files[i].data && strcmp(files[i].name, name) == 0)
            return &files[i];
    return NULL;
}

void fuzz_file(const char *name, const void *data, size_t bytes)
{
    int i = 0;
    while (i < FILES_MAX && files[i].name && strcmp(files[i].name, name) != 0)
        i++;
    FUZZ_CHECK(i < FILES_MAX);
    files[i] = (memory_file){ name, data, bytes };
}

void fuzz_two_files(const char *first, const char *second, const uint8_t *data, size_t size)
{
    static const char LINE[] = "\n====\n";
    const size_t n = sizeof LINE - 1;
    const uint8_t *cut = size ? memmem(data, size, LINE, n) : NULL;
    size_t bytes = cut ? (size_t)(cut - data) : size;
    fuzz_file(first, size ? data : (const uint8_t *)"", bytes);
    fuzz_file(second, cut ? cut + n : NULL, cut ? size - bytes - n : 0);
}

const char *fuzz_kernel_file(const void *data, size_t bytes)
{
    static char path[32];
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    FUZZ_CHECK(fd >= 0 && ftruncate(fd, 0) == 0);
    FUZZ_CHECK(pwrite(fd, data, bytes, 0) == (ssize_t)bytes);
    return path;
}

int __wrap_rt_map_open(rt_map *map, const char *path, rt_err *err)
{
    const memory_file *f = find(path);
    if (!f && !inside(path))
        return __real_rt_map_open(map, path, err);
    if (!f)
        return rt_fail(err, "%s: not found", path);
    void *base = NULL; // aligned as a map for everything but whole pages, and not a byte longer
    FUZZ_CHECK(posix_memalign(&base, 64, f->bytes ? f->bytes : 1) == 0);
    if (f->bytes)
        memcpy(base, f->data, f->bytes);
    *map = (rt_map){ .data = base, .bytes = (int64_t)f->bytes, .base = base };
    return 0;
}

void __wrap_rt_map_close(rt_map *map)
{
    free(map->base); // targets map nothing else
    *map = (rt_map){ 0 };
}

int __wrap_rt_file_read(char **data, int64_t *bytes, const char *path, int64_t max, rt_err *err)
{
    const memory_file *f = find(path);
    if (!f && !inside(path))
        return __real_rt_file_read(data, bytes, path, max, err);
    if (!f || (int64_t)f->bytes > max)
        return rt_fail(err, "%s: not found or too large", path);
    *data = malloc(f->bytes + 1);
    FUZZ_CHECK(*data);
    memcpy(*data, f->data, f->bytes);
    (*data)[f->bytes] = 0;
    *bytes = (int64_t)f->bytes;
    return 0;
}

bool __wrap_rt_path_exists(const char *path)
{
    return inside(path) ? find(path) != NULL : __real_rt_path_exists(path);
}

bool __wrap_rt_path_is_dir(const char *path)
{
    if (strcmp(path, FUZZ_DIR) == 0)
        return true;
    return !inside(path) && __real_rt_path_is_dir(path);
}

bool __wrap_rt_gguf_is(const char *path)
{
    const memory_file *f = find(path);
    if (!f && strcmp(path, FUZZ_DIR) != 0)
        return __real_rt_gguf_is(path);
    return f && f->bytes >= 4 && memcmp(f->data, "GGUF", 4) == 0;
}
