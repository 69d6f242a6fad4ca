#include "teacher/server/http.h"

#ifdef RT_MICROHTTPD

#include <microhttpd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "teacher/server/response.h"

enum {
    BODY_BYTES = 2 << 20,    /* of a request */
    HEADER_BYTES = 32 << 10, /* and the buffer that its answer leaves through */
    RETRY_SECONDS = 1
};
static const double LOOK_SECONDS = 0.2; /* between looks at a connection that waits */

/* One socket. */
typedef struct connection {
    int fd;
    bool busy;    /* its request is being answered; else it is the client's turn, */
    double since; /* since then */
    struct connection *next;
} connection;

struct rt_http {
    const rt_served *served;
    rt_queue *queue;
    struct MHD_Daemon *daemon;
    const rt_door *door;
    pthread_mutex_t reading; /* one body at a time: as JSON it may take fifty times its bytes */
    pthread_mutex_t lock;    /* of the list */
    connection *first;
    int64_t seconds;
    double swept;
};

typedef enum route { TO_CHAT, TO_TEXT, TO_MODELS, TO_HEALTH, TO_NOTHING } route;

static const struct {
    const char *path, *method;
    route to;
} routes[] = {
    { "/v1/chat/completions", "POST", TO_CHAT },
    { "/v1/completions", "POST", TO_TEXT },
    { "/v1/models", "GET", TO_MODELS },
    { "/health", "GET", TO_HEALTH },
};

/* One request. */
typedef struct visit {
    rt_http *h;
    connection *c;
    route to;
    rt_refusal refusal; /* status 0 = none */
    const char *allow;
    rt_text body;
    int64_t received;
    rt_query query;
    rt_response_writer writer;
    rt_ids ids;
    rt_soft soft;
    rt_text out;  /* events that are not sent yet */
    int64_t sent; /* bytes of them */
    bool ended;   /* no more come */
} visit;

/* ---- what is asked ------------------------------------------------------------------------------
 */

static int find_route(visit *v, const char *path, const char *method, rt_refusal *r)
{
    v->to = TO_NOTHING;
    for (int i = 0; i < RT_COUNT(routes); i++) {
        if (strcmp(path, routes[i].path))
            continue;
        v->to = routes[i].to;
        bool head = !strcmp(routes[i].method, "GET") && !strcmp(method, "HEAD");
        if (!head && strcmp(method, routes[i].method)) {
            v->allow = routes[i].method;
            return rt_refuse(r, 405, NULL, NULL, "%s takes %s", path, v->allow);
        }
        return 0;
    }
    return rt_refuse(r, 404, "unknown_url", NULL,
                     "no such path: there are /v1/chat/completions, /v1/completions, /v1/models "
                     "and /health");
}

static const char *header(struct MHD_Connection *m, const char *name)
{
    return MHD_lookup_connection_value(m, MHD_HEADER_KIND, name);
}

static int check_size(struct MHD_Connection *m, rt_refusal *r)
{
    const char *length = header(m, "Content-Length");
    if (length && strtoull(length, NULL, 10) > BODY_BYTES)
        return rt_refuse(r, 413, "request_too_large", NULL, "the body is larger than %d bytes",
                         BODY_BYTES);
    return 0;
}

/* ---- sending ------------------------------------------------------------------------------------
 */

static enum MHD_Result send_response(struct MHD_Connection *m, int status,
                                     struct MHD_Response *response, const char *type)
{
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    enum MHD_Result sent = MHD_queue_response(m, (unsigned)status, response);
    MHD_destroy_response(response);
    return sent;
}

static enum MHD_Result send_text(struct MHD_Connection *m, const rt_text *text)
{
    return send_response(
        m, 200,
        MHD_create_response_from_buffer((size_t)text->bytes, text->data, MHD_RESPMEM_MUST_COPY),
        "application/json");
}

