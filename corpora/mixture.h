/* mixture.h: which document comes next where several sources are mixed by weight. A pure function of
   (seed, index): nothing to save but a position. Of every RT_MIXTURE_WINDOW documents in a row exactly
   so many are of each source, in an order that is drawn anew for each window; each source goes through
   its own documents, all of them once before any comes again, in an order drawn anew each time.
   Refuses: what a document is, how many make a step. */
#ifndef RT_MIXTURE_H
#define RT_MIXTURE_H

#include "corpora/record.h"

RT_BEGIN

enum { RT_MIXTURE_WINDOW = 1000, RT_MIXTURE_SOURCES = 64 };

/* Documents [first, first + n) of a list; filled in: how many of a window. */
typedef struct rt_mixture_source {
    int64_t first, n, tokens;
    double weight; /* its share of the tokens, to the others' */
    int64_t slots;
    char tag[RT_RECORD_TAG_MAX + 1]; /* of its documents, where tags make the sources */
} rt_mixture_source;

typedef struct rt_mixture {
    rt_mixture_source source[RT_MIXTURE_SOURCES];
    int n;
    bool by_tag;
} rt_mixture;

/* "0.7,0.3" as weights of n sources, or "math=0.7,code=0.3" of documents by their tags, from however
   many places; flag: in messages. */
int rt_mixture_parse(rt_mixture *m, const char *flag, const char *list, int n, rt_err *err);
/* The source of this tag, -1 = none. */
int rt_mixture_find(const rt_mixture *m, const char *tag);
/* source[].first, n (at least 1), tokens and weight are set. Shares are of tokens, on average: a
   source of long documents has fewer of a window. At least one document of each. */
void rt_mixture_share(rt_mixture *m);
/* The document of place `index`, which counts on over all windows. */
int64_t rt_mixture_at(const rt_mixture *m, uint64_t seed, int64_t index);
/* So many places in a row have every document, wherever they begin. */
int64_t rt_mixture_round(const rt_mixture *m);

RT_END

#endif
