#include "student/problems.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "corpora/record.h"
#include "corpora/source.h"

/* ---- reading ---- */

/* -1: of none. A number is as good a name as a text. */
static int find_group(int *group, rt_problems *p, const rt_record *r, rt_err *err)
{
    cJSON *meta = NULL;
    *group = -1;
    if (!p->by || !r->meta)
        return 0;
    if (rt_json_parse(&meta, r->meta, (int64_t)strlen(r->meta), "problem", err))
        return -1;
    const cJSON *v = rt_json_find(meta, p->by);
    char *number = cJSON_IsNumber(v) ? rt_json_text(v) : NULL;
    const char *name = number ? number : cJSON_GetStringValue(v);
    int i = 0, bad = 0;
    while (name && i < p->n_groups && strcmp(p->group[i].name, name) != 0)
        i++;
    if (name && i == RT_GROUPS_MAX)
        bad = rt_fail(err, "--group %s: more than %d different values", p->by, RT_GROUPS_MAX);
    else if (name && strlen(name) >= sizeof p->group[0].name)
        bad = rt_fail(err, "--group %s: \"%s\" is longer than %d bytes", p->by, name,
                      (int)sizeof p->group[0].name - 1);
    else if (name && i == p->n_groups)
        snprintf(p->group[p->n_groups++].name, sizeof p->group[0].name, "%s", name);
    *group = name && !bad ? i : -1;
    free(number);
    cJSON_Delete(meta);
    return bad;
}

static int add_problem(rt_problems *p, const rt_record *r, const char *where, rt_err *err)
{
    rt_verify_kind verify;
    if (!r->answer)
        return rt_fail(err, "%s: no \"answer\" to compare with", where);
    if (rt_verify_choose(&verify, p->verify, r->verify, r->answer, err))
        return rt_wrap(err, "%s", where);
    if (r->n_messages == 0)
        return rt_fail(err, "%s: no \"prompt\" or \"messages\"", where);
    rt_grow(&p->item, &p->cap, p->n + 1, sizeof *p->item, "problems");
    rt_problem *one = &p->item[p->n++];
    memset(one, 0, sizeof *one);
    if (find_group(&one->group, p, r, err))
        return rt_wrap(err, "%s", where);
    one->verify = verify;
    one->answer = rt_strdup(r->answer);
    cJSON *root = rt_record_messages(r);
    rt_record_drop_response(root);
    int bad = rt_chat_prompt(p->chat, root, &one->prompt, err);
    cJSON_Delete(root);
    p->longest = rt_max(p->longest, one->prompt.n);
    return bad ? rt_wrap(err, "%s", where) : 0;
}

int rt_problems_read(rt_problems *p, const char *path, rt_err *err)
{
    rt_source *s = NULL;
    rt_item item;
    int got = 0, bad = rt_source_open(&s, path, RT_SOURCE_LINES, err);
    while (!bad && !(p->limit && p->n >= p->limit) && (got = rt_source_next(s, &item, err)) != 0) {
        rt_record r = { 0 };
        bad = got < 0 || rt_record_from_item(&r, &item, err) || add_problem(p, &r, item.where, err);
        rt_record_free(&r);
    }
    rt_source_close(s);
    return bad ? -1 : 0;
}

void rt_problems_free(rt_problems *p)
{
    for (int64_t i = 0; i < p->n; i++) {
        rt_ids_free(&p->item[i].prompt);
        rt_ids_free(&p->item[i].said);
        free(p->item[i].answer);
    }
    free(p->item);
    p->item = NULL;
    p->n = p->cap = 0;
}

/* ---- answers ---- */

/* Question q is answer q % samples of problem q / samples. */
static void ask(void *ctx, int64_t question, rt_question *q)
{
    const rt_problems *p = ctx;
    const rt_problem *one = &p->item[question / p->samples];
    *q = (rt_question){ .prompt = one->prompt.id,
                        .n_prompt = one->prompt.n,
                        .seed = rt_hash64(&question, (int64_t)sizeof question, p->seed),
                        .reference = one->answer,
                        .verify = one->verify };
}

static int keep_answer(rt_problem *one, const rt_answer *a, rt_err *err)
{
    int64_t n = a->learned - a->n_prompt;
    if (rt_ids_reserve(&one->said, n, err))
        return -1;
    memcpy(one->said.id, a->token + a->n_prompt, (size_t)n * sizeof *a->token);
    one->said.n = n;
    one->verdict = a->verdict;
    return 0;
}

