/* test_gguf.c: GGUF files as models: parts of one model, keys that say what is not there, tensors
   that keys do not fit, and what is read off a file that has no key for it. Logits are
   test_models.c's. */
#include <math.h>

#include "core/network/stored.h"
#include "core/network/weights.h"
#include "quant/gguf_write.h"
#include "tests/suite.h"

#define MODELS RT_SOURCE_DIR "/tests/golden/models/gguf_"

static rt_err err;

static void copy(const char *from, const char *to)
{
    char *data;
    int64_t bytes;
    OK(rt_file_read(&data, &bytes, from, 1 << 24, &err));
    OK(rt_file_write(to, data, bytes, &err));
    free(data);
}

// ------------------------------------------------------------------------------------------- parts

static const char *part(int no, int of)
{
    static char name[2][40];
    static int turn;
    turn = !turn;
    snprintf(name[turn], sizeof name[turn], "m/model-%05d-of-%05d.gguf", no, of);
    return name[turn];
}

static void copy_parts(void)
{
    char from[512];
    mkdir("m", 0700);
    for (int i = 1; i <= 3; i++) {
        snprintf(from, sizeof from, MODELS "qwen3moe/model-%05d-of-00003.gguf", i);
        copy(from, part(i, 3));
    }
}

START_TEST(parts_are_one_model)
{
    rt_gguf g;
    rt_hash first, dir, other;
    copy_parts();
    OK(rt_gguf_open(&g, part(1, 3), &err));
    ck_assert(g.n_more == 2 && g.n_tensors == 27);
    ck_assert(rt_gguf_find(&g, "blk.1.attn_v.weight") && rt_gguf_find(&g, "token_embd.weight"));
    rt_gguf_close(&g);
    OK(rt_model_hash(&first, part(1, 3), &err) || rt_model_hash(&dir, "m", &err) ||
       rt_model_hash(&other, MODELS "mixtral", &err));
    ck_assert(!strcmp(first.hex, dir.hex) && strcmp(first.hex, other.hex));
}
END_TEST

START_TEST(parts_refused)
{
    rt_gguf g;
    copy_parts();
    FAILS(rt_gguf_open(&g, part(2, 3), &err), "is part 2 of 3: open the first");
    ck_assert(rename(part(1, 3), "m/other.gguf") == 0);
    FAILS(rt_gguf_open(&g, "m/other.gguf", &err), "name must end in -00001-of-00003.gguf");
    ck_assert(rename("m/other.gguf", part(1, 4)) == 0);
    FAILS(rt_gguf_open(&g, part(1, 4), &err), "name must end in -00001-of-00003.gguf");
    copy_parts();
    FAILS(rt_gguf_open(&g, "m", &err), "holds 2 models");
    ck_assert(unlink(part(1, 4)) == 0);
    copy(part(2, 3), part(3, 3));
    FAILS(rt_gguf_open(&g, "m", &err), "says it is part 2 of 3, its name says 3 of 3");
    ck_assert(truncate(part(3, 3), 200) == 0);
    FAILS(rt_gguf_open(&g, "m", &err), "model-00003-of-00003.gguf: ");
    ck_assert(unlink(part(3, 3)) == 0);
    FAILS(rt_gguf_open(&g, "m", &err), "part 3 of 3 is missing: m/model-00003-of-00003.gguf");
    ck_assert(unlink(part(1, 3)) == 0);
    ck_assert(rt_gguf_is("m"));
    FAILS(rt_gguf_open(&g, "m", &err), "holds 0 models");
    ck_assert(unlink(part(2, 3)) == 0 && !rt_gguf_is("m"));
}
END_TEST

// -------------------------------------------------------------------------------------------- keys

/* name: a key (u, f, b: a number of that type; s: text; x: without it), a tensor to leave out (t),
   or one to have (r: rope_freqs with Llama 3's divisors). */
typedef struct edit {
    char kind;
    const char *name;
    double value;
    const char *text;
} edit;

static void put_key(rt_gguf_writer *w, const edit *e)
{
    int bad = e->kind == 'u'   ? rt_gguf_put_u32(w, e->name, (uint32_t)e->value, &err)
              : e->kind == 'f' ? rt_gguf_put_f32(w, e->name, (float)e->value, &err)
              : e->kind == 'b' ? rt_gguf_put_bool(w, e->name, e->value != 0, &err)
              : e->kind == 's' ? rt_gguf_put_str(w, e->name, e->text, &err)
                               : 0;
    OK(bad);
}

