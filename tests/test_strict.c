/* test_strict.c: that the strict device catches what the host may not do: each misuse ends the process
   with a line that names the rule and this file. And what every device owes: order, sticky failure.
   Misuse can be tested only where the build has that device (RETORT_STRICT=ON). */
#include "tests/device.h"
#include "tests/suite.h"

#include <stdio.h>
#include <unistd.h>

static rt_err err;

static rt_tensor device_f32(rt_dev *d, int64_t n)
{
    return rt_tensor_1(rt_dev_alloc(d, n * 4), RT_F32, n);
}

static void settle(rt_dev *d)
{
    if (rt_sync(d, &err))
        _exit(1);
}

/* --- misuse -------------------------------------------------------------------------------------- */

static void host_reads(rt_dev *d)
{
    float one = 1;
    volatile float *p = put_bytes(d, &one, 4);
    fprintf(stderr, "%g\n", (double)p[0]);
}
static void host_writes(rt_dev *d)
{
    float one = 1;
    volatile float *p = put_bytes(d, &one, 4);
    p[0] = 2;
}
static void source_reused(rt_dev *d)
{
    float x[4] = { 1, 2, 3, 4 };
    rt_tensor t = device_f32(d, 4);
    rt_upload(d, t.data, x, sizeof x);
    x[2] = 5;
    settle(d);
}
static void upload_forgotten(rt_dev *d)
{
    rt_tensor x = device_f32(d, 4), y = device_f32(d, 4);
    rt_copy(d, &y, &x);
    settle(d);
}
static void sum_not_zeroed(rt_dev *d)
{
    float one[16] = { 1 };
    rt_tensor a = rt_tensor_2(put_bytes(d, one, 16), RT_F32, 2, 2);
    rt_tensor c = rt_tensor_2(rt_dev_alloc(d, 16), RT_F32, 2, 2);
    rt_matmul(d, &c, &a, false, &a, true, 1.0f);
    settle(d);
}
static void host_tensor(rt_dev *d)
{
    float x[4] = { 1, 2, 3, 4 };
    rt_tensor t = rt_tensor_1(x, RT_F32, 4), y = device_f32(d, 4);
    rt_copy(d, &y, &t);
    settle(d);
}
static void beyond_the_end(rt_dev *d)
{
    rt_tensor t = device_f32(d, 16);
    t.dim[0] = 20;
    rt_zero(d, &t);
    settle(d);
}
static void upload_from_device(rt_dev *d)
{
    rt_tensor a = device_f32(d, 4), b = device_f32(d, 4);
    rt_upload(d, a.data, b.data, 16);
}
static void foreign_release(rt_dev *d)
{
    static float x[16];
    rt_dev_release(d, x);
}
static const float four[4] = { 1, 2, 3, 4 };
static void copy_not_followed(rt_dev *d)
{
    rt_tensor x = device_f32(d, 4), y = device_f32(d, 4);
    rt_mark mark = { 0 };
    rt_upload_beside(d, x.data, four, sizeof four);
    rt_mark_set(d, &mark, RT_BESIDE);
    rt_copy(d, &y, &x);
    rt_mark_follow(d, &mark, RT_COMPUTE); /* too late */
    settle(d);
}
static void operation_not_followed(rt_dev *d)
{
    rt_tensor x = device_f32(d, 4), y = device_f32(d, 4);
    rt_mark mark = { 0 };
    rt_upload(d, x.data, four, sizeof four);
    rt_mark_set(d, &mark, RT_COMPUTE); /* too early */
    rt_copy(d, &y, &x);
    rt_mark_follow(d, &mark, RT_BESIDE);
    rt_upload_beside(d, x.data, four, sizeof four);
    settle(d);
}
static void refilled_too_early(rt_dev *d)
{
    float x[4] = { 1, 2, 3, 4 };
    rt_tensor t = device_f32(d, 4), y = device_f32(d, 4);
    rt_mark first = { 0 };
    rt_upload_beside(d, y.data, four, sizeof four);
    rt_mark_set(d, &first, RT_BESIDE);
    rt_upload_beside(d, t.data, x, sizeof x);
    if (rt_mark_wait(d, &first, &err)) /* of another copy */
        _exit(1);
    x[2] = 5;
    settle(d);
}
static void waited_for_the_other(rt_dev *d)
{
    float x[4] = { 1, 2, 3, 4 };
    rt_tensor t = device_f32(d, 4), y = device_f32(d, 4);
    rt_mark copied = { 0 };
    rt_upload(d, t.data, x, sizeof x);
    rt_upload_beside(d, y.data, four, sizeof four);
    rt_mark_set(d, &copied, RT_BESIDE);
    if (rt_mark_wait(d, &copied, &err)) /* says nothing of the first order */
        _exit(1);
    x[2] = 5;
    settle(d);
}

