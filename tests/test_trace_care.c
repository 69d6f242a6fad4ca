/* test_trace_care.c: the trace archive under bad luck: killed at every step and at random, a full
   disk, its journal cut at every length, every byte flipped, repair. RT_TRACE_ROUNDS=20: more. */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "tests/trace_make.h"

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

// Every sample that is there is whole and there once.
static void check_killed(const char *path)
{
    rt_err err;
    rt_trace_reader *r;
    rt_trace_sample s;
    int seen[KILL_SAMPLES] = { 0 };
    if (rt_trace_open_read(&r, path, &err)) // killed before there was a manifest
        return;
    rt_trace_sample_init(&s);
    for (int64_t i = 0; i < rt_trace_count(r); i++) {
        OK(rt_trace_get(r, i, RT_TRACE_TEXT | RT_TRACE_SOFT, &s, &err));
        ck_assert_int_eq(++seen[s.index], 1);
    }
    rt_trace_sample_free(&s);
    rt_trace_reader_close(r);
}

START_TEST(a_kill_at_any_step_ends_in_the_same_bytes)
{
    const char *clean = "clean.traces", *path = "killed.traces";
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
        OK(rt_dir_list(&names, &n, ".", &err));
        ck_assert_int_eq(n, 1); // nothing is left beside the archive
        rt_names_free(names, n);
    }
    ck_assert_int_gt(kills, 60);
}
END_TEST

START_TEST(many_kills_in_one_life_end_in_the_same_bytes)
{
    const char *clean = "clean.traces", *path = "killed.traces";
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
}
END_TEST

START_TEST(sigkill_at_random_moments_ends_in_the_same_bytes)
{
    const char *clean = "clean.traces", *path = "killed.traces";
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
}
END_TEST

// Appends under a limit of file size until something fails; 0 when something did.
static int fill_up(const char *path, const rt_trace_manifest *m, int64_t limit)
{
    struct rlimit most = { (rlim_t)limit, (rlim_t)limit };
    rt_err err = { 0 };
    rt_trace_writer *w;
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &most))
        return 2;
    int rc = rt_trace_open_append(&w, path, m, &err);
    for (int64_t i = 0; !rc && i < KILL_SAMPLES; i++) {
        made x;
        make_sample(&x, m, i);
        rc = rt_trace_has(w, x.id) ? 0 : rt_trace_append(w, &x.sample, &err);
        if (rc && rt_trace_append(w, &x.sample, &err) == 0)
            return 3; // after a failed write nothing may be accepted
        drop_sample(&x);
    }
    return rc && err.text[0] ? 0 : 1;
}

START_TEST(a_full_disk_loses_nothing)
{
    const char *clean = "clean.traces", *path = "full.traces";
    rt_trace_manifest m;
    make_manifest(&m, 1000, 0);
    make_archive(clean, &m, KILL_SAMPLES, true);
    for (int64_t limit = 100; limit < 9000; limit += limit < 3000 ? 170 : 1500) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(fill_up(path, &m, limit));
        int status;
        ck_assert(waitpid(pid, &status, 0) == pid);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "limit %d: status %x",
                      (int)limit, status);
        check_killed(path);
        make_archive(path, &m, KILL_SAMPLES, true);
        ck_assert(same_hash(hash_dir(clean), hash_dir(path)));
        drop_dir(path);
    }
}
END_TEST