static enum MHD_Result send_refusal(visit *v, struct MHD_Connection *m)
{
    char seconds[16];
    rt_err err;
    const rt_refusal *r = &v->refusal;
    rt_text_clear(&v->out);
    if (rt_response_refusal(r, &v->out, &err))
        return MHD_NO;
    struct MHD_Response *response = MHD_create_response_from_buffer(
        (size_t)v->out.bytes, v->out.data, MHD_RESPMEM_MUST_COPY);
    if (!response)
        return MHD_NO;
    snprintf(seconds, sizeof seconds, "%d", RETRY_SECONDS);
    if (r->status == 429 || r->status == 503)
        MHD_add_response_header(response, "Retry-After", seconds);
    if (r->status == 401)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (v->allow)
        MHD_add_response_header(response, "Allow", v->allow);
    return send_response(m, r->status, response, "application/json");
}

/* ---- answering ----------------------------------------------------------------------------------
 */

static void set_busy(visit *v, bool busy)
{
    pthread_mutex_lock(&v->h->lock);
    v->c->busy = busy;
    v->c->since = rt_now();
    pthread_mutex_unlock(&v->h->lock);
}

static bool is_gone(const connection *c)
{
    struct pollfd p = { .fd = c->fd, .events = POLLRDHUP };
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* Waits for tokens and takes them: 1 all are there, 0 not yet, -1 nobody waits for them any more.
 */
static int take_news(visit *v, rt_err *err)
{
    rt_ticket *t = v->query.ticket;
    bool aborted;
    if (!rt_queue_wait(v->h->queue, t, LOOK_SECONDS))
        return is_gone(v->c) ? -1 : 0;
    for (int64_t k = 0; k < t->n; k++) {
        if (v->writer.choice[k].state.done)
            continue;
        rt_choice_state state = rt_queue_take(v->h->queue, &t->choice[k], &v->ids,
                                              t->captured ? &v->soft : NULL);
        if (rt_response_add(&v->writer, k, &v->ids, &v->soft, state, err))
            return -1;
    }
    return rt_response_done(&v->writer, &aborted);
}

static ssize_t read_events(void *cls, uint64_t at, char *to, size_t most)
{
    visit *v = cls;
    rt_err err;
    (void)at;
    while (v->sent == v->out.bytes) {
        rt_text_clear(&v->out);
        v->sent = 0;
        if (v->ended)
            return MHD_CONTENT_READER_END_OF_STREAM;
        int done = take_news(v, &err);
        if (done < 0 || rt_response_events(&v->writer, &v->out, &err))
            return MHD_CONTENT_READER_END_WITH_ERROR;
        v->ended = done;
        if (done)
            set_busy(v, false); /* from now on it only waits for its client */
    }
    int64_t n = rt_min((int64_t)most, v->out.bytes - v->sent);
    memcpy(to, v->out.data + v->sent, (size_t)n);
    v->sent += n;
    return (ssize_t)n;
}

static enum MHD_Result send_whole(visit *v, struct MHD_Connection *m)
{
    rt_err err;
    int done;
    bool aborted;
    while ((done = take_news(v, &err)) == 0)
        ;
    set_busy(v, false);
    if (done < 0)
        return MHD_NO;
    rt_response_done(&v->writer, &aborted);
    if (aborted) {
        rt_refuse(&v->refusal, 503, "server_stopping", NULL, "the server stopped before the end");
        return send_refusal(v, m);
    }
    return rt_response_whole(&v->writer, &v->out, &err) ? MHD_NO : send_text(m, &v->out);
}

static enum MHD_Result complete(visit *v, struct MHD_Connection *m)
{
    rt_http *h = v->h;
    rt_refusal *r = &v->refusal;
    const char *body = v->body.data ? v->body.data : "";
    set_busy(v, true);
    pthread_mutex_lock(&h->reading);
    int bad = rt_query_read(&v->query, h->served, v->to == TO_CHAT, body, v->body.bytes, r);
    pthread_mutex_unlock(&h->reading);
    if (bad)
        return send_refusal(v, m);
    rt_text_free(&v->body);
    rt_response_open(&v->writer, h->served, &v->query);
    rt_queue_answer answer = rt_queue_put(h->queue, v->query.ticket);
    if (answer == RT_QUEUE_FULL) {
        rt_refuse(r, 429, "rate_limit_exceeded", NULL, "the queue is full: try again in a moment");
        return send_refusal(v, m);
    }
    if (answer == RT_QUEUE_CLOSED) {
        rt_refuse(r, 503, "server_stopping", NULL, "the server is stopping");
        return send_refusal(v, m);
    }
    if (!v->query.stream)
        return send_whole(v, m);
    return send_response(
        m, 200,
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, HEADER_BYTES / 2, read_events, v, NULL),
        "text/event-stream; charset=utf-8");
}

