/* trace.h: the trace archive, where teacher and student meet. A directory NAME.traces:

     manifest.json     who made it and how; the list of shards with size and XXH3-128
     shard-00000.npz   immutable; a ZIP of STORED .npy columns, samples.jsonl and meta.json
     journal           append-only checksummed records of finished samples not yet in a shard
     lock              flock'ed by the one writer

   Its final bytes are a pure function of (manifest, samples in index order): no clocks, no machine,
   no trace of kills and resumes. Rejected samples stay, flagged by their verdict.
   Refuses: judging samples, tokenizing, knowing which teacher wrote it. Format: FORMAT, below.

   Rules for a writer. Every sample has a plan index, unique in the archive; append in ascending
   index order whatever order they were finished in. A sample is acknowledged once rt_trace_flush
   (or finish, or close) has returned 0. An index below the last one is accepted (it fills a gap
   that repair left); rt_trace_finish then rebuilds the archive in index order. */
#ifndef RT_TRACE_H
#define RT_TRACE_H

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/device/soft.h"
#include "corpora/verify/verify.h"

RT_BEGIN

/* What this program reads; it writes 1 where no span has a weight of its own. */
enum { RT_TRACE_VERSION = 2, RT_TRACE_ID_MAX = 1023, RT_TRACE_SPANS_MAX = 4096 };
#define RT_TRACE_TOKENS_MAX (1 << 24) /* tokens of one sample */
#define RT_TRACE_VOCAB_MAX (1 << 22)
#define RT_TRACE_WEIGHT_MAX 1e6f /* of a span: a record's times a message's */
#define RT_TRACE_TEXT_MAX (64 << 20) /* bytes of one sample's JSON line */

typedef enum rt_verdict {
    RT_UNVERIFIED, /* nothing to check against */
    RT_CORRECT,
    RT_WRONG,
    RT_UNFINISHED, /* cut by the token limit or the server */
    RT_VERDICT_COUNT
} rt_verdict;
const char *rt_verdict_name(rt_verdict v); /* "correct" */
/* "correct,wrong" as bits 1u << verdict, "auto" as 0: correct ones of an archive that holds judged
   samples, else all that are finished. flag: in the message. */
int rt_verdict_mask(unsigned *mask, const char *flag, const char *list, rt_err *err);

/* Who made the archive and how. All but `licence`, `complete` and `weighted` must be equal to append to an
   archive or to merge archives (part differs in a merge). Start from rt_trace_manifest_init. */
typedef struct rt_trace_manifest {
    char teacher[256];      /* name or URL */
    rt_hash config_hash;    /* of config.json; of a GGUF whose weights are not read, of
                               its keys and tensors' table; else empty */
    rt_hash weights_hash;   /* empty = unknown (remote) */
    char sampler[256];      /* who wrote the text, where the teacher only scored it; "" = the teacher,
                               or it was given */
    rt_hash sampler_hash;   /* of its weights; empty = unknown */
    int64_t sampler_step;   /* of a student that learns: steps it made since it had them */
    rt_hash listed_hash;    /* of the weights of the model whose ids the head holds beside the
                               teacher's own (capture.listed) */
    char precision[64];     /* of the teacher's forward pass: "f32", "bf16", "fp8", "Q4_K_M" */
    rt_hash tokenizer_hash; /* rt_tokenizer fingerprint: equal = same vocabulary and ids */
    int32_t vocab_size;     /* real ids, without padding rows of the head; every id is below it */
    rt_hash template_hash;  /* of the chat template text; empty = none */
    char licence[128];      /* SPDX id or words; "" = not stated */
    rt_soft_config capture; /* head_max 0 = text and tokens only, no soft rows anywhere */
    char mode[16];          /* "sample" or "score" */
    double temperature;     /* of sampling; capture is always at T = 1 */
    double top_p;           /* 1 = off */
    int32_t top_k;          /* 0 = off */
    double min_p;           /* 0 = off */
    char stop[1024];        /* texts that end a response, a JSON list; "" = none */
    int64_t repetition;     /* tokens of a cycle that end a response; 0 = off */
    int32_t samples_per_prompt;
    int64_t max_tokens; /* generated tokens a sample; 0 = no limit */
    uint64_t seed;
    rt_hash prompts_hash;      /* of the prompts or texts the plan was made from */
    int64_t planned;           /* samples of the whole plan, all parts together; 0 = unknown */
    int32_t part, parts;       /* --shard I/N; 0/1 = everything */
    int64_t samples_per_shard; /* a shard closes at this many samples ... */
    int64_t bytes_per_shard;   /* ... or at this many content bytes, whichever is first */
    bool complete;             /* set by rt_trace_finish; ignored on input */
    bool weighted;             /* some span has a weight (version 2): set by the writer, ignored on input */
} rt_trace_manifest;

