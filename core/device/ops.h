/* ops.h: the operations of a device. Each states shapes, whether it overwrites (=) or accumulates
   (+=), and what may alias. ops.c checks shapes, dtypes and scalars once, for every backend: a
   mistake is rt_bug naming the operation and the shapes. When they run: device.h. Letters:
   tensor.h. Activations and their gradients are f32 or what the device keeps them in
   (rt_dev_facts.act), all of an operation the same; arithmetic is f32, each element rounded once when
   it is stored. Statistics, routes, logits, losses and gradients of weights are f32; weights may be
   any dtype of tensor.h where an argument says "any". Argument order: device, outputs, saved statistics, inputs,
   scalars. A batch is ragged rows.

   NUMERIC CONTRACT OF THE CPU BACKEND. The same bits for scalar, AVX2 and AVX-512 code, for any
   thread count, tile position and batch composition:
     - an element of a matrix product is a chain of fused multiply-adds over ascending k that starts
       from 0, in blocks of 2048; block sums are added to the output in order (beta = 1: to what the
       output held, beta = 0: to nothing, so K <= 2048 is the chain itself);
     - attention scores are such chains over the head width, outputs such chains over ascending
   keys;
     - row sums (norms, softmax, log-sum-exp, dot products of rows) use 16 lanes, lane = index mod
   16, each a chain over ascending index, then the fixed tree ((l, l+8), (l, l+4), (l, l+2), (l,
   l+1)); longer rows are cut into blocks of 2048, whose sums are added in order in f64 and rounded
   once;
     - sums over rows (dw of a norm, of a bias, of a sink, scatter_add) are chains over ascending
   row;
     - exp, log, sin and tanh are our own polynomials made of fused multiply-adds (math.h);
     - threads and tiles split outputs, never a sum.
   Compiled with -ffp-contract=off; every fused multiply-add is written out.
   That is precision "exact". Of precision "int8", products of rows with packed weights that are
   stored in blocks (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, IQ4_NL) are instead, the same
   bits everywhere, too:
     - a row is rounded in blocks of 32: amax their largest size, d = amax / 127, q = x (127 / amax)
       to the nearest whole number, ties to even. Where amax < 2^-120, d and q are 0; where one of
       the 32 is not finite, d is NaN;
     - of a weight w = s q + m (m 0 where the form has none; s and m exact in f32), S is the sum of
       the 32 products of codes, a whole number; an element of the product is one chain from 0 over
       ascending blocks: fma(S, s d, sum), then, where there is m, fma(m, d A, sum), A the sum of the
       row's q. Of Q6_K s is d of its super-block and S holds the scales of both halves;
     - it is added to the output when beta = 1.

   A GPU's results depend on shapes and data alone, too: not on who runs what, nor on how many run.
   Of sums over rows scatter_add is the CPU's chain; the others are chains from 0 over parts of 128
   rows, or of the next power of two whose square is not below the number of rows, counted from the
   first row; the parts are added in order to what the sum held. */
#ifndef RT_OPS_H
#define RT_OPS_H

#include "core/device/device.h"
#include "core/device/soft.h"
#include "core/device/tensor.h"

RT_BEGIN

/* Ragged rows: segment s owns rows offset[s] .. offset[s+1]; pos is the row's position in its
   sequence (0-based). For cached attention, position t of segment s lies in page[s][t / RT_KV_PAGE]
   of every layer's cache, and its first row has pos = number of tokens already cached there;
   entries past its last page are not read. */
typedef struct rt_rows {
    int64_t n, s;
    int64_t longest;  /* keys that a row may see, at most; a dry run's */
    rt_tensor token;  /* (N) i32 */
    rt_tensor pos;    /* (N) i32 */
    rt_tensor offset; /* (S+1) i32 */
    rt_tensor page;   /* (S,P) i32; only for cached attention */
} rt_rows;

/* Keys and values of one layer, all heads: a pool of pages, in what the device keeps activations in
   (rt_dev_facts.act). Which sequence a page belongs to is not known here: a full page may stand in
   the tables of several. The layout is the backend's. */
enum { RT_KV_PAGE = 64 }; /* tokens of a page */
typedef struct rt_kv {
    void *data; /* rt_kv_bytes() of backend memory */
    int64_t pages;
    int64_t heads, dk, dv; /* K, Dk, Dv */
    bool v_in_k;           /* MLA: value = first dv columns of the key; stored once */
} rt_kv;

