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
#include "distill/schedule.h"
#include "distill/training.h"
#include "student/card.h"

#define O rt_train_options
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
            "share of the tokens of each --data, in their order, as 0.7,0.3, or of each \"tag\" of the "
            "records in all of them, as math=0.7,code=0.3; texts learn by their labels beside archives then. Without it every document comes once an epoch"),
    RT_ROLLOUT_OPTIONS(O, rollout),
    OPT_NEED(O, out, "out", "DIR", "where the trained model goes", RT_OPT_OUTPUT),
    OPT_OVERWRITE(O, overwrite),
#define NAME(name, field, soft, from_random, formula) "|" name
#define FORMULA(name, field, soft, from_random, formula) "; " name " = " formula
    OPT_CHOICE(O, loss, "loss", "forward", &RT_LOSS_TERMS(NAME)[1],
               "objective: one of them, or a sum of several with weights (forward:0.7,reverse:0.3); all "
               "but hard and reference need an archive. p is the teacher's probability of a token, q "
               "the student's" RT_LOSS_TERMS(FORMULA), .open = true),
#undef NAME
#undef FORMULA
    OPT_CHOICE(O, loss_first, "loss-first", "auto", "auto|none",
               "objective of the first steps, spelled like --loss; auto: forward, for a student that "
               "starts at random (--config, or of retort init) with a loss whose gradient fades where "
               "the student expects nothing yet (reverse, jsd, skew, skew-reverse, tvd)",
               .open = true),
    OPT_STR(O, reference, "reference", NULL, "DIR|GGUF|base",
            "of the loss reference: a frozen model of the same tokens, or what adapters learn beside",
            RT_OPT_INPUT_WORDS),
    OPT_STR(O, quantized, "quantized", NULL, "FILE.gguf",
            "quantization-aware: passes read the weights as the blocks of this GGUF of --model hold them, "
            "whose scales stay; what is learned is its codes and vectors, and OUT/model.gguf is the file",
            RT_OPT_INPUT),
    OPT_STR(O, loss_change, "loss-change", RT_LOSS_CHANGE, "A:B",
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
            "file; 0 = learn the model itself (16 with --memory-mode lora4)"),
    OPT_FLOAT(O, lora.alpha, "lora-alpha", "32", 0.001, 1e6, "their strength: times alpha / rank"),
    OPT_STR(O, lora.targets, "lora-targets", "all", "LIST",
            "layers that get one: all (but routers), or names like q_proj,v_proj"),
    OPT_BOOL(O, lora.rank_stabilized, "lora-stabilized", "false",
             "times alpha / sqrt(rank) instead"),
    OPT_INT(O, steps, "steps", "1000", 1, 1e9, "optimizer steps"),
    OPT_INT(O, batch_tokens, "batch-tokens", "0", 0, 1e9,
            "tokens of a step (whole documents); 0 = 8192, those of a pass with --memory-mode fused"),
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
    OPT_CHOICE(O, recompute, "recompute", "auto", "auto|" RT_RECOMPUTES,
               "what a pass keeps: block only each block's input, and computes the rest again; offload "
               "the same, in the host's memory; auto: block in the modes stream and fused",
               RT_OPT_FREE),
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

/* What a resume must find unchanged: every option that changes the result (the table says which),
   and the content of what the others name. */
static int put_source(rt_training *t, cJSON *json, rt_err *err)
{
    if (t->o->rollout.teacher)
        return rt_rollouts_identity(&t->rollouts, json, err);
    rt_json_put_u64(json, "data", rt_corpus_hash(t->corpus));
    return 0;
}

/* Nothing where there is none. */
static int put_reference(rt_training *t, cJSON *json, rt_err *err)
{
    const char *path = t->o->reference;
    if (!path)
        return 0;
    if (t->reference.path && rt_teacher_identity(&t->reference_hash, &t->reference, err))
        return -1;
    rt_json_put_str(json, "reference", t->reference.path ? t->reference_hash.hex : path);
    return 0;
}

static int put_quantized(rt_training *t, cJSON *json, rt_err *err)
{
    rt_identity id;
    if (!t->o->quantized)
        return 0;
    if (rt_identity_of(&id, t->o->quantized, RT_IDENTITY_CACHED, NULL, err))
        return -1;
    t->quantized_hash = id.hash;
    rt_json_put_str(json, "quantized", id.hash.hex);
    return 0;
}

static int hash_recipe(rt_training *t, rt_err *err)
{
    const rt_train_options *o = t->o;
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
    int bad = put_source(t, json, err) || put_reference(t, json, err) ||
              put_quantized(t, json, err);
    char *text = rt_json_text(json);
    t->trainer.at.recipe = rt_hash64(text, (int64_t)strlen(text), 0);
    free(text);
    cJSON_Delete(json);
    return bad ? -1 : 0;
}

/* ---- the loop's parts ---------------------------------------------------------------------------
 */

static rt_document *next_slot(rt_training *t)
{
    rt_grow(&t->docs, &t->cap_docs, t->n_docs + 1, sizeof *t->docs, "documents of a step");
    return &t->docs[t->n_docs++];
}

/* A document in which nothing is to be learned is passed over; so are never all of them (count). */
static int pass_over(rt_training *t, const rt_document *doc, bool was_last, int64_t count, rt_err *err)
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
static int gather(rt_training *t, const rt_corpus *c, bool all, rt_position *at,
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
    rt_training *t = ctx;
    return gather(t, t->corpus, false, at, docs, n, err);
}

