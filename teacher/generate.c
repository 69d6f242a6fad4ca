/* generate.c: the command `retort generate`: one answer, or a conversation, shown as it comes, in
   whole characters. Into a file or a pipe goes the text as it is; on a terminal a thought is dim
   and control characters are not obeyed. In a conversation Ctrl-C stops an answer, and what the
   cache holds stays between turns: only tokens that are new are computed. Refuses: tools, and
   keeping a conversation on disk. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/option.h"
#include "core/base/process.h"
#include "core/network/generate.h"
#include "corpora/reply.h"
#include "teacher/teacher.h"

typedef struct generate_options {
    char *model, *prompt, *system;
    rt_strlist set;
    bool chat, raw, hide_reasoning, json;
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
    OPT_BOOL(O, hide_reasoning, "hide-reasoning", "false",
             "show the answer alone, without what the model thinks before it"),
    OPT_STR(O, system, "system", NULL, "TEXT", "system message before the conversation"),
    RT_CHAT_OPTION(O, set),
    RT_SAMPLING_OPTIONS(O, sampling, "0.6", "0.95", "1024"),
    OPT_INT(O, context, "context", "8192", 2, 1e7, "tokens of prompt and answer together"),
    OPT_SEED(O, seed, "of the choice; an archive keeps each sample's"),
    OPT_DEVICE_FORWARD(O, device),
    OPT_BOOL(O, json, "json", "false", "one JSON object an answer instead of the text",
             RT_OPT_FREE),
};
#undef O

typedef struct speaker {
    const generate_options *o;
    rt_teacher teacher;
    rt_generator *generator;
    rt_ids ids; /* prompt, then what has come */
    int64_t n_prompt, length, turn;
    bool asked;
    bool person, screen; /* a conversation's stdin, and stdout, are terminals */
    rt_finish finish;
    rt_stops stops;
    rt_reply reply;
    rt_response response;
    bool thought; /* what was shown last is part of the thought */
    char *line;
    size_t line_cap;
} speaker;

/* ---- showing ------------------------------------------------------------------------------------
 */

static void show(const speaker *s, rt_str text)
{
    for (int64_t i = 0; i < text.bytes;) {
        uint32_t cp = 0;
        int n = rt_utf8_decode(text.data + i, text.bytes - i, &cp);
        bool odd = s->screen && (n == 0 || (rt_utf8_is_control(cp) && cp != '\n' && cp != '\t'));
        n = n ? n : 1;
        fwrite(odd ? "\xef\xbf\xbd" : text.data + i, 1, odd ? 3 : (size_t)n, stdout);
        i += n;
    }
}

