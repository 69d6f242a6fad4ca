/* trace_care.c: archives made from archives: rebuild in index order, repair, merge. All three
   gather the samples of some readers by index and write them anew beside the old, which changes
   place only when the new one is whole. Refuses: touching a sample's content. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/path.h"
#include "core/formats/kind.h"
#include "corpora/archive/trace_inside.h"

// ---- directories ----

static char *with_suffix(const char *path, const char *suffix)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    char *out = rt_alloc((int64_t)(n + strlen(suffix) + 1), 1, "a path");
    memcpy(out, path, n);
    strcpy(out + n, suffix);
    return out;
}

int rt_trace_there(const char *path, rt_err *err)
{
    static const char *const PARTS[] = { "manifest.json", "journal", "shard-00000.npz" };
    for (int i = 0; i < RT_COUNT(PARTS); i++) {
        char *part = rt_path_join(path, PARTS[i]);
        bool there = rt_path_exists(part);
        free(part);
        if (there)
            return 0;
    }
    return rt_kind_fail(path, "a trace archive",
                        "a directory NAME.traces with a manifest.json is needed", err);
}

char *rt_trace_rebuild_path(const char *path) { return with_suffix(path, ".rebuild"); }

static int sync_parent(const char *path, rt_err *err)
{
    char *clean = with_suffix(path, "");
    char *slash = strrchr(clean, '/');
    if (slash)
        slash[slash == clean] = '\0';
    int rc = rt_dir_sync(slash ? clean : ".", err);
    free(clean);
    return rc;
}

static bool ours(const char *name)
{
    return strcmp(name, "manifest.json") == 0 || strcmp(name, "journal") == 0 ||
           strcmp(name, "lock") == 0 || strstr(name, ".tmp.") != NULL ||
           (strncmp(name, "shard-", 6) == 0 && strstr(name, ".npz") != NULL);
}

int rt_trace_remove(const char *path, rt_err *err)
{
    char **names;
    int n, rc = 0;
    if (rt_dir_list(&names, &n, path, err))
        return -1;
    for (int i = 0; i < n && !rc; i++) {
        char *file = rt_path_join(path, names[i]);
        if (ours(names[i]) && unlink(file))
            rc = rt_fail(err, "%s: cannot remove: %s", file, rt_errno_text(errno));
        free(file);
    }
    rt_names_free(names, n);
    if (!rc && rmdir(path))
        rt_warn("%s: left in place, it holds files that are not the archive's", path);
    return rc;
}

static int move(const char *from, const char *to, rt_err *err)
{
    if (rename(from, to))
        return rt_fail(err, "%s: cannot move to %s: %s", from, to, rt_errno_text(errno));
    return sync_parent(to, err);
}

int rt_trace_exchange(const char *a, const char *b, rt_err *err)
{
    if (renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0)
        return sync_parent(b, err);
    // a file system without it: in the gap `a` is whole, and opening for append would put it there
    char *old = with_suffix(b, ".old");
    int rc = move(b, old, err) || move(a, b, err) || move(old, a, err);
    free(old);
    return rc ? -1 : 0;
}

// ---- samples by index ----

typedef struct source {
    int64_t index, i;
    uint64_t hash;
    int reader;
} source;

static int by_index(const void *a, const void *b)
{
    const source *x = a, *y = b;
    if (x->index != y->index)
        return x->index < y->index ? -1 : 1;
    return x->reader != y->reader ? x->reader - y->reader : x->i < y->i ? -1 : 1;
}

static int pieces_of(const rt_trace_reader *r, int64_t i, rt_trace_place *place, void *ctx,
                     rt_trace_pieces *p, rt_text *line, rt_err *err)
{
    rt_text_clear(line);
    if (rt_trace_reader_pieces(r, i, p, err))
        return -1;
    return place ? rt_trace_pieces_place(&r->codec, p, place, ctx, line, err) : 0;
}

static int gather(source **out, int64_t *n, rt_trace_reader *const *readers, int n_readers,
                  rt_trace_place *place, void *ctx, rt_err *err)
{
    rt_text line = { 0 };
    int64_t total = 0, at = 0;
    for (int k = 0; k < n_readers; k++)
        total += rt_trace_count(readers[k]);
    source *list = rt_alloc(total, sizeof *list, "a list of samples");
    for (int k = 0; k < n_readers; k++)
        for (int64_t i = 0; i < rt_trace_count(readers[k]); i++) {
            rt_trace_pieces p;
            if (pieces_of(readers[k], i, place, ctx, &p, &line, err)) {
                free(list);
                rt_text_free(&line);
                return -1;
            }
            list[at++] = (source){ p.index, i, p.hash, k };
        }
    rt_text_free(&line);
    qsort(list, (size_t)total, sizeof *list, by_index);
    *out = list;
    *n = total;
    return 0;
}

int rt_trace_rebuild(rt_trace_writer **w, const char *path, rt_trace_reader *const *readers, int n,
                     const rt_trace_manifest *m, rt_trace_place *place, void *ctx, rt_err *err)
{
    source *list = NULL;
    rt_text line = { 0 };
    int64_t total = 0;
    *w = NULL;
    if (rt_path_exists(path) && rt_trace_remove(path, err))
        return -1;
    if (gather(&list, &total, readers, n, place, ctx, err))
        return -1;
    int rc = rt_trace_open_append(w, path, m, err);
    for (int64_t i = 0; !rc && i < total; i++) {
        rt_trace_pieces p;
        bool again = i > 0 && list[i].index == list[i - 1].index;
        if (rt_interrupted())
            rc = rt_fail_interrupted(err, "writing", path);
        else if (again && list[i].hash != list[i - 1].hash)
            rc = rt_fail(err,
                         "two different samples have plan index %lld: these archives are not "
                         "parts of one plan",
                         (long long)list[i].index);
        if (!rc && !again)
            rc = pieces_of(readers[list[i].reader], list[i].i, place, ctx, &p, &line, err) ||
                 rt_trace_append_pieces(*w, &p, err);
    }
    free(list);
    rt_text_free(&line);
    if (rc) {
        rt_err ignored;
        rt_trace_close(*w, &ignored);
        *w = NULL;
    }
    return rc ? -1 : 0;
}

static int write_anew(const char *path, rt_trace_reader *const *readers, int n,
                      const rt_trace_manifest *m, bool finish, rt_err *err)
{
    rt_trace_writer *w = NULL;
    int rc = rt_trace_rebuild(&w, path, readers, n, m, NULL, NULL, err);
    if (!rc && finish)
        rc = rt_trace_finish(w, err);
    return rt_trace_close(w, err) || rc ? -1 : 0;
}

// ---- repair ----

// The rebuilt samples in fresh, the damaged archive aside, the rebuilt one in its place.
static int replace(const char *path, rt_trace_reader *r, bool finish, rt_err *err)
{
    char *fresh = rt_trace_rebuild_path(path), *damaged = with_suffix(path, ".damaged");
    int rc = rt_path_exists(damaged)
                 ? rt_fail(err, "%s: stands there from an earlier repair; move it away first",
                           damaged)
                 : write_anew(fresh, &r, 1, rt_trace_info(r), finish, err) ||
                       move(path, damaged, err) || move(fresh, path, err);
    free(fresh);
    free(damaged);
    return rc ? -1 : 0;
}

static int64_t repair(const char *path, rt_trace_report *report, void *ctx, rt_err *err)
{
    rt_trace_reader *whole;
    int64_t lost;
    int lock = -1;
    if (rt_trace_there(path, err) || rt_dir_lock(&lock, path, err))
        return -1;
    int64_t problems = rt_trace_inspect(&whole, &lost, path, report, ctx, err);
    int rc = problems < 0 ? -1 : 0;
    if (problems > 0)
        rc = whole ? replace(path, whole, lost == 0 && whole->manifest.complete, err)
                   : rt_fail(err,
                             "%s: neither manifest.json nor any shard says how this archive was "
                             "made; nothing can be repaired",
                             path);
    rt_trace_reader_close(whole);
    close(lock);
    return rc ? -1 : lost;
}

int64_t rt_trace_repair(const char *path, rt_trace_report *report, void *ctx, rt_err *err)
{
    char *real = rt_path_target(path);
    int64_t lost = repair(real, report, ctx, err);
    free(real);
    return lost;
}

// ---- merge ----

static int check_parts(rt_trace_reader *const *readers, const char *const *paths, int n,
                       rt_err *err)
{
    const rt_trace_manifest *first = rt_trace_info(readers[0]);
    for (int k = 1; k < n; k++)
        if (rt_trace_manifest_same(rt_trace_info(readers[k]), first, RT_MAY_PART, paths[k], err))
            return -1;
    for (int32_t part = 0; first->parts > 1 && part < first->parts; part++) {
        int seen = 0;
        for (int k = 0; k < n; k++)
            seen += rt_trace_info(readers[k])->part == part;
        if (seen != 1)
            return rt_fail(err, "part %d of %d is given %d times; every part is needed once",
                           (int)part, (int)first->parts, seen);
    }
    return 0;
}

/* Whether the archive at out holds what merging the readers would write: a merge that was killed
   after its last rename. */
