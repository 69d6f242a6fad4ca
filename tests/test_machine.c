/* test_machine.c: errors, files, JSON, soft targets, log formats, signals. Checked against closed
   forms and known answers; failures of the disk are provoked (size limit, /dev/full, no
   permission). */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/process.h"
#include "core/base/rng.h"
#include "core/device/soft.h"
#include "tests/suite.h"

// --------------------------------------------------------------------------------- errors

START_TEST(err_texts)
{
    rt_err e = { 0 };
    ck_assert_int_eq(rt_fail(&e, "%s: line\n\x1b[31mred\x7f", "f"), -1);
    ck_assert_str_eq(e.text, "f: line ?[31mred?");
    ck_assert_int_eq(e.exit_code, 1);
    ck_assert_int_eq(rt_usage(&e, "bad flag"), -1);
    ck_assert_int_eq(rt_wrap(&e, "train %d", 3), -1);
    ck_assert_str_eq(e.text, "train 3: bad flag");
    ck_assert_int_eq(e.exit_code, 2);
    rt_fail(&e, "again: %s", e.text); // arguments may point into the object itself
    ck_assert_str_eq(e.text, "again: train 3: bad flag");
    ck_assert_int_eq(rt_fail(NULL, "nobody listens"), -1);

    char longer[4000];
    memset(longer, 'a', sizeof longer);
    for (int i = 900; i < 3000; i += 2)
        memcpy(longer + i, "\xc3\xa9", 2);
    longer[sizeof longer - 1] = 0;
    for (int shift = 0; shift < 2; shift++) { // the cut must not split the two-byte letters
        rt_fail(&e, "%s", longer + shift);
        size_t n = strlen(e.text);
        ck_assert_uint_lt(n, sizeof e.text);
        ck_assert_uint_gt(n, sizeof e.text - 6);
        ck_assert_str_eq(e.text + n - 3, "...");
        ck_assert_uint_eq((unsigned char)e.text[n - 4], 0xa9);
    }
    rt_wrap(&e, "%s", "outer");
    ck_assert_int_eq(strncmp(e.text, "outer: aaa", 10), 0);
}
END_TEST

static void make_bug(void) { rt_bug("on purpose"); }
static void interrupt_once(void)
{
    rt_err err;
    if (rt_process_prepare(&err))
        abort();
    raise(SIGINT);
    if (!rt_interrupted())
        abort();
}
static void interrupt_twice(void)
{
    interrupt_once();
    raise(SIGTERM);
}
static void break_pipe(void)
{
    int fd[2];
    rt_err err;
    if (rt_process_prepare(&err) || pipe(fd) || dup2(fd[1], STDOUT_FILENO) < 0 || close(fd[0]) || close(fd[1]))
        abort();
    puts("nobody reads this");
    rt_process_close_stdout(&err);
}

START_TEST(process_signals)
{
    ck_assert_int_eq(child_signal(make_bug), SIGABRT);
    ck_assert_int_eq(child_signal(interrupt_once), 0);
    ck_assert_int_eq(child_signal(interrupt_twice), SIGTERM);
    ck_assert_int_eq(child_signal(break_pipe), SIGPIPE);
}
END_TEST

// --------------------------------------------------------------------------------- files

