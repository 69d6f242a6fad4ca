/* http.h: the door: connections through libmicrohttpd, a thread each, who may come in, how large and
   how slow a request may be, and which function answers which path. A client that is slow, silent or
   gone holds a connection for a bounded time and no place in the queue beyond its own.
   In a build without libmicrohttpd rt_http_open says how to get it.
   Refuses: TLS, CORS, files. */
#ifndef RT_SERVER_HTTP_H
#define RT_SERVER_HTTP_H

#include "teacher/server/query.h"

RT_BEGIN

typedef struct rt_http_options {
    const char *host; /* a name or a number, where to listen */
    int64_t port;     /* 0 = one that is free */
    const char *key;  /* what clients send as "Authorization: Bearer KEY"; NULL = none */
    int64_t connections;
} rt_http_options;

typedef struct rt_http rt_http;

/* Listens, but answers nothing yet but that it is loading. A host that is not loopback needs a key. */
int rt_http_open(rt_http **out, const rt_http_options *o, rt_err *err);
const char *rt_http_url(const rt_http *h); /* "http://127.0.0.1:8080" */
int rt_http_serve(rt_http *h, const rt_served *s, rt_queue *q, rt_err *err);
/* Ends connections whose time is over: call it about once a second. */
void rt_http_sweep(rt_http *h);
/* No new connection; those there are have `seconds` to take what was made for them. */
void rt_http_close(rt_http *h, double seconds); /* accepts NULL */

RT_END

#endif
