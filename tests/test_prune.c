/* test_prune.c: a model with channels, neurons, heads and a layer that do nothing loses exactly those,
   and its logits stay; one more, and they do not. Pruning nothing changes no byte. What is chosen of
   scores that are set by hand. */
#include <math.h>

#include "core/base/memory.h"
#include "core/network/weights.h"
#include "corpora/chat.h"
#include "student/prune.h"
#include "tests/command.h"
#include "tests/suite.h"

#define TEACHER RT_SOURCE_DIR "/examples/reasoning/teacher"
enum { LAYERS = 3, WIDTH = 24, HEADS = 6, KEYS = 3, DIM = 8, FFN = 20, IDLE = 1 };

static rt_err err;
extern const rt_command rt_command_init, rt_command_logits;

static int run(const rt_command *cmd, const char *words) { return run_command(cmd, words, &err); }

/* What does nothing: these channels are never written, these neurons of a layer never act, the values
   of key head 1 are 0, and layer IDLE adds nothing. */
static bool dead_channel(int64_t i) { return i == 0 || i == 9 || i == 10 || i == 23; }
static bool dead_neuron(int layer, int64_t i) { return i % 5 == layer; }
static bool dead_key(int64_t row) { return row / DIM == 1; }

static void zero(float *w, int64_t rows, int64_t cols, int64_t r, int64_t c)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < cols; k++)
            if ((r < 0 || i == r) && (c < 0 || k == c))
                w[i * cols + k] = 0;
}

static int planted_rows(void *ctx, int i, float *w, rt_err *e)
{
    const rt_model *m = ctx;
    const rt_param *p = &m->w.params.item[i];
    int64_t rows = p->slot->dim[0], cols = p->slot->rank > 1 ? p->slot->dim[1] : 1;
    (void)e;
    rt_param_draw(&m->w.params, i, &m->cfg, 7, w);
    bool embed = strstr(p->name, "embed"), o = strstr(p->name, "o_proj"),
         down = strstr(p->name, "down_proj");
    for (int64_t c = 0; c < WIDTH; c++)
        if (dead_channel(c) && (embed || o || down))
            zero(w, rows, cols, embed ? -1 : c, embed ? c : -1);
    for (int64_t r = 0; r < rows; r++)
        if ((strstr(p->name, "v_proj") && dead_key(r)) ||
            (strstr(p->name, "gate_proj") && dead_neuron(p->layer, r)))
            zero(w, rows, cols, r, -1);
    if (p->layer == IDLE && (o || down))
        zero(w, rows, cols, -1, -1);
    return 0;
}

static const char LINES[] = "{\"prompt\":\"Jon has 8 figs. Jon buys 3.\",\"response\":\"11 <b>\"}\n"
                            "{\"text\":\"Take 399+66: 9+6=15\"}\n{\"text\":\"nine keys\"}\n";

static void make_planted(const char *dir)
{
    rt_chat chat;
    rt_config cfg;
    rt_model m;
    char words[512];
    snprintf(words, sizeof words, "--shape 3m --layers %d --width %d --heads %d --kv-heads %d --head-dim %d "
             "--ffn-width %d --tokenizer " TEACHER " --out %s --dtype f32", LAYERS, WIDTH, HEADS, KEYS, DIM,
             FFN, dir);
    OK(run(&rt_command_init, words));
    OK(rt_model_config(&cfg, dir, &err));
    cfg.init_std = 0.4;
    rt_model_init(&m, &cfg);
    OK(rt_chat_open(&chat, TEACHER, &err));
    snprintf(words, sizeof words, "%s/retort.json", dir);
    OK(unlink(words));
    OK(rt_model_save_rows(&m, dir, RT_F32, planted_rows, &m, &err));
    OK(rt_file_write("d.jsonl", LINES, sizeof LINES - 1, &err));
    rt_weights_free(NULL, &m.w);
    rt_chat_close(&chat);
}