static void copy_key(rt_gguf_writer *w, const rt_gguf *g, const rt_gguf_key *k)
{
    char text[64] = "";
    if (k->type != RT_GGUF_STR) {
        OK(rt_gguf_put_raw(w, k->name, k->type, k->array, k->data, k->n, &err));
        return;
    }
    rt_gguf_str s;
    OK(rt_gguf_get_str(g, k->name, &s, &err));
    snprintf(text, sizeof text, "%.*s", (int)s.bytes, s.text);
    OK(rt_gguf_put_str(w, k->name, text, &err));
}

/* tests/golden/models/gguf_MODEL as e.gguf, edited. */
static void write_edited(const char *model, const edit *edits, int n)
{
    char dir[512];
    rt_gguf g;
    rt_gguf_writer w;
    snprintf(dir, sizeof dir, MODELS "%s", model);
    OK(rt_gguf_open(&g, dir, &err));
    OK(rt_gguf_writer_open(&w, "e.gguf", &err));
    for (int64_t i = 0; i < g.n_keys; i++) {
        bool kept = strncmp(g.key[i].name, "split.", 6) != 0;
        for (int k = 0; k < n; k++)
            kept = kept && strcmp(edits[k].name, g.key[i].name) != 0;
        if (kept)
            copy_key(&w, &g, &g.key[i]);
    }
    const float *rope = NULL;
    bool *out = calloc((size_t)g.n_tensors, sizeof *out);
    for (int k = 0; k < n; k++) {
        put_key(&w, &edits[k]);
        for (int64_t i = 0; i < g.n_tensors; i++)
            out[i] = out[i] || (edits[k].kind == 't' && !strcmp(edits[k].name, g.tensor[i].name));
        static float divisors[3];
        rt_config cfg = { .rope_theta = 1e6,
                          .rope_factor = 8,
                          .rope_low = 1,
                          .rope_high = 4,
                          .rope_original = 64,
                          .rope_dim = 6 };
        for (int i = 0; i < 3 && edits[k].kind == 'r'; i++)
            divisors[i] = (float)(rt_config_rope_divisor(&cfg, i) + (i == 1 ? edits[k].value : 0));
        rope = edits[k].kind == 'r' ? divisors : rope;
    }
    for (int64_t i = 0; i < g.n_tensors; i++)
        if (!out[i])
            rt_gguf_writer_add(&w, g.tensor[i].name, g.tensor[i].dtype, g.tensor[i].rank,
                               g.tensor[i].dim);
    if (rope)
        rt_gguf_writer_add(&w, "rope_freqs.weight", RT_F32, 1, (int64_t[]){ 3 });
    OK(rt_gguf_writer_begin(&w, &err));
    for (int64_t i = 0; i < g.n_tensors; i++)
        if (!out[i])
            OK(rt_gguf_writer_push(&w, g.tensor[i].data, g.tensor[i].bytes, &err));
    if (rope)
        OK(rt_gguf_writer_push(&w, rope, 12, &err));
    OK(rt_gguf_writer_commit(&w, &err));
    free(out);
    rt_gguf_close(&g);
}

/* The description, and whether every weight is there. */
static int check_model(rt_config *cfg)
{
    rt_model m;
    if (rt_model_config(cfg, "e.gguf", &err))
        return -1;
    rt_store s;
    if (rt_store_open(&s, "e.gguf", &err))
        return -1;
    rt_model_init(&m, cfg);
    int bad = rt_store_check(&s, cfg, &m.w.params, &err);
    rt_weights_free(NULL, &m.w);
    rt_store_close(&s);
    return bad;
}

