/* suite.h: what every test program shares: the runner, an empty directory for each test, and how
   errors are expected. A test starts in that directory, so a plain file name is a scratch file; it
   is removed with all it holds when the program ends, also after a test that failed. Time limits
   are ctest's. */
#ifndef TESTS_SUITE_H
#define TESTS_SUITE_H

#include <check.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/file.h"

/* `err`, an rt_err, is in scope where these are used. */
#define OK(...) ck_assert_msg((__VA_ARGS__) == 0, "%s: %s", #__VA_ARGS__, err.text)
#define HAS(err, part)                                                                             \
    ck_assert_msg(strstr((err).text, part) != NULL, "\"%s\" lacks \"%s\"", (err).text, part)
#define FAILS(call, part)                                                                          \
    do {                                                                                           \
        err = (rt_err){ .text = "" };                                                              \
        ck_assert_msg((call) != 0, "%s did not fail; wanted \"%s\"", #call, part);                 \
        HAS(err, part);                                                                            \
    } while (0)

typedef struct suite_test {
    const TTest *test;
    int n; // runs, with _i = 0 .. n - 1
} suite_test;

static char suite_dir[64]; // in memory where it can be: fsync is then free

static inline int drop_entry(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    remove(path);
    return 0;
}

/* A directory and all it holds; nothing where there is none. */
static inline void drop_dir(const char *path) { nftw(path, drop_entry, 16, FTW_DEPTH | FTW_PHYS); }

static inline int entries(const char *dir)
{
    char **names;
    int n;
    rt_err err;
    OK(rt_dir_list(&names, &n, dir, &err));
    rt_names_free(names, n);
    return n;
}

/* The signal that ends a child that runs fn, 0 when it returns. */
static inline int child_signal(void (*fn)(void))
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = { 0, 0 };
        setrlimit(RLIMIT_CORE, &none);
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(99);
        signal(SIGABRT, SIG_DFL);
        fn();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static inline void enter_empty_dir(void)
{
    drop_dir(suite_dir);
    ck_assert(mkdir(suite_dir, 0700) == 0 && chdir(suite_dir) == 0);
}

/* The exit status of main(). Each test is a case of its own, so that CK_RUN_CASE names one. setup,
 * or NULL, runs before every test, already in its directory. */
static inline int suite_run(const char *name, void (*setup)(void), const suite_test *tests, int n)
{
    snprintf(suite_dir, sizeof suite_dir, "%s/retort-test-XXXXXX", /* mkdtemp fills it in */
             access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(suite_dir)) {
        perror(suite_dir);
        return 1;
    }
    Suite *suite = suite_create(name);
    for (int i = 0; i < n; i++) {
        TCase *runs = tcase_create(tests[i].test->name);
        tcase_set_timeout(runs, 0);
        tcase_add_checked_fixture(runs, enter_empty_dir, NULL);
        tcase_add_checked_fixture(runs, setup, NULL);
        tcase_add_loop_test(runs, tests[i].test, 0, tests[i].n);
        suite_add_tcase(suite, runs);
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    drop_dir(suite_dir);
    return failed != 0;
}

#endif