static float *logits_of(const char *model, int64_t *n)
{
    static const int32_t token[] = { 5, 90, 33, 7, 7, 120, 64, 200, 11, 3 };
    char words[256], head[128], *data;
    int64_t bytes;
    memset(head, ' ', sizeof head);
    memcpy(head, "\x93NUMPY\x01\x00\x76\x00", 10);
    memcpy(head + 10, "{'descr': '<i4', 'fortran_order': False, 'shape': (10,), }", 58);
    head[127] = '\n';
    FILE *f = fopen("t.npy", "wb");
    fwrite(head, 1, 128, f);
    fwrite(token, 1, sizeof token, f);
    fclose(f);
    snprintf(words, sizeof words, "--model %s --tokens t.npy --out l.npy --overwrite", model);
    OK(run(&rt_command_logits, words));
    OK(rt_file_read(&data, &bytes, "l.npy", 1 << 24, &err));
    int64_t first = 10 + (uint8_t)data[8] + 256 * (uint8_t)data[9];
    *n = (bytes - first) / 4;
    float *x = malloc((size_t)(bytes - first));
    memcpy(x, data + first, (size_t)(bytes - first));
    free(data);
    return x;
}

/* The largest difference of logits, over their spread. */
static double apart(const char *a, const char *b)
{
    int64_t n, m;
    float *x = logits_of(a, &n), *y = logits_of(b, &m);
    double most = 0, spread = 0;
    ck_assert_int_eq(n, m);
    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)x[i] - (double)y[i]));
        spread = fmax(spread, fabs((double)x[i]));
    }
    free(x);
    free(y);
    return most / spread;
}

static void same_weight(const char *name, rt_store *a, rt_store *b, const rt_model *x, const rt_model *y,
                        const char *as, const int64_t *rows, const int64_t *cols)
{
    const rt_param *p = NULL, *q = NULL;
    for (int i = 0; i < x->w.params.n; i++)
        p = strcmp(x->w.params.item[i].name, as) ? p : &x->w.params.item[i];
    for (int i = 0; i < y->w.params.n; i++)
        q = strcmp(y->w.params.item[i].name, name) ? q : &y->w.params.item[i];
    ck_assert(p && q);
    float *v = malloc((size_t)rt_tensor_elements(p->slot) * 4),
          *w = malloc((size_t)rt_tensor_elements(q->slot) * 4);
    OK(rt_store_rows(a, &x->cfg, p, v, &err));
    OK(rt_store_rows(b, &y->cfg, q, w, &err));
    for (int64_t r = 0; r < q->slot->dim[0]; r++)
        for (int64_t c = 0; c < q->slot->dim[1]; c++)
            ck_assert_msg(w[r * q->slot->dim[1] + c] == v[rows[r] * p->slot->dim[1] + cols[c]],
                          "%s at %d %d", name, (int)r, (int)c);
    free(v);
    free(w);
}

START_TEST(planted)
{
    char words[512];
    int64_t channel[WIDTH], neuron[FFN], query[HEADS * DIM], n = 0, f = 0, q = 0;
    rt_model source, small;
    rt_store a, b;
    make_planted("s");
    OK(run(&rt_command_init, "--from s --data d.jsonl --layers 2 --width 20 --ffn-width 16 --heads 4 "
                             "--kv-heads 2 --out p --dtype f32"));
    double left = apart("s", "p");
    ck_assert_msg(left < 2e-5, "logits are %g apart", left);
    for (int64_t i = 0; i < WIDTH; i++)
        if (!dead_channel(i))
            channel[n++] = i;
    for (int64_t i = 0; i < FFN; i++)
        if (!dead_neuron(2, i))
            neuron[f++] = i;
    for (int64_t i = 0; i < HEADS * DIM; i++)
        if (i / DIM / 2 != 1)
            query[q++] = i;
    rt_config cfg;
    OK(rt_model_config(&cfg, "s", &err));
    rt_model_init(&source, &cfg);
    OK(rt_model_config(&cfg, "p", &err));
    rt_model_init(&small, &cfg);
    OK(rt_store_open(&a, "s", &err));
    OK(rt_store_open(&b, "p", &err));
    /* layer 1 of the result was layer 2, whole but for what was dead */
    same_weight("model.layers.1.mlp.down_proj.weight", &a, &b, &source, &small,
                "model.layers.2.mlp.down_proj.weight", channel, neuron);
    same_weight("model.layers.1.mlp.gate_proj.weight", &a, &b, &source, &small,
                "model.layers.2.mlp.gate_proj.weight", neuron, channel);
    same_weight("model.layers.1.self_attn.q_proj.weight", &a, &b, &source, &small,
                "model.layers.2.self_attn.q_proj.weight", query, channel);
    same_weight("model.layers.1.self_attn.o_proj.weight", &a, &b, &source, &small,
                "model.layers.2.self_attn.o_proj.weight", channel, query);
    rt_store_close(&a);
    rt_store_close(&b);
    rt_weights_free(NULL, &source.w);
    rt_weights_free(NULL, &small.w);
    static const char *const MORE[] = { "--layers 1", "--width 19", "--ffn-width 15",
                                        "--heads 2 --kv-heads 1" };
    for (int i = 0; i < RT_COUNT(MORE); i++) {
        snprintf(words, sizeof words, "--from s --data d.jsonl %s --out q%d --dtype f32", MORE[i], i);
        OK(run(&rt_command_init, words));
        snprintf(words, sizeof words, "q%d", i);
        ck_assert_msg(apart("s", words) > 1e-3, "%s changed nothing", MORE[i]);
    }
}
END_TEST

