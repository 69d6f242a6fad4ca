/* test_serve.c: retort serve as its clients meet it, over sockets: what is answered, that the same
   seed gives the same text whoever else is there, refusals in OpenAI's shape, and clients that are
   hostile, slow, gone or too many. Runs the program, on the example's teacher. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "teacher/server/query.h"
#include "tests/suite.h"

#define TEACHER RT_SOURCE_DIR "/examples/reasoning/teacher"
#define QUESTION "Jon has 83 cards. Kim has 44 fewer. How many together?"

static rt_err err;

typedef struct server {
    pid_t pid;
    int port, out;
} server;

/* ---- a server and a client ----------------------------------------------------------------------
 */

/* words: more of its command line, at most 16; its notes go to the file "notes". */
static server start_server(const char *words)
{
    server s = { 0 };
    char text[512], line[128],
        *argv[32] = {
            RT_BINARY_DIR "/retort", "serve", "--model", TEACHER, "--port", "0", "--threads", "2"
        };
    int out[2], n = 8;
    snprintf(text, sizeof text, "%s", words);
    for (char *save = NULL, *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[n++] = w;
    ck_assert_int_eq(pipe(out), 0);
    s.pid = fork();
    if (s.pid == 0) {
        int notes = open("notes", O_CREAT | O_WRONLY | O_APPEND, 0600);
        dup2(out[1], 1);
        dup2(notes, 2);
        close(out[0]);
        execv(argv[0], argv);
        _exit(127);
    }
    close(out[1]);
    size_t got = 0;
    for (ssize_t k; got + 1 < sizeof line && (k = read(out[0], line + got, 1)) > 0;)
        if (line[got++] == '\n')
            break;
    line[got] = 0;
    ck_assert_msg(sscanf(line, "http://%*[0-9.]:%d", &s.port) == 1, "it said \"%s\"", line);
    s.out = out[0];
    return s;
}

/* Its exit status after a signal; a child that does not end in `seconds` is killed. */
static int stop_server(server *s, int signal, double seconds)
{
    int status = 0;
    double until = rt_now() + seconds;
    if (signal)
        kill(s->pid, signal);
    pid_t ended;
    while ((ended = waitpid(s->pid, &status, WNOHANG)) == 0 && rt_now() < until)
        poll(NULL, 0, 5);
    if (ended == 0) {
        kill(s->pid, SIGKILL);
        waitpid(s->pid, &status, 0);
    }
    close(s->out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int connect_to(const server *s)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)s->port) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_msg(connect(fd, (struct sockaddr *)&a, sizeof a) == 0, "connect");
    return fd;
}

static bool send_all(int fd, const char *data, size_t n)
{
    while (n > 0) {
        ssize_t k = send(fd, data, n, MSG_NOSIGNAL);
        if (k <= 0)
            return false;
        data += k;
        n -= (size_t)k;
    }
    return true;
}

static void send_post(int fd, const char *path, const char *headers, const char *body)
{
    size_t n = strlen(body) + strlen(path) + strlen(headers) + 256;
    char *text = rt_alloc((int64_t)n, 1, "a request");
    int k = snprintf(text, n,
                     "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n"
                     "Connection: close\r\n%s\r\n%s",
                     path, strlen(body), headers, body);
    (void)send_all(fd, text, (size_t)k); /* it may have been refused before its end */
    free(text);
}

/* All that comes until the end of the connection or `seconds`; free it. */
static char *receive(int fd, double seconds)
{
    size_t n = 0, cap = 1 << 16;
    char *text = malloc(cap);
    double until = rt_now() + seconds;
    struct pollfd p = { .fd = fd, .events = POLLIN };
    while (rt_now() < until) {
        if (n + 4096 > cap)
            text = realloc(text, cap *= 2);
        int ready = poll(&p, 1, 50);
        ssize_t k = ready > 0 ? recv(fd, text + n, cap - n - 1, 0) : 0;
        if (ready > 0 && k <= 0)
            break;
        n += (size_t)k;
    }
    text[n] = 0;
    close(fd);
    return text;
}

typedef struct reply {
    char *text; /* all of it */
    int status;
    const char *body;
    cJSON *json; /* of the body, or NULL */
} reply;

static void drop(reply *r)
{
    cJSON_Delete(r->json);
    free(r->text);
}

static reply read_reply(int fd)
{
    rt_err e;
    reply r = { .text = receive(fd, 60) };
    if (sscanf(r.text, "HTTP/1.1 %d", &r.status) != 1)
        r.status = 0;
    const char *body = strstr(r.text, "\r\n\r\n");
    r.body = body ? body + 4 : "";
    if (rt_json_parse(&r.json, r.body, (int64_t)strlen(r.body), "reply", &e))
        r.json = NULL;
    return r;
}