/* The same of the answers of the round that the next step belongs to, which it may begin. */
static int gather_rollouts(void *ctx, rt_position *at, const rt_document **docs, int64_t *n,
                           rt_err *err)
{
    rt_training *t = ctx;
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

static void say_held_out(const rt_training *t, const rt_totals *s, bool examined)
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
static int measure(rt_training *t, rt_measured *held_out, bool *examined, rt_err *err)
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

static int train(rt_training *t, rt_err *err)
{
    const rt_train_options *o = t->o;
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

static rt_hash teacher_of(const rt_training *t)
{
    return t->o->rollout.teacher ? t->rollouts.manifest.weights_hash : rt_corpus_teacher(t->corpus);
}

/* Tokens that teachers have written or read for it, before this run too. */
static double teacher_tokens(const rt_training *t, const rt_hash *teacher)
{
    cJSON *base = rt_listing_known(t->o->model);
    const cJSON *before = rt_json_find(rt_json_find(base, "options"), "teacher_tokens");
    double tokens = cJSON_IsNumber(before) ? before->valuedouble : 0;
    cJSON_Delete(base);
    if (t->o->rollout.teacher)
        return tokens + (double)rt_rollouts_scored(&t->rollouts);
    return tokens + (teacher->hex[0] ? (double)rt_corpus_tokens(t->corpus) : 0);
}

/* The settings that made the model; the data by its hash, not by a path of this machine; and who
   taught it, for who teaches it next, and by how much. */
static cJSON *settings(const rt_training *t)
{
    char data[17];
    cJSON *json = rt_options_result(&rt_command_train, t->o);
    rt_learning_put(&t->learning, json);
    rt_hash teacher = teacher_of(t);
    double tokens = teacher_tokens(t, &teacher);
    if (teacher.hex[0])
        rt_json_put_str(json, "teacher_hash", teacher.hex);
    if (tokens > 0)
        rt_json_put_num(json, "teacher_tokens", tokens);
    if (t->reference_hash.hex[0])
        rt_json_put_str(json, "reference_hash", t->reference_hash.hex);
    if (t->quantized_hash.hex[0])
        rt_json_put_str(json, "quantized_hash", t->quantized_hash.hex);
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
static void note_teacher(const rt_training *t)
{
    rt_hash now = teacher_of(t);
    cJSON *base = rt_listing_known(t->o->model);
    const char *before =
        cJSON_GetStringValue(rt_json_find(rt_json_find(base, "options"), "teacher_hash"));
    if (before && now.hex[0] && strcmp(before, now.hex))
        rt_warn("%s learned from another teacher (weights %.8s) than this run has (%.8s): a student "
                "that changes teachers begins with what the new one does not say",
                t->o->model, before, now.hex);
    cJSON_Delete(base);
}

/* The blocks first; then the same as weights, as those who read the file see them. */
static int save_quantized(rt_training *t, rt_err *err)
{
    char *path = rt_path_join(t->o->out, "model.gguf");
    int bad = rt_qat_write(t->qat, path, err) || rt_qat_show(t->qat, err);
    free(path);
    return bad;
}

static int save_learned(rt_training *t, rt_err *err)
{
    const rt_train_options *o = t->o;
    if (t->qat && save_quantized(t, err))
        return -1;
    const rt_adapters *a = t->model.w.adapters;
    return a ? rt_adapter_save(o->out, t->dev, a, o->model, rt_dtype_written(o->dtype), err)
             : rt_model_save(&t->model, t->dev, o->out, rt_dtype_written(o->dtype), err);
}

static int64_t learned(const rt_training *t) { return rt_weights_learned(&t->model.w)->total; }

static int finish(rt_training *t, rt_err *err)
{
    const rt_train_options *o = t->o;
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
static int open_output(rt_training *t, rt_err *err)
{
    const rt_train_options *o = t->o;
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
static void note_odd(const rt_training *t)
{
    const rt_train_options *o = t->o;
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

/* What a choice needs of others that were left to us. */
static void settle_train(void *values)
{
    rt_train_options *o = values;
    if (!o->lora.rank && !strcmp(o->learn.mode, "lora4"))
        o->lora.rank = 16;
    if (!o->batch_tokens)
        o->batch_tokens = strcmp(o->learn.mode, "fused") ? 8192 : o->pass_tokens;
}

static int run_train(void *values, rt_err *err)
{
    rt_training t;
    char parameters[32], tokens[32];
    int bad = rt_training_open(&t, values, NULL, err);
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
              (!done && (rt_training_place(&t, err) ||
                         rt_metrics_open(&t.metrics, t.o->out, t.trainer.at.step, err) ||
                         train(&t, err) || finish(&t, err) ||
                         (t.o->rollout.teacher && rt_rollouts_print(&t.rollouts, err))));
    }
    rt_training_close(&t);
    return bad ? -1 : 0;
}

static int plan_train(void *values, rt_needs *p, rt_err *err)
{
    rt_training t;
    const rt_train_options *o = values;
    int bad = rt_training_open(&t, values, p, err);
    if (!bad) {
        rt_training_needs(&t, p);
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
    rt_training_close(&t);
    return bad ? -1 : 0;
}

const rt_command rt_command_train = {
    .name = "train",
    .help = "train a model from an archive or from text",
    .group = "a student",
    .options = options,
    .n_options = RT_COUNT(options),
    .struct_bytes = sizeof(rt_train_options),
    .resumes = "checkpoint",
    .settle = settle_train,
    .run = run_train,
    .plan = plan_train,
    .example = "retort train --model DIR --data A.traces --out student",
};
