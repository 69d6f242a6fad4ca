/* turns.h: where the assistant's turns stand in a conversation that a chat template has written:
   from the end of what a generation prompt would say to the end token, which is what the model
   itself would have written there. Templates may write a finished turn otherwise than the last one
   (Qwen3 and DeepSeek leave its thought out): what stands there counts.
   A turn is found by writing the conversation once more with other words in it: what differs is the
   turn's own. Refuses: the last turn (its text is not written yet), token ids. */
#ifndef RT_TURNS_H
#define RT_TURNS_H

#include "core/base/json.h"
#include "corpora/reasoning.h"
#include "corpora/tokenizer/tokenizer.h"

RT_BEGIN

typedef struct rt_turns {
    const rt_tokenizer *tokenizer;
    const rt_reasoning *reasoning; /* whose stop ids end a turn */
    /* The template's text of talk, with or without the generation prompt, appended to out. */
    int (*render)(const void *ctx, const cJSON *talk, bool generation_prompt, rt_text *out,
                  rt_err *err);
    const void *ctx;
} rt_turns;

/* prompt: what render says of talk with the generation prompt; talk is as it was afterwards.
   Appends begin and end of each turn, byte offsets of prompt, ascending, and which message of talk
   it is. A turn that the template
   leaves out, or does not write with other words in it, is none. */
int rt_turns_find(const rt_turns *t, cJSON *talk, const rt_text *prompt, rt_ids *bounds,
                  rt_err *err);

RT_END

#endif
