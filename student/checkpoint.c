#include "student/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/safetensors.h"

static const char *const PREFIX[] = { "weight.", "moment1.", "moment2." };
static const char POSITION[] = "position", HASH[] = "hash";

static int64_t largest(const rt_weights *w)
{
    int64_t most = 1;
    for (int i = 0; i < w->params.n; i++)
        most = rt_max(most, rt_tensor_bytes(w->params.item[i].slot));
    return most;
}

static void state_name(char *out, size_t size, int part, const rt_param *p)
{
    snprintf(out, size, "%s%s", PREFIX[part], p->name);
}

static void declare(rt_safetensors_writer *out, const char *path, const rt_weights *w)
{
    char name[160];
    const int64_t position_bytes = sizeof(rt_position), hash_bytes = sizeof(uint64_t);
    rt_safetensors_writer_init(out, path, 0);
    for (int k = 0; k < RT_COUNT(PREFIX); k++)
        for (int i = 0; i < w->params.n; i++) {
            state_name(name, sizeof name, k, &w->params.item[i]);
            rt_safetensors_writer_add(out, name, RT_F32, w->params.item[i].slot->rank,
                                      w->params.item[i].slot->dim);
        }
    rt_safetensors_writer_add(out, POSITION, RT_U8, 1, &position_bytes);
    rt_safetensors_writer_add(out, HASH, RT_U8, 1, &hash_bytes);
}

int64_t rt_checkpoint_bytes(const rt_weights *w)
{
    rt_safetensors_writer out;
    declare(&out, "planned.safetensors", w);
    int64_t bytes = rt_safetensors_writer_bytes(&out);
    rt_safetensors_writer_abort(&out);
    return bytes;
}

int rt_checkpoint_save(const char *path, rt_dev *d, const rt_weights *w, const rt_weights *m,
                       const rt_weights *v, const rt_position *at, rt_err *err)
{
    const rt_weights *part[] = { w, m, v };
    rt_safetensors_writer out;
    declare(&out, path, w);
    uint64_t hash = 0;
    void *host = rt_alloc(largest(w), 1, "a tensor");
    int bad = rt_safetensors_writer_begin(&out, err);
    for (int k = 0; !bad && k < RT_COUNT(part); k++)
        for (int i = 0; !bad && i < w->params.n; i++) {
            const rt_tensor *t = part[k]->params.item[i].slot;
            d->ops->download(d, host, t->data, rt_tensor_bytes(t));
            hash = rt_hash64(host, rt_tensor_bytes(t), hash);
            bad = rt_safetensors_writer_push(&out, host, rt_tensor_bytes(t), err);
        }
    free(host);
    hash = rt_hash64(at, sizeof *at, hash);
    if (bad || rt_safetensors_writer_push(&out, at, sizeof *at, err) ||
        rt_safetensors_writer_push(&out, &hash, sizeof hash, err)) {
        rt_safetensors_writer_abort(&out);
        return rt_wrap(err, "checkpoint");
    }
    return rt_safetensors_writer_commit(&out, err);
}

static const rt_st_tensor *find_bytes(const rt_safetensors *st, const char *name, int64_t bytes)
{
    const rt_st_tensor *t = rt_safetensors_find(st, name);
    return t && t->dtype == RT_U8 && t->bytes == bytes ? t : NULL;
}

static int load_state(const rt_safetensors *st, const char *path, rt_dev *d,
                      rt_weights *const part[3], uint64_t *hash, rt_err *err)
{
    char name[160];
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < part[k]->params.n; i++) {
            const rt_tensor *t = part[k]->params.item[i].slot;
            state_name(name, sizeof name, k, &part[0]->params.item[i]);
            const rt_st_tensor *s = rt_safetensors_find(st, name);
            if (!s || s->dtype != RT_F32 || s->bytes != rt_tensor_bytes(t))
                return rt_fail(
                    err,
                    "%s: %s is missing or has another shape: the checkpoint is of another model; "
                    "delete it to start over",
                    path, name);
            *hash = rt_hash64(s->data, s->bytes, *hash);
            d->ops->upload(d, t->data, s->data, s->bytes);
        }
    return 0;
}

int rt_checkpoint_load(const char *path, rt_dev *d, rt_weights *w, rt_weights *m, rt_weights *v,
                       rt_position *at, rt_err *err)
{
    rt_safetensors st;
    rt_weights *const part[] = { w, m, v };
    rt_position read;
    uint64_t hash = 0, stored = 1;
    if (rt_safetensors_open(&st, path, err))
        return rt_wrap(err, "checkpoint (delete it to start over)");
    const rt_st_tensor *position = find_bytes(&st, POSITION, sizeof read);
    const rt_st_tensor *sum = find_bytes(&st, HASH, sizeof stored);
    int bad = position && sum
                  ? load_state(&st, path, d, part, &hash, err)
                  : rt_fail(err, "%s: not a checkpoint of retort; delete it to start over", path);
    if (!bad) {
        memcpy(&read, position->data, sizeof read);
        memcpy(&stored, sum->data, sizeof stored);
        if (rt_hash64(&read, sizeof read, hash) != stored)
            bad = rt_fail(err, "%s: damaged (its hash does not fit); delete it to start over",
                          path);
        else if (read.recipe != at->recipe)
            bad = rt_fail(
                err,
                "%s: made by other settings or data than these; use another --out, or delete it to "
                "start over",
                path);
        else
            *at = read;
    }
    rt_safetensors_close(&st);
    return bad ? -1 : 0;
}