/* temperature 1, top_p 1, samples_per_prompt 1, parts 1, mode "sample", default shard limits. */
void rt_trace_manifest_init(rt_trace_manifest *m);

/* tokens [begin, end) */
typedef struct rt_trace_span {
    int32_t begin, end;
} rt_trace_span;

/* One sample. For append every pointer is borrowed and only read; NULL texts mean "". From
   rt_trace_get every pointer belongs to the sample until the next get or rt_trace_sample_free. */
typedef struct rt_trace_sample {
    int64_t index;  /* place in the plan, >= 0, unique */
    const char *id; /* unique, 1..RT_TRACE_ID_MAX bytes of UTF-8 without control characters */
    const char *prompt_id; /* shared by the samples of one prompt */
    const char *messages;  /* JSON text: array of messages, or a string; NULL = null */
    const char *tools; /* JSON text: what may be called, as the template was given it; or NULL */
    const char *reasoning, *answer;
    double weight;   /* of the response, or of the text, as its record has it; kept with the texts */
    const char *tag; /* the record's word for its kind; "" = none; kept with the texts */
    const char *finish; /* "stop", "length", "stop_string", "repetition", or a server's word */
    rt_verdict verdict;
    rt_verify_rule rule; /* which gave the verdict; kept in the JSON line, read with the texts */
    double reward;       /* finite */
    uint64_t seed;
    const int32_t *tokens; /* (n_tokens) prompt and completion, every id < vocab_size */
    int64_t n_tokens;
    int32_t prompt_tokens;      /* tokens[0 .. prompt_tokens) are the prompt */
    const rt_trace_span *spans; /* (n_spans) ascending, disjoint, not empty: tokens to learn */
    int32_t n_spans;
    const float *span_weight; /* (n_spans) what each token of a span counts, above 0 to
                                 RT_TRACE_WEIGHT_MAX; NULL: 1 each, also from rt_trace_get */
    int32_t soft_first; /* soft row r predicts tokens[soft_first + r] */
    rt_soft soft;       /* soft.n <= n_tokens - soft_first; 0 rows allowed */
    uint64_t hash;      /* content hash, set by rt_trace_get */
    void *memory;       /* private */
} rt_trace_sample;

/* Whether one of the n weights (f32, in any place, or NULL) is not 1: only such are kept. */
bool rt_trace_weighted(const void *weight, int64_t n);

void rt_trace_sample_init(rt_trace_sample *s);
void rt_trace_sample_free(rt_trace_sample *s); /* only for samples that rt_trace_get filled */

/* ---- writing: one writer an archive, one thread ---- */

typedef struct rt_trace_writer rt_trace_writer;

/* Create PATH, or take it up where a killed run left it: torn journal tails dropped with a note,
   temps removed, a shard whose commit was interrupted finished or redone. A field that differs from
   *m is an error naming it; so is a second writer. */
int rt_trace_open_append(rt_trace_writer **w, const char *path, const rt_trace_manifest *m,
                         rt_err *err);
/* An archive may grow: more prompts, more samples of each, a plan in another order. A sample that
   stands in it (texts and tokens, no soft rows), as the plan of this run has it: sets its index, and
   its texts and verdict where the plan says them. Fails when the plan has no such sample, or another
   prompt under its id. */
typedef int rt_trace_place(void *ctx, rt_trace_sample *s, rt_err *err);
/* The same; but where the plan (prompts, planned, samples_per_prompt) is another, every sample is
   placed and the archive written anew, so that it becomes the one that this plan would have made at
   once. Killed at any moment it is the old one or the new one. */
int rt_trace_open_extend(rt_trace_writer **w, const char *path, const rt_trace_manifest *m,
                         rt_trace_place *place, void *ctx, rt_err *err);
bool rt_trace_has(const rt_trace_writer *w, const char *id);
int64_t rt_trace_written(const rt_trace_writer *w); /* samples in the archive */
/* Texts that are not valid UTF-8 get U+FFFD in place of bad bytes (the tokens are the truth). What
   cannot be kept (ids out of range, NaN, unsorted sets) is an error and changes nothing. */
