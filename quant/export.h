/* export.h: a Hugging Face directory as one GGUF file that llama.cpp, Ollama and LM Studio load:
   every required key, tokenizer and chat template inside, tensors renamed, query and key rows of
   interleaved architectures re-ordered, rope factors, block types by a mix. Names and shapes come
   from the registry of weights (params.h). Streams: memory is a few rows, whatever the model; with
   texts to calibrate on, a layer and the sums of its inputs.
   Refuses: architectures without a GGUF name, quantizing what is quantized already. */
#ifndef RT_EXPORT_H
#define RT_EXPORT_H

#include "core/base/option.h"
#include "core/network/needs.h"
#include "core/network/weights.h"
#include "corpora/chat.h"
#include "quant/encode.h"
#include "quant/gguf_write.h"
#include "quant/importance.h"
#include "quant/mix.h"
#include "quant/packing.h"
#include "quant/selftest.h"

RT_BEGIN

/* How the codes of a matrix are chosen.
   search     every block by itself: least weighted error of its weights (quant/encode.h)
   ggml       llama.cpp's choice, byte for byte
   compensate errors are carried into later columns, over calibration texts (quant/compensate.h) */
#define RT_METHODS "auto|search|ggml|compensate"
typedef enum rt_method {
    RT_METHOD_AUTO,
    RT_METHOD_SEARCH,
    RT_METHOD_GGML,
    RT_METHOD_COMPENSATE
} rt_method;

/* Calibration: quant/calibrate.h. */
typedef struct rt_export_texts {
    const rt_strlist *data;
    int64_t tokens, longest;
    uint64_t seed;
} rt_export_texts;

typedef struct rt_export {
    const char *dir, *out; /* model directory, GGUF path */
    const rt_mix *mix;
    rt_method method; /* auto: compensate where there are texts */
    rt_encode_fn *encode;            /* NULL: rt_encode */
    bool pure;                       /* base type everywhere: weights trained on its grid */
    bool weighed;                    /* importance is known, as some mixes ask; also of a plan */
    bool weights_only;               /* weights only; such a file serves tests, not people */
    int threads;                     /* 0 = all cores; the file does not depend on it */
    bool overwrite;                  /* another GGUF at out is replaced, not moved to old/ */
    const char *pre;                 /* force tokenizer.ggml.pre, or NULL */
    const char *name;                /* general.name, NULL = the directory's */
    const rt_importance *importance; /* or NULL */
    const rt_export_texts *texts;    /* to calibrate on, or NULL */
    const char *importance_out;      /* what the texts said of columns, as llama.cpp's imatrix, or NULL */
    rt_packing packing;              /* of a directory (export_dir.h); else a GGUF */
    int64_t group;                   /* inputs under one scale there */
    bool modelfile, card;            /* beside it: beside.h */
    rt_selftest_extent test;         /* before the file gets its name */
    const char *test_text;           /* archive or JSONL; NULL = built in */
    const rt_needs_output *later; /* plan only: the model, when dir does not stand yet; or NULL */
} rt_export;

typedef struct rt_export_report {
    rt_config cfg; /* of the model */
    int64_t parameters, tensors;
    int64_t tensor_bytes; /* padding between tensors not counted */
    int64_t file_bytes;   /* exact, also while only planned */
    int64_t host_bytes;   /* of the rows that are held */
    int64_t fallbacks;    /* matrices whose rows do not fill the blocks of their type */
    int64_t requantized;  /* matrices whose source was in blocks already */
    int64_t weighed;      /* matrices that importance was found for */
    int64_t compensated;  /* matrices whose errors were carried */
    int64_t texts, text_tokens; /* calibrated on */
    rt_selftest_report test;
    double error;         /* relative: sqrt(sum (x - decoded)^2 / sum x^2) over all matrices */
    int64_t type_tensors[RT_DTYPE_COUNT], type_bytes[RT_DTYPE_COUNT];
} rt_export_report;

/* Everything but the data: checks the checkpoint, writes the keys to nowhere, fills the counts. */
int rt_export_plan(const rt_export *job, rt_export_report *report, rt_err *err);
int rt_export_gguf(const rt_export *job, rt_export_report *report, rt_err *err);
rt_selftest rt_export_test(const rt_export *job); /* of the job; `written` is the caller's */

/* export_adapter.c: of job->dir, which holds adapters, as f32, f16 or bf16. base: what they adapt, NULL = as they say.
   job->out NULL: counts only. */
int rt_export_adapter(const rt_export *job, const char *base, rt_dtype dtype,
                      rt_export_report *report, rt_err *err);

/* Rotary pairs stand side by side in GGUF's llama, half a head apart in Hugging Face's: heads of a
   matrix whose rows are re-ordered for it, 0 = they stay; and where row `row` of (rows) comes from. */
int64_t rt_export_heads(const rt_config *c, const char *gguf);
int64_t rt_export_row(int64_t rows, int64_t heads, int64_t row);

/* export_keys.c: all metadata. chat without tokenizer: weights_only. */
int rt_export_keys(rt_gguf_writer *w, const rt_export *job, const rt_config *cfg,
                   const rt_chat *chat, int64_t parameters, rt_err *err);

RT_END

#endif
