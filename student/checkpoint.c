#include "student/checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/formats/safetensors.h"

static const char *const NAME[] = { "checkpoint.safetensors", "checkpoint-before.safetensors" };
enum { LAST, BEFORE };
static const char POSITION[] = "position";

static int64_t largest(const rt_checkpoint_state *s)
{
    int64_t most = 1;
    for (int k = 0; k < s->n; k++) {
        const rt_params *list = rt_weights_learned(s->part[k]);
        for (int i = 0; i < list->n; i++)
            if (list->item[i].slot->rank)
                most = rt_max(most, rt_tensor_bytes(list->item[i].slot));
    }
    return most;
}

static void state_name(char *out, size_t size, const char *prefix, const rt_param *p)
{
    snprintf(out, size, "%s%s", prefix, p->name);
}

/* As a file can say it: codes are bytes. */
static rt_dtype file_dtype(const rt_tensor *t)
{
    return rt_dtype_get(t->dtype)->safetensors ? t->dtype : RT_U8;
}

static void declare(rt_safetensors_writer *out, const char *path, const rt_checkpoint_state *s)
{
    char name[160];
    const int64_t position_bytes = sizeof(rt_position);
    rt_safetensors_writer_init(out, path, 0);
    for (int k = 0; k < s->n; k++) {
        const rt_params *list = rt_weights_learned(s->part[k]);
        for (int i = 0; i < list->n; i++) {
            const rt_tensor *t = list->item[i].slot;
            if (t->rank == 0)
                continue;
            int64_t bytes = rt_tensor_bytes(t);
            state_name(name, sizeof name, s->prefix[k], &list->item[i]);
            if (file_dtype(t) == t->dtype)
                rt_safetensors_writer_add(out, name, t->dtype, t->rank, t->dim);
            else
                rt_safetensors_writer_add(out, name, RT_U8, 1, &bytes);
        }
    }
    rt_safetensors_writer_add(out, POSITION, RT_U8, 1, &position_bytes);
}

int64_t rt_checkpoint_bytes(const rt_checkpoint_state *s)
{
    rt_safetensors_writer out;
    declare(&out, "planned.safetensors", s);
    int64_t bytes = rt_safetensors_writer_bytes(&out);
    rt_safetensors_writer_abort(&out);
    return bytes;
}

static int write_state(rt_safetensors_writer *out, rt_dev *d, const rt_checkpoint_state *s,
                       const rt_position *at, rt_err *err)
{
    void *host = rt_alloc(largest(s), 1, "a tensor");
    int bad = rt_safetensors_writer_begin(out, err);
    for (int k = 0; !bad && k < s->n; k++) {
        const rt_params *list = rt_weights_learned(s->part[k]);
        for (int i = 0; !bad && i < list->n; i++) {
            if (list->item[i].slot->rank == 0)
                continue;
            rt_params_get(list, i, d, host);
            bad = rt_sync(d, err) ||
                  rt_safetensors_writer_push(out, host, rt_tensor_bytes(list->item[i].slot), err);
        }
    }
    free(host);
    return bad ? -1 : rt_safetensors_writer_push(out, at, sizeof *at, err);
}

int rt_checkpoint_save(const char *dir, rt_dev *d, const rt_checkpoint_state *s,
                       const rt_position *at, rt_err *err)
{
    char *last = rt_path_join(dir, NAME[LAST]), *before = rt_path_join(dir, NAME[BEFORE]);
    rt_safetensors_writer out;
    declare(&out, last, s);
    int bad = write_state(&out, d, s, at, err);
    if (!bad && rename(last, before) && errno != ENOENT)
        bad = rt_fail(err, "%s: cannot be renamed: %s", last, rt_errno_text(errno));
    if (bad)
        rt_safetensors_writer_abort(&out);
    else
        bad = rt_safetensors_writer_commit(&out, err);
    free(last);
    free(before);
    return bad ? rt_wrap(err, "checkpoint") : 0;
}

bool rt_checkpoint_there(const char *dir)
{
    bool there = false;
    for (int k = 0; k < RT_COUNT(NAME); k++) {
        char *path = rt_path_join(dir, NAME[k]);
        there = there || rt_path_exists(path);
        free(path);
    }
    return there;
}

int rt_checkpoint_remove(const char *dir, rt_err *err)
{
    int bad = 0;
    for (int k = RT_COUNT(NAME) - 1; !bad && k >= 0; k--) {
        char *path = rt_path_join(dir, NAME[k]);
        if (unlink(path) && errno != ENOENT)
            bad = rt_fail(err, "%s: cannot be removed: %s", path, rt_errno_text(errno));
        free(path);
    }
    return bad;
}

