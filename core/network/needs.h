/* needs.h: what a command would take, by name, before it does anything: bytes of memory and of
   disk. A command's plan function (option.h) fills it; --plan prints it. Because the stages of a
   recipe are planned before any of them ran, a plan also says what it will leave (a model's
   description, an archive's settings), and the plans after it find that by its path. Time is what
   the operations of dry runs take at the speed of this machine: no files, no texts. Refuses:
   choosing. */
#ifndef RT_NEEDS_H
#define RT_NEEDS_H

#include <stdio.h>

#include "core/device/arenas.h"
#include "core/device/soft.h"
#include "core/network/config.h"

RT_BEGIN

typedef enum rt_needs_kind {
    RT_NEEDS_MEMORY, /* of the host, allocated together, exact: these rows add up to the total */
    RT_NEEDS_PINNED, /* the same where the system may not page it out: what a GPU copies from */
    RT_NEEDS_DEVICE, /* the same of a GPU's own memory; of a device that has none, the host's */
    RT_NEEDS_FILE,   /* read where it lies: the system gives the memory to whom it likes; no part of
                        the total */
    RT_NEEDS_GROWS,  /* memory that follows the data: a bound or an estimate, not in the total */
    RT_NEEDS_DISK,   /* exact */
    RT_NEEDS_ABOUT,  /* disk, estimated */
    RT_NEEDS_KINDS
} rt_needs_kind;

typedef struct rt_needs_row {
    rt_needs_kind kind;
    const char *label, *name; /* borrowed */
    int64_t bytes;
} rt_needs_row;

/* What will stand at a path that does not exist yet. */
typedef struct rt_needs_output {
    const char *path;         /* borrowed; NULL = nothing that others read */
    rt_config cfg;            /* of a model; family NULL = not a model */
    const char *tokenizer;    /* of a model: the directory whose tokenizer and template it gets */
    rt_soft_config soft;      /* of an archive */
    int64_t samples, longest; /* of an archive: tokens of a sample at most */
    bool anew;                /* also when something stands there: it is about to be replaced */
} rt_needs_output;

typedef struct rt_needs {
    rt_needs_row *row;
    int n;
    int64_t cap; /* private */
    int64_t units; /* what the work is counted in: samples, steps, problems and documents */
    rt_cost cost;  /* 0 = not known */
    rt_cost rate;  /* of the machine, once it was probed, with so many threads: */
    int threads;
    const char *device; /* its name */
    int64_t room;       /* bytes that a device with memory of its own has left, else 0 */
    double seconds; /* what cost takes at that rate; 0 = not known */
    bool at_most;   /* cost is of answers and samples as long as they may be */
    rt_needs_output output;
    const struct rt_needs *before; /* the stage planned before this one, or NULL */
} rt_needs;

void rt_needs_free(rt_needs *p);
/* Rows of equal kind, label and name are one row. label and name must outlive the plan. */
void rt_needs_add(rt_needs *p, rt_needs_kind kind, const char *label, const char *name,
                  int64_t bytes);
void rt_needs_arenas(rt_needs *p, rt_dev *d, const rt_arenas *l);
void rt_needs_workspace(rt_needs *p, rt_dev *d); /* after the dry runs; and what room there is */
int64_t rt_needs_sum(const rt_needs *p, rt_needs_kind kind);
int64_t rt_needs_host(const rt_needs *p); /* memory of the host, pinned or not */
/* What an earlier stage will leave at path; NULL when something stands there that will
   not be made anew, or nothing will. */
const rt_needs_output *rt_needs_find(const rt_needs *p, const char *path);
/* `times` as much as the dry run that cost. */
void rt_needs_cost(rt_needs *p, rt_dev *d, rt_cost cost, double times);
/* For who shows it: fills seconds; probes the machine, unless a plan before did. */
void rt_needs_time(rt_needs *p);
/* Rows "kind  label  name  bytes", largest first within a kind, and their sums. */
void rt_needs_print(const rt_needs *p, FILE *f);
/* {"memory": {"bytes", "LABEL NAME": bytes}, ...}; "pinned", "device" where there are such */
struct cJSON *rt_needs_json(const rt_needs *p);

RT_END

#endif
