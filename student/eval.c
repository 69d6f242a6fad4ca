/* eval.c: the command `retort eval`: how good is this model? Exact answers on problems (greedy by
   default, with the standard error; several a problem with pass@k), cross-entropy, perplexity and
   calibration on held-out documents, the unbiased KL estimate against an archive's soft targets, and the
   exact KL to a reference model. Refuses: what problems.h, measure.h and examples.h do. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/option.h"
#include "core/formats/listing.h"
#include "core/formats/output.h"
#include "core/network/needs.h"
#include "core/network/weights.h"
#include "student/examples.h"
#include "student/results.h"
#include "student/windows.h"

typedef struct eval_options {
    char *model, *reference, *out, *verify, *group, *verdicts, *unmatched, *kld_base, *kld_out;
    rt_strlist data, problems, set, teachers;
    rt_sampling_options sampling;
    int64_t limit, samples, examples, kld_window, max_length, batch, cache_tokens, pass_tokens, head_rows;
    rt_dev_choice device;
    uint64_t seed;
    bool plan, json, overwrite;
} eval_options;

#define O eval_options
static const rt_option options[] = {
    OPT_NEED(O, model, "model", "DIR|GGUF", "the model to judge", RT_OPT_INPUT),
    OPT_LIST(O, data, "archive", "PATH",
             "held-out archive or JSONL: perplexity, and KL to the archive's targets",
             RT_OPT_INPUT),
    RT_CROSSING_OPTIONS(O, teachers, unmatched),
    OPT_LIST(O, problems, "problems", "FILE", "JSONL with prompt and answer: exact answers",
             RT_OPT_INPUT),
    OPT_STR(O, reference, "reference", NULL, "DIR|GGUF",
            "exact KL(reference || model), same tokenizer, on the archive's tokens", RT_OPT_INPUT),
    OPT_STR(O, kld_base, "kld-base", NULL, "FILE",
            "KL from a base file of --kld-out or llama-perplexity --kl-divergence-base, on its own tokens",
            RT_OPT_INPUT),
    OPT_STR(O, kld_out, "kld-out", NULL, "FILE",
            "write such a file: the model's log-probabilities on the archive's texts, put end to end",
            RT_OPT_OUTPUT),
    OPT_INT(O, kld_window, "kld-window", "512", 3, 1 << 20, "tokens of a window of --kld-out"),
    OPT_STR(O, out, "out", NULL, "FILE", "write the results there as JSON", RT_OPT_OUTPUT),
    OPT_OVERWRITE(O, overwrite),
    OPT_CHOICE(O, verify, "verify", "auto", RT_VERIFY_KINDS, RT_VERIFY_HELP),
    OPT_STR(O, group, "group", NULL, "KEY", "also report answers by this key of the problems"),
    OPT_INT(O, limit, "limit", "0", 0, 1e15, "problems and documents at most; 0 = all"),
    OPT_INT(O, samples, "samples", "1", 1, 1e6,
            "answers to each problem; more than one give pass@k, and need a --temperature"),
    OPT_INT(O, examples, "examples", "3", 0, 1000,
            "of the worst documents, and of typical ones, that --out shows token by token"),
    RT_CHAT_OPTION(O, set),
    RT_SAMPLING_OPTIONS(O, sampling, "0", "1", "512"),
    OPT_SEED(O, seed, "of answers when they are drawn"),
    OPT_INT(O, max_length, "max-length", "4096", 2, 1e9,
            "longer documents are left out, and those beyond what the model was made for"),
    RT_ANSWER_OPTIONS(O, "64"),
    OPT_INT(O, pass_tokens, "pass-tokens", "4096", 2, 1e9,
            "tokens of one forward pass; bounds memory", RT_OPT_FREE),
    OPT_INT(O, head_rows, "head-rows", "512", 1, 65536, "rows of a chunk of the head", RT_OPT_FREE),
    OPT_DEVICE_FORWARD(O, device),
    OPT_BOOL(O, plan, "plan", "false", "print memory by name and stop", RT_OPT_FREE),
    OPT_BOOL(O, json, "json", "false", "results as JSON on stdout", RT_OPT_FREE),
};
#undef O

typedef struct evaluation {
    const eval_options *o;
    rt_dev *dev;
    rt_chat chat;
    rt_model model, reference;
    rt_problems problems;
    int64_t positions; /* of a sequence */
    rt_measured measured;
    rt_divergence divergence; /* from --reference or --kld-base */
    rt_kld base;
    rt_examples examples;
    int64_t longest; /* held-out document */
    int64_t bytes; /* of text that the measured tokens stand for */
    bool has_answers, has_data, has_kl, has_reference;
} evaluation;

