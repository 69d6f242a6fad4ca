/* test_published.c: config.json as it stands in well-known checkpoints: each is understood, and has
   as many parameters as transformers makes of it, and as many active as its card says
   (tests/golden/make_published.py). */
#include "suite.h"

#include <math.h>

#include "core/base/json.h"
#include "core/network/weights.h"

START_TEST(test_parameters)
{
    rt_err err;
    FILE *f = fopen(RT_SOURCE_DIR "/tests/golden/published.jsonl", "r");
    char line[8192];
    int n = 0;
    ck_assert(f);
    while (fgets(line, sizeof line, f)) {
        cJSON *json;
        const cJSON *config;
        const char *name;
        int64_t parameters;
        double active;
        rt_config c;
        rt_model m;
        OK(rt_json_parse(&json, line, (int64_t)strlen(line), "published", &err));
        OK(rt_json_get_str(json, "name", &name, &err));
        OK(rt_json_get_i64(json, "parameters", 1, INT64_MAX, &parameters, &err));
        OK(rt_json_get_f64(json, "active", &active, &err));
        OK(rt_json_get_object(json, "config", &config, &err));
        ck_assert_msg(rt_config_parse(&c, config, name, &err) == 0, "%s: %s", name, err.text);
        rt_model_init(&m, &c);
        ck_assert_msg(m.w.params.total == parameters, "%s: %lld parameters, wanted %lld", name,
                      (long long)m.w.params.total, (long long)parameters);
        // Cards count both, one or none of the two matrices of the vocabulary as active.
        double own = (double)m.w.params.active / 1e9, rows = (double)(c.vocab * c.width) / 1e9;
        ck_assert_msg(active == 0 || fabs(active - own) < rows + 0.025 * active,
                      "%s: %.2f billion active, its card says %g", name, own, active);
        rt_weights_free(NULL, &m.w);
        cJSON_Delete(json);
        n++;
    }
    fclose(f);
    ck_assert_int_ge(n, 37);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { test_parameters, 1 } };
    return suite_run("published", NULL, tests, RT_COUNT(tests));
}
