/* provenance.h: what a model's own card or GGUF says of where it comes from: licence, base model.
   Read from the front matter of DIR/README.md (https://huggingface.co/docs/hub/model-cards) or from
   general.* keys. Refuses: guessing: what nobody says is not said. */
#ifndef RT_PROVENANCE_H
#define RT_PROVENANCE_H

#include "core/base/err.h"

RT_BEGIN

typedef struct rt_provenance {
    char licence[64], base[160]; /* "apache-2.0", "Qwen/Qwen3-8B"; "" = not said */
} rt_provenance;

/* path: of a model, a directory or a GGUF, that need not be there yet, nor have a card. */
int rt_provenance_read(rt_provenance *p, const char *path, rt_err *err);

RT_END

#endif
