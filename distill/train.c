/* train.c: the command `retort train`: what is learned from what, in which order, when it is
   measured and saved, and what is said of it; a step is trainer.h's.
   Trains a model, or adapters beside one that stays as it is, with hard labels, from an archive's
   soft targets, or from a teacher's view of the student's own answers (rollouts.h); the output is a Hugging Face directory, of adapters one in PEFT's layout. Killed at any moment and started again, it ends with the same bytes.
   Refuses: sampling, quantizing; choosing a student's shape (its config.json says it). */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/identity.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/option.h"
#include "core/base/path.h"
#include "core/formats/listing.h"
#include "core/formats/output.h"
#include "core/network/adapter_file.h"
#include "core/network/weights.h"
#include "corpora/crossing/crossing.h"
#include "corpora/integrity.h"
#include "corpora/record.h"
#include "distill/entropy.h"
#include "distill/exam.h"
#include "distill/learning.h"
#include "distill/metrics.h"
#include "distill/objective.h"
#include "distill/rollouts.h"
#include "distill/schedule.h"
#include "distill/trainer.h"
#include "student/card.h"
#include "student/measure.h"

typedef struct train_options {
    char *model, *config, *tokenizer, *out, *loss, *loss_first, *loss_change, *schedule, *recompute;
    char *dtype, *verdicts, *turns, *unmatched, *mix;
    rt_adapter_spec lora;
    rt_rollout_options rollout;
    rt_learn_options learn;
    rt_exam_options exam;
    rt_strlist data, eval_data, set, teachers;
    int64_t steps, batch_tokens, pass_tokens, head_rows, max_length, limit, warmup;
    rt_dev_choice device;
    uint64_t seed;
    int64_t save_every, eval_every, eval_limit;
    double learning_rate, min_rate, hard_weight, temperature, jsd_beta, skew_alpha;
    double cooldown, clip, balance_rate;
    rt_part_weights parts;
    double entropy_share, entropy_rest;
    bool plan, overwrite, mix_teachers;
} train_options;

#define O train_options
static const rt_option options[] = {
    OPT_STR(O, model, "model", NULL, "DIR|GGUF", "start from this model (its tokenizer too)",
            RT_OPT_INPUT),
    OPT_STR(O, config, "config", NULL, "FILE", "or start at random from this config.json",
            RT_OPT_INPUT),
    OPT_STR(O, tokenizer, "tokenizer", NULL, "DIR|GGUF",
            "tokenizer and chat template; with --config", RT_OPT_INPUT),
    OPT_LIST(O, data, "data", "PATH", "trace archive, JSONL (also .gz .zst .tar .zip) or text",
             RT_OPT_INPUT),
    OPT_STR(O, mix, "mix", NULL, "SHARES",
            "share of the tokens of each --data, in their order, as 0.7,0.3; texts learn by their "
            "labels beside archives then. Without it every document comes once an epoch"),
    RT_ROLLOUT_OPTIONS(O, rollout),
    OPT_NEED(O, out, "out", "DIR", "where the trained model goes", RT_OPT_OUTPUT),
    OPT_OVERWRITE(O, overwrite),
#define NAME(name, field, from_random, formula) "|" name
#define FORMULA(name, field, from_random, formula) "; " name " = " formula
    OPT_CHOICE(O, loss, "loss", "forward", &RT_LOSS_TERMS(NAME)[1],
               "objective: one of them, or a sum of several with weights (forward:0.7,reverse:0.3); all "
               "but hard need an archive. p is the teacher's probability of a token, q the "
               "student's" RT_LOSS_TERMS(FORMULA), .open = true),
#undef NAME
#undef FORMULA
    OPT_CHOICE(O, loss_first, "loss-first", "auto", "auto|none",
               "objective of the first steps, spelled like --loss; auto: forward, for a student that "
               "starts at random (--config, or of retort init) with a loss whose gradient fades where "
               "the student expects nothing yet (reverse, jsd, skew, skew-reverse, tvd)",
               .open = true),
    OPT_STR(O, loss_change, "loss-change", "0.1:0.5", "A:B",
            "the shares of the steps between which --loss-first goes over to --loss"),
    OPT_FLOAT(O, hard_weight, "hard-weight", "0", 0, 1,
              "share of cross-entropy beside a soft loss"),
    OPT_FLOAT(O, temperature, "temperature", "1", 0.1, 20,
              "of soft targets; not 1 with all but forward"),
    OPT_FLOAT(O, jsd_beta, "jsd-beta", "0.5", 0.01, 0.99, "teacher's share of the mixture of jsd"),
    OPT_FLOAT(O, skew_alpha, "skew-alpha", "0.1", 0, 0.99,
              "a of skew and skew-reverse: how much of itself a side is measured against"),
    OPT_FLOAT(O, parts.reasoning, "reasoning-weight", "1", 0, RT_WEIGHT_MAX,
              "what a token of a thought counts, its marks included; 0 = it is read and not learned"),
    OPT_FLOAT(O, parts.answer, "answer-weight", "1", 0, RT_WEIGHT_MAX,
              "what a token of an answer counts, its end token included"),
    OPT_FLOAT(O, entropy_share, "entropy-share", "1", 1e-6, 1,
              "learn from this share of a step's tokens, those where the teacher's entropy is "
              "largest; of archives"),
    OPT_FLOAT(O, entropy_rest, "entropy-rest", "0", 0, 1,
              "what the tokens outside --entropy-share count; 0 = they are read and not learned"),
    OPT_STR(O, verdicts, "verdicts", "auto", "LIST",
            "samples to learn from; auto: correct where an archive has judged ones, else all that "
            "are finished"),
    RT_CROSSING_OPTIONS(O, teachers, unmatched),
    OPT_BOOL(O, mix_teachers, "mix-teachers", "false",
             "take soft targets of several teachers together"),
    RT_TURNS_OPTION(O, turns),
    RT_CHAT_OPTION(O, set),
    OPT_INT(O, lora.rank, "lora-rank", "0", 0, RT_ADAPTER_RANK_MAX,
            "learn low-rank adapters of this rank beside --model, which stays in the bytes of its "
            "file; 0 = learn the model itself"),
    OPT_FLOAT(O, lora.alpha, "lora-alpha", "32", 0.001, 1e6, "their strength: times alpha / rank"),
    OPT_STR(O, lora.targets, "lora-targets", "all", "LIST",
            "layers that get one: all (but routers), or names like q_proj,v_proj"),
    OPT_BOOL(O, lora.rank_stabilized, "lora-stabilized", "false",
             "times alpha / sqrt(rank) instead"),
    OPT_INT(O, steps, "steps", "1000", 1, 1e9, "optimizer steps"),
    OPT_INT(O, batch_tokens, "batch-tokens", "8192", 2, 1e9, "tokens of a step (whole documents)"),
    OPT_INT(O, pass_tokens, "pass-tokens", "4096", 2, 1e9,
            "tokens of one forward and backward; bounds memory"),
    OPT_INT(O, head_rows, "head-rows", "512", 1, 65536, "rows of a chunk of the head"),
    OPT_INT(O, max_length, "max-length", "4096", 2, 1e9,
            "longer documents are left out, and those beyond what the model was made for"),
    OPT_INT(O, limit, "limit", "0", 0, 1e15, "take at most this many documents; 0 = all"),
    OPT_FLOAT(O, learning_rate, "learning-rate", "3e-4", 0, 10, "peak, after warm-up"),
    OPT_INT(O, warmup, "warmup", "50", 0, 1e9, "steps of linear warm-up"),
    OPT_CHOICE(O, schedule, "schedule", "cosine", RT_SCHEDULES, "of the learning rate"),
    OPT_FLOAT(O, min_rate, "min-rate", "0.1", 0, 1,
              "learning rate at the end, as a share of the peak"),
    OPT_FLOAT(O, cooldown, "cooldown", "0.2", 0, 1,
              "of the schedule wsd: the share of the steps over which the rate falls"),
    RT_LEARN_OPTIONS(O, learn),
    OPT_FLOAT(O, clip, "clip", "1", 0, 1e9, "largest norm of a gradient; 0 = no clipping"),
    OPT_FLOAT(O, balance_rate, "balance-rate", "0.003", 0, 1,
              "router bias against load, a step (sigmoid routers)"),
    OPT_CHOICE(O, recompute, "recompute", "none", "none|block",
               "block keeps only each block's input", RT_OPT_FREE),
    OPT_CHOICE(O, dtype, "dtype", "f32", RT_WRITTEN_DTYPES, "of the written weights"),
    OPT_SEED(O, seed, "of start and order"),
    OPT_DEVICE(O, device),
    OPT_INT(O, save_every, "save-every", "200", 1, 1e9, "steps between checkpoints", RT_OPT_FREE),
    OPT_LIST(O, eval_data, "eval-data", "PATH",
             "held-out archive or JSONL, measured without learning", RT_OPT_MEASURE),
    OPT_INT(O, eval_every, "eval-every", "200", 1, 1e9, "steps between measurements", RT_OPT_FREE),
    OPT_INT(O, eval_limit, "eval-limit", "200", 1, 1e9, "held-out documents, and problems",
            RT_OPT_FREE),
    RT_EXAM_OPTIONS(O, exam),
    OPT_BOOL(O, plan, "plan", "false", "print memory by name and stop", RT_OPT_FREE),
};
#undef O

