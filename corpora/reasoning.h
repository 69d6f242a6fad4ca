/* reasoning.h: where a response's reasoning ends and its answer begins, by token id. The opener is
   often part of the prompt, and text can quote a marker, so only ids decide, read from the right:
   the last closing marker ends the reasoning. A thought that never closes is unfinished: it has no
   answer, and nobody may train on it as one.
   Families: <think> ... </think>, and gpt-oss harmony channels (analysis, commentary, final). */
#ifndef RT_REASONING_H
#define RT_REASONING_H

#include "core/base/err.h"

RT_BEGIN

typedef enum rt_reasoning_kind {
    RT_REASONING_NONE,   /* the model has no reasoning markers: everything is answer */
    RT_REASONING_THINK,  /* open ... close answer */
    RT_REASONING_HARMONY /* <|channel|>NAME<|message|> ... <|end|><|start|>assistant ... */
} rt_reasoning_kind;

enum { RT_REASONING_MARK_MAX = 16, RT_REASONING_STOPS_MAX = 8 };
typedef struct rt_marker {
    int32_t id[RT_REASONING_MARK_MAX];
    int32_t n;
} rt_marker; /* n = 0: none */

/* Markers as token ids; a marker may be several ids where the tokenizer has no single one.
   THINK uses open, close, stop. HARMONY uses start, channel, message, end, analysis, commentary,
   final (the channel names' ids), stop (<|return|>, <|call|>). */
typedef struct rt_reasoning {
    rt_reasoning_kind kind;
    rt_marker open, close;
    int32_t start, channel, message, end;
    rt_marker analysis, commentary, final;
    int32_t stop[RT_REASONING_STOPS_MAX]; /* ids that end a response; not part of any span */
    int32_t n_stops;
} rt_reasoning;

typedef struct rt_reasoning_span {
    int64_t begin, end;
} rt_reasoning_span; /* token positions */
typedef struct rt_reasoning_split {
    rt_reasoning_span reasoning; /* without markers; empty when there is none */
    rt_reasoning_span answer;    /* without stop ids; empty when unfinished */
    bool unfinished;             /* a thought began and never closed, or no answer was reached */
    bool stopped;                /* the response ended with a stop id */
} rt_reasoning_split;

/* opened: the prompt ended inside the reasoning (it carries the opener). ids (n). */
rt_reasoning_split rt_reasoning_find(const rt_reasoning *r, const int32_t *ids, int64_t n,
                                     bool opened);

RT_END

#endif
