/* test_trace.c: samples in and out of the trace archive: round trips, resume, order, merging,
   refusals. Soft rows are in test_trace_rows.c, kills and flipped bits in test_trace_care.c. */
#include "core/base/team.h"
#include "tests/trace_make.h"

// ---- samples and archives ----

static void compare_sample(const rt_trace_sample *a, const rt_trace_sample *b, int temps, worst *w)
{
    ck_assert_int_eq(a->index, b->index);
    ck_assert_str_eq(a->id, b->id);
    ck_assert_str_eq(a->prompt_id, b->prompt_id);
    ck_assert_str_eq(a->reasoning, b->reasoning);
    ck_assert_str_eq(a->answer, b->answer);
    ck_assert_str_eq(a->finish, b->finish);
    ck_assert_int_eq(a->verdict, b->verdict);
    ck_assert(a->reward == b->reward);
    ck_assert(a->seed == b->seed);
    ck_assert_int_eq(a->n_tokens, b->n_tokens);
    ck_assert_mem_eq(a->tokens, b->tokens, (size_t)a->n_tokens * 4);
    ck_assert_int_eq(a->prompt_tokens, b->prompt_tokens);
    ck_assert_int_eq(a->n_spans, b->n_spans);
    ck_assert_mem_eq(a->spans, b->spans, (size_t)a->n_spans * sizeof *a->spans);
    ck_assert_int_eq(b->span_weight != NULL, rt_trace_weighted(a->span_weight, a->n_spans));
    for (int32_t i = 0; b->span_weight && i < a->n_spans; i++)
        ck_assert(a->span_weight[i] == b->span_weight[i]);
    ck_assert(a->weight == b->weight);
    ck_assert_str_eq(a->tag, b->tag);
    ck_assert_int_eq(a->soft_first, b->soft_first);
    compare_soft(&a->soft, &b->soft, temps, w);
}

static void check_archive(const char *path, const rt_trace_manifest *m, int64_t n)
{
    rt_err err;
    rt_trace_reader *r;
    OK(rt_trace_open_read(&r, path, &err));
    ck_assert_int_eq(rt_trace_count(r), n);
    rt_trace_sample s;
    rt_trace_sample_init(&s);
    worst w = { 0 };
    for (int64_t i = n - 1; i >= 0; i--) {
        made x;
        make_sample(&x, m, i);
        OK(rt_trace_get(r, i, RT_TRACE_TEXT | RT_TRACE_SOFT, &s, &err));
        compare_sample(&x.sample, &s, m->capture.n_temperatures, &w);
        ck_assert(strstr(s.messages, "\"content\":") && strstr(s.messages, " = ?\\n\xC3\xA9"));
        ck_assert_int_eq(rt_trace_verdict(r, i), x.sample.verdict);
        ck_assert_int_eq(rt_trace_tokens(r, i), x.sample.n_tokens);
        ck_assert_int_eq(rt_trace_find(r, x.id), i);
        OK(rt_trace_get(r, i, 0, &s, &err));
        ck_assert_int_eq(s.soft.n, 0);
        ck_assert_str_eq(s.answer, "");
        drop_sample(&x);
    }
    check_bounds(&w);
    rt_trace_sample_free(&s);
    rt_trace_reader_close(r);
}

START_TEST(samples_come_back_from_shards_and_from_the_journal)
{
    for (int temps = 0; temps <= 2; temps += 2)
        for (int64_t n = 1; n <= 11; n += 2)
            for (int finish = 0; finish <= 1; finish++) {
                const char *path = "round.traces";
                rt_trace_manifest m;
                make_manifest(&m, 1000, temps);
                make_archive(path, &m, n, finish);
                check_archive(path, &m, n);
                rt_err err;
                ck_assert_int_eq(rt_trace_verify(path, NULL, NULL, &err), 0);
                drop_dir(path);
            }
}
END_TEST

typedef struct readings {
    const rt_trace_reader *r;
    bool bad[600];
} readings;

