/* suggest.c: edit distance, and the words of other programs. A new synonym is one line of a table.
 */
#include "core/base/suggest.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { NAME_MAX_BYTES = 64 };

// --------------------------------------------------------------------------------- nearest

static int min3(int a, int b, int c)
{
    int m = a < b ? a : b;
    return m < c ? m : c;
}

// Edits (insert, delete, replace, swap of neighbours) between two short words; large when long.
static int edit_distance(const char *a, const char *b)
{
    size_t na = strlen(a), nb = strlen(b);
    int d[NAME_MAX_BYTES + 1][NAME_MAX_BYTES + 1];
    if (na > NAME_MAX_BYTES || nb > NAME_MAX_BYTES)
        return NAME_MAX_BYTES;
    for (size_t i = 0; i <= na; i++)
        d[i][0] = (int)i;
    for (size_t j = 0; j <= nb; j++)
        d[0][j] = (int)j;
    for (size_t i = 1; i <= na; i++)
        for (size_t j = 1; j <= nb; j++) {
            int cost = a[i - 1] != b[j - 1];
            d[i][j] = min3(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + cost);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = min3(d[i][j], d[i - 2][j - 2] + 1, d[i][j]);
        }
    return d[na][nb];
}

const char *rt_nearest(const char *word, const char *const *names, int n)
{
    size_t length = strlen(word);
    int best = length < 4 ? 1 : length < 6 ? 2 : 3; // the most edits that still look like a typo
    const char *found = NULL;
    for (int i = 0; i < n; i++) {
        bool begins = length >= 3 && !strncmp(word, names[i], length);
        int distance = begins ? 1 : edit_distance(word, names[i]);
        if (distance > best || (found && distance == best))
            continue;
        best = distance;
        found = names[i];
    }
    return found;
}

// --------------------------------------------------------------------------------- synonyms

// What others call an option; several rows of one word: the first that the command has.
static const struct {
    const char *word, *name, *note;
} OPTION[] = {
    { "activation-offloading", "recompute", " (offload)" },
    { "adapter-path", "adapter", "" },
    { "batch", "batch-tokens", " (counted in tokens)" },
    { "batch-size", "batch-tokens", " (counted in tokens)" },
    { "batch-size", "batch", "" },
    { "bs", "batch-tokens", " (counted in tokens)" },
    { "checkpoint", "model", "" },
    { "ckpt", "model", "" },
    { "ctx", "context", "" },
    { "ctx-size", "context", "" },
    { "cutoff-len", "max-length", "" },
    { "dataset", "data", "" },
    { "dataset", "prompts", "" },
    { "dest", "out", "" },
    { "epoch", "steps", " (counted in optimizer steps)" },
    { "epochs", "steps", " (counted in optimizer steps)" },
    { "eval-steps", "eval-every", "" },
    { "force", "fresh", "" },
    { "format", "type", "" },
    { "ftype", "type", "" },
    { "grad-clip", "clip", "" },
    { "gradient-checkpointing", "recompute", "" },
    { "gradient-clip", "clip", "" },
    { "imatrix", "importance", "" },
    { "input", "in", "" },
    { "input", "data", "" },
    { "input", "prompts", "" },
    { "input", "model", "" },
    { "jobs", "threads", "" },
    { "loss-type", "loss", "" },
    { "lr", "learning-rate", "" },
    { "lr-scheduler", "schedule", "" },
    { "lr-scheduler-type", "schedule", "" },
    { "max-completion-tokens", "max-tokens", "" },
    { "max-grad-norm", "clip", "" },
    { "max-iters", "steps", "" },
    { "max-new-tokens", "max-tokens", "" },
    { "max-samples", "limit", "" },
    { "max-seq-len", "max-length", "" },
    { "max-seq-length", "max-length", "" },
    { "max-steps", "steps", "" },
    { "model-name", "model", "" },
    { "model-name", "teacher", "" },
    { "model-name-or-path", "model", "" },
    { "model-name-or-path", "teacher", "" },
    { "model-path", "model", "" },
    { "model-path", "teacher", "" },
    { "model", "teacher", "" },
    { "n", "samples", "" },
    { "n", "limit", "" },
    { "n-ctx", "context", "" },
    { "n-predict", "max-tokens", "" },
    { "num-epochs", "steps", " (counted in optimizer steps)" },
    { "num-samples", "samples", "" },
    { "num-samples", "limit", "" },
    { "num-steps", "steps", "" },
    { "num-threads", "threads", "" },
    { "num-train-epochs", "steps", " (counted in optimizer steps)" },
    { "objective", "loss", "" },
    { "outfile", "out", "" },
    { "output", "out", "" },
    { "output-dir", "out", "" },
    { "output-file", "out", "" },
    { "outtype", "type", "" },
    { "per-device-train-batch-size", "batch-tokens", " (counted in tokens)" },
    { "problems-file", "problems", "" },
    { "prompt-file", "prompts", "" },
    { "quant", "type", "" },
    { "quantization", "type", "" },
    { "ref", "reference", "" },
    { "ref-model", "reference", "" },
    { "repetitions", "samples", "" },
    { "resume", "fresh", " (to start over; a run goes on by itself)" },
    { "save-steps", "save-every", "" },
    { "scheduler", "schedule", "" },
    { "seq-len", "max-length", "" },
    { "seq-length", "max-length", "" },
    { "student", "model", "" },
    { "system-prompt", "system", "" },
    { "teacher", "model", "" },
    { "temp", "temperature", "" },
    { "test-data", "eval-data", "" },
    { "test-data", "problems", "" },
    { "train-data", "data", "" },
    { "train-file", "data", "" },
    { "val-data", "eval-data", "" },
    { "validation-data", "eval-data", "" },
    { "vocab-size", "vocab", "" },
    { "warmup-steps", "warmup", "" },
    { "wd", "weight-decay", "" },
};

