/* corpus_inside.h: what a corpus holds, for the files that fill it: archives (corpus_archive.c), texts
   and documents (corpus.c). Refuses: being included by others. */
#ifndef RT_CORPUS_INSIDE_H
#define RT_CORPUS_INSIDE_H

#include "corpora/corpus.h"
#include "corpora/crossing/crossing.h"

RT_BEGIN

typedef struct rt_corpus_entry {
    int32_t archive; /* index, or -1 */
    int32_t n;       /* tokens */
    int64_t at;      /* position in the archive */
    int64_t token;   /* the first of its tokens in the pool, or -1: the archive's are the document's */
    int64_t span;    /* pool: the first of its spans */
    int32_t n_spans; /* pool */
    bool text;       /* pool: no turns in it */
    int32_t source; /* by its tag, of a mixture that has such */
    int32_t n_stretches;
    int64_t stretch; /* pool: the first of its stretches */
} rt_corpus_entry;

/* An archive, and how it is read when it is in other tokens than the student's. */
typedef struct rt_corpus_archive {
    rt_trace_reader *r;
    rt_crossing *crossing; /* of the corpus, or NULL */
} rt_corpus_archive;

struct rt_corpus {
    rt_corpus_options o;
    rt_corpus_entry *entry;
    int64_t n, cap, tokens, longest, left_out;
    int64_t learned; /* tokens of spans that count, before what the parts of turns count */
    int64_t by_verdict[RT_VERDICT_COUNT]; /* samples that their verdict leaves out */
    rt_text sources;                      /* "900 of a.traces, 300 of b.jsonl" */
    rt_ids pool, spans; /* tokens; begin and end of what is learned, document by document */
    float *span_weight; /* (cap_weights) of the pool's spans, where `weighted` */
    int64_t cap_weights;
    bool weighted; /* one of them is not 1 */
    rt_ids stretches;   /* rt_stretch, document by document */
    rt_corpus_archive *archive;
    int n_archives;
    rt_crossing **crossing; /* (n_crossings) of o.teachers, opened when an archive asks */
    int n_crossings;
    rt_mixture mixture; /* of the paths or tags; n = 0: there is none */
    int64_t other_tags; /* documents left out because it has no share for their tag */
    int64_t learned_of[RT_MIXTURE_SOURCES]; /* tokens, by tag */
    rt_soft_config soft;
    uint64_t hash;
};

/* Which source of a mixture by tags a document of this tag is, 0 of others; false: of none, and counted. */
bool rt_corpus_source(rt_corpus *c, const char *tag, int32_t *source);
bool rt_corpus_full(const rt_corpus *c); /* it has o.limit documents */
/* learned: how many of its tokens count. False: it is too long or too short, and counted as such. */
bool rt_corpus_add(rt_corpus *c, rt_corpus_entry e, int64_t learned);
/* Tokens of n spans of the pool, from `span` on, that may be learned. */
int64_t rt_corpus_learned(const rt_corpus *c, int64_t span, int32_t n);
/* Room for the weights of all spans of the pool. */
void rt_corpus_weights_reserve(rt_corpus *c);
int rt_corpus_add_archive(rt_corpus *c, const char *path, rt_err *err);

RT_END

#endif
