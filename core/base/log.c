/* log.c: messages and the progress line on stderr. Nothing here ever writes to stdout. */
#include "core/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static rt_log_level log_level = RT_LOG_NORMAL;
static bool line_open = false; // a progress line stands unfinished on the terminal

void rt_log_set_level(rt_log_level level) { log_level = level; }
rt_log_level rt_log_get_level(void) { return log_level; }
bool rt_log_quiet(void) { return log_level < RT_LOG_NORMAL; }

static void say(const char *prefix, const char *fmt, va_list args)
{
    char text[2048];
    vsnprintf(text, sizeof text, fmt, args);
    fprintf(stderr, "%s%s%s\n", line_open ? "\r\033[K" : "", prefix, rt_text_clean(text));
    line_open = false;
}

void rt_info(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (log_level >= RT_LOG_NORMAL)
        say("", fmt, args);
    va_end(args);
}

void rt_warn(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (log_level >= RT_LOG_QUIET)
        say("warning: ", fmt, args);
    va_end(args);
}

double rt_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int64_t rt_peak_rss_bytes(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (int64_t)usage.ru_maxrss * 1024;
}

bool rt_peak_rss_reset(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "we");
    bool done = f && fputs("5", f) >= 0;
    return f && fclose(f) == 0 && done;
}

int64_t rt_rss_bytes(void)
{
    long long all = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%lld %lld", &all, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return resident * sysconf(_SC_PAGESIZE);
}

// --------------------------------------------------------------------------------- progress

static void show(rt_progress *p, double now)
{
    char line[512], bytes[32], eta[32];
    int64_t fresh = p->done - p->resumed_from;
    int n = p->total > 0 ? snprintf(line, sizeof line, "%s %lld/%lld", p->label, (long long)p->done,
                                    (long long)p->total)
                         : snprintf(line, sizeof line, "%s %lld", p->label, (long long)p->done);
    if (p->text[0])
        n += snprintf(line + n, sizeof line - (size_t)n, " | %s", p->text);
    n += snprintf(line + n, sizeof line - (size_t)n, " | %s",
                  rt_fmt_bytes(bytes, sizeof bytes, rt_peak_rss_bytes()));
    if (p->total > p->done && fresh > 0 && fresh >= p->together) {
        double left = (now - p->begun) / (double)fresh * (double)(p->total - p->done);
        snprintf(line + n, sizeof line - (size_t)n, " | ETA %s",
                 rt_fmt_seconds(eta, sizeof eta, left));
    }
    p->shown = now;
    p->pending = false;
    if (!isatty(STDERR_FILENO)) {
        fprintf(stderr, "%s\n", line);
        return;
    }
    struct winsize window;
    int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1
                      ? window.ws_col - 1
                      : 79;
    fprintf(stderr, "\r%.*s\033[K", columns, line);
    fflush(stderr);
    line_open = true;
}

void rt_progress_begin(rt_progress *p, const char *label, int64_t done, int64_t total)
{
    *p = (rt_progress){ .label = label, .total = total, .done = done, .resumed_from = done };
    p->begun = p->shown = rt_now();
}

void rt_progress_update(rt_progress *p, int64_t done, const char *fmt, ...)
{
    double now = rt_now();
    p->done = done;
    p->pending = true;
    p->text[0] = 0;
    if (fmt) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(p->text, sizeof p->text, fmt, args);
        va_end(args);
        rt_text_clean(p->text);
    }
    if (log_level >= RT_LOG_NORMAL && now - p->shown >= (isatty(STDERR_FILENO) ? 0.1 : 10.0))
        show(p, now);
}

void rt_progress_end(rt_progress *p)
{
    if (log_level >= RT_LOG_NORMAL && p->pending)
        show(p, rt_now());
    if (line_open)
        fputc('\n', stderr);
    line_open = false;
}

// --------------------------------------------------------------------------------- numbers

const char *rt_fmt_seconds(char *buf, size_t size, double seconds)
{
    long long s = seconds > 0 && seconds < 1e15 ? (long long)(seconds + 0.5) : 0;
    if (seconds < 9.95)
        snprintf(buf, size, "%.1fs", seconds > 0 ? seconds : 0.0);
    else if (s < 60)
        snprintf(buf, size, "%llds", s);
    else if (s < 3600)
        snprintf(buf, size, "%lldm%02llds", s / 60, s % 60);
    else if (s < 86400)
        snprintf(buf, size, "%lldh%02lldm", s / 3600, s / 60 % 60);
    else
        snprintf(buf, size, "%lldd%02lldh", s / 86400, s / 3600 % 24);
    return buf;
}

// Three significant digits of value in the first unit that keeps it below `step`.
static void fmt_unit(char *buf, size_t size, double value, double step, const char *const *unit,
                     int n_units)
{
    int u = 0;
    while (u + 1 < n_units && value >= step - 0.5) {
        value /= step;
        u++;
    }
    snprintf(buf, size, "%.*f%s",
             u == 0 || value >= 99.95 ? 0
             : value >= 9.995         ? 1
                                      : 2,
             value, unit[u]);
}

const char *rt_fmt_bytes(char *buf, size_t size, int64_t bytes)
{
    static const char *const UNIT[] = { " B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB" };
    fmt_unit(buf, size, (double)bytes, 1024, UNIT, RT_COUNT(UNIT));
    return buf;
}

const char *rt_fmt_count(char *buf, size_t size, double count)
{
    static const char *const UNIT[] = { "", "k", "M", "G", "T", "P" };
    fmt_unit(buf, size, count, 1000, UNIT, RT_COUNT(UNIT));
    return buf;
}
