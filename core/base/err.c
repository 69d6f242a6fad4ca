/* err.c: the message object and the interrupt flag.
   Messages are one line of UTF-8: what else a file or a server put into them is replaced, so
   hostile text can neither forge a second line nor drive the terminal. */
#include "core/base/err.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/utf8.h"

// Written by a signal handler, read by loops of any thread.
static volatile sig_atomic_t interrupted = 0;

bool rt_interrupted(void) { return interrupted != 0; }
void rt_interrupt_request(void) { interrupted = 1; }

bool rt_interrupt_take(void)
{
    bool was = interrupted != 0;
    interrupted = 0;
    return was;
}

const char *rt_errno_text(int number)
{
    switch (number) {
    case ENOSPC:
        return "No space left on device; free some space and run the command again";
    case EDQUOT:
        return "the disk quota is used up; free some space and run the command again";
    case EFBIG:
        return "the limit of a file's size is reached; raise it (ulimit -f) and run again";
    case EMFILE:
        return "too many open files; raise the limit (ulimit -n)";
    case ENOMEM:
        return "out of memory";
    default:
        return strerror(number);
    }
}

char *rt_text_clean(char *text)
{
    int64_t n = (int64_t)strlen(text), at = 0;
    while ((at += rt_utf8_check_line(text + at, n - at)) < n)
        text[at] = text[at] == '\n' || text[at] == '\t' ? ' ' : '?';
    return text;
}

// Ends an over-long text with "..." without cutting a UTF-8 sequence in two.
static void mark_truncated(char *text, size_t size)
{
    size_t at = size - 4;
    while (at > 0 && ((unsigned char)text[at] & 0xC0) == 0x80)
        at--;
    memcpy(text + at, "...", 4);
}

static int set_text(rt_err *err, int exit_code, const char *suffix, const char *fmt, va_list args)
{
    char text[sizeof err->text]; // formatted aside: suffix and arguments may point into err
    int n = vsnprintf(text, sizeof text, fmt, args);
    if (n < 0)
        n = snprintf(text, sizeof text, "(message could not be formatted)");
    if (suffix && n < (int)sizeof text)
        n += snprintf(text + n, sizeof text - (size_t)n, ": %s", suffix);
    if (n >= (int)sizeof text)
        mark_truncated(text, sizeof text);
    if (err) {
        memcpy(err->text, rt_text_clean(text), sizeof text);
        err->exit_code = exit_code;
    }
    return -1;
}

int rt_fail(rt_err *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int rc = set_text(err, 1, NULL, fmt, args);
    va_end(args);
    return rc;
}

int rt_fail_interrupted(rt_err *err, const char *doing, const char *what)
{
    rt_fail(err, "interrupted while %s %s", doing, what);
    if (err)
        err->exit_code = 130;
    return -1;
}

int rt_usage(rt_err *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int rc = set_text(err, 2, NULL, fmt, args);
    va_end(args);
    return rc;
}

int rt_wrap(rt_err *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int rc = set_text(err, err && err->exit_code ? err->exit_code : 1, err ? err->text : NULL, fmt,
                      args);
    va_end(args);
    return rc;
}

void rt_bug(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("retort: bug: ", stderr);
    vfprintf(stderr, fmt, args);
    fputs("\nThis is a mistake in retort, not in your input: please report it.\n", stderr);
    va_end(args);
    fflush(stderr);
    abort();
}
