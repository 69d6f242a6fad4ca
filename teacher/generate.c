/* generate.c: the command `retort generate`: one answer, or a conversation, shown as it comes.
   Text goes to stdout byte for byte. Refuses: tools, and keeping a conversation on disk. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/option.h"
#include "core/network/generate.h"
#include "teacher/teacher.h"

typedef struct generate_options {
    char *model, *prompt, *system;
    rt_strlist set;
    bool chat, raw, json;
    int64_t context;
    rt_dev_choice device;
    uint64_t seed;
    rt_sampling_options sampling;
} generate_options;

#define O generate_options
static const rt_option options[] = {
    OPT_NEED(O, model, "model", "DIR|GGUF", "the model", RT_OPT_INPUT),
    OPT_STR(O, prompt, "prompt", NULL, "TEXT", "what to answer"),
    OPT_BOOL(O, chat, "chat", "false", "or read one message a line from stdin and answer each"),
    OPT_BOOL(O, raw, "raw", "false", "continue the prompt itself, without the chat template"),
    OPT_STR(O, system, "system", NULL, "TEXT", "system message before the conversation"),
    RT_CHAT_OPTION(O, set),
    RT_SAMPLING_OPTIONS(O, sampling, "0.6", "0.95", "1024"),
    OPT_INT(O, context, "context", "8192", 2, 1e7, "tokens of prompt and answer together"),
    OPT_SEED(O, seed, "of the choice; an archive keeps each sample's"),
    OPT_DEVICE(O, device),
    OPT_BOOL(O, json, "json", "false", "one JSON object an answer instead of the text",
             RT_OPT_FREE),
};
#undef O

enum { WINDOW = 8 }; /* tokens decoded before a new one, so that joints come out as in one piece */

typedef struct speaker {
    const generate_options *o;
    rt_teacher teacher;
    rt_generator *generator;
    rt_ids ids; /* prompt, then what has come */
    int64_t n_prompt, length, turn;
    bool asked;
    rt_finish finish;
    rt_text before, after; /* a new token's neighbourhood, without it and with it */
    rt_text text;          /* of the response so far */
    int64_t shown;         /* bytes of it */
    rt_stops stops;
    rt_response response;
    double begun;
} speaker;

/* ---- generation's callbacks ---------------------------------------------------------------------
 */

static int next_request(void *ctx, rt_request *r, rt_err *err)
{
    speaker *s = ctx;
    (void)err;
    if (s->asked)
        return 0;
    s->asked = true;
    *r = (rt_request){ .id = 0,
                       .prompt = s->ids.id,
                       .n_prompt = s->n_prompt,
                       .max_new = rt_min(s->o->sampling.max_tokens, s->length - s->n_prompt),
                       .seed = s->o->seed + (uint64_t)s->turn };
    return 1;
}

/* Text up to `end` that is not shown yet. */
static void show_until(speaker *s, int64_t end)
{
    if (!s->o->json && end > s->shown) {
        fwrite(s->text.data + s->shown, 1, (size_t)(end - s->shown), stdout);
        fflush(stdout);
    }
    s->shown = rt_max(s->shown, end);
}

/* The bytes a new token adds: what its neighbourhood decodes to with it, less without it. What may
   become a stop text is held back, and not shown when it has. */
static int show_token(void *ctx, int64_t id, int32_t token, const rt_soft *soft, rt_err *err)
{
    speaker *s = ctx;
    const rt_tokenizer *t = s->teacher.chat.tokenizer;
    int64_t from = rt_max(s->n_prompt, s->ids.n - WINDOW), n = s->ids.n - from;
    (void)id, (void)soft;
    rt_text_clear(&s->before);
    rt_text_clear(&s->after);
    if (rt_ids_add(&s->ids, token, err) ||
        rt_tokenizer_decode(t, s->ids.id + from, n, RT_DETOKENIZE_SKIP_SPECIAL, &s->before, err) ||
        rt_tokenizer_decode(t, s->ids.id + from, n + 1, RT_DETOKENIZE_SKIP_SPECIAL, &s->after, err))
        return -1;
    int64_t more = s->after.bytes - s->before.bytes;
    if (more > 0 && rt_text_add(&s->text, s->after.data + s->before.bytes, more, err))
        return -1;
    int64_t stop = rt_stops_find(&s->stops, s->text.data, s->text.bytes);
    show_until(s, stop >= 0
                      ? stop
                      : s->text.bytes - rt_stops_pending(&s->stops, s->text.data, s->text.bytes));
    return 0;
}

