/* test_verify.c: the answer checker: what equals what, what is refused as unreadable, and exactness
   against Python's fractions (tests/golden/verify.json by tests/golden/make_verify.py). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/json.h"
#include "corpora/verify/verify.h"
#include "tests/suite.h"

static const char *const judged[] = { "no", "yes", "unknown" };

typedef struct row {
    const char *response, *reference;
    rt_judged want;
    const char *answer; /* NULL = not looked at */
} row;

#define NO RT_JUDGED_NO
#define YES RT_JUDGED_YES
#define DK RT_JUDGED_UNKNOWN

static void check_rows(rt_verify_kind kind, const row *rows, int n)
{
    for (int i = 0; i < n; i++) {
        rt_judgement v = rt_verify(kind, rows[i].response, rows[i].reference);
        ck_assert_msg(v.result == rows[i].want, "%s: \"%s\" for \"%s\": %s (%s), extracted \"%s\"",
                      rt_verify_kind_name(kind), rows[i].response, rows[i].reference,
                      judged[v.result], v.reason, v.answer);
        if (rows[i].answer)
            ck_assert_str_eq(v.answer, rows[i].answer);
    }
}

START_TEST(boxed)
{
    static const row rows[] = {
        { "so \\boxed{42}.", "42", YES, "42" },
        { "\\boxed{1} no, \\boxed{2}", "2", YES, "2" },
        { "\\boxed{1} no, \\boxed{2}", "1", NO, "2" },
        { "\\boxed{7} and \\boxed{unclosed", "7", YES, "7" },
        { "\\boxed{\\frac{1}{2}}", "0.5", YES, "\\frac{1}{2}" },
        { "\\boxed{\\dfrac12}", "1/2", YES, NULL },
        { "\\boxed{-\\frac{3}{4}}", "-0.75", YES, NULL },
        { "\\boxed{\\frac{-3}{4}}", "-.75", YES, NULL },
        { "\\boxed{1\\frac{1}{2}}", "1.5", YES, NULL },
        { "\\boxed{1 1/2}", "3/2", YES, NULL },
        { "\\boxed{2/4}", "1/2", YES, NULL },
        { "\\boxed{1,234,567}", "1234567", YES, NULL },
        { "\\boxed{1{,}234}", "1234", YES, NULL },
        { "\\boxed{1\\,234}", "1234", YES, NULL },
        { "\\boxed{1,23}", "123", NO, NULL },
        { "\\boxed{10\\%}", "0.1", YES, NULL },
        { "\\boxed{10\\%}", "10", DK, NULL },
        { "\\boxed{10\\%}", "11", NO, NULL },
        { "\\boxed{\\$1,000.50}", "1000.5", YES, NULL },
        { "\\boxed{45 \\text{ km}}", "45", YES, NULL },
        { "\\boxed{45\\text{ km/h}}", "45", YES, NULL },
        { "\\boxed{45\\text{ km/h}}", "45 mph", NO, NULL },
        { "\\boxed{36\\text{ km/h}}", "10 m/s", YES, NULL },
        { "\\boxed{12 m^2}", "12", YES, NULL },
        { "\\boxed{90^\\circ}", "90", YES, NULL },
        { "\\boxed{5 million}", "5", NO, NULL },
        { "\\boxed{5 million}", "5,000,000", YES, NULL },
        { "\\boxed{2x}", "2", DK, NULL },
        { "\\boxed{2 x}", "2", DK, NULL },
        { "\\boxed{2\\pi}", "2", NO, NULL },
        { "\\boxed{2 pi}", "2", NO, NULL },
        { "\\boxed{x = 5}", "5", YES, NULL },
        { "\\boxed{1.5e3}", "1500", YES, NULL },
        { "\\boxed{1.5 \\times 10^{3}}", "1500", YES, NULL },
        { "\\boxed{2*10^-2}", "1/50", YES, NULL },
        { "\\boxed{\xe2\x88\x92"
          "7}",
          "-7", YES, NULL },
        { "\\boxed{+7}", "7", YES, NULL },
        { "\\boxed{007}", "7", YES, NULL },
        { "\\boxed{$5$}", "5", YES, NULL },
        { "\\boxed{}", "5", NO, "" },
        { "\\boxed 5", "5", NO, "" },
        { "5", "5", NO, "" },
        { "\\boxed{1/0}", "5", DK, NULL },
        { "\\boxed{99999999999999999999999999999999999999999}",
          "99999999999999999999999999999999999999999", YES, NULL },
        { "\\boxed{99999999999999999999999999999999999999998}",
          "99999999999999999999999999999999999999999", NO, NULL },
        { "\\boxed{0.1000000000000000000000000000000000001}", "0.1", NO, NULL },
        { "\\boxed{x+1}", "x + 1", YES, NULL },
        { "\\boxed{1+x}", "x+1", YES, NULL },
        { "\\boxed{\\text{Blue}}", "blue", YES, "\\text{Blue}" },
        { "\\boxed{red}", "blue", NO, NULL },
        { "\\boxed{(B)}", "B", YES, NULL },
        { "\\boxed{b}", "B", DK, NULL },
        { "\\boxed{\\{1,2\\}}", "\\{1,2\\}", YES, NULL },
        { "\\boxed{a \\boxed{3} b}", "3", YES, "3" },
        { "\\fbox{3}", "3", YES, "3" },
        { "\\boxed{3}", "", DK, NULL },
        { "\\boxed{seven}", "7", YES, NULL },
        { "\\boxed{seven}", "8", NO, NULL },
    };
    check_rows(RT_VERIFY_BOXED, rows, RT_COUNT(rows));
}
END_TEST