START_TEST(file_refusals)
{
    rt_err err = { 0 };
    rt_out out;
    rt_map map;
    const char *locked = "locked", *inside = "locked/x", *missing = "no/such/x", *plain = "plain",
               *below = "plain/x";
    char *text;
    int64_t bytes;
    ck_assert_int_eq(rt_out_open(&out, "/dev/null", &err), -1);
    HAS(err, "/dev/null: is not a regular file");
    rt_out_abort(&out);
    ck_assert_int_eq(rt_out_open(&out, ".", &err), -1);
    HAS(err, "is a directory");
    ck_assert_int_eq(rt_out_open(&out, missing, &err), -1);
    HAS(err, "cannot create: No such file");
    ck_assert_int_eq(rt_file_read(&text, &bytes, ".", 10, &err), -1);
    HAS(err, "is a directory");
    ck_assert_int_eq(rt_map_open(&map, missing, &err), -1);
    rt_map_close(&map);
    ck_assert_int_eq(rt_map_open(&map, "/dev/zero", &err), -1);
    HAS(err, "not a regular file");
    ck_assert_int_eq(rt_file_write(plain, "0123456789", 10, &err), 0);
    ck_assert_int_eq(rt_file_read(&text, &bytes, plain, 9, &err), -1);
    HAS(err, "larger than the 9 bytes");
    ck_assert_int_eq(rt_file_read(&text, &bytes, plain, 10, &err), 0);
    free(text);
    ck_assert_int_eq(rt_file_read(&text, &bytes, "/dev/zero", 1000000, &err), -1);
    ck_assert_int_eq(rt_dir_make(below, &err), -1);
    HAS(err, "plain: exists and is not a directory");
    ck_assert_int_eq(rt_dir_make(plain, &err), -1);
    HAS(err, "exists and is not a directory");

    ck_assert_int_eq(rt_dir_make(locked, &err), 0);
    ck_assert_int_eq(chmod(locked, 0555), 0);
    bool root = geteuid() == 0;
    if (root)
        ck_assert_int_eq(seteuid(65534), 0); // permissions do not bind root
    ck_assert_int_eq(rt_file_write(inside, "x", 1, &err), -1);
    if (root)
        ck_assert_int_eq(seteuid(0), 0);
    HAS(err, "locked/x: cannot create: Permission denied");
    ck_assert_int_eq(entries(locked), 0);
}
END_TEST

START_TEST(file_maps_and_hashes)
{
    rt_err err;
    rt_map map;
    rt_hash hash;
    const char *path = "data", *empty = "empty";
    char *text;
    int64_t n = 3000001, bytes;
    uint8_t *data = malloc((size_t)n);
    for (int64_t i = 0; i < n; i++)
        data[i] = (uint8_t)(i * 7 + 3);
    ck_assert_int_eq(rt_file_write(path, data, n, &err) || rt_file_write(empty, "", 0, &err), 0);
    ck_assert_int_eq(rt_map_open(&map, path, &err), 0);
    ck_assert_int_eq(map.bytes, n);
    ck_assert_int_eq(memcmp(map.data, data, (size_t)n), 0);
    rt_map_close(&map);
    ck_assert_int_eq(rt_map_open(&map, empty, &err), 0);
    ck_assert(map.bytes == 0 && map.data != NULL);
    rt_map_close(&map);
    ck_assert_int_eq(rt_file_read(&text, &bytes, path, n, &err), 0);
    ck_assert(bytes == n && memcmp(text, data, (size_t)n) == 0 && text[n] == 0);
    free(text);
    // Known answers of the reference implementation (Python package xxhash).
    ck_assert_str_eq(rt_hash_bytes("", 0).hex, "99aa06d3014798d86001c324468d497f");
    ck_assert_str_eq(rt_hash_bytes("abc", 3).hex, "06b05ab6733a618578af5f94892f3950");
    ck_assert_int_eq(rt_hash_file(&hash, path, &err), 0);
    ck_assert_str_eq(hash.hex, "7077137ba79c57e880ab5b6b949147b8");
    ck_assert_uint_eq(rt_hash64(data, n, 42), 0x4c805b2b26c6225bULL);
    ck_assert_int_eq(rt_path_size(path, &bytes, &err), 0);
    ck_assert_int_eq(bytes, n);
    free(data);
}
END_TEST

