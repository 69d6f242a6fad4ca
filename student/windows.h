/* windows.h: a model on the windows of a llama.cpp base file (core/formats/kld.h): its
   log-probabilities written into one, or held against those of one. Each window is a sequence of
   its own, begun with BOS in place of its first token where the tokenizer puts one, and its second
   half counts, as in llama-perplexity. Refuses: the format (core/formats/kld.h), the figures
   (divergence.h). */
#ifndef RT_WINDOWS_H
#define RT_WINDOWS_H

#include "core/formats/kld.h"
#include "core/network/model.h"
#include "corpora/chat.h"
#include "student/divergence.h"

RT_BEGIN

typedef struct rt_windows {
    rt_dev *d;
    const rt_model *m;
    int64_t window, head_rows;
    int32_t bos; /* that begins every window; -1 = none */
    rt_acts acts;
    rt_arenas arenas;
    float *logits, *reference; /* (head_rows, V) (V) host */
    int32_t *id, *pos;         /* (window) */
} rt_windows;

/* Plans memory; run and compare need it placed. */
void rt_windows_plan(rt_windows *w, rt_dev *d, const rt_model *m, int64_t window, int64_t head_rows,
                     int32_t bos);
int64_t rt_windows_host_bytes(const rt_windows *w);
int rt_windows_place(rt_windows *w, rt_err *err);
void rt_windows_free(rt_windows *w);

/* Appends the tokens of all documents at paths, one after another; limit 0 = all. */
int rt_windows_tokens(rt_ids *ids, const rt_chat *chat, const rt_strlist *paths, int64_t limit,
                      rt_err *err);
/* A file at path, atomic; token (windows, window). keep: other bytes that stand there go to old/.
 */
int rt_windows_write(rt_windows *w, const char *path, const int32_t *token, int64_t windows,
                     bool keep, rt_err *err);
/* Adds every counted token of base to out. */
int rt_windows_compare(rt_windows *w, const rt_kld *base, rt_divergence *out, rt_err *err);

RT_END

#endif
