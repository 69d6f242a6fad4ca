/* process.c: signals, standard descriptors, the end of stdout. Used by retort.c alone. */
#include "core/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

void rt_process_prepare(void)
{
    struct sigaction stop = { .sa_handler = on_signal }; // no SA_RESTART: reads of a terminal end
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    signal(SIGPIPE, SIG_IGN); // a closed pipe must not kill a command that still has to save
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 1 ? O_RDONLY : O_RDWR) != fd)
            exit(1); // stdout is filled read-only: writing to it still fails
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
    return rt_fail(err, "stdout: could not be written: %s", strerror(reason ? reason : EIO));
}
