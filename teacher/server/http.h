/* http.h: connections through libmicrohttpd, a thread each: how large and how slow a request may
   be, and what answers which path. A client that is slow, silent or gone holds a connection for a
   bounded time, and no place in the queue but its own. Refuses: TLS, CORS, files, and who may come
   in (door.h). */
#ifndef RT_SERVER_HTTP_H
#define RT_SERVER_HTTP_H

#include "teacher/server/door.h"

RT_BEGIN

typedef struct rt_http_limits {
    int64_t connections; /* at once */
    int64_t seconds;     /* to send a request, and to take what was made for it */
} rt_http_limits;

typedef struct rt_http rt_http;

/* -1: this build has no libmicrohttpd; the message says how to get it. */
int rt_http_there(rt_err *err);
/* Answers from now on who waits at the door, in threads of its own; door, s and q are borrowed. */
int rt_http_open(rt_http **out, const rt_door *door, const rt_served *s, rt_queue *q,
                 const rt_http_limits *limits, rt_err *err);
/* Ends connections whose time is over: call it about once a second. */
void rt_http_sweep(rt_http *h);
/* No new connection; those there are have `seconds` to take what was made for them. */
void rt_http_close(rt_http *h, double seconds); /* accepts NULL */

RT_END

#endif