/* How query rows weigh the keys they see. */
typedef struct rt_attention_rule {
    float scale;            /* of scores */
    int64_t window;         /* keys a row sees, its own included; 0 = all before it */
    const rt_tensor *sinks; /* (H) score of a key that takes weight and has no value, or NULL */
} rt_attention_rule;

/* y = (min(max(up, -limit), limit) + shift) g / (1 + exp(-alpha g)), g = min(gate, limit). SwiGLU is
   alpha 1, limit infinite, shift 0; gpt-oss has alpha 1.702, limit 7, shift 1. */
typedef struct rt_swiglu_rule {
    float alpha, limit, shift;
} rt_swiglu_rule;

typedef enum rt_router { RT_ROUTE_SOFTMAX, RT_ROUTE_SIGMOID } rt_router;

typedef struct rt_route_policy {
    rt_router scoring;
    int32_t experts, active;     /* E, A */
    int32_t groups, groups_kept; /* group-limited choice; 1, 1 = none */
    bool normalize;              /* chosen weights divided by their sum (+ 1e-20) */
    float scale;                 /* then times this */
} rt_route_policy;

/* Weights of the loss terms, all at one temperature except where it says T = 1. Several may be
   nonzero. */
typedef struct rt_loss_spec {
    float ce;      /* -log q(label) at T = 1 */
    float drawn;   /* forward KL on the exact head plus the drawn tail: unbiased (default) */
    float bucket;  /* forward KL on the exact head plus one tail bucket: >= 0, minimum where they agree */
    float renorm;  /* forward KL on the head renormalised to 1: biased, for comparison only */
    float reverse; /* reverse KL on head + tail bucket */
    float jsd;     /* generalised Jensen-Shannon on head + tail bucket */
    float jsd_beta;     /* mixture m = beta p + (1 - beta) q; beta KL(p|m) + (1 - beta) KL(q|m) */
    float skew;         /* KL(p | a p + (1 - a) q) on head + tail bucket (arXiv 2402.03898) */
    float skew_reverse; /* KL(q | a q + (1 - a) p) */
    float skew_alpha;   /* a */
    float tvd;          /* total variation: sum |p - q| / 2 on head + tail bucket */
    float reference; /* KL(q | r) over [0, vocab) at T = 1, r of targets.reference */
    float policy;    /* -min(u A, clip(u, 1 - clip_low, 1 + clip_high) A) at T = 1 (arXiv 1707.06347),
                        u = q(label) / e^old_logp, A = advantage */
    float clip_low, clip_high;
    float temperature;  /* T; KL terms and their gradients are multiplied by T^2; drawn needs T = 1 */
    float tail_spacing; /* of the archive: weight of one hit */
} rt_loss_spec;

/* Soft targets of M rows on the device: rt_soft with the fields the loss needs. */
typedef struct rt_targets {
    rt_tensor label;   /* (M) i32, -1 = no hard label */
    rt_tensor weight;  /* (M) f32, multiplies the row's loss and gradient; 0 = masked */
    rt_tensor offset;  /* (M+1) i32 into the items */
    rt_tensor head_n;  /* (M) i32, 0 and no items = row without soft target: only ce counts */
    rt_tensor id;      /* (J) i32 */
    rt_tensor logp;    /* (J) f32 */
    rt_tensor hits;    /* (J) i32 */
    rt_tensor tail;    /* (M) f32 log mass outside the head at temperature T */
    rt_tensor entropy; /* (M) f32 of the teacher at T = 1 */
    rt_tensor logz;    /* (M) f32 log sum p^(1/T); 0 when T = 1 */
    rt_tensor old_logp;  /* (M) f32 of the label when it was drawn; for policy alone, as the next:
                            else rank 0 will do */
    rt_tensor advantage; /* (M) f32 of the label; 0: policy is nothing there */
    rt_tensor reference; /* (M, >= V) f32 logits, which are clobbered; for reference alone */
} rt_targets;

