/* modelfile.h: Ollama's Modelfile beside a GGUF (https://docs.ollama.com/modelfile): FROM,
   TEMPLATE, stop words, sampling as generation_config.json has it. Ollama knows some Jinja
   templates by their looks and gives any other model the bare prompt, so the template is said in
   Go's: made from what the model's own template renders of a few conversations, and kept only when
   it renders others to the same text. Refuses: tools, and templates that depend on more than role,
   content and place; a comment says so. */
#ifndef RT_MODELFILE_H
#define RT_MODELFILE_H

#include "quant/conversation.h"

RT_BEGIN

/* The Go template of c's chat template appended to out, "" with the reason in why when it cannot be
   expressed. BOS, where the tokenizer puts it, is left to the runtime. -1: no memory. */
int rt_modelfile_template(const rt_chat *c, rt_text *out, rt_err *why, rt_err *err);

/* The whole file, appended to out, of a GGUF called `gguf`; dir: the model it was made of.
   why->text: the reason there is no TEMPLATE, or "". */
int rt_modelfile_write(rt_text *out, const rt_chat *c, const char *dir, const char *gguf,
                       rt_err *why, rt_err *err);

RT_END

#endif
