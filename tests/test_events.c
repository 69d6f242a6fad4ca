/* test_events.c: the event file against one that TensorBoard's own code wrote of the same lines
   (tests/golden/make_events.py), written at once, line by line, and taken up after any line. */
#include "core/base/memory.h"
#include "distill/events.h"
#include "tests/suite.h"

#define GOLDEN RT_SOURCE_DIR "/tests/golden/events/"

static rt_err err;

START_TEST(checksums)
{
    static const uint8_t ZEROS[32] = { 0 };
    ck_assert_uint_eq(rt_crc32c(ZEROS, 32), 0x8a9136aau); /* RFC 3720, B.4 */
    ck_assert_uint_eq(rt_crc32c("123456789", 9), 0xe3069283u);
    ck_assert_uint_eq(rt_crc32c("", 0), 0);
}
END_TEST

static void same(const char *want, int64_t n)
{
    char *got;
    int64_t m;
    OK(rt_file_read(&got, &m, RT_EVENTS_FILE, 1 << 20, &err));
    ck_assert_int_eq(n, m);
    ck_assert(!memcmp(want, got, (size_t)n));
    free(got);
}

START_TEST(golden)
{
    char *text, *want;
    int64_t bytes, n;
    rt_events e;
    OK(rt_file_read(&text, &bytes, GOLDEN "metrics.jsonl", 1 << 20, &err));
    OK(rt_file_read(&want, &n, GOLDEN "events", 1 << 20, &err));
    for (int64_t cut = 0; cut <= bytes; cut++) {
        if (cut && text[cut - 1] != '\n')
            continue;
        OK(rt_file_write(RT_EVENTS_FILE, "torn by a kill", 14, &err));
        OK(rt_events_open(&e, ".", text, cut, &err));
        for (int64_t at = cut; at < bytes;) {
            int64_t line = strchr(text + at, '\n') - (text + at);
            OK(rt_events_add(&e, text + at, line, &err));
            at += line + 1;
        }
        rt_events_close(&e);
        same(want, n);
    }
    free(text);
    free(want);
}
END_TEST

START_TEST(strange)
{
    static const char LINES[] = "[1]\n{\"step\":\"1\",\"loss\":2}\nnonsense\n{\"step\":2}\n\n{\"loss\":1}\n{\"step\":1,\"lo";
    rt_events e;
    char *data;
    int64_t n;
    OK(rt_events_open(&e, ".", LINES, sizeof LINES - 1, &err));
    rt_events_close(&e);
    OK(rt_file_read(&data, &n, RT_EVENTS_FILE, 1 << 20, &err));
    ck_assert_int_eq(n, 16 + 15); /* the version alone */
    free(data);
    FAILS(rt_events_open(&e, "nowhere", NULL, 0, &err), "nowhere/");
    rt_events_close(&e);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { checksums, 1 }, { golden, 1 }, { strange, 1 } };
    return suite_run("events", NULL, tests, RT_COUNT(tests));
}
