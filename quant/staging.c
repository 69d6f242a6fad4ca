#include "quant/staging.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/path.h"
#include "core/formats/output.h"

static void remove_dir(const char *dir)
{
    char **name;
    int n;
    rt_err ignored;
    if (!rt_dir_list(&name, &n, dir, &ignored)) {
        for (int i = 0; i < n; i++) {
            char *path = rt_path_join(dir, name[i]);
            unlink(path);
            free(path);
        }
        rt_names_free(name, n);
    }
    rmdir(dir);
}

/* OUT.tmp.PID of processes that are gone. */
static void remove_leftovers(const char *out)
{
    char **name, *parent = rt_path_parent(out);
    int n;
    rt_err ignored;
    size_t length = strlen(rt_path_base(out));
    if (!rt_dir_list(&name, &n, parent, &ignored)) {
        for (int i = 0; i < n; i++) {
            char *end = NULL;
            long pid = strncmp(name[i], rt_path_base(out), length) ||
                               strncmp(name[i] + length, ".tmp.", 5)
                           ? 0
                           : strtol(name[i] + length + 5, &end, 10);
            if (pid > 0 && !*end && (pid == getpid() || (kill((pid_t)pid, 0) && errno == ESRCH))) {
                char *path = rt_path_join(parent, name[i]);
                remove_dir(path);
                free(path);
            }
        }
        rt_names_free(name, n);
    }
    free(parent);
}

/* What stands at out goes to old/NAME beside it, or the first old-N that has none. */
static int move_old(const char *out, rt_err *err)
{
    char *parent = rt_path_parent(out);
    int rc = 1;
    for (int i = 1; rc == 1 && i < 10000; i++) {
        char name[32];
        snprintf(name, sizeof name, i == 1 ? "old" : "old-%d", i);
        char *old = rt_path_join(parent, name), *to = rt_path_join(old, rt_path_base(out));
        if (mkdir(old, 0777) && errno != EEXIST)
            rc = rt_fail(err, "%s: cannot make directory: %s", old, rt_errno_text(errno));
        else if (!rt_path_exists(to) &&
                 !(rc = rename(out, to) ? rt_fail(err, "%s: cannot be moved to %s: %s", out, to,
                                                  rt_errno_text(errno))
                                        : 0))
            rt_info("%s: what stood there was moved to %s", out, to);
        free(old);
        free(to);
    }
    free(parent);
    return rc == 1 ? rt_fail(err, "%s: too many old-N beside it; remove some", out) : rc;
}

/* A free name, or an empty directory, which a rename may replace. */
static int look(rt_staging *s, const char *command, const char *identity, bool overwrite,
                rt_err *err)
{
    rt_output_state state;
    char **name;
    int n = 0;
    if (rt_output_look(&state, s->out, command, identity, overwrite, err))
        return -1;
    if (state == RT_OUTPUT_DONE)
        return 1;
    s->replace = state == RT_OUTPUT_OTHER;
    if (state != RT_OUTPUT_FREE || !rt_path_exists(s->out))
        return 0;
    if (rt_dir_list(&name, &n, s->out, err))
        return -1;
    rt_names_free(name, n);
    return n ? rt_fail(err, "%s: is a directory with other files; name another --out", s->out) : 0;
}

int rt_staging_open(rt_staging *s, const char *out, const char *command, const char *identity,
                    bool overwrite, rt_err *err)
{
    *s = (rt_staging){ .out = rt_strdup(out) };
    size_t n = strlen(s->out);
    while (n > 1 && s->out[n - 1] == '/')
        s->out[--n] = 0;
    int rc = look(s, command, identity, overwrite, err);
    if (rc)
        return rc;
    s->dir = rt_alloc((int64_t)n + 32, 1, "a path");
    snprintf(s->dir, n + 32, "%s.tmp.%ld", s->out, (long)getpid());
    remove_leftovers(s->out);
    return rt_dir_make(s->dir, err);
}

int rt_staging_commit(rt_staging *s, rt_err *err)
{
    char *parent = rt_path_parent(s->out);
    int bad = rt_dir_sync(s->dir, err) || (s->replace && move_old(s->out, err));
    if (!bad && rename(s->dir, s->out))
        bad = rt_fail(err, "%s: cannot put the finished directory in place: %s", s->out,
                      rt_errno_text(errno));
    if (!bad) {
        free(s->dir);
        s->dir = NULL;
    }
    bad = bad || rt_dir_sync(parent, err);
    free(parent);
    return bad ? -1 : 0;
}

void rt_staging_close(rt_staging *s)
{
    if (s->dir)
        remove_dir(s->dir);
    free(s->dir);
    free(s->out);
    *s = (rt_staging){ 0 };
}
