/* json.c: cJSON behind a gate. A scan of the raw bytes caps depth and size and refuses NUL
   characters (cJSON would silently cut the string there) before cJSON sees them; afterwards
   duplicate keys and numbers beyond a double are refused. A number keeps its spelling where that
   says more than the double (in cJSON's valuestring). Printing is ours: two-space indentation,
   that spelling, else the shortest number that reads back to the same double. */
#include "core/base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/base/utf8.h"

static const double SAFE_INTEGER = 9007199254740991.0; // 2^53 - 1: beyond it doubles skip integers

// --------------------------------------------------------------------------------- parsing

// A text that is one line of a file: its place ends with the line's number.
static bool names_line(const char *what)
{
    size_t n = strlen(what);
    while (n && what[n - 1] >= '0' && what[n - 1] <= '9')
        n--;
    return n && what[n] && what[n - 1] == ':';
}

// "what:line:column: problem" for a byte offset of the text.
static int fail_at(const char *what, const char *text, int64_t at, const char *problem, rt_err *err)
{
    int64_t line = 1, column = 1;
    for (int64_t i = 0; i < at; i++) {
        column++;
        if (text[i] == '\n') {
            line++;
            column = 1;
        }
    }
    if (line == 1 && names_line(what))
        return rt_fail(err, "%s:%lld: %s", what, (long long)column, problem);
    return rt_fail(err, "%s:%lld:%lld: %s", what, (long long)line, (long long)column, problem);
}