static int stop(void *ctx, int64_t id, const int32_t *token, int64_t n_prompt, int64_t n,
                rt_err *err)
{
    speaker *s = ctx;
    (void)id;
    return rt_stops_reached(&s->stops, token, n_prompt, n, err);
}

static int take_completion(void *ctx, const rt_completion *c, rt_err *err)
{
    speaker *s = ctx;
    (void)err;
    s->finish = c->finish;
    if (c->finish != RT_FINISH_STOP_STRING)
        show_until(s, s->text.bytes);
    return 0;
}

/* ---- one answer ---------------------------------------------------------------------------------
 */

static void print_json(const speaker *s, double seconds)
{
    cJSON *json = rt_json_object();
    rt_json_put_str(json, "reasoning", s->response.reasoning.data);
    rt_json_put_str(json, "answer", s->response.answer.data);
    rt_json_put_str(json, "finish", rt_finish_name(s->finish));
    rt_json_put_i64(json, "prompt_tokens", s->n_prompt);
    rt_json_put_i64(json, "tokens", s->ids.n - s->n_prompt);
    rt_json_put_num(json, "seconds", seconds);
    rt_json_print(json);
    cJSON_Delete(json);
    fflush(stdout);
}

/* The answer's line ends before anything else is said, on a note or an error too. */
static void end_line(const speaker *s)
{
    if (s->o->json)
        return;
    putchar('\n');
    fflush(stdout);
}

/* Continue s->ids. */
static int answer(speaker *s, rt_err *err)
{
    rt_generate_io io = {
        .ctx = s, .next = next_request, .done = take_completion, .token = show_token, .stop = stop
    };
    static const char *const ended[RT_FINISH_COUNT] = { "", ", cut at --max-tokens or --context",
                                                        "", ", cut because it repeats itself" };
    char rate[32];
    s->n_prompt = s->ids.n;
    s->asked = false;
    s->shown = 0;
    rt_text_clear(&s->text);
    if (s->n_prompt < 1)
        return rt_usage(err, "the prompt has no tokens: give some text");
    if (s->n_prompt >= s->length)
        return rt_fail(err, "the prompt has %lld tokens, the context %lld: shorten it%s",
                       (long long)s->n_prompt, (long long)s->length,
                       s->length < s->teacher.positions ? " or raise --context" : "");
    double begun = rt_now();
    int bad = rt_generator_run(s->generator, &io, err);
    if (!bad || s->ids.n > s->n_prompt)
        end_line(s);
    if (bad || rt_chat_split(&s->teacher.chat, s->ids.id, s->n_prompt, s->ids.n, &s->stops,
                             &s->response, err))
        return -1;
    double seconds = rt_now() - begun;
    s->turn++;
    if (s->o->json)
        print_json(s, seconds);
    rt_info("%lld tokens, %s tok/s%s", (long long)(s->ids.n - s->n_prompt),
            rt_fmt_count(rate, sizeof rate,
                         (double)(s->ids.n - s->n_prompt) / (seconds > 1e-3 ? seconds : 1e-3)),
            ended[s->finish]);
    return 0;
}

static void add_message(cJSON *talk, const char *role, const char *content, const char *reasoning)
{
    cJSON *m = rt_json_object();
    rt_json_put_str(m, "role", role);
    rt_json_put_str(m, "content", content);
    if (reasoning && *reasoning)
        rt_json_put_str(m, "reasoning_content", reasoning);
    rt_json_put(cJSON_GetObjectItemCaseSensitive(talk, "messages"), NULL, m);
}

