/* conversation.h: short conversations through a model's chat template, as text, and what can be
   learned from them: which token ends an answer. Exports ask the template itself: names of tokens
   mislead. Refuses: token ids of whole conversations (corpora/chat.h). */
#ifndef RT_CONVERSATION_H
#define RT_CONVERSATION_H

#include "corpora/chat.h"

RT_BEGIN

/* rt_chat_open, but a template that retort cannot read is no error: c has none then, and with `warn` that is
   said. An export carries it all the same. */
int rt_conversation_open(rt_chat *c, const char *path, bool warn, rt_err *err);

typedef struct rt_turn {
    const char *role, *content; /* "system", "user", "assistant" */
} rt_turn;

/* turn (n) as the template of c writes them; *text malloc'd. Fails where the template refuses. */
int rt_conversation_render(const rt_chat *c, const rt_turn *turn, int n, bool generation_prompt,
                           char **text, rt_err *err);
/* The special token that the template puts behind an answer; -1: no template, or it puts none. */
int32_t rt_conversation_end(const rt_chat *c);

RT_END

#endif