/* ---- answers ---- */

static int open_answers(rt_answers **out, evaluation *e, rt_err *err)
{
    const eval_options *o = e->o;
    const rt_problems *p = &e->problems;
    rt_answers_options a = { .sampling = &o->sampling,
                             .questions = p->n * p->samples,
                             .longest = p->longest,
                             .positions = e->positions,
                             .batch = o->batch,
                             .prefill_tokens = rt_max(p->longest, 256),
                             .cache_tokens = o->cache_tokens };
    return rt_answers_open(out, e->dev, &e->model, &e->chat, &a, err);
}

static int answer_problems(evaluation *e, rt_err *err)
{
    rt_answers *answers = NULL;
    int bad = open_answers(&answers, e, err) ||
              rt_problems_run(&e->problems, answers, e->o->batch, err);
    rt_answers_close(answers);
    e->has_answers = !bad;
    return bad ? -1 : 0;
}

/* ---- held-out documents ---- */

static int open_documents(rt_corpus **c, const evaluation *e, rt_err *err)
{
    const eval_options *o = e->o;
    rt_corpus_options co = { .chat = &e->chat,
                             .max_length = rt_min(o->max_length, e->positions),
                             .limit = o->limit,
                             .teachers = o->teachers,
                             .unmatched = rt_unmatched_named(o->unmatched),
                             .verdicts = (1u << RT_VERDICT_COUNT) - 1 };
    return rt_corpus_open(c, (const char *const *)o->data.item, o->data.n, &co, err);
}

static void plan_measure(rt_measure *ms, evaluation *e, rt_soft_config soft, int64_t longest)
{
    const eval_options *o = e->o;
    rt_batch_shape shape = {
        .rows = o->pass_tokens, .head_rows = o->head_rows, .soft = soft, .temperature = 1
    };
    rt_measure_plan(ms, e->dev, &e->model, o->reference ? &e->reference : NULL,
                    rt_tokenizer_vocab(e->chat.tokenizer), &shape, longest, NULL);
}

static bool wants_examples(const eval_options *o) { return o->out && o->data.n && o->examples; }
/* What models of different vocabularies have in common: the bytes of the text. */
static int count_bytes(evaluation *e, const rt_corpus *c, rt_err *err)
{
    rt_document doc = { 0 };
    rt_text text = { 0 };
    int bad = 0;
    for (int64_t i = 0; i < rt_corpus_count(c) && !bad; i++) {
        bad = rt_corpus_get(c, i, &doc, err);
        for (int32_t k = 0; !bad && k < doc.n_spans; k++, rt_text_clear(&text)) {
            int32_t begin = (int32_t)rt_max(doc.span[k].begin, 1);
            bad = rt_tokenizer_decode(e->chat.tokenizer, doc.token + begin,
                                      doc.span[k].end - begin, RT_DETOKENIZE_SKIP_SPECIAL, &text,
                                      err);
            e->bytes += text.bytes;
        }
    }
    rt_text_free(&text);
    rt_document_free(&doc);
    return bad ? -1 : 0;
}

/* Of the prompts of held-out texts that are shown: with room in the cache for one that is as long as it
   may be, they take turns. */