START_TEST(edited_files_refused)
{
    static const struct {
        const char *model;
        edit e;
        const char *says;
    } rows[] = {
        { "r1",
          { 's', "general.architecture", 0, "deepseek9" },
          "architecture \"deepseek9\" is not supported (llama, qwen2, qwen3, " },
        { "r1", { 'u', "general.architecture", 7, NULL }, "general.architecture" },
        { "r1", { 'u', "deepseek2.expert_gating_func", 4, NULL }, "expert_gating_func 4" },
        { "r1",
          { 'x', "deepseek2.attention.kv_lora_rank", 0, NULL },
          "key deepseek2.attention.kv_lora_rank is missing" },
        { "r1", { 'u', "deepseek2.rope.dimension_count", 40, NULL }, "no room" },
        { "r1",
          { 'u', "deepseek2.rope.dimension_count", 10, NULL },
          "attn_kv_a_mqa.weight has shape (40, 32), the file's keys say (42, 32)" },
        { "r1", { 'u', "deepseek2.expert_group_count", 3, NULL }, "do not fit together" },
        { "r1", { 'u', "deepseek2.expert_count", 0, NULL }, "with 0 experts" },
        { "r1", { 't', "blk.0.attn_v_b.weight", 0, NULL }, "blk.0.attn_v_b.weight is missing" },
        { "r1", { 't', "blk.1.exp_probs_b.bias", 0, NULL }, "blk.1.exp_probs_b.bias is missing" },
        { "r1",
          { 'f', "deepseek2.attention.temperature_scale", 0.1, NULL },
          "attention.temperature_scale: 0.1 is not supported" },
        { "r1", { 's', "deepseek2.rope.scaling.type", 0, "longrope" }, "\"longrope\" is not" },
        { "r1", { 'x', "deepseek2.rope.scaling.factor", 0, NULL }, "scaling.factor is missing" },
        { "v2_lite", { 'b', "deepseek2.expert_weights_norm", 1, NULL }, "softmax router" },
        { "v2_lite", { 't', "blk.0.attn_kv_b.weight", 0, NULL }, "attn_kv_b.weight is missing" },
        { "mixtral", { 'u', "llama.expert_used_count", 0, NULL }, "must be an integer from 1" },
        { "mixtral", { 'f', "llama.expert_used_count", 1.5, NULL }, "is 1.5; it must be" },
        { "mixtral", { 's', "llama.expert_used_count", 0, "two" }, "llama.expert_used_count" },
        { "mixtral", { 'u', "llama.expert_used_count", 9, NULL }, "exceeds the 4 experts" },
        { "mixtral", { 'u', "llama.expert_count", 5, NULL }, "the file's keys say (5, 16)" },
        { "mixtral", { 'u', "llama.expert_count", 0, NULL }, "blk.0.ffn_gate.weight is missing" },
        { "mixtral", { 'u', "llama.block_count", 3, NULL }, "blk.2.attn_norm.weight is missing" },
        { "mixtral", { 'u', "llama.block_count", 1, NULL }, "is not part of a mixtral model" },
        { "mixtral", { 'u', "llama.block_count", 4e9, NULL }, "must be an integer from 1 to 1024" },
        { "mixtral", { 'u', "llama.nextn_predict_layers", 2, NULL }, "leave none" },
        { "mixtral", { 'u', "llama.attention.head_count", 0, NULL }, "from 1 to 4096" },
        { "mixtral", { 'u', "llama.attention.head_count", 3, NULL }, "cannot share" },
        { "mixtral", { 'u', "llama.attention.value_length", 8, NULL }, "one width" },
        { "mixtral", { 'u', "llama.rope.dimension_count", 4, NULL }, "4 of a head of 6" },
        { "mixtral", { 'f', "llama.attention.layer_norm_rms_epsilon", NAN, NULL }, "is nan" },
        { "mixtral", { 'x', "llama.attention.layer_norm_rms_epsilon", 0, NULL }, "is missing" },
        { "mixtral", { 'f', "llama.logit_scale", 0.25, NULL }, "0.25 is not supported" },
        { "mixtral", { 'b', "llama.attention.causal", 0, NULL }, "does not generate text" },
        { "mixtral", { 'f', "llama.rope.freq_base_swa", 1e4, NULL }, "10000 is not supported" },
        { "mixtral", { 'r', "", 0.5, NULL }, "does not follow Llama 3's rule" },
        { "mixtral", { 'r', "", NAN, NULL }, "does not follow Llama 3's rule" },
        { "mixtral", { 't', "token_embd.weight", 0, NULL }, "token_embd.weight is missing" },
        { "olmoe", { 'f', "olmoe.attention.clamp_kqv", 8, NULL }, "8 is not supported" },
        { "olmoe",
          { 'u', "olmoe.expert_feed_forward_length", 11, NULL },
          "has shape (5, 20, 16), the file's keys say (5, 22, 16)" },
        { "olmoe",
          { 't', "blk.1.ffn_gate_up_exps.weight", 0, NULL },
          "blk.1.ffn_gate_exps.weight is missing" },
        { "glm45",
          { 't', "blk.0.post_attention_norm.weight", 0, NULL },
          "blk.0.ffn_norm.weight is missing" },
        { "glm45",
          { 't', "blk.2.nextn.eh_proj.weight", 0, NULL },
          "blk.2.attn_norm.weight is not" },
        { "glm45", { 'u', "glm4moe.expert_gating_func", 1, NULL }, "expert_gating_func 1" },
        { "qwen2moe", { 't', "blk.1.attn_k.bias", 0, NULL }, "blk.1.attn_k.bias is missing" },
        { "qwen3moe", { 'u', "qwen3moe.attention.sliding_window_pattern", 4, NULL }, "4 is not" },
        { "qwen3moe", { 'u', "qwen3moe.attention.sliding_window", 4, NULL }, "window 4 is not" },
    };
    rt_config cfg;
    ck_assert(rt_family_find_gguf("qwen2", false, -1, false));
    ck_assert(!rt_family_find_gguf("qwen2", false, -1, true));
    write_edited(rows[_i % RT_COUNT(rows)].model, NULL, 0);
    OK(check_model(&cfg));
    for (int i = 0; i < RT_COUNT(rows); i++) {
        write_edited(rows[i].model, &rows[i].e, 1);
        FAILS(check_model(&cfg), rows[i].says);
    }
}
END_TEST

