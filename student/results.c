#include "student/results.h"

#include <stdio.h>

const rt_result rt_result_list[] = {
    { "problems", "problems", "%.0f", 1, NULL, false },
    { "samples", "answers to each", "%.0f", 1, NULL, false },
    { "accuracy", "exact answers", "%.1f %%", 100, "answers", false },
    { "accuracy_se", "standard error", "%.1f %%", 100, "+-", false },
    { "unfinished", "unfinished", "%.1f %%", 100, "unfinished", true },
    { "unknown", "cannot tell", "%.1f %%", 100, NULL, false },
    { "tokens", "held-out tokens", "%.0f", 1, NULL, false },
    { "perplexity", "perplexity", "%.4f", 1, "perplexity", false },
    { "entropy", "entropy (nats)", "%.4f", 1, "entropy", true },
    { "top1", "top-1 accuracy", "%.2f %%", 100, NULL, false },
    { "ece", "calibration error", "%.2f %%", 100, "calibration error", true },
    { "kl_archive", "KL, archive estimate", "%.4f", 1, "KL to archive", true },
    { "agreement_archive", "top-1 agreement", "%.2f %%", 100, NULL, false },
    { "kl", "KL to the reference", "%.4f", 1, "KL", true },
    { "agreement", "agreement with it", "%.2f %%", 100, "agreement", true },
    { "parameters", "parameters", "%.0f", 1, "parameters", false },
    { "bytes", "bytes", "%.0f", 1, "bytes", false },
};

int rt_result_count(void) { return RT_COUNT(rt_result_list); }

bool rt_result_text(char *text, size_t size, const rt_result *r, const cJSON *json)
{
    const cJSON *item = rt_json_find(json, r->key);
    if (!cJSON_IsNumber(item))
        return false;
    snprintf(text, size, r->format, item->valuedouble * r->scale);
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