extern const rt_command rt_command_train;

/* What planning needs of a corpus, whether it can be opened or an earlier stage will write it. */
typedef struct corpus_facts {
    rt_soft_config soft;
    int64_t longest, tokens; /* of one that is not written yet at most */
} corpus_facts;

typedef struct training {
    const train_options *o;
    rt_learning learning;
    rt_dev *dev;
    rt_chat chat;
    rt_model model;
    rt_corpus *corpus, *held_out;
    corpus_facts facts, held_out_facts;
    rt_rollouts rollouts; /* with --teacher: the corpus is that of its round */
    bool round_begun;     /* by the running step */
    rt_trainer trainer;
    rt_measure measure;
    rt_exam exam;
    char identity[20]; /* trainer.at.recipe as text */
    int lock;
    rt_metrics metrics;
    rt_document *docs; /* (n_docs) of the running step */
    int64_t n_docs, cap_docs;
    bool passed_over; /* it was said that there are documents with nothing to learn */
} training;

/* ---- opening ------------------------------------------------------------------------------------
 */

/* NULL: every token of a turn counts alike. */
static const rt_part_weights *parts_of(const train_options *o)
{
    return o->parts.reasoning == 1 && o->parts.answer == 1 ? NULL : &o->parts;
}

static int open_corpus(training *t, rt_corpus **c, corpus_facts *facts, const rt_strlist *paths,
                       bool soft, int64_t limit, const rt_mixture *mixture, const rt_needs *plan,
                       rt_err *err)
{
    int64_t longest = rt_config_longest(&t->model.cfg, t->o->max_length);
    for (int i = 0; i < paths->n; i++) {
        const rt_needs_output *later = rt_needs_find(plan, paths->item[i]);
        if (later) {
            int64_t n = limit ? rt_min(limit, later->samples) : later->samples;
            longest = rt_min(later->longest, longest);
            bool mapped = t->o->teachers.n > 0; /* or in the student's own tokens, and then less */
            *facts = (corpus_facts){ mapped ? rt_soft_mapped(&later->soft) : later->soft, longest,
                                     n * longest };
            return 0;
        }
    }
    rt_corpus_options o = { .chat = &t->chat,
                            .parts = c == &t->held_out ? NULL : parts_of(t->o),
                            .max_length = longest,
                            .need_soft = soft,
                            .mix_teachers = t->o->mix_teachers,
                            .limit = limit,
                            .teachers = t->o->teachers,
                            .unmatched = rt_unmatched_named(t->o->unmatched),
                            .labels = mixture != NULL,
                            .mixture = mixture,
                            .last_turn = strcmp(t->o->turns, "last") == 0 };
    if (rt_verdict_mask(&o.verdicts, "--verdicts", t->o->verdicts, err))
        return -1;
    if (rt_corpus_open(c, (const char *const *)paths->item, paths->n, &o, err))
        return -1;
    *facts = (corpus_facts){ rt_corpus_soft(*c), rt_corpus_longest(*c), rt_corpus_tokens(*c) };
    return 0;
}