/* What cannot be looked at is not absent. */
START_TEST(paths_untold)
{
    ck_assert(symlink("loop", "loop") == 0 && symlink("nowhere", "broken") == 0);
    ck_assert(rt_path_exists("loop"));
    ck_assert(!rt_path_exists("broken") && !rt_path_exists("none") && !rt_path_exists(""));
    rt_err err = { 0 };
    OK(rt_file_write("plain", "", 0, &err));
    ck_assert(rt_path_exists("plain") && !rt_path_exists("plain/below"));
}
END_TEST

START_TEST(file_directories)
{
    rt_err err;
    const char *deep = "x//y/z/";
    char **names, temp[64];
    int n;
    ck_assert_int_eq(rt_dir_make(deep, &err) || rt_dir_make(deep, &err), 0);
    ck_assert(rt_path_is_dir(deep));
    snprintf(temp, sizeof temp, "own.tmp.%ld", (long)getpid());
    // 4194304 is the largest process id Linux gives, plus one: nobody has it.
    const char *files[] = { "b",  "a",          "ab",     "B",    "dead.tmp.4194305",
                            temp, "live.tmp.1", "x.tmp.", "tmp.7" };
    for (int i = 0; i < RT_COUNT(files); i++) {
        char *path = rt_path_join(deep, files[i]);
        ck_assert_int_eq(rt_file_write(path, "", 0, &err), 0);
        free(path);
    }
    ck_assert_int_eq(rt_dir_clean_temps(deep, &err), 0);
    ck_assert_int_eq(rt_dir_list(&names, &n, deep, &err), 0);
    const char *left[] = { "B", "a", "ab", "b", "live.tmp.1", "tmp.7", "x.tmp." };
    ck_assert_int_eq(n, RT_COUNT(left));
    for (int i = 0; i < n; i++)
        ck_assert_str_eq(names[i], left[i]);
    rt_names_free(names, n);
    ck_assert_str_eq(rt_path_base("a/b/c.txt"), "c.txt");
    ck_assert_str_eq(rt_path_base("c.txt"), "c.txt");
    char *joined = rt_path_join("", "c");
    ck_assert_str_eq(joined, "c");
    free(joined);
}
END_TEST

// --------------------------------------------------------------------------------- JSON

static int parse(const char *text, rt_err *err)
{
    cJSON *json;
    int rc = rt_json_parse(&json, text, (int64_t)strlen(text), "doc", err);
    ck_assert((rc == 0) == (json != NULL));
    cJSON_Delete(json);
    return rc;
}

START_TEST(json_traps)
{
    const struct {
        const char *text, *says;
    } BAD[] = {
        { "", "doc:1:1: empty" },
        { "  ", "malformed" },
        { "{\"a\":1", "malformed" },
        { "[1,\n 2,,]", "doc:2:4: malformed" },
        { "[1] x", "doc:1:5: more text" },
        { "{} {}", "doc:1:4: more text" },
        { "{\"a\":1,\"b\":2,\"a\":3}", "\"a\" occurs twice" },
        { "{\"x\":[{\"k\":1,\"k\":1}]}", "\"k\" occurs twice" },
        { "{\"a\":1,\"\\u0061\":3}", "\"a\" occurs twice" },
        { "[1e999]", "too large" },
        { "{\"a\":-1e400}", "too large" },
        { "\"a\\u0000b\"", "\\u0000" },
        { "nul", "malformed" },
        { "'a'", "malformed" },
        { "[1 2]", "malformed" },
        { "\"\\ud800\"", "malformed" },
    };
    rt_err err;
    for (int i = 0; i < RT_COUNT(BAD); i++) {
        memset(&err, 0, sizeof err);
        ck_assert_msg(parse(BAD[i].text, &err) == -1, "accepted: %s", BAD[i].text);
        HAS(err, BAD[i].says);
    }
    cJSON *json;
    ck_assert_int_eq(rt_json_parse(&json, "[1\0]", 4, "doc", &err), -1);
    HAS(err, "doc:1:3: NUL");
    // Exactly the bytes given are read, with no NUL behind them.
    char *exact = malloc(4);
    memcpy(exact, "1234", 4);
    ck_assert_int_eq(rt_json_parse(&json, exact, 4, "doc", &err), 0);
    ck_assert(json->valuedouble == 1234);
    cJSON_Delete(json);
    free(exact);
    ck_assert_int_eq(parse("{\"a\":1,\"A\":2, \"c\":\"{[\\\"[{\"}\n\t ", &err), 0);

    char deep[200];
    for (int depth = RT_JSON_MAX_DEPTH; depth <= RT_JSON_MAX_DEPTH + 1; depth++) {
        memset(deep, '[', (size_t)depth);
        memset(deep + depth, ']', (size_t)depth);
        deep[2 * depth] = 0;
        ck_assert_int_eq(parse(deep, &err), depth > RT_JSON_MAX_DEPTH ? -1 : 0);
    }
    HAS(err, "nested too deeply");
}
END_TEST