enum rt_loss_column { /* of the (M, RT_LOSS_COLUMNS) statistics, all unweighted by targets.weight */
    RT_LOSS_TOTAL,   /* the weighted sum of the terms of the spec */
    RT_LOSS_CE,      /* -log q(label) */
    RT_LOSS_KL,      /* unbiased forward KL estimate: drawn cross-entropy minus exact entropy */
    RT_LOSS_ENTROPY, /* of the student */
    RT_LOSS_CORRECT, /* 1 when argmax = label (lowest index wins ties) */
    RT_LOSS_LSE,     /* log-sum-exp of the logits */
    RT_LOSS_CONFIDENCE, /* probability of the argmax */
    RT_LOSS_AGREE,   /* 1 when argmax = the teacher's most probable (lowest index wins ties) */
    RT_LOSS_REFERENCE, /* KL to the reference, where spec.reference is not 0 */
    RT_LOSS_COLUMNS
};

/* What capture leaves for M rows; fixed strides so that no size depends on data. */
typedef struct rt_capture {
    rt_tensor head_n;    /* (M) i32 */
    rt_tensor head_id;   /* (M, head_max) i32, descending probability, lowest id first on ties; then
                            the listed ones that are not among them, as they were listed */
    rt_tensor head_logp; /* (M, head_max) f32 */
    rt_tensor tail;      /* (M) f32 log mass outside the head, summed over the complement */
    rt_tensor draw_n;    /* (M) i32 */
    rt_tensor draw_id;   /* (M, draw_max) i32 ascending, repeats allowed; draw_max = ceil(1/spacing) + 1 */
    rt_tensor logz;      /* (M, temperatures) f32 */
    rt_tensor entropy;   /* (M) f32 */
    rt_tensor taken;     /* (M) f32 log-probability of the token that followed */
} rt_capture;

typedef struct rt_sampling {
    float temperature; /* 0 = greedy (lowest id wins ties) */
    float top_p;       /* smallest set of most probable tokens whose mass reaches top_p; 1 = all */
    int32_t top_k;     /* 0 = all */
    float min_p;       /* those at least this share as probable as the most probable; 0 = all */
} rt_sampling;

/* How an f32 result becomes a bf16 weight: up with the probability that leaves its mean as it is,
   drawn with rt_rng_u32(seed, RT_RNG_ROUND, first + element). */
typedef struct rt_rounding {
    uint64_t seed, first;
} rt_rounding;

typedef struct rt_adamw {
    float lr, beta1, beta2, eps, decay; /* decoupled weight decay: w -= lr * decay * w */
    float bias1, bias2;                 /* 1 - beta^step, computed on the host in f64 */
    float grad_scale;                   /* multiplies g (clipping) */
    rt_rounding rounding;               /* of bf16 weights */
} rt_adamw;

/* --- memory: data moves on the device only (device.h moves it in and out) --- */

void rt_copy(rt_dev *d, rt_tensor *y, const rt_tensor *x); /* y = x, same shape */
void rt_zero(rt_dev *d, rt_tensor *y);

/* --- matrix products --------------------------------------------------------------------- */
/* c(M,N) = a·b + beta c. a is (M,K), or (K,M) when ta; b is (K,N), or (N,K) when tb.
   a and c activations or f32, each by itself; b any dtype, or a weight with a piece
   (tensor.h); beta 0 or 1. Forward: (y, x, 0, w,
   1); dx: (dx, dy, 0, w, 0); dw: (dw, dy, 1, x, 0). b.panels, when set, was made by pack_weight
   for (b, tb) = (w, 1) and is used instead of b. */
void rt_matmul(rt_dev *d, rt_tensor *c, const rt_tensor *a, bool ta, const rt_tensor *b, bool tb,
               float beta);
/* Rows sorted by expert, offset (E+1) i32; a and c hold rows offset[0] .. offset[E], so that some
   of the experts of a stack are a slice of all four. Without ta: rows of expert e: c(G,·) =
   a(G,·)·b[e]; b (E,·,·), any dtype, tb as above, or E pieces. With ta: c[e](·,·) = a[rows of e]ᵀ ·
   b[rows of e] + beta c[e], c (E,·,·); an expert without rows keeps beta c[e]. */
void rt_matmul_grouped(rt_dev *d, rt_tensor *c, const rt_tensor *a, bool ta, const rt_tensor *b,
                       bool tb, const rt_tensor *offset, float beta);
