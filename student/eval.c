/* eval.c: the command `retort eval`: how good is this model? Exact answers on problems (greedy by
   default, with the standard error), cross-entropy and perplexity on held-out documents, the
   unbiased KL estimate against an archive's soft targets, and the exact KL to a reference model.
   Refuses: judging by anything but rules (corpora/verify/verify.h). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/option.h"
#include "core/formats/output.h"
#include "core/network/needs.h"
#include "core/network/weights.h"
#include "corpora/answer.h"
#include "corpora/record.h"
#include "corpora/source.h"
#include "student/measure.h"

typedef struct eval_options {
    char *model, *reference, *out, *verify, *group, *verdicts;
    rt_strlist data, problems, set;
    rt_sampling_options sampling;
    int64_t limit, max_length, batch, cache_tokens, pass_tokens, head_rows;
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
    OPT_LIST(O, problems, "problems", "FILE", "JSONL with prompt and answer: exact answers",
             RT_OPT_INPUT),
    OPT_STR(O, reference, "reference", NULL, "DIR|GGUF",
            "exact KL(reference || model), same tokenizer, on the archive's tokens", RT_OPT_INPUT),
    OPT_STR(O, out, "out", NULL, "FILE", "write the results there as JSON", RT_OPT_OUTPUT),
    OPT_OVERWRITE(O, overwrite),
    OPT_CHOICE(O, verify, "verify", "auto", RT_VERIFY_KINDS, RT_VERIFY_HELP),
    OPT_STR(O, group, "group", NULL, "KEY", "also report answers by this key of the problems"),
    OPT_INT(O, limit, "limit", "0", 0, 1e15, "problems and documents at most; 0 = all"),
    RT_CHAT_OPTION(O, set),
    RT_SAMPLING_OPTIONS(O, sampling, "0", "1", "512"),
    OPT_SEED(O, seed, "of answers when they are drawn"),
    OPT_INT(O, max_length, "max-length", "4096", 2, 1e9,
            "longer documents are left out, and those beyond what the model was made for"),
    RT_ANSWER_OPTIONS(O, "64"),
    OPT_INT(O, pass_tokens, "pass-tokens", "4096", 2, 1e9,
            "tokens of one forward pass; bounds memory", RT_OPT_FREE),
    OPT_INT(O, head_rows, "head-rows", "512", 1, 65536, "rows of a chunk of the head", RT_OPT_FREE),
    OPT_DEVICE(O, device),
    OPT_BOOL(O, plan, "plan", "false", "print memory by name and stop", RT_OPT_FREE),
    OPT_BOOL(O, json, "json", "false", "results as JSON on stdout", RT_OPT_FREE),
};
#undef O

enum { GROUPS_MAX = 32 };

typedef struct group_score {
    char name[48];
    int64_t n, correct;
} group_score;

typedef struct problem {
    rt_ids prompt;
    char *answer;
    rt_verify_kind verify;
    int group;
} problem;

typedef struct evaluation {
    const eval_options *o;
    rt_dev *dev;
    rt_chat chat;
    rt_model model, reference;
    problem *problem;
    int64_t n_problems, cap_problems, longest_prompt, positions; /* of a sequence */
    group_score group[GROUPS_MAX];
    int n_groups;
    int64_t correct, unfinished, unknown, generated, rules[RT_RULE_COUNT];
    rt_progress progress;
    int64_t done;
    rt_measured measured;
    bool has_answers, has_data, has_kl, has_reference;
} evaluation;

/* ---- problems -----------------------------------------------------------------------------------
 */