START_TEST(json_getters)
{
    rt_err err = { 0 };
    cJSON *j;
    const char *text = "{\"n\":7,\"big\":9007199254740993,\"max\":9007199254740991,\"half\":0.5,"
                       "\"s\":\"x\",\"t\":true,\"z\":null,\"a\":[1],\"u\":\"18446744073709551615\","
                       "\"v\":\"18446744073709551616\",\"w\":\"-1\",\"N\":8}";
    ck_assert_int_eq(rt_json_parse(&j, text, (int64_t)strlen(text), "doc", &err), 0);
    int64_t i = -5;
    uint64_t u = 0;
    double d = 0;
    bool b = false;
    const char *s = NULL;
    const cJSON *c = NULL;
    ck_assert(rt_json_get_i64(j, "n", 0, 7, &i, &err) == 0 && i == 7);
    ck_assert(rt_json_get_i64(j, "max", 0, INT64_MAX, &i, &err) == 0 && i == 9007199254740991);
    ck_assert_int_eq(rt_json_get_i64(j, "big", 0, INT64_MAX, &i, &err), -1);
    ck_assert_int_eq(rt_json_get_i64(j, "n", 8, 9, &i, &err), -1);
    HAS(err, "key \"n\" must be an integer from 8 to 9, not 7");
    ck_assert_int_eq(rt_json_get_i64(j, "half", 0, 9, &i, &err), -1);
    ck_assert_int_eq(rt_json_get_i64(j, "s", 0, 9, &i, &err), -1);
    ck_assert_int_eq(rt_json_get_i64(j, "t", 0, 9, &i, &err), -1);
    ck_assert_int_eq(rt_json_get_i64(j, "z", 0, 9, &i, &err), -1);
    HAS(err, "key \"z\" is missing");
    ck_assert_int_eq(rt_json_get_i64(NULL, "z", 0, 9, &i, &err), -1);
    i = 42;
    ck_assert(rt_json_opt_i64(j, "z", 0, 9, &i, &err) == 0 && i == 42);
    ck_assert(rt_json_opt_i64(j, "absent", 0, 9, &i, &err) == 0 && i == 42);
    ck_assert_int_eq(rt_json_opt_i64(j, "s", 0, 9, &i, &err), -1);
    ck_assert(rt_json_get_u64(j, "u", &u, &err) == 0 && u == UINT64_MAX);
    ck_assert_int_eq(rt_json_get_u64(j, "v", &u, &err), -1);
    ck_assert_int_eq(rt_json_get_u64(j, "w", &u, &err), -1);
    ck_assert_int_eq(rt_json_get_u64(j, "n", &u, &err), -1);
    ck_assert(rt_json_get_f64(j, "half", &d, &err) == 0 && d == 0.5);
    ck_assert_int_eq(rt_json_get_f64(j, "s", &d, &err), -1);
    ck_assert(rt_json_opt_f64(j, "nope", &d, &err) == 0 && d == 0.5);
    ck_assert(rt_json_opt_bool(j, "t", &b, &err) == 0 && b);
    ck_assert_int_eq(rt_json_opt_bool(j, "n", &b, &err), -1);
    ck_assert(rt_json_get_str(j, "s", &s, &err) == 0 && !strcmp(s, "x"));
    ck_assert_int_eq(rt_json_opt_str(j, "n", &s, &err), -1);
    ck_assert(rt_json_get_array(j, "a", &c, &err) == 0 && cJSON_GetArraySize(c) == 1);
    ck_assert_int_eq(rt_json_get_object(j, "a", &c, &err), -1);
    HAS(err, "key \"a\" must be an object, not [1]");
    cJSON_Delete(j);
}
END_TEST