int rt_trace_append(rt_trace_writer *w, const rt_trace_sample *s, rt_err *err);
/* fdatasync: what was appended is acknowledged. */
int rt_trace_flush(rt_trace_writer *w, rt_err *err);
/* All samples in shards (the last may be short), journal empty, complete = true. */
int rt_trace_finish(rt_trace_writer *w, rt_err *err);
/* Flush, unlock, free in all cases; accepts NULL. */
int rt_trace_close(rt_trace_writer *w, rt_err *err);

/* ---- reading: any number of threads, also while a writer runs (sees what stood at open) ---- */

typedef struct rt_trace_reader rt_trace_reader;

enum { RT_TRACE_TEXT = 1, RT_TRACE_SOFT = 2 }; /* parts that rt_trace_get decodes beside tokens */

bool rt_trace_is(const char *path); /* a directory with a manifest */
int rt_trace_open_read(rt_trace_reader **r, const char *path, rt_err *err);
void rt_trace_reader_close(rt_trace_reader *r); /* accepts NULL */
const rt_trace_manifest *rt_trace_info(const rt_trace_reader *r);
int64_t rt_trace_count(const rt_trace_reader *r);
/* i in [0, count) in archive order. The content hash is always checked, so damage is an error here
   and never a training target. id, index, verdict, tokens, spans and their weights are always
   filled. */
int rt_trace_get(const rt_trace_reader *r, int64_t i, int parts, rt_trace_sample *s, rt_err *err);
rt_verdict rt_trace_verdict(const rt_trace_reader *r, int64_t i); /* without decoding */
int64_t rt_trace_tokens(const rt_trace_reader *r, int64_t i);     /* length, without decoding */
uint64_t rt_trace_hash(const rt_trace_reader *r, int64_t i);      /* of the content, as recorded */
/* Tokens to learn of its spans, or of the last span alone, without decoding; *soft: how many of them
   a soft row predicts. */
int64_t rt_trace_learned(const rt_trace_reader *r, int64_t i, bool last, int64_t *soft);
int64_t rt_trace_find(const rt_trace_reader *r, const char *id);  /* -1 = absent; linear */

/* ---- care (trace_care.c) ---- */

/* One call a finding. id is NULL when the damage is not inside one sample. */
typedef void rt_trace_report(void *ctx, const char *id, const char *text);

/* Reads everything. Returns the number of problems (0 = whole) or -1 when PATH is no archive. */
int64_t rt_trace_verify(const char *path, rt_trace_report *report, void *ctx, rt_err *err);
/* Keep every readable sample; the damaged archive stays as PATH.damaged. Reports each sample lost
   by its id, or by its file when even that is gone. Returns the number of samples lost, -1 on
   failure. A whole archive is left alone. */
int64_t rt_trace_repair(const char *path, rt_trace_report *report, void *ctx, rt_err *err);
/* What one machine would have written: part 0/1, samples by index. OUT must not exist. */
int rt_trace_merge(const char *out, const char *const *paths, int n, rt_err *err);

typedef struct rt_trace_statistics {
    int64_t samples, prompts, tokens;
    int64_t positions, certain; /* soft rows; those in the short form */
    int64_t verdicts[RT_VERDICT_COUNT];
    int64_t rules[RT_RULE_COUNT]; /* samples judged by it, "cannot tell" included */
    int64_t record_bytes, file_bytes;
    double bytes_per_position; /* coded soft rows only: record_bytes / positions */
    double mean_unique_ids;    /* head and drawn items a position */
    double mean_head, mean_draws, mean_tail_mass;
    double mean_entropy, entropy_p50, entropy_p90, entropy_p99; /* nats; percentiles to 1/64 nat */
    double share_certain_entropy;                               /* positions below 0.01 nat */
} rt_trace_statistics;
int rt_trace_stats(const rt_trace_reader *r, rt_trace_statistics *s, rt_err *err);
/* All of it, in the words of `archive stats --json`. */
void rt_trace_stats_put(cJSON *json, const rt_trace_statistics *s);