/* -1: of none. A number is as good a name as a text. */
static int find_group(int *group, evaluation *e, const rt_record *r, rt_err *err)
{
    cJSON *meta = NULL;
    *group = -1;
    if (!e->o->group || !r->meta)
        return 0;
    if (rt_json_parse(&meta, r->meta, (int64_t)strlen(r->meta), "problem", err))
        return -1;
    const cJSON *v = rt_json_find(meta, e->o->group);
    char *number = cJSON_IsNumber(v) ? rt_json_text(v) : NULL;
    const char *name = number ? number : cJSON_GetStringValue(v);
    int i = 0, bad = 0;
    while (name && i < e->n_groups && strcmp(e->group[i].name, name) != 0)
        i++;
    if (name && i == GROUPS_MAX)
        bad = rt_fail(err, "--group %s: more than %d different values", e->o->group, GROUPS_MAX);
    else if (name && strlen(name) >= sizeof e->group[0].name)
        bad = rt_fail(err, "--group %s: \"%s\" is longer than %d bytes", e->o->group, name,
                      (int)sizeof e->group[0].name - 1);
    else if (name && i == e->n_groups)
        snprintf(e->group[e->n_groups++].name, sizeof e->group[0].name, "%s", name);
    *group = name && !bad ? i : -1;
    free(number);
    cJSON_Delete(meta);
    return bad;
}

static int add_problem(evaluation *e, const rt_record *r, const char *where, rt_err *err)
{
    rt_verify_kind verify;
    if (!r->answer)
        return rt_fail(err, "%s: no \"answer\" to compare with", where);
    if (rt_verify_choose(&verify, e->o->verify, r->verify, r->answer, err))
        return rt_wrap(err, "%s", where);
    if (r->n_messages == 0)
        return rt_fail(err, "%s: no \"prompt\" or \"messages\"", where);
    rt_grow(&e->problem, &e->cap_problems, e->n_problems + 1, sizeof *e->problem, "problems");
    problem *p = &e->problem[e->n_problems++];
    memset(p, 0, sizeof *p);
    if (find_group(&p->group, e, r, err))
        return rt_wrap(err, "%s", where);
    p->verify = verify;
    p->answer = rt_strdup(r->answer);
    cJSON *root = rt_record_messages(r);
    rt_record_drop_response(root);
    int bad = rt_chat_prompt(&e->chat, root, &p->prompt, err);
    cJSON_Delete(root);
    e->longest_prompt = rt_max(e->longest_prompt, p->prompt.n);
    return bad ? rt_wrap(err, "%s", where) : 0;
}

static int read_problems(evaluation *e, const char *path, rt_err *err)
{
    rt_source *s = NULL;
    rt_item item;
    int got = 0, bad = rt_source_open(&s, path, RT_SOURCE_LINES, err);
    while (!bad && !(e->o->limit && e->n_problems >= e->o->limit) &&
           (got = rt_source_next(s, &item, err)) != 0) {
        rt_record r = { 0 };
        bad = got < 0 || rt_record_from_item(&r, &item, err) || add_problem(e, &r, item.where, err);
        rt_record_free(&r);
    }
    rt_source_close(s);
    return bad ? -1 : 0;
}

/* ---- answers ------------------------------------------------------------------------------------
 */

static void ask(void *ctx, int64_t question, rt_question *q)
{
    const evaluation *e = ctx;
    const problem *p = &e->problem[question];
    *q = (rt_question){ .prompt = p->prompt.id,
                        .n_prompt = p->prompt.n,
                        .seed = rt_hash64(&question, (int64_t)sizeof question, e->o->seed),
                        .reference = p->answer,
                        .verify = p->verify };
}

static int count(void *ctx, const rt_answer *a, rt_err *err)
{
    evaluation *e = ctx;
    const problem *p = &e->problem[a->question];
    (void)err;
    e->correct += a->verdict == RT_CORRECT;
    e->unfinished += a->verdict == RT_UNFINISHED;
    e->unknown += a->verdict == RT_UNVERIFIED;
    e->rules[a->rule]++;
    e->generated += a->n - a->n_prompt;
    if (p->group >= 0) {
        e->group[p->group].n++;
        e->group[p->group].correct += a->verdict == RT_CORRECT;
    }
    e->done++;
    rt_progress_update(&e->progress, e->done, "%.1f %% right",
                       100.0 * (double)e->correct / (double)e->done);
    return 0;
}