static int open_own_answers(rt_answers **out, evaluation *e, rt_err *err)
{
    const eval_options *o = e->o;
    rt_answers_options a = { .sampling = &o->sampling,
                             .questions = 2 * o->examples,
                             .longest = e->longest,
                             .positions = e->positions,
                             .batch = rt_min(o->batch, 2 * o->examples),
                             .prefill_tokens = rt_max(e->longest, 256) };
    a.cache_tokens = rt_answers_longest(&a);
    return rt_answers_open(out, e->dev, &e->model, &e->chat, &a, err);
}

static int answer_examples(evaluation *e, rt_err *err)
{
    rt_answers *answers = NULL;
    int bad = open_own_answers(&answers, e, err) ||
              rt_examples_answer(&e->examples, answers, err);
    rt_answers_close(answers);
    return bad ? -1 : 0;
}

static int measure_documents(evaluation *e, rt_err *err)
{
    rt_corpus *c = NULL;
    rt_measure ms = { 0 };
    bool examples = wants_examples(e->o);
    if (open_documents(&c, e, err))
        return -1;
    e->longest = rt_corpus_longest(c);
    plan_measure(&ms, e, rt_corpus_soft(c), e->longest);
    if (examples) {
        rt_examples_init(&e->examples, &e->chat, &e->problems, e->o->examples, rt_corpus_count(c));
        ms.watch = rt_examples_note;
        ms.watch_ctx = &e->examples;
    }
    ms.divergence = e->o->reference ? &e->divergence : NULL;
    int bad = rt_measure_place(&ms, err) || rt_dev_ready(e->dev, err) ||
              rt_measure_run(&ms, c, 0, "held-out", &e->measured, err) || count_bytes(e, c, err);
    e->has_data = !bad;
    e->has_kl = e->measured.totals.soft_rows > 0;
    e->has_reference = e->o->reference != NULL;
    ms.divergence = NULL; /* what follows was measured already */
    bad = bad || (examples && rt_examples_run(&e->examples, &ms, c, e->has_kl, err));
    rt_measure_free(&ms);
    rt_corpus_close(c);
    return bad || (e->examples.n_ask && answer_examples(e, err)) ? -1 : 0;
}

/* ---- windows of llama.cpp's base files ---- */

static int32_t window_bos(const evaluation *e)
{
    return rt_tokenizer_adds_bos(e->chat.tokenizer) ? rt_tokenizer_bos(e->chat.tokenizer) : -1;
}

static int plan_windows(rt_windows *w, evaluation *e, int64_t window, rt_err *err)
{
    if (window > rt_config_longest(&e->model.cfg, window))
        return rt_fail(err, "%s: windows of %lld tokens: this model was made for %lld", e->o->model,
                       (long long)window, (long long)e->model.cfg.max_positions);
    rt_windows_plan(w, e->dev, &e->model, window, e->o->head_rows, window_bos(e));
    return 0;
}

static int compare_windows(evaluation *e, rt_err *err)
{
    rt_windows w = { 0 };
    int bad = plan_windows(&w, e, e->base.window, err) || rt_windows_place(&w, err) ||
              rt_windows_compare(&w, &e->base, &e->divergence, err);
    if (w.d)
        rt_windows_free(&w);
    return bad ? -1 : 0;
}

static int write_windows(evaluation *e, rt_err *err)
{
    const eval_options *o = e->o;
    rt_windows w = { 0 };
    rt_ids ids = { 0 };
    int bad = rt_windows_tokens(&ids, &e->chat, &o->data, o->limit, err);
    if (!bad && ids.n < o->kld_window)
        bad = rt_fail(err, "--kld-out: the texts have %lld tokens: not one window of %lld; give more, or a smaller "
                           "--kld-window", (long long)ids.n, (long long)o->kld_window);
    bad = bad || plan_windows(&w, e, o->kld_window, err) || rt_windows_place(&w, err) ||
          rt_windows_write(&w, o->kld_out, ids.id, ids.n / o->kld_window, !o->overwrite, err);
    if (w.d)
        rt_windows_free(&w);
    rt_ids_free(&ids);
    return bad ? -1 : 0;
}

/* ---- results ---- */

