/* test_integrity.c: a student, a checkpoint and a GGUF, each of at most 32 KiB, as retort writes
   them: every byte damaged in turn is seen by `verify`; what another program or an older retort
   wrote opens as before; damaged weights are never used; of two checkpoints one may be damaged. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/option.h"
#include "core/formats/gguf.h"
#include "core/formats/listing.h"
#include "core/formats/safetensors.h"
#include "core/network/weights.h"
#include "corpora/integrity.h"
#include "quant/gguf_write.h"
#include "student/checkpoint.h"
#include "tests/command.h"
#include "tests/suite.h"

#define TOKENIZER RT_SOURCE_DIR "/tests/golden/tiny"

static rt_err err;

extern const rt_command rt_command_train, rt_command_quantize, rt_command_eval;

static int run(const rt_command *cmd, const char *words) { return run_command(cmd, words, &err); }

static const char CONFIG[] =
    "{\"model_type\":\"llama\",\"num_hidden_layers\":1,\"hidden_size\":4,\"num_attention_heads\":1,"
    "\"num_key_value_heads\":1,\"intermediate_size\":4,\"rms_norm_eps\":1e-6,"
    "\"max_position_embeddings\":64,\"tie_word_embeddings\":true,\"rope_theta\":10000.0}";

static void make_student(void)
{
    static const char LINES[] = "{\"text\":\"aba caba\"}\n{\"text\":\"abacus and more\"}\n";
    OK(rt_file_write("config.json", CONFIG, sizeof CONFIG - 1, &err));
    OK(rt_file_write("d.jsonl", LINES, sizeof LINES - 1, &err));
    // the words of run() end at spaces, and the tree may stand in a folder with one
    ck_assert(symlink(TOKENIZER, "tiny") == 0 || errno == EEXIST);
    OK(run(&rt_command_train, "--config config.json --tokenizer tiny"
                              " --data d.jsonl --loss hard --steps 2 --out s --threads 1"));
}

static rt_integrity verify(const char *path)
{
    rt_integrity c = { 0 };
    rt_err why;
    ck_assert_msg(rt_integrity_check(&c, path, &why) == 0, "%s", why.text);
    return c;
}

/* Bit (k + at) % 8 of byte `at` of a file, turned over. */
static void flip(int fd, int64_t at, int k)
{
    uint8_t byte;
    ck_assert(pread(fd, &byte, 1, at) == 1);
    byte ^= (uint8_t)(1 << (k + at) % 8);
    ck_assert(pwrite(fd, &byte, 1, at) == 1);
}

/* Every byte of the file at path, which belongs to what stands at whole. */
static int64_t damage_each(const char *path, const char *whole, int k)
{
    int64_t bytes;
    int fd = open(path, O_RDWR);
    OK(rt_path_size(path, &bytes, &err));
    ck_assert(fd >= 0 && bytes <= 32 << 10);
    for (int64_t at = 0; at < bytes; at++) {
        flip(fd, at, k);
        rt_integrity c = { 0 };
        rt_err why;
        bool seen = rt_integrity_check(&c, whole, &why) || c.damaged;
        ck_assert_msg(seen, "%s: byte %lld of %lld, bit %lld", path, (long long)at,
                      (long long)bytes, (long long)((k + at) % 8));
        flip(fd, at, k);
    }
    close(fd);
    ck_assert_int_eq(verify(whole).damaged, 0);
    return bytes;
}

START_TEST(student_bytes)
{
    char **name;
    int n;
    int64_t bytes = 0;
    make_student();
    ck_assert_int_eq(verify("s").damaged + verify("s").unknown, 0);
    OK(rt_dir_list(&name, &n, "s", &err));
    for (int i = 0; i < n; i++) {
        char *path = rt_path_join("s", name[i]);
        if (strcmp(name[i], "metrics.jsonl") && strncmp(name[i], "events.", 7) &&
            strcmp(name[i], "lock"))
            bytes += damage_each(path, "s", _i);
        free(path);
    }
    rt_names_free(name, n);
    ck_assert(bytes > 5000 && bytes <= 32 << 10);
    OK(unlink("s/tokenizer.json"));
    ck_assert_int_eq(verify("s").damaged, 1);
}
END_TEST

START_TEST(gguf_bytes)
{
    make_student();
    OK(run(&rt_command_quantize, "--model s --type Q8_0 --out s.gguf"));
    ck_assert_int_eq(verify("s.gguf").damaged + verify("s.gguf").unknown, 0);
    damage_each("s.gguf", "s.gguf", _i);
    char *data;
    int64_t bytes;
    OK(rt_file_read(&data, &bytes, "s.gguf", 1 << 20, &err));
    for (int64_t cut = 0; cut < bytes; cut += 7) {
        OK(rt_file_write("cut.gguf", data, cut, &err));
        ck_assert_msg(verify("cut.gguf").damaged > 0, "cut at %lld", (long long)cut);
    }
    free(data);
}
END_TEST

/* ---- checkpoints ---- */

typedef struct state {
    rt_dev *dev;
    rt_config cfg;
    rt_weights w, m, v;
} state;

