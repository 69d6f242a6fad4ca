#include "quant/beside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/formats/output.h"
#include "quant/modelfile.h"
#include "quant/provenance.h"

/* "out.gguf" -> "out" + with; malloc'd. */
static char *beside(const char *out, const char *with)
{
    size_t n = strlen(out), room = n + strlen(with) + 1;
    char *path = rt_alloc((int64_t)room, 1, "a path");
    n -= n > 5 && !strcmp(out + n - 5, ".gguf") ? 5 : 0;
    snprintf(path, room, "%.*s%s", (int)n, out, with);
    return path;
}

int rt_beside_check(const rt_export *job, rt_err *err)
{
    char *modelfile = beside(job->out, ".Modelfile"), *card = beside(job->out, ".md");
    int bad = (job->modelfile && !job->weights_only &&
               rt_output_file(modelfile, RT_OUTPUT_NOTE, job->overwrite, err)) ||
              (job->card && rt_output_file(card, RT_OUTPUT_NOTE, job->overwrite, err));
    free(modelfile);
    free(card);
    return bad ? -1 : 0;
}

static int put_file(const char *path, const rt_text *text, bool keep, rt_err *err)
{
    rt_out out;
    int bad = rt_out_open(&out, path, err);
    if (bad)
        return -1;
    out.keep = keep;
    bad = rt_out_write(&out, text->data, text->bytes, err) || rt_out_commit(&out, err);
    rt_out_abort(&out);
    return bad ? -1 : 0;
}

static int write_modelfile(const rt_export *job, const rt_chat *chat, rt_err *err)
{
    rt_text text = { 0 };
    rt_err why = { 0 };
    char *path = beside(job->out, ".Modelfile");
    int bad = rt_modelfile_write(&text, chat, job->dir, rt_path_base(job->out), &why, err);
    if (!bad && *why.text)
        rt_warn("%s: without TEMPLATE: %s", path, why.text);
    bad = bad || put_file(path, &text, !job->overwrite, err);
    rt_text_free(&text);
    free(path);
    return bad ? -1 : 0;
}

/* ---- the card ---- */

static int put_types(rt_text *t, const rt_export_report *r, rt_err *err)
{
    int bad = rt_text_puts(t, "| type | tensors | bytes |\n|---|---|---|\n", err);
    for (int k = 0; k < RT_DTYPE_COUNT && !bad; k++)
        if (r->type_tensors[k])
            bad = rt_text_printf(t, err, "| %s | %lld | %lld |\n", rt_dtype_get((rt_dtype)k)->name,
                                 (long long)r->type_tensors[k], (long long)r->type_bytes[k]);
    return bad;
}

static int put_test(rt_text *t, const rt_export *job, const rt_export_report *r, rt_err *err)
{
    if (!r->test.rows)
        return rt_text_puts(t, "\nIt was not tested (--self-test off).\n", err);
    if (!r->test.tokens)
        return rt_text_printf(
            t, err,
            "\n%lld rows of its weights were read back when it was written; retort does "
            "not run this format, so its logits were not compared.\n",
            (long long)r->test.rows);
    return rt_text_printf(t, err,
                          "\nMeasured when it was written, on %lld tokens of %s: KL to the source "
                          "%.5f nats, the same most "
                          "probable token %.1f %% of the time. That tells a whole file from a "
                          "broken one; for quality, measure "
                          "on your own task: `retort eval`.\n",
                          (long long)r->test.tokens,
                          job->weights_only ? "no text"
                          : job->test_text  ? "texts of its user's"
                                            : "built-in text",
                          r->test.kl, 100 * r->test.top1);
}

static int put_card(rt_text *t, const rt_export *job, const rt_export_report *r, const char *type,
                    const char *how, rt_err *err)
{
    rt_provenance from;
    char count[32];
    if (rt_provenance_read(&from, job->dir, err))
        return -1;
    rt_fmt_count(count, sizeof count, (double)r->parameters);
    return rt_text_puts(t, "---\npipeline_tag: text-generation\ntags: [quantized, retort]\n",
                        err) ||
           (*from.licence && rt_text_printf(t, err, "license: %s\n", from.licence)) ||
           (*from.base && rt_text_printf(t, err, "base_model: %s\n", from.base)) ||
           rt_text_printf(t, err,
                          "---\n\n# %s, %s\n\nWritten by retort %s from %s (%s, %s parameters): "
                          "%.4f bits a weight, "
                          "%lld bytes, context %lld tokens.\n\n",
                          job->name ? job->name : rt_path_base(job->out), type, RT_VERSION,
                          rt_path_base(job->dir), r->cfg.family->architecture, count,
                          8 * (double)r->tensor_bytes / (double)r->parameters,
                          (long long)r->file_bytes, (long long)r->cfg.max_positions) ||
           put_types(t, r, err) ||
           rt_text_printf(t, err, "\nRelative error of the matrices: %.5f.\n", r->error) ||
           (r->weighed &&
            rt_text_printf(t, err,
                           "%lld matrices were fitted with the inputs that calibration "
                           "text gives them.\n",
                           (long long)r->weighed)) ||
           (r->requantized &&
            rt_text_printf(t, err, "%lld matrices of the source were quantized already.\n",
                           (long long)r->requantized)) ||
           put_test(t, job, r, err) ||
           (*r->test.stop && rt_text_printf(t, err, "\nAnswers end with `%s`.\n", r->test.stop)) ||
           rt_text_puts(t, how, err);
}

int rt_beside_card(const char *path, const rt_export *job, const rt_export_report *report,
                   const char *type, const char *how, bool keep, rt_err *err)
{
    rt_text text = { 0 };
    int bad = put_card(&text, job, report, type, how, err) || put_file(path, &text, keep, err);
    rt_text_free(&text);
    return bad ? -1 : 0;
}

static int write_card(const rt_export *job, const rt_export_report *report, rt_err *err)
{
    char *path = beside(job->out, ".md"), *modelfile = beside(rt_path_base(job->out), ".Modelfile");
    rt_text how = { 0 };
    int bad = rt_text_printf(&how, err, "\n    llama-cli -m %s\n", rt_path_base(job->out)) ||
              (job->modelfile && !job->weights_only &&
               rt_text_printf(&how, err, "    ollama create NAME -f %s\n", modelfile)) ||
              rt_beside_card(path, job, report, job->mix->name, how.data, !job->overwrite, err);
    rt_text_free(&how);
    free(path);
    free(modelfile);
    return bad ? -1 : 0;
}

int rt_beside_write(const rt_export *job, const rt_chat *chat, const rt_export_report *report,
                    rt_err *err)
{
    return (job->modelfile && !job->weights_only && write_modelfile(job, chat, err)) ||
                   (job->card && write_card(job, report, err))
               ? -1
               : 0;
}
