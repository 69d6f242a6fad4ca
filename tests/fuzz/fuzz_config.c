/* fuzz_config.c: config.json, and generation_config.json behind a line of "====". What is accepted
   is used (rope table, derived facts, the sums of a plan), and written: what is written must be
   read as the same. */
#include "fuzz.h"

#include "core/network/weights.h"

static void use(const rt_config *c)
{
    float table[2 * 256];
    for (int64_t l = 0; l < c->layers; l++)
        (void)(rt_config_routed(c, l) + rt_config_window(c, l));
    FUZZ_CHECK(rt_config_dk(c) > 0 && rt_config_dv(c) > 0 && rt_config_shared_width(c) >= 0);
    rt_config_softmax_scale(c);
    rt_config_route(c);
    if (rt_config_rope_dim(c) <= 256)
        rt_config_rope_table(c, table, 2);
    rt_model m;
    rt_model_init(&m, c);
    FUZZ_CHECK(m.w.params.active > 0 && m.w.params.total > 0);
    rt_weights_free(NULL, &m.w);
}

static void write_and_read(const rt_config *c)
{
    rt_err err;
    rt_config again;
    cJSON *json = rt_config_json(c, "float32"), *parsed;
    char *text = rt_json_text(json);
    if (rt_json_parse(&parsed, text, (int64_t)strlen(text), "written", &err) ||
        rt_config_parse(&again, parsed, "written", &err))
        rt_bug("a config that was read, written, is refused: %s\n%s", err.text, text);
    cJSON *json_again = rt_config_json(&again, "float32");
    char *text_again = rt_json_text(json_again);
    if (strcmp(text, text_again) != 0)
        rt_bug("a config changes when it is written:\n%s\n%s", text, text_again);
    free(text);
    free(text_again);
    cJSON_Delete(json);
    cJSON_Delete(json_again);
    cJSON_Delete(parsed);
}

// Most accepted inputs say what one before said, and the rest takes longer than reading.
static bool is_new(const rt_config *c)
{
    static uint64_t seen[1 << 12];
    uint64_t hash = rt_hash64(c, sizeof *c, 0), *slot = &seen[hash % RT_COUNT(seen)];
    bool is = *slot != hash;
    *slot = hash;
    return is;
}

int fuzz_one(const uint8_t *data, size_t size)
{
    rt_config c;
    rt_err err;
    fuzz_two_files("config.json", "generation_config.json", data, size);
    memset(&c, 0, sizeof c);
    if (rt_config_load(&c, FUZZ_DIR, &err) == 0 && is_new(&c)) {
        use(&c);
        write_and_read(&c);
    }
    return 0;
}

static const char WORDS[] =
    "model_type\nnum_hidden_layers\nhidden_size\nnum_attention_heads\nnum_key_value_heads\n"
    "head_dim\nrope_scaling\nrope_parameters\nrope_type\nfactor\nyarn\nllama3\nlinear\n"
    "layer_types\nsliding_attention\nfull_attention\nsliding_window\nuse_sliding_window\n"
    "mlp_only_layers\neos_token_id\nbos_token_id\npad_token_id\ntopk_method\n"
    "group_limited_greedy\nquantization_config\nquant_method\nfp8\nmxfp4\n"
    "compressed-tensors\nweight_block_size\npartial_rotary_factor\nattention_bias\n"
    "norm_topk_prob\nqwen2\nqwen3\nllama\nmistral\nmixtral\ndeepseek_v2\ndeepseek_v3\n"
    "glm4_moe\nolmoe\nqwen2_moe\nqwen3_moe\nkimi_k2\ngpt_oss";

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    return fuzz_json_mutate(data, size, max, seed, WORDS);
}
