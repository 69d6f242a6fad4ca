#include "corpora/integrity.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/log.h"
#include "core/base/process.h"
#include "core/formats/gguf.h"
#include "core/formats/listing.h"
#include "core/formats/safetensors.h"
#include "corpora/archive/trace.h"

enum { DEPTH_MAX = 16 };

static void found(rt_integrity *c, rt_integrity_kind kind, const char *fmt, ...) RT_PRINTF(3, 4);
static void found(rt_integrity *c, rt_integrity_kind kind, const char *fmt, ...)
{
    char text[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    *(kind == RT_DAMAGED ? &c->damaged : &c->unknown) += 1;
    if (c->report)
        c->report(c->ctx, kind, text);
}

/* Nothing was found since there were `before` findings. */
static void whole(rt_integrity *c, int64_t before, const char *path)
{
    if (c->report && c->damaged + c->unknown == before)
        c->report(c->ctx, RT_WHOLE, path);
}

static const char NO_CHECKSUMS[] =
    "no checksums in it, so another program or an older retort wrote "
    "it: only its structure was checked";

// ---- files of weights ----

enum { SLOW = 512 << 20 }; // bytes that take so long that one wants to see them pass

typedef struct reading {
    rt_progress progress;
    const char *path;
    int64_t done;
    bool shown;
} reading;

static reading reading_begin(const rt_integrity *c, const char *path, int64_t bytes)
{
    reading r = { .path = path, .shown = c->progress && bytes >= SLOW };
    if (r.shown)
        rt_progress_begin(&r.progress, "verify", 0, bytes >> 20);
    return r;
}

static int reading_next(rt_integrity *c, reading *r, int64_t bytes, rt_err *err)
{
    if (rt_interrupted())
        return rt_fail(err, "interrupted");
    r->done += bytes;
    if (r->shown)
        rt_progress_update(&r->progress, r->done >> 20, "MiB of %s", rt_path_base(r->path));
    c->tensors++;
    return 0;
}

static void reading_end(rt_integrity *c, reading *r, int64_t bytes)
{
    if (r->shown)
        rt_progress_end(&r->progress);
    c->bytes += bytes;
}

static int check_safetensors(rt_integrity *c, const char *path, rt_err *err)
{
    rt_safetensors st;
    rt_err why;
    int bad = 0;
    if (rt_safetensors_open(&st, path, &why)) {
        found(c, RT_DAMAGED, "%s", why.text);
        return 0;
    }
    reading r = reading_begin(c, path, st.map[0].bytes);
    for (int64_t i = 0; !bad && i < st.n_tensors; i++) {
        if (rt_safetensors_check(&st, &st.tensor[i], &why))
            found(c, RT_DAMAGED, "%s", why.text);
        bad = reading_next(c, &r, st.tensor[i].bytes, err);
    }
    reading_end(c, &r, st.map[0].bytes);
    if (!*rt_safetensors_header(&st, 0))
        found(c, RT_UNKNOWN, "%s: %s", path, NO_CHECKSUMS);
    rt_safetensors_close(&st);
    return bad;
}

/* What lies between the tensors of a file of ours, and behind the last. */
static void check_padding(rt_integrity *c, const rt_gguf *g)
{
    const rt_gguf_tensor *last = g->n_tensors ? &g->tensor[g->n_tensors - 1] : NULL;
    for (int64_t i = 0; i < g->n_tensors; i++) {
        int64_t at = g->tensor[i].offset + g->tensor[i].bytes, end = rt_align_up(at, g->alignment);
        for (; at < rt_min(end, g->map.bytes); at++)
            if (g->map.data[at]) {
                found(c, RT_DAMAGED, "%s: byte %lld: padding that is not zero", g->path,
                      (long long)at);
                break;
            }
    }
    if (last && rt_align_up(last->offset + last->bytes, g->alignment) != g->map.bytes)
        found(c, RT_DAMAGED, "%s: %lld bytes, not those that were written", g->path,
              (long long)g->map.bytes);
}

static int check_gguf(rt_integrity *c, const char *path, rt_err *err)
{
    rt_gguf g;
    rt_err why;
    int bad = 0;
    if (rt_gguf_open(&g, path, &why)) {
        found(c, RT_DAMAGED, "%s", why.text);
        return 0;
    }
    reading r = reading_begin(c, path, g.map.bytes);
    for (int64_t i = 0; !bad && i < g.n_tensors; i++) {
        if (rt_gguf_check(&g, &g.tensor[i], &why))
            found(c, RT_DAMAGED, "%s", why.text);
        bad = reading_next(c, &r, g.tensor[i].bytes, err);
    }
    reading_end(c, &r, g.map.bytes);
    if (g.rewritten)
        found(c, RT_DAMAGED, "%s: not the file that retort wrote: another program wrote it anew",
              path);
    else if (rt_gguf_find_key(&g, RT_GGUF_HEADER_KEY))
        check_padding(c, &g);
    else
        found(c, RT_UNKNOWN, "%s: %s", path, NO_CHECKSUMS);
    rt_gguf_close(&g);
    return bad;
}

static bool ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n > m && !strcmp(s + n - m, suffix);
}

