#include "corpora/crossing/align.h"

bool rt_align_next(rt_align_group *g, const int64_t *t_end, int64_t n_t, const int64_t *s_end,
                   int64_t n_s)
{
    int64_t t = g->t_begin = g->t_end, s = g->s_begin = g->s_end;
    int64_t from = t ? t_end[t - 1] : s ? s_end[s - 1] : 0, to_t = from, to_s = from;
    if (t == n_t && s == n_s)
        return false;
    do { /* the side that is behind takes its next token */
        bool teacher = (to_t <= to_s && t < n_t) || s == n_s;
        if (teacher)
            to_t = t_end[t++];
        else
            to_s = s_end[s++];
    } while ((t < n_t || s < n_s) && (to_t != to_s || to_t == from));
    /* what is left has no bytes of its own */
    bool over = (t == n_t || t_end[n_t - 1] == to_t) && (s == n_s || s_end[n_s - 1] == to_s);
    g->t_end = over ? n_t : t;
    g->s_end = over ? n_s : s;
    return true;
}