START_TEST(number)
{
    static const row rows[] = {
        { "First 3, then 5 apples. So 8.", "8", YES, "8" },
        { "The answer is 1,234 dollars.", "1234", YES, "1,234 dollars" },
        { "x2 is 4 and H2O", "4", YES, "4" },
        { "5-3", "3", DK, "3" },
        { "it is -3", "-3", YES, "-3" },
        { "it is \xe2\x88\x92"
          "3",
          "-3", YES, NULL },
        { "(-3)", "-3", YES, "-3" },
        { "about 50\\% of it", "1/2", YES, "50%" },
        { "is 3/4 cup", "0.75", YES, "3/4 cup" },
        { "is \\frac{3}{4}", "0.75", YES, NULL },
        { "no digits", "4", NO, "" },
        { "first \\boxed{4} of 9", "4", YES, "4" },
        { "\\boxed{x}", "4", NO, "x" },
        { "\\boxed{\\sqrt{16}}", "4", YES, NULL },
        { "4", "four", YES, "4" },
        { "4", "the fourth", DK, "" },
        { "costs $5", "5", YES, "$5" },
        { "1, 2, 3", "3", DK, "3" },
        { "v1.2.3", "3", NO, NULL },
        { "...", "3", NO, "" },
        { "- - -", "3", NO, "" },
    };
    check_rows(RT_VERIFY_NUMBER, rows, RT_COUNT(rows));
}
END_TEST

START_TEST(exact)
{
    static const row rows[] = {
        { " a  b\n", "a b", YES, "a  b" },
        { "ab", "a b", NO, NULL },
        { "a b", "ab", NO, NULL },
        { "", "", YES, "" },
        { "a", "", NO, NULL },
        { "", "a", NO, NULL },
        { "A", "a", NO, NULL },
        { "a ", " a", YES, "a" },
        { "42", "42.0", NO, NULL },
    };
    check_rows(RT_VERIFY_EXACT, rows, RT_COUNT(rows));
    rt_judgement v = rt_verify(RT_VERIFY_NONE, "\\boxed{4}", "4");
    ck_assert_int_eq(v.result, RT_JUDGED_UNKNOWN);
}
END_TEST

START_TEST(kinds)
{
    rt_err err = { 0 };
    rt_verify_kind k;
    for (int i = RT_VERIFY_NONE; i <= RT_VERIFY_EXACT; i++) {
        ck_assert_int_eq(rt_verify_kind_parse(&k, rt_verify_kind_name((rt_verify_kind)i), &err), 0);
        ck_assert_int_eq((int)k, i);
    }
    ck_assert_int_eq(rt_verify_kind_parse(&k, "latex", &err), -1);
    ck_assert_int_eq(err.exit_code, 2);
}
END_TEST

