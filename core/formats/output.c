#include "core/formats/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/path.h"
#include "core/formats/gguf.h"
#include "core/formats/listing.h"

// ---- outputs and inputs ----

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int check_pair(const rt_option *out, const char *to, const rt_option *other,
                      const char *from, rt_err *err)
{
    char *a = rt_path_resolve(to), *b = rt_path_resolve(from);
    bool same = same_file(to, from) || !strcmp(a, b), inside = rt_path_holds(b, a);
    bool around = rt_path_holds(a, b);
    const char *what = other->role == RT_OPT_OUTPUT ? "is also written" : "is read";
    free(a);
    free(b);
    if (!same && !inside && !around)
        return 0;
    return rt_usage(err, "--%s %s %s %s, which %s (--%s): name another place for the output",
                    out->name, to,
                    same     ? "is the same as"
                    : inside ? "lies inside"
                             : "holds",
                    from, what, other->name);
}

/* Words of a verb are paths only where something stands there. */
static bool is_path(const rt_option *o, const char *word)
{
    return !strstr(word, "://") && (o->role != RT_OPT_INPUT_WORDS || rt_path_exists(word));
}

int rt_output_apart(const rt_command *cmd, const void *values, rt_err *err)
{
    const char *to, *from;
    for (int i = 0; i < cmd->n_options; i++) {
        const rt_option *out = &cmd->options[i];
        for (int k = 0; out->role == RT_OPT_OUTPUT && (to = rt_option_path(out, values, k)); k++) {
            if (!strcmp(to, "-"))
                return rt_usage(err,
                                "--%s -: is no name for standard output: name a file (./- for "
                                "one of that name), or leave it out",
                                out->name);
            for (int j = 0; j < cmd->n_options; j++) {
                const rt_option *other = &cmd->options[j];
                if (other->role == RT_OPT_OUTPUT && j >= i)
                    continue;
                for (int m = 0; (from = rt_option_path(other, values, m)); m++)
                    if (is_path(other, from) && check_pair(out, to, other, from, err))
                        return -1;
            }
        }
    }
    return 0;
}

// ---- files ----

static bool is_gguf(const char *path)
{
    rt_gguf g;
    rt_err ignored;
    if (!rt_gguf_is(path) || rt_gguf_open(&g, path, &ignored))
        return false;
    bool ours = rt_gguf_find_key(&g, RT_GGUF_HEADER_KEY) != NULL && !g.rewritten;
    rt_gguf_close(&g);
    return ours;
}

static bool is_report(const char *path)
{
    cJSON *json = NULL;
    rt_err ignored;
    if (rt_json_load(&json, path, &ignored))
        return false;
    bool is = rt_json_find(json, "model") && rt_json_find(json, "parameters") &&
              rt_json_find(json, "bytes");
    cJSON_Delete(json);
    return is;
}

/* The first bytes of a file as text; "" when they cannot be read. */
static void read_begin(char text[4096], const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, 4095) : -1;
    text[n > 0 ? n : 0] = 0;
    if (fd >= 0)
        close(fd);
}

static bool is_npy(const char *path)
{
    char text[4096];
    read_begin(text, path);
    return !strncmp(text, "\x93NUMPY", 6);
}

static bool is_records(const char *path)
{
    char text[4096];
    read_begin(text, path);
    return text[0] == '{' && strstr(text, "\"index\":") && strstr(text, "\"prompt_id\":");
}

static bool is_kld(const char *path)
{
    char text[4096];
    read_begin(text, path);
    return !strncmp(text, "_logits_", 8);
}

static bool is_note(const char *path)
{
    char text[4096];
    read_begin(text, path);
    return strstr(text, "ritten by retort ") != NULL;
}

static const struct {
    const char *what;
    bool (*is)(const char *path);
} KINDS[RT_OUTPUT_KINDS] = { [RT_OUTPUT_GGUF] = { "a GGUF that retort wrote", is_gguf },
                             [RT_OUTPUT_REPORT] = { "a report of retort eval", is_report },
                             [RT_OUTPUT_NPY] = { "a .npy", is_npy },
                             [RT_OUTPUT_RECORDS] = { "an export of retort archive", is_records },
                             [RT_OUTPUT_KLD] = { "a base file of --kld-out", is_kld },
                             [RT_OUTPUT_NOTE] = { "a note that retort wrote", is_note } };

