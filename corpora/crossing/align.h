/* align.h: two ways to cut the same bytes into tokens, cut together where both have a boundary. The
   groups are minimal (no boundary of both inside one), in order, and every token of either side and
   every byte is in exactly one. Tokens of no bytes join the group that follows them, at the end the
   last one. Owns no text: ends of tokens alone decide. */
#ifndef RT_ALIGN_H
#define RT_ALIGN_H

#include "core/base/base.h"

RT_BEGIN

typedef struct rt_align_group {
    int64_t t_begin, t_end; /* tokens of the teacher's ... */
    int64_t s_begin, s_end; /* ... over the same bytes as these of the student's */
} rt_align_group;

/* t_end (n_t), s_end (n_s): where each token ends, ascending, counted from one beginning to one end.
   *g is the group that begins with tokens g->t_end and g->s_end of before; zero it to begin.
   false: there is none. A last group may lack tokens of one side when the bytes do. */
bool rt_align_next(rt_align_group *g, const int64_t *t_end, int64_t n_t, const int64_t *s_end,
                   int64_t n_s);

RT_END

#endif
