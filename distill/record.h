/* record.h: what the run folder knows of outputs, one JSON file each:

     {"stage", "command", "key", "done", "seconds", "peak_bytes", "made_by",
      "outputs": {OPTION: {"at": place, "bytes", "hash"}}, "options": {...}, "inputs": [...]}

   in stages/NAME.json (the stage's present output) and old/NAME.K.json (one that was replaced).
   A place is relative to the run folder where it can be, so that the folder may be moved. */
#ifndef RT_RECORD_H
#define RT_RECORD_H

#include "distill/recipe.h"

RT_BEGIN

#define RT_RECORD_STAGES "stages"
#define RT_RECORD_OLD "old"

char *rt_record_file(const rt_recipe *r, const char *where, const char *name); /* free() it */
/* Fails on a file that is no record. */
int rt_record_load(cJSON **record, const char *file, rt_err *err);
int rt_record_save(const rt_recipe *r, const char *where, const char *name, const cJSON *record,
                   rt_err *err);
/* The files of all records, those of stages/ first; rt_names_free them. */
char **rt_record_list(const rt_recipe *r, int *n);
/* The record that speaks of a place, and (file not NULL) its file; NULL = nobody's we know. */
cJSON *rt_record_at(const rt_recipe *r, const char *place, char **file);

/* Members; "", false or none where there is none. */
const char *rt_record_text(const cJSON *object, const char *key);
bool rt_record_true(const cJSON *object, const char *key);
double rt_record_number(const cJSON *object, const char *key, double none);
cJSON *rt_record_output(const cJSON *record, const char *option);
void rt_record_put_place(cJSON *record, const char *option, const char *at);

bool rt_record_occupied(const char *path); /* something stands there, or that cannot be told */

RT_END

#endif