static int open_answers(rt_answers **out, evaluation *e, rt_err *err)
{
    const eval_options *o = e->o;
    rt_answers_options a = { .sampling = &o->sampling,
                             .questions = e->n_problems,
                             .longest = e->longest_prompt,
                             .positions = e->positions,
                             .batch = o->batch,
                             .prefill_tokens = rt_max(e->longest_prompt, 256),
                             .cache_tokens = o->cache_tokens };
    return rt_answers_open(out, e->dev, &e->model, &e->chat, &a, err);
}

static int answer_problems(evaluation *e, rt_err *err)
{
    rt_answers_io io = { .ctx = e, .ask = ask, .take = count };
    rt_answers *answers = NULL;
    rt_progress_begin(&e->progress, "answers", 0, e->n_problems);
    e->progress.together = e->o->batch;
    int bad = open_answers(&answers, e, err) || rt_answers_run(answers, e->n_problems, &io, err);
    rt_answers_close(answers);
    rt_progress_end(&e->progress);
    e->has_answers = !bad;
    return bad ? -1 : 0;
}

/* ---- held-out documents
 * -------------------------------------------------------------------------- */

static int open_documents(rt_corpus **c, const evaluation *e, rt_err *err)
{
    const eval_options *o = e->o;
    rt_corpus_options co = { .chat = &e->chat,
                             .max_length = rt_min(o->max_length, e->positions),
                             .limit = o->limit,
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
                    rt_tokenizer_vocab(e->chat.tokenizer), &shape, longest);
}

static int measure_documents(evaluation *e, rt_err *err)
{
    rt_corpus *c = NULL;
    rt_measure ms = { 0 };
    if (open_documents(&c, e, err))
        return -1;
    plan_measure(&ms, e, rt_corpus_soft(c), rt_corpus_longest(c));
    int bad = rt_measure_place(&ms, err) || rt_dev_ready(e->dev, err) ||
              rt_measure_run(&ms, c, 0, "held-out", &e->measured, err);
    rt_measure_free(&ms);
    rt_corpus_close(c);
    e->has_data = !bad;
    e->has_kl = e->measured.totals.soft_rows > 0;
    e->has_reference = e->o->reference != NULL;
    return bad ? -1 : 0;
}

/* ---- results
 * ------------------------------------------------------------------------------------- */

static double standard_error(int64_t correct, int64_t n)
{
    double p = (double)correct / (double)n;
    return sqrt(p * (1 - p) / (double)n);
}

static cJSON *results(const evaluation *e)
{
    cJSON *json = rt_json_object();
    const rt_totals *t = &e->measured.totals;
    rt_json_put_str(json, "model", e->o->model);
    rt_json_put_i64(json, "parameters", e->model.w.params.total);
    rt_json_put_i64(json, "bytes", e->model.file_bytes);
    if (e->has_answers) {
        double n = (double)e->n_problems;
        rt_json_put_i64(json, "problems", e->n_problems);
        rt_json_put_num(json, "accuracy", (double)e->correct / n);
        rt_json_put_num(json, "accuracy_se", standard_error(e->correct, e->n_problems));
        rt_json_put_num(json, "unfinished", (double)e->unfinished / n);
        rt_json_put_num(json, "unknown", (double)e->unknown / n);
        rt_json_put_num(json, "tokens_per_answer", (double)e->generated / n);
        cJSON *groups = rt_json_object();
        for (int i = 0; i < e->n_groups; i++)
            rt_json_put_num(groups, e->group[i].name,
                            (double)e->group[i].correct / (double)rt_max(e->group[i].n, 1));
        rt_json_put(json, "groups", groups);
        cJSON *rules = rt_json_object();
        for (int i = 0; i < RT_RULE_COUNT; i++)
            if (e->rules[i])
                rt_json_put_num(rules, rt_verify_rule_name((rt_verify_rule)i),
                                (double)e->rules[i] / n);
        rt_json_put(json, "rules", rules);
    }
    if (e->has_data) {
        double rows = (double)rt_max(t->rows, 1), ce = t->sum[RT_LOSS_CE] / rows;
        rt_json_put_i64(json, "tokens", t->rows);
        rt_json_put_num(json, "cross_entropy", ce);
        rt_json_put_num(json, "perplexity", exp(ce));
        rt_json_put_num(json, "entropy", t->sum[RT_LOSS_ENTROPY] / rows);
        rt_json_put_num(json, "top1", t->sum[RT_LOSS_CORRECT] / rows);
        if (e->has_kl)
            rt_json_put_num(json, "kl_archive", t->sum[RT_LOSS_KL] / (double)t->soft_rows);
        if (e->has_reference) {
            rt_json_put_num(json, "kl", e->measured.kl / rows);
            rt_json_put_num(json, "agreement", e->measured.agree / rows);
        }
    }
    return json;
}

