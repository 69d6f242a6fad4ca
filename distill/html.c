#include "distill/html.h"

#include <string.h>

#include "core/base/utf8.h"

void rt_html_text(FILE *f, const char *text)
{
    int64_t n = (int64_t)strlen(text);
    for (int64_t i = 0; i < n;) {
        uint32_t c;
        int len = rt_utf8_decode(text + i, n - i, &c);
        if (!len || (rt_utf8_is_control(c) && c != '\n' && c != '\t'))
            fputs("\xef\xbf\xbd", f);
        else if (c == '&' || c == '<' || c == '>' || c == '"' || c == '\'')
            fprintf(f, "&#%d;", (int)c);
        else
            fwrite(text + i, 1, (size_t)len, f);
        i += len ? len : 1;
    }
}

void rt_html_member(FILE *f, const cJSON *json, const char *key)
{
    const cJSON *item = rt_json_find(json, key);
    if (cJSON_IsString(item))
        rt_html_text(f, item->valuestring);
}