/* Pairs of random spellings; equal exactly when Python's Fraction says so. */
START_TEST(fractions)
{
    rt_err err = { 0 };
    cJSON *json, *r;
    ck_assert_int_eq(rt_json_load(&json, RT_SOURCE_DIR "/tests/golden/verify.json", &err), 0);
    int n = 0, unsure = 0; /* 1.234 against 1234 is not for us to tell */
    cJSON_ArrayForEach(r, json)
    {
        const char *a = r->child->valuestring, *b = r->child->next->valuestring;
        bool equal = cJSON_IsTrue(r->child->next->next);
        char response[256];
        snprintf(response, sizeof response, "so it is \\boxed{%s}", a);
        rt_judgement v = rt_verify(RT_VERIFY_BOXED, response, b);
        ck_assert_msg((v.result == RT_JUDGED_YES) == equal, "%s = %s: %s", a, b, judged[v.result]);
        unsure += v.result == RT_JUDGED_UNKNOWN;
        n++;
    }
    ck_assert_int_ge(n, 600);
    ck_assert_int_le(unsure, n / 50);
    cJSON_Delete(json);
}
END_TEST

/* Pairs decided by mathematics (tests/golden/compare_verify.py); and what is not equal does not
   become equal by dressing. */
START_TEST(pairs)
{
    static const char *const dress[][2] = {
        { "", "" },           { "\\text{", "}" }, { "$", "$" }, { "**", "**" },  { " ", "." },
        { "\\mathbf{", "}" }, { "\\left.", "" },  { "`", "`" }, { "\\,", "\\!" }
    };
    rt_err err = { 0 };
    cJSON *json, *r;
    ck_assert_int_eq(rt_json_load(&json, RT_SOURCE_DIR "/tests/golden/verify_pairs.json", &err), 0);
    int n = 0;
    cJSON_ArrayForEach(r, json)
    {
        const char *a = r->child->valuestring, *b = r->child->next->valuestring;
        const char *want = r->child->next->next->valuestring;
        bool yes = strcmp(want, "yes") == 0, sure = *want != 'a' && strcmp(want, "never") != 0;
        for (int i = 0; i < (yes || *want == 'a' ? 1 : RT_COUNT(dress)); i++) {
            char response[512];
            snprintf(response, sizeof response, "\\boxed{%s%s%s}", dress[i][0], a, dress[i][1]);
            rt_judgement v = rt_verify(RT_VERIFY_BOXED, response, b);
            ck_assert_msg(*want == 'a' || (v.result == RT_JUDGED_YES) == yes, "%s for %s: %s",
                          response, b, judged[v.result]);
            ck_assert_msg(i || !sure || strcmp(judged[v.result], want) == 0,
                          "%s for %s: %s, not %s", response, b, judged[v.result], want);
            n++;
        }
    }
    ck_assert_int_ge(n, 5000);
    cJSON_Delete(json);
}
END_TEST

/* auto: a number by value, else the box, else what follows "answer is", else the whole text. */
START_TEST(automatic)
{
    static const row rows[] = {
        { "It is \\boxed{42}", "42", YES, "42" },
        { "It is 42.", "42", YES, NULL },
        { "It is 43.", "42", NO, NULL },
        { "no number", "42", NO, NULL },
        { "January 15", "January 14", NO, NULL },
        { "January 14", "January 14", YES, NULL },
        { "The answer is January 14.", "January 14", YES, NULL },
        { "The answer is January 15.", "January 14", NO, NULL },
        { "It was on January 14, I think.", "January 14", DK, NULL },
        { "It was on January 15.", "January 14", NO, NULL },
        { "2024-01-15", "2024-01-14", NO, NULL },
        { "\\boxed{\\text{Paris}}", "paris", YES, NULL },
        { "**Answer:** Paris", "Paris", YES, NULL },
        { "#### 12", "12", YES, NULL },
        { "3 + 9\n#### 12", "It is 3 + 9.\n#### 12", YES, NULL },
        { "The answer is 8, since 3 is 5 less", "5", DK, NULL },
        { "The answer is 8 (3 more than 5)", "5", DK, NULL },
        { "(x + 1)(x - 1)", "x^2-1", YES, NULL },
        { "y = 2x", "2", DK, NULL },
        { "the sum is x + 16", "16", DK, NULL },
        { "The answer is not 5", "5", DK, NULL },
        { "x = 5 or x = 7", "7", DK, NULL },
        { "B. Paris, but I think C is right", "B", DK, NULL },
        { "The answer is B.", "B", YES, NULL },
        { "x^2", "2", DK, NULL },
        { "\\sqrt{x+16}", "16", DK, NULL },
        { "it weighs 5 kg", "5 km", DK, NULL },
        { "it is 3 km long", "3000 m", YES, NULL },
        { "about 28 percent of them", "28\\%", YES, NULL },
        { "5 million people", "5000000", YES, NULL },
        { "12:30", "30", DK, NULL },
        { "\\boxed{1} and \\boxed{2}", "2", DK, NULL },
    };
    check_rows(RT_VERIFY_AUTO, rows, RT_COUNT(rows));
    ck_assert_int_eq(rt_verify(RT_VERIFY_AUTO, "B) Paris", "B").rule, RT_RULE_OPTION);
    ck_assert_int_eq(rt_verify(RT_VERIFY_AUTO, "(1, 2)", "(1,2)").rule, RT_RULE_LIST);
    ck_assert_int_eq(rt_verify(RT_VERIFY_AUTO, "red", "blue").rule, RT_RULE_TEXT);
    ck_assert_int_eq(rt_verify(RT_VERIFY_AUTO, "is 5", "5").rule, RT_RULE_NUMBER);
    ck_assert_int_eq(rt_verify(RT_VERIFY_AUTO, "is", "5").rule, RT_RULE_MISSING);
    for (int i = 0; i < RT_RULE_COUNT; i++)
        ck_assert_int_eq(rt_verify_rule_of(rt_verify_rule_name((rt_verify_rule)i)), i);
}
END_TEST