static const struct {
    void (*call)(rt_dev *d);
    const char *says;
} misuses[] = {
    { host_reads, "the host: touches device memory" },
    { host_writes, "the host: touches device memory" },
    { source_reused, "upload: its source changed before the device read it" },
    { upload_forgotten, "copy: element 0 of an input was never written" },
    { sum_not_zeroed, "matmul: element 0 of an input was never written" },
    { host_tensor, "copy: 0x" },
    { beyond_the_end, "zero: 80 bytes at byte 0 leave device memory" },
    { upload_from_device, "upload: its source is device memory" },
    { foreign_release, "release: 0x" },
    { copy_not_followed, "copy: an earlier copy beside may still fill what it uses" },
    { operation_not_followed, "upload beside: it fills what an earlier copy may still use" },
    { refilled_too_early, "upload beside: its source changed before the device read it" },
    { waited_for_the_other, "upload: its source changed before the device read it" },
};

static bool strict_here(rt_dev **d) { return open_device_named(d, "strict", NULL, 1); }

static void misuse(int i)
{
    rt_dev *d;
    if (strict_here(&d))
        misuses[i].call(d);
}

START_TEST(caught)
{
    char text[2048];
    rt_dev *d;
    if (!strict_here(&d))
        return;
    rt_dev_close(d);
    text_of_abort(misuse, _i, text, sizeof text);
    ck_assert_msg(strstr(text, misuses[_i].says) != NULL, "it says: %s", text);
    /* who: a line of this file, or the program where addr2line is missing */
    ck_assert_msg(strstr(text, "test_strict") != NULL, "it names nobody: %s", text);
}
END_TEST

/* --- what is late ---------------------------------------------------------------------------------- */

/* Calls run in their order, whatever was changed between them; puts and tensor structs are free at
   once; what was downloaded is there after the wait and, on a late device, not before. */
START_TEST(in_order)
{
    const char *name;
    for (int kind = 0; (name = next_device(&kind));) {
        rt_dev *d;
        float x[4] = { 1, 2, 3, 4 }, before[4], after[4];
        ck_assert(open_device_named(&d, name, NULL, 1));
        rt_dev_dry_begin(d);
        rt_put(d, NULL, NULL, sizeof x);
        rt_put(d, NULL, NULL, sizeof x);
        rt_dev_dry_end(d);
        ck_assert_int_eq(rt_dev_ready(d, &err), 0);
        rt_tensor t = device_f32(d, 4), y = device_f32(d, 4), z = t;
        int64_t waits = rt_dev_get(d).waits;
        rt_put(d, t.data, x, sizeof x);
        x[0] = 7; /* the put has its own copy */
        rt_copy(d, &y, &t);
        rt_download(d, before, y.data, sizeof before);
        rt_put(d, t.data, x, sizeof x);
        rt_copy(d, &y, &z);
        z = (rt_tensor){ 0 }; /* so has the call */
        rt_download(d, after, y.data, sizeof after);
        if (strcmp(name, "strict") == 0)
            ck_assert(before[0] != 1.0f);
        ck_assert_int_eq(rt_sync(d, &err), 0);
        ck_assert(before[0] == 1.0f && before[3] == 4.0f && after[0] == 7.0f);
        ck_assert_int_eq(rt_dev_get(d).waits, waits + 1);
        rt_dev_release(d, t.data);
        rt_dev_release(d, y.data);
        rt_dev_close(d);
    }
}
END_TEST

