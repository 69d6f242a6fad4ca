/* stage.h: what is known of the work of a stage. Its identity is its command, the values that
   change the result and the content of its inputs (option.h says which are which); a record in the
   run folder says which identity the output at a place has, and what that output's bytes hash to:

     stages/NAME.json   the record of the stage's present output
     old/NAME.K/...     outputs that were replaced, old/NAME.K.json the record of each

   A record is written before its output is begun and before it is moved, so whatever a crash
   leaves, every output has a record, and what a record says is believed only as far as the bytes
   agree. Refuses: removing an output, touching one that no record speaks of. */
#ifndef RT_STAGE_H
#define RT_STAGE_H

#include "core/base/identity.h"
#include "distill/recipe.h"

RT_BEGIN

typedef enum rt_stage_state {
    RT_STAGE_NEW,   /* nothing is known of it */
    RT_STAGE_STALE, /* made by other settings or from other inputs, or no longer whole */
    RT_STAGE_CUT,   /* begun and not finished: the command takes it up */
    RT_STAGE_KEPT,  /* the same work stands elsewhere, finished or cut: it is moved back */
    RT_STAGE_WAITS, /* an input is about to be made anew */
    RT_STAGE_DONE,
    RT_STAGE_STATES
} rt_stage_state;
const char *rt_stage_state_name(rt_stage_state state);

typedef struct rt_work_of {
    const rt_recipe *recipe;
    const rt_stage *stage;
    rt_stage_state state;
    char why[512];    /* for people; what changed */
    cJSON *identity;  /* {"command", "options", "inputs"}, NULL while it waits */
    rt_hash key;      /* of it */
    cJSON *record;    /* stages/NAME.json, NULL = none */
    char *kept;       /* KEPT: the file of the other record */
    bool damaged;     /* the output is there and not as it was written */
    const char *gone; /* an input that is no longer there and was taken as unchanged, or NULL */
} rt_work_of;

/* Reads the record. fresh: what it says counts as stale. Fails on an unreadable record unless
   fresh, and on an output that no record speaks of. */
int rt_work_open(rt_work_of *w, const rt_recipe *r, int stage, bool fresh, rt_err *err);
void rt_work_close(rt_work_of *w); /* accepts a zeroed one */

/* Identity, state and why. use: how inputs are read; outputs are read whole unless it is
   RT_IDENTITY_STAT. An input that is missing is an error. */
int rt_work_judge(rt_work_of *w, rt_identity_use use, bool fresh, rt_err *err);

/* NEW, STALE, CUT or KEPT -> the outputs' places are free (CUT: taken up), and the record says what
   is about to be made there. moved: where the old outputs went, or "". */
int rt_work_begin(rt_work_of *w, char *moved, size_t size, rt_err *err);
/* KEPT, after begin: the outputs are back. */
int rt_work_take_back(rt_work_of *w, rt_err *err);
/* The outputs are whole: hashes them and says so. peak: bytes of memory it took; 0 = not known. */
int rt_work_finish(rt_work_of *w, double seconds, int64_t peak, rt_err *err);

bool rt_work_any_output(const rt_work_of *w); /* something stands at one of its places */
bool rt_work_in_place(const rt_work_of *w, const cJSON *record); /* record speaks of those places */
double rt_work_seconds(const rt_work_of *w);                     /* recorded; < 0 = unknown */
bool rt_work_finished(const rt_work_of *w); /* the record speaks of finished outputs */
/* {"stage", "command", "state", "why", "seconds", "outputs": {OPTION: {"path", "bytes"}}} */
cJSON *rt_work_json(const rt_work_of *w);

RT_END

#endif
