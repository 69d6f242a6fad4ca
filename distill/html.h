/* html.h: text into a page: whatever it holds, it stays text. Owns what must be escaped. Refuses: tags
   (their writer's), bytes that are no UTF-8 (they become U+FFFD). */
#ifndef RT_HTML_H
#define RT_HTML_H

#include <stdio.h>

#include "core/base/json.h"

RT_BEGIN

/* As text between tags or in a quoted attribute. */
void rt_html_text(FILE *f, const char *text);
/* The string at key, "" when there is none. */
void rt_html_member(FILE *f, const cJSON *json, const char *key);

RT_END

#endif
