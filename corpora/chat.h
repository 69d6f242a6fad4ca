/* chat.h: a model's way of talking, bundled: tokenizer, chat template and reasoning markers, from a
   Hugging Face directory or a GGUF. The prompts that sampling continues, the pairs that training
   learns from and the split of a response are made here, once, so they cannot disagree. What the
   template writes is parsed for special tokens, what messages spell is not.
   Refuses: choosing messages, verification. */
#ifndef RT_CHAT_H
#define RT_CHAT_H

#include "core/base/option.h"
#include "core/network/config.h"
#include "corpora/reasoning.h"
#include "corpora/stops.h"
#include "corpora/template/template.h"
#include "corpora/tokenizer/tokenizer.h"

RT_BEGIN

typedef struct rt_chat {
    rt_tokenizer *tokenizer;
    rt_template *chat;     /* NULL when the model has no template: prompts are plain text */
    cJSON *context;        /* bos_token, eos_token, ... */
    rt_hash template_hash; /* of it and of what rt_chat_set changed; empty when there is none */
    rt_reasoning reasoning;
} rt_chat;

/* path: model directory or .gguf */
int rt_chat_open(rt_chat *c, const char *path, rt_err *err);
/* The same for who can do without a template: one that retort cannot parse is none, and *unread, zeroed by
   the caller, says why. */
int rt_chat_open_any(rt_chat *c, const char *path, rt_err *unread, rt_err *err);
void rt_chat_close(rt_chat *c); /* accepts a zeroed chat */
/* The files it was opened from at `from`, into dir; a GGUF's vocabulary becomes files. */
int rt_chat_save(const rt_chat *c, const char *from, const char *dir, rt_err *err);

/* The ids that begin and end texts, of a model that is to speak this way. */
void rt_chat_config(const rt_chat *c, rt_config *cfg);

/* The option of every command that writes prompts; S holds an rt_strlist there. */
#define RT_CHAT_OPTION(S, set)                                                                     \
    OPT_LIST(S, set, "set", "NAME=JSON",                                                           \
             "a variable of the chat template: enable_thinking, tools, ...")
/* Each NAME=JSON as a variable of the template. They count as part of it: template_hash changes. */
int rt_chat_set(rt_chat *c, const rt_strlist *set, rt_err *err);

/* talk: {"messages": [...]} and other variables of the template, such as "tools".
   Append the ids of talk with the generation prompt: what a model continues. */
int rt_chat_prompt(const rt_chat *c, const cJSON *talk, rt_ids *ids, rt_err *err);
/* The last message is the assistant's: ids of the prompt before it, then of what the assistant
   would have generated (thought, closing marker, content, end token). spans: begin and end of what
   is learned, counted from the first of these ids: of each turn of the assistant's when `all`, as
   it stands in the prompt (turns.h); the last pair is always the response. message: which message
   of talk each span is, or NULL: not wanted. */
int rt_chat_turns(const rt_chat *c, const cJSON *talk, bool all, rt_ids *ids, rt_ids *spans,
                  rt_ids *message, rt_err *err);
/* Where the answer begins in ids[begin, end), a turn of the assistant's: what stands before, with
   its marks, is its thought. `end` when there is no answer. */
int64_t rt_chat_answer(const rt_chat *c, const int32_t *ids, int64_t begin, int64_t end);
/* The option of every command that learns from conversations; S holds a char * there. */
#define RT_TURNS_OPTION(S, turns)                                                                  \
    OPT_CHOICE(S, turns, "turns", "all", "all|last",                                               \
               "the assistant's turns of a conversation that are learned")
/* A document without roles: BOS as the tokenizer does it, the text, EOS. */
int rt_chat_text(const rt_chat *c, const char *text, int64_t bytes, rt_ids *ids, rt_err *err);

/* Whether a prompt (n ids) ends inside a thought that it opens. */
bool rt_chat_opened(const rt_chat *c, const int32_t *ids, int64_t n);

/* Thought and answer of generated ids that follow prompt (n_prompt ids before them in `ids`). */
typedef struct rt_response {
    rt_text reasoning, answer; /* trimmed of white space at both ends */
    bool unfinished;
} rt_response;
/* stops: each text ends where one of them begins; NULL = none. */
int rt_chat_split(const rt_chat *c, const int32_t *ids, int64_t n_prompt, int64_t n,
                  const rt_stops *stops, rt_response *r, rt_err *err);
void rt_response_free(rt_response *r);

RT_END

#endif