static enum MHD_Result send_health(visit *v, struct MHD_Connection *m)
{
    rt_err err;
    rt_queue_load load = rt_queue_look(v->h->queue);
    if (rt_text_printf(&v->out, &err, "{\"status\":\"%s\",\"running\":%lld,\"waiting\":%lld}\n",
                       load.closed ? "stopping" : "ok", (long long)load.running,
                       (long long)load.waiting))
        return MHD_NO;
    return send_text(m, &v->out);
}

static enum MHD_Result answer_visit(visit *v, struct MHD_Connection *m)
{
    rt_err err;
    if (v->received > BODY_BYTES)
        rt_refuse(&v->refusal, 413, "request_too_large", NULL, "the body is larger than %d bytes",
                  BODY_BYTES);
    if (v->refusal.status)
        return send_refusal(v, m);
    if (v->to == TO_HEALTH)
        return send_health(v, m);
    if (v->to == TO_MODELS)
        return rt_response_models(v->h->served, &v->out, &err) ? MHD_NO : send_text(m, &v->out);
    return complete(v, m);
}

/* ---- libmicrohttpd's callbacks ------------------------------------------------------------------
 */

static visit *begin_visit(rt_http *h, struct MHD_Connection *m, const char *path,
                          const char *method)
{
    visit *v = rt_alloc(1, sizeof *v, "a request");
    const union MHD_ConnectionInfo *of = MHD_get_connection_info(
        m, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    v->h = h;
    v->c = of->socket_context;
    rt_soft_init(&v->soft);
    const rt_visitor who = { .host = header(m, "Host"),
                             .origin = header(m, "Origin"),
                             .authorization = header(m, "Authorization") };
    if (find_route(v, path, method, &v->refusal) == 0)
        (void)check_size(m, &v->refusal);
    /* last: who may not come in learns nothing else */
    (void)rt_door_check(h->door, &who, v->to == TO_HEALTH, &v->refusal);
    return v;
}

/* First without a body, then for each part of it, then once more without. */
static enum MHD_Result take_request(void *cls, struct MHD_Connection *m, const char *path,
                                    const char *method, const char *version, const char *part,
                                    size_t *bytes, void **ctx)
{
    visit *v = *ctx;
    rt_err err;
    (void)version;
    if (!v) {
        v = *ctx = begin_visit(cls, m, path, method);
        return v->refusal.status == 413 ? send_refusal(v, m) : MHD_YES;
    }
    if (*bytes == 0)
        return answer_visit(v, m);
    v->received += (int64_t)*bytes;
    if (v->received > 2 * BODY_BYTES) /* said to be smaller, or not said */
        return MHD_NO;
    if (v->received <= BODY_BYTES && !v->refusal.status &&
        rt_text_add(&v->body, part, (int64_t)*bytes, &err))
        return MHD_NO;
    *bytes = 0;
    return MHD_YES;
}

static void end_request(void *cls, struct MHD_Connection *m, void **ctx,
                        enum MHD_RequestTerminationCode how)
{
    rt_http *h = cls;
    visit *v = *ctx;
    (void)m, (void)how;
    if (!v)
        return;
    set_busy(v, false);
    rt_response_close(&v->writer);
    rt_queue_leave(h->queue, v->query.ticket);
    rt_ids_free(&v->ids);
    rt_soft_free(&v->soft);
    rt_text_free(&v->body);
    rt_text_free(&v->out);
    free(v);
    *ctx = NULL;
}

static void note_connection(void *cls, struct MHD_Connection *m, void **ctx,
                            enum MHD_ConnectionNotificationCode what)
{
    rt_http *h = cls;
    connection *c = *ctx;
    pthread_mutex_lock(&h->lock);
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        c = *ctx = rt_alloc(1, sizeof *c, "a connection");
        c->fd = MHD_get_connection_info(m, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        c->since = rt_now();
        c->next = h->first;
        h->first = c;
    } else if (c) {
        connection **link = &h->first;
        while (*link != c)
            link = &(*link)->next;
        *link = c->next;
        free(c);
        *ctx = NULL;
    }
    pthread_mutex_unlock(&h->lock);
}

/* ---- life ---------------------------------------------------------------------------------------
 */

int rt_http_there(rt_err *err)
{
    (void)err;
    return 0;
}

int rt_http_open(rt_http **out, const rt_door *door, const rt_served *s, rt_queue *q,
                 const rt_http_limits *limits, rt_err *err)
{
    rt_http *h = *out = rt_alloc(1, sizeof *h, "a server");
    h->served = s;
    h->queue = q;
    h->door = door;
    h->seconds = limits->seconds;
    pthread_mutex_init(&h->lock, NULL);
    pthread_mutex_init(&h->reading, NULL);
    h->daemon = MHD_start_daemon(MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD |
                                     MHD_USE_POLL | MHD_USE_ITC,
                                 0, NULL, NULL, take_request, h, MHD_OPTION_LISTEN_SOCKET, door->fd,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)limits->connections,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADER_BYTES,
                                 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)limits->seconds,
                                 MHD_OPTION_NOTIFY_COMPLETED, end_request, h,
                                 MHD_OPTION_NOTIFY_CONNECTION, note_connection, h, MHD_OPTION_END);
    return h->daemon ? 0 : rt_fail(err, "%s: the server could not be started", door->url);
}