static int scan_raw(const char *text, int64_t bytes, const char *what, rt_err *err)
{
    int depth = 0;
    bool in_string = false;
    for (int64_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (c == 0)
            return fail_at(what, text, i, "NUL byte; this is not JSON text", err);
        if (in_string) {
            if (c == '\\') {
                if (bytes - i >= 6 && !memcmp(text + i, "\\u0000", 6))
                    return fail_at(what, text, i, "\\u0000 is not supported; remove it", err);
                i++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > RT_JSON_MAX_DEPTH)
                return fail_at(what, text, i, "nested too deeply (64 levels are allowed)", err);
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return 0;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// A key that occurs twice in this object, or NULL. Sorted, because vocabularies are large.
static const char *find_duplicate(const cJSON *obj)
{
    size_t n = 0;
    for (const cJSON *c = obj->child; c; c = c->next)
        n++;
    if (n < 2)
        return NULL;
    const char **keys = rt_alloc((int64_t)n, sizeof *keys, "JSON keys");
    n = 0;
    for (const cJSON *c = obj->child; c; c = c->next)
        keys[n++] = c->string;
    qsort(keys, n, sizeof *keys, by_key);
    const char *found = NULL;
    for (size_t i = 1; i < n && !found; i++)
        if (!strcmp(keys[i - 1], keys[i]))
            found = keys[i];
    free(keys);
    return found;
}

static int check_tree(const cJSON *json, const char *what, rt_err *err)
{
    const char *key = json->string ? json->string : "";
    if (cJSON_IsNumber(json) && !isfinite(json->valuedouble) && rt_json_is_float(json))
        return rt_fail(err, "%s: %s%s%sa number is too large for a double", what,
                       *key ? "key \"" : "", key, *key ? "\": " : "");
    if (cJSON_IsObject(json)) {
        const char *twice = find_duplicate(json);
        if (twice)
            return rt_fail(err, "%s: key \"%s\" occurs twice in one object; keep one", what, twice);
    }
    for (const cJSON *c = json->child; c; c = c->next)
        if ((c->child || cJSON_IsNumber(c)) && check_tree(c, what, err))
            return -1;
    return 0;
}

bool rt_json_is_float(const cJSON *number)
{
    return number->valuestring ? strpbrk(number->valuestring, ".eE") != NULL
                               : number->valuedouble != floor(number->valuedouble);
}

static bool starts_number(char c) { return c == '-' || (c >= '0' && c <= '9'); }

static int64_t digits_at(const char *s, int64_t n)
{
    int64_t k = 0;
    while (k < n && s[k] >= '0' && s[k] <= '9')
        k++;
    return k;
}

// As RFC 8259 has it; cJSON lets 007 and 1. pass, which would be read as other text.
static bool number_ok(const char *s, int64_t n)
{
    int64_t at = s[0] == '-', digits = digits_at(s + at, n - at);
    if (digits == 0 || (digits > 1 && s[at] == '0'))
        return false;
    at += digits;
    if (at < n && s[at] == '.') {
        digits = digits_at(s + at + 1, n - at - 1);
        if (digits == 0)
            return false;
        at += 1 + digits;
    }
    if (at < n && (s[at] == 'e' || s[at] == 'E')) {
        at += 1 + (at + 1 < n && (s[at + 1] == '+' || s[at + 1] == '-'));
        digits = digits_at(s + at, n - at);
        if (digits == 0)
            return false;
        at += digits;
    }
    return at == n;
}

// The numbers of the tree and of its text come in the same order. Returns where the text goes on,
// at a number that is none with *bad set.
static const char *keep_spelling(cJSON *json, const char *at, const char *end, bool *bad)
{
    enum { PLAIN = 15 }; // digits that print as they were
    if (cJSON_IsNumber(json)) {
        for (bool in_string = false; at < end && (in_string || !starts_number(*at)); at++) {
            if (*at == '"')
                in_string = !in_string;
            at += *at == '\\';
        }
        int64_t n = 0;
        while (at + n < end && strchr("+-.0123456789eE", at[n]))
            n++;
        *bad = n == 0 || !number_ok(at, n);
        if (*bad)
            return at;
        if (n > PLAIN || digits_at(at, n) < n)
            json->valuestring = rt_strndup(at, n);
        at += n;
    }
    for (cJSON *c = json->child; c && !*bad; c = c->next)
        at = keep_spelling(c, at, end, bad);
    return at;
}

int rt_json_parse(cJSON **out, const char *text, int64_t bytes, const char *what, rt_err *err)
{
    *out = NULL;
    if (bytes > RT_JSON_MAX_BYTES)
        return rt_fail(err, "%s: %lld bytes of JSON, at most %lld are allowed", what,
                       (long long)bytes, (long long)RT_JSON_MAX_BYTES);
    int64_t good = rt_utf8_check(text, bytes);
    if (good < bytes)
        return fail_at(what, text, good, "not UTF-8, which JSON is written in", err);
    if (scan_raw(text, bytes, what, err))
        return -1;
    const char *end = NULL;
    cJSON *json = bytes ? cJSON_ParseWithLengthOpts(text, (size_t)bytes, &end, 0) : NULL;
    int64_t at = end ? (int64_t)(end - text) : 0;
    if (!json)
        return fail_at(what, text, at < bytes ? at : bytes,
                       bytes ? "malformed JSON" : "empty, JSON is expected", err);
    while (at < bytes && strchr(" \t\r\n", text[at]))
        at++;
    int rc = at < bytes ? fail_at(what, text, at, "more text after the JSON value", err) : 0;
    if (!rc) {
        bool bad = false;
        at = keep_spelling(json, text, text + bytes, &bad) - text;
        rc = bad ? fail_at(what, text, at, "malformed number", err) : check_tree(json, what, err);
    }
    if (rc) {
        cJSON_Delete(json);
        return -1;
    }
    *out = json;
    return 0;
}

int rt_json_load(cJSON **out, const char *path, rt_err *err)
{
    char *text;
    int64_t bytes;
    *out = NULL;
    if (rt_file_read(&text, &bytes, path, RT_JSON_MAX_BYTES, err))
        return -1;
    int rc = rt_json_parse(out, text, bytes, path, err);
    free(text);
    return rc;
}

// --------------------------------------------------------------------------------- printing

typedef struct text_buf {
    char *data;
    size_t used, cap;
} text_buf;

static void put_bytes(text_buf *b, const char *s, size_t n)
{
    if (b->used + n + 1 > b->cap) {
        b->cap = 2 * (b->used + n) + 256;
        b->data = rt_realloc(b->data, (int64_t)b->cap, 1, "JSON text");
    }
    memcpy(b->data + b->used, s, n);
    b->used += n;
    b->data[b->used] = 0;
}

static void put_text(text_buf *b, const char *s) { put_bytes(b, s, strlen(s)); }

// A byte that is not UTF-8, which a model may say, is U+FFFD.
static void put_quoted(text_buf *b, const char *s)
{
    static const char SHORT[] = "\b\f\n\r\t\"\\", LETTER[] = "bfnrt\"\\";
    put_text(b, "\"");
    for (const char *run = s;; s++) {
        unsigned char c = (unsigned char)*s;
        uint32_t cp;
        int n = c < 0x80 ? 1 : rt_utf8_decode(s, (int64_t)strnlen(s, 4), &cp);
        if (n > 0 && c >= 0x20 && c != '"' && c != '\\') {
            s += n - 1;
            continue;
        }
        put_bytes(b, run, (size_t)(s - run));
        if (c == 0)
            break;
        char escape[8];
        const char *known = strchr(SHORT, c);
        if (n <= 0)
            snprintf(escape, sizeof escape, "\xEF\xBF\xBD");
        else if (known)
            snprintf(escape, sizeof escape, "\\%c", LETTER[known - SHORT]);
        else
            snprintf(escape, sizeof escape, "\\u%04x", c);
        put_text(b, escape);
        run = s + 1;
    }
    put_text(b, "\"");
}

static void put_number(text_buf *b, const cJSON *json)
{
    double v = json->valuedouble;
    char text[32] = "null"; // JSON has no NaN and no infinity
    if (json->valuestring) {
        put_text(b, json->valuestring);
        return;
    }
    if (isfinite(v) && v == floor(v) && fabs(v) <= SAFE_INTEGER)
        snprintf(text, sizeof text, "%.0f", v == 0 ? 0.0 : v);
    else if (isfinite(v))
        for (int digits = 6; digits <= 17; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, v);
            if (strtod(text, NULL) == v)
                break;
        }
    put_text(b, text);
}

static void put_line(text_buf *b, int indent)
{
    if (indent < 0)
        return;
    put_text(b, "\n");
    for (int i = 0; i < indent; i++)
        put_text(b, "  ");
}

// indent: the level of this value, or -1 for compact text. Arrays of numbers stay on one line.
static void put_value(text_buf *b, const cJSON *json, int indent)
{
    if (cJSON_IsString(json) || cJSON_IsRaw(json)) {
        put_quoted(b, json->valuestring);
    } else if (cJSON_IsNumber(json)) {
        put_number(b, json);
    } else if (cJSON_IsBool(json)) {
        put_text(b, cJSON_IsTrue(json) ? "true" : "false");
    } else if (cJSON_IsArray(json) || cJSON_IsObject(json)) {
        bool object = cJSON_IsObject(json), flat = indent < 0 || !json->child;
        if (!object && cJSON_IsNumber(json->child))
            flat = true;
        put_text(b, object ? "{" : "[");
        for (const cJSON *c = json->child; c; c = c->next) {
            if (!flat)
                put_line(b, indent + 1);
            if (object) {
                put_quoted(b, c->string);
                put_text(b, indent < 0 ? ":" : ": ");
            }
            put_value(b, c, indent < 0 ? -1 : indent + 1);
            if (c->next)
                put_text(b, flat && indent >= 0 ? ", " : ",");
        }
        if (!flat)
            put_line(b, indent);
        put_text(b, object ? "}" : "]");
    } else {
        put_text(b, "null");
    }
}

char *rt_json_text(const cJSON *json)
{
    text_buf b = { 0 };
    put_value(&b, json, -1);
    return b.data;
}

void rt_json_print(const cJSON *json)
{
    char *text = rt_json_text(json);
    puts(text);
    free(text);
}

char *rt_json_pretty(const cJSON *json)
{
    text_buf b = { 0 };
    put_value(&b, json, 0);
    put_text(&b, "\n");
    return b.data;
}

int rt_json_save(const cJSON *json, const char *path, rt_err *err)
{
    char *text = rt_json_pretty(json);
    int rc = rt_file_write(path, text, (int64_t)strlen(text), err);
    free(text);
    return rc;
}

// --------------------------------------------------------------------------------- getters

const cJSON *rt_json_find(const cJSON *obj, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(obj, key);
}

// 1: present and not null, 0: absent, -1: absent though required.
static int lookup(const cJSON *obj, const char *key, bool need, const cJSON **out, rt_err *err)
{
    const cJSON *v = rt_json_find(obj, key);
    *out = v;
    if (v && !cJSON_IsNull(v))
        return 1;
    return need ? rt_fail(err, "key \"%s\" is missing", key) : 0;
}

static int wrong_type(const cJSON *v, const char *key, const char *wanted, rt_err *err)
{
    char *text = rt_json_text(v);
    if (strlen(text) > 40)
        strcpy(text + 37, "...");
    rt_fail(err, "key \"%s\" must be %s, not %s", key, wanted, text);
    free(text);
    return -1;
}

static int read_i64(const cJSON *obj, const char *key, bool need, int64_t min, int64_t max,
                    int64_t *out, rt_err *err)
{
    const cJSON *v;
    int found = lookup(obj, key, need, &v, err);
    if (found <= 0)
        return found;
    double d = cJSON_IsNumber(v) ? v->valuedouble : 0.5;
    if (d != floor(d) || fabs(d) > SAFE_INTEGER || d < (double)min || d > (double)max) {
        char wanted[80];
        snprintf(wanted, sizeof wanted, "an integer from %lld to %lld", (long long)min,
                 (long long)rt_min(max, (int64_t)SAFE_INTEGER));
        return wrong_type(v, key, wanted, err);
    }
    *out = (int64_t)d;
    return 0;
}

int rt_json_get_i64(const cJSON *obj, const char *key, int64_t min, int64_t max, int64_t *out,
                    rt_err *err)
{
    return read_i64(obj, key, true, min, max, out, err);
}

int rt_json_opt_i64(const cJSON *obj, const char *key, int64_t min, int64_t max, int64_t *out,
                    rt_err *err)
{
    return read_i64(obj, key, false, min, max, out, err);
}

int rt_json_get_u64(const cJSON *obj, const char *key, uint64_t *out, rt_err *err)
{
    const cJSON *v;
    if (lookup(obj, key, true, &v, err) < 0)
        return -1;
    const char *s = cJSON_IsString(v) ? v->valuestring : "";
    size_t digits = strspn(s, "0123456789");
    uint64_t value = 0;
    for (size_t i = 0; i < digits; i++)
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(s[i] - '0'), &value))
            digits = 0;
    if (!digits || s[digits])
        return wrong_type(v, key, "an unsigned 64-bit integer in a string", err);
    *out = value;
    return 0;
}

