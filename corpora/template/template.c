/* template.c: the public face of chat templates: source to parsed template, context to text, and
   where a model directory keeps its template and special tokens. */
#include "corpora/template/template.h"

#include <stdlib.h>

#include "core/base/memory.h"
#include "corpora/template/template_impl.h"

rt_template_limits rt_template_limits_default(void)
{
    return (rt_template_limits){
        .steps = 1000000, .depth = 64, .output_bytes = 60LL << 20, .memory_bytes = 60LL << 20
    };
}

/* "\r\n" and "\r" become "\n", and one newline at the end goes, as jinja2's lexer does. */
static void parse_source(rt_tpl *m)
{
    const char *from = m->source.u.str;
    char *text = rt_tpl_take(m, m->source.n + 1);
    int64_t n = 0;
    for (int64_t i = 0; i < m->source.n; i++) {
        bool cr = from[i] == '\r';
        text[n++] = cr ? '\n' : from[i];
        i += cr && i + 1 < m->source.n && from[i + 1] == '\n';
    }
    n -= n > 0 && text[n - 1] == '\n';
    text[n] = 0;
    m->source = rt_val_str(text, n);
    rt_tpl_parse(m);
}

int rt_template_parse(rt_template **out, const char *source, int64_t bytes, rt_err *err)
{
    *out = NULL;
    if (bytes > RT_TEMPLATE_SOURCE_MAX)
        return rt_fail(err, "chat template of %lld bytes, at most %lld are allowed",
                       (long long)bytes, (long long)RT_TEMPLATE_SOURCE_MAX);
    int64_t good = rt_utf8_check(source, bytes);
    if (good < bytes)
        return rt_fail(err, "chat template: byte %lld is not UTF-8", (long long)good);
    rt_template *t = rt_alloc(1, sizeof *t, "a chat template");
    rt_template_limits limit = rt_template_limits_default();
    limit.steps = INT64_MAX / 2;
    t->pool.limit = limit.memory_bytes / 2;
    t->hash = rt_hash_bytes(source, bytes);
    rt_tpl m = { .pool = &t->pool, .err = err, .line = 1, .limit = limit, .t = t };
    m.source = rt_val_str(source, bytes);
    if (rt_tpl_guard(&m, parse_source)) {
        *out = t;
        return 0;
    }
    rt_template_free(t);
    return -1;
}

void rt_template_free(rt_template *t)
{
    if (t)
        rt_pool_free(&t->pool);
    free(t);
}

rt_hash rt_template_hash(const rt_template *t) { return t->hash; }

static void run(rt_tpl *m)
{
    m->global = rt_tpl_take(m, m->t->n_names * (int64_t)sizeof *m->global);
    for (int32_t i = 0; i < m->t->n_names; i++) {
        rt_val name = m->t->name[i];
        const rt_builtin *fn = rt_builtin_find(rt_functions, name);
        m->global[i] = fn ? rt_function_new(m, rt_val_missing(), fn) : rt_val_missing();
        for (const cJSON *c = m->context->child; c; c = c->next)
            if (rt_val_is(name, c->string) && !rt_val_is(name, "strftime_now"))
                m->global[i] = rt_val_from_json(m, c);
    }
    rt_tpl_run(m);
}

int rt_template_render_limited(const rt_template *t, const cJSON *context,
                               const rt_template_limits *limits, rt_template_result *result,
                               rt_err *err)
{
    *result = (rt_template_result){ 0 };
    if (!cJSON_IsObject(context))
        return rt_fail(err, "chat template: the context must be a JSON object");
    /* lengths of strings are 32 bits wide */
    rt_pool pool = { .limit = rt_min(limits->memory_bytes, 2LL << 30) - t->pool.used };
    rt_tpl m = { .pool = &pool, .err = err, .line = 1, .limit = *limits, .context = context };
    m.t = (rt_template *)t; /* read only from here on */
    bool ok = rt_tpl_guard(&m, run);
    result->steps = m.steps;
    result->memory_bytes = t->pool.used + pool.peak;
    if (ok) {
        result->bytes = m.root.n;
        result->text = rt_buf_detach(&m, &m.root);
    }
    rt_pool_free(&pool);
    return ok ? 0 : -1;
}

