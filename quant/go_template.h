/* go_template.h: the little of Go's text/template that retort writes for Ollama, evaluated, so that
   what is handed over has been seen to render what the model's own template renders. Text, {{ if }}
   {{ else if }}
   {{ else }} {{ end }}, {{ range $i, $m := .Messages }}, {{ $x := ... }}, .System .Role .Content,
   $.Messages, eq ne and or not len slice, strings and whole numbers. Language:
   https://pkg.go.dev/text/template. Refuses, by name, everything else, trim marks too. */
#ifndef RT_GO_TEMPLATE_H
#define RT_GO_TEMPLATE_H

#include "quant/conversation.h"

RT_BEGIN

/* Appends to out what Ollama makes of turn (n): .System is all system turns, "\n\n" between two. */
int rt_go_template_run(const char *source, const rt_turn *turn, int n, rt_text *out, rt_err *err);

RT_END

#endif
