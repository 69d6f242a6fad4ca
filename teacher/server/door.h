/* door.h: where a server listens, and who may come in: on loopback those who call it by a name of
   this machine, anywhere those who show the key. Refuses: HTTP. */
#ifndef RT_SERVER_DOOR_H
#define RT_SERVER_DOOR_H

#include "teacher/server/query.h"

RT_BEGIN

typedef struct rt_door {
    int fd;           /* that listens; clients wait there until somebody accepts them */
    const char *host; /* borrowed */
    const char *key;  /* borrowed: what clients send as "Authorization: Bearer KEY"; or NULL */
    char url[300];    /* "http://127.0.0.1:8080" */
} rt_door;

/* host: a name or a number; port 0 = one that is free. A host that is not loopback needs a key.
   rt_door_close in every case. */
int rt_door_open(rt_door *d, const char *host, int64_t port, const char *key, rt_err *err);
void rt_door_close(rt_door *d);

/* The headers of a request that say who sends it; NULL = not there. */
typedef struct rt_visitor {
    const char *host, *origin, *authorization;
} rt_visitor;
/* A page of the web that a browser on this machine shows may reach loopback, also under a name of
   its own (DNS rebinding): its Origin or its Host gives it away. Where there is a key, it has none.
   open: what is asked for needs no key. */
int rt_door_check(const rt_door *d, const rt_visitor *v, bool open, rt_refusal *r);

RT_END

#endif