START_TEST(json_round_trip)
{
    rt_err err;
    cJSON *json = rt_json_object(), *numbers = rt_json_array(), *back;
    double sent[2000];
    for (int i = 0; i < RT_COUNT(sent); i++) { // any bit pattern that is finite
        rt_u32x4 r = rt_rng_bits(11, RT_RNG_DATA, (uint64_t)i);
        uint64_t bits = (uint64_t)r.v[0] << 32 | r.v[1];
        memcpy(&sent[i], &bits, sizeof bits);
        if (i % 4 == 0 || !isfinite(sent[i]))
            sent[i] = (double)(int32_t)r.v[2] / (i % 8 ? 1 : 1024);
        rt_json_put(numbers, NULL, cJSON_CreateNumber(sent[i]));
    }
    rt_json_put(json, "numbers", numbers);
    rt_json_put_str(json, "text \"\\\n\x01", "caf\xc3\xa9 \"\\/\b\f\n\r\t\x1f");
    rt_json_put_str(json, "cut", "a\xc2 b\xff");
    rt_json_put_u64(json, "seed", UINT64_MAX);
    rt_json_put_i64(json, "safe", -9007199254740991);
    rt_json_put_num(json, "nan", NAN);
    rt_json_put_bool(json, "yes", true);
    rt_json_put(json, "empty", rt_json_object());
    const char *path = "j.json";
    char *before = rt_json_text(json), *after;
    ck_assert_int_eq(rt_json_save(json, path, &err) || rt_json_load(&back, path, &err), 0);
    after = rt_json_text(back);
    ck_assert_str_eq(before, after);
    const cJSON *c = rt_json_find(back, "numbers")->child;
    for (int i = 0; i < RT_COUNT(sent); i++, c = c->next)
        ck_assert_msg(c->valuedouble == sent[i], "%.17g came back as %.17g", sent[i],
                      c->valuedouble);
    ck_assert(cJSON_IsNull(rt_json_find(back, "nan")));
    ck_assert_str_eq(rt_json_find(back, "cut")->valuestring, "a\xef\xbf\xbd b\xef\xbf\xbd");
    ck_assert_str_eq(rt_json_find(back, "text \"\\\n\x01")->valuestring,
                     "caf\xc3\xa9 \"\\/\b\f\n\r\t\x1f");
    cJSON_Delete(json);
    cJSON_Delete(back);
    free(before);
    free(after);
    json = rt_json_object();
    rt_json_put_str(json, "a", "x");
    rt_json_put(json, "b", cJSON_CreateIntArray((int[]){ 1, 2 }, 2));
    before = rt_json_pretty(json);
    ck_assert_str_eq(before, "{\n  \"a\": \"x\",\n  \"b\": [1, 2]\n}\n");
    free(before);
    cJSON_Delete(json);
}
END_TEST

// --------------------------------------------------------------------------------- soft targets,
// log

