/* test_trace_care.c: the trace archive under bad luck: killed at every step and at random, its
   journal cut at every length, every byte flipped, hostile ZIP and .npy. More rounds:
   RT_TRACE_ROUNDS=20. */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "tests/trace_make.h"

static char *scratch;
static char *in_scratch(const char *name) { return rt_path_join(scratch, name); }

static int rounds(void)
{
    const char *text = getenv("RT_TRACE_ROUNDS");
    return text && atoi(text) > 0 ? atoi(text) : 1;
}

static void poke(const char *path, int64_t at, uint8_t mask)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    ck_assert(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= mask;
    ck_assert(pwrite(fd, &byte, 1, at) == 1);
    close(fd);
}

// ---- kills ----

enum { KILL_SAMPLES = 14, KILLED = 77 };

typedef struct fuse {
    int64_t left;
} fuse;

static void burn(void *ctx, const char *point)
{
    (void)point;
    if (--((fuse *)ctx)->left < 0)
        _exit(KILLED);
}

/* A run in a child that ends at its n-th kill point (-1: never); true when it came to its end. With
   hole, the first third comes last, so that finish has to rebuild. */
static bool run_once(const char *path, const rt_trace_manifest *m, int64_t points, bool hole)
{
    pid_t pid = fork();
    if (pid == 0) {
        fuse f = { points < 0 ? INT64_MAX : points };
        rt_err err;
        rt_trace_writer *w;
        if (rt_trace_open_hooked(&w, path, m, burn, &f, &err))
            _exit(fprintf(stderr, "%s\n", err.text) ? 1 : 1);
        append_range(w, m, hole ? KILL_SAMPLES / 3 : 0, KILL_SAMPLES, 1);
        append_range(w, m, 0, KILL_SAMPLES, 1);
        if (rt_trace_finish(w, &err) || rt_trace_close(w, &err))
            _exit(fprintf(stderr, "%s\n", err.text) ? 1 : 1);
        _exit(0);
    }
    int status;
    ck_assert(waitpid(pid, &status, 0) == pid);
    ck_assert_msg(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == KILLED),
                  "killed run: status %x", status);
    return WEXITSTATUS(status) == 0;
}

static void check_killed(const char *path)
{
    rt_err err;
    rt_trace_reader *r;
    rt_trace_sample s;
    rt_trace_sample_init(&s);
    if (rt_trace_open_read(&r, path, &err) == 0) { // there is always something to read, or nothing
        for (int64_t i = 0; i < rt_trace_count(r); i++)
            OK(rt_trace_get(r, i, RT_TRACE_TEXT | RT_TRACE_SOFT, &s, &err));
        rt_trace_reader_close(r);
    }
    rt_trace_sample_free(&s);
}

START_TEST(a_kill_at_any_step_ends_in_the_same_bytes)
{
    char *clean = in_scratch("clean.traces"), *path = in_scratch("killed.traces");
    rt_trace_manifest m;
    make_manifest(&m, 1000, 0);
    make_archive(clean, &m, KILL_SAMPLES, true);
    rt_hash want = hash_dir(clean);
    int64_t kills = 0;
    for (int hole = 0; hole <= 1; hole++) {
        bool done = false;
        for (int64_t at = 0; !done; at++) {
            done = run_once(path, &m, at, hole);
            if (!done) {
                check_killed(path);
                kills++;
                ck_assert(run_once(path, &m, -1, hole));
            }
            ck_assert_msg(same_hash(want, hash_dir(path)), "killed at point %d, hole %d", (int)at,
                          hole);
            drop_dir(path);
        }
        char **names;
        int n;
        rt_err err;
        OK(rt_dir_list(&names, &n, scratch, &err));
        ck_assert_int_eq(n, 1); // nothing is left beside the archive
        rt_names_free(names, n);
    }
    ck_assert_int_gt(kills, 60);
    free(clean);
    free(path);
}
END_TEST

