#include "student/results.h"

#include <stdio.h>
#include <string.h>

const rt_result rt_result_list[] = {
    { "problems", "problems", "%.0f", 1, NULL, false, RT_RESULT_PLAIN },
    { "samples", "answers to each", "%.0f", 1, NULL, false, RT_RESULT_PLAIN },
    { "accuracy", "exact answers", "%.1f %%", 100, "answers", false, RT_RESULT_PLAIN },
    { "accuracy_se", "standard error", "%.1f %%", 100, "+-", false, RT_RESULT_PLAIN },
    { "unfinished", "unfinished", "%.1f %%", 100, "unfinished", true, RT_RESULT_PLAIN },
    { "unknown", "cannot tell", "%.1f %%", 100, NULL, false, RT_RESULT_PLAIN },
    { "tokens", "held-out tokens", "%.0f", 1, NULL, false, RT_RESULT_PLAIN },
    { "perplexity", "perplexity", "%.4f", 1, "perplexity", false, RT_RESULT_PLAIN },
    { "bits_per_byte", "bits per byte", "%.4f", 1, NULL, false, RT_RESULT_PLAIN },
    { "entropy", "entropy (nats)", "%.4f", 1, "entropy", true, RT_RESULT_PLAIN },
    { "top1", "top-1 accuracy", "%.2f %%", 100, NULL, false, RT_RESULT_PLAIN },
    { "ece", "calibration error", "%.2f %%", 100, "calibration error", true, RT_RESULT_PLAIN },
    { "kl_archive", "KL, archive estimate", "%.4f", 1, "KL to archive", true, RT_RESULT_PLAIN },
    { "agreement_archive", "top-1 agreement", "%.2f %%", 100, NULL, false, RT_RESULT_PLAIN },
    { "kl", "KL to the reference", "%.4f", 1, "KL", true, RT_RESULT_PLAIN },
    { "kl_se", "  standard error", "%.4f", 1, NULL, false, RT_RESULT_PLAIN },
    { "kl_median", "  median", "%.4f", 1, NULL, false, RT_RESULT_PLAIN },
    { "kl_p99", "  99 %", "%.4f", 1, NULL, false, RT_RESULT_PLAIN },
    { "kl_max", "  largest", "%.4f", 1, NULL, false, RT_RESULT_PLAIN },
    { "agreement", "agreement with it", "%.2f %%", 100, "agreement", true, RT_RESULT_PLAIN },
    { "agreement_se", "  standard error", "%.2f %%", 100, NULL, false, RT_RESULT_PLAIN },
    { "delta_p", "change of p(next)", "%.3f %%", 100, NULL, false, RT_RESULT_PLAIN },
    { "delta_p_se", "  standard error", "%.3f %%", 100, NULL, false, RT_RESULT_PLAIN },
    { "delta_p_rms", "  root mean square", "%.3f %%", 100, NULL, false, RT_RESULT_PLAIN },
    { "delta_p_rms_se", "  its standard error", "%.3f %%", 100, NULL, false, RT_RESULT_PLAIN },
    { "perplexity_ratio", "perplexity ratio", "%.5f", 1, NULL, false, RT_RESULT_PLAIN },
    { "perplexity_ratio_se", "  standard error", "%.5f", 1, NULL, false, RT_RESULT_PLAIN },
    { "teacher_tokens", "teacher tokens", "%.0f", 1, "teacher tokens", false, RT_RESULT_COUNT },
    { "parameters", "parameters", "%.0f", 1, "parameters", false, RT_RESULT_COUNT },
    { "bytes", "bytes", "%.0f", 1, "bytes", false, RT_RESULT_BYTES },
};

int rt_result_count(void) { return RT_COUNT(rt_result_list); }

bool rt_result_text(char *text, size_t size, const rt_result *r, const cJSON *json)
{
    const cJSON *item = rt_json_find(json, r->key);
    if (!cJSON_IsNumber(item))
        return false;
    snprintf(text, size, r->format, item->valuedouble * r->scale);
    if (text[0] == '-' && !strpbrk(text, "123456789")) /* an estimate of 0 may fall below it */
        memmove(text, text + 1, strlen(text));
    return true;
}

static void print_shares(const cJSON *json, const char *key, const char *before)
{
    const cJSON *share;
    char label[128];
    cJSON_ArrayForEach(share, rt_json_find(json, key))
    {
        snprintf(label, sizeof label, "%s%s", before, share->string);
        printf("%-22s %.1f %%\n", label, 100 * share->valuedouble);
    }
}

void rt_results_print(const cJSON *json)
{
    char text[64];
    for (int i = 0; i < rt_result_count(); i++)
        if (rt_result_text(text, sizeof text, &rt_result_list[i], json))
            printf("%-22s %s\n", rt_result_list[i].label, text);
    print_shares(json, "pass_at", "  one right of ");
    print_shares(json, "groups", "  ");
    print_shares(json, "rules", "  judged by ");
}