/* Where documents come from: one of two, and no flag of the other. */
static int check_source(const train_options *o, rt_err *err)
{
    const rt_rollout_options *r = &o->rollout;
    if (!r->teacher && r->prompts.n)
        return rt_usage(err, "--prompts needs --teacher DIR|GGUF: who judges the student's answers");
    if (!r->teacher)
        return o->data.n ? 0
                         : rt_usage(err, "missing --data PATH, or --teacher and --prompts: what "
                                         "is learned from");
    if (o->data.n)
        return rt_usage(err, "give --data, or --teacher and --prompts, not both");
    if (!o->model)
        return rt_usage(err, "--teacher needs --model DIR|GGUF: a student that can answer");
    if (o->limit || strcmp(o->verdicts, "auto") || strcmp(o->turns, "all"))
        return rt_usage(err, "--limit, --verdicts and --turns choose among --data: not with "
                             "--teacher, whose student learns from all it answers");
    return 0;
}

/* The student's own answers instead of a corpus. */
static int open_rollouts(training *t, const rt_needs *plan, rt_err *err)
{
    const train_options *o = t->o;
    rt_rollouts_of of = { .o = &o->rollout,
                          .out = o->out,
                          .base = o->model,
                          .seed = o->seed,
                          .d = t->dev,
                          .student = &t->model,
                          .chat = &t->chat,
                          .steps = o->steps,
                          .max_length = o->max_length,
                          .pass_tokens = o->pass_tokens,
                          .head_rows = o->head_rows,
                          .temperature = o->temperature,
                          .parts = parts_of(o) };
    if (rt_rollouts_open(&t->rollouts, &of, plan, err))
        return -1;
    t->facts = (corpus_facts){ t->rollouts.manifest.capture, t->rollouts.longest,
                               o->rollout.rollouts * t->rollouts.longest };
    return 0;
}

static void plan_model(training *t, const rt_config *cfg)
{
    rt_placing how = rt_memory_placing(t->learning.mode, t->learning.bf16);
    rt_model_plan_learned(&t->model, t->dev, cfg, &how, t->o->max_length);
}

/* The student: a trained model to go on from, or a config.json whose vocabulary is the tokenizer's.
 */
static int open_model(training *t, const rt_needs *plan, rt_err *err)
{
    const train_options *o = t->o;
    if (!o->model == !o->config)
        return rt_usage(
            err, "give either --model DIR|GGUF or --config FILE (with --tokenizer DIR|GGUF)");
    if (o->config && !o->tokenizer)
        return rt_usage(err,
                        "--config needs --tokenizer DIR|GGUF: whose tokens the student speaks");
    const char *speaks = o->tokenizer ? o->tokenizer : o->model;
    const rt_needs_output *voice = rt_needs_find(plan, speaks);
    const rt_needs_output *base = rt_needs_find(plan, o->model);
    if (!o->lora.rank && (o->lora.rank_stabilized || strcmp(o->lora.targets, "all")))
        return rt_usage(err, "--lora-targets and --lora-stabilized say how adapters are: give "
                             "--lora-rank too");
    if (o->lora.rank && !o->model)
        return rt_usage(err, "--lora-rank adapts a trained model: give --model DIR|GGUF, not --config");
    if (rt_chat_open(&t->chat, voice ? voice->tokenizer : speaks, err) ||
        rt_chat_set(&t->chat, &o->set, err))
        return -1;
    int64_t vocab = rt_tokenizer_vocab(t->chat.tokenizer);
    if (base && o->lora.rank)
        return rt_fail(err, "%s: is not there yet: adapters are planned beside a model that is",
                       o->model);
    if (o->lora.rank) {
        if (rt_model_plan_adapted(&t->model, t->dev, o->model, &o->lora, o->max_length, err))
            return -1;
    } else if (base) {
        plan_model(t, &base->cfg);
    } else if (o->model) {
        rt_config cfg;
        if (rt_model_config(&cfg, o->model, err))
            return -1;
        plan_model(t, &cfg);
    } else {
        cJSON *json = NULL;
        rt_config cfg;
        if (rt_json_load(&json, o->config, err))
            return -1;
        if (!rt_json_find(json, "vocab_size"))
            rt_json_put_i64(json, "vocab_size", vocab);
        int bad = rt_config_parse(&cfg, json, o->config, err);
        cJSON_Delete(json);
        if (bad)
            return -1;
        rt_chat_config(&t->chat, &cfg);
        plan_model(t, &cfg);
    }
    const rt_family *family = t->model.cfg.family;
    if (family->names && family->names->interleaved && !o->lora.rank)
        return rt_fail(err,
                       "%s: a %s model can teach, not learn: its fused experts are not written; "
                       "choose a student of another family",
                       o->model ? o->model : o->config, family->model_type);
    if (t->model.cfg.vocab < vocab)
        return rt_fail(
            err, "%s: the tokenizer has %lld tokens, the model %lld: they do not belong together",
            speaks, (long long)vocab, (long long)t->model.cfg.vocab);
    return 0;
}

