/* examples.h: which held-out documents are shown to people, and how: the worst and some typical ones
   by the mean of what was measured at their tokens (the KL to a reference; else the archive's
   estimate; else cross-entropy), cut into pieces of text with that number, and beside them what the
   model itself answers: to a problem with that prompt, or asked for it. Two passes: one number a
   document, then the chosen ones again.
   Refuses: measuring (measure.h), sampling (corpora/answer.h), drawing (distill/page.h). */
#ifndef RT_EXAMPLES_H
#define RT_EXAMPLES_H

#include "student/measure.h"
#include "student/problems.h"

RT_BEGIN

enum { RT_EXAMPLE_TOKENS = 1024 }; /* shown of a document, the most */

/* A prompt that no problem had, to be answered yet. */
typedef struct rt_example_ask {
    rt_ids prompt;
    char *answer; /* of the text */
    rt_verify_kind verify;
    cJSON *json;  /* of the list */
} rt_example_ask;

typedef struct rt_examples {
    const rt_chat *chat;
    const rt_problems *problems; /* whose answers stand beside, or NULL */
    int64_t each;                /* worst ones, and typical ones */
    double *mean;                /* (n) of the corpus's documents; < 0: nothing was learned of it */
    int64_t n;
    int64_t *chosen;             /* (n_chosen) worst first, then the most typical */
    int64_t n_chosen, n_worst;
    const char *by;              /* key of results.h that the numbers are of */
    cJSON *list;                 /* what is shown */
    rt_example_ask *ask;         /* (n_ask) */
    int64_t n_ask;
} rt_examples;

/* documents: of the corpus. */
void rt_examples_init(rt_examples *x, const rt_chat *chat, const rt_problems *problems,
                      int64_t each, int64_t documents);
void rt_examples_free(rt_examples *x);
/* Measures c again as far as is needed. soft: whether it has soft targets. */
int rt_examples_run(rt_examples *x, rt_measure *ms, const rt_corpus *c, bool soft, rt_err *err);
/* answers: opened for n_ask questions, of prompts shorter than a document. */
int rt_examples_answer(rt_examples *x, rt_answers *answers, rt_err *err);
/* A rt_measure_watch: the first pass. */
int rt_examples_note(void *x, const rt_measured_document *m, rt_err *err);

RT_END

#endif
