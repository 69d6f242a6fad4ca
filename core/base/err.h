/* err.h: how a failure travels. Three classes, three words:
     rt_bug    we are wrong (a shape mismatch, an impossible enum): prints and aborts, never for input
     rt_fail   the world is wrong (file, JSON, memory, device, server): returns -1, text in *err
     rt_usage  the command line or recipe is wrong: as rt_fail, but the program exits 2
   rt_wrap prepends context while unwinding. Functions return 0 or -1 with rt_err *err last; err is
   untouched on success, so calls chain: if (a(.., err) || b(.., err)) goto out;
   A message says what, where and what to do, on one line. Only retort.c exits, and memory.c when
   the machine has no memory left. */
#ifndef RT_ERR_H
#define RT_ERR_H

#include "core/base/base.h"

RT_BEGIN

typedef struct rt_err {
    char text[1024]; /* one line, NUL-terminated, truncated with "..." when longer */
    int exit_code;   /* 1 failed, 2 usage, 130 interrupted; 0 while nothing failed */
} rt_err;

int rt_fail(rt_err *err, const char *fmt, ...) RT_PRINTF(2, 3);
int rt_usage(rt_err *err, const char *fmt, ...) RT_PRINTF(2, 3);
int rt_wrap(rt_err *err, const char *fmt, ...) RT_PRINTF(2, 3);
#ifdef __cplusplus
[[noreturn]] void rt_bug(const char *fmt, ...) RT_PRINTF(1, 2);
#else
_Noreturn void rt_bug(const char *fmt, ...) RT_PRINTF(1, 2);
#endif

/* strerror, with what to do about a limit: a full disk, ulimit -f, ulimit -n. */
const char *rt_errno_text(int number);

/* For a loop that polls rt_interrupted: "interrupted while DOING WHAT", exit code 130; -1. */
int rt_fail_interrupted(rt_err *err, const char *doing, const char *what);

/* Control bytes of text become '?' (newline and tab a blank), in place; returns text. */
char *rt_text_clean(char *text);

/* Set by the handler of SIGINT, SIGTERM and SIGHUP that retort.c installs; long loops poll it between steps. */
bool rt_interrupted(void);
void rt_interrupt_request(void); /* async-signal-safe */
/* Whether it was set, and no longer is: of a command that goes on after one (process.h). */
bool rt_interrupt_take(void);

RT_END

#endif
