#include "distill/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/memory.h"

uint32_t rt_crc32c(const void *data, int64_t bytes)
{
    const uint8_t *p = data;
    uint32_t crc = 0xffffffffu;
    for (int64_t i = 0; i < bytes; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

/* ---- bytes ---- */

typedef struct bytes {
    uint8_t *data;
    int64_t n, cap;
} bytes;

static void put(bytes *b, const void *data, int64_t n)
{
    rt_grow(&b->data, &b->cap, b->n + n, 1, "an event");
    memcpy(b->data + b->n, data, (size_t)n);
    b->n += n;
}

static void put_little(bytes *b, uint64_t v, int n)
{
    for (int i = 0; i < n; i++)
        put(b, &(uint8_t){ (uint8_t)(v >> (8 * i)) }, 1);
}

/* ---- protobuf: a field is its number and kind, then a varint, 8, 4 or counted bytes ---- */

enum { VARINT = 0, EIGHT = 1, COUNTED = 2, FOUR = 5 };

static void put_varint(bytes *b, uint64_t v)
{
    for (; v >= 128; v >>= 7)
        put(b, &(uint8_t){ (uint8_t)(v | 128) }, 1);
    put(b, &(uint8_t){ (uint8_t)v }, 1);
}

static void put_field(bytes *b, int number, int kind)
{
    put_varint(b, (uint64_t)(number << 3 | kind));
}

static void put_counted(bytes *b, int number, const void *data, int64_t n)
{
    put_field(b, number, COUNTED);
    put_varint(b, (uint64_t)n);
    put(b, data, n);
}

static void put_double(bytes *b, int number, double v)
{
    uint64_t u;
    memcpy(&u, &v, sizeof u);
    put_field(b, number, EIGHT);
    put_little(b, u, 8);
}

static void put_float(bytes *b, int number, float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    put_field(b, number, FOUR);
    put_little(b, u, 4);
}

/* ---- TFRecord ---- */

static uint32_t masked(const void *data, int64_t n)
{
    uint32_t crc = rt_crc32c(data, n);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

static void put_record(bytes *b, const bytes *event)
{
    int64_t at = b->n;
    put_little(b, (uint64_t)event->n, 8);
    put_little(b, masked(b->data + at, 8), 4);
    put(b, event->data, event->n);
    put_little(b, masked(event->data, event->n), 4);
}

/* ---- events ---- */

static void put_value(bytes *summary, const char *key, double v, bytes *value)
{
    static const char HELD_OUT[] = "eval_";
    char tag[128];
    bool held_out = !strncmp(key, HELD_OUT, sizeof HELD_OUT - 1);
    snprintf(tag, sizeof tag, "%s/%s", held_out ? "eval" : "train",
             key + (held_out ? sizeof HELD_OUT - 1 : 0));
    value->n = 0;
    put_counted(value, 1, tag, (int64_t)strlen(tag));
    put_float(value, 2, (float)v);
    put_counted(summary, 1, value->data, value->n);
}

/* A line that is none of ours gives nothing. */
static void put_line(bytes *b, rt_events *e, const char *line, int64_t n)
{
    cJSON *json = NULL;
    rt_err none;
    bytes event = { 0 }, summary = { 0 }, value = { 0 };
    if (rt_json_parse(&json, line, n, "metrics.jsonl", &none))
        return;
    const cJSON *step = rt_json_find(json, "step"), *seconds = rt_json_find(json, "seconds");
    for (const cJSON *c = cJSON_IsNumber(step) ? json->child : NULL; c; c = c->next)
        if (cJSON_IsNumber(c) && c != step)
            put_value(&summary, c->string, c->valuedouble, &value);
    if (summary.n) {
        e->seconds += cJSON_IsNumber(seconds) ? seconds->valuedouble : 0;
        put_double(&event, 1, e->seconds);
        put_field(&event, 2, VARINT);
        put_varint(&event, (uint64_t)step->valuedouble);
        put_counted(&event, 5, summary.data, summary.n);
        put_record(b, &event);
    }
    free(event.data);
    free(summary.data);
    free(value.data);
    cJSON_Delete(json);
}

/* At time 0, which protobuf does not spell out. */
static void put_version(bytes *b)
{
    static const char VERSION[] = "brain.Event:2";
    bytes event = { 0 };
    put_counted(&event, 3, VERSION, sizeof VERSION - 1);
    put_record(b, &event);
    free(event.data);
}

int rt_events_open(rt_events *e, const char *dir, const char *text, int64_t n, rt_err *err)
{
    char *path = rt_path_join(dir, RT_EVENTS_FILE);
    bytes b = { 0 };
    *e = (rt_events){ .dir = dir, .fd = -1 };
    put_version(&b);
    for (const char *line = text, *end; line && line < text + n; line = end + 1) {
        end = memchr(line, '\n', (size_t)(text + n - line));
        if (!end)
            break;
        put_line(&b, e, line, end - line);
    }
    int bad = rt_file_write(path, b.data, b.n, err);
    if (!bad && (e->fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC)) < 0)
        bad = rt_fail(err, "%s: cannot be opened for appending: %s", path, rt_errno_text(errno));
    free(b.data);
    free(path);
    return bad;
}

int rt_events_add(rt_events *e, const char *line, int64_t n, rt_err *err)
{
    bytes b = { 0 };
    char *path = rt_path_join(e->dir, RT_EVENTS_FILE);
    put_line(&b, e, line, n);
    int bad = b.n ? rt_fd_write(e->fd, b.data, b.n, path, err) : 0;
    free(b.data);
    free(path);
    return bad;
}

void rt_events_close(rt_events *e)
{
    if (e->fd > 0)
        close(e->fd);
    e->fd = -1;
}
