/* test_identity.c: the content identity of files and trees: what counts and what does not, the
   cache that spares a second reading, and what is refused. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/identity.h"
#include "core/formats/safetensors.h"
#include "core/network/weights.h"
#include "tests/suite.h"

enum { LARGE = 3 << 20 };

static void put(const char *path, const char *text)
{
    rt_err err = { 0 };
    OK(rt_file_write(path, text, (int64_t)strlen(text), &err));
}

static rt_identity of(const char *path, rt_identity_use use)
{
    rt_err err = { 0 };
    rt_identity id;
    OK(rt_identity_of(&id, path, use, NULL, &err));
    return id;
}

static bool same(rt_identity a, rt_identity b) { return !strcmp(a.hash.hex, b.hash.hex); }

static rt_identity input(const char *path) { return of(path, RT_IDENTITY_CACHED); }

static void make_model(const char *dir)
{
    char path[64];
    const char *const file[] = { "config.json", "a.safetensors", "inner/b.txt" };
    snprintf(path, sizeof path, "%s/inner", dir);
    rt_err err = { 0 };
    OK(rt_dir_make(path, &err));
    for (int i = 0; i < RT_COUNT(file); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, file[i]);
        put(path, file[i]);
    }
}

START_TEST(content)
{
    rt_err err = { 0 };
    rt_hash hash;
    make_model("a");
    make_model("b");
    ck_assert(same(input("a"), input("b/")));
    ck_assert_int_eq(input("a").bytes, 11 + 13 + 11);
    OK(rt_hash_file(&hash, "a/config.json", &err));
    ck_assert_str_eq(input("a/config.json").hash.hex, hash.hex);
    const char *const beside[] = { "b/lock",      "b/metrics.jsonl", "b/events.out.tfevents.0.retort", "b/checkpoint.safetensors",
                                   "b/README.md", "b/.gitignore",    "b/a.safetensors.tmp.123" };
    for (int i = 0; i < RT_COUNT(beside); i++) {
        put(beside[i], "x");
        ck_assert_msg(same(input("a"), input("b")), "%s counts", beside[i]);
    }
    /* a README of a folder of texts is a text */
    OK(rt_dir_make("texts", &err));
    put("texts/one.txt", "1");
    rt_identity before = input("texts");
    put("texts/README.md", "2");
    ck_assert(!same(before, input("texts")));
    const char *const counts[] = { "b/inner/b.txt", "b/inner/c.txt", "b/config.json" };
    for (int i = 0; i < RT_COUNT(counts); i++) {
        before = input("b");
        put(counts[i], "changed");
        ck_assert_msg(!same(before, input("b")), "%s does not count", counts[i]);
    }
    before = input("b");
    ck_assert_int_eq(rename("b/inner/c.txt", "b/inner/d.txt"), 0);
    ck_assert(!same(before, input("b")));
    cJSON *files = rt_json_object();
    rt_identity id;
    OK(rt_identity_of(&id, "a", RT_IDENTITY_READ, files, &err));
    ck_assert_int_eq(cJSON_GetArraySize(files), 3);
    ck_assert_str_eq(rt_json_find(rt_json_find(files, "config.json"), "hash")->valuestring,
                     hash.hex);
    ck_assert(rt_json_find(rt_json_find(files, "inner/b.txt"), "bytes")->valuedouble == 11);
    cJSON_Delete(files);
}
END_TEST

START_TEST(parts)
{
    put("m-00001-of-00002.gguf", "one");
    put("m-00002-of-00002.gguf", "two");
    rt_identity before = input("m-00001-of-00002.gguf");
    ck_assert_int_eq(before.bytes, 6);
    ck_assert(same(before, input("m-00002-of-00002.gguf")));
    put("m-00002-of-00002.gguf", "2wo");
    ck_assert(!same(before, input("m-00001-of-00002.gguf")));
    unlink("m-00002-of-00002.gguf");
    rt_err err = { 0 };
    rt_identity id;
    FAILS(rt_identity_of(&id, "m-00001-of-00002.gguf", RT_IDENTITY_READ, NULL, &err),
          "m-00002-of-00002.gguf");
}
END_TEST

/* A file large enough for the cache, changed long ago. */
static void put_large(const char *path, char fill)
{
    rt_err err = { 0 };
    char *data = malloc(LARGE);
    ck_assert_ptr_nonnull(data);
    memset(data, fill, LARGE);
    OK(rt_file_write(path, data, LARGE, &err));
    free(data);
}

