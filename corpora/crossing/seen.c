#include "corpora/crossing/seen.h"

#include <stdlib.h>

#include "core/base/memory.h"

/* One more time in front of all that were seen less: the list stays in order. */
static bool count(rt_seen *s, int32_t first, int32_t id, int32_t *last)
{
    int32_t lead = first; /* the first that was seen as often as i */
    for (int32_t i = first; i >= 0; i = s->token[i].next) {
        if (s->token[i].times < s->token[lead].times)
            lead = i;
        if (s->token[i].id == id) {
            s->token[i].id = s->token[lead].id;
            s->token[lead].id = id;
            s->token[lead].times++;
            return true;
        }
        *last = i;
    }
    return false;
}

int rt_seen_add(rt_seen *s, const char *text, int64_t bytes, int32_t id, rt_err *err)
{
    int64_t n = s->map.n, at = rt_bytes_map_put(&s->map, text, bytes, err);
    int32_t last = -1;
    if (at < 0)
        return -1;
    rt_grow(&s->text, &s->cap_text, s->map.n, sizeof *s->text, "texts that were seen");
    if (at == n)
        s->text[at] = (rt_seen_text){ -1, 0 };
    s->text[at].times++;
    if (count(s, s->text[at].first, id, &last))
        return 0;
    rt_grow(&s->token, &s->cap, s->n + 1, sizeof *s->token, "tokens that were seen");
    s->token[s->n] = (rt_seen_token){ id, -1, 1 };
    *(last < 0 ? &s->text[at].first : &s->token[last].next) = (int32_t)s->n;
    s->n++;
    return 0;
}

const rt_seen_text *rt_seen_find(const rt_seen *s, const char *text, int64_t bytes)
{
    int64_t at = rt_bytes_map_find(&s->map, text, bytes);
    return at < 0 ? NULL : &s->text[at];
}

void rt_seen_free(rt_seen *s)
{
    rt_bytes_map_free(&s->map);
    free(s->text);
    free(s->token);
    *s = (rt_seen){ 0 };
}