static int place_model(training *t, rt_err *err)
{
    if (t->o->model)
        return rt_model_read(&t->model, t->dev, t->o->model, err) ||
                       (t->model.w.adapters &&
                        rt_adapters_init(t->model.w.adapters, t->dev, t->o->seed, err))
                   ? -1
                   : 0;
    if (rt_model_place(&t->model, err))
        return -1;
    return rt_params_init(&t->model.w.params, t->dev, &t->model.cfg, t->o->seed, err);
}

/* Rows of passes that are not a step's. */
static int64_t passes_of_others(const training *t)
{
    int64_t rows = t->held_out_facts.longest;
    if (t->o->exam.problems.n)
        rows = rt_max(rows, rt_exam_rows(&t->exam, &t->o->exam));
    return t->o->rollout.teacher ? rt_max(rows, rt_rollouts_rows(&t->rollouts)) : rows;
}

static int plan_steps(training *t, const rt_loss_plan *loss, rt_err *err)
{
    const train_options *o = t->o;
    int64_t vocab = rt_tokenizer_vocab(t->chat.tokenizer);
    rt_batch_shape shape = { .documents = rt_min(o->pass_tokens / 2, 4096),
                             .head_rows = o->head_rows,
                             .soft = t->facts.soft,
                             .temperature = o->temperature };
    shape.rows = rt_max(o->pass_tokens, t->facts.longest);
    if (t->model.w.adapters) {
        const rt_config *c = &t->model.cfg;
        int64_t rows = rt_max(shape.rows, passes_of_others(t));
        rt_adapters_plan(t->model.w.adapters, &t->model.arenas, t->dev,
                         rows * (c->family->routed ? c->active : 1));
    }
    if (!rt_loss_plan_soft(loss))
        shape.soft.head_max = 0;
    rt_trainer_settings set = { .shape = shape,
                                .loss = *loss,
                                .vocab = vocab,
                                .longest = t->facts.longest,
                                .recompute = strcmp(o->recompute, "block") == 0,
                                .batch_tokens = o->batch_tokens,
                                .steps = o->steps,
                                .warmup = o->warmup,
                                .schedule = o->schedule,
                                .learning_rate = o->learning_rate,
                                .min_rate = o->min_rate,
                                .clip = o->clip,
                                .balance_rate = o->balance_rate,
                                .cooldown = o->cooldown,
                                .longest_pass = passes_of_others(t),
                                .mode = t->learning.mode,
                                .optimizer = rt_learning_spec(&o->learn, &t->learning, o->seed) };
    rt_learn_case with = { &t->model, o->clip, set.recompute, o->batch_tokens, shape.rows };
    if (rt_learning_check(&o->learn, &t->learning, &with, err))
        return -1;
    rt_trainer_plan(&t->trainer, t->dev, &t->model, &set);
    if (o->rollout.teacher && rt_rollouts_plan(&t->rollouts, err))
        return -1;
    if (o->exam.problems.n &&
        rt_exam_plan(&t->exam, &o->exam, t->dev, &t->model,
                     rt_config_longest(&t->model.cfg, o->max_length), err))
        return -1;
    if (!o->eval_data.n)
        return 0;
    shape.soft = t->held_out_facts.soft;
    shape.temperature = 1;
    rt_measure_plan(&t->measure, t->dev, &t->model, NULL, vocab, &shape,
                    t->held_out_facts.longest);
    return 0;
}

/* A config.json alone, or what `retort init` made of one. */
static bool starts_random(const char *model)
{
    rt_listing listing = { .json = NULL };
    rt_err ignored;
    if (!model)
        return true;
    bool known = rt_path_is_dir(model) && rt_listing_read(&listing, model, &ignored) == 0;
    const char *command = known ? cJSON_GetStringValue(rt_json_find(listing.json, "command")) : NULL;
    bool random = command && strcmp(command, "init") == 0;
    cJSON_Delete(listing.json);
    return random;
}

static int open_planned(training *t, const rt_needs *plan, rt_err *err)
{
    const train_options *o = t->o;
    if (o->parts.reasoning == 0 && o->parts.answer == 0)
        return rt_usage(err, "--reasoning-weight 0 and --answer-weight 0: nothing is left to learn");
    if (o->entropy_rest > 0 && o->entropy_share == 1)
        return rt_usage(err, "--entropy-rest says what counts outside --entropy-share: give it too");
    const rt_objective objective = { o->loss,        o->loss_first, o->loss_change, o->hard_weight,
                                     o->temperature, o->jsd_beta,   o->skew_alpha,
                                     starts_random(o->model) };
    rt_loss_plan loss;
    rt_mixture mixture;
    if (o->teachers.n && o->temperature != 1)
        return rt_usage(err, "--temperature %g: targets that --teacher-tokenizer maps have "
                             "temperature 1 alone", o->temperature);
    if (o->mix && rt_mixture_parse(&mixture, "--mix", o->mix, o->data.n, err))
        return -1;
    if (check_source(o, err) || rt_objective_read(&loss, &objective, err))
        return -1;
    bool soft = rt_loss_plan_soft(&loss), chosen = o->entropy_share < 1;
    if (o->rollout.teacher && !soft)
        return rt_usage(err, "--loss %s would learn the student's own tokens: with --teacher take "
                             "another (reverse, jsd, forward)", o->loss);
    if (rt_dev_choose(&t->dev, &o->device, plan != NULL, err) || open_model(t, plan, err) ||
        (parts_of(o) && rt_part_weights_check(&t->chat, err)))
        return -1;
    if (o->rollout.teacher ? open_rollouts(t, plan, err)
                           : open_corpus(t, &t->corpus, &t->facts, &o->data, soft || chosen,
                                         o->limit, o->mix ? &mixture : NULL, plan, err))
        return chosen && !soft ? rt_wrap(err, "--entropy-share chooses by the teacher's entropy")
                               : -1;
    if (rt_exam_check(&o->exam, err) ||
        (o->exam.problems.n &&
         rt_exam_read(&t->exam, &o->exam, &t->chat, o->eval_limit, o->seed, err)))
        return -1;
    if (o->eval_data.n && open_corpus(t, &t->held_out, &t->held_out_facts, &o->eval_data, false,
                                      o->eval_limit, NULL, plan, err))
        return -1;
    if (rt_loss_plan_fit(&loss, &t->facts.soft, err))
        return -1;
    return plan_steps(t, &loss, err);
}

