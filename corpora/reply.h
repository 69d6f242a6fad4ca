/* reply.h: a response as it is generated: token by token into text, thought and answer apart (by
   token id, as reasoning.h), in whole characters, up to where a stop text begins. What may still
   become a stop text, the rest of a character or white space at the end is held back.
   A marker decides when it comes, since what was shown cannot be taken back; a finished response is
   split by rt_chat_split, which differs only where markers come twice or in the wrong order.
   Refuses: choosing tokens, terminals, JSON. */
#ifndef RT_REPLY_H
#define RT_REPLY_H

#include "corpora/chat.h"

RT_BEGIN

typedef enum rt_reply_part { RT_REPLY_REASONING, RT_REPLY_ANSWER, RT_REPLY_PARTS } rt_reply_part;

typedef struct rt_reply {
    const rt_chat *chat;
    const rt_stops *stops; /* borrowed; NULL = none */
    bool whole;
    rt_ids ids; /* of the response so far */
    rt_reply_part part;
    bool header;  /* between messages of harmony: nothing is said */
    bool stopped; /* a stop text began */
    bool ended;
    rt_text text[RT_REPLY_PARTS];
    int64_t taken[RT_REPLY_PARTS]; /* bytes of it */
    rt_text before, after;         /* a new token's neighbourhood, without it and with it */
} rt_reply;

/* After prompt (n_prompt ids). whole: no thought is told from the answer, and no white space is
   trimmed at the ends: all that the tokens say is the answer. Memory of an earlier response is
   kept; begin with a zeroed one. */
void rt_reply_begin(rt_reply *r, const rt_chat *c, const rt_stops *stops, const int32_t *prompt,
                    int64_t n_prompt, bool whole);
void rt_reply_free(rt_reply *r);
int rt_reply_add(rt_reply *r, int32_t token, rt_err *err);
/* No token comes any more: nothing is held back. */
void rt_reply_end(rt_reply *r);
/* What is certain of a part and was not taken yet; borrowed until the next add. */
rt_str rt_reply_take(rt_reply *r, rt_reply_part part);

RT_END

#endif
