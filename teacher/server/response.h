/* response.h: what is sent, in OpenAI's shapes: a completion, whole or as server-sent events, the
   list of models, an error. A choice's text comes through reply.h, the same for both. Text that is
   not UTF-8 gets U+FFFD in its place. logprobs are natural, at temperature 1 over the whole
   vocabulary, of every token that was chosen, the thought's and the end token included.
   Refuses: HTTP, queues. */
#ifndef RT_SERVER_RESPONSE_H
#define RT_SERVER_RESPONSE_H

#include "corpora/reply.h"
#include "teacher/server/query.h"

RT_BEGIN

typedef struct rt_written {
    rt_reply reply;
    cJSON *logprobs; /* of the tokens since it was last sent; NULL where none are asked for */
    rt_choice_state state;
    int64_t n_new;
    int64_t offset; /* characters of text before the next token */
    bool closed;    /* its last event is out */
} rt_written;

typedef struct rt_response_writer {
    const rt_served *served;
    const rt_query *query;
    char id[48];
    int64_t created;
    rt_written *choice; /* (query->ticket->n) */
    bool begun;
} rt_response_writer;

void rt_response_open(rt_response_writer *w, const rt_served *s, const rt_query *q);
void rt_response_close(rt_response_writer *w); /* accepts a zeroed one */
/* New tokens of choice k, and its state after them. */
int rt_response_add(rt_response_writer *w, int64_t k, const rt_ids *ids, const rt_soft *soft,
                    rt_choice_state state, rt_err *err);
/* Whether every choice is done; *aborted: one of them by the server. */
bool rt_response_done(const rt_response_writer *w, bool *aborted);
/* Appends the events of what is new; with rt_response_done the last ones. */
int rt_response_events(rt_response_writer *w, rt_text *out, rt_err *err);
/* The completion as one object, once all is done. */
int rt_response_whole(rt_response_writer *w, rt_text *out, rt_err *err);

int rt_response_models(const rt_served *s, rt_text *out, rt_err *err);
int rt_response_refusal(const rt_refusal *r, rt_text *out, rt_err *err);

RT_END

#endif