static void read_one(void *ctx, int64_t k, int member)
{
    readings *all = ctx;
    rt_trace_sample s;
    rt_err mine;
    (void)member;
    rt_trace_sample_init(&s);
    all->bad[k] = rt_trace_get(all->r, k % 30, RT_TRACE_TEXT | RT_TRACE_SOFT, &s, &mine) != 0 ||
                  s.index != k % 30;
    rt_trace_sample_free(&s);
}

START_TEST(verdicts_need_no_decoding_and_threads_agree)
{
    const char *path = "filter.traces";
    rt_trace_manifest m;
    rt_err err;
    make_manifest(&m, 1000, 1);
    make_archive(path, &m, 30, false);
    rt_trace_reader *r;
    OK(rt_trace_open_read(&r, path, &err));
    for (int64_t i = 0; i < rt_trace_count(r); i++)
        ck_assert_int_eq(rt_trace_verdict(r, i), i % 4);
    ck_assert_int_eq(rt_trace_find(r, "nobody"), -1);
    rt_team *team;
    readings all = { .r = r };
    OK(rt_team_open(&team, 4, &err));
    rt_team_run(team, read_one, &all, RT_COUNT(all.bad), 4);
    rt_team_close(team);
    for (int k = 0; k < RT_COUNT(all.bad); k++)
        ck_assert(!all.bad[k]);
    rt_trace_reader_close(r);
}
END_TEST

START_TEST(a_reader_sees_a_running_archive)
{
    const char *path = "running.traces";
    rt_trace_manifest m;
    rt_err err;
    rt_trace_writer *w;
    make_manifest(&m, 1000, 0);
    OK(rt_trace_open_append(&w, path, &m, &err));
    rt_trace_reader *early = NULL;
    for (int64_t n = 0; n <= 10; n++) {
        check_archive(path, &m, n);
        if (n == 3)
            OK(rt_trace_open_read(&early, path, &err));
        append_range(w, &m, n, n + 1, 1);
    }
    OK(rt_trace_finish(w, &err));
    // what stood at open stays readable though its journal is long gone
    rt_trace_sample s;
    rt_trace_sample_init(&s);
    ck_assert_int_eq(rt_trace_count(early), 3);
    OK(rt_trace_get(early, 2, RT_TRACE_SOFT, &s, &err));
    rt_trace_sample_free(&s);
    rt_trace_reader_close(early);
    OK(rt_trace_close(w, &err));
}
END_TEST

START_TEST(bytes_depend_on_the_samples_alone)
{
    const char *a = "once.traces", *b = "pieces.traces";
    rt_trace_manifest m;
    rt_err err;
    make_manifest(&m, 1000, 1);
    m.bytes_per_shard = 3000; // closes by bytes before it closes by count
    make_archive(a, &m, 17, true);
    // in many sessions, some finished in between, some not, with a reader around
    static const int64_t STOP[] = { 1, 2, 3, 7, 8, 9, 14, 15, 16, 17 };
    for (int i = 0; i < RT_COUNT(STOP); i++)
        make_archive(b, &m, STOP[i], i % 3 != 1);
    ck_assert_int_eq(rt_trace_verify(b, NULL, NULL, &err), 0);
    rt_trace_writer *w;
    OK(rt_trace_open_append(&w, b, &m, &err));
    OK(rt_trace_finish(w, &err));
    OK(rt_trace_finish(w, &err)); // twice is once
    OK(rt_trace_close(w, &err));
    ck_assert(same_hash(hash_dir(a), hash_dir(b)));
}
END_TEST

/* Without weights an archive is of version 1, byte for byte as before there were any (the hash is that of
   a program which knew none); with the first of them it is of version 2, shard by shard. */
