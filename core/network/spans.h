/* spans.h: stretches of a mapped checkpoint that are copied into the memory of a device which
   cannot read files, each once however many weights share it. Refuses: what their bytes mean
   (core/device/piece.h), checking them (stored.h). */
#ifndef RT_SPANS_H
#define RT_SPANS_H

#include "core/device/device.h"

RT_BEGIN

typedef struct rt_span {
    const uint8_t *host;
    int64_t bytes;
    uint8_t *data; /* on the device, NULL while measuring */
} rt_span;

typedef struct rt_spans {
    rt_span *item; /* ascending and apart once settled */
    int64_t n, cap;
} rt_spans;

void rt_spans_add(rt_spans *s, const uint8_t *host, int64_t bytes);
void rt_spans_settle(rt_spans *s); /* after the last one */
void rt_spans_free(rt_spans *s);
void rt_spans_plan(rt_spans *s, rt_arena *a); /* twice, like every plan */
int rt_spans_upload(const rt_spans *s, rt_dev *d, rt_err *err);
/* Where the byte at host lies on the device. */
const uint8_t *rt_spans_find(const rt_spans *s, const uint8_t *host);

RT_END

#endif
