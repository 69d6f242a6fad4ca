/* fuzz_answer.c: numbers and verification: the input is KIND RESPONSE \n REFERENCE. An answer that
   can be judged at all is judged equal to itself. */
#include "fuzz.h"

#include "corpora/number.h"
#include "corpora/verify.h"

int fuzz_one(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    rt_verify_kind kind = (rt_verify_kind)(data[0] % 4);
    rt_number number;
    rt_text text = { 0 };
    fuzz_add(&text, data + 1, size - 1);
    char *cut = memchr(text.data, '\n', (size_t)text.bytes);
    if (cut)
        *cut = 0;
    char *response = strdup(text.data), *reference = strdup(cut ? cut + 1 : text.data);
    rt_judgement j = rt_verify(kind, response, reference);
    FUZZ_CHECK(strlen(j.answer) < sizeof j.answer && j.reason);
    if (rt_number_answer(reference, &number) && !number.overflow)
        FUZZ_CHECK(number.den > 0);
    j = rt_verify(RT_VERIFY_EXACT, response, response);
    FUZZ_CHECK(j.result != RT_JUDGED_NO || !*j.answer);
    free(response);
    free(reference);
    rt_text_free(&text);
    return 0;
}
