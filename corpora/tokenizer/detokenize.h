/* detokenize.h: the decoder of tokenizer.json: spellings of tokens -> bytes, exactly. Unlike the
   reference it never puts U+FFFD for bytes that are no UTF-8: a token may end inside a character.
 */
#ifndef RT_DETOKENIZE_H
#define RT_DETOKENIZE_H

#include "corpora/tokenizer/pipeline.h"

RT_BEGIN

/* Append what n pieces stand for. plain[i]: piece i is an added token, text that byte-level
   decoding leaves alone. No steps: pieces joined by spaces, as the reference does. */
int rt_detokenize(const rt_steps *s, const rt_matcher *m, const rt_str *piece, const bool *plain,
                  int64_t n, rt_text *out, rt_err *err);

RT_END

#endif
