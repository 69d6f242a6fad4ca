/* bench_load.c: what the documents of a step cost the host before the device has them: opened, drawn, decoded, mapped
   where they are in other tokens, laid out as rows and targets. One thread, as a step does it; beside the time a step takes
   a token on your device. And what the targets say: the mass of the token that followed, of others, of nobody.
   build/bench_load STUDENT DATA [TEACHER-TOKENIZER [seen|first|tail]] */
#include <math.h>
#include <stdio.h>

#include "core/base/log.h"
#include "student/batch.h"
#include "tests/bench/peak.h"

enum { ROWS = 4096, DOCUMENTS = 512, HEAD_ROWS = 512, REPEAT = 20 };

/* One pass of documents from place *at on; returns their tokens, -1 = failed. */
static int64_t load_pass(const rt_corpus *c, rt_dev *d, rt_batch *b, rt_document *docs, int64_t *at,
                         rt_err *err)
{
    int64_t n = 0;
    rt_batch_clear(b);
    for (int i = 0; i < DOCUMENTS; i++, ++*at) {
        int64_t k = rt_corpus_draw(c, 1, *at);
        if (!rt_batch_fits(b, rt_corpus_length(c, k)))
            break;
        if (rt_corpus_get(c, k, &docs[i], err))
            return -1;
        rt_batch_add(b, &docs[i]);
        n += docs[i].n;
    }
    for (int64_t first = 0; first < b->n_loss; first += HEAD_ROWS) {
        const int32_t *index;
        (void)rt_batch_chunk(d, b, first, &index);
        if (rt_sync(d, err))
            return -1;
    }
    return n;
}

/* Mean over the targets of all documents. */
static int tell_masses(const rt_corpus *c, rt_document *doc, rt_err *err)
{
    double taken = 0, others = 0, tail = 0;
    int64_t n = 0;
    for (int64_t i = 0; i < rt_corpus_count(c); i++) {
        if (rt_corpus_get(c, i, doc, err))
            return -1;
        const rt_soft *s = rt_document_soft(doc);
        for (int64_t r = 0; s && r < s->n; r++, n++) {
            const int32_t token = doc->token[doc->soft_first + r];
            for (int64_t k = s->offset[r]; k < s->offset[r] + s->head_n[r]; k++)
                *(s->id[k] == token ? &taken : &others) += exp((double)s->logp[k]);
            tail += exp((double)s->tail_logmass[r]);
        }
    }
    if (n)
        printf("%lld targets: %.2f %% of their mass is of the token that followed, %.2f %% of others, %.2f %% "
               "tail\n",
               (long long)n, 100 * taken / (double)n, 100 * others / (double)n,
               100 * tail / (double)n);
    return 0;
}

int main(int argc, char **argv)
{
    static rt_document docs[DOCUMENTS];
    rt_err err = { .text = "give STUDENT DATA [TEACHER-TOKENIZER]" };
    rt_dev *d;
    rt_chat chat;
    rt_corpus *c;
    rt_batch b;
    rt_arenas arenas = { 0 };
    rt_corpus_options o = { .chat = &chat, .max_length = ROWS };
    if (argc < 3 || rt_dev_open(&d, NULL, 1, &err) || rt_chat_open(&chat, argv[1], &err))
        goto failed;
    if (argc > 3)
        o.teachers = (rt_strlist){ .item = argv + 3, .n = 1 };
    if (argc > 4)
        o.unmatched = rt_unmatched_named(argv[4]);
    double begun = rt_now();
    if (rt_corpus_open(&c, (const char *const *)&argv[2], 1, &o, &err))
        goto failed;
    double opened = rt_now() - begun;
    rt_batch_shape shape = { .rows = ROWS, .documents = DOCUMENTS, .head_rows = HEAD_ROWS,
                             .soft = rt_corpus_soft(c), .temperature = 1, .waiting = ROWS };
    rt_batch_plan(&b, &arenas, &shape);
    if (rt_arenas_place(&arenas, d, &err) || rt_dev_ready(d, &err))
        goto failed;
    double seconds[REPEAT];
    int64_t at = 0;
    for (int r = -2; r < REPEAT; r++) {
        double start = rt_now();
        int64_t n = load_pass(c, d, &b, docs, &at, &err);
        if (n < 1)
            goto failed;
        if (r >= 0)
            seconds[r] = (rt_now() - start) / (double)n;
    }
    double a_token = rt_median(seconds, REPEAT);
    printf("%lld tokens opened in %.2f s (%.2fM tokens/s); a step's: %.2f us a token, %.2fM tokens/s\n",
           (long long)rt_corpus_tokens(c), opened, (double)rt_corpus_tokens(c) / opened * 1e-6,
           a_token * 1e6, 1e-6 / a_token);
    if (tell_masses(c, &docs[0], &err))
        goto failed;
    for (int i = 0; i < DOCUMENTS; i++)
        rt_document_free(&docs[i]);
    rt_arenas_free(&arenas, d);
    rt_corpus_close(c);
    rt_chat_close(&chat);
    rt_dev_close(d);
    return 0;
failed:
    fprintf(stderr, "bench_load: %s\n", err.text);
    return 1;
}