static void close_trainer(training *t);

/* Memory of the run by name: what is placed before its first step, and nothing after. */
static void count_memory(const training *t, rt_needs *p)
{
    rt_needs_arenas(p, t->dev, &t->model.arenas);
    rt_trainer_needs(&t->trainer, p);
    if (t->o->rollout.teacher)
        rt_rollouts_needs(&t->rollouts, p);
    rt_needs_arenas(p, t->dev, &t->measure.arenas);
    if (t->o->exam.problems.n)
        rt_exam_needs(&t->exam, rt_ceil_div(t->o->steps, t->o->eval_every), p);
    rt_needs_workspace(p, t->dev);
}

/* And whether there is so much; else text says what lacks. */
static bool fits(const training *t, char *text, size_t size)
{
    char need[32], room[32];
    rt_needs p = { 0 };
    count_memory(t, &p);
    int64_t device = rt_needs_sum(&p, RT_NEEDS_DEVICE), host = rt_needs_host(&p), free_host;
    int64_t most = t->o->learn.memory;
    bool own = rt_dev_get(t->dev).memory > 0;
    free_host = most ? most : own ? INT64_MAX : rt_dev_get(t->dev).free;
    host += own ? 0 : device;
    text[0] = 0;
    if (own && device > p.room)
        snprintf(text, size, "%s of the device's memory, of %s", rt_fmt_bytes(need, sizeof need, device),
                 rt_fmt_bytes(room, sizeof room, p.room));
    else if (host > free_host)
        snprintf(text, size, "%s of the host's memory, of %s", rt_fmt_bytes(need, sizeof need, host),
                 rt_fmt_bytes(room, sizeof room, free_host));
    rt_needs_free(&p);
    return text[0] == 0;
}

/* With other settings; 1 when they fit. */
static int try_settings(training *t, const train_options *o, rt_memory_mode mode,
                        const rt_needs *plan, char *text, size_t size, rt_err *err)
{
    *t = (training){ .o = o, .lock = -1, .learning = rt_learning_of(&o->learn, mode) };
    if (open_planned(t, plan, err))
        return -1;
    return fits(t, text, size);
}

/* The nearest settings that fit, for people: fewer rows a pass and less kept of it, then the mode. */
static void suggest(const train_options *o, char *text, size_t size)
{
    rt_err ignored;
    char what[128], block[] = "block", *any = "auto";
    training t;
    train_options other = *o;
    other.recompute = block;
    other.learn.mode = o->lora.rank ? o->learn.mode : any;
    rt_memory_mode mode[3];
    int n = rt_learning_modes(mode, &other.learn);
    for (int halves = 0; halves < 4; halves++, other.pass_tokens = rt_max(other.pass_tokens / 2, 2))
        for (int k = 0; k < n; k++) {
            int found = try_settings(&t, &other, mode[k], NULL, what, sizeof what, &ignored);
            close_trainer(&t);
            if (found != 1)
                continue;
            snprintf(text, size, "; these fit: --memory-mode %s --recompute block --pass-tokens %lld",
                     rt_memory_mode_name(mode[k]), (long long)other.pass_tokens);
            return;
        }
    snprintf(text, size, "; nor do a shorter pass and --recompute block: take a smaller student, "
                         "shorter documents (--max-length) or adapters (--lora-rank)");
}

/* The first memory mode that fits; of a plan (nothing is refused there) the first that can be. */
static int open_trainer(training *t, const rt_needs *plan, rt_err *err)
{
    const train_options *o = t->o;
    char text[128], all[512] = "", hint[256];
    rt_memory_mode mode[3];
    int n = rt_learning_modes(mode, &o->learn), used = 0;
    for (int k = 0; k < n; k++) {
        rt_err why;
        int found = try_settings(t, o, mode[k], plan, text, sizeof text, k ? &why : err);
        if (found < 0 && k == 0)
            return -1;
        if (found == 1 && k > 0)
            rt_info("memory mode: %s", rt_memory_mode_name(mode[k]));
        if (found == 1)
            return 0;
        if (found == 0)
            used += snprintf(all + used, sizeof all - (size_t)used, "%s%s needs %s", used ? "; " : "",
                             rt_memory_mode_name(mode[k]), text);
        close_trainer(t);
    }
    if (plan)
        return try_settings(t, o, mode[0], plan, text, sizeof text, err) < 0 ? -1 : 0;
    suggest(o, hint, sizeof hint);
    *t = (training){ .o = o, .lock = -1 };
    return rt_fail(err, "not enough memory: %s%s", all, hint);
}

/* What a resume must find unchanged: every option that changes the result (the table says which),
   and the content of what the others name. */
static int put_source(training *t, cJSON *json, rt_err *err)
{
    if (t->o->rollout.teacher)
        return rt_rollouts_identity(&t->rollouts, json, err);
    rt_json_put_u64(json, "data", rt_corpus_hash(t->corpus));
    return 0;
}

static int hash_recipe(training *t, rt_err *err)
{
    const train_options *o = t->o;
    const char *from = o->model ? o->model : o->config;
    rt_identity id;
    rt_hash tokenizer = rt_tokenizer_fingerprint(t->chat.tokenizer);
    if (rt_identity_of(&id, from, RT_IDENTITY_CACHED, NULL, err))
        return -1;
    cJSON *json = rt_options_result(&rt_command_train, o);
    rt_json_put_str(json, o->model ? "model" : "config", id.hash.hex);
    rt_json_put_str(json, "tokenizer", tokenizer.hex);
    rt_json_put_str(json, "template", t->chat.template_hash.hex);
    rt_learning_put(&t->learning, json);
    int bad = put_source(t, json, err);
    char *text = rt_json_text(json);
    t->trainer.at.recipe = rt_hash64(text, (int64_t)strlen(text), 0);
    free(text);
    cJSON_Delete(json);
    return bad;
}