// What others call a command, and where that is here.
static const struct {
    const char *word, *where;
} COMMAND[] = {
    { "api", "did you mean serve?" },
    { "ask", "did you mean generate --prompt?" },
    { "benchmark", "did you mean eval?" },
    { "chat", "did you mean generate --chat?" },
    { "complete", "did you mean generate --raw?" },
    { "compress", "did you mean quantize?" },
    { "convert", "did you mean quantize (a model as GGUF)?" },
    { "data", "records are read as they are, see docs/records.md;" },
    { "decode", "did you mean tokenize --decode?" },
    { "distil", "did you mean run (the whole chain) or train?" },
    { "distill", "did you mean run (the whole chain) or train?" },
    { "download", "retort fetches nothing: give commands a model's directory or GGUF;" },
    { "encode", "did you mean tokenize?" },
    { "evaluate", "did you mean eval?" },
    { "evaluation", "did you mean eval?" },
    { "export", "did you mean quantize (a model as GGUF) or archive export (records)?" },
    { "fetch", "retort fetches nothing: give commands a model's directory or GGUF;" },
    { "fine-tune", "did you mean train?" },
    { "finetune", "did you mean train?" },
    { "fit", "did you mean train?" },
    { "gguf", "did you mean quantize?" },
    { "infer", "did you mean generate?" },
    { "inference", "did you mean generate?" },
    { "info", "did you mean inspect (a file) or doctor (this machine)?" },
    { "init", "did you mean train --config (a model that starts at random)?" },
    { "label", "did you mean score?" },
    { "logprobs", "did you mean score?" },
    { "merge", "did you mean archive merge?" },
    { "perplexity", "did you mean eval?" },
    { "predict", "did you mean generate?" },
    { "pretrain", "did you mean train?" },
    { "prompt", "did you mean generate --prompt?" },
    { "pull", "retort fetches nothing: give commands a model's directory or GGUF;" },
    { "repair", "did you mean archive repair?" },
    { "server", "did you mean serve?" },
    { "sft", "did you mean train?" },
    { "show", "did you mean inspect or archive show?" },
    { "stats", "did you mean archive stats?" },
    { "status", "did you mean run RECIPE.json --status?" },
    { "template", "did you mean render?" },
    { "test", "did you mean eval?" },
    { "traces", "did you mean sample?" },
    { "version", "did you mean --version?" },
};

// word in the spelling of a flag: lower case, words joined by '-'.
static void flag_spelling(char out[NAME_MAX_BYTES], const char *word)
{
    snprintf(out, NAME_MAX_BYTES, "%s", word);
    for (char *p = out; *p; p++)
        *p = *p == '_' ? '-' : (char)tolower((unsigned char)*p);
}

static bool has(const char *const *names, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(names[i], name))
            return true;
    return false;
}

const char *rt_suggest_option(char *buf, size_t size, const char *prefix, const char *word,
                              const char *const *names, int n)
{
    char flag[NAME_MAX_BYTES];
    const char *name = NULL, *note = "";
    buf[0] = 0;
    flag_spelling(flag, word);
    if (has(names, n, flag))
        name = flag;
    for (int i = 0; !name && i < RT_COUNT(OPTION); i++)
        if (!strcmp(OPTION[i].word, flag) && has(names, n, OPTION[i].name)) {
            name = OPTION[i].name;
            note = OPTION[i].note;
        }
    if (!name)
        name = rt_nearest(flag, names, n);
    if (!name)
        return buf;
    int length = snprintf(buf, size, "; did you mean %s", prefix);
    snprintf(buf + length, size - (size_t)length, "%s%s?", name, note);
    for (char *p = buf + length; !prefix[0] && *p && *p != ' ' && *p != '?'; p++)
        if (*p == '-')
            *p = '_';
    return buf;
}

const char *rt_suggest_name(char *buf, size_t size, const char *word, const char *const *names,
                            int n)
{
    const char *near = rt_nearest(word, names, n);
    buf[0] = 0;
    if (near)
        snprintf(buf, size, "; did you mean %s?", near);
    return buf;
}

const char *rt_suggest_command(char *buf, size_t size, const char *word, const char *const *names,
                               int n)
{
    char flag[NAME_MAX_BYTES];
    flag_spelling(flag, word);
    for (int i = 0; i < RT_COUNT(COMMAND); i++)
        if (!strcmp(COMMAND[i].word, flag)) {
            snprintf(buf, size, "; %s", COMMAND[i].where);
            return buf;
        }
    return rt_suggest_name(buf, size, word, names, n);
}