/* Ends the connections on which nothing happened for so long; returns how many there are. A closed
   socket wakes its thread. */
static int64_t end_idle(rt_http *h, double seconds)
{
    int64_t n = 0;
    double now = rt_now();
    pthread_mutex_lock(&h->lock);
    for (connection *c = h->first; c; c = c->next, n++)
        if (!c->busy && now - c->since > seconds)
            shutdown(c->fd, SHUT_RDWR);
    pthread_mutex_unlock(&h->lock);
    return n;
}

void rt_http_sweep(rt_http *h)
{
    double now = rt_now();
    if (now - h->swept < 1)
        return;
    h->swept = now;
    end_idle(h, (double)h->seconds);
}

void rt_http_close(rt_http *h, double seconds)
{
    if (!h)
        return;
    double until = rt_now() + seconds;
    if (h->daemon) {
        MHD_quiesce_daemon(h->daemon);
        while (end_idle(h, 0.5) > 0 && rt_now() < until)
            poll(NULL, 0, 20);
        end_idle(h, -1);
        MHD_stop_daemon(h->daemon);
    }
    pthread_mutex_destroy(&h->reading);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

#else

int rt_http_there(rt_err *err)
{
    return rt_fail(err, "this build has no HTTP server: install libmicrohttpd (Debian: "
                        "libmicrohttpd-dev), configure and build again");
}
int rt_http_open(rt_http **out, const rt_door *door, const rt_served *s, rt_queue *q,
                 const rt_http_limits *limits, rt_err *err)
{
    (void)door, (void)s, (void)q, (void)limits;
    *out = NULL;
    return rt_http_there(err);
}
void rt_http_sweep(rt_http *h) { (void)h; }
void rt_http_close(rt_http *h, double seconds) { (void)h, (void)seconds; }

#endif