/* Bins that hold a row. */
static cJSON *calibration(const rt_totals *t)
{
    cJSON *bins = rt_json_array();
    for (int i = 0; i < RT_CONFIDENCE_BINS; i++) {
        const rt_confidence_bin *b = &t->bin[i];
        if (!b->rows)
            continue;
        cJSON *bin = rt_json_object();
        rt_json_put_i64(bin, "tokens", b->rows);
        rt_json_put_num(bin, "confidence", b->confidence / (double)b->rows);
        rt_json_put_num(bin, "accuracy", b->correct / (double)b->rows);
        rt_json_put(bins, NULL, bin);
    }
    return bins;
}

static void put_documents(const evaluation *e, cJSON *json)
{
    const rt_totals *t = &e->measured.totals;
    double ce = rt_totals_mean(t, RT_LOSS_CE);
    rt_json_put_i64(json, "tokens", t->rows);
    rt_json_put_num(json, "cross_entropy", ce);
    rt_json_put_num(json, "perplexity", exp(ce));
    rt_json_put_num(json, "bits_per_byte",
                    t->sum[RT_LOSS_CE] / (M_LN2 * (double)rt_max(e->bytes, 1)));
    rt_json_put_num(json, "entropy", rt_totals_mean(t, RT_LOSS_ENTROPY));
    rt_json_put_num(json, "top1", rt_totals_mean(t, RT_LOSS_CORRECT));
    rt_json_put_num(json, "ece", rt_totals_ece(t));
    rt_json_put(json, "calibration", calibration(t));
    if (e->has_kl) {
        rt_json_put_num(json, "kl_archive", rt_totals_mean(t, RT_LOSS_KL));
        rt_json_put_num(json, "agreement_archive", rt_totals_mean(t, RT_LOSS_AGREE));
    }
}

/* What a student was taught with, where its directory says it (distill/train.c). */
static void put_teacher_tokens(const char *model, cJSON *json)
{
    cJSON *known = rt_listing_known(model);
    const cJSON *n = rt_json_find(rt_json_find(known, "options"), "teacher_tokens");
    if (cJSON_IsNumber(n))
        rt_json_put_num(json, "teacher_tokens", n->valuedouble);
    cJSON_Delete(known);
}

static cJSON *results(const evaluation *e)
{
    cJSON *json = rt_json_object();
    rt_json_put_str(json, "model", e->o->model);
    rt_json_put_i64(json, "parameters", e->model.w.params.total);
    rt_json_put_i64(json, "bytes", e->model.file_bytes);
    put_teacher_tokens(e->o->model, json);
    if (e->o->device.precision)
        rt_json_put_str(json, "precision", e->o->device.precision);
    if (e->has_answers)
        rt_problems_put(&e->problems, json);
    if (e->has_data)
        put_documents(e, json);
    if (!e->has_data && e->divergence.n) {
        rt_json_put_i64(json, "tokens", e->divergence.n);
        rt_json_put_num(json, "perplexity", exp(e->divergence.nll / (double)e->divergence.n));
    }
    rt_divergence_put(&e->divergence, json);
    return json;
}

/* What is shown goes to the file alone. */
static int save(const evaluation *e, cJSON *json, rt_err *err)
{
    if (wants_examples(e->o)) {
        rt_json_put_str(json, "examples_by", e->examples.by);
        rt_json_put(json, "examples", cJSON_Duplicate(e->examples.list, true));
    }
    return rt_output_json(json, e->o->out, e->o->overwrite, err);
}

/* ---- opening ---- */

/* Read at once, or only described when `plan` is given. */
static int open_one(evaluation *e, rt_model *m, const char *path, int64_t positions,
                    const rt_needs *plan, rt_err *err)
{
    const rt_needs_output *later = rt_needs_find(plan, path);
    if (later)
        rt_model_plan_config(m, e->dev, &later->cfg, NULL, true, positions);
    else if (rt_model_plan(m, e->dev, path, true, positions, err))
        return -1;
    m->exact = m == &e->reference;
    if (!plan && rt_model_read(m, e->dev, path, err))
        return -1;
    if (m->cfg.vocab < rt_tokenizer_vocab(e->chat.tokenizer))
        return rt_fail(
            err, "%s: the tokenizer has more tokens than the model: they do not belong together",
            path);
    return 0;
}