int rt_template_render(const rt_template *t, const cJSON *context, char **text, int64_t *bytes,
                       rt_err *err)
{
    rt_template_limits limits = rt_template_limits_default();
    rt_template_result result;
    int rc = rt_template_render_limited(t, context, &limits, &result, err);
    *text = result.text;
    *bytes = result.bytes;
    return rc;
}

const char *const rt_reasoning_names[RT_REASONING_NAMES] = { "reasoning_content", "thinking",
                                                             "reasoning" };

void rt_template_alias_reasoning(cJSON *messages)
{
    const char *const *names = rt_reasoning_names;
    cJSON *message;
    cJSON_ArrayForEach(message, messages)
    {
        const cJSON *found = NULL;
        for (int i = 0; i < RT_REASONING_NAMES && (!found || cJSON_IsNull(found)); i++)
            found = cJSON_IsObject(message) ? rt_json_find(message, names[i]) : NULL;
        if (!found || cJSON_IsNull(found))
            continue;
        /* Python: {"thinking": found, **message, "reasoning_content": found}, order included */
        if (!rt_json_find(message, names[1]))
            rt_json_put(message, names[1], cJSON_Duplicate(found, true));
        cJSON *thinking = cJSON_DetachItemFromObjectCaseSensitive(message, names[1]);
        cJSON_InsertItemInArray(message, 0, thinking);
        if (!strcmp(found->string, names[0]))
            continue;
        cJSON *copy = cJSON_Duplicate(found, true);
        if (!cJSON_ReplaceItemInObjectCaseSensitive(message, names[0], copy))
            rt_json_put(message, names[0], copy);
    }
}

/* ---- model directories ----------------------------------------------------------------------- */

static int load_config(cJSON **config, const char *model_dir, rt_err *err)
{
    char *path = rt_path_join(model_dir, "tokenizer_config.json");
    int rc = 0;
    *config = NULL;
    if (rt_path_exists(path))
        rc = rt_json_load(config, path, err);
    if (!rc && *config && !cJSON_IsObject(*config))
        rc = rt_fail(err, "%s: not a JSON object", path);
    free(path);
    return rc;
}

int rt_template_find(char **source, int64_t *bytes, const char *model_dir, rt_err *err)
{
    char *path = rt_path_join(model_dir, "chat_template.jinja");
    bool own_file = rt_path_exists(path);
    int rc = own_file ? rt_file_read(source, bytes, path, RT_TEMPLATE_SOURCE_MAX, err) : 0;
    cJSON *config;
    free(path);
    if (own_file)
        return rc;
    *source = NULL;
    *bytes = 0;
    if (load_config(&config, model_dir, err))
        return -1;
    const cJSON *t = rt_json_find(config, "chat_template"), *entry;
    if (cJSON_IsArray(t)) { /* [{"name": "default", "template": "..."}, ...] */
        const cJSON *list = t;
        t = NULL;
        cJSON_ArrayForEach(entry, list)
        {
            const char *name = cJSON_GetStringValue(rt_json_find(entry, "name"));
            if (name && !strcmp(name, "default"))
                t = rt_json_find(entry, "template");
        }
    }
    if (cJSON_IsString(t)) {
        *source = rt_strdup(t->valuestring);
        *bytes = (int64_t)strlen(t->valuestring);
    }
    cJSON_Delete(config);
    return rc;
}

cJSON *rt_template_bare_context(void)
{
    cJSON *context = rt_json_object();
    rt_json_put(context, "tools", cJSON_CreateNull());
    rt_json_put(context, "documents", cJSON_CreateNull());
    return context;
}

int rt_template_context(cJSON **context, const char *model_dir, rt_err *err)
{
    static const char *const names[] = { "bos_token", "eos_token", "unk_token", "sep_token",
                                         "pad_token", "cls_token", "mask_token" };
    cJSON *config;
    *context = NULL;
    if (load_config(&config, model_dir, err))
        return -1;
    *context = rt_template_bare_context();
    for (int i = 0; i < RT_COUNT(names); i++) {
        const cJSON *v = rt_json_find(config, names[i]);
        v = cJSON_IsObject(v) ? rt_json_find(v, "content") : v;
        if (cJSON_IsString(v))
            rt_json_put_str(*context, names[i], v->valuestring);
    }
    cJSON_Delete(config);
    return 0;
}
