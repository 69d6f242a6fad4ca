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
static void settle_beside(rt_dev *d)
{
    rt_mark all = { 0 };
    rt_mark_set(d, &all, RT_BESIDE);
    if (rt_mark_wait(d, &all, &err))
        _exit(1);
    settle(d);
}
static void only_synced(rt_dev *d)
{
    float x[4] = { 1, 2, 3, 4 };
    rt_tensor t = device_f32(d, 4);
    rt_upload_beside(d, t.data, x, sizeof x);
    settle(d); /* no operation follows the copy */
    x[2] = 5;
    settle_beside(d);
}
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
    settle_beside(d);
}
static void download_not_followed(rt_dev *d)
{
    static float home[4];
    rt_tensor x = device_f32(d, 4), y = device_f32(d, 4);
    rt_mark mark = { 0 };
    rt_upload(d, x.data, four, sizeof four);
    rt_mark_set(d, &mark, RT_COMPUTE); /* too early */
    rt_download(d, home, x.data, sizeof home);
    rt_mark_follow(d, &mark, RT_BESIDE);
    rt_upload_beside(d, y.data, home, sizeof home);
    settle_beside(d);
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
    settle_beside(d);
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
static void repeat_copies(rt_dev *d, rt_graph *g, rt_tensor *y, const rt_tensor *x, int n)
{
    while (rt_repeat(d, g))
        for (int i = 0; i < n; i++)
            rt_copy(d, y, x);
}
static void repeated_elsewhere(rt_dev *d)
{
    rt_graph g = { 0 };
    rt_tensor x = device_f32(d, 4), y = device_f32(d, 4), z = device_f32(d, 4);
    repeat_copies(d, &g, &y, &x, 2);
    repeat_copies(d, &g, &z, &x, 2);
}
static void repeated_more_often(rt_dev *d)
{
    rt_graph g = { 0 };
    rt_tensor x = device_f32(d, 4), y = device_f32(d, 4);
    repeat_copies(d, &g, &y, &x, 2);
    repeat_copies(d, &g, &y, &x, 3);
}
static void repeated_others(rt_dev *d)
{
    rt_graph g = { 0 };
    rt_tensor x = device_f32(d, 4), y = device_f32(d, 4);
    repeat_copies(d, &g, &y, &x, 1);
    while (rt_repeat(d, &g))
        rt_zero(d, &y);
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
    { download_not_followed, "upload beside: an earlier download may still write its source" },
    { refilled_too_early, "upload beside: its source changed before the device read it" },
    { only_synced, "upload beside: its source changed before the device read it" },
    { waited_for_the_other, "upload: its source changed before the device read it" },
    { repeated_elsewhere, "copy: operation 1 of what repeats had other arguments" },
    { repeated_more_often, "rt_repeat: more operations than the first time" },
    { repeated_others, "zero: operation 1 of what repeats was copy the first time" },
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

/* What does not fit goes to the host and comes back beside the operations, without a wait: pass
   after pass through the same memory of the host. */
START_TEST(there_and_back)
{
    enum { PASSES = 3, TURNS = 5, N = 1000 };
    const char *name;
    for (int kind = 0; (name = next_device(&kind));) {
        rt_dev *d;
        rt_mark copied = { 0 }, used = { 0 };
        ck_assert(open_device_named(&d, name, NULL, 1));
        float *home = rt_dev_host_alloc(d, TURNS * N * sizeof(float)), *sums = malloc(N * sizeof *sums);
        float one[N], zero[N] = { 0 };
        for (int k = 0; k < N; k++)
            one[k] = (float)k;
        int32_t first = 0;
        rt_tensor index = rt_tensor_1(put_bytes(d, &first, 4), RT_I32, 1);
        rt_tensor x = rt_tensor_2(put_bytes(d, one, sizeof one), RT_F32, 1, N);
        rt_tensor y = rt_tensor_2(put_bytes(d, zero, sizeof zero), RT_F32, 1, N);
        rt_tensor sum = rt_tensor_2(put_bytes(d, zero, sizeof zero), RT_F32, 1, N);
        int64_t waits = rt_dev_get(d).waits;
        for (int pass = 0; pass < PASSES; pass++) {
            for (int turn = 0; turn < TURNS; turn++) { /* y = 1, 2, ... times x, over all passes */
                rt_scatter_add_rows(d, &y, &x, &index);
                rt_download(d, home + turn * N, y.data, N * sizeof(float));
                rt_mark_set(d, &used, RT_COMPUTE);
            }
            for (int turn = TURNS - 1; turn >= 0; turn--) { /* the last in y then is the first */
                rt_mark_follow(d, &used, RT_BESIDE);
                rt_upload_beside(d, y.data, home + turn * N, N * sizeof(float));
                rt_mark_set(d, &copied, RT_BESIDE);
                rt_mark_follow(d, &copied, RT_COMPUTE);
                rt_scatter_add_rows(d, &sum, &y, &index);
                rt_mark_set(d, &used, RT_COMPUTE);
            }
        }
        ck_assert_int_eq(rt_dev_get(d).waits, waits);
        rt_download(d, sums, sum.data, N * sizeof(float));
        ck_assert_int_eq(rt_sync(d, &err), 0);
        for (int k = 0; k < N; k++) /* 1..5, 2..6, 3..7 */
            ck_assert_msg(sums[k] == (float)(60 * k), "%s: %d: %g", name, k, (double)sums[k]);
        rt_mark_free(d, &copied);
        rt_mark_free(d, &used);
        rt_dev_host_release(d, home);
        const rt_tensor *all[] = { &index, &x, &y, &sum };
        for (int i = 0; i < RT_COUNT(all); i++)
            rt_dev_release(d, all[i]->data);
        rt_dev_close(d);
        free(sums);
    }
}
END_TEST

/* What is recorded reads what the device holds when it runs. graphs: as RETORT_EMULATE_GRAPHS. */
static void repeat_sums(const char *name, const char *graphs)
{
    enum { TURNS = 6, N = 7 };
    rt_dev *d;
    rt_graph g = { 0 };
    float x[TURNS][N], sums[TURNS][N], zero[N] = { 0 };
    int32_t first = 0;
    setenv("RETORT_EMULATE_GRAPHS", graphs, 1);
    ck_assert(open_device_named(&d, name, NULL, 1));
    rt_tensor in = rt_tensor_2(rt_dev_alloc(d, sizeof zero), RT_F32, 1, N), copy = in;
    rt_tensor sum = rt_tensor_2(put_bytes(d, zero, sizeof zero), RT_F32, 1, N);
    rt_tensor index = rt_tensor_1(put_bytes(d, &first, 4), RT_I32, 1);
    copy.data = rt_dev_alloc(d, sizeof zero);
    for (int turn = 0; turn < TURNS; turn++) {
        for (int k = 0; k < N; k++)
            x[turn][k] = (float)(turn * k);
        rt_upload(d, in.data, x[turn], sizeof zero);
        while (rt_repeat(d, &g)) {
            rt_copy(d, &copy, &in);
            rt_scatter_add_rows(d, &sum, &copy, &index);
            rt_zero(d, &in);
        }
        rt_download(d, sums[turn], sum.data, sizeof zero);
    }
    ck_assert_int_eq(rt_sync(d, &err), 0);
    for (int turn = 0; turn < TURNS; turn++)
        for (int k = 0; k < N; k++)
            ck_assert_msg(sums[turn][k] == (float)(turn * (turn + 1) / 2 * k),
                          "%s, graphs %s: turn %d", name, graphs, turn);
    rt_graph_free(d, &g);
    rt_dev_release(d, in.data);
    rt_dev_release(d, copy.data);
    rt_dev_release(d, sum.data);
    rt_dev_release(d, index.data);
    rt_dev_close(d);
    unsetenv("RETORT_EMULATE_GRAPHS");
}

START_TEST(repeated)
{
    const char *name;
    for (int kind = 0; (name = next_device(&kind));) {
        repeat_sums(name, "");
        repeat_sums(name, "none");
    }
}
END_TEST

/* Another workspace between two times: what is recorded does not use the old one. */
START_TEST(workspace_moves)
{
    enum { V = 500, M = 3 };
    const char *name;
    const rt_sampling how = { .temperature = 1.0f, .top_p = 0.9f };
    for (int kind = 0; (name = next_device(&kind));) {
        rt_dev *d;
        rt_graph g = { 0 };
        static float x[M * V];
        int32_t seed[2 * M] = { 1, 2, 3, 4, 5, 6 }, at[M] = { 7, 8, 9 }, token[5][M];
        ck_assert(open_device_named(&d, name, NULL, 1));
        for (int i = 0; i < M * V; i++)
            x[i] = (float)(i * 7919 % 101) * 0.05f;
        rt_tensor logits = rt_tensor_2(put_bytes(d, x, sizeof x), RT_F32, M, V), wide = logits;
        rt_tensor seeds = rt_tensor_2(put_bytes(d, seed, sizeof seed), RT_I32, M, 2);
        rt_tensor index = rt_tensor_1(put_bytes(d, at, sizeof at), RT_I32, M);
        rt_tensor chosen = rt_tensor_1(rt_dev_alloc(d, sizeof at), RT_I32, M);
        for (int turn = 0; turn < 5; turn++) {
            wide.dim[1] = turn < 4 ? V : 100 * V;
            rt_dev_dry_begin(d);
            rt_sample(d, &chosen, &wide, &seeds, &index, &how, wide.dim[1]);
            rt_dev_dry_end(d);
            ck_assert_int_eq(rt_dev_ready(d, &err), 0);
            while (rt_repeat(d, &g))
                rt_sample(d, &chosen, &logits, &seeds, &index, &how, V);
            rt_download(d, token[turn], chosen.data, sizeof at);
            ck_assert_int_eq(rt_sync(d, &err), 0);
            ck_assert(!memcmp(token[turn], token[0], sizeof at) && token[turn][0] >= 0);
        }
        rt_graph_free(d, &g);
        rt_dev_release(d, logits.data);
        rt_dev_release(d, seeds.data);
        rt_dev_release(d, index.data);
        rt_dev_release(d, chosen.data);
        rt_dev_close(d);
    }
}
END_TEST

static void transfer_inside(int i)
{
    rt_dev *d;
    rt_graph g = { 0 };
    float x = 0;
    (void)i;
    if (!open_device_named(&d, NULL, NULL, 1))
        return;
    rt_tensor t = device_f32(d, 1);
    while (rt_repeat(d, &g))
        rt_upload(d, t.data, &x, sizeof x);
}

START_TEST(transfer_is_no_repeat)
{
    char text[2048];
    text_of_abort(transfer_inside, 0, text, sizeof text);
    ck_assert_msg(strstr(text, "rt_upload among operations that repeat") != NULL, "%s", text);
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
    const suite_test tests[] = { { caught, RT_COUNT(misuses) },
                                 { in_order, 1 },
                                 { beside, 1 },
                                 { there_and_back, 1 },
                                 { repeated, 1 },
                                 { workspace_moves, 1 },
                                 { transfer_is_no_repeat, 1 },
                                 { failure_is_sticky, 1 } };
    return suite_run("strict", NULL, tests, RT_COUNT(tests));
}
