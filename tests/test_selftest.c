/* The self-test of an export sees what is broken: a GGUF held against a source that differs from it
 * in one thing. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "quant/export.h"
#include "tests/suite.h"

static const char SOURCE[] = RT_SOURCE_DIR "/tests/golden/student";
static rt_err err;

static char *text_of(const char *dir, const char *name, int64_t *bytes)
{
    char *path = rt_path_join(dir, name), *data;
    OK(rt_file_read(&data, bytes, path, 1 << 24, &err));
    free(path);
    return data;
}

/* A copy of the student in dir; in file `name`, `from` becomes `to`. */
static void copy_student(const char *dir, const char *name, const char *from, const char *to)
{
    static const char *const FILES[] = { "config.json", "generation_config.json",
                                         "model.safetensors", "tokenizer.json",
                                         "tokenizer_config.json" };
    OK(rt_dir_make(dir, &err));
    for (int i = 0; i < RT_COUNT(FILES); i++) {
        int64_t bytes;
        char *data = text_of(SOURCE, FILES[i], &bytes), *path = rt_path_join(dir, FILES[i]);
        if (name && !strcmp(name, FILES[i])) {
            char *at = memmem(data, (size_t)bytes, from, strlen(from));
            ck_assert_ptr_nonnull(at);
            int64_t before = at - data, more = (int64_t)strlen(to) - (int64_t)strlen(from);
            char *grown = malloc((size_t)(bytes + more) + 1);
            memcpy(grown, data, (size_t)before);
            memcpy(grown + before, to, strlen(to));
            memcpy(grown + before + strlen(to), at + strlen(from),
                   (size_t)(bytes - before) - strlen(from) + 1);
            free(data);
            data = grown;
            bytes += more;
        }
        OK(rt_file_write(path, data, bytes, &err));
        free(path);
        free(data);
    }
}

static void write_gguf(const char *mix)
{
    rt_export_report r;
    const rt_export e = { .dir = SOURCE, .out = "s.gguf", .mix = rt_mix_find(mix) };
    OK(rt_export_gguf(&e, &r, &err));
    ck_assert(r.test.tokens > 50 && r.test.rows > 100 && r.test.kl < r.test.limit);
}

static int test_against(const char *source, rt_selftest_report *r)
{
    const rt_selftest t = { .source = source,
                            .written = "s.gguf",
                            .name = "s.gguf",
                            .extent = RT_SELFTEST_FULL,
                            .error = 0.001,
                            .threads = 1 };
    return rt_selftest_run(&t, r, &err);
}

static const struct {
    const char *file, *from, *to, *says;
} CHANGES[] = {
    { "config.json", "\"rope_theta\": 10000", "\"rope_theta\": 20000", "rotary angles" },
    { "config.json", "\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": 1e-05", "norm epsilon" },
    { "tokenizer_config.json", "message.content + '<|end|>'", "message.content + '<|pad|>'",
      "would never stop" },
    { "tokenizer.json", "\"add_prefix_space\": false", "\"add_prefix_space\": true",
      "not the source's" },
};

START_TEST(one_thing_differs)
{
    rt_selftest_report r;
    write_gguf("F16");
    copy_student("same", NULL, NULL, NULL);
    OK(test_against("same", &r));
    ck_assert(r.kl < 1e-4 && r.texts == 28 && !strcmp(r.stop, "<|end|>"));
    copy_student("other", CHANGES[_i].file, CHANGES[_i].from, CHANGES[_i].to);
    FAILS(test_against("other", &r), CHANGES[_i].says);
}
END_TEST

/* A row of one matrix, and one of a norm, of the source are others. */
START_TEST(weights_differ)
{
    rt_selftest_report r;
    write_gguf("F32");
    copy_student("w", NULL, NULL, NULL);
    int64_t bytes;
    char *data = text_of(SOURCE, "model.safetensors", &bytes);
    for (int64_t at = bytes - 48 * 4; at < bytes; at++)
        data[at] = (char)(at * 5);
    OK(rt_file_write("w/model.safetensors", data, bytes, &err));
    free(data);
    FAILS(test_against("w", &r), "is not the source's");
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { one_thing_differs, RT_COUNT(CHANGES) }, { weights_differ, 1 } };
    return suite_run("selftest", NULL, tests, RT_COUNT(tests));
}
