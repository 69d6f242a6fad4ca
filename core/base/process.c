/* process.c: signals, standard descriptors, the end of stdout. Used by retort.c, and by a command
   that talks with a person. */
#include "core/base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void on_signal(int number)
{
    static const char NOTE[] = "\nretort: stopping at the next safe point; once more to stop now\n";
    int held = errno;
    if (rt_interrupted()) {
        signal(number, SIG_DFL);
        raise(number); // delivered when this handler returns
    }
    rt_interrupt_request();
    ssize_t shown = write(STDERR_FILENO, NOTE, sizeof NOTE - 1);
    (void)shown; // nobody listens: nothing to be done about it here
    errno = held;
}

static void on_hush(int number)
{
    if (rt_interrupted()) { // nobody has taken the last one: it hangs
        signal(number, SIG_DFL);
        raise(number);
    }
    rt_interrupt_request();
}

void rt_process_converse(void)
{
    struct sigaction hush = { .sa_handler = on_hush };
    sigaction(SIGINT, &hush, NULL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
}

/* A mapped page that is no longer there: there is nothing to go on with, but a line. */
static void on_lost_page(int number)
{
    static const char LINE[] =
        "retort: a file that is being read was cut short or its disk failed, "
        "so this command ends; fetch the file again\n";
    static char said;
    (void)number;
    if (!__atomic_test_and_set(&said, __ATOMIC_RELAXED)) { // several threads may fall over it
        ssize_t shown = write(STDERR_FILENO, LINE, sizeof LINE - 1);
        (void)shown;
        _exit(1);
    }
    pause();
}

/* The stack that the deepest templates and files may need, for us and for each thread. 256 KiB do
   for all that the tests nest; a thread of a team needs less than 64. */
static int prepare_stack(rt_err *err)
{
    enum { STACK_BYTES = 1 << 20 };
    struct rlimit stack;
    pthread_attr_t attr;
    if (getrlimit(RLIMIT_STACK, &stack) == 0 && stack.rlim_cur < STACK_BYTES) {
        stack.rlim_cur = stack.rlim_max < STACK_BYTES ? stack.rlim_max : STACK_BYTES;
        if (stack.rlim_cur < STACK_BYTES || setrlimit(RLIMIT_STACK, &stack))
            return rt_fail(err, "a stack of %lld KiB is too small: allow 1024 (ulimit -s 1024)",
                           (long long)stack.rlim_max / 1024);
    }
    if (pthread_attr_init(&attr) == 0) {
        pthread_attr_setstacksize(&attr, STACK_BYTES);
        pthread_setattr_default_np(&attr); /* a wish: the default of 8 MiB works too */
        pthread_attr_destroy(&attr);
    }
    return 0;
}

int rt_process_prepare(rt_err *err)
{
    struct sigaction stop = { .sa_handler = on_signal }; // no SA_RESTART: reads of a terminal end
    struct sigaction before;
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN) // nohup stays
        sigaction(SIGHUP, &stop, NULL);
    signal(SIGBUS, on_lost_page);
    signal(SIGPIPE, SIG_IGN); // a closed pipe must not kill a command that still has to save
    signal(SIGXFSZ, SIG_IGN); // a write past ulimit -f fails in words
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 1 ? O_RDONLY : O_RDWR) != fd)
            exit(1); // stdout is filled read-only: writing to it still fails
    return prepare_stack(err);
}

int rt_process_close_stdout(rt_err *err)
{
    errno = 0;
    bool failed = fflush(stdout) != 0 || ferror(stdout);
    int reason = errno;
    struct pollfd reader = { .fd = STDOUT_FILENO, .events = POLLOUT };
    if (failed && poll(&reader, 1, 0) == 1 && (reader.revents & POLLERR)) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    if (close(STDOUT_FILENO) && !failed) {
        failed = true;
        reason = errno;
    }
    if (!failed)
        return 0;
    return rt_fail(err, "stdout: could not be written: %s", rt_errno_text(reason ? reason : EIO));
}