static int read_f64(const cJSON *obj, const char *key, bool need, double *out, rt_err *err)
{
    const cJSON *v;
    int found = lookup(obj, key, need, &v, err);
    if (found <= 0)
        return found;
    if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble))
        return wrong_type(v, key, "a number", err);
    *out = v->valuedouble;
    return 0;
}

int rt_json_get_f64(const cJSON *obj, const char *key, double *out, rt_err *err)
{
    return read_f64(obj, key, true, out, err);
}

int rt_json_opt_f64(const cJSON *obj, const char *key, double *out, rt_err *err)
{
    return read_f64(obj, key, false, out, err);
}

int rt_json_opt_bool(const cJSON *obj, const char *key, bool *out, rt_err *err)
{
    const cJSON *v;
    int found = lookup(obj, key, false, &v, err);
    if (found <= 0)
        return found;
    if (!cJSON_IsBool(v))
        return wrong_type(v, key, "true or false", err);
    *out = cJSON_IsTrue(v);
    return 0;
}

static int read_str(const cJSON *obj, const char *key, bool need, const char **out, rt_err *err)
{
    const cJSON *v;
    int found = lookup(obj, key, need, &v, err);
    if (found <= 0)
        return found;
    if (!cJSON_IsString(v))
        return wrong_type(v, key, "a string", err);
    *out = v->valuestring;
    return 0;
}