START_TEST(soft_rows)
{
    rt_soft a, b;
    rt_soft_init(&a);
    rt_soft_init(&b);
    for (int r = 0; r < 200; r++) {
        int64_t items = r % 5, row = rt_soft_add_row(&a, items, 2);
        ck_assert_int_eq(row, r);
        a.entropy[row] = (float)r;
        a.logz[2 * row + 1] = (float)(1000 + r);
        for (int64_t i = 0; i < items; i++)
            a.id[a.offset[row] + i] = 10 * r + (int)i;
    }
    ck_assert_int_eq(a.n_items, 400);
    for (int pass = 0; pass < 2; pass++) { // the second pass reuses cleared memory
        rt_soft_clear(&b);
        for (int first = 0; first < 200; first += 50)
            rt_soft_append(&b, &a, first, 50, 2);
        rt_soft_append(&b, &a, 3, 2, 2);
        ck_assert_int_eq(b.n, 202);
        for (int r = 0; r < 202; r++) {
            int from = r < 200 ? r : r - 197;
            ck_assert(b.entropy[r] == (float)from && b.logz[2 * r + 1] == (float)(1000 + from));
            ck_assert_int_eq(b.offset[r + 1] - b.offset[r], from % 5);
            for (int i = 0; i < from % 5; i++)
                ck_assert_int_eq(b.id[b.offset[r] + i], 10 * from + i);
        }
    }
    rt_soft_free(&a);
    rt_soft_free(&b);
}
END_TEST

START_TEST(log_formats)
{
    const struct {
        double value;
        const char *bytes, *count, *seconds;
    } ROWS[] = {
        { 0, "0 B", "0", "0.0s" },
        { 59.6, "59 B", "60", "1m00s" },
        { 192, "192 B", "192", "3m12s" },
        { 999.6, "999 B", "1.00k", "16m40s" },
        { 1023, "1023 B", "1.02k", "17m03s" },
        { 1024, "1.00 KiB", "1.02k", "17m04s" },
        { 20200, "19.7 KiB", "20.2k", "5h36m" },
        { 1331439861, "1.24 GiB", "1.33G", "15410d04h" },
    };
    char buf[32];
    for (int i = 0; i < RT_COUNT(ROWS); i++) {
        ck_assert_str_eq(rt_fmt_bytes(buf, sizeof buf, (int64_t)ROWS[i].value), ROWS[i].bytes);
        ck_assert_str_eq(rt_fmt_count(buf, sizeof buf, ROWS[i].value), ROWS[i].count);
        ck_assert_str_eq(rt_fmt_seconds(buf, sizeof buf, ROWS[i].value), ROWS[i].seconds);
    }
    ck_assert_int_gt(rt_peak_rss_bytes(), 1 << 20);
    double t = rt_now();
    ck_assert(rt_now() >= t);
}
END_TEST

/* The line that stands at the end, with so many of 600 done and 64 of them begun side by side. */
static bool shows_eta(int64_t done)
{
    char text[400] = "";
    rt_progress p;
    FILE *f = tmpfile();
    int kept = dup(2);
    ck_assert(f && kept >= 0 && dup2(fileno(f), 2) == 2);
    rt_progress_begin(&p, "answers", 100, 600);
    p.together = 64;
    rt_progress_update(&p, 100 + done, NULL);
    rt_progress_end(&p);
    dup2(kept, 2);
    close(kept);
    rewind(f);
    ck_assert_msg(fgets(text, sizeof text, f) && strstr(text, "answers 1"), "%s", text);
    fclose(f);
    return strstr(text, "ETA") != NULL;
}

/* Of work done side by side the first ones done say little of the rest. */
START_TEST(progress_eta) { ck_assert(!shows_eta(1) && !shows_eta(63) && shows_eta(64)); }
END_TEST

int main(void)
{
    const suite_test tests[] = { { err_texts, 1 },       { process_signals, 1 },
                                 { file_refusals, 1 },   { file_maps_and_hashes, 1 },
                                 { paths_untold, 1 },    { file_directories, 1 },
                                 { json_traps, 1 },      { json_getters, 1 },
                                 { json_round_trip, 1 }, { soft_rows, 1 },
                                 { log_formats, 1 },     { progress_eta, 1 } };
    return suite_run("machine", NULL, tests, RT_COUNT(tests));
}