static void open_state(state *s, uint64_t seed)
{
    OK(rt_dev_open(&s->dev, NULL, 1, &err));
    OK(rt_config_load(&s->cfg, "s", &err));
    rt_arenas arenas = { 0 };
    rt_weights_plan(&s->w, &arenas, &s->cfg, &(rt_placing){ .label = "weights" });
    rt_weights_plan(&s->m, &arenas, &s->cfg, &(rt_placing){ .label = "moment 1" });
    rt_weights_plan(&s->v, &arenas, &s->cfg, &(rt_placing){ .label = "moment 2" });
    OK(rt_arenas_place(&arenas, s->dev, &err));
    OK(rt_params_init(&s->w.params, s->dev, &s->cfg, seed, &err));
    OK(rt_params_init(&s->m.params, s->dev, &s->cfg, seed + 1, &err));
    OK(rt_params_init(&s->v.params, s->dev, &s->cfg, seed + 2, &err));
}

static void close_state(state *s)
{
    rt_weights_free(s->dev, &s->w);
    rt_weights_free(s->dev, &s->m);
    rt_weights_free(s->dev, &s->v);
    rt_dev_close(s->dev);
}

static rt_checkpoint_state parts(state *s)
{
    return (rt_checkpoint_state){ 3, { "weight.", "moment1.", "moment2." }, { &s->w, &s->m, &s->v } };
}

static int save(state *s, int64_t step)
{
    rt_checkpoint_state all = parts(s);
    rt_position at = { step, 2 * step, 30 * step, 77 };
    return rt_checkpoint_save("c", s->dev, &all, &at, &err);
}

/* The step that loading goes on from, or -1. */
static int64_t load(state *s)
{
    rt_position at = { .recipe = 77 };
    err = (rt_err){ .text = "" };
    rt_checkpoint_state all = parts(s);
    return rt_checkpoint_load("c", s->dev, &all, &at, &err) ? -1 : at.step;
}

START_TEST(checkpoint_bytes)
{
    state s;
    make_student();
    open_state(&s, 1);
    OK(rt_dir_make("c", &err) || save(&s, 5));
    damage_each("c/checkpoint.safetensors", "c", _i);
    close_state(&s);
}
END_TEST

static void break_file(const char *path, int64_t at)
{
    int fd = open(path, O_RDWR);
    int64_t bytes;
    OK(rt_path_size(path, &bytes, &err));
    flip(fd, at < 0 ? bytes + at : at, 3);
    close(fd);
}

START_TEST(two_checkpoints)
{
    static const char last[] = "c/checkpoint.safetensors",
                      before[] = "c/checkpoint-before.safetensors";
    static const int64_t place[] = { 3, 100, -1, -5000 }; /* length, header, position, a weight */
    state s;
    make_student();
    open_state(&s, 1);
    OK(rt_dir_make("c", &err) || save(&s, 5));
    ck_assert(!rt_path_exists(before));
    ck_assert_int_eq(load(&s), 5);
    OK(save(&s, 6));
    ck_assert_int_eq(load(&s), 6);
    for (int i = 0; i < RT_COUNT(place); i++) {
        OK(save(&s, 7 + i));
        break_file(last, place[i]);
        ck_assert_int_eq(load(&s), 6 + i);
        ck_assert(!rt_path_exists(before)); /* it is the last one now: the next save may replace */
        ck_assert_int_eq(load(&s), 6 + i);
        OK(save(&s, 7 + i));
    }
    break_file(before, -1); /* nobody asks for it */
    ck_assert_int_eq(load(&s), 10);
    OK(unlink(last)); /* killed between the two renames of a save */
    ck_assert_int_eq(load(&s), -1);
    HAS(err, "no checkpoint in it is whole");
    HAS(err, "delete checkpoint*.safetensors");
    OK(save(&s, 12) || save(&s, 13) || unlink(last));
    ck_assert_int_eq(load(&s), 12);
    OK(save(&s, 13));
    break_file(last, 1000);
    break_file(before, 1000);
    ck_assert_int_eq(load(&s), -1);
    HAS(err, "no checkpoint in it is whole");
    OK(rt_checkpoint_remove("c", &err));
    ck_assert(!rt_checkpoint_there("c"));
    close_state(&s);
}
END_TEST

/* ---- other programs' files ---- */

START_TEST(files_of_others)
{
    rt_integrity c = verify(RT_SOURCE_DIR "/tests/golden/models/qwen3");
    ck_assert(c.damaged == 0 && c.unknown == 8 && c.tensors > 10);
    c = verify(RT_SOURCE_DIR "/tests/golden/models/gguf_mixtral");
    ck_assert(c.damaged == 0 && c.unknown >= 1);
    c = verify(RT_SOURCE_DIR "/examples/reasoning/teacher"); /* an older retort's */
    ck_assert(c.damaged == 0 && c.unknown == 2);
    rt_listing l;
    OK(rt_listing_read(&l, RT_SOURCE_DIR "/examples/reasoning/teacher", &err));
    ck_assert(!l.json);
    c = (rt_integrity){ 0 };
    FAILS(rt_integrity_check(&c, RT_SOURCE_DIR "/README.md", &err), "nothing with checksums");
    FAILS(rt_integrity_check(&c, "nowhere", &err), "nowhere");
}
END_TEST