static int make_parent(const char *path, rt_err *err)
{
    char *parent = rt_path_parent(path);
    int bad = rt_dir_make(parent, err);
    if (!bad && access(parent, W_OK | X_OK))
        bad = rt_fail(err, "%s: nothing can be written there: %s", parent, rt_errno_text(errno));
    free(parent);
    return bad;
}

int rt_output_file(const char *path, rt_output_kind kind, bool overwrite, rt_err *err)
{
    struct stat st;
    if (!path)
        return 0;
    if (stat(path, &st))
        return make_parent(path, err);
    if (!S_ISREG(st.st_mode))
        return rt_fail(err, "%s: is %s, so it cannot be written as a file; name another path", path,
                       S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
    if (st.st_size && !overwrite && !KINDS[kind].is(path))
        return rt_fail(err,
                       "%s: stands there already and is not %s: name another path, or give "
                       "--overwrite",
                       path, KINDS[kind].what);
    return make_parent(path, err);
}

int rt_output_json(const cJSON *json, const char *path, bool overwrite, rt_err *err)
{
    char *text = rt_json_pretty(json);
    rt_out out;
    int rc = rt_out_open(&out, path, err);
    out.keep = !overwrite;
    rc = rc || rt_out_write(&out, text, (int64_t)strlen(text), err) || rt_out_commit(&out, err);
    rt_out_abort(&out);
    free(text);
    return rc ? -1 : 0;
}

// ---- directories ----

static bool ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n > m && !strcmp(s + n - m, suffix);
}

/* Files that a command of ours writes into a model's directory, or that are a model's. */
static bool is_models(const char *name)
{
    return rt_listing_may(name) || ends_with(name, ".safetensors") || ends_with(name, ".gguf") ||
           ends_with(name, ".bin") || !strcmp(name, "metrics.jsonl") ||
           !strncmp(name, "round-", 6) ||
           !strcmp(name, "retort.json");
}

static bool is_checkpoint(const char *name)
{
    return !strncmp(name, "checkpoint", 10) && ends_with(name, ".safetensors");
}

/* The first file in dir of which is(name); free() it. NULL: none. */
static char *find_file(const char *dir, bool (*is)(const char *))
{
    char **name, *found = NULL;
    int n;
    rt_err ignored;
    if (rt_dir_list(&name, &n, dir, &ignored))
        return NULL;
    for (int i = 0; i < n && !found; i++)
        if (is(name[i]))
            found = rt_path_join(dir, name[i]);
    rt_names_free(name, n);
    return found;
}

static bool says(const rt_listing *l, const char *key, const char *value)
{
    const char *text = cJSON_GetStringValue(rt_json_find(l->json, key));
    return text && !strcmp(text, value);
}

/* What stands there, when it is not this work's; NULL: nothing that counts. free() it. */
static char *find_other(const rt_listing *l, const char *dir)
{
    return find_file(dir, l->json && l->unfinished ? is_checkpoint : is_models);
}

int rt_output_look(rt_output_state *state, const char *dir, const char *command,
                   const char *identity, bool overwrite, rt_err *err)
{
    rt_listing l;
    rt_err damaged;
    *state = RT_OUTPUT_FREE;
    if (!rt_path_exists(dir))
        return 0;
    if (!rt_path_is_dir(dir))
        return rt_fail(err, "%s: exists and is not a directory; move it or name another path", dir);
    bool unreadable = rt_listing_read(&l, dir, &damaged) != 0;
    bool mine = !unreadable && l.json && says(&l, "command", command);
    if (mine && (!identity || says(&l, "identity", identity)))
        *state = l.unfinished            ? RT_OUTPUT_BEGUN
                 : overwrite && identity ? RT_OUTPUT_OTHER
                                         : RT_OUTPUT_DONE;
    char *other = *state == RT_OUTPUT_FREE ? find_other(&l, dir) : NULL;
    int bad = 0;
    if (other && overwrite)
        *state = RT_OUTPUT_OTHER;
    else if (other && mine)
        bad = rt_fail(
            err,
            "%s: holds %s work made by other settings or data: name another --out, or give "
            "--overwrite, which moves it to %s/old",
            dir, l.unfinished ? "unfinished" : "finished", dir);
    else if (other)
        bad = rt_fail(err,
                      "%s: stands there already, and this work did not make it: name another "
                      "--out, or give --overwrite, which moves it to %s/old",
                      other, dir);
    free(other);
    cJSON_Delete(l.json);
    return bad;
}

