/* fuzz_answer.c: reading and judging answers: the input is KIND RESPONSE \n REFERENCE. What is
   equal is equal to itself, the other way round too, and an answer is never different from itself.
 */
#include "fuzz.h"

#include "corpora/verify/number.h"
#include "corpora/verify/spelling.h"
#include "corpora/verify/verify.h"

static rt_judged judge_boxed(const char *answer, const char *reference)
{
    rt_text box = { 0 };
    rt_err err = { 0 };
    if (rt_text_printf(&box, &err, "\\boxed{%s}", answer))
        abort();
    rt_judged result = rt_verify(RT_VERIFY_BOXED, box.data, reference).result;
    rt_text_free(&box);
    return result;
}

int fuzz_one(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    rt_verify_kind kind = (rt_verify_kind)(data[0] % 5);
    rt_text text = { 0 };
    fuzz_add(&text, data + 1, size - 1);
    char *cut = memchr(text.data, '\n', (size_t)text.bytes);
    if (cut)
        *cut = 0;
    char *response = strdup(text.data), *reference = strdup(cut ? cut + 1 : text.data);
    rt_judgement j = rt_verify(kind, response, reference);
    FUZZ_CHECK(strlen(j.answer) < sizeof j.answer && j.reason);
    j = rt_verify(RT_VERIFY_EXACT, response, response);
    FUZZ_CHECK(j.result != RT_JUDGED_NO || !*j.answer);
    if (!strpbrk(response, "\\{}#") && !strpbrk(reference, "\\{}#")) {
        char *clean = rt_spelling_clean((rt_str){ response, (int64_t)strlen(response) });
        FUZZ_CHECK(!*clean || judge_boxed(response, response) == RT_JUDGED_YES);
        FUZZ_CHECK(judge_boxed(response, reference) != RT_JUDGED_YES || !*clean ||
                   judge_boxed(reference, response) == RT_JUDGED_YES);
        free(clean);
    }
    free(response);
    free(reference);
    rt_text_free(&text);
    return 0;
}
