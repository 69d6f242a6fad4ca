/* quantize.c: `retort quantize`: a model directory, or adapters, into one GGUF, or a directory of packed codes. Thin: options in, report out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/identity.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/option.h"
#include "core/formats/output.h"
#include "core/network/adapter_file.h"
#include "quant/beside.h"
#include "quant/export.h"
#include "quant/export_dir.h"

typedef struct quantize_options {
    char *model, *type, *out, *pre, *name, *importance, *base, *method, *self_test, *test_text, *format, *group;
    char *importance_out;
    rt_strlist data;
    int64_t threads, tokens, max_length;
    uint64_t seed;
    bool pure, modelfile, card, weights_only, plan, json, overwrite;
} quantize_options;

#define O quantize_options
static const rt_option OPTIONS[] = {
    OPT_NEED(O, model, "model", "DIR|GGUF",
             "Hugging Face directory (config.json, safetensors, tokenizer), a GGUF, or adapters",
             RT_OPT_INPUT_NAMED),
    OPT_CHOICE(O, type, "type", "Q4_K_M", RT_MIX_CHOICES, "block types of the matrices"),
    OPT_STR(O, out, "out", NULL, "FILE.gguf|DIR", "the GGUF to write, or the directory of another --format",
            RT_OPT_OUTPUT),
    OPT_CHOICE(O, format, "format", "gguf", RT_PACK_CHOICES,
               "gguf, or a Hugging Face directory of 4-bit codes for vLLM"),
    OPT_CHOICE(O, group, "group", NULL, "32|64|128",
               "inputs under one scale in a directory; default 32, which has Q4_0's codes, awq 128"),
    OPT_STR(O, base, "base", NULL, "DIR|GGUF",
            "of adapters, which become F32, BF16 or F16 (else): what they adapt; default: what they say",
            RT_OPT_INPUT),
    OPT_LIST(O, data, "archive", "PATH",
             "texts to calibrate on, an archive or JSONL: what the student is to be good at",
             RT_OPT_INPUT),
    OPT_CHOICE(O, method, "method", "auto", RT_METHODS,
               "who chooses scales and codes. search: the least error of every block by itself; ggml: llama.cpp's "
               "choice to the byte; compensate: errors are carried into later columns so that "
               "the outputs over the calibration texts suffer least; auto: that where there are texts"),
    OPT_INT(O, tokens, "calibration-tokens", "32768", 1, 1e8, "of the texts, at most"),
    OPT_INT(O, max_length, "max-length", "2048", 2, 1e9, "tokens read of one text, at most"),
    OPT_SEED(O, seed, "of which texts are taken"),
    OPT_STR(O, importance, "importance", NULL, "FILE",
            "mean squared inputs of every column: an imatrix (GGUF or .dat) or a safetensors file",
            RT_OPT_INPUT),
    OPT_STR(O, importance_out, "importance-out", NULL, "FILE",
            "write the mean squares over the texts of --archive there: llama.cpp's imatrix, GGUF or .dat",
            RT_OPT_OUTPUT),
    OPT_BOOL(O, pure, "pure", "false",
             "the base type for every matrix, for weights trained on its grid"),
    OPT_STR(O, pre, "pre", NULL, "NAME", "force tokenizer.ggml.pre, the split pattern's name"),
    OPT_STR(O, name, "name", NULL, "TEXT", "general.name; default: the directory's name"),
    OPT_BOOL(O, weights_only, "weights-only", "false",
             "without tokenizer; such a file serves tests, not people"),
    OPT_CHOICE(O, self_test, "self-test", "quick", RT_SELFTEST_CHOICES,
               "what was written against the source, before it gets its name; full: more texts",
               RT_OPT_FREE),
    OPT_STR(O, test_text, "test-text", NULL, "PATH",
            "an archive or JSONL whose texts the self-test predicts; default: built in",
            RT_OPT_MEASURE),
    OPT_BOOL(O, modelfile, "modelfile", "true", "NAME.Modelfile beside NAME.gguf, for ollama create"),
    OPT_BOOL(O, card, "card", "true", "NAME.md beside NAME.gguf: a model card of what was measured"),
    OPT_OVERWRITE(O, overwrite),
    OPT_THREADS(O, threads),
    OPT_BOOL(O, plan, "plan", "false", "only say what would be written, and how large",
             RT_OPT_FREE),
    OPT_BOOL(O, json, "json", "false", "the report as one JSON object on stdout", RT_OPT_FREE),
};
#undef O

static cJSON *test_json(const rt_selftest_report *t)
{
    cJSON *json = rt_json_object();
    rt_json_put_i64(json, "rows", t->rows);
    rt_json_put_i64(json, "tokens", t->tokens);
    if (t->tokens) {
        rt_json_put_num(json, "kl", t->kl);
        rt_json_put_num(json, "kl_limit", t->limit);
        rt_json_put_num(json, "kl_of_chance", t->chance);
        rt_json_put_num(json, "top1", t->top1);
    }
    rt_json_put_i64(json, "texts", t->texts);
    rt_json_put_str(json, "stop", t->stop);
    return json;
}

static cJSON *report_json(const quantize_options *o, const rt_export_report *r)
{
    cJSON *json = rt_json_object(), *types = rt_json_object();
    rt_json_put_str(json, "out", o->out);
    rt_json_put_str(json, "type", o->type);
    rt_json_put_i64(json, "parameters", r->parameters);
    rt_json_put_i64(json, "tensors", r->tensors);
    rt_json_put_i64(json, "tensor_bytes", r->tensor_bytes);
    rt_json_put_num(json, "bits_per_weight", 8 * (double)r->tensor_bytes / (double)r->parameters);
    for (int t = 0; t < RT_DTYPE_COUNT; t++)
        if (r->type_tensors[t]) {
            cJSON *row = rt_json_object();
            rt_json_put_i64(row, "tensors", r->type_tensors[t]);
            rt_json_put_i64(row, "bytes", r->type_bytes[t]);
            rt_json_put(types, rt_dtype_get((rt_dtype)t)->name, row);
        }
    rt_json_put(json, "types", types);
    rt_json_put_i64(json, "fallbacks", r->fallbacks);
    rt_json_put_i64(json, "file_bytes", r->file_bytes);
    rt_json_put_i64(json, "weighed_tensors", r->weighed);
    rt_json_put_i64(json, "compensated_tensors", r->compensated);
    rt_json_put_i64(json, "calibration_texts", r->texts);
    rt_json_put_i64(json, "calibration_tokens", r->text_tokens);
    rt_json_put_num(json, "relative_error", r->error);
    if (r->test.rows)
        rt_json_put(json, "self_test", test_json(&r->test));
    return json;
}

static void report_text(const quantize_options *o, const rt_export_report *r)
{
    char bytes[32], count[32];
    for (int t = 0; t < RT_DTYPE_COUNT; t++)
        if (r->type_tensors[t])
            rt_info("%-7s %5lld tensors  %12s", rt_dtype_get((rt_dtype)t)->name,
                    (long long)r->type_tensors[t],
                    rt_fmt_bytes(bytes, sizeof bytes, r->type_bytes[t]));
    rt_fmt_bytes(bytes, sizeof bytes, r->file_bytes);
    rt_fmt_count(count, sizeof count, (double)r->parameters);
    rt_info("%s: %s parameters, %s, %.4f bits a weight", o->out, count, bytes,
            8 * (double)r->tensor_bytes / (double)r->parameters);
    if (r->fallbacks)
        rt_info("%lld matrices have rows that do not fill the blocks of %s: larger types stand in",
                (long long)r->fallbacks, o->type);
    rt_info("relative error of the matrices %.5f", r->error);
    if (r->texts)
        rt_info("calibrated on %lld tokens of %lld texts: errors of %lld matrices carried, %lld weighed",
                (long long)r->text_tokens, (long long)r->texts, (long long)r->compensated,
                (long long)r->weighed);
    if (r->test.tokens)
        rt_info("self-test: KL to the source %.5f nats (broken from %.3f), same top token %.1f %% of %lld; "
                "%lld texts tokenized alike%s%s",
                r->test.kl, r->test.limit, 100 * r->test.top1, (long long)r->test.tokens,
                (long long)r->test.texts, *r->test.stop ? "; answers end with " : "", r->test.stop);
    else if (r->test.rows)
        rt_info("self-test: %lld rows of weights read back, %lld texts tokenized alike; retort does not run %s, so "
                "logits were not compared", (long long)r->test.rows, (long long)r->test.texts, o->format);
    if (r->requantized)
        rt_warn("%s: %lld matrices were quantized already, and are now a second time: start from "
                "the original weights where there are some",
                o->model, (long long)r->requantized);
    if (o->importance && !r->weighed)
        rt_warn("%s speaks of none of this model's tensors: nothing was weighed", o->importance);
}

static rt_method method_of(const char *name)
{
    return !strcmp(name, "search")       ? RT_METHOD_SEARCH
           : !strcmp(name, "ggml")       ? RT_METHOD_GGML
           : !strcmp(name, "compensate") ? RT_METHOD_COMPENSATE
                                         : RT_METHOD_AUTO;
}

static rt_export_texts texts_of(const quantize_options *o)
{
    return (rt_export_texts){ &o->data, o->tokens, o->max_length, o->seed };
}

static int64_t group_of(const quantize_options *o)
{
    return o->group ? strtoll(o->group, NULL, 10) : strcmp(o->format, "awq") ? 32 : 128;
}

static rt_export job_of(const quantize_options *o, const rt_export_texts *texts)
{
    return (rt_export){ .dir = o->model,
                        .out = o->out,
                        .mix = rt_mix_find(o->type),
                        .method = method_of(o->method),
                        .texts = o->data.n ? texts : NULL,
                        .encode = strcmp(o->method, "ggml") == 0 ? rt_encode_ggml : rt_encode,
                        .importance_out = o->importance_out,
                        .pure = o->pure,
                        .weighed = o->importance || o->data.n,
                        .weights_only = o->weights_only,
                        .threads = (int)o->threads,
                        .overwrite = o->overwrite,
                        .packing = rt_pack_named(o->format),
                        .group = group_of(o),
                        .modelfile = o->modelfile,
                        .card = o->card,
                        .test = rt_selftest_named(o->self_test),
                        .test_text = o->test_text,
                        .pre = o->pre,
                        .name = o->name };
}

static rt_dtype adapter_dtype(const quantize_options *o)
{
    return !strcmp(o->type, "F32") ? RT_F32 : !strcmp(o->type, "BF16") ? RT_BF16 : RT_F16;
}

extern const rt_command rt_command_quantize;

/* What a directory is a function of: options, and the content of what they name. */
static int work_of(rt_hash *work, const quantize_options *o, rt_err *err)
{
    rt_identity model, importance = { .hash = { "" } };
    if (rt_identity_of(&model, o->model, RT_IDENTITY_CACHED, NULL, err) ||
        (o->importance && rt_identity_of(&importance, o->importance, RT_IDENTITY_CACHED, NULL, err)))
        return -1;
    cJSON *json = rt_options_result(&rt_command_quantize, o);
    rt_json_put_str(json, "content", model.hash.hex);
    rt_json_put_str(json, "calibration", importance.hash.hex);
    char *text = rt_json_text(json);
    *work = rt_hash_bytes(text, (int64_t)strlen(text));
    free(text);
    cJSON_Delete(json);
    return 0;
}