/* Per head, for absorbed MLA. c(N,H,·)[.., c0 : c0+n_out] = a(N,H,·)[.., a0 : a0+n_in] · w_h +
   0, where w (H, rows, cols) any dtype, or one piece of all heads' rows, and w_h is its rows
   [w0, w0+n) of head h: with tb the sum runs over cols (n_out = n, n_in = cols), without over
   rows (n_in = n, n_out = cols). Of a latent in two parts (piece.h) [w0, w0+n) are all its keys
   or all its values. */
void rt_matmul_heads(rt_dev *d, rt_tensor *c, int64_t c0, const rt_tensor *a, int64_t a0,
                     const rt_tensor *w, int64_t w0, int64_t n, bool tb);
/* w (O,I) or (E,O,I), its elements or its piece; 0: a piece that products read where it lies */
int64_t rt_panels_bytes(rt_dev *d, const rt_tensor *w);
void rt_pack_weight(rt_dev *d, void *panels, const rt_tensor *w); /* for tb = 1 products */

/* --- rows -------------------------------------------------------------------------------- */
void rt_gather_rows(rt_dev *d, rt_tensor *y, const rt_tensor *x,
                    const rt_tensor *index); /* y(M,C) = x[index], x any */
/* x[index[i]] += y[i], ascending i; x f32 or as y */
void rt_scatter_add_rows(rt_dev *d, rt_tensor *x, const rt_tensor *y, const rt_tensor *index);
/* x(N,C) += sum of y(N*A,C)[slot[n,a]], ascending slot: what each row's choices give back */
void rt_unpermute_rows(rt_dev *d, rt_tensor *x, const rt_tensor *y, const rt_tensor *slot);
void rt_scale(rt_dev *d, rt_tensor *y, const rt_tensor *x, float s); /* y = s x; y may be x */
/* y(N,C) += b(C); or rows sorted by expert, offset (E+1), which count from offset[0]: y += b(E,C)
   of the row's expert. offset NULL = one b. */
void rt_bias_forward(rt_dev *d, rt_tensor *y, const rt_tensor *b, const rt_tensor *offset);
/* db += sums of dy over the rows of each b, ascending */
void rt_bias_backward(rt_dev *d, rt_tensor *db, const rt_tensor *dy, const rt_tensor *offset);

/* --- norm and rope ----------------------------------------------------------------------- */
/* y(N,C) = x rstd w, rstd(N) = 1/sqrt(mean x^2 + eps). Heads: view (N,H,D) as (N*H, D).
   ld_x >= C: x rows may be the first C columns of wider rows (MLA latent). y may not alias x. */
void rt_rmsnorm_forward(rt_dev *d, rt_tensor *y, rt_tensor *rstd, const rt_tensor *x,
                        const rt_tensor *w, float eps);
/* dx(N,C) = beta dx + ..., dw(C) += ..., or dw of rank 0: it is not wanted; x and dx may be wider
   than C (first C columns). */
void rt_rmsnorm_backward(rt_dev *d, rt_tensor *dx, rt_tensor *dw, const rt_tensor *dy,
                         const rt_tensor *x, const rt_tensor *w, const rt_tensor *rstd, float beta);
/* In place on x (N,H,D), columns [first, first+P): pair (i, i+P/2), or (2i, 2i+1) when interleaved,
   turned by angle pos * freq_i. table (T,P) f32: cos P/2 | sin P/2 of each position. backward
   turns by the opposite angle. */
void rt_rope(rt_dev *d, rt_tensor *x, const rt_tensor *table, const rt_tensor *pos, int64_t first,
             bool interleaved, bool backward);

/* --- attention --------------------------------------------------------------------------- */
/* Causal inside each segment (rows.offset), over the keys of the rule. q(N,H,Dk) k(N,K,Dk)
 * v(N,K,Dv) -> out(N,H,Dv), lse(N,H). */
void rt_attention_forward(rt_dev *d, rt_tensor *out, rt_tensor *lse, const rt_tensor *q,
                          const rt_tensor *k, const rt_tensor *v, const rt_rows *rows, const rt_attention_rule *rule);
/* dq = , dk = , dv = */
void rt_attention_backward(rt_dev *d, rt_tensor *dq, rt_tensor *dk, rt_tensor *dv,
                           const rt_tensor *dout, const rt_tensor *out, const rt_tensor *lse,
                           const rt_tensor *q, const rt_tensor *k, const rt_tensor *v,
                           const rt_rows *rows, const rt_attention_rule *rule);