static reply post_with(const server *s, const char *path, const char *headers, const char *body)
{
    int fd = connect_to(s);
    send_post(fd, path, headers, body);
    return read_reply(fd);
}

static reply post(const server *s, const char *path, const char *body)
{
    return post_with(s, path, "", body);
}

static reply get_with(const server *s, const char *path, const char *headers)
{
    char text[1024];
    int fd = connect_to(s);
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nConnection: close\r\n%s\r\n", path, headers);
    send_all(fd, text, strlen(text));
    return read_reply(fd);
}

/* "choices.0.message.content" */
static const cJSON *at(const cJSON *json, const char *path)
{
    char text[128];
    snprintf(text, sizeof text, "%s", path);
    for (char *save = NULL, *w = strtok_r(text, ".", &save); w && json;
         w = strtok_r(NULL, ".", &save))
        json = cJSON_IsArray(json) ? cJSON_GetArrayItem(json, atoi(w)) : rt_json_find(json, w);
    return json;
}

static const char *string_at(const cJSON *json, const char *path)
{
    const char *text = cJSON_GetStringValue(at(json, path));
    return text ? text : "(none)";
}

static double number_at(const cJSON *json, const char *path)
{
    const cJSON *v = at(json, path);
    return cJSON_IsNumber(v) ? v->valuedouble : -1;
}

#define CHAT "/v1/chat/completions"
#define TEXT "/v1/completions"
#define ASK "\"messages\":[{\"role\":\"user\",\"content\":\"" QUESTION "\"}]"

/* The running and waiting sequences, by /health. */
static int64_t load_of(const server *s)
{
    reply r = get_with(s, "/health", "");
    ck_assert_int_eq(r.status, 200);
    int64_t n = (int64_t)(number_at(r.json, "running") + number_at(r.json, "waiting"));
    drop(&r);
    return n;
}

static void wait_idle(const server *s)
{
    double until = rt_now() + 30;
    while (load_of(s) > 0 && rt_now() < until)
        poll(NULL, 0, 20);
    ck_assert_int_eq(load_of(s), 0);
}

static void end_well(server *s) { ck_assert_int_eq(stop_server(s, SIGTERM, 20), 0); }

/* ---- answers ------------------------------------------------------------------------------------
 */

START_TEST(conversation)
{
    server s = start_server("");
    reply r = post(&s, CHAT, "{" ASK ",\"temperature\":0,\"logprobs\":true,\"top_logprobs\":3}");
    ck_assert_msg(r.status == 200, "%s", r.text);
    ck_assert_str_eq(string_at(r.json, "object"), "chat.completion");
    ck_assert_str_eq(string_at(r.json, "model"), "teacher");
    ck_assert_str_eq(string_at(r.json, "choices.0.message.role"), "assistant");
    ck_assert_str_eq(string_at(r.json, "choices.0.message.content"), "\\boxed{122}");
    ck_assert_ptr_nonnull(strstr(string_at(r.json, "choices.0.message.reasoning_content"), "83"));
    ck_assert_str_eq(string_at(r.json, "choices.0.finish_reason"), "stop");
    ck_assert(number_at(r.json, "usage.prompt_tokens_details.cached_tokens") == 0);
    int n = cJSON_GetArraySize(at(r.json, "choices.0.logprobs.content"));
    ck_assert_int_eq(n, (int)number_at(r.json, "usage.completion_tokens"));
    ck_assert(number_at(r.json, "usage.total_tokens") ==
              number_at(r.json, "usage.prompt_tokens") + n);
    for (int i = 0; i < n; i++) { /* greedy: the taken one is the best, and the list descends */
        const cJSON *one = cJSON_GetArrayItem(at(r.json, "choices.0.logprobs.content"), i);
        ck_assert_int_eq(cJSON_GetArraySize(rt_json_find(one, "top_logprobs")), 3);
        ck_assert_str_eq(string_at(one, "token"), string_at(one, "top_logprobs.0.token"));
        ck_assert(number_at(one, "logprob") == number_at(one, "top_logprobs.0.logprob"));
        ck_assert(number_at(one, "top_logprobs.1.logprob") >=
                  number_at(one, "top_logprobs.2.logprob"));
    }
    drop(&r);
    /* the next turn: what was read and said is in the cache, a thought that the template drops not
     */
    r = post(&s, CHAT,
             "{\"messages\":[{\"role\":\"user\",\"content\":\"" QUESTION "\"},"
             "{\"role\":\"assistant\",\"content\":\"\\\\boxed{122}\"},"
             "{\"role\":\"user\",\"content\":\"Again.\"}],\"max_tokens\":2}");
    ck_assert_msg(number_at(r.json, "usage.prompt_tokens_details.cached_tokens") >= 19, "%s",
                  r.text);
    drop(&r);
    r = get_with(&s, "/v1/models", "");
    ck_assert_str_eq(string_at(r.json, "data.0.id"), "teacher");
    drop(&r);
    end_well(&s);
}
END_TEST

