/* serve.c: the command `retort serve`: a model behind OpenAI's HTTP interface, on this machine
   unless told otherwise. All requests run through one generator together; what a request is
   answered does not depend on what runs beside it, so that a seed and a prompt always give the same
   text. Refuses: several models, tools, pictures; and to say on the log what was asked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "teacher/server/http.h"
#include "teacher/teacher.h"

typedef struct serve_options {
    char *model, *name, *host;
    int64_t port, batch, waiting, timeout, context, cache_tokens, prefill_tokens;
    double grace;
    rt_strlist set;
    rt_sampling_options sampling;
    rt_dev_choice device;
    bool plan;
} serve_options;

#define O serve_options
static const rt_option options[] = {
    OPT_NEED(O, model, "model", "DIR|GGUF", "the model", RT_OPT_INPUT),
    OPT_STR(O, name, "name", NULL, "TEXT", "what clients call it; else the model's last name"),
    OPT_STR(O, host, "host", "127.0.0.1", "NAME",
            "where to listen; one that other machines reach needs RETORT_API_KEY", RT_OPT_FREE),
    OPT_INT(O, port, "port", "8080", 0, 65535, "where to listen; 0 = one that is free",
            RT_OPT_FREE),
    RT_CHAT_OPTION(O, set),
    RT_SAMPLING_OPTIONS(O, sampling, "0.6", "0.95", "8192"),
    OPT_INT(O, context, "context", "8192", 2, 1e7, "tokens of prompt and answer together"),
    OPT_INT(O, batch, "batch", "16", 1, 4096, "sequences generated at once", RT_OPT_FREE),
    OPT_INT(O, waiting, "queue", "64", 0, 1e6,
            "sequences that wait beside them; what is beyond is refused (429)", RT_OPT_FREE),
    OPT_INT(O, cache_tokens, "cache-tokens", "16384", 0, 1e12,
            "of all sequences at once that have room in memory; one always has; 0 = as many as "
            "they may have",
            RT_OPT_FREE),
    OPT_INT(O, prefill_tokens, "prefill-tokens", "512", 1, 1e6,
            "prompt tokens of one pass beside the running sequences", RT_OPT_FREE),
    OPT_INT(O, timeout, "timeout", "30", 1, 3600,
            "seconds that a client has to send a request, and to take what is there for it",
            RT_OPT_FREE),
    OPT_FLOAT(O, grace, "grace", "5", 0, 3600,
              "seconds that answers have to end by themselves when the server is stopped",
              RT_OPT_FREE),
    OPT_DEVICE(O, device),
    OPT_BOOL(O, plan, "plan", "false", "print memory by name and stop", RT_OPT_FREE),
};
#undef O

typedef struct server {
    const serve_options *o;
    rt_teacher teacher;
    rt_generator *generator;
    rt_door door;
    rt_http *http;
    rt_queue *queue;
    rt_served served;
    char *name;
} server;

/* "student" of "models/student.gguf" and of "models/student/". */
static char *last_name(const char *path)
{
    size_t end = strlen(path), begin;
    while (end > 1 && path[end - 1] == '/')
        end--;
    for (begin = end; begin > 0 && path[begin - 1] != '/';)
        begin--;
    if (end - begin > 5 && !strncmp(path + end - 5, ".gguf", 5))
        end -= 5;
    return rt_text_clean(rt_strndup(path + begin, (int64_t)(end - begin)));
}

static int open_model(server *s, const rt_needs *plan, rt_err *err)
{
    const serve_options *o = s->o;
    rt_teacher *t = &s->teacher;
    if (rt_sampling_check(&o->sampling, err) ||
        rt_teacher_open(t, o->model, &o->device, plan, err) || rt_chat_set(&t->chat, &o->set, err))
        return -1;
    s->name = o->name ? rt_strdup(o->name) : last_name(o->model);
    s->served = (rt_served){ .chat = &t->chat,
                             .name = s->name,
                             .length = rt_config_longest(&t->model.cfg, o->context),
                             .vocab = t->vocab,
                             .most = o->batch + o->waiting,
                             .defaults = &o->sampling,
                             .created = (int64_t)time(NULL) };
    rt_generate_options g = { .slots = o->batch,
                              .length = s->served.length,
                              .prefill_rows = rt_min(o->prefill_tokens, s->served.length),
                              .cache_tokens = o->cache_tokens,
                              .vocab = t->vocab,
                              .repetition = o->sampling.repetition,
                              .sampling = rt_sampling_of(&o->sampling),
                              .capture = { .head_max = RT_TOP_LOGPROBS_MAX } };
    rt_teacher_plan(t, s->served.length, false);
    s->generator = rt_generator_open(t->dev, &t->model, &g);
    return 0;
}

static void close_server(server *s)
{
    rt_http_close(s->http, 1);
    rt_door_close(&s->door);
    rt_queue_close(s->queue);
    rt_generator_close(s->generator);
    rt_teacher_close(&s->teacher);
    free(s->name);
}

static void sweep(void *ctx)
{
    server *s = ctx;
    rt_http_sweep(s->http);
}

static int serve(server *s, rt_err *err)
{
    const serve_options *o = s->o;
    const rt_http_limits limits = { .connections = o->batch + o->waiting + 64,
                                    .seconds = o->timeout };
    s->queue = rt_queue_open(o->batch, o->waiting, o->grace);
    if (rt_http_open(&s->http, &s->door, &s->served, s->queue, &limits, err))
        return -1;
    printf("%s\n", s->door.url);
    fflush(stdout);
    rt_info("%s is served at %s/v1", s->name, s->door.url);
    return rt_queue_run(s->queue, s->generator, sweep, s, err);
}

/* The door first: a server that finds its port taken has not read a model for it. */
static int run_serve(void *values, rt_err *err)
{
    server s = { .o = values, .door = { .fd = -1 } };
    int bad = rt_http_there(err) ||
              rt_door_open(&s.door, s.o->host, s.o->port, getenv("RETORT_API_KEY"), err) ||
              open_model(&s, NULL, err) || rt_teacher_read(&s.teacher, err) || serve(&s, err);
    close_server(&s);
    return bad ? -1 : 0;
}

static int plan_serve(void *values, rt_needs *p, rt_err *err)
{
    server s = { .o = values, .door = { .fd = -1 } };
    int bad = open_model(&s, p, err);
    if (!bad) {
        rt_teacher_needs(&s.teacher, p);
        rt_generator_needs(s.generator, p);
    }
    close_server(&s);
    return bad ? -1 : 0;
}

const rt_command rt_command_serve = {
    .name = "serve",
    .help = "OpenAI's HTTP interface to a model, on this machine",
    .group = "a student",
    .options = options,
    .n_options = RT_COUNT(options),
    .struct_bytes = sizeof(serve_options),
    .run = run_serve,
    .plan = plan_serve,
    .example = "retort serve --model student.gguf --port 8080",
};