static int place_trainer(training *t, rt_err *err)
{
    if (place_model(t, err) || rt_trainer_place(&t->trainer, err) ||
        (t->held_out && rt_measure_place(&t->measure, err)) ||
        (t->o->rollout.teacher && rt_rollouts_place(&t->rollouts, err)) || rt_dev_ready(t->dev, err))
        return -1;
    int loaded = rt_trainer_load(&t->trainer, t->o->out, err);
    if (loaded > 0)
        rt_info("resuming after step %lld", (long long)t->trainer.at.step);
    return loaded < 0 ? -1 : 0;
}

static void close_trainer(training *t)
{
    if (!t->dev)
        return;
    for (int64_t i = 0; i < t->cap_docs; i++)
        rt_document_free(&t->docs[i]);
    free(t->docs);
    rt_metrics_close(&t->metrics);
    if (t->lock >= 0)
        close(t->lock);
    rt_trainer_free(&t->trainer);
    rt_measure_free(&t->measure);
    rt_exam_close(&t->exam);
    rt_rollouts_close(&t->rollouts);
    rt_corpus_close(t->corpus);
    rt_corpus_close(t->held_out);
    rt_model_free(t->dev, &t->model);
    rt_chat_close(&t->chat);
    rt_dev_close(t->dev);
}

/* ---- the loop's parts ---------------------------------------------------------------------------
 */

static rt_document *next_slot(training *t)
{
    rt_grow(&t->docs, &t->cap_docs, t->n_docs + 1, sizeof *t->docs, "documents of a step");
    return &t->docs[t->n_docs++];
}

/* A document in which nothing is to be learned is passed over; so are never all of them (count). */
static int pass_over(training *t, const rt_document *doc, bool was_last, int64_t count, rt_err *err)
{
    if (was_last)
        return rt_fail(err, "nothing to learn: no token counts in any of the %lld documents (see "
                            "--reasoning-weight, --answer-weight and the weights of the records)",
                       (long long)count);
    if (!t->passed_over)
        rt_info("documents with no token to learn are passed over (first %s)", doc->id);
    t->passed_over = true;
    t->n_docs--;
    return 0;
}

/* Documents of the next step from c: in shuffled order until batch_tokens are reached; or all. */
static int gather(training *t, const rt_corpus *c, bool all, rt_position *at,
                  const rt_document **docs, int64_t *n, rt_err *err)
{
    int64_t count = rt_corpus_count(c), most = all ? count : rt_corpus_round(c), tokens = 0, empty = 0;
    t->n_docs = 0;
    for (int64_t drawn = 0; all ? drawn < count : tokens < t->o->batch_tokens; drawn++) {
        int64_t i = rt_corpus_draw(c, t->o->seed, at->document);
        if (!all && t->n_docs && tokens + rt_corpus_length(c, i) > t->o->batch_tokens)
            break;
        rt_document *doc = next_slot(t);
        if (rt_corpus_get(c, i, doc, err))
            return -1;
        at->document++;
        bool learns = rt_document_weight(doc) > 0;
        empty = learns ? 0 : empty + 1;
        tokens += learns ? doc->n : 0;
        if (!learns && pass_over(t, doc, empty == most, count, err))
            return -1;
    }
    if (t->o->entropy_share < 1)
        rt_entropy_select(t->docs, t->n_docs, t->o->entropy_share, t->o->entropy_rest);
    *docs = t->docs;
    *n = t->n_docs;
    return 0;
}

static int gather_documents(void *ctx, rt_position *at, const rt_document **docs, int64_t *n,
                            rt_err *err)
{
    training *t = ctx;
    return gather(t, t->corpus, false, at, docs, n, err);
}

/* The same of the answers of the round that the next step belongs to, which it may begin. */
static int gather_rollouts(void *ctx, rt_position *at, const rt_document **docs, int64_t *n,
                           rt_err *err)
{
    training *t = ctx;
    rt_rollouts *r = &t->rollouts;
    int64_t round, first, steps = rt_rollouts_round_at(r, at->step, &round, &first);
    t->round_begun = at->step == first;
    if (t->round_begun)
        at->document = 0;
    if (r->now.round != round && rt_rollouts_begin(r, round, first, t->round_begun, err))
        return -1;
    return gather(t, r->corpus, steps == 1, at, docs, n, err)
               ? rt_wrap(err, "round %lld", (long long)round)
               : 0;
}

static void say_held_out(const training *t, const rt_totals *s, bool examined)
{
    char kl[48] = "";
    if (examined)
        rt_info("step %lld: exact answers %.1f %%", (long long)t->trainer.at.step,
                100 * rt_exam_share(&t->exam));
    if (!t->held_out)
        return;
    if (s->soft_rows)
        snprintf(kl, sizeof kl, ", KL to the teacher %.4f", rt_totals_mean(s, RT_LOSS_KL));
    rt_info("step %lld: held-out cross-entropy %.4f%s, top-1 %.1f %%",
            (long long)t->trainer.at.step, rt_totals_mean(s, RT_LOSS_CE), kl,
            100 * rt_totals_mean(s, RT_LOSS_CORRECT));
}

static int say_checkpoint(const char *dir, rt_err *err)
{
    const rt_err why = *err;
    if (rt_checkpoint_there(dir)) {
        rt_fail(err, "%s; the last checkpoint is good", why.text);
        err->exit_code = why.exit_code;
    }
    return -1;
}

