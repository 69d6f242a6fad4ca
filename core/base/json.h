/* json.h: cJSON with the traps closed: the whole input is consumed, depth and size are capped,
   duplicate keys are errors, lookups are case-sensitive, numbers are range-checked, and every
   error names the file and the key. A number that a double does not say exactly keeps its spelling.
   Refuses: integers beyond 2^53 where a number is asked for; numbers that JSON does not spell so. */
#ifndef RT_JSON_H
#define RT_JSON_H

#include <cjson/cJSON.h>

#include "core/base/err.h"
#include "core/base/file.h"

RT_BEGIN

#define RT_JSON_MAX_DEPTH 64
#define RT_JSON_MAX_BYTES (256LL << 20)

/* what: the name in messages, "tokenizer.json" or "PATH:LINE". cJSON_Delete the result. */
int rt_json_parse(cJSON **out, const char *text, int64_t bytes, const char *what, rt_err *err);
int rt_json_load(cJSON **out, const char *path, rt_err *err);
/* Two-space indented text with a final newline, atomically. */
int rt_json_save(const cJSON *json, const char *path, rt_err *err);

/* Whether a number was spelled as a fraction ("1.0", "1e3"), which JSON tells apart from 1 and C
   does not. rt_json_parse keeps such spellings, and printing writes them as they were. */
bool rt_json_is_float(const cJSON *number);

/* Getters. get = required; opt = leaves *out alone when the key is absent or null. */
const cJSON *rt_json_find(const cJSON *obj, const char *key);
int rt_json_get_i64(const cJSON *obj, const char *key, int64_t min, int64_t max, int64_t *out,
                    rt_err *err);
int rt_json_opt_i64(const cJSON *obj, const char *key, int64_t min, int64_t max, int64_t *out,
                    rt_err *err);
/* An unsigned 64-bit integer in a string, as rt_json_put_u64 writes it. */
int rt_json_get_u64(const cJSON *obj, const char *key, uint64_t *out, rt_err *err);
int rt_json_get_f64(const cJSON *obj, const char *key, double *out, rt_err *err);
int rt_json_opt_f64(const cJSON *obj, const char *key, double *out, rt_err *err);
int rt_json_opt_bool(const cJSON *obj, const char *key, bool *out, rt_err *err);
int rt_json_get_str(const cJSON *obj, const char *key, const char **out, rt_err *err); /* borrowed */
int rt_json_opt_str(const cJSON *obj, const char *key, const char **out, rt_err *err);
int rt_json_get_array(const cJSON *obj, const char *key, const cJSON **out, rt_err *err);
int rt_json_get_object(const cJSON *obj, const char *key, const cJSON **out, rt_err *err);

/* Builders that abort on out-of-memory, so that callers stay readable. u64 goes in as a string.
   On an array, put appends and key is not read. NaN and infinities are written as null, a NULL
   string too. Keys are not checked for duplicates. */
cJSON *rt_json_object(void);
cJSON *rt_json_array(void);
void rt_json_put(cJSON *obj, const char *key, cJSON *value);
void rt_json_put_str(cJSON *obj, const char *key, const char *value);
void rt_json_put_num(cJSON *obj, const char *key, double value);
void rt_json_put_i64(cJSON *obj, const char *key, int64_t value); /* |value| < 2^53, else rt_bug */
void rt_json_put_u64(cJSON *obj, const char *key, uint64_t value); /* as a decimal string */
void rt_json_put_bool(cJSON *obj, const char *key, bool value);
char *rt_json_text(const cJSON *json);   /* compact, no newline; free() it */
void rt_json_print(const cJSON *json);   /* that and a newline, on stdout */
char *rt_json_pretty(const cJSON *json); /* as rt_json_save writes it; free() it */

RT_END

#endif
