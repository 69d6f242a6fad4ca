/* streaming.h: what `sample` and `score` say of a teacher whose weights are read as they are needed
   (--memory, core/network/stream.h): how the bytes that are allowed are spent is the command's;
   here are the rule that it counts by, a probe of the disk and of the products, the forecast made
   from it, and the account at the end. Refuses: choosing rows. */
#ifndef RT_STREAMING_H
#define RT_STREAMING_H

#include "teacher/teacher.h"

RT_BEGIN

/* Bytes of --memory that are left when everything in `needs` is held, the process as it is included
   (rt_teacher_needs); or those that a GPU has left, when they are fewer. < 0: too little. */
int64_t rt_streaming_left(const rt_needs *needs, int64_t memory);
/* Not even the smallest plan, `needs`, fits: -1, or a warning and 0 where that plan is only shown.
   what: "texts of 812 tokens". */
int rt_streaming_refuse(const rt_needs *needs, int64_t memory, const char *what, bool plan,
                        rt_err *err);

typedef struct rt_streaming_speed {
    double disk;  /* bytes a second */
    double row_s; /* seconds of products a row, through all layers and the head */
} rt_streaming_speed;

/* Runs `rows` rows in sequences of `longest` through two layers of an open stream, with memory of
   its own that is given back; what it read is not counted. */
int rt_streaming_probe(rt_streaming_speed *speed, rt_teacher *t, int64_t rows, int64_t longest,
                       rt_err *err);
/* Seconds of a pass of `rows` rows: its reads or its products, whichever take longer. */
double rt_streaming_pass_s(const rt_streaming_speed *speed, const rt_teacher *t, int64_t rows);
/* Says on stderr what is about to begin: tokens in all, rows (tokens) a pass, bytes of the archive.
 */
void rt_streaming_forecast(const rt_streaming_speed *speed, const rt_teacher *t, int64_t memory,
                           int64_t tokens, int64_t rows, int64_t archive);

/* The account at the end, if a pass was made. */
void rt_streaming_print(const rt_teacher *t);
void rt_streaming_put(cJSON *json, const rt_teacher *t);

RT_END

#endif