/* No sequence is longer than what the models were made for. */
static int limit_lengths(evaluation *e, rt_err *err)
{
    e->positions = rt_config_longest(&e->model.cfg, INT64_MAX);
    if (e->o->reference)
        e->positions = rt_config_longest(&e->reference.cfg, e->positions);
    if (e->problems.n && e->problems.longest >= e->positions)
        return rt_fail(err,
                       "%s: a problem has %lld tokens: this model was made for %lld, the answer "
                       "included",
                       e->o->model, (long long)e->problems.longest, (long long)e->positions);
    return 0;
}

/* The ids of the reference must mean what those of the model mean. */
static int check_reference(const evaluation *e, const rt_needs *plan, rt_err *err)
{
    const rt_needs_output *later = rt_needs_find(plan, e->o->reference);
    rt_tokenizer *t = NULL;
    if (rt_tokenizer_open(&t, later ? later->tokenizer : e->o->reference, err))
        return -1;
    rt_hash ours = rt_tokenizer_fingerprint(e->chat.tokenizer), theirs = rt_tokenizer_fingerprint(t);
    rt_tokenizer_close(t);
    if (strcmp(ours.hex, theirs.hex))
        return rt_fail(err,
                       "--reference %s: has another tokenizer (%.8s, the model has %.8s): their "
                       "tokens cannot be compared",
                       e->o->reference, theirs.hex, ours.hex);
    return 0;
}

static int open_evaluation(evaluation *e, const rt_needs *plan, rt_err *err)
{
    const eval_options *o = e->o;
    if (!o->data.n && !o->problems.n && !o->kld_base)
        return rt_usage(
            err, "give --problems FILE, --archive PATH or both: there is nothing to measure on");
    if (o->kld_base && o->reference)
        return rt_usage(err, "--kld-base and --reference are two references: give one of them");
    if (o->kld_out && !o->data.n)
        return rt_usage(err, "--kld-out needs --archive PATH: the text to write of");
    if (o->reference && !o->data.n)
        return rt_usage(err, "--reference needs --archive PATH: the text to compare on");
    if (o->samples > 1 && o->sampling.temperature == 0)
        return rt_usage(err, "--samples %lld at --temperature 0 are the same answer: give a temperature",
                        (long long)o->samples);
    if (o->samples > 1 && !o->problems.n)
        return rt_usage(err, "--samples needs --problems FILE: what is answered");
    int64_t positions = o->max_length;
    const rt_needs_output *later = rt_needs_find(plan, o->model);
    if (rt_dev_choose(&e->dev, &o->device, plan != NULL, err) ||
        rt_chat_open(&e->chat, later ? later->tokenizer : o->model, err) ||
        rt_chat_set(&e->chat, &o->set, err))
        return -1;
    e->problems = (rt_problems){ .chat = &e->chat,
                                 .verify = o->verify,
                                 .by = o->group,
                                 .limit = o->limit,
                                 .samples = o->samples,
                                 .seed = o->seed,
                                 .keep = wants_examples(o) };
    for (int i = 0; i < o->problems.n; i++)
        if (rt_problems_read(&e->problems, o->problems.item[i], err))
            return -1;
    if (o->problems.n && e->problems.n == 0)
        return rt_fail(err, "%s: no problems in it", o->problems.item[0]);
    if (o->group && o->problems.n && e->problems.n_groups == 0)
        return rt_fail(err, "--group %s: no problem has that key with a text or a number",
                       o->group);
    /* the table of positions is for what is measured, and for answers to problems and to held-out prompts */
    positions = rt_max(positions, e->problems.longest) + o->sampling.max_tokens;
    if (o->kld_base && rt_kld_open(&e->base, o->kld_base, err))
        return -1;
    positions = rt_max(positions, rt_max(e->base.window, o->kld_out ? o->kld_window : 0));
    if (open_one(e, &e->model, o->model, positions, plan, err))
        return -1;
    if (o->kld_base && e->base.vocab != e->model.cfg.vocab)
        return rt_fail(err, "--kld-base %s: of a vocabulary of %lld, the model has %lld: their tokens cannot be "
                            "compared", o->kld_base, (long long)e->base.vocab, (long long)e->model.cfg.vocab);
    if (o->reference && (check_reference(e, plan, err) ||
                         open_one(e, &e->reference, o->reference, positions, plan, err)))
        return -1;
    return limit_lengths(e, err);
}