START_TEST(texts)
{
    server s = start_server("--name small");
    reply r = post(&s, TEXT,
                   "{\"model\":\"small\",\"prompt\":[\"Jon has\",\"Kim has 4\"],\"n\":2,"
                   "\"seed\":5,\"max_tokens\":6,\"logprobs\":2}");
    ck_assert_msg(r.status == 200, "%s", r.text);
    ck_assert_int_eq(cJSON_GetArraySize(at(r.json, "choices")), 4);
    ck_assert(number_at(r.json, "usage.completion_tokens") == 24);
    ck_assert_int_eq(cJSON_GetArraySize(at(r.json, "choices.3.logprobs.tokens")), 6);
    char third[256];
    snprintf(third, sizeof third, "%s", string_at(r.json, "choices.3.text"));
    drop(&r);
    /* a choice depends on its prompt, the seed and its number alone */
    r = post(&s, TEXT, "{\"prompt\":\"Kim has 4\",\"n\":2,\"seed\":5,\"max_tokens\":6}");
    ck_assert_str_eq(string_at(r.json, "choices.1.text"), third);
    drop(&r);
    r = post(&s, TEXT, "{\"prompt\":[5,6,7],\"seed\":5,\"max_tokens\":3}");
    ck_assert_msg(r.status == 200 && number_at(r.json, "usage.prompt_tokens") == 3, "%s", r.text);
    drop(&r);
    r = post(&s, TEXT,
             "{\"prompt\":\"Jon has 83 cards.\",\"temperature\":0,\"stop\":[\"8\",\"q\"]}");
    ck_assert_msg(r.status == 200 && !strchr(string_at(r.json, "choices.0.text"), '8'), "%s",
                  r.text);
    ck_assert_str_eq(string_at(r.json, "choices.0.finish_reason"), "stop");
    drop(&r);
    end_well(&s);
}
END_TEST

/* The values of `key` ("content") of all events' deltas, joined. */
static void join_events(const char *body, const char *key, char *out, size_t size, int *events)
{
    size_t n = 0;
    *events = 0;
    out[0] = 0;
    for (const char *line = body; (line = strstr(line, "data: {"));) {
        const char *end = strchr(line, '\n');
        cJSON *json;
        OK(rt_json_parse(&json, line + 6, end - line - 6, "event", &err));
        char path[64];
        snprintf(path, sizeof path, "choices.0.delta.%s", key);
        const char *text = cJSON_GetStringValue(at(json, path));
        if (text)
            n += (size_t)snprintf(out + n, size - n, "%s", text);
        ck_assert(n < size);
        cJSON_Delete(json);
        line = end;
        ++*events;
    }
}

/* What is streamed is what comes in one piece. */
START_TEST(stream)
{
    server s = start_server("");
    char content[2048], thought[2048];
    int events;
    for (int seed = 0; seed < 2; seed++) {
        char body[512];
        snprintf(body, sizeof body, "{" ASK ",\"seed\":%d,\"max_tokens\":160}", seed);
        reply whole = post(&s, CHAT, body);
        ck_assert_msg(whole.status == 200, "%s", whole.text);
        snprintf(body, sizeof body,
                 "{" ASK ",\"seed\":%d,\"max_tokens\":160,\"stream\":true,"
                 "\"stream_options\":{\"include_usage\":true}}",
                 seed);
        reply r = post(&s, CHAT, body);
        ck_assert_msg(strstr(r.text, "text/event-stream") && strstr(r.text, "data: [DONE]"), "%s",
                      r.text);
        join_events(r.body, "content", content, sizeof content, &events);
        join_events(r.body, "reasoning_content", thought, sizeof thought, &events);
        ck_assert_str_eq(content, string_at(whole.json, "choices.0.message.content"));
        ck_assert_str_eq(thought, string_at(whole.json, "choices.0.message.reasoning_content"));
        ck_assert_ptr_nonnull(strstr(r.body, "\"usage\":{\"prompt_tokens\""));
        drop(&whole);
        drop(&r);
    }
    end_well(&s);
}
END_TEST