static int count(void *ctx, const rt_answer *a, rt_err *err)
{
    rt_problems *p = ctx;
    rt_problem *one = &p->item[a->question / p->samples];
    one->correct += a->verdict == RT_CORRECT;
    p->correct += a->verdict == RT_CORRECT;
    p->unfinished += a->verdict == RT_UNFINISHED;
    p->unknown += a->verdict == RT_UNVERIFIED;
    p->rules[a->rule]++;
    p->generated += a->n - a->n_prompt;
    p->done++;
    if (!p->quiet)
        rt_progress_update(&p->progress, p->done, "%.1f %% right",
                           100.0 * (double)p->correct / (double)p->done);
    return p->keep && a->question % p->samples == 0 ? keep_answer(one, a, err) : 0;
}

static void begin(rt_problems *p)
{
    p->correct = p->unfinished = p->unknown = p->generated = p->done = 0;
    memset(p->rules, 0, sizeof p->rules);
    for (int64_t i = 0; i < p->n; i++) {
        p->item[i].correct = 0;
        rt_ids_clear(&p->item[i].said);
    }
    for (int i = 0; i < p->n_groups; i++)
        p->group[i].problems = 0, p->group[i].share = 0;
}

int rt_problems_run(rt_problems *p, rt_answers *answers, int64_t together, rt_err *err)
{
    rt_answers_io io = { .ctx = p, .ask = ask, .take = count };
    int64_t questions = p->n * p->samples;
    begin(p);
    if (!p->quiet) {
        rt_progress_begin(&p->progress, "answers", 0, questions);
        p->progress.together = together;
    }
    int bad = rt_answers_run(answers, questions, &io, err);
    if (!p->quiet)
        rt_progress_end(&p->progress);
    for (int64_t i = 0; i < p->n && !bad; i++) {
        if (p->item[i].group < 0)
            continue;
        rt_group *g = &p->group[p->item[i].group];
        g->problems++;
        g->share += (double)p->item[i].correct / (double)p->samples;
    }
    return bad;
}

const rt_problem *rt_problems_find(const rt_problems *p, const int32_t *prompt, int64_t n)
{
    for (int64_t i = 0; i < p->n; i++)
        if (p->item[i].prompt.n == n && p->item[i].said.n &&
            !memcmp(p->item[i].prompt.id, prompt, (size_t)n * sizeof *prompt))
            return &p->item[i];
    return NULL;
}

/* ---- numbers ---- */

double rt_pass_at(int64_t n, int64_t c, int64_t k)
{
    double none = 1;
    for (int64_t i = n - c + 1; i <= n && n - c >= k; i++)
        none *= 1 - (double)k / (double)i;
    return n - c >= k ? 1 - none : 1;
}

/* Of the mean over problems: answers to one problem are no independent draws. */
static double standard_error(const rt_problems *p, double mean)
{
    double sum = 0;
    for (int64_t i = 0; i < p->n; i++) {
        double apart = (double)p->item[i].correct / (double)p->samples - mean;
        sum += apart * apart;
    }
    return sqrt(sum) / (double)p->n;
}

static void put_pass(const rt_problems *p, cJSON *json)
{
    cJSON *pass = rt_json_object();
    for (int64_t k = 1; k <= p->samples; k = k < p->samples ? rt_min(2 * k, p->samples) : k + 1) {
        char name[24];
        double sum = 0;
        for (int64_t i = 0; i < p->n; i++)
            sum += rt_pass_at(p->samples, p->item[i].correct, k);
        snprintf(name, sizeof name, "%lld", (long long)k);
        rt_json_put_num(pass, name, sum / (double)p->n);
    }
    rt_json_put(json, "pass_at", pass);
}

void rt_problems_put(const rt_problems *p, cJSON *json)
{
    double answers = (double)(p->n * p->samples), mean = (double)p->correct / answers;
    rt_json_put_i64(json, "problems", p->n);
    rt_json_put_i64(json, "samples", p->samples);
    rt_json_put_num(json, "accuracy", mean);
    rt_json_put_num(json, "accuracy_se", standard_error(p, mean));
    if (p->samples > 1)
        put_pass(p, json);
    rt_json_put_num(json, "unfinished", (double)p->unfinished / answers);
    rt_json_put_num(json, "unknown", (double)p->unknown / answers);
    rt_json_put_num(json, "tokens_per_answer", (double)p->generated / answers);
    cJSON *groups = rt_json_object(), *sizes = rt_json_object(), *rules = rt_json_object();
    for (int i = 0; i < p->n_groups; i++) {
        rt_json_put_num(groups, p->group[i].name,
                        p->group[i].share / (double)rt_max(p->group[i].problems, 1));
        rt_json_put_i64(sizes, p->group[i].name, p->group[i].problems);
    }
    rt_json_put(json, "groups", groups);
    rt_json_put(json, "group_problems", sizes);
    for (int i = 0; i < RT_RULE_COUNT; i++)
        if (p->rules[i])
            rt_json_put_num(rules, rt_verify_rule_name((rt_verify_rule)i),
                            (double)p->rules[i] / answers);
    rt_json_put(json, "rules", rules);
}