static void close_evaluation(evaluation *e)
{
    rt_problems_free(&e->problems);
    rt_examples_free(&e->examples);
    rt_divergence_free(&e->divergence);
    rt_kld_close(&e->base);
    rt_model_free(e->dev, &e->model);
    rt_model_free(e->dev, &e->reference);
    rt_chat_close(&e->chat);
    rt_dev_close(e->dev);
}

static int run_eval(void *values, rt_err *err)
{
    evaluation e = { .o = values };
    int bad = rt_output_file(e.o->out, RT_OUTPUT_REPORT, e.o->overwrite, err) ||
              rt_output_file(e.o->kld_out, RT_OUTPUT_KLD, e.o->overwrite, err) ||
              open_evaluation(&e, NULL, err) || (e.problems.n && answer_problems(&e, err)) ||
              (e.o->data.n && measure_documents(&e, err)) ||
              (e.o->kld_base && compare_windows(&e, err)) || (e.o->kld_out && write_windows(&e, err));
    if (!bad) {
        cJSON *json = results(&e);
        if (e.o->json)
            rt_json_print(json);
        else
            rt_results_print(json);
        bad = e.o->out ? save(&e, json, err) : 0;
        cJSON_Delete(json);
    }
    close_evaluation(&e);
    return bad ? -1 : 0;
}

static int plan_documents(evaluation *e, const rt_needs *plan, rt_needs *need, rt_err *err)
{
    const rt_needs_output *later = rt_needs_find(plan, e->o->data.item[0]);
    rt_corpus *c = NULL;
    rt_measure ms = { 0 };
    if (!later && open_documents(&c, e, err))
        return -1;
    int64_t n = later ? later->samples : rt_corpus_count(c);
    int64_t longest = later ? rt_min(later->longest, rt_min(e->o->max_length, e->positions))
                            : rt_corpus_longest(c);
    plan_measure(&ms, e, later ? later->soft : rt_corpus_soft(c), longest);
    e->longest = longest;
    need->units = later && e->o->limit ? rt_min(n, e->o->limit) : n;
    rt_needs_arenas(need, e->dev, &ms.arenas);
    int64_t tokens = later ? need->units * longest : rt_corpus_tokens(c);
    rt_needs_cost(need, e->dev, ms.cost, (double)tokens / (double)ms.batch.shape.rows);
    need->at_most = later;
    rt_measure_free(&ms);
    rt_corpus_close(c);
    return 0;
}

/* Answers come first and are freed before documents, and those before the answers that are shown: only
   the largest of them counts, of the host's memory and of the device's. */
enum { ANSWERS, DOCUMENTS, SHOWN, WINDOWS, PARTS };

static int plan_answers(evaluation *e, rt_needs *need, rt_err *err)
{
    rt_answers *answers = NULL;
    int64_t prompts = 0, questions = e->problems.n * e->o->samples;
    int bad = open_answers(&answers, e, err);
    for (int64_t i = 0; i < e->problems.n; i++)
        prompts += e->problems.item[i].prompt.n * e->o->samples;
    if (!bad) {
        rt_answers_needs(answers, need);
        rt_answers_cost(answers, questions, prompts, need);
    }
    if (!bad && e->problems.keep)
        rt_needs_add(need, RT_NEEDS_GROWS, "host", "answers to show",
                     e->problems.n * e->o->sampling.max_tokens * (int64_t)sizeof(int32_t));
    rt_answers_close(answers);
    return bad;
}

