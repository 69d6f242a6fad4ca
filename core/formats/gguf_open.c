/* gguf_open.c: which files a model is: one, the parts of a split one, or what a directory holds.
   Refuses: what stands in a file (gguf.c). */
#include "core/formats/gguf_inside.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/memory.h"

enum { SUFFIX = 20 }; /* "-00001-of-00003.gguf" */

static int five_digits(const char *s)
{
    int value = 0;
    for (int i = 0; i < 5; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        value = 10 * value + (s[i] - '0');
    }
    return value;
}

/* Does path end as a part does? Its number and theirs. */
static bool part_name(const char *path, int *no, int *count)
{
    size_t n = strlen(path);
    const char *s = n > SUFFIX ? path + n - SUFFIX : "";
    if (*s != '-' || strncmp(s + 6, "-of-", 4) != 0 || strcmp(s + 15, ".gguf") != 0)
        return false;
    *no = five_digits(s + 1);
    *count = five_digits(s + 10);
    return *no >= 1 && *count >= *no;
}

static int one_open(rt_gguf *g, const char *path, rt_err *err)
{
    *g = (rt_gguf){ .path = rt_strdup(path) };
    if (rt_map_open(&g->map, path, err) || rt_gguf_parse(g, err)) {
        rt_gguf_close(g);
        return -1;
    }
    return 0;
}

static int part_numbers(const rt_gguf *g, int64_t *no, int64_t *count, rt_err *err)
{
    *no = 0;
    *count = 1;
    return rt_gguf_opt_i64(g, "split.no", 0, 99999, no, err) ||
                   rt_gguf_opt_i64(g, "split.count", 0, 99999, count, err)
               ? -1
               : 0;
}

/* The tensors of part become g's, and its map; its keys are dropped. */
static int part_take(rt_gguf *g, rt_gguf *part, rt_err *err)
{
    int64_t n = g->n_tensors + part->n_tensors;
    if (n > INT32_MAX)
        return rt_fail(err, "%s: %lld tensors, at most %d", g->path, (long long)n, INT32_MAX);
    g->more = rt_realloc(g->more, g->n_more + 1, sizeof *g->more, g->path);
    g->tensor = rt_realloc(g->tensor, n, sizeof *g->tensor, g->path);
    if (part->n_tensors)
        memcpy(g->tensor + g->n_tensors, part->tensor, (size_t)part->n_tensors * sizeof *g->tensor);
    g->n_tensors = n;
    g->more[g->n_more++] = part->map;
    part->n_tensors = 0;
    part->map = (rt_map){ 0 };
    return 0;
}

static int part_open(rt_gguf *g, const char *path, int64_t no, int64_t count, rt_err *err)
{
    rt_gguf part;
    int64_t its_no, its_count;
    if (!rt_path_exists(path))
        return rt_fail(err, "%s: part %lld of %lld is missing: %s", g->path, (long long)no + 1,
                       (long long)count, path);
    if (one_open(&part, path, err))
        return -1;
    int bad = part_numbers(&part, &its_no, &its_count, err);
    if (!bad && (its_no != no || its_count != count))
        bad = rt_fail(err, "%s: says it is part %lld of %lld, its name says %lld of %lld", path,
                      (long long)its_no + 1, (long long)its_count, (long long)no + 1,
                      (long long)count);
    bad = bad || part_take(g, &part, err);
    rt_gguf_close(&part);
    return bad ? -1 : 0;
}

