/* device.h: what tests of operations share: a device of any kind, instruction set and number of
   threads, and tensors that travel there and back. */
#ifndef TESTS_DEVICE_H
#define TESTS_DEVICE_H

#include "core/device/ops.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* name, isa: NULL = the first. False where this machine lacks the instructions. */
static inline bool open_device_named(rt_dev **d, const char *name, const char *isa, int threads)
{
    rt_err err = { 0 };
    if (isa)
        setenv("RETORT_ISA", isa, 1);
    bool ok = rt_dev_open(d, name, threads, &err) == 0;
    unsetenv("RETORT_ISA");
    return ok;
}

/* The next device of this build that this machine has, from *kind on; NULL past the last. */
static inline const char *next_device(int *kind)
{
    for (const char *name; (name = rt_dev_name((*kind)++));) {
        rt_err err = { 0 };
        rt_dev *d;
        if (rt_dev_open(&d, name, 1, &err) == 0) {
            rt_dev_close(d);
            return name;
        }
    }
    return NULL;
}

/* Products and attention round their operands to bf16. */
static inline bool rounds_to_bf16(rt_dev *d)
{
    return rt_dev_get(d).bf16;
}

static inline void *put_bytes(rt_dev *d, const void *host, int64_t bytes)
{
    rt_err err = { 0 };
    void *p = rt_dev_alloc(d, rt_max(bytes, 1));
    ck_assert_ptr_nonnull(p);
    rt_upload(d, p, host, bytes);
    ck_assert_msg(rt_sync(d, &err) == 0, "%s", err.text);
    return p;
}

static inline void get_bytes(rt_dev *d, void *host, const void *data, int64_t bytes)
{
    rt_err err = { 0 };
    rt_download(d, host, data, bytes);
    ck_assert_msg(rt_sync(d, &err) == 0, "%s", err.text);
}

/* call(i) in a process of its own, which must end with SIGABRT; what it said on stderr. */
static inline void text_of_abort(void (*call)(int i), int i, char *text, size_t size)
{
    int fd[2], status;
    size_t n = 0;
    ck_assert_int_eq(pipe(fd), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(fd[1], 2);
        call(i);
        _exit(0);
    }
    close(fd[1]);
    for (ssize_t got; (got = read(fd[0], text + n, size - 1 - n)) > 0;)
        n += (size_t)got;
    text[n] = 0;
    close(fd[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "no abort: %s", text);
}

/* A copy of a tensor of the host on the device; and back into it, the copy released. */
static inline rt_tensor put_tensor(rt_dev *d, const rt_tensor *host)
{
    rt_tensor t = *host;
    if (host->data)
        t.data = put_bytes(d, host->data, rt_tensor_bytes(host));
    return t;
}

static inline void drop_tensor(rt_dev *d, rt_tensor *t)
{
    rt_err err = { 0 };
    ck_assert(rt_sync(d, &err) == 0);
    rt_dev_release(d, t->data);
    t->data = NULL;
}

static inline void get_tensor(rt_dev *d, rt_tensor *host, rt_tensor *t)
{
    get_bytes(d, host->data, t->data, rt_tensor_bytes(host));
    drop_tensor(d, t);
}

#endif
