/* test_reasoning.c: where a thought ends and an answer begins, by token id. Rows are written by
   hand from the formats' own descriptions (<think> tags, harmony channels). */
#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"
#include "corpora/reasoning.h"
#include "tests/suite.h"

enum { OPEN = 1, CLOSE = 2, EOS = 3, START = 4, CHANNEL = 5, MESSAGE = 6, END = 7, CALL = 8 };
enum { ANALYSIS = 11, COMMENTARY = 12, FINAL = 13, ASSISTANT = 14, TO = 15 };

static rt_reasoning think(void)
{
    rt_reasoning r = { .kind = RT_REASONING_THINK, .n_stops = 1, .stop = { EOS } };
    r.open = (rt_marker){ { OPEN }, 1 };
    r.close = (rt_marker){ { CLOSE }, 1 };
    return r;
}

static rt_reasoning harmony(void)
{
    rt_reasoning r = { .kind = RT_REASONING_HARMONY, .n_stops = 2, .stop = { EOS, CALL } };
    r.start = START;
    r.channel = CHANNEL;
    r.message = MESSAGE;
    r.end = END;
    r.analysis = (rt_marker){ { ANALYSIS }, 1 };
    r.commentary = (rt_marker){ { COMMENTARY }, 1 };
    r.final = (rt_marker){ { FINAL }, 1 };
    return r;
}

typedef struct row {
    const char *what;
    bool opened;
    int n;
    int32_t ids[24];
    int reasoning[2], answer[2];
    bool unfinished, stopped;
} row;

static void check_rows(const rt_reasoning *r, const row *rows, int n)
{
    for (int i = 0; i < n; i++) {
        const row *w = &rows[i];
        rt_reasoning_split s = rt_reasoning_find(r, w->ids, w->n, w->opened);
        ck_assert_msg(s.reasoning.begin == w->reasoning[0] && s.reasoning.end == w->reasoning[1],
                      "%s: reasoning %d..%d", w->what, (int)s.reasoning.begin,
                      (int)s.reasoning.end);
        ck_assert_msg(s.answer.begin == w->answer[0] && s.answer.end == w->answer[1],
                      "%s: answer %d..%d", w->what, (int)s.answer.begin, (int)s.answer.end);
        ck_assert_msg(s.unfinished == w->unfinished, "%s: unfinished", w->what);
        ck_assert_msg(s.stopped == w->stopped, "%s: stopped", w->what);
    }
}

START_TEST(think_tags)
{
    static const row ROWS[] = {
        { "opener in the prompt",
          true,
          6,
          { 20, 21, CLOSE, 30, 31, EOS },
          { 0, 2 },
          { 3, 5 },
          false,
          true },
        { "opener in the response",
          false,
          7,
          { OPEN, 20, 21, CLOSE, 30, 31, EOS },
          { 1, 3 },
          { 4, 6 },
          false,
          true },
        { "opener repeated",
          true,
          6,
          { OPEN, 20, CLOSE, 30, 31, EOS },
          { 1, 2 },
          { 3, 5 },
          false,
          true },
        { "opener after a newline",
          false,
          6,
          { 10, OPEN, 20, CLOSE, 30, EOS },
          { 2, 3 },
          { 4, 5 },
          false,
          true },
        { "an opener quoted in the thought",
          true,
          5,
          { 20, OPEN, 21, CLOSE, 30 },
          { 0, 3 },
          { 4, 5 },
          false,
          false },
        { "closed twice: the last one counts",
          true,
          7,
          { 20, CLOSE, 21, CLOSE, 30, 31, EOS },
          { 0, 3 },
          { 4, 6 },
          false,
          true },
        { "skipped thinking", true, 4, { 10, CLOSE, 30, EOS }, { 0, 1 }, { 2, 3 }, false, true },
        { "never closed", true, 3, { 20, 21, 22 }, { 0, 3 }, { 3, 3 }, true, false },
        { "never closed, yet stopped", true, 3, { 20, 21, EOS }, { 0, 2 }, { 2, 2 }, true, true },
        { "opened in the response, never closed",
          false,
          3,
          { OPEN, 20, 21 },
          { 1, 3 },
          { 3, 3 },
          true,
          false },
        { "closed, but no answer", true, 3, { 20, CLOSE, EOS }, { 0, 1 }, { 2, 2 }, true, true },
        { "no thought at all", false, 3, { 30, 31, EOS }, { 0, 0 }, { 0, 2 }, false, true },
        { "closer without opener",
          false,
          4,
          { 20, CLOSE, 30, EOS },
          { 0, 1 },
          { 2, 3 },
          false,
          true },
        { "nothing", true, 0, { 0 }, { 0, 0 }, { 0, 0 }, true, false },
        { "only a stop", false, 1, { EOS }, { 0, 0 }, { 0, 0 }, true, true },
    };
    rt_reasoning r = think();
    check_rows(&r, ROWS, RT_COUNT(ROWS));
}
END_TEST