/* 1: it is finished there. */
static int quantize_dir(const quantize_options *o, const rt_export *job, rt_export_report *report, rt_err *err)
{
    rt_hash work;
    if (strcmp(o->type, "Q4_K_M") && strcmp(o->type, "Q4_0"))
        return rt_usage(err, "--format %s: is of 4-bit codes; --type %s is a GGUF's", o->format, o->type);
    if (rt_adapter_is(o->model))
        return rt_usage(err, "--format %s: adapters become a GGUF, or are a directory already", o->format);
    return work_of(&work, o, err) ? -1 : rt_export_dir(job, work.hex, report, err);
}

static int quantize(void *options, rt_err *err)
{
    const quantize_options *o = options;
    rt_importance importance = { 0 };
    rt_export_report report = { 0 };
    rt_export_texts texts = texts_of(o);
    rt_export job = job_of(o, &texts);
    if (!o->out)
        return rt_usage(err, "--out FILE.gguf is missing (or --plan to only see sizes)");
    if (job.method == RT_METHOD_COMPENSATE && !job.texts)
        return rt_usage(err, "--method compensate needs texts to calibrate on: --archive PATH");
    if (o->importance_out && !job.texts)
        return rt_usage(err, "--importance-out needs texts: --archive PATH");
    if (o->importance_out && !o->overwrite && rt_path_exists(o->importance_out))
        return rt_fail(err, "%s: is there already; --overwrite replaces it", o->importance_out);
    if (job.texts && (o->importance || o->weights_only))
        return rt_usage(err, "--archive and %s: %s", o->importance ? "--importance" : "--weights-only",
                        o->importance ? "both say which columns are busy; give one"
                                      : "texts need the model's tokenizer");
    if (job.texts && job.packing)
        return rt_usage(err, "--archive calibrates blocks of a GGUF: not with --format %s", o->format);
    if ((!job.packing && rt_output_file(o->out, RT_OUTPUT_GGUF, o->overwrite, err)) ||
        (!job.packing && !rt_adapter_is(o->model) && rt_beside_check(&job, err)) ||
        (o->importance && rt_importance_open(&importance, o->importance, err)))
        return -1;
    job.importance = o->importance ? &importance : NULL;
    int rc = job.packing ? quantize_dir(o, &job, &report, err)
             : rt_adapter_is(o->model)
                 ? rt_export_adapter(&job, o->base, adapter_dtype(o), &report, err)
                 : rt_export_gguf(&job, &report, err);
    rt_importance_close(&importance);
    if (rc)
        return rc < 0 ? -1 : 0;
    if (!o->json) {
        report_text(o, &report);
        return 0;
    }
    cJSON *json = report_json(o, &report);
    rt_json_print(json);
    cJSON_Delete(json);
    return 0;
}