/* dsinks(H) += of the sinks that out and lse were made with */
void rt_sinks_backward(rt_dev *d, rt_tensor *dsinks, const rt_tensor *dout, const rt_tensor *out,
                       const rt_tensor *lse, const rt_tensor *sinks);
int64_t rt_kv_bytes(rt_dev *d, const rt_kv *kv);
/* Keep k(N,K,Dk), v(N,K,Dv) (v ignored when v_in_k) of rows in the pages of their positions. */
void rt_kv_append(rt_dev *d, rt_kv *kv, const rt_tensor *k, const rt_tensor *v, const rt_rows *rows);
/* All of page `from` as page `to`: the copy that a sequence goes on in. */
void rt_kv_copy(rt_dev *d, rt_kv *kv, int64_t to, int64_t from);
/* As attention_forward over the cached keys of the row's segment up to pos (its own included): the
   same bits as attention_forward on the whole sequence, whatever pages it lies in; of a device that
   rounds operands to bf16 (device.h), the same bits however the sequence is cut into calls. */
void rt_attention_cached(rt_dev *d, rt_tensor *out, const rt_tensor *q, const rt_kv *kv,
                         const rt_rows *rows, const rt_attention_rule *rule);
/* MLA, expanded: kvb(N,H,Dn+Dv), kr(N,R+P) whose last P columns are the shared rope key ->
   k(N,H,Dn+P) = [kvb[..,:Dn] | kr[R:]], v(N,H,Dv). backward: dkvb = , dkr[.., R:] = sum over heads.
 */
void rt_mla_expand_forward(rt_dev *d, rt_tensor *k, rt_tensor *v, const rt_tensor *kvb,
                           const rt_tensor *kr);
void rt_mla_expand_backward(rt_dev *d, rt_tensor *dkvb, rt_tensor *dkr, const rt_tensor *dk,
                            const rt_tensor *dv);
/* y(N,H,·)[.., y0 : y0+n] = x(N,Hx,·)[.., x0 : x0+n]; Hx = H, or 1 to broadcast. */
void rt_copy_columns(rt_dev *d, rt_tensor *y, int64_t y0, const rt_tensor *x, int64_t x0,
                     int64_t n);

/* --- feed-forward ------------------------------------------------------------------------ */
void rt_swiglu_forward(rt_dev *d, rt_tensor *y, const rt_tensor *gate, const rt_tensor *up,
                       const rt_swiglu_rule *rule); /* y = , (N,F) each */
/* dgate = , dup = ; may alias gate, up */
void rt_swiglu_backward(rt_dev *d, rt_tensor *dgate, rt_tensor *dup, const rt_tensor *dy,
                        const rt_tensor *gate, const rt_tensor *up, const rt_swiglu_rule *rule);
/* logits(N,E) -> score(N,E) = softmax | sigmoid; idx(N,A) chosen experts, descending choice value
   (score + bias, bias (E) f32 or NULL), lowest index on ties; a group's score is the sum of its two
   best choices (sigmoid) or its best (softmax); groups not kept are -inf. weight(N,A): unbiased
   scores of the chosen, normalised and scaled as the policy says. */
void rt_route_forward(rt_dev *d, rt_tensor *idx, rt_tensor *weight, rt_tensor *score,
                      const rt_tensor *logits, const rt_tensor *bias, const rt_route_policy *p);
void rt_route_backward(rt_dev *d, rt_tensor *dlogits, const rt_tensor *dweight,
                       const rt_tensor *idx, const rt_tensor *weight, const rt_tensor *score,
                       const rt_route_policy *p); /* dlogits = */
/* Counting sort of the N*A choices by expert: offset(E+1), row(N*A) source row of each sorted slot
   (ascending row inside an expert), slot(N,A) where choice (n,a) went. */
void rt_route_sort(rt_dev *d, rt_tensor *offset, rt_tensor *row, rt_tensor *slot,
                   const rt_tensor *idx);
/* bias[e] += rate * sign(mean load - load[e]); load from offset, accumulated over a step by the
 * caller */
void rt_route_balance(rt_dev *d, rt_tensor *bias, const rt_tensor *load, float rate);
void rt_route_load(rt_dev *d, rt_tensor *load,
                   const rt_tensor *offset); /* load(E) f32 += rows of each expert */
