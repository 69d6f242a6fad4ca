/* query.h: a body of OpenAI's /v1/chat/completions or /v1/completions, read: prompts as ids, the
   settings of each sequence, how it is to be answered. Every key is in one table; one that is not,
   or that asks for what is not done here, is refused by name and never silently dropped.
   Refuses: HTTP, queues, answers. */
#ifndef RT_SERVER_QUERY_H
#define RT_SERVER_QUERY_H

#include "corpora/chat.h"
#include "teacher/server/queue.h"

RT_BEGIN

enum { RT_TOP_LOGPROBS_MAX = 20 };

/* What is served, and what a request gets that does not say it. */
typedef struct rt_served {
    const rt_chat *chat;
    const char *name;
    int64_t length; /* of prompt and answer together */
    int64_t vocab;
    int64_t most; /* sequences of a request */
    const rt_sampling_options *defaults;
    int64_t created; /* seconds since 1970 */
} rt_served;

/* Why a request is not answered, as OpenAI spells it. */
typedef struct rt_refusal {
    int status;                      /* HTTP */
    const char *type, *code, *param; /* code, param: NULL = none */
    rt_err err;
} rt_refusal;
/* Fills it and returns -1. */
int rt_refuse(rt_refusal *r, int status, const char *code, const char *param, const char *fmt, ...)
    RT_PRINTF(5, 6);

typedef struct rt_query {
    bool chat; /* else /v1/completions */
    bool stream, usage, logprobs;
    int64_t top; /* most probable tokens beside each */
    rt_ticket *ticket;
} rt_query;

/* body: untrusted bytes. The ticket is the caller's to put, and to leave in every case. */
int rt_query_read(rt_query *q, const rt_served *s, bool chat, const char *body, int64_t bytes,
                  rt_refusal *r);

RT_END

#endif
