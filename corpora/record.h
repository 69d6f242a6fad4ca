/* record.h: one JSONL line as a record: a problem, a conversation or a text. Four forms:
     prompt    {"prompt": "...", "answer": "42"}             a problem; answer is the reference that
               verification compares with, never training text. With "response" (or "completion"),
               optionally "reasoning", it is also a training pair. "system" may precede.
     messages  {"messages": [{"role": "user", "content": "..."}, ...]}   OpenAI; content may be
               parts of type text; "reasoning_content", "thinking" or "reasoning" is the thought.
     ShareGPT  {"conversations": [{"from": "human|gpt|system|tool", "value": "..."}]}
     text      {"text": "..."}                               a document
   "answer" (reference), "id", "tag" and "weight" may stand beside every form, "tools" (a list, or a list as
   text) beside all but text, and so "privileged": what only a teacher is told, a text behind the last
   message of the user's or, as a list of messages, another prompt; a message may have a "weight" too.
   Other keys are kept in meta. A member that is null is absent, at any depth.
   Numbers keep their spelling. Refuses: two forms at once, a form without content, roles or types
   it does not know, ids beyond RT_RECORD_ID_MAX bytes or with control characters. */
#ifndef RT_RECORD_H
#define RT_RECORD_H

#include "core/base/json.h"
#include "corpora/source.h"

RT_BEGIN

enum { RT_RECORD_ID_MAX = 1000, RT_RECORD_TAG_MAX = 64, RT_WEIGHT_MAX = 1000 }; /* bytes; of "weight" */

typedef struct rt_message {
    char *role;      /* "system", "user", "assistant", "tool", "developer" */
    char *content;   /* never NULL, may be "" */
    char *reasoning; /* the assistant's thought, or NULL */
    double weight; /* of its tokens where they are learned; 1 unless it says so */
    char *extra; /* compact JSON object of the message's other keys (tool_calls, name), or NULL */
} rt_message;

typedef struct rt_record {
    char *id;            /* "id" as given, else 32 hex digits of a hash of the content */
    bool id_made;        /* the latter */
    rt_message *message; /* (n_messages) */
    int n_messages;      /* 0 for a text */
    char *tools;         /* compact JSON list of what may be called, or NULL */
    char *text;          /* the document, or NULL */
    char *answer;        /* reference answer as text (numbers keep their spelling), or NULL */
    char *verify;        /* "verify" key: how to compare (corpora/verify/verify.h), or NULL */
    double weight;       /* beside those of the messages; 1 unless it says so */
    char *tag;           /* a word for its kind, up to RT_RECORD_TAG_MAX bytes, or NULL */
    struct rt_record *privileged; /* the prompt as only a teacher sees it (messages, tools), or NULL */
    char *meta;          /* compact JSON object of all other keys, or NULL */
} rt_record;

/* Fill *r from one JSON object. where: the place in messages. On failure *r is empty. */
int rt_record_parse(rt_record *r, const char *json, int64_t bytes, const char *where, rt_err *err);
/* From a source item: a whole file that is not JSON becomes a text record. */
int rt_record_from_item(rt_record *r, const rt_item *item, rt_err *err);
/* {"messages": [...], "tools": [...]} ready for a chat template: role, content, reasoning_content,
   extra keys; tools where the record has some. */
cJSON *rt_record_messages(const rt_record *r);
/* A training pair as a question: the assistant's message at the end, if it is one, goes. */
void rt_record_drop_response(cJSON *talk);
/* What a token of this message counts; message -1: of the text. */
float rt_record_weight(const rt_record *r, int message);
/* The keys that were passed over, the first four as "a, b"; "" when there are none. */
void rt_record_unread(const rt_record *r, char *text, size_t size);
/* To an error about what the record lacks, the keys that were passed over; returns -1. */
int rt_record_lacks(const rt_record *r, rt_err *err);
/* What a "tag" may be: 1 to RT_RECORD_TAG_MAX bytes, no control character, ',' or '='. */
bool rt_record_tag_ok(const char *tag);
void rt_record_free(rt_record *r); /* accepts a zeroed record; leaves it zeroed */

RT_END

#endif