START_TEST(only_weights_make_a_version_2)
{
    rt_trace_manifest m;
    rt_err err;
    char *text;
    int64_t bytes;
    make_manifest(&m, 1000, 2);
    m.planned = 5; // as test_trace make PATH 5
    make_archive("old.traces", &m, 5, true);
    ck_assert_str_eq(hash_dir("old.traces").hex, "e4bbcb34cea3fbc3313d8786da85db29");
    for (int64_t n = 5; n <= 9; n++) {
        make_archive("grown.traces", &m, n, n == 5 || n == 9);
        OK(rt_file_read(&text, &bytes, "grown.traces/manifest.json", 1 << 20, &err));
        ck_assert((strstr(text, "\"version\": 2") != NULL) == (n > 5));
        free(text);
    }
    for (int k = 0; k < 3; k++) { // samples 0 to 3, 4 to 7, 8
        rt_trace_shard s;
        OK(rt_trace_shard_open(&s, "grown.traces", k, -1, false, &err));
        ck_assert_int_eq(s.count[RT_COL_SPAN_WEIGHTS], k == 1 ? 8 : 0);
        rt_trace_shard_close(&s);
    }
}
END_TEST

START_TEST(samples_out_of_order_end_in_the_same_bytes)
{
    const char *a = "ordered.traces", *b = "unordered.traces";
    rt_trace_manifest m;
    rt_err err;
    rt_trace_writer *w;
    make_manifest(&m, 1000, 1);
    make_archive(a, &m, 23, true);
    OK(rt_trace_open_append(&w, b, &m, &err));
    append_range(w, &m, 1, 23, 2);
    append_range(w, &m, 0, 10, 2);
    OK(rt_trace_close(w, &err));
    OK(rt_trace_open_append(&w, b, &m, &err));
    append_range(w, &m, 10, 23, 2);
    OK(rt_trace_finish(w, &err));
    ck_assert_int_eq(rt_trace_written(w), 23);
    ck_assert(rt_trace_has(w, "p0/0") && !rt_trace_has(w, "p11/1"));
    OK(rt_trace_close(w, &err));
    ck_assert(same_hash(hash_dir(a), hash_dir(b)));
    check_archive(b, &m, 23);
}
END_TEST

START_TEST(parts_merge_to_what_one_machine_writes)
{
    const char *whole = "whole.traces", *merged = "merged.traces";
    static const char *const part[] = { "part0.traces", "part1.traces", "part2.traces" };
    rt_trace_manifest m;
    rt_err err;
    make_manifest(&m, 1000, 0);
    make_archive(whole, &m, 25, true);
    m.parts = 3;
    for (int p = 0; p < 3; p++) {
        rt_trace_writer *w;
        m.part = p;
        OK(rt_trace_open_append(&w, part[p], &m, &err));
        append_range(w, &m, p, 25, 3);
        OK(rt_trace_finish(w, &err));
        OK(rt_trace_close(w, &err));
    }
    const char *two[] = { part[1], part[0] }, *all[] = { part[2], part[0], part[1] };
    FAILS(rt_trace_merge(merged, two, 2, &err), "part 2 of 3 is given 0 times");
    OK(rt_trace_merge(merged, all, 3, &err));
    ck_assert(same_hash(hash_dir(whole), hash_dir(merged)));
    OK(rt_trace_merge(merged, all, 3, &err)); /* killed after its last rename: done already */
    ck_assert(same_hash(hash_dir(whole), hash_dir(merged)));
    m.part = 0;
    m.parts = 1;
    make_archive("other.traces", &m, 24, true);
    const char *other[] = { "other.traces" };
    FAILS(rt_trace_merge(merged, other, 1, &err), "stands there already");
    ck_assert(same_hash(hash_dir(whole), hash_dir(merged)));
}
END_TEST

