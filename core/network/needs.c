#include "core/network/needs.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/memory.h"

static const char *const KINDS[] = {
    "memory", "pinned", "device", "file", "grows", "disk", "about"
};

void rt_needs_free(rt_needs *p)
{
    free(p->row);
    memset(p, 0, sizeof *p);
}

void rt_needs_add(rt_needs *p, rt_needs_kind kind, const char *label, const char *name,
                  int64_t bytes)
{
    for (int i = 0; i < p->n; i++) {
        rt_needs_row *r = &p->row[i];
        if (r->kind == kind && !strcmp(r->label, label) && !strcmp(r->name, name)) {
            r->bytes += bytes;
            return;
        }
    }
    rt_grow(&p->row, &p->cap, p->n + 1, sizeof *p->row, "a plan");
    p->row[p->n++] = (rt_needs_row){ kind, label, name, bytes };
}

static rt_needs_kind kind_of(rt_dev *d, rt_arena_where where, bool sparse)
{
    if (!rt_dev_get(d).memory || (where == RT_ON_HOST && sparse))
        return RT_NEEDS_MEMORY;
    return where == RT_ON_HOST ? RT_NEEDS_PINNED : RT_NEEDS_DEVICE;
}

void rt_needs_arenas(rt_needs *p, rt_dev *d, const rt_arenas *l)
{
    for (int i = 0; i < l->n; i++) {
        const rt_arena *a = l->item[i].arena;
        rt_needs_kind kind = kind_of(d, l->item[i].where, a->sparse);
        for (int k = 0; k < a->n_slots; k++)
            rt_needs_add(p, kind, a->label, a->slot[k].name, a->slot[k].bytes);
    }
}

void rt_needs_workspace(rt_needs *p, rt_dev *d)
{
    rt_needs_add(p, kind_of(d, RT_ON_DEVICE, false), "workspace", "operations",
                 rt_dev_workspace(d));
    if (rt_dev_stage(d))
        rt_needs_add(p, kind_of(d, RT_ON_HOST, false), "workspace", "on the way to the device",
                     rt_dev_stage(d));
    p->room = rt_dev_get(d).memory ? rt_dev_get(d).free : 0;
}

int64_t rt_needs_sum(const rt_needs *p, rt_needs_kind kind)
{
    int64_t sum = 0;
    for (int i = 0; i < p->n; i++)
        if (p->row[i].kind == kind && !rt_add_ok(sum, p->row[i].bytes, &sum))
            return INT64_MAX;
    return sum;
}

int64_t rt_needs_host(const rt_needs *p)
{
    int64_t sum = 0, pinned = rt_needs_sum(p, RT_NEEDS_PINNED);
    return rt_add_ok(rt_needs_sum(p, RT_NEEDS_MEMORY), pinned, &sum) ? sum : INT64_MAX;
}

const rt_needs_output *rt_needs_find(const rt_needs *p, const char *path)
{
    for (; p && path; p = p->before)
        if (p->output.path && !strcmp(p->output.path, path))
            return p->output.anew || !rt_path_exists(path) ? &p->output : NULL;
    return NULL;
}

void rt_needs_cost(rt_needs *p, rt_dev *d, rt_cost cost, double times)
{
    p->cost.flops += times * cost.flops;
    p->cost.bytes += times * cost.bytes;
    p->threads = rt_dev_get(d).threads;
    p->device = rt_dev_get(d).name;
    p->rate = rt_dev_get(d).rate;
}

void rt_needs_time(rt_needs *p)
{
    rt_err ignored; /* what cannot be probed has no time */
    if (p->cost.flops <= 0)
        return;
    for (const rt_needs *b = p->before; b && p->rate.flops <= 0; b = b->before)
        if (b->threads == p->threads && b->device == p->device)
            p->rate = b->rate;
    if (p->rate.flops > 0 || rt_dev_probe(&p->rate, p->device, p->threads, &ignored) == 0)
        p->seconds = p->cost.flops / p->rate.flops + p->cost.bytes / p->rate.bytes;
}

static int by_size(const void *pa, const void *pb)
{
    const rt_needs_row *a = pa, *b = pb;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    return a->bytes != b->bytes ? (a->bytes < b->bytes ? 1 : -1) : strcmp(a->name, b->name);
}

void rt_needs_print(const rt_needs *p, FILE *f)
{
    char text[32], room[32];
    if (p->n)
        qsort(p->row, (size_t)p->n, sizeof *p->row, by_size);
    for (int i = 0; i < p->n; i++) {
        const rt_needs_row *r = &p->row[i];
        fprintf(f, "  %-7s %-12s %-28s %16lld  %s\n", KINDS[r->kind], r->label, r->name,
                (long long)r->bytes, rt_fmt_bytes(text, sizeof text, r->bytes));
        bool last = i + 1 == p->n || r[1].kind != r->kind;
        if (last && (r->kind <= RT_NEEDS_DEVICE || r->kind == RT_NEEDS_DISK))
            fprintf(f, "  %-7s %-41s %16lld  %s%s%s\n", KINDS[r->kind], "all",
                    (long long)rt_needs_sum(p, r->kind),
                    rt_fmt_bytes(text, sizeof text, rt_needs_sum(p, r->kind)),
                    r->kind == RT_NEEDS_DEVICE ? " of " : "",
                    r->kind == RT_NEEDS_DEVICE ? rt_fmt_bytes(room, sizeof room, p->room) : "");
    }
    if (p->seconds > 0)
        fprintf(f, "  time    about %s%s, at %.3g GFLOP/s and %.3g GB/s\n",
                rt_fmt_seconds(text, sizeof text, p->seconds),
                p->at_most ? " if all texts are as long as they may be" : "", p->rate.flops * 1e-9,
                p->rate.bytes * 1e-9);
    if (rt_needs_sum(p, RT_NEEDS_GROWS))
        fputs("  \"grows\" follows the data and is not in the sum; neither are the program, its\n"
              "  libraries, tokenizer, texts and JSON lines\n",
              f);
}

struct cJSON *rt_needs_json(const rt_needs *p)
{
    cJSON *json = rt_json_object();
    char name[96];
    for (int k = 0; k < RT_NEEDS_KINDS; k++) {
        if ((k == RT_NEEDS_PINNED || k == RT_NEEDS_DEVICE) && !rt_needs_sum(p, (rt_needs_kind)k))
            continue;
        cJSON *kind = rt_json_object();
        rt_json_put_num(kind, "bytes", (double)rt_needs_sum(p, (rt_needs_kind)k));
        for (int i = 0; i < p->n; i++) {
            snprintf(name, sizeof name, "%s %s", p->row[i].label, p->row[i].name);
            if ((int)p->row[i].kind == k)
                rt_json_put_num(kind, name, (double)p->row[i].bytes);
        }
        rt_json_put(json, KINDS[k], kind);
    }
    if (p->seconds > 0)
        rt_json_put_num(json, p->at_most ? "seconds_at_most" : "seconds_expected", p->seconds);
    rt_json_put_num(json, "units", (double)p->units);
    return json;
}
