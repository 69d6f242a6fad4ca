/* test_npz.c: hostile ZIP and .npy headers field by field, and shards, journals and manifests
   mangled at random: an error or the truth, never a crash. More rounds: RT_TRACE_ROUNDS=20. */
#include "tests/trace_make.h"

START_TEST(a_crooked_zip_is_refused)
{
    const char *path = "zip.traces";
    char *file = rt_path_join(path, "shard-00000.npz"), *data;
    rt_trace_manifest m;
    rt_err err;
    int64_t bytes;
    rt_npz z;
    make_manifest(&m, 1000, 0);
    make_archive(path, &m, 4, true);
    OK(rt_file_read(&data, &bytes, file, 1 << 20, &err));
    uint8_t *u = (uint8_t *)data;
    OK(rt_npz_parse(&z, u, bytes, "z", &err));
    ck_assert_int_eq(z.n, RT_COL_COUNT - 1 + 1); /* samples.jsonl beside all columns but span_weights */
    int64_t dir = u[bytes - 6] + 256 * (u[bytes - 5] + 256 * (int64_t)u[bytes - 4]);
    // one field of the first central record, of the end record, or of the first local header
    const struct {
        int64_t at;
        uint8_t value;
        const char *words;
    } CASES[] = {
        { dir + 42, 1, "overlaps" },
        { dir + 10, 8, "compressed" },
        { dir + 8, 9, "encrypted" },
        { dir + 24, 1, "two sizes" },
        { dir + 46, '/', "name" },
        { dir + 46, '.', "name" },
        { dir + 46, 'n', "local header" },
        { dir, 0, "directory is damaged" },
        { dir + 32, 9, "ZIP" },
        { dir + 28, 200, "ZIP" },
        { 0, 0, "local header" },
        { 26, 77, "local header" },
        { 28, 255, "local sizes" },
        { bytes - 22, 0, "not a whole ZIP" },
        { bytes - 12, 99, "end record" },
        { bytes - 10, 0, "end record" },
        { bytes - 6, 0x77, "end record" },
        { bytes - 2, 1, "end record" },
        { bytes - 18, 1, "end record" },
    };
    for (int i = 0; i < RT_COUNT(CASES); i++) {
        uint8_t keep = u[CASES[i].at];
        u[CASES[i].at] = CASES[i].value;
        FAILS(rt_npz_parse(&z, u, bytes, "z", &err), CASES[i].words);
        u[CASES[i].at] = keep;
    }
    for (int64_t n = 0; n < bytes; n++)
        ck_assert(rt_npz_parse(&z, u, n, "z", &err) != 0);
    // two entries of one name, one extent: the second record made a copy of the first
    int64_t first = 46 + u[dir + 28] + u[dir + 30];
    uint8_t record[256];
    memcpy(record, u + dir + first, (size_t)first);
    memcpy(u + dir + first, u + dir, (size_t)first);
    FAILS(rt_npz_parse(&z, u, bytes, "z", &err), "entry 1 overlaps");
    memcpy(u + dir + first, record, (size_t)first);
    OK(rt_npz_parse(&z, u, bytes, "z", &err));
    free(data);
    free(file);
}
END_TEST

START_TEST(a_crooked_npy_is_refused)
{
    static const char *const BAD[] = {
        "{'descr': '>i4', 'fortran_order': False, 'shape': (3,), }",
        "{'descr': '<i4', 'fortran_order': True, 'shape': (3,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
        "{'descr': '|O8', 'fortran_order': False, 'shape': (3,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (3), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (-3,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (03,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (4,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 3), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (4611686018427387907,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), 'x': 1}",
        "{'descr': '<i0', 'fortran_order': False, 'shape': (3,), }",
        "{'descr': '<i44444444444444444444444444444', 'fortran_order': False, 'shape': (3,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), } x",
        "{'descr': '<i4",
    };
    rt_err err;
    rt_npy npy;
    uint8_t file[RT_NPY_HEAD + 12];
    const int64_t shape[2] = { 3, 1 };
    for (int i = -1; i < RT_COUNT(BAD); i++) {
        memset(file, 0, sizeof file);
        rt_npy_head(file, "<i4", 1, shape);
        if (i < 0) {
            OK(rt_npy_parse(&npy, file, sizeof file, "good", &err));
            ck_assert(npy.rank == 1 && npy.dim[0] == 3 && npy.item == 4 && npy.bytes == 12);
            for (int64_t n = 0; n < (int64_t)sizeof file; n++)
                ck_assert(rt_npy_parse(&npy, file, n, "short", &err) != 0);
            continue;
        }
        memset(file + 10, ' ', RT_NPY_HEAD - 11);
        memcpy(file + 10, BAD[i], strlen(BAD[i]));
        ck_assert_msg(rt_npy_parse(&npy, file, sizeof file, "bad", &err) != 0, "%s", BAD[i]);
    }
    rt_npy_head(file, "|u1", 2, (int64_t[]){ 3, 4 });
    OK(rt_npy_parse(&npy, file, sizeof file, "good", &err));
    ck_assert(npy.rank == 2 && npy.dim[0] == 3 && npy.dim[1] == 4);
    file[6] = 2;
    FAILS(rt_npy_parse(&npy, file, sizeof file, "v2", &err), "format 2.0");
}
END_TEST

START_TEST(mangled_shards_and_manifests_never_crash)
{
    static const char *const FILES[] = { "shard-00000.npz", "journal", "manifest.json" };
    const char *path = "mangled.traces";
    rt_trace_manifest m;
    rt_err err;
    dice d = { .seed = 77 };
    make_manifest(&m, 1000, 1);
    make_archive(path, &m, 6, false);
    for (int f = 0; f < 3; f++) {
        char *file = rt_path_join(path, FILES[f]), *data;
        int64_t bytes;
        OK(rt_file_read(&data, &bytes, file, 1 << 20, &err));
        for (int k = 0; k < 300 * rounds(); k++) {
            char *bad = malloc((size_t)bytes);
            memcpy(bad, data, (size_t)bytes);
            for (int i = 1 + roll_below(&d, 6); i > 0; i--) {
                int64_t at = roll_below(&d, (int32_t)bytes);
                for (int run = 1 + roll_below(&d, 8); run > 0 && at < bytes; run--, at++)
                    bad[at] = (char)(roll_below(&d, 3) ? roll_below(&d, 256) : 255);
            }
            int64_t cut = roll_below(&d, 4) ? bytes : roll_below(&d, (int32_t)bytes);
            OK(rt_file_write(file, bad, cut, &err));
            free(bad);
            rt_trace_verify(path, NULL, NULL, &err);
            rt_trace_reader *r;
            int64_t lost;
            rt_trace_statistics st;
            if (rt_trace_open_read(&r, path, &err) == 0) {
                rt_trace_stats(r, &st, &err);
                rt_trace_reader_close(r);
            }
            rt_trace_inspect(&r, &lost, path, NULL, NULL, &err);
            rt_trace_reader_close(r);
        }
        OK(rt_file_write(file, data, bytes, &err));
        free(data);
        free(file);
    }
    ck_assert_int_eq(rt_trace_verify(path, NULL, NULL, &err), 0);
}
END_TEST

int main(void)
{
    rt_log_set_level(RT_LOG_QUIET);
    const suite_test tests[] = { { a_crooked_zip_is_refused, 1 },
                                 { a_crooked_npy_is_refused, 1 },
                                 { mangled_shards_and_manifests_never_crash, 1 } };
    return suite_run("npz", NULL, tests, RT_COUNT(tests));
}