START_TEST(another_manifest_is_refused_by_name)
{
    const char *path = "mine.traces";
    rt_trace_manifest m, n;
    rt_err err;
    rt_trace_writer *w;
    make_manifest(&m, 1000, 2);
    make_archive(path, &m, 2, false);
#define OTHER(change, words)                                                                       \
    do {                                                                                           \
        n = m;                                                                                     \
        change;                                                                                    \
        FAILS(rt_trace_open_append(&w, path, &n, &err), words);                                    \
    } while (0)
    OTHER(n.weights_hash = rt_hash_bytes("x", 1), "teacher weights hash");
    OTHER(n.config_hash = rt_hash_bytes("x", 1), "teacher config hash");
    OTHER(n.tokenizer_hash = rt_hash_bytes("x", 1), "tokenizer fingerprint");
    OTHER(n.template_hash = rt_hash_bytes("x", 1), "chat template hash");
    OTHER(n.prompts_hash = rt_hash_bytes("x", 1), "prompts hash");
    OTHER(n.vocab_size++, "vocabulary size");
    OTHER(n.capture.head_max = 4, "capture head_max");
    OTHER(n.capture.tail_spacing = 0.5f, "capture tail_spacing");
    OTHER(n.capture.temperature[1] = 3, "capture temperatures");
    OTHER(n.capture.listed = 0, "capture listed");
    OTHER(n.capture.listed = 8, "out of range");
    OTHER(n.listed_hash = rt_hash_bytes("x", 1), "student whose tokens are listed");
    OTHER(n.sampler[0] = 0, "model that wrote the text");
    OTHER(n.sampler_hash.hex[0] = 0, "weights hash of who wrote the text");
    OTHER(n.sampler_step++, "step of who wrote the text");
    OTHER(n.temperature = 0.6, "sampling temperature");
    OTHER(n.top_p = 0.95, "sampling top_p");
    OTHER(n.min_p = 0.1, "sampling min_p");
    OTHER(n.repetition = 64, "stop_repetition");
    OTHER(strcpy(n.stop, "[\"END\"]"),
          "list of stop texts: the archive has [], this run [\"END\"]");
    OTHER(n.seed--, "seed");
    OTHER(n.samples_per_shard = 5, "samples_per_shard");
    OTHER(n.parts = 2, "number of parts");
    OTHER(strcpy(n.precision, "bf16"), "teacher precision");
    OTHER(n.vocab_size = 0, "out of range");
    OTHER(n.capture.head_max = 65, "out of range");
    OTHER(n.min_p = 1.5, "out of range");
    OTHER(strcpy(n.stop, "[\"END\""), "out of range");
    n = m;
    strcpy(n.licence, "MIT"); // may differ
    OK(rt_trace_open_append(&w, path, &n, &err));
    OK(rt_trace_close(w, &err));
}
END_TEST

/* Settings younger than the first archives: not written where they are off, so archives that know
   nothing of them are what they were. */
START_TEST(younger_settings_are_absent_or_kept)
{
    static const char *const keys[] = { "\"min_p\"",   "\"stop\"",   "\"stop_repetition\"",
                                        "\"sampler\"", "\"listed\"", "\"listed_by\"" };
    const char *path = "younger.traces";
    rt_trace_manifest m;
    rt_trace_writer *w;
    rt_trace_reader *r;
    rt_err err;
    char *text;
    int64_t bytes;
    for (int set = 0; set < 2; set++) {
        make_manifest(&m, 1000, 2);
        if (!set) {
            m.sampler[0] = m.sampler_hash.hex[0] = m.listed_hash.hex[0] = 0;
            m.sampler_step = m.capture.listed = 0;
        } else {
            m.min_p = 0.05;
            m.repetition = 64;
            strcpy(m.stop, "[\"\\n\\n\",\"a \\\"b\\\"\xC3\xA9\"]");
        }
        drop_dir(path);
        make_archive(path, &m, 5, true);
        OK(rt_file_read(&text, &bytes, "younger.traces/manifest.json", 1 << 20, &err));
        for (int i = 0; i < RT_COUNT(keys); i++)
            ck_assert_msg((strstr(text, keys[i]) != NULL) == set, "%s: %s", keys[i], text);
        free(text);
        OK(rt_trace_open_read(&r, path, &err));
        const rt_trace_manifest *got = rt_trace_info(r);
        ck_assert(got->min_p == m.min_p && got->repetition == m.repetition);
        ck_assert_str_eq(got->stop, m.stop);
        rt_trace_reader_close(r);
        OK(rt_trace_open_append(&w, path, &m, &err));
        OK(rt_trace_close(w, &err));
    }
}
END_TEST