/* ---- loading ---------------------------------------------------------------------------------
 */

enum { DAMAGED = 1 };

/* Its bytes are checked before anything is made of them: 0, DAMAGED, or -1 when it is whole and
   not for this run. */
static int load_position(const rt_safetensors *st, const char *path, rt_position *at, rt_err *err)
{
    rt_position read;
    const rt_st_tensor *t = rt_safetensors_find(st, POSITION);
    if (!t || t->dtype != RT_U8 || t->bytes != (int64_t)sizeof read || !t->sum)
        return rt_fail(
            err, "%s: not a checkpoint of this version of retort; delete it to start over", path);
    if (rt_safetensors_check(st, t, err))
        return DAMAGED;
    memcpy(&read, t->data, sizeof read);
    if (read.recipe != at->recipe)
        return rt_fail(
            err,
            "%s: made by other settings or data than these; use another --out, or delete it to "
            "start over",
            path);
    *at = read;
    return 0;
}

static int load_tensor(const rt_safetensors *st, const char *path, rt_dev *d, const char *prefix,
                       const rt_params *list, int i, rt_err *err)
{
    char name[160];
    const rt_tensor *t = list->item[i].slot;
    state_name(name, sizeof name, prefix, &list->item[i]);
    const rt_st_tensor *s = rt_safetensors_find(st, name);
    if (!s || s->dtype != file_dtype(t) || s->bytes != rt_tensor_bytes(t))
        return rt_fail(
            err,
            "%s: %s is missing or has another shape: the checkpoint is of another model; "
            "delete it to start over",
            path, name);
    if (rt_safetensors_check(st, s, err))
        return DAMAGED;
    rt_params_put(list, i, d, s->data);
    return 0;
}

static int load_state(const rt_safetensors *st, const char *path, rt_dev *d,
                      const rt_checkpoint_state *s, rt_err *err)
{
    int bad = 0;
    for (int k = 0; k < s->n; k++) {
        const rt_params *list = rt_weights_learned(s->part[k]);
        for (int i = 0; !bad && i < list->n; i++)
            bad = list->item[i].slot->rank ? load_tensor(st, path, d, s->prefix[k], list, i, err)
                                           : 0;
    }
    return bad;
}

static int load_one(const char *path, rt_dev *d, const rt_checkpoint_state *s, rt_position *at,
                    rt_err *err)
{
    rt_safetensors st;
    rt_position read = *at;
    rt_err ignored;
    if (rt_safetensors_open(&st, path, err))
        return DAMAGED;
    int bad = load_position(&st, path, &read, err);
    bad = bad ? bad : load_state(&st, path, d, s, err);
    if (rt_sync(d, bad ? &ignored : err) && !bad) /* what was read lies in the file until then */
        bad = -1;
    rt_safetensors_close(&st);
    if (!bad)
        *at = read;
    return bad;
}

/* The last one is damaged and the one before loaded: it takes the place of the last. */
static int fall_back(const char *last, const char *before, const rt_position *at, const rt_err *why,
                     rt_err *err)
{
    if (rename(before, last))
        return rt_fail(err, "%s: cannot be renamed: %s", before, rt_errno_text(errno));
    rt_info("%s; going on from the checkpoint before it, after step %lld", why->text,
            (long long)at->step);
    return 0;
}

int rt_checkpoint_load(const char *dir, rt_dev *d, const rt_checkpoint_state *s, rt_position *at,
                       rt_err *err)
{
    char *last = rt_path_join(dir, NAME[LAST]), *before = rt_path_join(dir, NAME[BEFORE]);
    rt_err why = { 0 }, other = { 0 };
    bool there = rt_path_exists(last);
    int bad = there ? load_one(last, d, s, at, &why) : DAMAGED;
    if (bad == DAMAGED && rt_path_exists(before)) {
        bad = load_one(before, d, s, at, &other);
        if (!bad && there)
            bad = fall_back(last, before, at, &why, &other);
    }
    if (bad == DAMAGED)
        rt_fail(err,
                "%s: no checkpoint in it is whole (%s): delete checkpoint*.safetensors there to "
                "start over",
                dir, (there ? &why : &other)->text);
    else if (bad)
        *err = other.exit_code ? other : why;
    free(last);
    free(before);
    return bad ? -1 : 0;
}
