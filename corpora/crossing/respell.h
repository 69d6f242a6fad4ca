/* respell.h: a sample of an archive in the words of another model: its conversation through the
   student's chat template and tokenizer, the response as the teacher wrote it, byte by byte; and
   which stretches of tokens stand for the same bytes on both sides. Markers of thoughts and ends of
   turns are the student's own. A thought that the teacher's prompt had opened already is opened in
   the response, one that the student's prompt opens is not opened again; the channels of harmony
   become a thought and an answer.
   Refuses: students that speak harmony where the teacher does not, samples without messages. */
#ifndef RT_RESPELL_H
#define RT_RESPELL_H

#include "corpora/archive/trace.h"
#include "corpora/crossing/vocab_map.h"

RT_BEGIN

/* Tokens [t_begin, t_end) of the sample and [s_begin, s_end) of its respelling: the same bytes, but
   for a space that SentencePiece puts in front of either; or one token each of the same role. */
typedef struct rt_stretch {
    int32_t t_begin, t_end, s_begin, s_end;
} rt_stretch;

enum { RT_STRETCH_IDS = sizeof(rt_stretch) / sizeof(int32_t) };

/* s: with its texts. Appends the document's ids, begin and end of each span to learn (counted from
   the first of these ids) and its stretches (rt_stretch as ids, ascending, disjoint, within spans or
   not). all: earlier turns of the assistant's are learned too, when the sample teaches as many as the
   student's template writes. Nothing is appended for a sample of which nothing is learned; one of
   which its response is not is refused. */
int rt_respell(const rt_vocab_map *m, const rt_chat *teacher, const rt_chat *student,
               const rt_trace_sample *s, bool all, rt_ids *ids, rt_ids *spans, rt_ids *stretches,
               rt_err *err);

/* Where the tokens ids[0 .. n) end, in bytes; those of a stretch, whose first piece has `skip` bytes
   that the other side has not. */
void rt_stretch_ends(const rt_pieces *p, const int32_t *ids, int64_t n, int64_t skip, int64_t *end);
/* Whether both sides are the same bytes; *t_skip and *s_skip: of a leading space. */
bool rt_stretch_same(const rt_vocab_map *m, const int32_t *t, int64_t n_t, const int32_t *s,
                     int64_t n_s, int64_t *t_skip, int64_t *s_skip);

RT_END

#endif