START_TEST(bad_samples_leave_the_archive_as_it_was)
{
    const char *path = "bad.traces";
    char long_id[RT_TRACE_ID_MAX + 2];
    rt_trace_manifest m;
    rt_err err;
    rt_trace_writer *w, *second;
    make_manifest(&m, 1000, 0);
    OK(rt_trace_open_append(&w, path, &m, &err));
    append_range(w, &m, 0, 3, 1);
    OK(rt_trace_flush(w, &err));
    rt_hash before = hash_dir(path);
    memset(long_id, 'a', sizeof long_id - 1);
    long_id[sizeof long_id - 1] = '\0';
    made x;
#define BAD(change, words)                                                                         \
    do {                                                                                           \
        make_sample(&x, &m, 9);                                                                    \
        rt_trace_sample *s = &x.sample;                                                            \
        change;                                                                                    \
        FAILS(rt_trace_append(w, s, &err), words);                                                 \
        drop_sample(&x);                                                                           \
    } while (0)
    BAD(s->id = "", "1 to 1023 bytes");
    BAD(s->id = long_id, "1 to 1023 bytes");
    BAD(s->id = "a\nb", "without control");
    BAD(s->id = "p0/0", "id stands in the archive");
    BAD(s->index = 1, "plan index stands in the archive");
    BAD((s->id = "p0/1", s->index = 1), "stands in the archive already");
    BAD(s->index = -1, "plan index is out of range");
    BAD(x.tokens[2] = 1000, "outside the vocabulary");
    BAD(x.tokens[2] = -1, "outside the vocabulary");
    BAD(s->n_tokens = 0, "tokens");
    BAD(s->prompt_tokens = 100, "prompt_tokens");
    BAD(s->soft_first = 4, "beyond the tokens");
    BAD(x.spans[0].end = 3, "loss spans");
    BAD(x.spans[1].begin = 4, "loss spans");
    BAD(x.spans[1].end = 1000, "loss spans");
    BAD(s->verdict = (rt_verdict)7, "unknown verdict");
    BAD(x.weights[1] = 0, "weight of a span");
    BAD(x.weights[1] = NAN, "weight of a span");
    BAD(x.weights[1] = 1.5e6f, "weight of a span");
    BAD(s->weight = -1, "no number from 0");
    BAD(s->reward = NAN, "reward");
    BAD(s->messages = "[1,", "messages");
    BAD(s->soft.entropy[0] = -5, "sample p4/1: soft row 0");
    FAILS(rt_trace_open_append(&second, path, &m, &err), "another retort is writing");
    OK(rt_trace_flush(w, &err));
    ck_assert(same_hash(before, hash_dir(path)));
    append_range(w, &m, 3, 9, 1); // and it goes on
    OK(rt_trace_close(w, &err));
    check_archive(path, &m, 9);
}
END_TEST

START_TEST(broken_utf8_is_marked_and_bare_samples_work)
{
    const char *path = "text.traces";
    rt_trace_manifest m;
    rt_err err;
    rt_trace_writer *w;
    make_manifest(&m, 1000, 0);
    m.capture = (rt_soft_config){ 0 }; // text and tokens only
    OK(rt_trace_open_append(&w, path, &m, &err));
    const int32_t token = 7;
    rt_trace_sample s, back;
    rt_trace_sample_init(&s);
    rt_trace_sample_init(&back);
    s.id = "x";
    s.reasoning = "ok \xE2\x82 \xFF end\xC3";
    s.tokens = &token;
    s.n_tokens = 1;
    OK(rt_trace_append(w, &s, &err));
    OK(rt_trace_finish(w, &err));
    OK(rt_trace_close(w, &err));
    rt_trace_reader *r;
    OK(rt_trace_open_read(&r, path, &err));
    OK(rt_trace_get(r, 0, RT_TRACE_TEXT | RT_TRACE_SOFT, &back, &err));
    ck_assert_str_eq(back.reasoning, "ok \xEF\xBF\xBD\xEF\xBF\xBD \xEF\xBF\xBD end\xEF\xBF\xBD");
    ck_assert(back.messages == NULL);
    rt_trace_statistics st;
    OK(rt_trace_stats(r, &st, &err));
    ck_assert_int_eq(st.positions, 0);
    rt_trace_sample_free(&back);
    rt_trace_reader_close(r);
}
END_TEST