START_TEST(many_kills_in_one_life_end_in_the_same_bytes)
{
    char *clean = in_scratch("clean.traces"), *path = in_scratch("killed.traces");
    rt_trace_manifest m;
    make_manifest(&m, 1000, 0);
    make_archive(clean, &m, KILL_SAMPLES, true);
    rt_hash want = hash_dir(clean);
    dice d = { .seed = 11 };
    for (int life = 0; life < 5 * rounds(); life++) {
        int kills = 0;
        while (!run_once(path, &m, roll_below(&d, 12), life % 2)) {
            check_killed(path);
            ck_assert_int_lt(++kills, 200);
        }
        ck_assert(same_hash(want, hash_dir(path)));
        drop_dir(path);
    }
    free(clean);
    free(path);
}
END_TEST

START_TEST(sigkill_at_random_moments_ends_in_the_same_bytes)
{
    char *clean = in_scratch("clean.traces"), *path = in_scratch("killed.traces");
    enum { SAMPLES = 120 };
    rt_trace_manifest m;
    make_manifest(&m, 1000, 0);
    make_archive(clean, &m, SAMPLES, true);
    dice d = { .seed = 12 };
    int kills = 0;
    for (int k = 0; k < 20 * rounds(); k++) {
        pid_t pid = fork();
        if (pid == 0) {
            make_archive(path, &m, SAMPLES, true);
            _exit(0);
        }
        usleep((useconds_t)roll_below(&d, 12000));
        kill(pid, SIGKILL);
        int status;
        ck_assert(waitpid(pid, &status, 0) == pid);
        kills += WIFSIGNALED(status);
        if (k % 10 == 9) {
            make_archive(path, &m, SAMPLES, true);
            ck_assert(same_hash(hash_dir(clean), hash_dir(path)));
            drop_dir(path);
        }
    }
    ck_assert_int_gt(kills, 0);
    free(clean);
    free(path);
}
END_TEST

START_TEST(a_journal_cut_at_any_length_keeps_its_whole_records)
{
    char *clean = in_scratch("clean.traces"), *path = in_scratch("cut.traces");
    char *journal = rt_path_join(path, "journal"), *data;
    rt_trace_manifest m;
    rt_err err;
    rt_trace_writer *w;
    int64_t bytes;
    make_manifest(&m, 1000, 0);
    make_archive(clean, &m, 7, true);
    make_archive(path, &m, 7, false); // 4 in a shard, 3 in the journal
    OK(rt_file_read(&data, &bytes, journal, 1 << 20, &err));
    int64_t kept = -1;
    for (int64_t cut = bytes; cut >= 8; cut--) {
        OK(rt_file_write(journal, data, cut, &err));
        OK(rt_trace_open_append(&w, path, &m, &err));
        int64_t now = rt_trace_written(w);
        ck_assert(kept < 0 ? now == 7 : now == kept || now == kept - 1);
        kept = now;
        OK(rt_trace_close(w, &err));
        if (cut % 97 == 0) {
            char *again = in_scratch("again.traces");
            copy_dir(path, again);
            make_archive(again, &m, 7, true);
            ck_assert(same_hash(hash_dir(clean), hash_dir(again)));
            drop_dir(again);
            free(again);
        }
    }
    ck_assert_int_eq(kept, 4);
    OK(rt_file_write(journal, data, 5, &err));
    FAILS(rt_trace_open_append(&w, path, &m, &err), "first 8 bytes");
    // a bad record before good ones is damage, not a tear
    data[8 + 40] ^= 1;
    OK(rt_file_write(journal, data, bytes, &err));
    FAILS(rt_trace_open_append(&w, path, &m, &err), "byte 8: a damaged record before good ones");
    free(data);
    free(journal);
    free(clean);
    free(path);
}
END_TEST

// ---- flipped bits ----

typedef struct notes {
    int64_t n;
    char file[64];
    bool named, id;
} notes;

static void note(void *ctx, const char *id, const char *text)
{
    notes *x = ctx;
    x->n++;
    x->named |= strstr(text, x->file) != NULL;
    x->id |= id != NULL;
}

