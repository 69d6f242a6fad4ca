/* export_dir.h: a model as a Hugging Face directory of 4-bit codes, for vLLM and transformers: the
   matrices of the blocks packed as packing.h has them, everything else f16, config.json with
   quantization_config, tokenizer and template as the source has them, a card, retort.json.
   Symmetric groups of 32 are the very codes and scales of Q4_0 (one encoding, three deployments);
   f16 because a bf16 scale would be another. Built beside --out, tested, and renamed: killed at any
   moment it leaves nothing under that name. Refuses: routed models, widths that groups do not fill.
 */
#ifndef RT_EXPORT_DIR_H
#define RT_EXPORT_DIR_H

#include "quant/export.h"

RT_BEGIN

/* job->out: the directory. identity: of the work, for retort.json. */
int rt_export_dir(const rt_export *job, const char *identity, rt_export_report *report,
                  rt_err *err);
/* Counts only. */
int rt_export_dir_plan(const rt_export *job, rt_export_report *report, rt_err *err);

RT_END

#endif