/* Damage ends the command that reads it: the file and the tensor are named, nothing is used. */
START_TEST(damage_is_not_used)
{
    rt_model m;
    rt_dev *d;
    rt_gguf g;
    make_student();
    OK(run(&rt_command_quantize, "--model s --type F16 --out s.gguf"));
    OK(rt_dev_open(&d, NULL, 1, &err));
    break_file("s/model.safetensors", -300);
    OK(rt_gguf_open(&g, "s.gguf", &err));
    int64_t up = rt_gguf_find(&g, "blk.0.ffn_up.weight")->offset;
    rt_gguf_close(&g);
    break_file("s.gguf", up + 9);
    FAILS(rt_model_open(&m, d, "s", true, 16, &err), "s/model.safetensors: tensor model.layers.0.");
    HAS(err, "the file is damaged");
    FAILS(rt_model_open(&m, d, "s.gguf", true, 16, &err), "s.gguf: tensor blk.0.ffn_up.weight: ");
    FAILS(run(&rt_command_quantize, "--model s --type F16 --out t.gguf"),
          "s/model.safetensors: tensor");
    ck_assert(!rt_path_exists("t.gguf"));
    break_file("s/config.json", 60);
    FAILS(rt_model_open(&m, d, "s", true, 16, &err), "s/config.json: not as it was written");
    rt_dev_close(d);
}
END_TEST

/* The two keys of a GGUF and the two of safetensors are hostile input too. */
START_TEST(hostile_sums)
{
    static const char *const headers[] = {
        "\"retort.header\":\"0123456789abcdef0123456789abcdef\"",
        "\"retort.xxh3\":\"0123456789abcdef0123456789abcdef\"",
        "\"retort.header\":\"0123456789abcdef0123456789abcdef\",\"retort.xxh3\":\"\"",
        "\"retort.header\":\"\",\"retort.xxh3\":\"0123456789abcdef0123456789abcdef\"",
        "\"retort.header\":3,\"retort.xxh3\":\"0123456789abcdef0123456789abcdef\"",
        "\"retort.header\":\"0123456789abcdef0123456789abcdef\",\"retort.xxh3\":"
        "\"0123456789abcdef0123456789abcdef 0123456789abcdef0123456789abcdef\"",
    };
    for (int i = 0; i < RT_COUNT(headers); i++) {
        char text[1024];
        rt_safetensors st;
        int n = snprintf(text + 8, sizeof text - 8,
                         "{\"__metadata__\":{\"format\":\"pt\",%s},\"a\":{\"dtype\":\"U8\","
                         "\"shape\":[1],\"data_offsets\":[0,1]}}",
                         headers[i]);
        for (int k = 0; k < 8; k++)
            text[k] = (char)((uint64_t)n >> (8 * k));
        text[8 + n] = 1;
        OK(rt_file_write("h.safetensors", text, 9 + n, &err));
        FAILS(rt_safetensors_open(&st, "h.safetensors", &err), "header is not the one");
    }
}
END_TEST

/* A GGUF of one key more or less, of another kind or another number of sums. */
START_TEST(hostile_keys)
{
    static const char digits[] = "0123456789abcdef0123456789abcdef";
    for (int i = 0; i < 5; i++) {
        rt_gguf_writer w;
        rt_gguf g;
        const int64_t dim = 4;
        OK(rt_gguf_writer_open(&w, "h.gguf", &err));
        if (i != 0)
            OK(i == 1 ? rt_gguf_put_u32(&w, RT_GGUF_HEADER_KEY, 7, &err)
                      : rt_gguf_put_str(&w, RT_GGUF_HEADER_KEY, i == 2 ? "short" : digits, &err));
        if (i != 3)
            OK(rt_gguf_put_strs_begin(&w, RT_GGUF_SUMS_KEY, i == 4 ? 2 : 1, &err) ||
               rt_gguf_put_strs_item(&w, digits, 32, &err) ||
               (i == 4 && rt_gguf_put_strs_item(&w, digits, 32, &err)));
        rt_gguf_writer_add(&w, "t", RT_F32, 1, &dim);
        OK(rt_gguf_writer_begin(&w, &err) ||
           rt_gguf_writer_push(&w, (float[]){ 1, 2, 3, 4 }, 16, &err) ||
           rt_gguf_writer_commit(&w, &err));
        FAILS(rt_gguf_open(&g, "h.gguf", &err), "the header is not the one that was written");
    }
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { student_bytes, 1 },    { gguf_bytes, 1 },
                                 { checkpoint_bytes, 1 }, { two_checkpoints, 1 },
                                 { files_of_others, 1 },  { damage_is_not_used, 1 },
                                 { hostile_sums, 1 },     { hostile_keys, 1 } };
    return suite_run("integrity", NULL, tests, RT_COUNT(tests));
}
