/* events.h: metrics.jsonl once more, as an event file that TensorBoard and its kin show: every number of
   a line is a scalar at its step, "eval_ce" under eval/ce, "loss" under train/loss. The file is a function
   of the lines: its clock is the sum of their seconds, begun at 0, so a run that goes on writes what it
   would have written. Format: TFRecord frames (length, masked CRC-32C, bytes, masked CRC-32C) of protobuf
   messages Event {1: wall_time, 2: step, 3: file_version, 5: Summary {1: Value {1: tag, 2: float}}}.
   Refuses: histograms, pictures, choosing which numbers there are (metrics.h). */
#ifndef RT_EVENTS_H
#define RT_EVENTS_H

#include "core/base/json.h"

RT_BEGIN

#define RT_EVENTS_FILE "events.out.tfevents.0.retort"

typedef struct rt_events {
    const char *dir; /* borrowed */
    int fd;          /* -1 = closed */
    double seconds;  /* of the lines so far */
} rt_events;

/* dir's event file anew, of the lines of text(bytes), for appending. */
int rt_events_open(rt_events *e, const char *dir, const char *text, int64_t bytes, rt_err *err);
/* One line of metrics.jsonl; in one write, so that a kill leaves whole ones. */
int rt_events_add(rt_events *e, const char *line, int64_t bytes, rt_err *err);
void rt_events_close(rt_events *e);

uint32_t rt_crc32c(const void *data, int64_t bytes); /* Castagnoli, RFC 3720 */

RT_END

#endif