START_TEST(nothing)
{
    char *a, *b;
    int64_t n, m;
    make_planted("s");
    OK(run(&rt_command_init, "--from s --out p --dtype f32"));
    OK(run(&rt_command_init, "--from s --data d.jsonl --heads 6 --layers 3 --out q --dtype f32"));
    for (int i = 0; i < 2; i++) {
        OK(rt_file_read(&a, &n, "s/model.safetensors", 1 << 24, &err));
        OK(rt_file_read(&b, &m, i ? "q/model.safetensors" : "p/model.safetensors", 1 << 24, &err));
        ck_assert(n == m && !memcmp(a, b, (size_t)n));
        free(a);
        free(b);
    }
    ck_assert(apart("s", "p") == 0);
}
END_TEST

/* The best two query heads of each of the best two key heads. */
START_TEST(heads)
{
    static const double SCORE[] = { 1, 9, 2, 0, 0, 0, 5, 4, 6 };
    static const int64_t WANT[] = { 1, 2, 6, 8 };
    rt_config source, cfg;
    rt_model model;
    rt_prune p;
    OK(run(&rt_command_init, "--shape 3m --layers 1 --width 8 --heads 9 --kv-heads 3 --head-dim 4 "
                             "--ffn-width 8 --tokenizer " TEACHER " --out s"));
    OK(rt_model_config(&source, "s", &err));
    OK(rt_prune_config(&cfg, &source, &(rt_prune_shape){ .heads = 4, .kv_heads = 2 }, "s", &err));
    rt_model_init(&model, &cfg);
    OK(rt_prune_open(&p, "s", &source, &model, &err));
    ck_assert(rt_prune_any(&source, &cfg) && !rt_prune_any(&source, &source));
    memcpy(p.scores.head, SCORE, sizeof SCORE);
    rt_prune_choose(&p, &model.cfg);
    for (int64_t i = 0; i < 16; i++)
        ck_assert_int_eq(p.query[i], WANT[i / 4] * 4 + i % 4);
    for (int64_t i = 0; i < 8; i++)
        ck_assert_int_eq(p.key[i], (i < 4 ? 0 : 8) + i % 4);
    rt_prune_close(&p);
    rt_weights_free(NULL, &model.w);
    rt_prune_shape bad[] = { { .width = 9 }, { .heads = 5 }, { .heads = 8, .kv_heads = 2 }, { .head_dim = 3 } };
    for (int i = 0; i < RT_COUNT(bad); i++)
        ck_assert(rt_prune_config(&cfg, &source, &bad[i], "s", &err) != 0);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { planted, 1 }, { nothing, 1 }, { heads, 1 } };
    return suite_run("prune", NULL, tests, RT_COUNT(tests));
}
