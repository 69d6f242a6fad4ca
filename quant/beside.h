/* beside.h: what stands beside an exported model for those who run it: NAME.Modelfile for Ollama,
   and a card for people, NAME.md (README.md of a directory). Every figure in them was measured by
   this export. No clock and no path of the machine in either: the same run writes the same bytes.
   Refuses: replacing a file of that name that retort did not write. */
#ifndef RT_BESIDE_H
#define RT_BESIDE_H

#include "quant/export.h"

RT_BEGIN

/* Whether they may be written, looked at before any work; job->out is a .gguf. */
int rt_beside_check(const rt_export *job, rt_err *err);
/* Both, as job->modelfile and job->card say. */
int rt_beside_write(const rt_export *job, const rt_chat *chat, const rt_export_report *report,
                    rt_err *err);
/* A card alone, at path; type: in words, format: of the whole. */
int rt_beside_card(const char *path, const rt_export *job, const rt_export_report *report,
                   const char *type, const char *how, bool keep, rt_err *err);

RT_END

#endif