/* Two buffers on either side: the host fills one while the other is copied and the one before is
   added up. */
START_TEST(beside)
{
    enum { TURNS = 9, N = 1000 };
    const char *name;
    for (int kind = 0; (name = next_device(&kind));) {
        rt_dev *d;
        rt_mark copied[2] = { { 0 } }, used[2] = { { 0 } };
        ck_assert(open_device_named(&d, name, NULL, 1));
        float *host[2], *sums = malloc(TURNS * N * sizeof *sums), zero[N] = { 0 };
        rt_tensor buffer[2], sum = rt_tensor_2(put_bytes(d, zero, sizeof zero), RT_F32, 1, N);
        int32_t first = 0;
        rt_tensor index = rt_tensor_1(put_bytes(d, &first, 4), RT_I32, 1);
        for (int i = 0; i < 2; i++) {
            host[i] = rt_dev_host_alloc(d, N * sizeof(float));
            buffer[i] = rt_tensor_2(rt_dev_alloc(d, N * sizeof(float)), RT_F32, 1, N);
        }
        int64_t waits = rt_dev_get(d).waits;
        for (int turn = 0; turn < TURNS; turn++) {
            int i = turn % 2;
            ck_assert_int_eq(rt_mark_wait(d, &copied[i], &err), 0);
            for (int k = 0; k < N; k++)
                host[i][k] = (float)(turn * k);
            rt_mark_follow(d, &used[i], RT_BESIDE);
            rt_upload_beside(d, buffer[i].data, host[i], N * sizeof(float));
            rt_mark_set(d, &copied[i], RT_BESIDE);
            rt_mark_follow(d, &copied[i], RT_COMPUTE);
            rt_scatter_add_rows(d, &sum, &buffer[i], &index);
            rt_mark_set(d, &used[i], RT_COMPUTE);
            rt_download(d, sums + turn * N, sum.data, N * sizeof(float));
        }
        ck_assert_int_eq(rt_sync(d, &err), 0);
        ck_assert_int_eq(rt_dev_get(d).waits, waits + TURNS + 1);
        for (int turn = 0; turn < TURNS; turn++)
            for (int k = 0; k < N; k++)
                ck_assert_msg(sums[turn * N + k] == (float)(turn * (turn + 1) / 2 * k),
                              "%s: turn %d", name, turn);
        for (int i = 0; i < 2; i++) {
            rt_mark_free(d, &copied[i]);
            rt_mark_free(d, &used[i]);
            rt_dev_host_release(d, host[i]);
            rt_dev_release(d, buffer[i].data);
        }
        rt_dev_release(d, sum.data);
        rt_dev_release(d, index.data);
        rt_dev_close(d);
        free(sums);
    }
}
END_TEST

START_TEST(failure_is_sticky)
{
    rt_dev *d;
    float x[4] = { 1, 2, 3, 4 };
    setenv("RETORT_STRICT_FAIL", "3", 1);
    bool here = strict_here(&d);
    unsetenv("RETORT_STRICT_FAIL");
    if (!here)
        return;
    rt_tensor t = device_f32(d, 4), y = device_f32(d, 4);
    rt_upload(d, t.data, x, sizeof x);
    rt_copy(d, &y, &t);
    ck_assert_int_eq(rt_sync(d, &err), 0);
    rt_copy(d, &y, &t);
    for (int i = 0; i < 2; i++) {
        err = (rt_err){ 0 };
        ck_assert_int_eq(rt_sync(d, &err), -1);
        ck_assert(strstr(err.text, "operation 3 failed") != NULL);
    }
    rt_dev_release(d, t.data);
    rt_dev_release(d, y.data);
    rt_dev_close(d);
}
END_TEST

int main(void)
{
    const suite_test tests[] = {
        { caught, RT_COUNT(misuses) }, { in_order, 1 }, { beside, 1 }, { failure_is_sticky, 1 }
    };
    return suite_run("strict", NULL, tests, RT_COUNT(tests));
}
