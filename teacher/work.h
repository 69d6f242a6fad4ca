/* work.h: what `sample` and `score` share: the immutable plan of the work (which texts, under which
   ids, in which order, which part is this process's), the options that shape an archive, and the
   table printed at the end.
   A sample's index, id and seed are functions of the plan alone: machines that share the work and
   runs that were killed and started again write the archive that one clean run would have written.
   Refuses: running models. */
#ifndef RT_WORK_H
#define RT_WORK_H

#include "core/base/option.h"
#include "core/network/needs.h"
#include "corpora/archive/trace.h"
#include "corpora/bytes_map.h"
#include "corpora/chat.h"
#include "corpora/verify/verify.h"
#include "teacher/teacher.h"

RT_BEGIN

typedef struct rt_archive_options {
    char *teacher, *out, *licence, *shard;
    rt_strlist temperatures, set, tags;
    int64_t head_max, samples_per_shard, limit, memory;
    rt_dev_choice device;
    uint64_t seed;
    double head_floor, tail_spacing;
    bool identity, plan, json;
} rt_archive_options;

/* Rows for a command whose struct S holds an rt_archive_options `a`. */
#define RT_ARCHIVE_OPTIONS(S)                                                                      \
    OPT_NEED(S, a.teacher, "teacher", "DIR|GGUF", "the frozen model", RT_OPT_INPUT_NAMED),         \
        OPT_NEED(S, a.out, "out", "A.traces", "the archive; taken up where a stopped run left it", \
                 RT_OPT_OUTPUT),                                                                   \
        OPT_INT(S, a.head_max, "head-max", "8", 0, RT_SOFT_HEAD_MAX,                               \
                "most probable tokens kept exactly at a position; 0 = no soft targets"),           \
        OPT_FLOAT(S, a.head_floor, "head-floor", "0.0009765625", 0, 1,                             \
                  "the exact head stops once less mass than this is left"),                        \
        OPT_FLOAT(S, a.tail_spacing, "tail-spacing", "0.03125", 0, 1,                              \
                  "tail mass that one draw stands for; 0 = no draws"),                             \
        OPT_LIST(S, a.temperatures, "temperatures", "LIST",                                        \
                 "keep the normaliser at these temperatures, \"1.5,2\""),                          \
        RT_CHAT_OPTION(S, a.set), OPT_SEED(S, a.seed, "of every draw"),                            \
        OPT_LIST(S, a.tags, "only-tag", "TAG",                                                   \
                 "take only what has this \"tag\" (may repeat)"),                               \
        OPT_INT(S, a.limit, "limit", "0", 0, 1e15, "take only the first N of the input; 0 = all"), \
        OPT_STR(S, a.shard, "shard", NULL, "I/N",                                                  \
                "do part I (from 0) of N; else by the environment of a job array"),                \
        OPT_INT(S, a.samples_per_shard, "samples-per-shard", "4096", 1, 1e9,                       \
                "samples in one file of the archive"),                                             \
        OPT_BYTES(                                                                                 \
            S, a.memory, "memory", "0", 0, 1e15,                                                   \
            "read weights as they are needed, and hold no more than this (2G); 0 = no bound",      \
            RT_OPT_FREE),                                                                          \
        OPT_BOOL(S, a.identity, "identity", "true",                                                \
                 "know the teacher by its bytes, all read once; else by its config alone"),        \
        OPT_STR(S, a.licence, "licence", "", "TEXT", "under which the archive may be used"),       \
        OPT_DEVICE(S, a.device),                                                                   \
        OPT_BOOL(S, a.plan, "plan", "false", "print memory by name and stop", RT_OPT_FREE),        \
        OPT_BOOL(S, a.json, "json", "false", "the table at the end as JSON", RT_OPT_FREE)

/* The part that a job array's environment says, as if it were given: of a command whose struct
   begins with its rt_archive_options. */
void rt_archive_settle(void *options);
/* Capture settings, part and parts, shard size, licence and seed into the manifest. */
int rt_archive_settings(rt_trace_manifest *m, const rt_archive_options *o, rt_err *err);