/* FORMAT, versions 1 and 2. All integers little-endian. An archive is of version 2 when a sample of
   it has weights, a shard when one of its own has; without them both are of version 1, byte for byte
   what programs before them wrote. Entries and keys that are not named here are errors nowhere and
   mean nothing: what changes a meaning gets a version.

   shard-NNNNN.npz: ZIP, every entry STORED, no timestamps; .npy format 1.0, C order. n samples:

     meta.json          {"format","version","shard","samples","manifest":{...},
                         "entries":{NAME:{"bytes","xxh3"}}}: XXH3-128 of every other entry's bytes
     samples.jsonl      one JSON object a line: index, id, prompt_id, messages, tools (where there
                        are some), reasoning, answer, finish, verdict (name), rule (name, where the
                        sample was compared), reward, seed (decimal string); where they are not 1 and "", weight
                        (of the response, or the text) and tag
     line_offsets.npy   <i8 (n+1)   sample s is bytes [o[s], o[s+1]) of samples.jsonl, '\n' included
     id.npy             |S (n)      the same ids in UTF-8, zero-padded
     index.npy          <i8 (n)     plan index, ascending
     verdict.npy        |u1 (n)     0 unverified 1 correct 2 wrong 3 unfinished
     prompt_tokens.npy  <i4 (n)
     soft_first.npy     <i4 (n)     soft row r of the sample predicts its token soft_first + r
     token_offsets.npy  <i8 (n+1)   sample s owns tokens [o[s], o[s+1])
     tokens.npy         <i4 (all tokens)
     span_offsets.npy   <i8 (n+1)
     spans.npy          <i4 (all spans, 2)   loss spans [begin, end) in the sample's own tokens
     span_weights.npy   <f4 (all spans)      version 2 alone: what each token of a span counts, above
                                    0 to 1e6. 1 each = the sample has no weights
     row_offsets.npy    <i8 (n+1)   sample s owns soft rows [o[s], o[s+1])
     record_offsets.npy <i8 (n+1)   and bytes [o[s], o[s+1]) of records.npy
     records.npy        |u1 (bytes) coded soft rows, see ROWS
     hash.npy           <u8 (n)     XXH3-64 chained over the pieces, each hash the seed of the next
                                    (first seed 0): fixed, id, line without '\n', tokens, spans,
                                    records, weights if it has some; fixed = struct <q6i(index, tokens, prompt_tokens,
                                    soft_first, rows, spans, verdict)

   ROWS: the rows of one sample are one stream of bits, the lowest bit of a byte first, numbers
   lowest bit first, padded with zero bits to a whole byte. V = vocab_size, taken = the token that
   the row predicts, t = exp(tail_logmass). gamma(n >= 1) is Elias': as many 0 bits as n has bits
   after its leading 1, a 1, then those bits. q(x) = min(65534, round(-x * 2048)): error <= 2.5e-4
   nat down to -31.99, where it saturates.

     1 bit     short
     short row: the head is {taken}, nothing drawn, t < 0.0044
       8 bits  a: tail_logmass = -5.5 - a / 8; 255 = -inf. Then logp = taken_logp = log(1 - t)
       4 bits  b: entropy = -(1-t) log(1-t) - t log t + t * log(V) * b / 15
       then    log Z, as below
     full row:
       1 bit   taken is in the head
       h bits  m - 1: tokens in the head; h = bits that hold head_max - 1 (8 -> 3, 1 -> 0)
       gamma   d + 1: distinct drawn tokens
       4 bits  k, Rice parameter of both sets
       4 bits  w - 1, width of the numbers below
       head    m ids (m - 1 when taken is in the head: it is left out), ascending, each as
               gap = id - previous - 1 (previous = -1 at first): gap >> k in unary (that many 1
               bits, then a 0), then the k low bits of gap
       drawn   d ids, the same code, starting anew at previous = -1; never an id of the head
       d x     gamma(hits)
       m x w   q(logp), in ascending id order, taken included
       w       q(taken_logp), only when taken is not in the head
       w       q(-entropy)
       w       q(tail_logmass); all ones = -inf
       then    log Z, as below
     log Z     16 bits for each temperature: two's complement, log Z * 1024, error <= 4.9e-4, +-32
   Short rows are used only where they cost at most 1/16 nat in tail_logmass, 2.5e-4 in logp and
   5e-3 in entropy.

   journal: 8 bytes "rtjourn1", then records: u32 0x52545352, u32 payload bytes, u64 XXH3-64 of the
   payload (seed = payload bytes), payload = fixed (32 bytes), u32 id bytes, u32 line bytes, u32
   record bytes, id, line, tokens, spans, records, weights if it has some (4 bytes a span, which the
   payload then is longer by): the pieces hashed above. */

RT_END

#endif