/* y(N,C) += sum over a ascending of weight[n,a] ys[slot[n,a]] */
void rt_combine_forward(rt_dev *d, rt_tensor *y, const rt_tensor *ys, const rt_tensor *slot,
                        const rt_tensor *weight);
/* dys(N*A,C) = weight dy; dweight(N,A) = dy · ys[slot] */
void rt_combine_backward(rt_dev *d, rt_tensor *dys, rt_tensor *dweight, const rt_tensor *dy,
                         const rt_tensor *ys, const rt_tensor *slot, const rt_tensor *weight);

/* --- head: losses, capture, choice ------------------------------------------------------- */
/* logits(M,V): in logits, out d(scale * weight * loss)/dlogits; stats(M, RT_LOSS_COLUMNS) = .
   gradient = false leaves logits alone. Columns >= vocab (padding rows of the head) are outside
   the softmax and get gradient 0. */
void rt_loss(rt_dev *d, rt_tensor *stats, rt_tensor *logits, const rt_targets *t,
             const rt_loss_spec *spec, int64_t vocab, float scale, bool gradient);
/* token(M) i32 drawn with rt_rng_uniform(seed[m], RT_RNG_SAMPLE, index[m]); seed (M,2) i32 halves
   of a u64 (low, high), index(M) i32. Kept are the top_k most probable ids, then the fewest of
   those whose mass reaches top_p of theirs (the one that crosses included, lowest ids first on
   ties), then those whose probability is at least min_p of the largest; the draw is the inverse of
   the kept ids' cumulative mass, ids ascending. Logits that are not all finite choose -1. */
void rt_sample(rt_dev *d, rt_tensor *token, const rt_tensor *logits, const rt_tensor *seed,
               const rt_tensor *index, const rt_sampling *s, int64_t vocab);
/* Soft targets of M rows; token(M) is what followed, -1 = unknown (taken = 0). Tail offset
   u = rt_rng_uniform(seed, RT_RNG_TAIL, index). logits are clobbered. listed (M, c->listed) i32: ids
   that the head holds beside its own c->head_max - c->listed, repeats and -1 allowed; NULL when
   c->listed is 0. */
void rt_capture_rows(rt_dev *d, rt_capture *out, rt_tensor *logits, const rt_tensor *token,
                     const rt_tensor *seed, const rt_tensor *index, const rt_tensor *listed,
                     const rt_soft_config *c, int64_t vocab);
/* kl(M) = KL(p || q) of two sets of logits over [0, vocab); agree(M) 1 when the argmax is equal */
void rt_kl_rows(rt_dev *d, rt_tensor *kl, rt_tensor *agree, const rt_tensor *p, const rt_tensor *q,
                int64_t vocab);

/* --- optimizer ---------------------------------------------------------------------------
   Of one shape each; w f32 or bf16; g f32 or an activation's dtype; moments f32, or RT_M8 the first
   and RT_V8 the second (kernels/moment.h). */
/* partial(B) f32 sums of g^2 over blocks of 4096 elements, 16 lanes each; B = ceil(elements /
   4096). The host adds them in f64, ascending. */
void rt_sumsq(rt_dev *d, rt_tensor *partial, const rt_tensor *g);
/* m = beta1 m + (1 - beta1) g, v likewise of g^2; w moves by what they are before they are coded */
void rt_adamw_step(rt_dev *d, rt_tensor *w, rt_tensor *m, rt_tensor *v, const rt_tensor *g,
                   const rt_adamw *h);
/* m = beta m + (1 - beta) grad_scale g; u = m, or looking ahead (nesterov) beta m + (1 - beta)
   grad_scale g. u f32 */
void rt_momentum(rt_dev *d, rt_tensor *u, rt_tensor *m, const rt_tensor *g, float beta,
                 float grad_scale, bool nesterov);
/* y = x / max(sqrt(sum of partial), 1e-7); f32; y may be x */
void rt_unit_norm(rt_dev *d, rt_tensor *y, const rt_tensor *x, const rt_tensor *partial);
/* y = alpha x + beta y (beta 0: whatever y held); f32 or bf16 each; r: of a bf16 y, else NULL */
void rt_axpby(rt_dev *d, rt_tensor *y, const rt_tensor *x, float alpha, float beta,
            const rt_rounding *r);

RT_END

#endif
