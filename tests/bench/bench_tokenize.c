/* bench_tokenize.c: how fast a tokenizer encodes on one thread, in processor time.
     bench_tokenize MODEL TEXT...     each file is one document
   Prints MB/s, tokens, milliseconds to open, and hashes of the ids and of the documents decoded
   from them; tests/bench/tokenize_reference.py compares all with Hugging Face tokenizers. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "corpora/tokenizer/tokenizer.h"

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int encode_all(const rt_tokenizer *t, rt_text *doc, int n, rt_ids *ids, rt_err *err)
{
    for (int i = 0; i < n; i++)
        if (rt_tokenizer_encode(t, doc[i].data, doc[i].bytes, RT_TOKENIZE_SPECIAL, ids, err) ||
            rt_ids_add(ids, -1, err))
            return -1;
    return 0;
}

/* The documents again, one after the other. */
static int decode_all(const rt_tokenizer *t, const rt_ids *ids, rt_text *out, rt_err *err)
{
    for (int64_t i = 0, end; i < ids->n; i = end + 1) {
        for (end = i; ids->id[end] >= 0; end++)
            ;
        if (rt_tokenizer_decode(t, ids->id + i, end - i, 0, out, err))
            return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    rt_err err = { 0 };
    rt_tokenizer *t = NULL;
    rt_ids ids = { 0 };
    int n = argc - 2, bad = 0;
    if (argc < 3) {
        fprintf(stderr, "usage: bench_tokenize MODEL TEXT...\n");
        return 2;
    }
    rt_text *doc = calloc((size_t)n, sizeof *doc);
    int64_t bytes = 0;
    for (int i = 0; i < n && !bad; i++) {
        bad = rt_file_read(&doc[i].data, &doc[i].bytes, argv[2 + i], 1LL << 30, &err);
        bytes += doc[i].bytes;
    }
    double begin = cpu_seconds();
    bad = bad || rt_tokenizer_open(&t, argv[1], &err);
    double opened = cpu_seconds() - begin, best = 1e30;
    for (int round = 0; round < 3 && !bad; round++) {
        ids.n = 0;
        begin = cpu_seconds();
        bad = encode_all(t, doc, n, &ids, &err);
        double took = cpu_seconds() - begin;
        best = took < best ? took : best;
    }
    rt_text again = { 0 };
    bad = bad || decode_all(t, &ids, &again, &err);
    if (bad)
        fprintf(stderr, "bench_tokenize: %s\n", err.text);
    else
        printf("%.2f MB/s, %lld tokens, opened in %.0f ms, ids %s, text %s\n",
               (double)bytes / best / 1e6, (long long)(ids.n - n), opened * 1e3,
               rt_hash_bytes(ids.id, ids.n * (int64_t)sizeof *ids.id).hex,
               rt_hash_bytes(again.data, again.bytes).hex);
    rt_text_free(&again);
    for (int i = 0; i < n; i++)
        rt_text_free(&doc[i]);
    free(doc);
    rt_ids_free(&ids);
    rt_tokenizer_close(t);
    return bad != 0;
}