static int plan_quantize(void *options, rt_needs *p, rt_err *err)
{
    const quantize_options *o = options;
    rt_importance importance = { 0 };
    rt_export_report r = { 0 };
    rt_export_texts texts = texts_of(o);
    rt_export job = job_of(o, &texts);
    job.later = rt_needs_find(p, o->model);
    job.out = NULL;
    if (o->importance && rt_path_exists(o->importance)) { /* its name stands in the file */
        if (rt_importance_open(&importance, o->importance, err))
            return -1;
        job.importance = &importance;
    }
    if (job.packing ? rt_export_dir_plan(&job, &r, err)
        : !job.later && rt_adapter_is(o->model)
            ? rt_export_adapter(&job, o->base, adapter_dtype(o), &r, err)
            : rt_export_plan(&job, &r, err)) {
        rt_importance_close(&importance);
        return -1;
    }
    rt_importance_close(&importance);
    rt_needs_add(p, RT_NEEDS_MEMORY, "host", "rows of a chunk", r.host_bytes);
    for (int t = 0; t < RT_DTYPE_COUNT; t++)
        if (r.type_tensors[t])
            rt_needs_add(p, RT_NEEDS_DISK, job.packing ? "model" : "gguf", rt_dtype_get((rt_dtype)t)->name,
                         r.type_bytes[t]);
    rt_needs_add(p, RT_NEEDS_DISK, job.packing ? "model" : "gguf",
                 job.packing ? "names of tensors" : "keys, tokenizer, padding",
                 r.file_bytes - r.tensor_bytes);
    rt_selftest test = rt_export_test(&job);
    if (!job.later && !rt_adapter_is(o->model) && rt_selftest_plan(&test, p, err))
        return -1;
    p->output = (rt_needs_output){ .path = o->out,
                                   .cfg = r.cfg,
                                   .tokenizer = job.later ? job.later->tokenizer : o->model };
    p->units = 1;
    return 0;
}

const rt_command rt_command_quantize = {
    .name = "quantize",
    .help = "write a model as one GGUF file, 4 bits or more, or as a directory for vLLM",
    .group = "a student",
    .options = OPTIONS,
    .n_options = RT_COUNT(OPTIONS),
    .struct_bytes = sizeof(quantize_options),
    .run = quantize,
    .plan = plan_quantize,
    .example = "retort quantize --model student --type Q4_K_M --out student.gguf",
};