static cJSON *begin_talk(const generate_options *o)
{
    cJSON *talk = rt_json_object();
    rt_json_put(talk, "messages", rt_json_array());
    if (o->system)
        add_message(talk, "system", o->system, NULL);
    return talk;
}

static int answer_talk(speaker *s, const cJSON *talk, rt_err *err)
{
    rt_ids_clear(&s->ids);
    return rt_chat_prompt(&s->teacher.chat, talk, &s->ids, err) || answer(s, err) ? -1 : 0;
}

static int answer_prompt(speaker *s, rt_err *err)
{
    const generate_options *o = s->o;
    if (o->raw)
        return rt_tokenizer_encode(s->teacher.chat.tokenizer, o->prompt, (int64_t)strlen(o->prompt),
                                   RT_TOKENIZE_BOS, &s->ids, err) ||
                       answer(s, err)
                   ? -1
                   : 0;
    cJSON *talk = begin_talk(o);
    add_message(talk, "user", o->prompt, NULL);
    int bad = answer_talk(s, talk, err);
    cJSON_Delete(talk);
    return bad;
}

static int converse(speaker *s, rt_err *err)
{
    cJSON *talk = begin_talk(s->o);
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    int bad = 0;
    bool person = isatty(STDIN_FILENO);
    while (!bad && !rt_interrupted()) {
        if (person)
            fputs("> ", stderr);
        if ((n = getline(&line, &cap, stdin)) < 0)
            break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            line[--n] = 0;
        if (n == 0)
            continue;
        add_message(talk, "user", line, NULL);
        bad = answer_talk(s, talk, err);
        if (!bad)
            add_message(talk, "assistant", s->response.answer.data, s->response.reasoning.data);
    }
    free(line);
    cJSON_Delete(talk);
    return bad;
}

/* ---- the command --------------------------------------------------------------------------------
 */

static int open_speaker(speaker *s, rt_err *err)
{
    const generate_options *o = s->o;
    if (o->chat == (o->prompt != NULL))
        return rt_usage(err, "give either --prompt TEXT or --chat");
    if (o->raw && (o->chat || o->system))
        return rt_usage(err, "--raw continues one --prompt: no --chat, no --system");
    if (rt_sampling_check(&o->sampling, err) ||
        rt_teacher_open(&s->teacher, o->model, &o->device, NULL, err) ||
        rt_chat_set(&s->teacher.chat, &o->set, err) ||
        rt_stops_open(&s->stops, s->teacher.chat.tokenizer, &o->sampling.stop, err))
        return -1;
    s->length = rt_config_longest(&s->teacher.model.cfg, o->context);
    rt_generate_options g = { .slots = 1,
                              .length = s->length,
                              .prefill_rows = rt_min(512, s->length),
                              .vocab = s->teacher.vocab,
                              .repetition = o->sampling.repetition,
                              .sampling = rt_sampling_of(&o->sampling) };
    rt_teacher_plan(&s->teacher, s->length, false);
    s->generator = rt_generator_open(s->teacher.dev, &s->teacher.model, &g);
    return rt_teacher_read(&s->teacher, err);
}

static int run_generate(void *values, rt_err *err)
{
    speaker s = { .o = values };
    int bad = open_speaker(&s, err) || (s.o->chat ? converse(&s, err) : answer_prompt(&s, err));
    rt_generator_close(s.generator);
    rt_ids_free(&s.ids);
    rt_text_free(&s.before);
    rt_text_free(&s.after);
    rt_text_free(&s.text);
    rt_stops_free(&s.stops);
    rt_response_free(&s.response);
    rt_teacher_close(&s.teacher);
    return bad ? -1 : 0;
}

const rt_command rt_command_generate = {
    .name = "generate",
    .help = "an answer or a conversation, shown as it comes",
    .group = "a student",
    .options = options,
    .n_options = RT_COUNT(options),
    .struct_bytes = sizeof(generate_options),
    .run = run_generate,
    .example = "retort generate --model student.gguf --chat",
};
