/* bench_step.c: one training step of a 25M-parameter dense student at 512-token documents:
   tokens/s, FLOP/s, and its share of the multiply-adds that as many threads do from registers in
   the second before and after each step (of a CPU): median of seven. The yardstick is torch_step.py, run in
   turn with it by step.sh. FLOP: 6 a token and matrix parameter, plus causal attention counted
   half: 6 L H (Dk + Dv) T / 2 a token; what is computed twice or masked does not count. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/log.h"
#include "core/base/rng.h"
#include "core/network/weights.h"
#include "distill/optimizer.h"
#include "distill/step.h"
#include "tests/bench/peak.h"

enum { DOCS = 8, LENGTH = 512, VOCAB = 6144, WARM = 2, REPEAT = 7 };

static int32_t token[DOCS][LENGTH];

static double flop_per_token(const rt_config *c)
{
    double block = 4.0 * (double)(c->width * c->width) + 3.0 * (double)(c->width * c->ffn_width);
    double matrices = (double)c->layers * block + (double)(c->vocab * c->width);
    double attention = (double)(c->layers * c->heads * 2 * c->head_dim) * LENGTH / 2;
    return 6 * (matrices + attention);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 0;
    double seconds[REPEAT], share[REPEAT];
    rt_err err = { 0 };
    rt_dev *dev;
    rt_model model;
    rt_step step;
    rt_optimizer optimizer;
    rt_document doc[DOCS];
    rt_trace_span span = { 1, LENGTH };
    rt_config cfg = { .layers = 6,
                      .width = 512,
                      .vocab = VOCAB,
                      .heads = 8,
                      .kv_heads = 8,
                      .head_dim = 64,
                      .ffn_width = 1408,
                      .groups = 1,
                      .groups_kept = 1,
                      .route_scale = 1,
                      .norm_eps = 1e-6,
                      .init_std = 0.02,
                      .rope_theta = 10000,
                      .max_positions = LENGTH,
                      .bos = -1,
                      .pad = -1 };
    cfg.family = rt_family_find("llama");
    rt_batch_shape shape = { .rows = DOCS * LENGTH,
                             .documents = DOCS,
                             .head_rows = 512,
                             .temperature = 1,
                             .waiting = DOCS * LENGTH };
    if (rt_dev_open(&dev, NULL, threads, &err))
        goto failed;
    rt_model_plan_config(&model, dev, &cfg, NULL, false, LENGTH);
    const rt_loss_spec spec = { .ce = 1, .temperature = 1 };
    rt_step_plan(&step, dev, &model, NULL, &shape, &spec, VOCAB, LENGTH, false, NULL);
    const rt_optimizer_spec adamw = { .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-8, .decay = 0.05 };
    rt_optimizer_plan(&optimizer, &cfg, &model.w, &adamw);
    if (rt_model_place(&model, &err) || rt_step_place(&step, &err) ||
        rt_optimizer_place(&optimizer, dev, &err) || rt_dev_ready(dev, &err) ||
        rt_params_init(&model.w.params, dev, &cfg, 1, &err))
        goto failed;
    rt_dev_facts f = rt_dev_get(dev);
    for (int i = 0; i < DOCS; i++) {
        for (int t = 0; t < LENGTH; t++)
            token[i][t] = (int32_t)rt_rng_below(1, RT_RNG_DATA, (uint64_t)(i * LENGTH + t), VOCAB);
        doc[i] = (rt_document){ .token = token[i], .n = LENGTH, .span = &span, .n_spans = 1 };
    }
    double flop = flop_per_token(&cfg) * DOCS * LENGTH, before = 0;
    for (int r = -WARM; r < REPEAT; r++) {
        double start = rt_now();
        if (rt_step_run(&step, doc, DOCS, &err))
            goto failed;
        rt_optimizer_sums(dev, &optimizer, &step.grads, RT_LAYERS_ALL);
        rt_optimizer_fetch(dev, &optimizer);
        if (rt_sync(dev, &err))
            goto failed;
        double norm = rt_optimizer_norm(&optimizer);
        rt_optimizer_update(dev, &optimizer, &step.grads, RT_LAYERS_ALL, 1e-4,
                            norm > 1 ? 1 / norm : 1, r + WARM + 1);
        if (rt_sync(dev, &err))
            goto failed;
        double took = rt_now() - start;
        double after = f.chip ? 0 : rt_peak_rate(f.isa, f.threads, 1.0);
        if (r >= 0) {
            seconds[r] = took;
            share[r] = flop / took / (0.5 * (before + after));
        }
        before = after;
    }
    double took = rt_median(seconds, REPEAT), middle = rt_median(share, REPEAT);
    printf("retort: %.1fM parameters, %d %s, %s: %.0f tokens/s, %.1f ms a step, %.1f GFLOP/s",
           (double)model.w.params.total / 1e6, f.threads, f.chip ? "multiprocessors" : "threads",
           f.isa, DOCS * LENGTH / took, took * 1e3, flop / took * 1e-9);
    if (!f.chip)
        printf(", %.1f %% of peak (%.1f to %.1f)", 100 * middle, 100 * share[0],
               100 * share[REPEAT - 1]);
    printf("\n");
    rt_step_free(&step);
    rt_optimizer_free(&optimizer, dev);
    rt_model_free(dev, &model);
    rt_dev_close(dev);
    return 0;
failed:
    fprintf(stderr, "bench_step: %s\n", err.text);
    return 1;
}