/* The flag, then the record, then auto; nothing without an answer. */
START_TEST(choice)
{
    static const struct {
        const char *flag, *record, *answer;
        int want; /* -1: refused */
    } rows[] = { { "auto", NULL, "5", RT_VERIFY_AUTO },
                 { "auto", "exact", "5", RT_VERIFY_EXACT },
                 { "boxed", "exact", "5", RT_VERIFY_BOXED },
                 { "auto", "number", NULL, RT_VERIFY_NONE },
                 { "auto", "none", "5", RT_VERIFY_NONE },
                 { "none", "exact", NULL, RT_VERIFY_NONE },
                 { "number", NULL, NULL, -1 },
                 { "auto", "latex", "5", -1 } };
    for (int i = 0; i < RT_COUNT(rows); i++) {
        rt_verify_kind kind;
        rt_err err = { 0 };
        int bad = rt_verify_choose(&kind, rows[i].flag, rows[i].record, rows[i].answer, &err);
        ck_assert_int_eq(bad ? -1 : (int)kind, rows[i].want);
    }
}
END_TEST

/* Long and twisted responses: bounded in time, answers cut at a character. */
START_TEST(bounded)
{
    static const char *const bits[] = { "\\boxed{", "{",  "}",         "\\boxed{1}", "9",
                                        "-",        "1,", "\\frac{1}", "\xc3\xa9" };
    size_t n = 4 << 20;
    char *text = malloc(n + 16);
    for (int i = 0; i < RT_COUNT(bits); i++) {
        size_t step = strlen(bits[i]), used = 0;
        for (; used + step < n; used += step)
            memcpy(text + used, bits[i], step);
        text[used] = 0;
        clock_t begin = clock();
        for (rt_verify_kind k = RT_VERIFY_NUMBER; k <= RT_VERIFY_EXACT; k++) {
            rt_judgement v = rt_verify(k, text, "1");
            ck_assert_uint_lt(strlen(v.answer), sizeof v.answer);
        }
        // below 1 s in Release, 5 s under AddressSanitizer; a square of 4 MiB would take hours
        ck_assert_msg((double)(clock() - begin) / CLOCKS_PER_SEC < 60, "%s: too slow", bits[i]);
    }
    memset(text, 0, 16);
    strcpy(text, "\\boxed{");
    for (int i = 0; i < 200; i++)
        strcat(text, "\xc3\xa9");
    strcat(text, "}");
    rt_judgement v = rt_verify(RT_VERIFY_BOXED, text, "1");
    ck_assert_uint_eq(strlen(v.answer), 254);
    ck_assert_int_eq(v.result, RT_JUDGED_NO);
    free(text);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { boxed, 1 }, { number, 1 },    { exact, 1 },
                                 { kinds, 1 }, { fractions, 1 }, { bounded, 1 },
                                 { pairs, 1 }, { automatic, 1 }, { choice, 1 } };
    return suite_run("verify", NULL, tests, RT_COUNT(tests));
}