/* 1: not a file of weights. */
static int check_file(rt_integrity *c, const char *path, rt_err *err)
{
    bool gguf = rt_gguf_is(path);
    if (!gguf && !ends_with(path, ".safetensors"))
        return 1;
    if (c->from_disk)
        rt_file_forget(path);
    c->files++;
    int64_t before = c->damaged + c->unknown;
    int bad = gguf ? check_gguf(c, path, err) : check_safetensors(c, path, err);
    if (!bad)
        whole(c, before, path);
    return bad;
}

// ---- directories ----

typedef struct archive {
    rt_integrity *c;
    const char *path;
} archive;

static void add_trace_finding(void *ctx, const char *id, const char *text)
{
    archive *a = ctx;
    found(a->c, RT_DAMAGED, "%s: %s%s%s%s", a->path, text, id ? " (" : "", id ? id : "",
          id ? ")" : "");
}

static int64_t size_of(const char *path)
{
    rt_err ignored;
    int64_t bytes;
    return rt_path_size(path, &bytes, &ignored) ? 0 : bytes;
}

static int check_archive(rt_integrity *c, const char *path, rt_err *err)
{
    archive a = { c, path };
    char **name;
    int n;
    if (rt_dir_list(&name, &n, path, err))
        return -1;
    for (int i = 0; i < n; i++) {
        char *file = rt_path_join(path, name[i]);
        if (c->from_disk)
            rt_file_forget(file);
        c->bytes += size_of(file);
        free(file);
    }
    rt_names_free(name, n);
    c->files++;
    int64_t before = c->damaged + c->unknown;
    int bad = rt_trace_verify(path, add_trace_finding, &a, err) < 0 ? -1 : 0;
    if (!bad)
        whole(c, before, path);
    return bad;
}

static void add_listing_finding(void *ctx, const char *text) { found(ctx, RT_DAMAGED, "%s", text); }

/* The small files of a directory of ours, and that the weights are the ones that go with them. */
static void check_listing(rt_integrity *c, const char *dir)
{
    char *config = rt_path_join(dir, "config.json"), *card = rt_path_join(dir, "retort.json");
    rt_listing l;
    rt_err why;
    if (rt_path_exists(card) || rt_path_exists(config)) {
        int64_t before = c->damaged + c->unknown;
        c->files++;
        if (rt_listing_read(&l, dir, &why))
            found(c, RT_DAMAGED, "%s", why.text);
        else if (!l.json)
            found(c, RT_UNKNOWN, "%s: its small files: %s", dir, NO_CHECKSUMS);
        else
            rt_listing_verify(&l, dir, add_listing_finding, c);
        whole(c, before, dir);
        cJSON_Delete(l.json);
    }
    free(config);
    free(card);
}

static bool is_link(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

static int check_folder(rt_integrity *c, const char *path, int depth, rt_err *err)
{
    char *journal = rt_path_join(path, "journal"), **name;
    bool is_archive = rt_trace_is(path) || ends_with(path, ".traces") || rt_path_exists(journal);
    int n, bad = 0;
    free(journal);
    if (is_archive)
        return check_archive(c, path, err);
    check_listing(c, path);
    if (rt_dir_list(&name, &n, path, err))
        return -1;
    for (int i = 0; bad >= 0 && i < n; i++) {
        char *inner = rt_path_join(path, name[i]);
        if (!rt_path_is_dir(inner))
            bad = strstr(name[i], ".tmp.") ? 0 : check_file(c, inner, err);
        else if (ends_with(name[i], ".traces.damaged"))
            found(c, RT_UNKNOWN, "%s: set aside by 'retort archive repair'; yours to remove",
                  inner);
        else if (depth < DEPTH_MAX && !is_link(inner))
            bad = check_folder(c, inner, depth + 1, err);
        free(inner);
    }
    rt_names_free(name, n);
    return bad < 0 ? -1 : 0;
}

int rt_integrity_check(rt_integrity *c, const char *path, rt_err *err)
{
    int64_t before = c->files;
    if (!rt_path_exists(path))
        return rt_fail(err, "%s: no such file or directory", path);
    int bad = rt_path_is_dir(path) ? check_folder(c, path, 0, err) : check_file(c, path, err);
    if (bad < 0)
        return -1;
    return c->files > before ? 0
                             : rt_fail(err,
                                       "%s: nothing with checksums in it: an archive, a model "
                                       "directory, a checkpoint or a GGUF can be verified",
                                       path);
}

static void keep_first(void *ctx, rt_integrity_kind kind, const char *text)
{
    rt_err *err = ctx;
    if (kind == RT_DAMAGED && !err->exit_code)
        rt_fail(err, "%s", text);
}

int rt_integrity_whole(const char *path, rt_err *err)
{
    rt_err first = { 0 };
    rt_integrity c = { .report = keep_first, .ctx = &first, .from_disk = true };
    if (rt_integrity_check(&c, path, err))
        return -1;
    if (!c.damaged)
        return 0;
    *err = first;
    return -1;
}