typedef struct rt_work_item {
    char *id;       /* the record's, unique */
    char *messages; /* compact JSON: the messages before the response, or a text as a string */
    char *tools;    /* compact JSON list, or NULL */
    char *answer;   /* reference, or NULL */
    rt_verify_kind verify;
    int64_t at;        /* tokens [at, at + n) of the pool */
    int32_t n, prompt; /* tokens; how many of them come before the response */
    int64_t seen;      /* where there is a privileged prompt, the tokens [seen, seen + n_seen) that a
                          teacher has before the response; else those of [at, at + prompt) */
    int32_t n_seen;
    int64_t span;      /* begin and end of what is learned: n_spans pairs of `spans` */
    int32_t n_spans;
    double weight;     /* of the response, or of the text */
    float span_weight; /* of the response to a prompt, as its one span has it */
    char *tag;         /* the record's, or NULL */
} rt_work_item;

typedef struct rt_work {
    rt_work_item *item; /* (n) in input order */
    int64_t n, cap, longest;
    int64_t longest_seen; /* of prompts as a teacher sees them */
    rt_ids pool, spans;
    float *span_weight; /* (spans.n / 2) */
    int64_t cap_weights;
    rt_bytes_map ids; /* of the items, in their order */
    rt_hash hash;     /* identity of the list */
    int64_t answers;  /* records that have one */
    char unread[160]; /* keys of the first record that were passed over */
    int64_t other_tags; /* records that --only-tag leaves out */
    int64_t repeated; /* records without an id that say what an earlier one said: left out */
    char first_repeated[256]; /* where */
} rt_work;

typedef enum rt_work_kind {
    RT_WORK_PROMPTS, /* what a model is to continue */
    RT_WORK_TEXTS,   /* conversations and documents whose tokens are given: all turns count */
    RT_WORK_LAST     /* the same, but of a conversation only its last turn counts */
} rt_work_kind;

/* Whether something of this tag (NULL, "": of none) is taken: any where no tags are asked for. */
bool rt_work_takes(const rt_strlist *tags, const char *tag);
/* After `taken` of --only-tag and `left` others: says so, or fails where there was none. */
int rt_work_tell_tags(const rt_strlist *tags, const char *path, int64_t taken, int64_t left, rt_err *err);
/* Records of all paths (corpora/record.h) that have one of the tags, if there are any, at most `limit`
   (0 = all). verify: rt_verify_choose's flag. */
int rt_work_read(rt_work *w, const rt_chat *chat, rt_work_kind kind, const rt_strlist *paths,
                 const rt_strlist *tags, int64_t limit, const char *verify, rt_err *err);
void rt_work_free(rt_work *w); /* accepts a zeroed list */
/* What a teacher that saw `seen` tokens of a prompt said, behind the prompt as it stands: a copy, of
   *n tokens; free() it. token (n): with what it saw. */
int32_t *rt_work_response(const rt_work *w, const rt_work_item *item, const int32_t *token,
                          int64_t n_token, int64_t *n);
/* And the other way round. */
int32_t *rt_work_seen(const rt_work *w, const rt_work_item *item, const int32_t *token,
                      int64_t n_token, int64_t *n);
/* What the record says of the response to its prompt: the tag, and what its one span counts; one that
   counts 0 goes. Borrowed of the item. */
void rt_work_weigh(const rt_work_item *item, rt_trace_sample *s);
/* The item of this id, for a sample that an archive has (rt_trace_place): an archive grows, it does
   not shrink. */
int rt_work_find(const rt_work *w, const rt_trace_sample *s, const rt_work_item **item,
                 rt_err *err);
/* Whether plan index i of a sample is this part's. */
int rt_work_check_part(const rt_trace_manifest *m, const rt_trace_sample *s, rt_err *err);

/* The seed of draw k of a prompt. */
uint64_t rt_work_seed(uint64_t run_seed, const char *id, int64_t k);

/* The list, the writer's memory, the archive on disk when every sample takes `tokens`, `rows` of
   them with targets; and the archive itself as this plan's output. */
void rt_work_needs(const rt_work *w, const rt_archive_options *o, const rt_trace_manifest *m,
                   int64_t samples, int64_t tokens, int64_t rows, rt_needs *p);

/* Finishes the archive unless bad, closes it either way, and tells on stdout what it holds; where
   nothing was left to do (done) only that, at once. tokens: of this process, which began at `begun`
   (rt_now). */
/* teacher: whose weights were streamed is said too. */
int rt_work_end(rt_trace_writer *w, const rt_teacher *teacher, int bad, bool done,
                const rt_archive_options *o, int64_t tokens, double begun, rt_err *err);

RT_END

#endif