static bool merged_already(const char *out, rt_trace_reader *const *readers, int n,
                           const rt_trace_manifest *m, bool complete)
{
    rt_trace_reader *there;
    source *want = NULL, *have = NULL;
    int64_t n_want, n_have, at = 0;
    rt_err ignored;
    if (rt_trace_open_read(&there, out, &ignored))
        return false;
    bool same = !rt_trace_manifest_same(rt_trace_info(there), m, false, out, &ignored) &&
                rt_trace_info(there)->complete == complete &&
                !gather(&want, &n_want, readers, n, NULL, NULL, &ignored) &&
                !gather(&have, &n_have, &there, 1, NULL, NULL, &ignored);
    for (int64_t i = 0; same && i < n_want; i++) {
        bool again = i > 0 && want[i].index == want[i - 1].index;
        same = again ? want[i].hash == want[i - 1].hash
                     : at < n_have && have[at].index == want[i].index &&
                           have[at].hash == want[i].hash;
        at += !again;
    }
    same = same && at == n_have;
    free(want);
    free(have);
    rt_trace_reader_close(there);
    return same;
}

int rt_trace_merge(const char *out, const char *const *paths, int n, rt_err *err)
{
    if (n < 1)
        return rt_usage(err, "merge: name the archives to merge");
    rt_trace_reader **readers = rt_alloc(n, sizeof *readers, "archives");
    char *temp = with_suffix(out, ".merge");
    bool complete = true;
    int rc = 0;
    for (int k = 0; !rc && k < n; k++) {
        rc = rt_trace_open_read(&readers[k], paths[k], err);
        complete = !rc && complete && rt_trace_info(readers[k])->complete;
    }
    if (!rc)
        rc = check_parts(readers, paths, n, err);
    if (!rc) {
        rt_trace_manifest m = *rt_trace_info(readers[0]);
        m.part = 0;
        m.parts = 1;
        bool there = rt_path_exists(out),
             same = there && merged_already(out, readers, n, &m, complete);
        if (same)
            rt_info("%s: merged already; nothing to do", out);
        else if (there)
            rc = rt_fail(err, "%s: stands there already; name a new archive", out);
        else
            rc = write_anew(temp, readers, n, &m, complete, err) || move(temp, out, err);
        if (!rc && !same && !complete)
            rt_warn("%s: not every input was finished, so the merged archive is not either", out);
    }
    for (int k = 0; k < n; k++)
        rt_trace_reader_close(readers[k]);
    free(readers);
    free(temp);
    return rc ? -1 : 0;
}