static void print_table(const cJSON *json)
{
    static const struct {
        const char *key, *label, *format;
        double scale;
    } rows[] = { { "parameters", "parameters", "%.0f", 1 },
                 { "bytes", "bytes", "%.0f", 1 },
                 { "problems", "problems", "%.0f", 1 },
                 { "accuracy", "exact answers", "%.1f %%", 100 },
                 { "accuracy_se", "standard error", "%.1f %%", 100 },
                 { "unfinished", "unfinished", "%.1f %%", 100 },
                 { "unknown", "cannot tell", "%.1f %%", 100 },
                 { "tokens", "held-out tokens", "%.0f", 1 },
                 { "perplexity", "perplexity", "%.4f", 1 },
                 { "entropy", "entropy (nats)", "%.4f", 1 },
                 { "top1", "top-1 accuracy", "%.2f %%", 100 },
                 { "kl_archive", "KL, archive estimate", "%.4f", 1 },
                 { "kl", "KL to the reference", "%.4f", 1 },
                 { "agreement", "top-1 agreement", "%.2f %%", 100 } };
    for (int i = 0; i < RT_COUNT(rows); i++) {
        const cJSON *item = rt_json_find(json, rows[i].key);
        if (!item)
            continue;
        printf("%-22s ", rows[i].label);
        printf(rows[i].format, item->valuedouble * rows[i].scale);
        putchar('\n');
    }
    const cJSON *share;
    cJSON_ArrayForEach(share, rt_json_find(json, "groups"))
        printf("  %-20s %.1f %%\n", share->string, 100 * share->valuedouble);
    cJSON_ArrayForEach(share, rt_json_find(json, "rules"))
        printf("  judged by %-10s %.1f %%\n", share->string, 100 * share->valuedouble);
}

/* Read at once, or only described when `plan` is given. */
static int open_one(evaluation *e, rt_model *m, const char *path, int64_t positions,
                    const rt_needs *plan, rt_err *err)
{
    const rt_needs_output *later = rt_needs_find(plan, path);
    if (later)
        rt_model_plan_config(m, e->dev, &later->cfg, NULL, true, positions);
    else if (plan ? rt_model_plan(m, e->dev, path, true, positions, err)
                  : rt_model_open(m, e->dev, path, true, positions, err))
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
    if (e->n_problems && e->longest_prompt >= e->positions)
        return rt_fail(err,
                       "%s: a problem has %lld tokens: this model was made for %lld, the answer "
                       "included",
                       e->o->model, (long long)e->longest_prompt, (long long)e->positions);
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
    if (!o->data.n && !o->problems.n)
        return rt_usage(
            err, "give --problems FILE, --archive PATH or both: there is nothing to measure on");
    if (o->reference && !o->data.n)
        return rt_usage(err, "--reference needs --archive PATH: the text to compare on");
    int64_t positions = o->max_length;
    const rt_needs_output *later = rt_needs_find(plan, o->model);
    if (rt_dev_choose(&e->dev, &o->device, plan != NULL, err) ||
        rt_chat_open(&e->chat, later ? later->tokenizer : o->model, err) ||
        rt_chat_set(&e->chat, &o->set, err))
        return -1;
    for (int i = 0; i < o->problems.n; i++)
        if (read_problems(e, o->problems.item[i], err))
            return -1;
    if (o->problems.n && e->n_problems == 0)
        return rt_fail(err, "%s: no problems in it", o->problems.item[0]);
    if (o->group && o->problems.n && e->n_groups == 0)
        return rt_fail(err, "--group %s: no problem has that key with a text or a number",
                       o->group);
    positions = rt_max(positions, e->longest_prompt + o->sampling.max_tokens);
    if (open_one(e, &e->model, o->model, positions, plan, err))
        return -1;
    if (o->reference && (check_reference(e, plan, err) ||
                         open_one(e, &e->reference, o->reference, positions, plan, err)))
        return -1;
    return limit_lengths(e, err);
}

