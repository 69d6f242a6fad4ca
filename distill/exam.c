#include "distill/exam.h"

#include <string.h>

enum { PREFILL = 256 /* tokens of prompts in a pass, the least */ };

static int64_t prefill(const rt_exam *x) { return rt_max(x->problems.longest, PREFILL); }

int64_t rt_exam_rows(const rt_exam *x, const rt_exam_options *o) { return prefill(x) + o->batch; }

int rt_exam_check(const rt_exam_options *o, rt_err *err)
{
    if (o->samples > 1 && o->temperature == 0)
        return rt_usage(err, "--eval-samples %lld at --eval-temperature 0 are the same answer: give a "
                             "temperature", (long long)o->samples);
    return 0;
}

int rt_exam_read(rt_exam *x, const rt_exam_options *o, const rt_chat *chat, int64_t limit,
                 uint64_t seed, rt_err *err)
{
    x->problems = (rt_problems){ .chat = chat,
                                 .verify = "auto",
                                 .limit = limit,
                                 .samples = o->samples,
                                 .seed = seed,
                                 .quiet = true };
    x->sampling = (rt_sampling_options){ .temperature = o->temperature,
                                         .top_p = 1,
                                         .max_tokens = o->tokens };
    for (int i = 0; i < o->problems.n; i++)
        if (rt_problems_read(&x->problems, o->problems.item[i], err))
            return -1;
    return x->problems.n ? 0 : rt_fail(err, "%s: no problems in it", o->problems.item[0]);
}

int rt_exam_plan(rt_exam *x, const rt_exam_options *o, rt_dev *d, const rt_model *m,
                 int64_t positions, rt_err *err)
{
    if (x->problems.longest >= positions)
        return rt_fail(err, "--eval-problems: one has %lld tokens: there is room for %lld, the answer "
                            "included (--max-length)",
                       (long long)x->problems.longest, (long long)positions);
    rt_answers_options a = { .sampling = &x->sampling,
                             .questions = x->problems.n * x->problems.samples,
                             .longest = x->problems.longest,
                             .positions = positions,
                             .batch = o->batch,
                             .prefill_tokens = prefill(x) };
    return rt_answers_open(&x->answers, d, m, x->problems.chat, &a, err);
}

void rt_exam_needs(const rt_exam *x, int64_t times, rt_needs *p)
{
    int64_t prompts = 0;
    for (int64_t i = 0; i < x->problems.n; i++)
        prompts += x->problems.item[i].prompt.n;
    int64_t each = times * x->problems.samples;
    rt_answers_needs(x->answers, p);
    rt_answers_cost(x->answers, each * x->problems.n, each * prompts, p);
}

int rt_exam_run(rt_exam *x, rt_err *err)
{
    rt_answers_forget(x->answers); /* the weights are others */
    return rt_problems_run(&x->problems, x->answers, 1, err);
}

double rt_exam_share(const rt_exam *x)
{
    return (double)x->problems.correct / (double)(x->problems.n * x->problems.samples);
}

void rt_exam_put(FILE *f, const rt_exam *x)
{
    cJSON *json = rt_json_object();
    rt_problems_put(&x->problems, json);
    fprintf(f, ",\"eval_answers\":%.6g,\"eval_answers_se\":%.6g",
            rt_json_find(json, "accuracy")->valuedouble,
            rt_json_find(json, "accuracy_se")->valuedouble);
    const cJSON *pass = rt_json_find(json, "pass_at");
    for (const cJSON *c = pass ? pass->child->next : NULL; c; c = c->next)
        fprintf(f, ",\"eval_pass_at_%s\":%.6g", c->string, c->valuedouble);
    cJSON_Delete(json);
}

void rt_exam_close(rt_exam *x)
{
    rt_answers_close(x->answers);
    rt_problems_free(&x->problems);
    memset(x, 0, sizeof *x);
}