/* What is certain by now and was not shown. */
static void show_news(speaker *s)
{
    const char *color = s->screen && !getenv("NO_COLOR") ? "\033[2m" : "";
    rt_str thought = rt_reply_take(&s->reply, RT_REPLY_REASONING);
    rt_str answer = rt_reply_take(&s->reply, RT_REPLY_ANSWER);
    if (s->o->json)
        return;
    if (thought.bytes && !s->o->hide_reasoning) {
        fputs(color, stdout);
        show(s, thought);
        fputs(*color ? "\033[0m" : "", stdout);
        s->thought = true;
    }
    if (answer.bytes) {
        fputs(s->thought ? "\n\n" : "", stdout);
        show(s, answer);
        s->thought = false;
    }
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

static int show_token(void *ctx, int64_t id, int32_t token, const rt_soft *soft, rt_err *err)
{
    speaker *s = ctx;
    (void)id, (void)soft;
    if (rt_ids_add(&s->ids, token, err) || rt_reply_add(&s->reply, token, err))
        return -1;
    show_news(s);
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
    return 0;
}

static bool is_stopped(void *ctx, int64_t id)
{
    (void)ctx, (void)id;
    return rt_interrupted();
}

/* ---- one answer ---------------------------------------------------------------------------------
 */

/* For people: how many tokens, how fast, of a conversation how many of the prompt were not in the
   cache; and why the answer ended, where not by itself. */
static void note_end(const speaker *s, int64_t read, double seconds, bool stopped)
{
    static const char *const ended[RT_FINISH_COUNT] = { "", ", cut at --max-tokens or --context",
                                                        "", ", cut because it repeats itself" };
    char rate[32], reading[64] = "";
    int64_t n = s->ids.n - s->n_prompt;
    if (s->o->chat)
        snprintf(reading, sizeof reading, ", %lld of %lld tokens read", (long long)read,
                 (long long)s->n_prompt);
    rt_info("%lld tokens, %s tok/s%s%s", (long long)n,
            rt_fmt_count(rate, sizeof rate, (double)n / (seconds > 1e-3 ? seconds : 1e-3)), reading,
            stopped ? ", stopped" : ended[s->finish]);
}

/* Continue s->ids. */
static int answer(speaker *s, rt_err *err)
{
    rt_generate_io io = { .ctx = s,
                          .next = next_request,
                          .done = take_completion,
                          .token = show_token,
                          .stop = stop,
                          .gone = is_stopped };
    const int64_t fed = rt_generator_counts(s->generator)->fed;
    s->n_prompt = s->ids.n;
    s->asked = s->thought = false;
    if (s->n_prompt < 1)
        return rt_usage(err, "the prompt has no tokens: give some text");
    if (s->n_prompt >= s->length)
        return rt_fail(err, "the %s has %lld tokens, the context %lld: %s%s",
                       s->turn ? "conversation" : "prompt", (long long)s->n_prompt,
                       (long long)s->length,
                       !s->turn    ? "shorten it"
                       : s->person ? "/new begins another"
                                   : "begin another",
                       s->length < s->teacher.positions ? " or raise --context" : "");
    rt_reply_begin(&s->reply, &s->teacher.chat, &s->stops, s->ids.id, s->n_prompt,
                   s->o->raw || !(s->screen || s->o->hide_reasoning));
    double begun = rt_now();
    int bad = rt_generator_run(s->generator, &io, err);
    bool stopped = !bad && rt_interrupted() && (!s->person || rt_interrupt_take());
    if (!bad) {
        rt_reply_end(&s->reply);
        show_news(s);
    }
    if (!bad || s->ids.n > s->n_prompt)
        end_line(s);
    if (bad || (stopped && !s->person && rt_fail_interrupted(err, "answering", "a prompt")) ||
        rt_chat_split(&s->teacher.chat, s->ids.id, s->n_prompt, s->ids.n, &s->stops, &s->response,
                      err))
        return -1;
    double seconds = rt_now() - begun;
    s->turn++;
    if (s->o->json)
        print_json(s, seconds);
    note_end(s, rt_generator_counts(s->generator)->fed - fed, seconds, stopped);
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

static void drop_last(cJSON *talk)
{
    cJSON *list = cJSON_GetObjectItemCaseSensitive(talk, "messages");
    cJSON_DeleteItemFromArray(list, cJSON_GetArraySize(list) - 1);
}

/* What a person pastes is one message, however many lines: they are all there at once. */
static bool is_pasted(const speaker *s)
{
    struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
    return s->person && poll(&p, 1, 20) > 0;
}

/* Until something was typed. A Ctrl-C that comes between the prompt and the reading would wait there for a
   line: it is looked for, too. */
static void wait_typed(const speaker *s)
{
    struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
    while (s->person && poll(&p, 1, 100) <= 0)
        if (rt_interrupt_take())
            fputs("\n(Ctrl-D ends)\n> ", stderr);
}

/* The next line without its end: 1, 0 at the end of input, -1. At a terminal Ctrl-C only takes back
   what was typed. */
static int read_line(speaker *s, rt_text *message, rt_err *err)
{
    ssize_t n;
    wait_typed(s);
    while ((n = getline(&s->line, &s->line_cap, stdin)) < 0) {
        if (!s->person || errno != EINTR || !rt_interrupt_take())
            return 0;
        fputs("\n(Ctrl-D ends)\n> ", stderr);
        clearerr(stdin);
    }
    while (n > 0 && (s->line[n - 1] == '\n' || s->line[n - 1] == '\r'))
        n--;
    return rt_text_add(message, s->line, n, err) ? -1 : 1;
}

/* What is said next: 1, 0 at the end of input, -1. Empty lines say nothing. */
static int read_message(speaker *s, rt_text *message, rt_err *err)
{
    int more = 1;
    rt_text_clear(message);
    while (more > 0 && message->bytes == 0) {
        if (s->person)
            fputs("> ", stderr);
        more = read_line(s, message, err);
        while (more > 0 && is_pasted(s))
            more = rt_text_puts(message, "\n", err) ? -1 : read_line(s, message, err);
        while (message->bytes > 0 && message->data[message->bytes - 1] == '\n')
            message->data[--message->bytes] = 0;
    }
    return more < 0 ? -1 : message->bytes > 0;
}

/* One turn. What a person asked that has no room is taken back: the conversation is as it was. */
static int take_turn(speaker *s, cJSON *talk, const char *line, rt_err *err)
{
    add_message(talk, "user", line, NULL);
    if (answer_talk(s, talk, err) == 0) {
        add_message(talk, "assistant", s->response.answer.data, s->response.reasoning.data);
        return 0;
    }
    if (!s->person || s->n_prompt < s->length)
        return -1;
    rt_info("%s", err->text);
    drop_last(talk);
    return 0;
}

static int converse(speaker *s, rt_err *err)
{
    cJSON *talk = begin_talk(s->o);
    rt_text message = { 0 };
    int bad = 0, more;
    if (s->person) {
        rt_process_converse();
        rt_info("Ctrl-C stops an answer, Ctrl-D ends, /new begins another conversation");
    }
    while (!bad && (more = read_message(s, &message, err)) != 0) {
        if (more < 0 || !s->person || strcmp(message.data, "/new")) {
            bad = more < 0 || take_turn(s, talk, message.data, err);
            continue;
        }
        cJSON_Delete(talk);
        talk = begin_talk(s->o);
    }
    rt_text_free(&message);
    cJSON_Delete(talk);
    return bad || (rt_interrupted() && rt_fail_interrupted(err, "reading", "stdin")) ? -1 : 0;
}

/* ---- the command --------------------------------------------------------------------------------
 */

static int open_speaker(speaker *s, rt_err *err)
{
    const generate_options *o = s->o;
    if (o->chat == (o->prompt != NULL))
        return rt_usage(err, "give either --prompt TEXT or --chat");
    s->person = o->chat && isatty(STDIN_FILENO);
    s->screen = isatty(STDOUT_FILENO);
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
    rt_reply_free(&s.reply);
    free(s.line);
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
