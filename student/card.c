#include "student/card.h"

#include <stdlib.h>

#include "core/formats/listing.h"

int rt_card_list(const char *dir, const rt_card *c, rt_err *err)
{
    cJSON *json = rt_json_object();
    rt_json_put_str(json, "made_by", "retort " RT_VERSION);
    rt_json_put_str(json, "command", c->command);
    rt_json_put_str(json, "identity", c->identity);
    rt_json_put_i64(json, "steps", c->steps);
    rt_json_put_i64(json, "tokens", c->tokens);
    rt_json_put(json, "options", cJSON_Duplicate(c->options, true));
    return rt_listing_write(dir, json, false, err);
}

int rt_card_write(const char *dir, const rt_card *c, rt_err *err)
{
    rt_out out;
    char *path = rt_path_join(dir, "README.md"), *options = rt_json_text(c->options);
    int bad = rt_out_open(&out, path, err);
    if (!bad) {
        bad = rt_out_printf(&out, err,
                            "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: "
                            "[distillation, retort]\n") ||
              (c->licence && rt_out_printf(&out, err, "license: %s\n", c->licence)) ||
              (c->base && rt_out_printf(&out, err, "base_model: %s\n", c->base)) ||
              rt_out_printf(
                  &out, err,
                  "---\n\n# %s, %lld parameters\n\nTrained by `retort %s`: %lld steps, %lld "
                  "learned tokens. "
                  "Evaluate it on your own task before you rely on it: `retort eval --model .`\n\n"
                  "Settings (also in retort.json):\n\n```json\n%s\n```\n",
                  c->cfg->family->architecture, (long long)c->parameters, c->command,
                  (long long)c->steps, (long long)c->tokens, options);
        bad = bad ? (rt_out_abort(&out), -1) : rt_out_commit(&out, err);
    }
    free(options);
    free(path);
    return bad;
}