START_TEST(read_off_the_file)
{
    rt_config cfg;
    const edit old[] = { { 'x', "qwen2moe.expert_feed_forward_length", 0, NULL },
                         { 'x', "qwen2moe.expert_shared_feed_forward_length", 0, NULL } };
    write_edited("qwen2moe", old, 2);
    OK(check_model(&cfg));
    ck_assert(cfg.expert_width == 10 && cfg.shared_width == 14 && !cfg.norm_topk);
    const edit r1[] = { { 'x', "deepseek2.expert_group_count", 0, NULL },
                        { 'x', "deepseek2.expert_group_used_count", 0, NULL },
                        { 'u', "deepseek2.expert_count", 256, NULL },
                        { 'u', "deepseek2.block_count", 61, NULL } };
    write_edited("r1", r1, 4);
    OK(rt_model_config(&cfg, "e.gguf", &err));
    ck_assert(cfg.groups == 8 && cfg.groups_kept == 4);
    write_edited("r1", r1, 2);
    OK(rt_model_config(&cfg, "e.gguf", &err));
    ck_assert(cfg.groups == 1 && cfg.groups_kept == 1);
    const edit rope[] = { { 'r', "", 0, NULL } };
    write_edited("mixtral", rope, 1);
    OK(check_model(&cfg));
    ck_assert(cfg.rope_scaling == RT_ROPE_LLAMA3);
    for (int i = 0; i < 3; i++)
        ck_assert(rt_config_rope_divisor(&cfg, i) == (i ? 8 : 1));
    /* as llama.cpp reads a linear factor: its new name, the name of old files, and without a type
     */
    static const struct {
        edit e[2];
        double factor; /* 0: plain */
    } linear[] = { { { { 's', "llama.rope.scaling.type", 0, "linear" },
                       { 'f', "llama.rope.scaling.factor", 4, NULL } },
                     4 },
                   { { { 'f', "llama.rope.scale_linear", 4, NULL } }, 4 },
                   { { { 'f', "llama.rope.scaling.factor", 4, NULL } }, 4 },
                   { { { 'f', "llama.rope.scaling.factor", 2, NULL },
                       { 'f', "llama.rope.scale_linear", 4, NULL } },
                     2 },
                   { { { 's', "llama.rope.scaling.type", 0, "linear" } }, 0 },
                   { { { 'f', "llama.rope.scale_linear", 1, NULL } }, 0 },
                   { { { 's', "llama.rope.scaling.type", 0, "none" },
                       { 'f', "llama.rope.scaling.factor", 4, NULL } },
                     0 } };
    for (int i = 0; i < RT_COUNT(linear); i++) {
        write_edited("mixtral", linear[i].e, linear[i].e[1].name ? 2 : 1);
        OK(check_model(&cfg));
        ck_assert(cfg.rope_scaling == (linear[i].factor ? RT_ROPE_LINEAR : RT_ROPE_PLAIN));
        ck_assert(!linear[i].factor || cfg.rope_factor == linear[i].factor);
    }
    const edit both[] = { { 'r', "", 0, NULL }, { 'f', "llama.rope.scale_linear", 4, NULL } };
    write_edited("mixtral", both, 2);
    FAILS(check_model(&cfg), "rope_freqs.weight beside a linear rope of factor 4");
    const edit window[] = { { 'u', "llama.attention.sliding_window", 24, NULL } };
    write_edited("mixtral", window, 1);
    OK(check_model(&cfg));
    ck_assert(rt_config_window(&cfg, 1) == 24 && !strcmp(cfg.family->model_type, "mixtral"));
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { parts_are_one_model, 1 },
                                 { parts_refused, 1 },
                                 { edited_files_refused, 1 },
                                 { read_off_the_file, 1 } };
    return suite_run("gguf", NULL, tests, RT_COUNT(tests));
}