// The archive never hands out something else than what was put in.
static void check_never_wrong(const char *path, const rt_trace_sample *truth)
{
    rt_err err;
    rt_trace_reader *r;
    if (rt_trace_open_read(&r, path, &err))
        return;
    rt_trace_sample s;
    rt_trace_sample_init(&s);
    for (int64_t i = 0; i < rt_trace_count(r); i++) {
        if (rt_trace_get(r, i, RT_TRACE_TEXT | RT_TRACE_SOFT, &s, &err))
            continue;
        ck_assert_uint_eq(s.hash, truth[i].hash);
        ck_assert_mem_eq(s.tokens, truth[i].tokens, (size_t)s.n_tokens * 4);
        ck_assert_str_eq(s.reasoning, truth[i].reasoning);
    }
    rt_trace_sample_free(&s);
    rt_trace_reader_close(r);
}

static void flip_all(const char *path, const char *name, const rt_trace_sample *truth)
{
    char *file = rt_path_join(path, name);
    int64_t bytes, with_id = 0;
    rt_err err;
    OK(rt_path_size(file, &bytes, &err));
    int bits = rounds() > 1 ? 8 : 1;
    for (int64_t at = 0; at < bytes; at++)
        for (int bit = 0; bit < bits; bit++) {
            uint8_t mask = (uint8_t)(1 << (bits > 1 ? bit : (at * 5 + at / 8) % 8));
            notes x = { 0 };
            snprintf(x.file, sizeof x.file, "%s", name);
            poke(file, at, mask);
            int64_t found = rt_trace_verify(path, note, &x, &err);
            ck_assert_msg(found > 0 && found == x.n && x.named, "%s: byte %d mask %d: %d problems",
                          name, (int)at, mask, (int)found);
            with_id += x.id;
            if (at % 7 == 0)
                check_never_wrong(path, truth);
            poke(file, at, mask);
        }
    ck_assert_int_eq(rt_trace_verify(path, NULL, NULL, &err), 0);
    bool shard = strncmp(name, "shard", 5) == 0;
    ck_assert(!shard || with_id > bytes / 8); // damage inside a sample names the sample
    printf("%-16s %6lld flips, all reported; %lld named a sample\n", name, (long long)bytes * bits,
           (long long)with_id);
    free(file);
}

START_TEST(every_flipped_bit_is_reported)
{
    char *path = in_scratch("flip.traces");
    rt_trace_manifest m;
    rt_err err;
    make_manifest(&m, 1000, 1);
    make_archive(path, &m, 7, false);
    rt_trace_sample truth[7];
    rt_trace_reader *r;
    OK(rt_trace_open_read(&r, path, &err));
    for (int i = 0; i < 7; i++) {
        rt_trace_sample_init(&truth[i]);
        OK(rt_trace_get(r, i, RT_TRACE_TEXT, &truth[i], &err));
    }
    rt_trace_reader_close(r);
    flip_all(path, "shard-00000.npz", truth);
    flip_all(path, "journal", truth);
    flip_all(path, "manifest.json", truth);
    for (int i = 0; i < 7; i++)
        rt_trace_sample_free(&truth[i]);
    free(path);
}
END_TEST

START_TEST(repair_keeps_the_rest_and_refilling_restores_the_bytes)
{
    char *clean = in_scratch("clean.traces"), *path = in_scratch("hurt.traces");
    char *aside = in_scratch("hurt.traces.damaged");
    static const char *const FILES[] = { "shard-00000.npz", "shard-00001.npz", "manifest.json",
                                         "journal" };
    rt_trace_manifest m;
    rt_err err;
    make_manifest(&m, 1000, 0);
    make_archive(clean, &m, 11, true);
    rt_hash want = hash_dir(clean);
    ck_assert_int_eq(rt_trace_repair(clean, NULL, NULL, &err), 0); // whole: nothing happens
    ck_assert(same_hash(want, hash_dir(clean)) && !rt_path_exists(aside));
    dice d = { .seed = 3 };
    int64_t lost_in_all = 0;
    for (int k = 0; k < 60 * rounds(); k++) {
        bool finished = k % 4 < 3;
        drop_dir(path);
        drop_dir(aside);
        if (finished)
            copy_dir(clean, path);
        else
            make_archive(path, &m, 10, false);
        char *file = rt_path_join(path, FILES[finished ? k % 3 : 3]);
        int64_t bytes;
        OK(rt_path_size(file, &bytes, &err));
        poke(file, (int64_t)(roll(&d) * (double)bytes), (uint8_t)(1 << roll_below(&d, 8)));
        free(file);
        int64_t lost = rt_trace_repair(path, NULL, NULL, &err);
        ck_assert_msg(lost >= 0 && lost <= 1, "lost %d: %s", (int)lost, err.text);
        lost_in_all += lost;
        ck_assert(rt_path_is_dir(aside));
        ck_assert_int_eq(rt_trace_verify(path, NULL, NULL, &err), 0);
        // a shard alone does not know that the archive was complete
        bool unsure = !finished || k % 3 == 2;
        ck_assert(unsure || lost || same_hash(want, hash_dir(path)));
        make_archive(path, &m, 11, true); // the sampler makes what is missing
        ck_assert(same_hash(want, hash_dir(path)));
    }
    ck_assert_int_gt(lost_in_all, 10);
    drop_dir(path);
    FAILS(rt_trace_repair(path, NULL, NULL, &err), "no trace archive there");
    free(clean);
    free(path);
    free(aside);
}
END_TEST