START_TEST(long_markers)
{
    static const row ROWS[] = {
        { "three ids",
          false,
          9,
          { 1, 9, 20, 2, 8, 7, 30, 31, EOS },
          { 2, 3 },
          { 6, 8 },
          false,
          true },
        { "a part of the closer", true, 5, { 20, 2, 8, 30, 31 }, { 0, 5 }, { 5, 5 }, true, false },
        { "the closer cut off", true, 3, { 20, 2, 8 }, { 0, 3 }, { 3, 3 }, true, false },
    };
    rt_reasoning r = think();
    r.open = (rt_marker){ { 1, 9 }, 2 };
    r.close = (rt_marker){ { 2, 8, 7 }, 3 };
    check_rows(&r, ROWS, RT_COUNT(ROWS));
    r = (rt_reasoning){ .kind = RT_REASONING_NONE, .n_stops = 1, .stop = { EOS } };
    rt_reasoning_split s = rt_reasoning_find(&r, (const int32_t[]){ 1, 2, EOS }, 3, false);
    ck_assert(s.answer.begin == 0 && s.answer.end == 2 && !s.unfinished && s.stopped);
}
END_TEST

START_TEST(harmony_channels)
{
    static const row ROWS[] = {
        { "thought and answer",
          false,
          14,
          { CHANNEL, ANALYSIS, MESSAGE, 20, 21, END, START, ASSISTANT, CHANNEL, FINAL, MESSAGE, 30,
            31, EOS },
          { 3, 5 },
          { 11, 13 },
          false,
          true },
        { "answer only",
          false,
          5,
          { CHANNEL, FINAL, MESSAGE, 30, EOS },
          { 0, 0 },
          { 3, 4 },
          false,
          true },
        { "the prompt opened the thought",
          true,
          10,
          { 20, 21, END, START, ASSISTANT, CHANNEL, FINAL, MESSAGE, 30, EOS },
          { 0, 2 },
          { 8, 9 },
          false,
          true },
        { "two thoughts",
          false,
          20,
          { CHANNEL, ANALYSIS, MESSAGE, 20, END, START, ASSISTANT,
            CHANNEL, ANALYSIS, MESSAGE, 21, END, START, ASSISTANT,
            CHANNEL, FINAL,    MESSAGE, 30, 31,  EOS },
          { 3, 11 },
          { 17, 19 },
          false,
          true },
        { "answer closed by end",
          false,
          12,
          { CHANNEL, ANALYSIS, MESSAGE, 20, END, START, ASSISTANT, CHANNEL, FINAL, MESSAGE, 30,
            END },
          { 3, 4 },
          { 10, 11 },
          false,
          false },
        { "unfinished thought",
          false,
          5,
          { CHANNEL, ANALYSIS, MESSAGE, 20, 21 },
          { 3, 5 },
          { 5, 5 },
          true,
          false },
        { "thought ended, nothing after it",
          false,
          5,
          { CHANNEL, ANALYSIS, MESSAGE, 20, END },
          { 3, 4 },
          { 5, 5 },
          true,
          false },
        { "final announced, not begun",
          false,
          9,
          { CHANNEL, ANALYSIS, MESSAGE, 20, END, START, ASSISTANT, CHANNEL, FINAL },
          { 3, 4 },
          { 9, 9 },
          true,
          false },
        { "a tool call is no answer",
          false,
          13,
          { CHANNEL, ANALYSIS, MESSAGE, 20, END, START, ASSISTANT, TO, CHANNEL, COMMENTARY, MESSAGE,
            25, CALL },
          { 3, 12 },
          { 12, 12 },
          true,
          true },
        { "a thought after the answer",
          false,
          12,
          { CHANNEL, FINAL, MESSAGE, 30, END, START, ASSISTANT, CHANNEL, ANALYSIS, MESSAGE, 20,
            21 },
          { 3, 12 },
          { 12, 12 },
          true,
          false },
        { "no channel", false, 2, { 30, EOS }, { 0, 0 }, { 1, 1 }, true, true },
    };
    rt_reasoning r = harmony();
    check_rows(&r, ROWS, RT_COUNT(ROWS));
}
END_TEST

/* Whatever the ids, spans lie inside the response, in order, and hold no marker of the answer. */
START_TEST(any_ids)
{
    rt_reasoning rules[2] = { think(), harmony() };
    for (uint64_t k = 0; k < 40000; k++) {
        int n = (int)rt_rng_below(1, RT_RNG_DATA, 2 * k, 20);
        int32_t *ids = malloc(sizeof *ids * (size_t)(n ? n : 1)); /* exact, for the sanitizer */
        for (int i = 0; i < n; i++)
            ids[i] = (int32_t)rt_rng_below(2, RT_RNG_DATA, (k << 8) + (uint64_t)i, 16);
        rt_reasoning_split s = rt_reasoning_find(&rules[k & 1], ids, n, k & 2);
        ck_assert(0 <= s.reasoning.begin && s.reasoning.begin <= s.reasoning.end);
        ck_assert(s.reasoning.end <= s.answer.begin || s.reasoning.begin == s.reasoning.end);
        ck_assert(0 <= s.answer.begin && s.answer.begin <= s.answer.end && s.answer.end <= n);
        ck_assert(s.unfinished == (s.answer.begin == s.answer.end));
        for (int64_t i = s.answer.begin; i < s.answer.end; i++)
            ck_assert(ids[i] != (k & 1 ? CHANNEL : CLOSE));
        free(ids);
    }
}
END_TEST

int main(void)
{
    const suite_test tests[] = {
        { think_tags, 1 }, { long_markers, 1 }, { harmony_channels, 1 }, { any_ids, 1 }
    };
    return suite_run("reasoning", NULL, tests, RT_COUNT(tests));
}
