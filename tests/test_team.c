/* test_team.c: every unit of every job is done once, by members that were asked for, and the caller
   sees what they wrote; over jobs of all lengths, teams of all sizes, pauses in which helpers fall
   asleep, and more threads than cores. Under ThreadSanitizer it is also the proof that the words of
   team.c order it. */
#include "core/base/team.h"
#include "tests/suite.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { UNITS = 5000 };

struct job {
    int *done; /* (units) by whom + 1 */
    int members;
    bool slow, bad;
};

static void unit(void *ctx, int64_t i, int member)
{
    struct job *j = ctx;
    volatile int64_t x = 0;
    for (int64_t k = 0; j->slow && k < 2000 * (1 + i % 7); k++)
        x += k;
    if (member < 0 || member >= j->members || j->done[i])
        __atomic_store_n(&j->bad, true, __ATOMIC_RELAXED); /* Check is for one thread */
    j->done[i] = member + 1;                               /* plain: the team orders it */
}

START_TEST(once_each)
{
    static const int64_t units[] = { 0, 1, 2, 3, 17, 400, UNITS };
    int threads = 1 + _i;
    rt_team *team;
    rt_err err;
    struct job j = { .done = calloc(UNITS, sizeof(int)) };
    ck_assert_int_eq(rt_team_open(&team, threads, &err), 0);
    for (int round = 0; round < 120; round++) {
        int64_t n = units[round % RT_COUNT(units)];
        j.members = 1 + round % threads;
        j.slow = round % 5 == 0;
        memset(j.done, 0, UNITS * sizeof(int));
        rt_team_run(team, unit, &j, n, j.members);
        for (int64_t i = 0; i < UNITS; i++)
            ck_assert_int_eq(j.done[i] != 0, i < n);
        ck_assert(!j.bad);
        if (round % 20 == 19) /* long enough for helpers to fall asleep */
            nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
    }
    rt_team_close(team);
    rt_team_close(NULL);
    free(j.done);
}
END_TEST

START_TEST(opened_and_closed) /* at once, asleep, and without a job */
{
    rt_team *team;
    rt_err err;
    for (int i = 0; i < 50; i++) {
        ck_assert_int_eq(rt_team_open(&team, 1 + i % 6, &err), 0);
        if (i % 3 == 0)
            nanosleep(&(struct timespec){ .tv_nsec = 300000 }, NULL);
        rt_team_close(team);
    }
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { once_each, 6 }, { opened_and_closed, 1 } };
    return suite_run("team", NULL, tests, RT_COUNT(tests));
}