static void spoil_cache(void)
{
    char **name, path[300], text[80];
    int n;
    rt_err err = { 0 };
    OK(rt_dir_list(&name, &n, "cache/retort", &err));
    ck_assert_int_eq(n, 1);
    snprintf(path, sizeof path, "cache/retort/%s", name[0]);
    FILE *f = fopen(path, "r+");
    ck_assert(f && fgets(text, sizeof text, f));
    ck_assert_uint_eq(strlen(text), 66);
    memset(text + 33, 'f', 32);
    rewind(f);
    fputs(text, f);
    fclose(f);
    rt_names_free(name, n);
}

START_TEST(cache)
{
    char home[4096], folder[4200];
    static const char FALSE_HASH[] = "ffffffffffffffffffffffffffffffff";
    ck_assert_ptr_nonnull(getcwd(home, sizeof home));
    snprintf(folder, sizeof folder, "%s/cache", home);
    setenv("XDG_CACHE_HOME", folder, 1);
    put_large("large", 'a');
    rt_identity first = input("large");
    ck_assert(!rt_path_exists("cache/retort")); /* changed just now: it may change again unseen */
    ck_assert(!of("large", RT_IDENTITY_STAT).known);
    sleep(3);
    ck_assert(same(first, input("large")));
    ck_assert(of("large", RT_IDENTITY_STAT).known);
    ck_assert(same(first, of("large", RT_IDENTITY_STAT)));
    spoil_cache(); /* now a false value shows who believes it */
    ck_assert_str_eq(input("large").hash.hex, FALSE_HASH);
    ck_assert(same(first, of("large", RT_IDENTITY_READ)));
    ck_assert(same(first, input("large"))); /* reading put it right */
    spoil_cache();
    struct timespec past[2] = { { 1000000000, 0 }, { 1000000000, 0 } };
    ck_assert_int_eq(utimensat(AT_FDCWD, "large", past, 0), 0);
    ck_assert(same(first, input("large"))); /* other times: not believed */
    unsetenv("XDG_CACHE_HOME");
}
END_TEST

/* A teacher's weights: `retort sample` believes the cache, `inspect --hash` reads. */
START_TEST(weights)
{
    char home[4096], folder[4200];
    rt_err err = { 0 };
    rt_hash read, known;
    rt_safetensors_writer w;
    int64_t bytes = 0;
    const int64_t n = LARGE / 4;
    char *data = calloc(1, LARGE);
    ck_assert(data && getcwd(home, sizeof home));
    snprintf(folder, sizeof folder, "%s/cache", home);
    setenv("XDG_CACHE_HOME", folder, 1);
    rt_safetensors_writer_init(&w, "m", 0);
    rt_safetensors_writer_add(&w, "x", RT_F32, 1, &n);
    OK(rt_safetensors_writer_begin(&w, &err) || rt_safetensors_writer_push(&w, data, LARGE, &err) ||
       rt_safetensors_writer_commit(&w, &err));
    free(data);
    sleep(3);
    OK(rt_model_hash(&read, "m", &err) || rt_model_identity(&known, &bytes, "m", &err));
    ck_assert_str_eq(read.hex, known.hex);
    ck_assert_int_gt(bytes, LARGE);
    spoil_cache();
    OK(rt_model_identity(&known, &bytes, "m", &err));
    ck_assert_int_eq(bytes, 0);
    ck_assert_str_ne(read.hex, known.hex);
    OK(rt_model_hash(&known, "m", &err));
    ck_assert_str_eq(read.hex, known.hex);
    put("m/model-00001-of-00001.safetensors", "another file");
    OK(rt_model_identity(&known, &bytes, "m", &err)); /* the directory changed: not believed */
    ck_assert_str_eq(read.hex, known.hex);
    unsetenv("XDG_CACHE_HOME");
}
END_TEST

START_TEST(refusals)
{
    rt_err err = { 0 };
    rt_identity id;
    FAILS(rt_identity_of(&id, "none", RT_IDENTITY_READ, NULL, &err), "none: No such");
    ck_assert_int_eq(mkfifo("pipe", 0600), 0);
    FAILS(rt_identity_of(&id, "pipe", RT_IDENTITY_READ, NULL, &err), "pipe: neither");
    ck_assert_int_eq(mkdir("loop", 0700), 0);
    ck_assert_int_eq(symlink(".", "loop/again"), 0);
    FAILS(rt_identity_of(&id, "loop", RT_IDENTITY_READ, NULL, &err), "folders deep");
    put("file", "x");
    rt_interrupt_request();
    FAILS(rt_identity_of(&id, "file", RT_IDENTITY_READ, NULL, &err), "interrupted");
    ck_assert_int_eq(err.exit_code, 130);
}
END_TEST

int main(void)
{
    /* refusals last: an interruption cannot be taken back */
    const suite_test tests[] = {
        { content, 1 }, { parts, 1 }, { cache, 1 }, { weights, 1 }, { refusals, 1 }
    };
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    return suite_run("identity", NULL, tests, RT_COUNT(tests));
}