/* ---- together -----------------------------------------------------------------------------------
 */

enum { CLIENTS = 64, SEEDS = 8 };

typedef struct client {
    const server *s;
    int number, status;
    char text[2048];
} client;

static void ask_seed(client *c, int seed)
{
    char body[512];
    snprintf(body, sizeof body, "{" ASK ",\"seed\":%d,\"temperature\":1.5,\"max_tokens\":%d%s}",
             seed, 8 + 2 * seed, c->number % 3 ? "" : ",\"logprobs\":true");
    reply r = post(c->s, CHAT, body);
    c->status = r.status;
    snprintf(c->text, sizeof c->text, "%s|%s",
             string_at(r.json, "choices.0.message.reasoning_content"),
             string_at(r.json, "choices.0.message.content"));
    drop(&r);
}

static void *run_client(void *ctx)
{
    client *c = ctx;
    ask_seed(c, c->number % SEEDS);
    return NULL;
}

/* 64 at once: each gets what its seed gives to one who is alone, to the byte; some seeds differ. */
START_TEST(many)
{
    static client alone[SEEDS], all[CLIENTS];
    pthread_t thread[CLIENTS];
    server s = start_server("--batch 7 --queue 64 --cache-tokens 1500");
    for (int i = 0; i < SEEDS; i++) {
        alone[i] = (client){ .s = &s, .number = 1 };
        ask_seed(&alone[i], i);
        ck_assert_int_eq(alone[i].status, 200);
    }
    ck_assert(strcmp(alone[1].text, alone[2].text) && strcmp(alone[2].text, alone[3].text));
    for (int i = 0; i < CLIENTS; i++) {
        all[i] = (client){ .s = &s, .number = i };
        ck_assert_int_eq(pthread_create(&thread[i], NULL, run_client, &all[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < CLIENTS; i++) {
        ck_assert_int_eq(all[i].status, 200);
        ck_assert_str_eq(all[i].text, alone[i % SEEDS].text);
    }
    wait_idle(&s);
    end_well(&s);
}
END_TEST

/* Beyond the queue: 429 and when to come again; the others are answered. */
START_TEST(full)
{
    static client all[CLIENTS];
    pthread_t thread[CLIENTS];
    int ok = 0, refused = 0;
    server s = start_server("--batch 2 --queue 3");
    for (int i = 0; i < CLIENTS; i++) {
        all[i] = (client){ .s = &s, .number = i };
        ck_assert_int_eq(pthread_create(&thread[i], NULL, run_client, &all[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(thread[i], NULL);
        ok += all[i].status == 200;
        refused += all[i].status == 429;
    }
    ck_assert_msg(ok >= 5 && refused > 0 && ok + refused == CLIENTS, "%d answered, %d refused", ok,
                  refused);
    reply r = post(&s, CHAT, "{" ASK ",\"n\":6}");
    ck_assert_msg(r.status == 400 && strstr(r.body, "from 1 to 5"), "%s", r.text);
    drop(&r);
    end_well(&s);
}
END_TEST

/* ---- refusals -----------------------------------------------------------------------------------
 */

START_TEST(refusals)
{
    static const struct {
        const char *path, *body;
        int status;
        const char *part;
    } rows[] = {
        { CHAT, "", 400, "" },
        { CHAT, "{", 400, "malformed JSON" },
        { CHAT, "[]", 400, "not a JSON object" },
        { CHAT, "\"a\"", 400, "not a JSON object" },
        { CHAT, "{}", 400, "\\\"messages\\\" must be" },
        { CHAT, "{\"messages\":[]}", 400, "\\\"messages\\\" must be" },
        { CHAT, "{\"messages\":[5]}", 400, "role" },
        { CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":5}]}", 400, "content" },
        { CHAT, "{\"messages\":[{\"role\":\"robot\",\"content\":\"a\"}]}", 400, "role" },
        { CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}", 400,
          "unsupported_value" },
        { CHAT, "{\"mesages\":[]}", 400, "did you mean \\\"messages\\\"" },
        { CHAT, "{\"prompt\":\"a\"}", 400, "unknown key" },
        { CHAT, "{" ASK "," ASK "}", 400, "occurs twice" },
        { CHAT, "{" ASK ",\"model\":\"gpt\"}", 404, "model_not_found" },
        { CHAT, "{" ASK ",\"temperature\":-1}", 400, "temperature" },
        { CHAT, "{" ASK ",\"temperature\":1e999}", 400, "too large" },
        { CHAT, "{" ASK ",\"top_p\":\"a\"}", 400, "top_p" },
        { CHAT, "{" ASK ",\"max_tokens\":0}", 400, "max_tokens" },
        { CHAT, "{" ASK ",\"max_tokens\":1e30}", 400, "max_tokens" },
        { CHAT, "{" ASK ",\"n\":0}", 400, "\\\"n\\\"" },
        { CHAT, "{" ASK ",\"n\":100000}", 400, "\\\"n\\\"" },
        { CHAT, "{" ASK ",\"stop\":[1]}", 400, "stop" },
        { CHAT, "{" ASK ",\"stop\":\"\"}", 400, "stop" },
        { CHAT, "{" ASK ",\"top_logprobs\":3}", 400, "needs" },
        { CHAT, "{" ASK ",\"logprobs\":true,\"top_logprobs\":21}", 400, "top_logprobs" },
        { CHAT, "{" ASK ",\"tools\":[{}]}", 400, "tools" },
        { CHAT, "{" ASK ",\"presence_penalty\":0.5}", 400, "presence_penalty" },
        { CHAT, "{" ASK ",\"chat_template_kwargs\":{\"messages\":5},\"max_tokens\":1}", 200, "" },
        { CHAT, "{" ASK ",\"presence_penalty\":0,\"tools\":[],\"user\":\"u\",\"max_tokens\":1}",
          200, "" },
        { TEXT, "{\"prompt\":5}", 400, "prompt" },
        { TEXT, "{\"prompt\":[]}", 400, "no tokens" },
        { TEXT, "{\"prompt\":\"\"}", 400, "no tokens" },
        { TEXT, "{\"prompt\":[-1]}", 400, "ids below" },
        { TEXT, "{\"prompt\":[1,2.5]}", 400, "ids below" },
        { TEXT, "{\"prompt\":[1e18]}", 400, "ids below" },
        { TEXT, "{\"prompt\":[[1],\"a\",{}]}", 400, "must be a string" },
        { TEXT, "{\"prompt\":\"a\",\"echo\":true}", 400, "echo" },
        { TEXT, "{\"prompt\":\"a\\u0000b\"}", 400, "u0000" },
        { TEXT, "{\"prompt\":\"\xff\xfe\"}", 400, "not UTF-8" },
        { TEXT, "{\"prompt\":\"\\ud800\"}", 400, "malformed" },
        { "/v1/embeddings", "{}", 404, "unknown_url" },
        { "/v1/models", "{}", 405, "takes GET" },
    };
    server s = start_server("");
    for (int i = 0; i < RT_COUNT(rows); i++) {
        reply r = post(&s, rows[i].path, rows[i].body);
        ck_assert_msg(r.status == rows[i].status && strstr(r.body, rows[i].part), "%s %s: %s",
                      rows[i].path, rows[i].body, r.text);
        ck_assert_msg(r.status == 200 || at(r.json, "error.message"), "%s", r.text);
        drop(&r);
    }
    reply r = get_with(&s, CHAT, "");
    ck_assert_msg(r.status == 405 && strstr(r.text, "Allow: POST"), "%s", r.text);
    drop(&r);
    wait_idle(&s);
    end_well(&s);
}
END_TEST

/* Bodies that were good once: read or refused, in words, and nothing else happens. */
START_TEST(mutations)
{
    enum { ROUNDS = 4000 };
    static const char *const bodies[] = {
        "{" ASK ",\"stop\":[\"a\",\"b\"],\"n\":2,\"seed\":7,\"logprobs\":true,\"top_logprobs\":2}",
        "{\"messages\":[{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"x\"}]},{"
        "\"role\":"
        "\"user\",\"content\":\"\\u00e9 "
        "<|end|>\"}],\"chat_template_kwargs\":{\"a\":[1,{\"b\":null}]}}",
        "{\"prompt\":[[1,2],\"ab\",[3]],\"max_tokens\":3,\"stream\":true,\"stream_options\":{"
        "\"include_"
        "usage\":true},\"temperature\":0.5,\"top_p\":1e-1,\"logit_bias\":{}}",
    };
    rt_chat chat;
    rt_queue *queue = rt_queue_open(2, 2, 0);
    rt_sampling_options defaults = { .temperature = 1, .top_p = 1, .max_tokens = 100 };
    int good = 0;
    OK(rt_chat_open(&chat, TEACHER, &err));
    rt_served served = { .chat = &chat,
                         .name = "teacher",
                         .length = 64,
                         .most = 8,
                         .vocab = rt_tokenizer_vocab(chat.tokenizer),
                         .defaults = &defaults };
    for (uint64_t i = 0; i < ROUNDS; i++) {
        char body[600];
        rt_query q;
        rt_refusal r;
        int n = snprintf(body, sizeof body, "%s", bodies[i % RT_COUNT(bodies)]);
        for (uint64_t k = 0; k < i % 4; k++) {
            uint32_t at = rt_rng_below(i, RT_RNG_DATA, 4 * k, (uint32_t)n);
            uint32_t from = rt_rng_below(i, RT_RNG_DATA, 4 * k + 1, (uint32_t)n);
            if (rt_rng_below(i, RT_RNG_DATA, 4 * k + 2, 8) == 0)
                body[at] = (char)rt_rng_u32(i, RT_RNG_DATA, 4 * k + 3);
            else /* a piece of it elsewhere, which is often JSON still */
                memmove(body + at, body + from, (size_t)(rt_min(12, n - rt_max(at, from))));
        }
        char *exact = rt_alloc(n, 1, "a body"); /* sanitizers see its end */
        memcpy(exact, body, (size_t)n);
        int bad = rt_query_read(&q, &served, i % 3 < 2, exact, n, &r);
        good += !bad;
        ck_assert(bad ? r.status >= 400 && r.err.text[0] : q.ticket->n > 0);
        rt_queue_leave(queue, q.ticket);
        free(exact);
    }
    ck_assert_msg(good > ROUNDS / 10 && good < ROUNDS * 9 / 10, "%d of %d read", good, ROUNDS);
    rt_queue_close(queue);
    rt_chat_close(&chat);
}
END_TEST

/* Bodies of the largest sizes and the deepest nesting. */
START_TEST(large)
{
    enum { BIG = 3 << 20 };
    server s = start_server("");
    char *body = rt_alloc(BIG + 64, 1, "a body");
    memset(body, '[', BIG);
    reply r = post(&s, CHAT, body); /* its length says that it is too large */
    ck_assert_msg(r.status == 413 || r.status == 0, "%.300s", r.text);
    drop(&r);
    body[1 << 20] = 0;
    r = post(&s, CHAT, body);
    ck_assert_msg(r.status == 400 && strstr(r.body, "nested"), "%.300s", r.text);
    drop(&r);
    int n = snprintf(body, BIG, "{\"prompt\":\"");
    memset(body + n, 'a', 1 << 20);
    snprintf(body + n + (1 << 20), 8, "\"}");
    r = post(&s, TEXT, body);
    ck_assert_msg(r.status == 400 && strstr(r.body, "context_length_exceeded"), "%.300s", r.text);
    drop(&r);
    memset(body, 'x', BIG); /* no length, and no end */
    int fd = connect_to(&s);
    static const char head[] = "POST " TEXT " HTTP/1.1\r\nHost: localhost\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";
    bool open = send_all(fd, head, sizeof head - 1);
    for (int i = 0; open && i < 64; i++)
        open = send_all(fd, "100000\r\n", 8) && send_all(fd, body, 1 << 20) &&
               send_all(fd, "\r\n", 2);
    ck_assert(!open);
    close(fd);
    memset(body, 'h', 1 << 17); /* a header */
    memcpy(body, "X: ", 3);
    strcpy(body + (1 << 17), "\r\n");
    r = post_with(&s, TEXT, body, "{}");
    ck_assert_msg(r.status == 431 || r.status == 400 || r.status == 413 || r.status == 0, "%.300s",
                  r.text);
    drop(&r);
    free(body);
    ck_assert_int_eq(load_of(&s), 0);
    end_well(&s);
}
END_TEST

/* Bytes that are no HTTP, of every kind; the server answers others all the while. */
START_TEST(noise)
{
    server s = start_server("");
    for (uint32_t i = 0, x = 7; i < 60; i++) {
        char bytes[512];
        size_t n = 0;
        if (i % 2)
            n = (size_t)snprintf(bytes, sizeof bytes, "POST " CHAT " HTTP/1.1\r\nHost: a\r\n");
        for (; n < 300; n++) {
            x = x * 1664525u + 1013904223u;
            bytes[n] = (char)(x >> 24);
        }
        int fd = connect_to(&s);
        send_all(fd, bytes, n);
        shutdown(fd, SHUT_WR);
        free(receive(fd, i % 8 ? 0.01 : 0.2));
    }
    ck_assert_int_eq(load_of(&s), 0);
    end_well(&s);
}
END_TEST

/* ---- the door -----------------------------------------------------------------------------------
 */

START_TEST(door)
{
    static const struct {
        const char *headers;
        int status;
    } rows[] = {
        { "", 200 },
        { "Host: localhost:1\r\n", 200 },
        { "Host: LOCALHOST\r\n", 200 },
        { "Host: [::1]:80\r\n", 200 },
        { "Host: rebound.example\r\n", 403 },
        { "Host: localhost.example\r\n", 403 },
        { "Host: localhost:80.example\r\n", 403 },
        { "Host: \r\n", 403 },
        { "Host: localhost\r\nOrigin: http://localhost:3000\r\n", 200 },
        { "Host: localhost\r\nOrigin: https://127.0.0.1\r\n", 200 },
        { "Host: localhost\r\nOrigin: null\r\n", 403 },
        { "Host: localhost\r\nOrigin: http://localhost.example\r\n", 403 },
        { "Host: localhost\r\nOrigin: http://example.com\r\n", 403 },
    };
    server s = start_server("");
    for (int i = 0; i < RT_COUNT(rows); i++) {
        reply r = get_with(&s, "/v1/models", rows[i].headers);
        ck_assert_msg(r.status == rows[i].status, "%s: %s", rows[i].headers, r.text);
        drop(&r);
    }
    end_well(&s);
}
END_TEST

START_TEST(key)
{
    static const struct {
        const char *header;
        int status;
    } rows[] = { { "", 401 },
                 { "Authorization: Bearer \r\n", 401 },
                 { "Authorization: Bearer s3cre\r\n", 401 },
                 { "Authorization: Bearer s3cres3cret\r\n", 401 },
                 { "Authorization: Bearer s3crets3cret\r\n", 401 },
                 { "Authorization: s3cret\r\n", 401 },
                 { "Authorization: Bearer s3cret\r\n", 200 },
                 { "Host: box.example\r\nOrigin: http://a.example\r\n"
                   "Authorization: bearer s3cret\r\n",
                   200 } };
    setenv("RETORT_API_KEY", "s3cret", 1);
    server s = start_server("--host 0.0.0.0 --max-tokens 2");
    unsetenv("RETORT_API_KEY");
    for (int i = 0; i < RT_COUNT(rows); i++) {
        reply r = get_with(&s, "/v1/models", rows[i].header);
        ck_assert_msg(r.status == rows[i].status, "%s: %s", rows[i].header, r.text);
        drop(&r);
        r = post_with(&s, CHAT,
                      strstr(rows[i].header, "Host") ? "Authorization: Bearer s3cret\r\n"
                                                     : rows[i].header,
                      "{" ASK "}");
        ck_assert_int_eq(r.status, rows[i].status);
        drop(&r);
    }
    reply r = get_with(&s, "/health", "");
    ck_assert_int_eq(r.status, 200);
    drop(&r);
    end_well(&s);
    char *notes;
    int64_t bytes;
    OK(rt_file_read(&notes, &bytes, "notes", 1 << 20, &err));
    ck_assert(!strstr(notes, "s3cret") && !strstr(notes, "cards")); /* nor what was asked */
    ck_assert_ptr_nonnull(strstr(notes, "2 tokens"));
    free(notes);
}
END_TEST

/* ---- clients that leave, and that do not read ---------------------------------------------------
 */

/* Whoever is gone gives his place back, waiting or running, streamed or not. */
START_TEST(vanished)
{
    server s = start_server("--batch 2 --queue 40 --context 512");
    for (int i = 0; i < 24; i++) {
        char some[256];
        int fd = connect_to(&s);
        send_post(fd, TEXT, "",
                  i % 2 ? "{\"prompt\":\"Jon has\",\"temperature\":5,\"stream\":true}"
                        : "{\"prompt\":\"Jon has\",\"temperature\":5}");
        if (i % 4 == 1) /* in the middle of its events */
            ck_assert_int_gt(recv(fd, some, sizeof some, 0), 0);
        struct linger hard = { 1, 0 };
        if (i % 3 == 0)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        close(fd);
    }
    wait_idle(&s);
    reply r = post(&s, CHAT, "{" ASK ",\"max_tokens\":4}");
    ck_assert_int_eq(r.status, 200);
    drop(&r);
    end_well(&s);
}
END_TEST

/* One who sends a byte now and then, and one who never reads, hold up nobody. */
START_TEST(slow)
{
    server s = start_server("--batch 2 --queue 8 --context 128");
    int loris[8], deaf[4];
    static const char head[] = "POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nContent-Le";
    for (int i = 0; i < RT_COUNT(loris); i++) {
        loris[i] = connect_to(&s);
        send_all(loris[i], head, (size_t)(10 + 5 * i));
    }
    for (int i = 0; i < RT_COUNT(deaf); i++) {
        int small = 1024;
        deaf[i] = connect_to(&s);
        setsockopt(deaf[i], SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        send_post(
            deaf[i], TEXT, "",
            "{\"prompt\":\"Jon has\",\"stream\":true,\"logprobs\":20,\"temperature\":9,\"n\":2}");
    }
    double begun = rt_now();
    for (int i = 0; i < 6; i++) {
        reply r = post(&s, CHAT, "{" ASK ",\"max_tokens\":8}");
        if (r.status == 429) /* places are those of the deaf still */
            poll(NULL, 0, 100), i--;
        else
            ck_assert_msg(r.status == 200, "%s", r.text);
        drop(&r);
        ck_assert(rt_now() - begun < 60);
        for (int k = 0; k < RT_COUNT(loris); k++)
            send_all(loris[k], "x", 1);
    }
    wait_idle(&s); /* the deaf ones' sequences ended though nobody took their text */
    for (int i = 0; i < RT_COUNT(loris); i++)
        close(loris[i]);
    for (int i = 0; i < RT_COUNT(deaf); i++)
        close(deaf[i]);
    end_well(&s);
}
END_TEST

/* Whoever sends nothing, or a byte now and then, or takes nothing, is shown out in time. */
START_TEST(late)
{
    static const char head[] = "POST " CHAT
                               " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n";
    server s = start_server("--timeout 1 --context 128");
    int fd[4];
    bool open[4] = { true, true, true, true };
    for (int i = 0; i < 4; i++)
        fd[i] = connect_to(&s);
    send_all(fd[1], head, 30);              /* half a head */
    send_all(fd[2], head, sizeof head - 1); /* and no body */
    send_post(fd[3], TEXT, "", "{\"prompt\":\"Jon has\",\"max_tokens\":2}");
    double begun = rt_now(), sent = begun;
    while ((open[0] || open[1] || open[2]) && rt_now() < begun + 30) {
        for (int i = 0; i < 3; i++) {
            char some[512];
            struct pollfd p = { .fd = fd[i], .events = POLLIN };
            if (open[i] && poll(&p, 1, 10) > 0)
                open[i] = recv(fd[i], some, sizeof some, 0) > 0;
        }
        if (rt_now() - sent > 0.3) {
            sent = rt_now();
            send_all(fd[1], "x", 1);
            send_all(fd[2], " ", 1);
        }
    }
    ck_assert_msg(!open[0] && !open[1] && !open[2], "%d %d %d", open[0], open[1], open[2]);
    for (int i = 0; i < 3; i++)
        close(fd[i]);
    reply r = read_reply(fd[3]);
    ck_assert_int_eq(r.status, 200);
    drop(&r);
    end_well(&s);
}
END_TEST

/* ---- the end ------------------------------------------------------------------------------------
 */

/* A signal: what runs is answered to its end where that is soon, else told; then 0. */
START_TEST(stopping)
{
    server s = start_server("--grace 20");
    int fd = connect_to(&s), other;
    send_post(fd, CHAT, "", "{" ASK ",\"max_tokens\":60,\"temperature\":0}");
    while (load_of(&s) == 0)
        ;
    ck_assert_int_eq(kill(s.pid, SIGINT), 0);
    reply r = read_reply(fd);
    ck_assert_msg(r.status == 200, "%s", r.text);
    drop(&r);
    ck_assert_int_eq(stop_server(&s, 0, 20), 0);
    s = start_server("--grace 0 --context 512");
    fd = connect_to(&s);
    other = connect_to(&s);
    send_post(fd, TEXT, "", "{\"prompt\":\"Jon has\",\"temperature\":50,\"n\":16}");
    send_post(other, TEXT, "",
              "{\"prompt\":\"Jon has\",\"temperature\":50,\"n\":16,\"stream\":true}");
    while (load_of(&s) < 32)
        ;
    ck_assert_int_eq(kill(s.pid, SIGTERM), 0);
    r = read_reply(fd);
    ck_assert_msg(r.status == 503 && strstr(r.text, "Retry-After:"), "%s", r.text);
    drop(&r);
    r = read_reply(other);
    ck_assert_msg(r.status == 200 && strstr(r.body, "server_stopping"), "%s", r.text);
    drop(&r);
    ck_assert_int_eq(stop_server(&s, 0, 20), 0);
}
END_TEST

int main(void)
{
    const suite_test tests[] = {
        { conversation, 1 }, { texts, 1 }, { stream, 1 }, { many, 1 },      { full, 1 },
        { refusals, 1 },     { large, 1 }, { noise, 1 },  { door, 1 },      { key, 1 },
        { vanished, 1 },     { slow, 1 },  { late, 1 },   { mutations, 1 }, { stopping, 1 },
    };
    return suite_run("serve", NULL, tests, RT_COUNT(tests));
}
