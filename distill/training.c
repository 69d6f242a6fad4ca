#include "distill/training.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/formats/listing.h"
#include "core/network/weights.h"
#include "corpora/crossing/crossing.h"
#include "corpora/record.h"
#include "distill/idle.h"

/* ---- opening ------------------------------------------------------------------------------------
 */

/* NULL: every token of a turn counts alike. */
static const rt_part_weights *parts_of(const rt_train_options *o)
{
    return o->parts.reasoning == 1 && o->parts.answer == 1 ? NULL : &o->parts;
}

static int open_corpus(rt_training *t, rt_corpus **c, rt_corpus_facts *facts, const rt_strlist *paths,
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
            *facts = (rt_corpus_facts){ mapped ? rt_soft_mapped(&later->soft) : later->soft, longest,
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
    *facts = (rt_corpus_facts){ rt_corpus_soft(*c), rt_corpus_longest(*c), rt_corpus_tokens(*c) };
    return 0;
}

/* Where documents come from: one of two, and no flag of the other. */
static int check_source(const rt_train_options *o, rt_err *err)
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
static int open_rollouts(rt_training *t, const rt_needs *plan, rt_err *err)
{
    const rt_train_options *o = t->o;
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
    t->facts = (rt_corpus_facts){ t->rollouts.manifest.capture, t->rollouts.longest,
                               o->rollout.rollouts * t->rollouts.longest };
    return 0;
}

static void plan_model(rt_training *t, const rt_config *cfg)
{
    rt_placing how = rt_memory_placing(t->learning.mode, t->learning.bf16);
    rt_model_plan_learned(&t->model, t->dev, cfg, &how, t->o->max_length);
}

/* The student: a trained model to go on from, or a config.json whose vocabulary is the tokenizer's.
 */
static int open_model(rt_training *t, const rt_needs *plan, rt_err *err)
{
    const rt_train_options *o = t->o;
    if (!o->model == !o->config)
        return rt_usage(
            err, "give either --model DIR|GGUF or --config FILE (with --tokenizer DIR|GGUF)");
    if (o->config && !o->tokenizer)
        return rt_usage(err,
                        "--config needs --tokenizer DIR|GGUF: whose tokens the student speaks");
    const char *speaks = o->tokenizer ? o->tokenizer : o->model;
    const rt_needs_output *voice = rt_needs_find(plan, speaks);
    const rt_needs_output *base = rt_needs_find(plan, o->model);
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

/* The file whose blocks are learned. One that an earlier stage will write has none to plan yet. */
static int open_quantized(rt_training *t, const rt_needs *plan, rt_err *err)
{
    const rt_train_options *o = t->o;
    if (!o->model || o->lora.rank || o->rollout.teacher)
        return rt_usage(err, "--quantized learns the blocks of a GGUF of --model DIR|GGUF, from --data: "
                             "without --config, --lora-rank and --teacher");
    if (t->learning.mode != RT_MODE_RESIDENT || t->learning.bf16)
        return rt_usage(err, "--quantized needs --memory-mode resident and --master-dtype f32: weights "
                             "move by less than a step of their grid");
    return rt_needs_find(plan, o->quantized)
               ? 0
               : rt_qat_open(&t->qat, o->quantized, &t->model, rt_dev_get(t->dev).threads, err);
}

static bool refers_to_base(const rt_train_options *o)
{
    return o->reference && !strcmp(o->reference, "base");
}

/* The frozen model of the term of that name, as the longest document needs it. */
static int open_reference(rt_training *t, const rt_needs *plan, rt_err *err)
{
    const char *path = t->o->reference;
    if (refers_to_base(t->o))
        return t->model.w.adapters
                   ? 0
                   : rt_usage(err, "--reference base is what adapters learn beside: give --lora-rank "
                                   "too, or --reference DIR|GGUF");
    if (rt_teacher_open_beside(&t->reference, path, t->dev, plan, err))
        return -1;
    rt_hash ours = rt_tokenizer_fingerprint(t->chat.tokenizer);
    rt_hash its = rt_tokenizer_fingerprint(t->reference.chat.tokenizer);
    if (strcmp(ours.hex, its.hex))
        return rt_fail(err, "--reference %s: has another tokenizer (%.8s, the student has %.8s): take "
                            "a model with the student's vocabulary", path, its.hex, ours.hex);
    if (t->facts.longest > t->reference.positions)
        return rt_fail(err, "--reference %s: was made for %lld tokens, a document has %lld: give "
                            "--max-length %lld", path, (long long)t->reference.positions,
                       (long long)t->facts.longest, (long long)t->reference.positions);
    rt_teacher_plan(&t->reference, t->facts.longest, false);
    return 0;
}

static int place_model(rt_training *t, rt_err *err)
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
static int64_t passes_of_others(const rt_training *t)
{
    int64_t rows = t->held_out_facts.longest;
    if (t->o->exam.problems.n)
        rows = rt_max(rows, rt_exam_rows(&t->exam, &t->o->exam));
    return t->o->rollout.teacher ? rt_max(rows, rt_rollouts_rows(&t->rollouts)) : rows;
}

static rt_recompute recompute_of(const char *word, rt_memory_mode mode)
{
    if (!strcmp(word, "auto"))
        word = mode == RT_MODE_RESIDENT ? "none" : "block";
    return !strcmp(word, "block")     ? RT_RECOMPUTE_BLOCK
           : !strcmp(word, "offload") ? RT_RECOMPUTE_OFFLOAD
                                      : RT_RECOMPUTE_NONE;
}

static int plan_steps(rt_training *t, const rt_loss_plan *loss, rt_err *err)
{
    const rt_train_options *o = t->o;
    int64_t vocab = rt_tokenizer_vocab(t->chat.tokenizer);
    rt_batch_shape shape = { .documents = rt_min(o->pass_tokens / 2, 4096),
                             .head_rows = o->head_rows,
                             .soft = t->facts.soft,
                             .temperature = o->temperature };
    shape.rows = rt_max(o->pass_tokens, t->facts.longest);
    /* held-out documents pass through the activations of a step, unless one is longer than those */
    int64_t held = t->held_out_facts.longest;
    bool lends = held <= shape.rows;
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
                                .reference = refers_to_base(o) ? &t->model
                                             : o->reference   ? &t->reference.model
                                                              : NULL,
                                .qat = t->qat,
                                .vocab = vocab,
                                .longest = lends ? rt_max(t->facts.longest, held) : t->facts.longest,
                                .recompute = recompute_of(o->recompute, t->learning.mode),
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
    rt_measure_plan(&t->measure, t->dev, &t->model, NULL, vocab, &shape, held,
                    lends ? &t->trainer.step.acts : NULL);
    return 0;
}

/* A config.json alone, or what `retort init` says it drew. */
static bool starts_random(const char *model)
{
    cJSON *known = rt_listing_known(model);
    bool random = !model || cJSON_IsTrue(rt_json_find(known, "random"));
    cJSON_Delete(known);
    return random;
}

static int open_planned(rt_training *t, const rt_needs *plan, rt_err *err)
{
    const rt_train_options *o = t->o;
    if (o->parts.reasoning == 0 && o->parts.answer == 0)
        return rt_usage(err, "--reasoning-weight 0 and --answer-weight 0: nothing is left to learn");
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
    if (check_source(o, err) || rt_objective_read(&loss, &objective, err) ||
        rt_idle_check(o, &loss, err))
        return -1;
    if (RT_LOSS_HAS(&loss, reference) && !o->reference)
        return rt_usage(err, "--loss reference needs --reference DIR|GGUF, or base, which is what "
                             "adapters learn beside");
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
    if (rt_loss_plan_fit(&loss, &t->facts.soft, err) ||
        (o->reference && open_reference(t, plan, err)) ||
        (o->quantized && open_quantized(t, plan, err)))
        return -1;
    return plan_steps(t, &loss, err);
}

void rt_training_needs(const rt_training *t, rt_needs *p)
{
    rt_needs_arenas(p, t->dev, &t->model.arenas);
    rt_trainer_needs(&t->trainer, p);
    if (t->reference.path) {
        rt_needs_arenas(p, t->dev, &t->reference.model.arenas);
        rt_needs_add(p, RT_NEEDS_FILE, "reference", "in its file", rt_model_mapped(&t->reference.model));
    }
    if (t->qat)
        rt_needs_add(p, RT_NEEDS_MEMORY, "host", "scales of blocks", rt_qat_host_bytes(t->qat));
    if (t->o->rollout.teacher)
        rt_rollouts_needs(&t->rollouts, p);
    rt_needs_arenas(p, t->dev, &t->measure.arenas);
    if (t->o->exam.problems.n)
        rt_exam_needs(&t->exam, rt_ceil_div(t->o->steps, t->o->eval_every), p);
    rt_needs_workspace(p, t->dev);
}

/* And whether there is so much; else text says what lacks. */
static bool fits(const rt_training *t, char *text, size_t size)
{
    char need[32], room[32];
    rt_needs p = { 0 };
    rt_training_needs(t, &p);
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
static int try_settings(rt_training *t, const rt_train_options *o, rt_memory_mode mode,
                        const rt_needs *plan, char *text, size_t size, rt_err *err)
{
    *t = (rt_training){ .o = o, .lock = -1, .learning = rt_learning_of(&o->learn, mode) };
    if (open_planned(t, plan, err))
        return -1;
    return fits(t, text, size);
}

/* The nearest settings that fit, for people: fewer rows a pass and less kept of it, then the mode.
   own: the device has memory of its own, which offloading spares. */
static void suggest(const rt_train_options *o, bool own, char *text, size_t size)
{
    rt_err ignored;
    char what[128], words[2][8] = { "block", "offload" }, *any = "auto";
    rt_training t;
    rt_train_options other = *o;
    other.learn.mode = o->lora.rank ? o->learn.mode : any;
    rt_memory_mode mode[3];
    int n = rt_learning_modes(mode, &other.learn), ways = own ? 2 : 1;
    for (int halves = 0; halves < 4; halves++, other.pass_tokens = rt_max(other.pass_tokens / 2, 2))
        for (int k = 0; k < ways * n; k++) {
            other.recompute = words[k % ways];
            int found = try_settings(&t, &other, mode[k / ways], NULL, what, sizeof what, &ignored);
            rt_training_close(&t);
            if (found != 1)
                continue;
            snprintf(text, size, "; these fit: --memory-mode %s --recompute %s --pass-tokens %lld",
                     rt_memory_mode_name(mode[k / ways]), other.recompute, (long long)other.pass_tokens);
            return;
        }
    snprintf(text, size, "; nor do a shorter pass and --recompute %s: take a smaller student, "
                         "shorter documents (--max-length) or adapters (--lora-rank)",
             words[ways - 1]);
}

/* The first memory mode that fits; of a plan (nothing is refused there) the first that can be. */
int rt_training_open(rt_training *t, const rt_train_options *o, const rt_needs *plan, rt_err *err)
{
    char text[128], all[512] = "", hint[256];
    rt_memory_mode mode[3];
    int n = rt_learning_modes(mode, &o->learn), used = 0;
    bool own = false;
    for (int k = 0; k < n; k++) {
        rt_err why;
        int found = try_settings(t, o, mode[k], plan, text, sizeof text, k ? &why : err);
        if (found < 0 && k == 0)
            return -1;
        if (found == 1 && k > 0)
            rt_info("memory mode: %s", rt_memory_mode_name(mode[k]));
        if (found == 1)
            return 0;
        own = own || (found == 0 && rt_dev_get(t->dev).memory > 0);
        if (found == 0)
            used += snprintf(all + used, sizeof all - (size_t)used, "%s%s needs %s", used ? "; " : "",
                             rt_memory_mode_name(mode[k]), text);
        rt_training_close(t);
    }
    if (plan)
        return try_settings(t, o, mode[0], plan, text, sizeof text, err) < 0 ? -1 : 0;
    suggest(o, own, hint, sizeof hint);
    *t = (rt_training){ .o = o, .lock = -1 };
    return rt_fail(err, "not enough memory: %s%s", all, hint);
}

int rt_training_place(rt_training *t, rt_err *err)
{
    if (place_model(t, err) ||
        (t->reference.path && rt_model_read(&t->reference.model, t->dev, t->reference.path, err)) ||
        rt_trainer_place(&t->trainer, err) ||
        (t->held_out && rt_measure_place(&t->measure, err)) ||
        (t->o->rollout.teacher && rt_rollouts_place(&t->rollouts, err)) || rt_dev_ready(t->dev, err))
        return -1;
    if (t->qat && rt_qat_begin(t->qat, err))
        return -1;
    int loaded = rt_trainer_load(&t->trainer, t->o->out, err);
    if (loaded > 0)
        rt_info("resuming after step %lld", (long long)t->trainer.at.step);
    return loaded < 0 ? -1 : 0;
}

void rt_training_close(rt_training *t)
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
    rt_teacher_close(&t->reference);
    rt_qat_close(t->qat);
    rt_corpus_close(t->corpus);
    rt_corpus_close(t->held_out);
    rt_model_free(t->dev, &t->model);
    rt_chat_close(&t->chat);
    rt_dev_close(t->dev);
}