START_TEST(a_journal_cut_at_any_length_keeps_its_whole_records)
{
    const char *clean = "clean.traces", *path = "cut.traces";
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
            const char *again = "again.traces";
            copy_dir(path, again);
            make_archive(again, &m, 7, true);
            ck_assert(same_hash(hash_dir(clean), hash_dir(again)));
            drop_dir(again);
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

// One flipped bit costs one sample, or two where it moves the border between them.
static void check_whole(const rt_trace_reader *whole, int64_t lost, const char *name, int64_t at)
{
    ck_assert_msg(whole && lost <= 2 && rt_trace_count(whole) >= 5, "%s: byte %d: %d lost", name,
                  (int)at, (int)lost);
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
            rt_trace_reader *whole;
            int64_t lost, found = rt_trace_inspect(&whole, &lost, path, note, &x, &err);
            ck_assert_msg(found > 0 && found == x.n && x.named, "%s: byte %d mask %d: %d problems",
                          name, (int)at, mask, (int)found);
            with_id += x.id;
            if (at % 7 == 0)
                check_never_wrong(path, truth);
            check_whole(whole, lost, name, at);
            rt_trace_reader_close(whole);
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
    const char *path = "flip.traces";
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
}
END_TEST

/* Weights are content: a reader that does not verify the file finds them changed. */
START_TEST(a_changed_weight_is_never_learned)
{
    const char *path = "weights.traces", *file = "weights.traces/shard-00001.npz"; // of samples 4 and 5
    rt_trace_manifest m;
    rt_trace_shard shard;
    rt_trace_reader *r;
    rt_trace_sample s;
    rt_err err;
    make_manifest(&m, 1000, 1);
    make_archive(path, &m, 6, true);
    OK(rt_trace_shard_open(&shard, path, 1, -1, false, &err));
    int64_t at = shard.column[RT_COL_SPAN_WEIGHTS] - shard.map.data;
    rt_trace_shard_close(&shard);
    rt_trace_sample_init(&s);
    for (int byte = 0; byte < 16; byte++) // two spans a sample, 4 has no weights
        for (int mask = 1; mask < 256; mask *= 2) {
            int sample = 4 + byte / 8;
            poke(file, at + byte, (uint8_t)mask);
            OK(rt_trace_open_read(&r, path, &err));
            FAILS(rt_trace_get(r, sample, 0, &s, &err), "");
            OK(rt_trace_get(r, 9 - sample, 0, &s, &err));
            rt_trace_reader_close(r);
            poke(file, at + byte, (uint8_t)mask);
        }
    rt_trace_sample_free(&s);
    ck_assert_int_eq(rt_trace_verify(path, NULL, NULL, &err), 0);
}
END_TEST

START_TEST(repair_keeps_the_rest_and_refilling_restores_the_bytes)
{
    const char *clean = "clean.traces", *path = "hurt.traces";
    const char *aside = "hurt.traces.damaged";
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
        ck_assert_msg(lost >= 0 && lost <= 2, "lost %d: %s", (int)lost, err.text);
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
    FAILS(rt_trace_repair(path, NULL, NULL, &err), "No such file");
}
END_TEST

START_TEST(a_lost_shard_is_told_and_made_again)
{
    const char *clean = "clean.traces", *path = "gone.traces";
    char *file;
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
}
END_TEST

static int stop_in(const char *what, const char *path)
{
    rt_err err = { 0 };
    rt_trace_reader *r = NULL;
    rt_trace_statistics s;
    int64_t lost;
    int rc = 0;
    if (strcmp(what, "stats") == 0 && rt_trace_open_read(&r, path, &err))
        return 2;
    rt_interrupt_request();
    if (strcmp(what, "verify") == 0)
        rc = rt_trace_inspect(&r, &lost, path, NULL, NULL, &err) < 0 ? -1 : 0;
    else if (strcmp(what, "merge") == 0)
        rc = rt_trace_merge("merged.traces", &path, 1, &err);
    else
        rc = rt_trace_stats(r, &s, &err);
    return rc == -1 && err.exit_code == 130 && !rt_path_exists("merged.traces") ? 0 : 1;
}

/* The flag of an interrupt is never taken back, so a process of its own each time. */
START_TEST(an_interrupt_ends_what_reads_a_whole_archive)
{
    static const char *const WHAT[] = { "verify", "merge", "stats" };
    const char *path = "long.traces";
    rt_trace_manifest m;
    make_manifest(&m, 1000, 0);
    make_archive(path, &m, 40, true);
    for (int i = 0; i < RT_COUNT(WHAT); i++) {
        int status;
        pid_t pid = fork();
        if (pid == 0)
            _exit(stop_in(WHAT[i], path));
        ck_assert(waitpid(pid, &status, 0) == pid);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s went on", WHAT[i]);
    }
}
END_TEST

int main(void)
{
    rt_log_set_level(RT_LOG_QUIET);
    const suite_test tests[] = { { a_kill_at_any_step_ends_in_the_same_bytes, 1 },
                                 { many_kills_in_one_life_end_in_the_same_bytes, 1 },
                                 { sigkill_at_random_moments_ends_in_the_same_bytes, 1 },
                                 { a_full_disk_loses_nothing, 1 },
                                 { a_journal_cut_at_any_length_keeps_its_whole_records, 1 },
                                 { every_flipped_bit_is_reported, 1 },
                                 { a_changed_weight_is_never_learned, 1 },
                                 { repair_keeps_the_rest_and_refilling_restores_the_bytes, 1 },
                                 { a_lost_shard_is_told_and_made_again, 1 },
                                 { an_interrupt_ends_what_reads_a_whole_archive, 1 } };
    return suite_run("trace_care", NULL, tests, RT_COUNT(tests));
}