/* examined: whether the problems were all answered: an interrupt ends them, and the step is saved. */
static int measure(training *t, rt_measured *held_out, bool *examined, rt_err *err)
{
    int bad = 0;
    *examined = false;
    rt_trainer_lend(&t->trainer);
    if (t->held_out)
        bad = rt_measure_run(&t->measure, t->held_out, 0, NULL, held_out, err);
    if (!bad && t->o->exam.problems.n) {
        bad = rt_exam_run(&t->exam, err);
        *examined = !bad;
        bad = bad && !rt_interrupted();
    }
    rt_trainer_take_back(&t->trainer);
    return bad;
}

static int train(training *t, rt_err *err)
{
    const train_options *o = t->o;
    const rt_feed feed = { t, o->rollout.teacher ? gather_rollouts : gather_documents };
    const rt_position *at = &t->trainer.at;
    rt_progress progress;
    rt_stepped step;
    rt_measured held_out;
    bool examined = false;
    char rate_text[32];
    double begun = rt_now();
    int64_t seen = 0;
    rt_progress_begin(&progress, "train", at->step, o->steps);
    while (at->step < o->steps) {
        double start = rt_now();
        if (rt_trainer_step(&t->trainer, &feed, &step, err))
            return say_checkpoint(o->out, err);
        bool last = at->step == o->steps;
        bool measured = (t->held_out || o->exam.problems.n) &&
                        (last || at->step % o->eval_every == 0);
        if (measured && measure(t, &held_out, &examined, err))
            return -1;
        seen += step.tokens;
        if (rt_metrics_write(&t->metrics, at, &step, measured && t->held_out ? &held_out.totals : NULL,
                             t->round_begun ? &t->rollouts.now : NULL,
                             measured && examined ? &t->exam : NULL, rt_now() - start, err))
            return -1;
        rt_progress_update(
            &progress, at->step, "loss %.4f | norm %.2f | lr %.1e | %s tok/s%s",
            rt_totals_mean(&step.totals, RT_LOSS_TOTAL), step.norm, step.rate,
            rt_fmt_count(rate_text, sizeof rate_text, (double)seen / (rt_now() - begun)),
            measured ? " | measured" : "");
        if (measured)
            say_held_out(t, &held_out.totals, examined);
        bool stop = rt_interrupted();
        if ((stop || (at->step % o->save_every == 0 && !last)) &&
            rt_trainer_save(&t->trainer, o->out, err))
            return -1;
        if (stop) {
            rt_fail(err, "interrupted after step %lld: run the same command again to go on",
                    (long long)at->step);
            err->exit_code = 130;
            return -1;
        }
    }
    rt_progress_end(&progress);
    return 0;
}

/* ---- the command --------------------------------------------------------------------------------
 */

static rt_hash teacher_of(const training *t)
{
    return t->o->rollout.teacher ? t->rollouts.manifest.weights_hash : rt_corpus_teacher(t->corpus);
}

/* The settings that made the model; the data by its hash, not by a path of this machine; and who
   taught it, for who teaches it next. */
static cJSON *settings(const training *t)
{
    char data[17];
    cJSON *json = rt_options_result(&rt_command_train, t->o);
    rt_learning_put(&t->learning, json);
    rt_hash teacher = teacher_of(t);
    if (teacher.hex[0])
        rt_json_put_str(json, "teacher_hash", teacher.hex);
    if (t->o->rollout.teacher) {
        rt_json_put_str(json, "prompts_hash", t->rollouts.manifest.prompts_hash.hex);
        return json;
    }
    snprintf(data, sizeof data, "%016llx", (unsigned long long)rt_corpus_hash(t->corpus));
    rt_json_put_str(json, "data_hash", data);
    return json;
}

/* A student goes on with the teacher it began with: what it has of one is noise to the other
   (arXiv 2604.13010). */
static void note_teacher(const training *t)
{
    rt_listing l;
    rt_err none;
    rt_hash now = teacher_of(t);
    if (!t->o->model || !rt_path_is_dir(t->o->model) || rt_listing_read(&l, t->o->model, &none))
        return;
    const char *before =
        cJSON_GetStringValue(rt_json_find(rt_json_find(l.json, "options"), "teacher_hash"));
    if (before && now.hex[0] && strcmp(before, now.hex))
        rt_warn("%s learned from another teacher (weights %.8s) than this run has (%.8s): a student "
                "that changes teachers begins with what the new one does not say",
                t->o->model, before, now.hex);
    cJSON_Delete(l.json);
}

static int save_learned(const training *t, rt_err *err)
{
    const train_options *o = t->o;
    const rt_adapters *a = t->model.w.adapters;
    return a ? rt_adapter_save(o->out, t->dev, a, o->model, rt_dtype_written(o->dtype), err)
             : rt_model_save(&t->model, t->dev, o->out, rt_dtype_written(o->dtype), err);
}

static int64_t learned(const training *t) { return rt_weights_learned(&t->model.w)->total; }

static int finish(training *t, rt_err *err)
{
    const train_options *o = t->o;
    rt_trainer_show_mean(&t->trainer);
    cJSON *options_json = settings(t);
    rt_card card = { .cfg = &t->model.cfg,
                     .parameters = learned(t),
                     .command = "train",
                     .base = t->model.w.adapters ? o->model : NULL,
                     .identity = t->identity,
                     .options = options_json,
                     .steps = t->trainer.at.step,
                     .tokens = t->trainer.at.tokens };
    int bad = rt_chat_save(&t->chat, o->tokenizer ? o->tokenizer : o->model, o->out, err) ||
              rt_card_write(o->out, &card, err) ||
              save_learned(t, err) || rt_card_list(o->out, &card, err);
    cJSON_Delete(options_json);
    return bad ? -1 : rt_checkpoint_remove(o->out, err);
}

