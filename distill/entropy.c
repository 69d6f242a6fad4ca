#include "distill/entropy.h"

#include <math.h>
#include <stdlib.h>

#include "core/base/memory.h"

typedef struct place {
    float *weight; /* of the token */
    float entropy; /* of the teacher before it */
    int64_t at;    /* in the order of documents */
} place;

/* The largest entropy first, of equal ones the first. */
static int order(const void *x, const void *y)
{
    const place *a = x, *b = y;
    if (a->entropy != b->entropy)
        return a->entropy > b->entropy ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

static int64_t add_places(place *list, int64_t n, rt_document *doc)
{
    const rt_soft *soft = rt_document_soft(doc);
    float *weight = rt_document_weights(doc);
    for (int32_t k = 0; k < doc->n_spans; k++)
        for (int64_t t = rt_max(doc->span[k].begin, 1); t < doc->span[k].end; t++) {
            int64_t row = t - doc->soft_first;
            if (weight[t] == 0)
                continue;
            bool has = soft && row >= 0 && row < soft->n;
            list[n] = (place){ weight + t, has ? soft->entropy[row] : -1, n };
            n++;
        }
    return n;
}

void rt_entropy_select(rt_document *docs, int64_t n, double share, double rest)
{
    int64_t tokens = 0, found = 0;
    for (int64_t i = 0; i < n; i++)
        tokens += docs[i].n;
    place *list = rt_alloc(tokens, sizeof *list, "entropies of a step");
    for (int64_t i = 0; i < n; i++)
        found = add_places(list, found, &docs[i]);
    qsort(list, (size_t)found, sizeof *list, order);
    int64_t kept = (int64_t)ceil(share * (double)found * (1 - 1e-12)); /* 0.07 of 100 are 7 */
    for (int64_t i = kept; i < found; i++)
        *list[i].weight *= (float)rest;
    free(list);
}
