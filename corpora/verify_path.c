/* verify_path.c: the command `retort verify PATH...`. Thin: paths in, findings out, one a line.
   Refuses: answers, which corpora/verify/verify.h judges, and repairing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/option.h"
#include "corpora/integrity.h"

typedef struct verify_options {
    rt_strlist paths;
    bool json;
} verify_options;

static const rt_option OPTIONS[] = {
    OPT_LIST(verify_options, paths, "path", "PATH...",
             "archives, model directories, checkpoints, GGUFs, or folders of such", RT_OPT_INPUT),
    OPT_BOOL(verify_options, json, "json", "false", "the report as JSON on stdout", RT_OPT_FREE),
};

typedef struct findings {
    const char *path;                 // what was named
    cJSON *damaged, *unknown, *whole; // NULL: print them
} findings;

static void add_finding(void *ctx, rt_integrity_kind kind, const char *text)
{
    findings *f = ctx;
    cJSON *lists[] = {
        [RT_DAMAGED] = f->damaged, [RT_UNKNOWN] = f->unknown, [RT_WHOLE] = f->whole
    };
    if (lists[kind])
        rt_json_put(lists[kind], NULL, cJSON_CreateString(text));
    else if (kind != RT_WHOLE)
        puts(text);
    else if (strcmp(text, f->path))
        printf("%s: whole\n", text);
}

static void print_whole(const char *path, const rt_integrity *c)
{
    char bytes[32];
    if (!c->damaged && !c->unknown)
        printf("%s: whole, %s read\n", path, rt_fmt_bytes(bytes, sizeof bytes, c->bytes));
}

static int verify_one(const verify_options *o, const char *path, cJSON *all, int64_t *damaged,
                      rt_err *err)
{
    findings f = { .path = path };
    if (o->json)
        f = (findings){ path, rt_json_array(), rt_json_array(), rt_json_array() };
    rt_integrity c = { .report = add_finding, .ctx = &f, .progress = true, .from_disk = true };
    int bad = rt_integrity_check(&c, path, err);
    *damaged += c.damaged;
    if (o->json) {
        cJSON *one = rt_json_object();
        rt_json_put_str(one, "path", path);
        rt_json_put_i64(one, "files", c.files);
        rt_json_put_i64(one, "tensors", c.tensors);
        rt_json_put_i64(one, "bytes", c.bytes);
        rt_json_put(one, "damaged", f.damaged);
        rt_json_put(one, "without_checksums", f.unknown);
        rt_json_put(one, "whole", f.whole);
        rt_json_put(all, NULL, one);
    } else if (!bad) {
        print_whole(path, &c);
    }
    return bad;
}

static int run_verify(void *options, rt_err *err)
{
    const verify_options *o = options;
    cJSON *all = rt_json_array();
    int64_t damaged = 0;
    int bad = 0, missed = 0;
    if (o->paths.n == 0)
        bad = rt_usage(err, "name what to verify: retort verify PATH...");
    for (int i = 0; !bad && i < o->paths.n; i++) {
        bad = verify_one(o, o->paths.item[i], all, &damaged, err);
        if (bad && o->paths.n > 1 && !rt_interrupted()) { // the others are worth reading
            rt_warn("%s", err->text);
            missed++;
            bad = 0;
        }
    }
    if (o->json && !bad)
        rt_json_print(all);
    cJSON_Delete(all);
    if (!bad && damaged)
        bad = rt_fail(err, "%lld %s damaged; nothing else was found wrong", (long long)damaged,
                      damaged == 1 ? "thing is" : "things are");
    if (!bad && missed)
        bad = rt_fail(err, "%d of %d paths could not be verified; what else was named is whole",
                      missed, o->paths.n);
    return bad ? -1 : 0;
}

const rt_command rt_command_verify = { .name = "verify",
                                       .help = "is what retort wrote still what it wrote?",
                                       .group = "models and tokenizers",
                                       .options = OPTIONS,
                                       .n_options = RT_COUNT(OPTIONS),
                                       .struct_bytes = sizeof(verify_options),
                                       .positional = "path",
                                       .run = run_verify,
                                       .example = "retort verify student.gguf" };