/* The place of the output, before any work: 1 when this very run was finished there and is whole. */
static int open_output(training *t, rt_err *err)
{
    const train_options *o = t->o;
    rt_output_state state;
    rt_err why;
    if (hash_recipe(t, err))
        return -1;
    snprintf(t->identity, sizeof t->identity, "%016llx", (unsigned long long)t->trainer.at.recipe);
    if (rt_output_take(&state, &t->lock, o->out, "train", t->identity, o->overwrite, err))
        return -1;
    if (state == RT_OUTPUT_DONE && rt_integrity_whole(o->out, &why) == 0) {
        rt_info("%s: this run is finished there; nothing to do", o->out);
        // it may have ended between its last file and these, which are twice its size
        return rt_checkpoint_remove(o->out, err) ? -1 : 1;
    }
    if (state == RT_OUTPUT_DONE)
        rt_info("%s; made again", why.text);
    return rt_dir_clean_temps(o->out, err);
}

static void note_twice(const rt_strlist *a, const rt_strlist *b, const char *what)
{
    for (int i = 0; i < a->n; i++)
        for (int k = a == b ? i + 1 : 0; k < b->n; k++) {
            char *x = rt_path_resolve(a->item[i]), *y = rt_path_resolve(b->item[k]);
            if (!strcmp(x, y))
                rt_info("note: %s %s", b->item[k], what);
            free(x);
            free(y);
        }
}

/* What is allowed, and seldom meant. */
static void note_odd(const training *t)
{
    const train_options *o = t->o;
    char change[400];
    rt_loss_plan_say(&t->trainer.set.loss, change, sizeof change);
    if (*change)
        rt_info("loss: %s", change);
    note_twice(&o->data, &o->data, "is given twice as --data: its documents count twice");
    note_twice(&o->data, &o->eval_data, "is --data and --eval-data: nothing is held out");
    if (o->warmup >= o->steps && o->steps > 1)
        rt_info("note: --warmup %lld: the learning rate is still rising at the last step (--steps "
                "%lld)",
                (long long)o->warmup, (long long)o->steps);
}

static int run_train(void *values, rt_err *err)
{
    training t = { .o = values, .lock = -1 };
    char parameters[32], tokens[32];
    int bad = open_trainer(&t, NULL, err);
    if (!bad) {
        if (t.model.w.adapters)
            rt_info("adapters of rank %lld in %d layers, beside %s parameters that stay",
                    (long long)t.o->lora.rank, rt_adapters_layers(t.model.w.adapters),
                    rt_fmt_count(parameters, sizeof parameters, (double)t.model.w.params.total));
        rt_fmt_count(parameters, sizeof parameters, (double)learned(&t));
        const char *some = t.model.w.adapters ? " learned" : "";
        if (t.corpus)
            rt_info("%s parameters%s, %lld documents, %s tokens", parameters, some,
                    (long long)rt_corpus_count(t.corpus),
                    rt_fmt_count(tokens, sizeof tokens, (double)rt_corpus_tokens(t.corpus)));
        else
            rt_info("%s parameters%s, %lld prompts, rounds: %lld of %lld answers", parameters, some,
                    (long long)t.rollouts.work.n, (long long)rt_rollouts_rounds(&t.rollouts),
                    (long long)t.o->rollout.rollouts);
        int done = open_output(&t, err);
        if (!done) {
            note_odd(&t);
            note_teacher(&t);
        }
        bad = done < 0 ||
              (!done && (place_trainer(&t, err) ||
                         rt_metrics_open(&t.metrics, t.o->out, t.trainer.at.step, err) ||
                         train(&t, err) || finish(&t, err) ||
                         (t.o->rollout.teacher && rt_rollouts_print(&t.rollouts, err))));
    }
    close_trainer(&t);
    return bad ? -1 : 0;
}

static int plan_train(void *values, rt_needs *p, rt_err *err)
{
    training t = { .o = values, .lock = -1 };
    const train_options *o = t.o;
    int bad = open_trainer(&t, p, err);
    if (!bad) {
        count_memory(&t, p);
        if (o->eval_data.n)
            rt_needs_cost(p, t.dev, t.measure.cost,
                          (double)rt_ceil_div(o->steps, o->eval_every) *
                              (double)t.held_out_facts.tokens / (double)t.measure.batch.shape.rows);
        rt_needs_add(p, RT_NEEDS_DISK, "model", "weights",
                     t.model.w.adapters
                         ? rt_adapter_save_bytes(t.model.w.adapters, rt_dtype_written(o->dtype))
                         : rt_model_save_bytes(&t.model, rt_dtype_written(o->dtype)));
        /* the last two, and the next while it is written */
        int64_t checkpoints = rt_min(3, (o->steps - 1) / o->save_every);
        rt_checkpoint_state state = rt_optimizer_state(&t.trainer.optimizer);
        if (checkpoints > 0)
            rt_needs_add(p, RT_NEEDS_DISK, "checkpoint", "until it is done",
                         checkpoints * rt_checkpoint_bytes(&state));
        rt_needs_add(p, RT_NEEDS_ABOUT, "metrics", "a line a step", o->steps * RT_METRICS_LINE);
        const char *speaks = o->tokenizer ? o->tokenizer : o->model;
        const rt_needs_output *from = rt_needs_find(p, speaks);
        p->output = (rt_needs_output){ .path = o->out,
                                       .cfg = t.model.cfg,
                                       .tokenizer = from ? from->tokenizer : speaks };
        p->units = o->steps;
    }
    close_trainer(&t);
    return bad ? -1 : 0;
}

const rt_command rt_command_train = {
    .name = "train",
    .help = "train a model from an archive or from text",
    .group = "a student",
    .options = options,
    .n_options = RT_COUNT(options),
    .struct_bytes = sizeof(train_options),
    .resumes = "checkpoint",
    .run = run_train,
    .plan = plan_train,
    .example = "retort train --model DIR --data A.traces --out student",
};
