#include "corpora/crossing/seen.h"

#include <stdlib.h>

#include "core/base/memory.h"

int rt_seen_add(rt_seen *s, const char *text, int64_t bytes, int32_t id, rt_err *err)
{
    int64_t n = s->text.n, at = rt_bytes_map_put(&s->text, text, bytes, err);
    if (at < 0)
        return -1;
    int32_t first = at < n ? (int32_t)s->text.entry[at].value : -1;
    for (int32_t i = first; i >= 0; i = s->token[i].next)
        if (s->token[i].id == id) {
            s->token[i].times++;
            return 0;
        }
    rt_grow(&s->token, &s->cap, s->n + 1, sizeof *s->token, "tokens that were seen");
    s->token[s->n] = (rt_seen_token){ id, first, 1 };
    s->text.entry[at].value = s->n++;
    return 0;
}

const rt_seen_token *rt_seen_find(const rt_seen *s, const char *text, int64_t bytes)
{
    int64_t at = rt_bytes_map_find(&s->text, text, bytes);
    return at < 0 ? NULL : &s->token[s->text.entry[at].value];
}

const rt_seen_token *rt_seen_next(const rt_seen *s, const rt_seen_token *t)
{
    return t->next < 0 ? NULL : &s->token[t->next];
}

void rt_seen_free(rt_seen *s)
{
    rt_bytes_map_free(&s->text);
    free(s->token);
    *s = (rt_seen){ 0 };
}
