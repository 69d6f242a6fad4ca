/* pipeline.h: what stands around the model in tokenizer.json: normalizers, pre-tokenizers and
   decoders, each a short list of steps that all reduce to a handful of kinds.
   Refuses: any type it does not know, by name. */
#ifndef RT_PIPELINE_H
#define RT_PIPELINE_H

#include "core/base/json.h"
#include "corpora/tokenizer/regex.h"

RT_BEGIN

/* The split pattern of GPT-2, which ByteLevel uses too. */
#define RT_GPT2_PATTERN                                                                            \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
/* \w of Rust's regex, where the reference uses that: a class, to stand in another one too. */
#define RT_RUST_WORD "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}]"

typedef enum rt_step_kind {
    RT_STEP_UNICODE,       /* normal form `form` */
    RT_STEP_PREPEND,       /* `text` in front of anything not empty */
    RT_STEP_REPLACE,       /* each match of regex by `text` */
    RT_STEP_STRIP,         /* white space at the left and/or right */
    RT_STEP_SPLIT,         /* at matches of regex */
    RT_STEP_PREFIX_SPACE,  /* a space in front unless there is one */
    RT_STEP_BYTES,         /* bytes -> printable characters; decoding: back */
    RT_STEP_METASPACE,     /* ' ' -> `text`, put in front by `scheme`; decoding: back */
    RT_STEP_BYTE_FALLBACK, /* decoding: <0xHH> -> the byte */
    RT_STEP_FUSE,          /* decoding: all pieces into one */
    RT_STEP_TRIM           /* decoding: up to start/stop times `text` at the ends of a piece */
} rt_step_kind;

typedef enum rt_split_behavior {
    RT_SPLIT_ISOLATED,
    RT_SPLIT_REMOVED,
    RT_SPLIT_MERGED_WITH_PREVIOUS,
    RT_SPLIT_MERGED_WITH_NEXT,
    RT_SPLIT_CONTIGUOUS
} rt_split_behavior;

typedef enum rt_unicode_form { RT_NFC, RT_NFD, RT_NFKC, RT_NFKD } rt_unicode_form;
typedef enum rt_prepend_scheme {
    RT_PREPEND_ALWAYS,
    RT_PREPEND_FIRST,
    RT_PREPEND_NEVER
} rt_prepend_scheme;

typedef struct rt_step {
    rt_step_kind kind;
    rt_regex *regex;
    char *text;
    rt_split_behavior behavior;
    rt_unicode_form form;
    rt_prepend_scheme scheme;
    bool invert, left, right;
    int64_t start, stop;
} rt_step;

enum { RT_STEPS_MAX = 16 };

typedef struct rt_steps {
    rt_step step[RT_STEPS_MAX];
    int n;
} rt_steps;

/* json: the value of "normalizer", "pre_tokenizer", "decoder"; NULL or null gives no steps. */
int rt_normalizer_parse(rt_steps *s, const cJSON *json, rt_err *err);
int rt_pre_tokenizer_parse(rt_steps *s, const cJSON *json, rt_err *err);
int rt_decoder_parse(rt_steps *s, const cJSON *json, rt_err *err);
/* Add a split by a pattern, isolated, as the byte-level families do. */
int rt_steps_add_split(rt_steps *s, const char *pattern, rt_err *err);
rt_step *rt_steps_add(rt_steps *s, rt_step_kind kind, rt_err *err); /* NULL = failed */
void rt_steps_free(rt_steps *s);
/* Append a canonical description: equal text means equal behaviour. */
int rt_steps_describe(const rt_steps *s, rt_text *out, rt_err *err);

/* *text (well-formed UTF-8) through all normalizer steps; spare is work space. */
int rt_normalize(const rt_steps *s, const rt_matcher *m, rt_text *text, rt_text *spare,
                 rt_err *err);
/* Whether text comes out of the steps as it went in, told from a glance at its bytes. */
bool rt_normal_already(const rt_steps *s, const char *text, int64_t bytes);

/* The pre-tokens of a text, one call each, in order. `first`: text begins the whole input. */
typedef struct rt_pre_run {
    const rt_steps *steps;
    const rt_matcher *matcher;
    rt_text *buffer; /* (RT_STEPS_MAX) */
    int (*emit)(void *user, const char *piece, int64_t bytes, rt_err *err);
    void *user;
} rt_pre_run;
int rt_pre_tokenize(const rt_pre_run *run, const char *text, int64_t bytes, bool first,
                    rt_err *err);

/* What `bytes` of text may grow to: a few Replace steps after one another could fill any memory. */
#define RT_STEPS_MOST(bytes) (64 * (bytes) + (16 << 10))

/* Append text with each match of a REPLACE step's pattern replaced; fails when out outgrows most. */
int rt_step_replace(const rt_step *p, const rt_matcher *m, const char *text, int64_t bytes,
                    int64_t most, rt_text *out, rt_err *err);

RT_END

#endif