START_TEST(statistics_count_what_was_made)
{
    const char *path = "stats.traces";
    rt_trace_manifest m;
    rt_err err;
    make_manifest(&m, 1000, 0);
    make_archive(path, &m, 21, false);
    int64_t tokens = 0, rows = 0, items = 0, head = 0;
    double entropy = 0, tail = 0;
    for (int64_t i = 0; i < 21; i++) {
        made x;
        make_sample(&x, &m, i);
        tokens += x.sample.n_tokens;
        rows += x.sample.soft.n;
        items += x.sample.soft.n_items;
        for (int64_t k = 0; k < x.sample.soft.n; k++) {
            head += x.sample.soft.head_n[k];
            entropy += (double)x.sample.soft.entropy[k];
            tail += exp((double)x.sample.soft.tail_logmass[k]);
        }
        drop_sample(&x);
    }
    rt_trace_reader *r;
    rt_trace_statistics s;
    OK(rt_trace_open_read(&r, path, &err));
    OK(rt_trace_stats(r, &s, &err));
    ck_assert_int_eq(s.samples, 21);
    ck_assert_int_eq(s.prompts, 11);
    ck_assert_int_eq(s.tokens, tokens);
    ck_assert_int_eq(s.positions, rows);
    ck_assert_int_eq(s.verdicts[RT_UNVERIFIED], 6);
    ck_assert_int_eq(s.verdicts[RT_UNFINISHED], 5);
    ck_assert_double_eq_tol(s.mean_unique_ids, (double)items / (double)rows, 1e-12);
    ck_assert_double_eq_tol(s.mean_head, (double)head / (double)rows, 1e-12);
    ck_assert_double_eq_tol(s.mean_entropy, entropy / (double)rows, 5e-4);
    ck_assert_double_eq_tol(s.mean_tail_mass, tail / (double)rows, 5e-4);
    ck_assert(s.entropy_p50 <= s.entropy_p90 && s.entropy_p90 <= s.entropy_p99);
    ck_assert_double_eq_tol(s.bytes_per_position, (double)s.record_bytes / (double)rows, 1e-12);
    rt_trace_reader_close(r);
}
END_TEST

// test_trace make PATH N [open]: the archive that tests/check_archive.sh works on
static char **made_args;

START_TEST(make_for_script)
{
    rt_trace_manifest m;
    make_manifest(&m, 1000, 2);
    m.planned = atoll(made_args[3]);
    make_archive(made_args[2], &m, m.planned, made_args[4] == NULL);
}
END_TEST

int main(int argc, char **argv)
{
    rt_log_set_level(RT_LOG_QUIET);
    const suite_test make[] = { { make_for_script, 1 } };
    if (argc >= 4 && strcmp(argv[1], "make") == 0) {
        char here[4096]; // the test itself runs elsewhere
        if (!getcwd(here, sizeof here))
            return 1;
        char *path = argv[2] = rt_path_join(here, argv[2]);
        made_args = argv;
        int failed = suite_run("trace", NULL, make, 1);
        free(path);
        return failed;
    }
    const suite_test tests[] = { { samples_come_back_from_shards_and_from_the_journal, 1 },
                                 { verdicts_need_no_decoding_and_threads_agree, 1 },
                                 { a_reader_sees_a_running_archive, 1 },
                                 { bytes_depend_on_the_samples_alone, 1 },
                                 { only_weights_make_a_version_2, 1 },
                                 { samples_out_of_order_end_in_the_same_bytes, 1 },
                                 { parts_merge_to_what_one_machine_writes, 1 },
                                 { another_manifest_is_refused_by_name, 1 },
                                 { younger_settings_are_absent_or_kept, 1 },
                                 { bad_samples_leave_the_archive_as_it_was, 1 },
                                 { broken_utf8_is_marked_and_bare_samples_work, 1 },
                                 { statistics_count_what_was_made, 1 } };
    return suite_run("trace", NULL, tests, RT_COUNT(tests));
}