int rt_json_get_str(const cJSON *obj, const char *key, const char **out, rt_err *err)
{
    return read_str(obj, key, true, out, err);
}

int rt_json_opt_str(const cJSON *obj, const char *key, const char **out, rt_err *err)
{
    return read_str(obj, key, false, out, err);
}

int rt_json_get_array(const cJSON *obj, const char *key, const cJSON **out, rt_err *err)
{
    const cJSON *v;
    if (lookup(obj, key, true, &v, err) < 0)
        return -1;
    if (!cJSON_IsArray(v))
        return wrong_type(v, key, "an array", err);
    *out = v;
    return 0;
}

int rt_json_get_object(const cJSON *obj, const char *key, const cJSON **out, rt_err *err)
{
    const cJSON *v;
    if (lookup(obj, key, true, &v, err) < 0)
        return -1;
    if (!cJSON_IsObject(v))
        return wrong_type(v, key, "an object", err);
    *out = v;
    return 0;
}

// --------------------------------------------------------------------------------- builders

cJSON *rt_json_object(void) { return cJSON_CreateObject(); }
cJSON *rt_json_array(void) { return cJSON_CreateArray(); }

void rt_json_put(cJSON *obj, const char *key, cJSON *value)
{
    if (!(cJSON_IsArray(obj) ? cJSON_AddItemToArray(obj, value)
                             : cJSON_AddItemToObject(obj, key, value)))
        rt_bug("JSON key \"%s\" could not be added", key ? key : "(array)");
}

void rt_json_put_str(cJSON *obj, const char *key, const char *value)
{
    rt_json_put(obj, key, value ? cJSON_CreateString(value) : cJSON_CreateNull());
}

void rt_json_put_num(cJSON *obj, const char *key, double value)
{
    rt_json_put(obj, key, cJSON_CreateNumber(value));
}

void rt_json_put_i64(cJSON *obj, const char *key, int64_t value)
{
    if (fabs((double)value) > SAFE_INTEGER)
        rt_bug("JSON key \"%s\": %lld does not fit a double", key, (long long)value);
    rt_json_put_num(obj, key, (double)value);
}

void rt_json_put_u64(cJSON *obj, const char *key, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    rt_json_put_str(obj, key, text);
}

void rt_json_put_bool(cJSON *obj, const char *key, bool value)
{
    rt_json_put(obj, key, cJSON_CreateBool(value));
}