static void close_evaluation(evaluation *e)
{
    for (int64_t i = 0; i < e->n_problems; i++) {
        rt_ids_free(&e->problem[i].prompt);
        free(e->problem[i].answer);
    }
    free(e->problem);
    rt_model_free(e->dev, &e->model);
    rt_model_free(e->dev, &e->reference);
    rt_chat_close(&e->chat);
    rt_dev_close(e->dev);
}

static int run_eval(void *values, rt_err *err)
{
    evaluation e = { .o = values };
    int bad = rt_output_file(e.o->out, RT_OUTPUT_REPORT, e.o->overwrite, err) ||
              open_evaluation(&e, NULL, err) || (e.n_problems && answer_problems(&e, err)) ||
              (e.o->data.n && measure_documents(&e, err));
    if (!bad) {
        cJSON *json = results(&e);
        if (e.o->json)
            rt_json_print(json);
        else
            print_table(json);
        bad = e.o->out ? rt_output_json(json, e.o->out, e.o->overwrite, err) : 0;
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
    need->units = later && e->o->limit ? rt_min(n, e->o->limit) : n;
    rt_needs_arenas(need, e->dev, &ms.arenas);
    int64_t tokens = later ? need->units * longest : rt_corpus_tokens(c);
    rt_needs_cost(need, e->dev, ms.cost, (double)tokens / (double)ms.batch.shape.rows);
    need->at_most = later;
    rt_measure_free(&ms);
    rt_corpus_close(c);
    return 0;
}

/* Answers come first and are freed before documents: only the larger of the two counts, of the
   host's memory and of the device's. */
static int plan_eval(void *values, rt_needs *p, rt_err *err)
{
    evaluation e = { .o = values };
    rt_needs part[2] = { { 0 }, { 0 } };
    rt_answers *answers = NULL;
    int bad = open_evaluation(&e, p, err) || (e.n_problems && open_answers(&answers, &e, err));
    if (answers) {
        int64_t prompts = 0;
        for (int64_t i = 0; i < e.n_problems; i++)
            prompts += e.problem[i].prompt.n;
        rt_answers_needs(answers, &part[0]);
        rt_answers_cost(answers, e.n_problems, prompts, &part[0]);
    }
    bad = bad || (e.o->data.n && plan_documents(&e, p, &part[1], err));
    if (!bad)
        rt_needs_add(p, RT_NEEDS_FILE, "weights", "in their file",
                     rt_model_mapped(&e.model) + rt_model_mapped(&e.reference));
    rt_needs_arenas(p, e.dev, &e.model.arenas);
    rt_needs_arenas(p, e.dev, &e.reference.arenas);
    int device = rt_needs_sum(&part[1], RT_NEEDS_DEVICE) >= rt_needs_sum(&part[0], RT_NEEDS_DEVICE);
    int host = rt_needs_host(&part[1]) >= rt_needs_host(&part[0]);
    for (int k = 0; k < 2 && !bad; k++)
        for (int i = 0; i < part[k].n; i++) {
            const rt_needs_row *r = &part[k].row[i];
            if (k == (r->kind == RT_NEEDS_DEVICE ? device : host))
                rt_needs_add(p, r->kind, r->label, r->name, r->bytes);
        }
    if (!bad)
        rt_needs_workspace(p, e.dev);
    p->units = e.n_problems + part[1].units;
    p->at_most = part[0].at_most || part[1].at_most;
    for (int i = 0; i < 2 && !bad; i++)
        rt_needs_cost(p, e.dev, part[i].cost, 1);
    rt_needs_free(&part[0]);
    rt_needs_free(&part[1]);
    rt_answers_close(answers);
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
