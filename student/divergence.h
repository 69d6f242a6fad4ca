/* divergence.h: how far a model is from a reference, token by token, in llama.cpp's set of figures
   (llama-perplexity --kl-divergence): KL with its percentiles, what becomes of the probability of
   the token that followed, equal most probable tokens, the ratio of perplexities, each with its
   standard error. The errors of ratios are paired: both models read the same tokens. Owns the
   figures; refuses to run models. */
#ifndef RT_DIVERGENCE_H
#define RT_DIVERGENCE_H

#include "core/base/json.h"

RT_BEGIN

typedef struct rt_divergence {
    float *kl, *shift; /* (n) nats; p - p of the reference, of the token that followed */
    int64_t n, cap;    /* cap: private */
    int64_t cap_shift; /* private */
    double nll, nll2, base, base2, both; /* sums of -log p, of the reference's, and of products */
    int64_t same;                        /* equal most probable tokens */
} rt_divergence;

/* nll, base: -log of the probability that model and reference gave the token that followed. */
void rt_divergence_add(rt_divergence *d, double kl, double nll, double base, bool same);
/* One token by the reference's log-probabilities (V) and the model's logits (V), both over V
   columns; what the reference gives less than e^-16 is left out, as llama.cpp does. */
void rt_divergence_row(rt_divergence *d, const float *reference, const float *logits, int64_t vocab,
                       int32_t next);
/* All figures into json; nothing when no token was added. */
void rt_divergence_put(const rt_divergence *d, cJSON *json);
void rt_divergence_free(rt_divergence *d);

RT_END

#endif
