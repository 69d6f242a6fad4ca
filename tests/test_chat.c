/* test_chat.c: `retort generate --chat` as a person at a terminal meets it, through a
   pseudo-terminal: Ctrl-C stops an answer and not the program, thoughts are dim, a full context has
   a way on, Ctrl-D ends; and as a script does, a line a turn, with what is read anew of each. */
#include <poll.h>
#include <pty.h>
#include <signal.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "tests/suite.h"

#define TEACHER RT_SOURCE_DIR "/examples/reasoning/teacher"
#define QUESTION "Jon has 83 cards. Kim has 44 fewer. How many together?"

static rt_err err;

typedef struct terminal {
    pid_t pid;
    int fd;
    char text[1 << 16];
    size_t n, seen; /* seen: what was waited for lies before it */
} terminal;

static void start(terminal *t, const char *words)
{
    char text[512], *argv[32] = {
        RT_BINARY_DIR "/retort", "generate", "--model", TEACHER, "--chat", "--threads", "2"
    };
    int n = 7;
    memset(t, 0, sizeof *t);
    snprintf(text, sizeof text, "%s", words);
    for (char *save = NULL, *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[n++] = w;
    t->pid = forkpty(&t->fd, NULL, NULL, NULL);
    ck_assert_int_ge(t->pid, 0);
    if (t->pid == 0) {
        unsetenv("NO_COLOR");
        execv(argv[0], argv);
        _exit(127);
    }
}

/* Reads more; false at the end. */
static bool more(terminal *t)
{
    struct pollfd p = { .fd = t->fd, .events = POLLIN };
    if (poll(&p, 1, 50) <= 0)
        return true;
    ssize_t k = read(t->fd, t->text + t->n, sizeof t->text - 1 - t->n);
    t->n += k > 0 ? (size_t)k : 0;
    t->text[t->n] = 0;
    return k > 0;
}

/* Until `what` has come, after what was waited for last. */
static void wait_for(terminal *t, const char *what)
{
    double until = rt_now() + 60;
    const char *at;
    while (!(at = strstr(t->text + t->seen, what)) && rt_now() < until && more(t))
        ;
    ck_assert_msg(at != NULL, "no \"%s\" in: %s", what, t->text + t->seen);
    t->seen = (size_t)(at - t->text) + strlen(what);
}

static void type(const terminal *t, const char *keys)
{
    ck_assert(write(t->fd, keys, strlen(keys)) == (ssize_t)strlen(keys));
}

static int wait_end(terminal *t)
{
    int status;
    double until = rt_now() + 60;
    while (more(t) && rt_now() < until)
        ;
    if (waitpid(t->pid, &status, WNOHANG) == 0 && rt_now() >= until)
        kill(t->pid, SIGKILL);
    waitpid(t->pid, &status, 0);
    close(t->fd);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

START_TEST(person)
{
    static terminal t;
    start(&t, "--temperature 0");
    wait_for(&t, "> ");
    type(&t, QUESTION "\n");
    wait_for(&t, "\033[2m"); /* the thought, without its marks, and the answer as it is */
    wait_for(&t, "\033[0m\r\n\r\n\\boxed{122}\r\n");
    wait_for(&t, "tokens read");
    ck_assert_ptr_null(strstr(t.text, "<think>"));
    wait_for(&t, "> ");
    type(&t, "half a line\003"); /* Ctrl-C takes it back */
    wait_for(&t, "(Ctrl-D ends)");
    wait_for(&t, "> ");
    type(&t, "/new\n");
    wait_for(&t, "> ");
    type(&t, QUESTION "\n");
    wait_for(&t, "\\boxed{122}\r\n");
    wait_for(&t, "1 of 20 tokens read"); /* the cache has it from before */
    wait_for(&t, "> ");
    type(&t, "\004");
    ck_assert_int_eq(wait_end(&t), 0);
}
END_TEST

START_TEST(hidden)
{
    static terminal t;
    start(&t, "--temperature 0 --hide-reasoning");
    wait_for(&t, "> ");
    type(&t, "several lines\n\nare one message\n" QUESTION "\n"); /* as they are pasted */
    wait_for(&t, "tokens read");
    wait_for(&t, "> ");
    type(&t, "/new\n");
    wait_for(&t, "> ");
    ck_assert_ptr_null(strstr(strstr(t.text, "tokens read") + 1, "tokens read"));
    type(&t, QUESTION "\n");
    wait_for(&t, QUESTION "\r\n\\boxed{122}\r\n");
    wait_for(&t, "> ");
    type(&t, "\004");
    ck_assert_int_eq(wait_end(&t), 0);
    ck_assert_ptr_null(strstr(t.text, "\033[2m"));
}
END_TEST

/* As often as it comes; the next question is answered as if nothing had been. */
START_TEST(interrupted)
{
    static terminal t;
    start(&t, "--temperature 50 --context 512 --max-tokens 400"); /* talks nonsense without end */
    for (int i = 0; i < 3; i++) {
        wait_for(&t, "> ");
        type(&t, i ? "/new\n" : "\n");
        wait_for(&t, "> ");
        type(&t, "Jon has 8.\n");
        wait_for(&t, "Jon has 8.\r\n");
        while (t.n < t.seen + 8)
            more(&t);
        type(&t, "\003");
        wait_for(&t, ", stopped");
    }
    wait_for(&t, "> ");
    ck_assert_int_eq(kill(t.pid, SIGTERM), 0);
    ck_assert_int_eq(wait_end(&t), -SIGTERM);
}
END_TEST

START_TEST(full)
{
    static terminal t;
    start(&t, "--temperature 0 --context 110");
    wait_for(&t, "> ");
    type(&t, QUESTION "\n");
    wait_for(&t, "> ");
    type(&t, QUESTION "\n");
    wait_for(&t, "the context 110: /new begins another or raise --context");
    wait_for(&t, "> ");
    type(&t, "/new\n");
    wait_for(&t, "> ");
    type(&t, QUESTION "\n");
    wait_for(&t, "\\boxed{122}");
    type(&t, "\004");
    ck_assert_int_eq(wait_end(&t), 0);
}
END_TEST

/* The exit status of a conversation with the lines of `input`; stdout and stderr in files. */
static int converse(const char *input, const char *words)
{
    char line[1024];
    OK(rt_file_write("lines", input, (int64_t)strlen(input), &err));
    snprintf(line, sizeof line, "'%s' generate --model '%s' --chat %s <lines >out 2>notes",
             RT_BINARY_DIR "/retort", TEACHER, words);
    int status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void has(const char *file, const char *part)
{
    char *text;
    int64_t bytes;
    OK(rt_file_read(&text, &bytes, file, 1 << 20, &err));
    ck_assert_msg(strstr(text, part) != NULL, "%s has no \"%s\": %s", file, part, text);
    free(text);
}

START_TEST(script)
{
    ck_assert_int_eq(converse(QUESTION "\n\r\n\nagain\n", "--temperature 0"), 0);
    has("out", "<think>\n");
    has("out", "</think>\n\\boxed{122}\n");
    has("notes", ", 20 of 20 tokens read\n");
    char *text;
    int64_t bytes;
    int read = 0, all = 0;
    OK(rt_file_read(&text, &bytes, "notes", 1 << 20, &err));
    const char *second = /* most of the second turn was there */
        strchr(text, '\n') + 1;
    ck_assert_msg(sscanf(second, "%*[^,], %*[^,], %d of %d tokens read", &read, &all) == 2, "%s",
                  second);
    ck_assert_msg(read < 12 && all > 80, "%d of %d read", read, all);
    free(text);
    ck_assert_int_eq(converse(QUESTION "\n/new\n", "--temperature 0 --hide-reasoning -q"), 0);
    has("out", "\\boxed{122}\n");
    ck_assert_int_eq(converse(QUESTION "\n" QUESTION "\n" QUESTION "\n", "--context 128 -q"), 1);
    has("notes", "begin another or raise --context");
    ck_assert_int_eq(converse("", ""), 0);
}
END_TEST

int main(void)
{
    const suite_test tests[] = {
        { person, 1 }, { hidden, 1 }, { interrupted, 1 }, { full, 1 }, { script, 1 }
    };
    return suite_run("chat", NULL, tests, RT_COUNT(tests));
}