/* DIR/old, or the first of old-2, old-3 ... that is not there. Made. free() it. */
static char *old_place(const char *dir, rt_err *err)
{
    for (int i = 1; i < 10000; i++) {
        char name[32];
        snprintf(name, sizeof name, i == 1 ? "old" : "old-%d", i);
        char *path = rt_path_join(dir, name);
        if (mkdir(path, 0777) == 0)
            return path;
        int why = errno;
        free(path);
        if (why != EEXIST) {
            rt_fail(err, "%s/%s: cannot make directory: %s", dir, name, rt_errno_text(why));
            return NULL;
        }
    }
    rt_fail(err, "%s: too many old-N in it; remove some", dir);
    return NULL;
}

static int move_one(const char *dir, const char *to, const char *name, rt_err *err)
{
    char *from = rt_path_join(dir, name), *there = rt_path_join(to, name);
    int bad = rename(from, there) && errno != ENOENT
                  ? rt_fail(err, "%s: cannot be moved to %s: %s", from, there, rt_errno_text(errno))
                  : 0;
    free(from);
    free(there);
    return bad;
}

/* retort.json last: killed before, the rest is still the other work's. */
static int move_aside(const char *dir, rt_err *err)
{
    char **name, *old;
    int n, bad = 0;
    if (rt_dir_list(&name, &n, dir, err))
        return -1;
    if (!(old = old_place(dir, err))) {
        rt_names_free(name, n);
        return -1;
    }
    for (int i = 0; !bad && i < n; i++)
        if (is_models(name[i]) && strcmp(name[i], "retort.json"))
            bad = move_one(dir, old, name[i], err);
    bad = bad || move_one(dir, old, "retort.json", err) || rt_dir_sync(old, err) ||
          rt_dir_sync(dir, err);
    if (!bad)
        rt_info("%s: what stood there was moved to %s", dir, old);
    rt_names_free(name, n);
    free(old);
    return bad ? -1 : 0;
}

static int say(const char *dir, const char *command, const char *identity, bool unfinished,
               rt_err *err)
{
    cJSON *about = rt_json_object();
    rt_json_put_str(about, "made_by", "retort " RT_VERSION);
    rt_json_put_str(about, "command", command);
    rt_json_put_str(about, "identity", identity);
    return rt_listing_write(dir, about, unfinished, err);
}

int rt_output_begin(rt_output_state state, const char *dir, const char *command,
                    const char *identity, rt_err *err)
{
    if (state == RT_OUTPUT_BEGUN || state == RT_OUTPUT_DONE)
        return 0;
    if (state == RT_OUTPUT_OTHER && move_aside(dir, err))
        return -1;
    return say(dir, command, identity, true, err);
}

int rt_output_take(rt_output_state *state, int *lock, const char *dir, const char *command,
                   const char *identity, bool overwrite, rt_err *err)
{
    if (rt_output_look(state, dir, command, identity, overwrite, err) || rt_dir_make(dir, err) ||
        rt_dir_lock(lock, dir, err) ||
        rt_output_look(state, dir, command, identity, overwrite, err))
        return -1;
    if (*state == RT_OUTPUT_DONE)
        return 0;
    return rt_dir_clean_temps(dir, err) || rt_output_begin(*state, dir, command, identity, err) ? -1
                                                                                                : 0;
}

int rt_output_finish(const char *dir, const char *command, const char *identity, rt_err *err)
{
    return say(dir, command, identity, false, err);
}