static int plan_own_answers(evaluation *e, rt_needs *need, rt_err *err)
{
    rt_answers *answers = NULL;
    int64_t n = 2 * e->o->examples;
    int bad = open_own_answers(&answers, e, err);
    if (!bad) {
        rt_answers_needs(answers, need);
        rt_answers_cost(answers, n, n * e->longest, need);
    }
    rt_answers_close(answers);
    return bad;
}

static int plan_kld(evaluation *e, const rt_needs *plan, rt_needs *p, rt_needs *need, rt_err *err)
{
    rt_windows w = { 0 };
    rt_ids ids = { 0 };
    int64_t window = rt_max(e->base.window, e->o->kld_out ? e->o->kld_window : 0);
    if (plan_windows(&w, e, window, err))
        return -1;
    rt_needs_arenas(need, e->dev, &w.arenas);
    rt_needs_add(need, RT_NEEDS_MEMORY, "windows", "logits", rt_windows_host_bytes(&w));
    rt_windows_free(&w);
    int bad = e->o->kld_out && !rt_needs_find(plan, e->o->data.item[0]) &&
              rt_windows_tokens(&ids, &e->chat, &e->o->data, e->o->limit, err);
    if (ids.n)
        rt_needs_add(p, RT_NEEDS_DISK, "kld", "log-probabilities",
                     rt_kld_bytes(e->o->kld_window, e->model.cfg.vocab, ids.n / e->o->kld_window));
    rt_ids_free(&ids);
    return bad ? -1 : 0;
}

static void add_largest(rt_needs *p, const rt_needs *part)
{
    int device = 0, host = 0;
    for (int k = 1; k < PARTS; k++) {
        if (rt_needs_sum(&part[k], RT_NEEDS_DEVICE) >= rt_needs_sum(&part[device], RT_NEEDS_DEVICE))
            device = k;
        if (rt_needs_host(&part[k]) >= rt_needs_host(&part[host]))
            host = k;
    }
    for (int k = 0; k < PARTS; k++)
        for (int i = 0; i < part[k].n; i++) {
            const rt_needs_row *r = &part[k].row[i];
            if (k == (r->kind == RT_NEEDS_DEVICE ? device : host))
                rt_needs_add(p, r->kind, r->label, r->name, r->bytes);
        }
}

static int plan_eval(void *values, rt_needs *p, rt_err *err)
{
    evaluation e = { .o = values };
    rt_needs part[PARTS] = { { 0 } };
    int bad = open_evaluation(&e, p, err) ||
              (e.problems.n && plan_answers(&e, &part[ANSWERS], err)) ||
              (e.o->data.n && plan_documents(&e, p, &part[DOCUMENTS], err)) ||
              (wants_examples(e.o) && plan_own_answers(&e, &part[SHOWN], err)) ||
              ((e.o->kld_base || e.o->kld_out) && plan_kld(&e, p, p, &part[WINDOWS], err));
    if (!bad)
        rt_needs_add(p, RT_NEEDS_FILE, "weights", "in their file",
                     rt_model_mapped(&e.model) + rt_model_mapped(&e.reference));
    rt_needs_arenas(p, e.dev, &e.model.arenas);
    rt_needs_arenas(p, e.dev, &e.reference.arenas);
    if (!bad) {
        add_largest(p, part);
        rt_needs_workspace(p, e.dev);
    }
    p->units = e.problems.n * e.o->samples + part[DOCUMENTS].units;
    p->at_most = part[ANSWERS].at_most || part[DOCUMENTS].at_most;
    for (int i = 0; i < PARTS; i++) {
        if (!bad)
            rt_needs_cost(p, e.dev, part[i].cost, 1);
        rt_needs_free(&part[i]);
    }
    close_evaluation(&e);
    return bad ? -1 : 0;
}

const rt_command rt_command_eval = {
    .name = "eval",
    .help = "exact answers, perplexity and KL of a model",
    .group = "a student",
    .options = options,
    .n_options = RT_COUNT(options),
    .struct_bytes = sizeof(eval_options),
    .run = run_eval,
    .plan = plan_eval,
    .example = "retort eval --model student --problems heldout.jsonl --archive heldout.traces",
};