START_TEST(a_lost_shard_is_told_and_made_again)
{
    char *clean = in_scratch("clean.traces"), *path = in_scratch("gone.traces"), *file;
    rt_trace_manifest m;
    rt_err err;
    rt_trace_reader *r;
    rt_trace_writer *w;
    make_manifest(&m, 1000, 0);
    make_archive(clean, &m, 11, true);
    copy_dir(clean, path);
    file = rt_path_join(path, "shard-00001.npz");
    unlink(file);
    FAILS(rt_trace_open_read(&r, path, &err), "shard-00001.npz");
    FAILS(rt_trace_open_append(&w, path, &m, &err), "repair");
    ck_assert_int_gt(rt_trace_verify(path, NULL, NULL, &err), 0);
    ck_assert_int_eq(rt_trace_repair(path, NULL, NULL, &err), 4);
    make_archive(path, &m, 11, true);
    ck_assert(same_hash(hash_dir(clean), hash_dir(path)));
    free(file);
    free(clean);
    free(path);
}
END_TEST

// ---- hostile files ----

START_TEST(a_crooked_zip_is_refused)
{
    char *path = in_scratch("zip.traces"), *file = rt_path_join(path, "shard-00000.npz"), *data;
    rt_trace_manifest m;
    rt_err err;
    int64_t bytes;
    rt_npz z;
    make_manifest(&m, 1000, 0);
    make_archive(path, &m, 4, true);
    OK(rt_file_read(&data, &bytes, file, 1 << 20, &err));
    uint8_t *u = (uint8_t *)data;
    OK(rt_npz_parse(&z, u, bytes, "z", &err));
    ck_assert_int_eq(z.n, RT_COL_COUNT + 2);
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
    free(path);
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
    char *path = in_scratch("mangled.traces");
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
            if (rt_trace_open_salvage(&r, path, NULL, NULL, &lost, &err) == 0)
                rt_trace_reader_close(r);
        }
        OK(rt_file_write(file, data, bytes, &err));
        free(data);
        free(file);
    }
    ck_assert_int_eq(rt_trace_verify(path, NULL, NULL, &err), 0);
    free(path);
}
END_TEST

static void setup(void)
{
    rt_log_set_level(RT_LOG_QUIET);
    scratch = make_scratch();
}

static void teardown(void)
{
    drop_dir(scratch);
    free(scratch);
}

int main(void)
{
    Suite *suite = suite_create("trace_care");
    TCase *c = tcase_create("trace_care");
    tcase_set_timeout(c, 0);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, a_kill_at_any_step_ends_in_the_same_bytes);
    tcase_add_test(c, many_kills_in_one_life_end_in_the_same_bytes);
    tcase_add_test(c, sigkill_at_random_moments_ends_in_the_same_bytes);
    tcase_add_test(c, a_journal_cut_at_any_length_keeps_its_whole_records);
    tcase_add_test(c, every_flipped_bit_is_reported);
    tcase_add_test(c, repair_keeps_the_rest_and_refilling_restores_the_bytes);
    tcase_add_test(c, a_lost_shard_is_told_and_made_again);
    tcase_add_test(c, a_crooked_zip_is_refused);
    tcase_add_test(c, a_crooked_npy_is_refused);
    tcase_add_test(c, mangled_shards_and_manifests_never_crash);
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