static int parts_open(rt_gguf *g, rt_err *err)
{
    int64_t no, count, total = -1;
    int first = 0, of = 0;
    if (part_numbers(g, &no, &count, err))
        return -1;
    if (count <= 1)
        return 0;
    if (!part_name(g->path, &first, &of) || no != first - 1 || count != of)
        return rt_fail(err,
                       "%s: says it is part %lld of %lld, so its name must end in "
                       "-%05lld-of-%05lld.gguf",
                       g->path, (long long)no + 1, (long long)count, (long long)no + 1,
                       (long long)count);
    if (no != 0)
        return rt_fail(err, "%s: is part %lld of %lld: open the first, ...-00001-of-%05lld.gguf",
                       g->path, (long long)no + 1, (long long)count, (long long)count);
    size_t n = strlen(g->path);
    char *path = rt_strdup(g->path);
    int bad = 0;
    for (int64_t i = 1; !bad && i < count; i++) {
        char end[40];
        snprintf(end, sizeof end, "-%05d-of-%05d.gguf", (int)i + 1, of);
        memcpy(path + n - SUFFIX, end, SUFFIX);
        bad = part_open(g, path, i, count, err);
    }
    free(path);
    if (bad || rt_gguf_opt_i64(g, "split.tensors.count", 0, INT32_MAX, &total, err))
        return -1;
    if (total >= 0 && total != g->n_tensors)
        return rt_fail(err, "%s: its %lld parts hold %lld tensors, split.tensors.count says %lld",
                       g->path, (long long)count, (long long)g->n_tensors, (long long)total);
    free(g->by_tensor);
    g->by_tensor = rt_alloc(g->n_tensors, sizeof *g->by_tensor, g->path);
    return rt_gguf_index(g, err);
}

/* The model of a directory: its only .gguf but for further parts. malloc'd; NULL and why. */
static char *model_in(const char *dir, rt_err *err)
{
    char **names, *found = NULL;
    int n, no, count, models = 0;
    if (rt_dir_list(&names, &n, dir, err))
        return NULL;
    for (int i = 0; i < n; i++) {
        size_t length = strlen(names[i]);
        if (length < 5 || strcmp(names[i] + length - 5, ".gguf") != 0 ||
            (part_name(names[i], &no, &count) && no > 1))
            continue;
        free(found);
        found = rt_path_join(dir, names[i]);
        models++;
    }
    rt_names_free(names, n);
    if (models == 1)
        return found;
    free(found);
    rt_fail(err, "%s: holds %d models (or first parts of models) as .gguf: name the file to open",
            dir, models);
    return NULL;
}

int rt_gguf_open(rt_gguf *g, const char *path, rt_err *err)
{
    char *inside = NULL;
    *g = (rt_gguf){ 0 };
    if (rt_path_is_dir(path) && !(inside = model_in(path, err)))
        return -1;
    int bad = one_open(g, inside ? inside : path, err) || parts_open(g, err);
    free(inside);
    if (bad)
        rt_gguf_close(g);
    return bad ? -1 : 0;
}

void rt_gguf_close(rt_gguf *g)
{
    for (int64_t i = 0; g->key && i < g->n_keys; i++)
        free(g->key[i].name);
    for (int64_t i = 0; g->tensor && i < g->n_tensors; i++)
        free(g->tensor[i].name);
    for (int i = 0; i < g->n_more; i++)
        rt_map_close(&g->more[i]);
    free(g->more);
    free(g->key);
    free(g->tensor);
    free(g->by_key);
    free(g->by_tensor);
    free(g->path);
    rt_map_close(&g->map);
    *g = (rt_gguf){ 0 };
}

static bool named_gguf(const char *name)
{
    size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".gguf") == 0;
}

static bool holds_gguf(const char *dir)
{
    char **names, *config = rt_path_join(dir, "config.json");
    rt_err ignored = { 0 };
    int n = 0;
    bool found = false, model = rt_path_exists(config);
    free(config);
    if (model || rt_dir_list(&names, &n, dir, &ignored))
        return false;
    for (int i = 0; i < n; i++)
        found = found || named_gguf(names[i]);
    rt_names_free(names, n);
    return found;
}

bool rt_gguf_is(const char *path)
{
    char magic[4];
    if (rt_path_is_dir(path))
        return holds_gguf(path);
    if (named_gguf(path))
        return true;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    bool is = fd >= 0 && read(fd, magic, 4) == 4 && !memcmp(magic, "GGUF", 4);
    if (fd >= 0)
        close(fd);
    return is;
}
