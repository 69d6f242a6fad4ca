/* process.h: what a well-behaved process owes its shell: signals that ask before they kill, sane
   descriptors 0-2, and stdout that counts as written only when the last byte was accepted. */
#ifndef RT_PROCESS_H
#define RT_PROCESS_H

#include "core/base/err.h"

RT_BEGIN

/* SIGINT, SIGTERM and SIGHUP call rt_interrupt_request once and kill the second time; SIGPIPE and
   SIGXFSZ are ignored, so that a write fails in words; closed standard descriptors are filled, so
   that no file opened later becomes stdout; a mapped file that is cut short ends the process with a
   line and exit 1; a stack that is too small is refused. */
int rt_process_prepare(rt_err *err);
/* For a conversation at a terminal, which SIGINT stops in the middle of a sentence and which then
   goes on: SIGINT asks as before and says nothing; SIGTERM and SIGHUP end the process at once. */
void rt_process_converse(void);
/* Flush and close stdout. When its reader has left (a pipe to head) the process ends by SIGPIPE. */
int rt_process_close_stdout(rt_err *err);

RT_END

#endif
