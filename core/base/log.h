/* log.h: what people see while work goes on. stdout is data and belongs to commands; everything
   here goes to stderr. One progress line everywhere, rewritten on a terminal and thinned in a file.
   Owns two words of state: the log level, and whether a progress line stands open. */
#ifndef RT_LOG_H
#define RT_LOG_H

#include "core/base/err.h"

RT_BEGIN

typedef enum rt_log_level { RT_LOG_SILENT, RT_LOG_QUIET, RT_LOG_NORMAL } rt_log_level;
void rt_log_set_level(rt_log_level level);
rt_log_level rt_log_get_level(void);
bool rt_log_quiet(void);
void rt_info(const char *fmt, ...) RT_PRINTF(1, 2);  /* silent with -q */
void rt_warn(const char *fmt, ...) RT_PRINTF(1, 2);  /* "warning: ..." unless SILENT, a rehearsal */

double rt_now(void);            /* monotonic seconds */
int64_t rt_peak_rss_bytes(void); /* high-water resident memory of this process */
bool rt_peak_rss_reset(void);    /* which begins again; false where the system cannot do that */
int64_t rt_rss_bytes(void);      /* resident now; 0 where the system does not say */

/* "train 120/2000 | loss 2.31 | 20.2k tok/s | 1.2 GiB | ETA 3m12s". Updates are rate-limited: a
   terminal sees at most 10 a second, a file one every 10 s and the last one. */
typedef struct rt_progress {
    const char *label;
    int64_t total, done;
    double begun, shown;
    int64_t resumed_from; /* work not done by this process; excluded from the rate */
    int64_t together;     /* begun side by side: the rate says nothing before so many are done */
    char text[200];       /* private: the caller's part of the last update */
    bool pending;         /* private: it has not been shown yet */
} rt_progress;
void rt_progress_begin(rt_progress *p, const char *label, int64_t done, int64_t total);
void rt_progress_update(rt_progress *p, int64_t done, const char *fmt, ...) RT_PRINTF(3, 4);
void rt_progress_end(rt_progress *p); /* leaves the last line standing */

/* "3m12s", "1.24 GiB", "20.2k" into a caller buffer; returns it. */
const char *rt_fmt_seconds(char *buf, size_t size, double seconds);
const char *rt_fmt_bytes(char *buf, size_t size, int64_t bytes);
const char *rt_fmt_count(char *buf, size_t size, double count);

RT_END

#endif
