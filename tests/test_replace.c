/* test_replace.c: a file under its final name is always whole. The system calls of the write
   protocol are replaced here by ones that keep a log and fail on demand: every single call of a
   replacement fails once, and each time the old content must stand untouched with nothing left
   beside it. A model of many files is replaced by a process that dies before each of its calls. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/formats/safetensors.h"
#include "tests/suite.h"

// --------------------------------------------------------------------------------- faults

static char calls[64]; // w write, s fsync, r rename: in the order they came
static int fail_at = -1, fail_errno;
static bool short_writes, no_sync;
static int calls_left = -1; // before the process dies; negative: it lives

static void die_here(void)
{
    if (calls_left-- == 0)
        _exit(9);
}

// True when this call is the one that has to fail.
static bool fault(char call)
{
    die_here();
    size_t n = strlen(calls);
    if (n + 1 < sizeof calls)
        calls[n] = call;
    errno = fail_errno;
    return (int)n == fail_at;
}

ssize_t write(int fd, const void *data, size_t bytes)
{
    if (fd <= 2) // the test's own report
        return syscall(SYS_write, fd, data, bytes);
    if (fault('w'))
        return -1;
    return syscall(SYS_write, fd, data, short_writes && bytes > 1000 ? 1000 : bytes);
}

int fsync(int fd) { return fault('s') ? -1 : no_sync ? 0 : (int)syscall(SYS_fsync, fd); }

int unlink(const char *path)
{
    die_here();
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int rename(const char *from, const char *to)
{
    return fault('r') ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

static void arm(int at, int number)
{
    memset(calls, 0, sizeof calls);
    fail_at = at;
    fail_errno = number;
}

// --------------------------------------------------------------------------------- helpers

static void expect_content(const char *path, const char *content)
{
    char *text;
    int64_t bytes;
    rt_err err;
    ck_assert_int_eq(rt_file_read(&text, &bytes, path, 1 << 20, &err), 0);
    ck_assert_int_eq(bytes, (int64_t)strlen(content));
    ck_assert_str_eq(text, content);
    free(text);
}

START_TEST(file_replace)
{
    rt_err err;
    const char *path = "a.txt";
    ck_assert_int_eq(rt_file_write(path, "old", 3, &err), 0);
    rt_out out;
    ck_assert_int_eq(rt_out_open(&out, path, &err), 0);
    ck_assert_int_eq(rt_out_printf(&out, &err, "new %d %0*d", 7, 600, 1), 0);
    expect_content(path, "old"); // not before the commit
    ck_assert_int_eq(out.bytes, 606);
    rt_out_abort(&out);
    expect_content(path, "old");
    ck_assert_int_eq(entries("."), 1);
    ck_assert_int_eq(rt_out_open(&out, path, &err), 0);
    ck_assert_int_eq(rt_out_write(&out, "new", 3, &err) || rt_out_commit(&out, &err), 0);
    rt_out_abort(&out); // accepts a committed one
    expect_content(path, "new");
    ck_assert_int_eq(entries("."), 1);
}
END_TEST

START_TEST(file_write_fails)
{
    rt_err err = { 0 };
    const char *path = "b.txt";
    char *block = calloc(1, 1 << 20);
    ck_assert_int_eq(rt_file_write(path, "whole", 5, &err), 0);
    struct rlimit held, small = { 4096, RLIM_INFINITY };
    getrlimit(RLIMIT_FSIZE, &held);
    small.rlim_max = held.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    for (int64_t bytes = 5000; bytes <= 1 << 20; bytes *= 2) { // through the buffer and past it
        rt_out out;
        ck_assert_int_eq(rt_out_open(&out, path, &err), 0);
        int wrote = rt_out_write(&out, block, bytes, &err), done = rt_out_commit(&out, &err);
        ck_assert_int_eq(done, -1);
        ck_assert(wrote == 0 || strstr(err.text, "not open"));
        rt_out_abort(&out);
    }
    ck_assert_int_eq(rt_file_write(path, block, 1 << 20, &err), -1);
    HAS(err, "b.txt: write failed: the limit of a file's size is reached; raise it (ulimit -f)");
    setrlimit(RLIMIT_FSIZE, &held);
    expect_content(path, "whole");
    ck_assert_int_eq(entries("."), 1);

    int full = open("/dev/full", O_WRONLY);
    if (full >= 0) {
        ck_assert_int_eq(rt_fd_write(full, block, 100, "disk", &err), -1);
        HAS(err, "disk: write failed: No space left on device; free some space");
        close(full);
    }
    free(block);
}
END_TEST

START_TEST(every_call_fails_once)
{
    enum { BYTES = 600000 };
    rt_err err;
    const char *path = "c.bin";
    char *data = malloc(BYTES + 1), *text;
    int64_t bytes;
    memset(data, 'n', BYTES);
    data[BYTES] = 0;
    arm(-1, 0);
    ck_assert_int_eq(rt_file_write(path, "old", 3, &err), 0);
    ck_assert_str_eq(calls, "wsrs"); // data, its fsync, the rename, the directory's fsync
    int at = 0, failures = 0;
    for (bool done = false; !done; at++) {
        ck_assert_int_lt(at, 100); // a failure that is not ours would go on for ever
        arm(at, at % 2 ? EIO : ENOSPC);
        err = (rt_err){ 0 };
        rt_out out;
        int rc = rt_out_open(&out, path, &err);
        for (int64_t i = 0; !rc && i < BYTES; i += 1000)
            rc = rt_out_write(&out, data + i, 1000, &err);
        rc = rc || rt_out_commit(&out, &err);
        rt_out_abort(&out);
        arm(-1, 0);
        ck_assert_int_eq(entries("."), 1);
        ck_assert_int_eq(rt_file_read(&text, &bytes, path, 1 << 20, &err), 0);
        bool whole_old = bytes == 3 && !strcmp(text, "old"),
             whole_new = bytes == BYTES && !strcmp(text, data);
        free(text);
        failures += rc != 0;
        done = rc == 0;
        // Only a failed fsync of the directory leaves the new file: whole, and reported.
        ck_assert_msg(whole_new ? rc == 0 || at == 5 : whole_old && rc, "call %d: %d", at, rc);
        if (whole_new)
            ck_assert_int_eq(rt_file_write(path, "old", 3, &err), 0);
    }
    ck_assert_int_eq(failures, 6); // three blocks of data, fsync, rename, fsync
    free(data);
}
END_TEST

START_TEST(interrupted_and_short_writes)
{
    rt_err err;
    const char *path = "d.txt";
    char longer[5001];
    memset(longer, 'x', 5000);
    longer[5000] = 0;
    short_writes = true;
    arm(2, EINTR); // not a failure: the loop goes on
    ck_assert_int_eq(rt_file_write(path, longer, 5000, &err), 0);
    short_writes = false;
    ck_assert_str_eq(calls, "wwwwwwsrs");
    arm(-1, 0);
    expect_content(path, longer);
}
END_TEST

// --------------------------------------------------------------------------------- many files

enum { TENSORS = 3, WIDTH = 16 };
static const char *const TENSOR[TENSORS] = { "a", "b", "c" };

// Every element is `value`; 1, 2 or 3 files.
static int write_set(const char *dir, int files, float value, rt_err *err)
{
    rt_safetensors_writer w;
    float x[WIDTH];
    for (int i = 0; i < WIDTH; i++)
        x[i] = value;
    rt_safetensors_writer_init(&w, dir, (int64_t)sizeof x * (4 - files));
    for (int t = 0; t < TENSORS; t++)
        rt_safetensors_writer_add(&w, TENSOR[t], RT_F32, 1, &(int64_t){ WIDTH });
    int rc = rt_safetensors_writer_begin(&w, err);
    for (int t = 0; t < TENSORS && !rc; t++)
        rc = rt_safetensors_writer_push(&w, x, sizeof x, err);
    if (rc)
        rt_safetensors_writer_abort(&w);
    return rc ? -1 : rt_safetensors_writer_commit(&w, err);
}

// The value that every element has, 0 when there is no model; a mixture fails.
static float read_set(const char *dir)
{
    rt_safetensors st;
    rt_err err;
    float x[WIDTH], value = 0;
    if (rt_safetensors_open(&st, dir, &err)) {
        HAS(err, "no model.safetensors and no model.safetensors.index.json");
        return 0;
    }
    ck_assert_int_eq(st.n_tensors, TENSORS);
    for (int t = 0; t < TENSORS; t++) {
        ck_assert_int_eq(rt_safetensors_read_f32(x, &st.tensor[t], 0, WIDTH, &err), 0);
        value = t ? value : x[0];
        for (int i = 0; i < WIDTH; i++)
            ck_assert_msg(x[i] == value, "a mixture of %g and %g", (double)value, (double)x[i]);
    }
    rt_safetensors_close(&st);
    return value;
}

static void empty(const char *dir)
{
    char **names;
    int n;
    rt_err err;
    ck_assert_int_eq(rt_dir_make(dir, &err) || rt_dir_list(&names, &n, dir, &err), 0);
    for (int i = 0; i < n; i++) {
        char *path = rt_path_join(dir, names[i]);
        ck_assert_int_eq(unlink(path), 0);
        free(path);
    }
    rt_names_free(names, n);
}

// 2 over 1, in a process that dies before its call number k; false when it came to its end.
static bool killed(const char *dir, int files, int k)
{
    int status;
    rt_err err;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        calls_left = k;
        _exit(write_set(dir, files, 2, &err) ? 1 : 0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 9));
    return WEXITSTATUS(status) == 9;
}

// A model in `from` files (0: none) under one in `to` files: the old or the new one, at any moment.
static void replace_set(const char *dir, int from, int to)
{
    rt_err err;
    int deaths = 0, olds = 0, length = 0;
    const float old = from ? 1 : 0;
    for (bool dead = true; dead; deaths++) {
        empty(dir);
        ck_assert(!from || write_set(dir, from, 1, &err) == 0);
        dead = killed(dir, to, deaths);
        float value = read_set(dir);
        ck_assert_msg(value == 2 || (dead && value == old), "%d to %d files, call %d: %g", from, to,
                      deaths, (double)value);
        olds += value == old;
        // the next writer leaves nothing of the one before it
        ck_assert_int_eq(rt_dir_clean_temps(dir, &err) || write_set(dir, to, 3, &err), 0);
        ck_assert(read_set(dir) == 3);
        ck_assert_int_eq(entries(dir), to == 1 ? 1 : to + 1);
    }
    ck_assert_int_gt(olds, 3 * to);
    ck_assert_int_gt(deaths, olds);
    for (bool done = false; !done; length++) { // and where a call fails
        empty(dir);
        ck_assert(!from || write_set(dir, from, 1, &err) == 0);
        arm(length, EIO);
        done = write_set(dir, to, 2, &err) == 0;
        arm(-1, 0);
        float value = read_set(dir);
        ck_assert_msg(value == 2 || (!done && value == old), "%d to %d files, failed call %d: %g",
                      from, to, length, (double)value);
        // the index is one more; one that could not be made durable may stay, and nobody reads it
        char *index = rt_path_join(dir, "model.safetensors.index.json");
        int left = entries(dir) - rt_path_exists(index);
        free(index);
        ck_assert_msg(value == 2 || left == from, "%d to %d files, failed call %d: %d files left",
                      from, to, length, left);
    }
}

START_TEST(a_set_of_files_is_replaced_whole)
{
    const char *dir = "model";
    no_sync = true;
    for (int from = 0; from <= 3; from++)
        for (int to = 1; to <= 3; to++)
            replace_set(dir, from, to);
    no_sync = false;
}
END_TEST

START_TEST(names_of_a_set)
{
    static const char *const name[] = { "model-00002-of-00002.safetensors",
                                        "model-2-00002-of-00002.safetensors" };
    rt_err err;
    const char *dir = "names", *foreign = "names/model-x-00001-of-00002.bin";
    ck_assert_int_eq(rt_dir_make(dir, &err) || rt_file_write(foreign, "x", 1, &err), 0);
    for (int turn = 0; turn < 4; turn++) {
        ck_assert_int_eq(write_set(dir, 2, 1, &err), 0);
        for (int i = 0; i < 2; i++) {
            char *path = rt_path_join(dir, name[i]);
            ck_assert(rt_path_exists(path) == (i == turn % 2));
            free(path);
        }
    }
    ck_assert(rt_path_exists(foreign));
}
END_TEST

static void no_faults(void) { arm(-1, 0); }

int main(void)
{
    const suite_test tests[] = { { file_replace, 1 },
                                 { file_write_fails, 1 },
                                 { every_call_fails_once, 1 },
                                 { interrupted_and_short_writes, 1 },
                                 { a_set_of_files_is_replaced_whole, 1 },
                                 { names_of_a_set, 1 } };
    return suite_run("replace", no_faults, tests, RT_COUNT(tests));
}
