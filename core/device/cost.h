/* cost.h: what a dry run counts: flops and bytes of the operations it was shown, and what they need of
   workspace, which it asks of the backend. Outside a dry run the calls do nothing. Private to
   core/device. */
#ifndef RT_COST_H
#define RT_COST_H

#include "core/device/backend.h"

/* n tensors that an operation reads or writes; one that is added to counts twice, if given twice. */
void rt_cost_moves(rt_dev *d, const rt_tensor *const *t, int n);
/* `rows` rows of a times groups of matrices b (k,n); of a stack, as many as have a row. */
void rt_cost_product(rt_dev *d, int64_t rows, int64_t groups, int64_t n, int64_t k,
                     const rt_tensor *a, const rt_tensor *b);
/* Every row sees half of the longest sequence. */
void rt_cost_attention(rt_dev *d, const rt_attention_shape *s);
/* The cached keys and values that the rows read, each its own. */
void rt_cost_cache(rt_dev *d, const rt_attention_shape *s, bool v_in_k);
void rt_cost_head(rt_dev *d, int64_t vocab); /* workspace of a row of logits */
/* Workspace of sums over rows, of so many groups of them; and of the router's sort. */
void rt_cost_parts(rt_dev *d, int64_t rows, int64_t groups, int64_t columns);
void rt_cost_sort(rt_dev *d, int64_t choices, int64_t experts);

#endif
