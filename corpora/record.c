/* record.c: the four forms of a record, read into one. */
#include "corpora/record.h"

#include <stdlib.h>
#include <string.h>

#include "corpora/text.h"

static const char *const roles[] = { "system", "user", "assistant", "tool", "developer" };
static const char *const share_roles[][2] = {
    { "human", "user" },          { "user", "user" },     { "gpt", "assistant" },
    { "assistant", "assistant" }, { "bot", "assistant" }, { "chatgpt", "assistant" },
    { "system", "system" },       { "tool", "tool" },     { "observation", "tool" },
};
/* The assistant's thought, by whichever name a server gives it. */
static const char *const thoughts[] = { "reasoning_content", "reasoning", "thinking" };

static bool one_of(const char *key, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(key, names[i]) == 0)
            return true;
    return false;
}

static int copy(char **out, const char *text, rt_err *err)
{
    *out = strdup(text);
    return *out ? 0 : rt_fail(err, "out of memory");
}

void rt_record_free(rt_record *r)
{
    for (int i = 0; i < r->n_messages; i++) {
        free(r->message[i].role);
        free(r->message[i].content);
        free(r->message[i].reasoning);
        free(r->message[i].extra);
    }
    free(r->message);
    free(r->tools);
    free(r->id);
    free(r->text);
    free(r->answer);
    free(r->verify);
    free(r->meta);
    *r = (rt_record){ 0 };
}

/* Keys of obj outside `known` as a compact object, NULL when there are none. */
static int keep_rest(char **out, const cJSON *obj, const char *const *known, int n, rt_err *err)
{
    cJSON *rest = NULL;
    const cJSON *v;
    cJSON_ArrayForEach(v, obj)
    {
        if (one_of(v->string, known, n))
            continue;
        cJSON *twin = cJSON_Duplicate(v, true);
        if (!twin)
            return cJSON_Delete(rest), rt_fail(err, "out of memory");
        if (!rest)
            rest = rt_json_object();
        rt_json_put(rest, v->string, twin);
    }
    *out = rest ? rt_json_text(rest) : NULL;
    cJSON_Delete(rest);
    return 0;
}

static rt_message *new_message(rt_record *r, const char *role, const char *content, rt_err *err)
{
    rt_message *m = &r->message[r->n_messages++];
    *m = (rt_message){ 0 };
    return copy(&m->role, role, err) || copy(&m->content, content, err) ? NULL : m;
}

static int make_room(rt_record *r, int n, rt_err *err)
{
    r->message = calloc((size_t)n + 1, sizeof *r->message);
    return r->message ? 0 : rt_fail(err, "out of memory");
}

/* "content": text, null beside tool calls, or a list of parts of type text, joined. */
static int read_content(const cJSON *message, rt_text *out, rt_err *err)
{
    const cJSON *v = rt_json_find(message, "content"), *part;
    if (!v || cJSON_IsNull(v))
        return rt_json_find(message, "tool_calls") ? rt_text_puts(out, "", err)
                                                   : rt_fail(err, "a message without content");
    if (cJSON_IsString(v))
        return rt_text_puts(out, v->valuestring, err);
    if (!cJSON_IsArray(v))
        return rt_fail(err, "content is neither text nor a list of parts");
    if (rt_text_puts(out, "", err))
        return -1;
    cJSON_ArrayForEach(part, v)
    {
        const char *type, *text;
        if (rt_json_get_str(part, "type", &type, err))
            return -1;
        if (strcmp(type, "text") != 0)
            return rt_fail(err, "a content part of type %.40s; only text is supported", type);
        if (rt_json_get_str(part, "text", &text, err) || rt_text_puts(out, text, err))
            return -1;
    }
    return 0;
}

static int read_openai(rt_record *r, const cJSON *list, rt_err *err)
{
    static const char *const known[] = { "role", "content", "reasoning_content", "reasoning",
                                         "thinking" };
    const cJSON *v;
    if (make_room(r, cJSON_GetArraySize(list), err))
        return -1;
    cJSON_ArrayForEach(v, list)
    {
        const char *role, *thought = NULL;
        rt_text content = { 0 };
        if (rt_json_get_str(v, "role", &role, err))
            return -1;
        if (!one_of(role, roles, RT_COUNT(roles)))
            return rt_fail(err, "role %.40s is unknown", role);
        for (int i = RT_COUNT(thoughts) - 1; i >= 0; i--)
            if (rt_json_opt_str(v, thoughts[i], &thought, err))
                return -1;
        rt_message *m = NULL;
        int bad = read_content(v, &content, err) ||
                  !(m = new_message(r, role, content.data, err)) ||
                  (thought && copy(&m->reasoning, thought, err)) ||
                  keep_rest(&m->extra, v, known, RT_COUNT(known), err);
        rt_text_free(&content);
        if (bad)
            return -1;
    }
    return 0;
}

static int read_sharegpt(rt_record *r, const cJSON *json, const cJSON *list, rt_err *err)
{
    static const char *const known[] = { "from", "value" };
    const char *system = "";
    const cJSON *v;
    if (rt_json_opt_str(json, "system", &system, err) ||
        make_room(r, cJSON_GetArraySize(list) + 1, err) ||
        (*system && !new_message(r, "system", system, err)))
        return -1;
    cJSON_ArrayForEach(v, list)
    {
        const char *from, *value, *role = NULL;
        if (rt_json_get_str(v, "from", &from, err) || rt_json_get_str(v, "value", &value, err))
            return -1;
        for (int i = 0; i < RT_COUNT(share_roles); i++)
            if (strcmp(from, share_roles[i][0]) == 0)
                role = share_roles[i][1];
        if (!role)
            return rt_fail(err, "\"from\": %.40s is unknown", from);
        rt_message *m = new_message(r, role, value, err);
        if (!m || keep_rest(&m->extra, v, known, RT_COUNT(known), err))
            return -1;
    }
    return 0;
}

static int read_prompt(rt_record *r, const cJSON *json, const char *prompt, rt_err *err)
{
    const char *system = NULL, *response = NULL, *completion = NULL, *reasoning = NULL;
    if (rt_json_opt_str(json, "system", &system, err) ||
        rt_json_opt_str(json, "response", &response, err) ||
        rt_json_opt_str(json, "completion", &completion, err) ||
        rt_json_opt_str(json, "reasoning", &reasoning, err))
        return -1;
    if (response && completion)
        return rt_fail(err, "both response and completion; give one");
    if (!response)
        response = completion;
    if (reasoning && !response)
        return rt_fail(err, "reasoning without a response");
    if (make_room(r, 3, err) || (system && !new_message(r, "system", system, err)) ||
        !new_message(r, "user", prompt, err))
        return -1;
    rt_message *m = response ? new_message(r, "assistant", response, err) : NULL;
    return (response && !m) || (reasoning && copy(&m->reasoning, reasoning, err)) ? -1 : 0;
}

/* A string, or an integer or decimal as it would be printed. */
static int read_scalar(char **out, const cJSON *json, const char *key, rt_err *err)
{
    const cJSON *v = rt_json_find(json, key);
    if (!v || cJSON_IsNull(v))
        return 0;
    if (cJSON_IsString(v))
        return copy(out, v->valuestring, err);
    if (!cJSON_IsNumber(v))
        return rt_fail(err, "%s is neither text nor a number", key);
    *out = rt_json_text(v);
    return 0;
}

/* "tools": a list, or as many data sets have it, a list as text. */
static int read_tools(rt_record *r, const cJSON *json, rt_err *err)
{
    const cJSON *v = rt_json_find(json, "tools");
    cJSON *parsed = NULL;
    if (!v || cJSON_IsNull(v) || (cJSON_IsString(v) && !*v->valuestring))
        return 0;
    if (cJSON_IsString(v) &&
        rt_json_parse(&parsed, v->valuestring, (int64_t)strlen(v->valuestring), "tools", err))
        return -1;
    v = parsed ? parsed : v;
    int bad = cJSON_IsArray(v) ? 0 : rt_fail(err, "tools is no list");
    if (!bad && v->child)
        r->tools = rt_json_text(v);
    cJSON_Delete(parsed);
    return bad;
}

/* A hash of what the record says, so that the same record has the same id everywhere. */
static int make_id(rt_record *r, rt_err *err)
{
    rt_text x = { 0 };
    int bad = 0;
    for (int i = 0; i < r->n_messages && !bad; i++) {
        const rt_message *m = &r->message[i];
        const char *part[] = { m->role, m->content, m->reasoning, m->extra };
        for (int k = 0; k < RT_COUNT(part) && !bad; k++)
            bad = rt_text_add(&x, part[k] ? part[k] : "",
                              part[k] ? (int64_t)strlen(part[k]) + 1 : 1, err);
    }
    bad = bad || (r->text && rt_text_puts(&x, r->text, err)) || rt_text_add(&x, "", 1, err) ||
          (r->answer && rt_text_puts(&x, r->answer, err)) ||
          (r->tools && rt_text_puts(&x, r->tools, err)) ||
          copy(&r->id, bad ? "" : rt_hash_bytes(x.data, x.bytes).hex, err);
    rt_text_free(&x);
    return bad ? -1 : 0;
}

static int read_object(rt_record *r, const cJSON *json, rt_err *err)
{
    static const char *const forms[] = { "prompt", "messages", "conversations", "text" };
    static const char *const known[] = { "prompt", "messages", "conversations", "text",
                                         "id",     "answer",   "verify",        "tools",
                                         "system", "response", "completion",    "reasoning" };
    int form = -1;
    const cJSON *list;
    const char *text;
    if (cJSON_IsArray(json))
        return rt_fail(err, "a JSON array; write one record a line (jq -c '.[]' FILE)");
    if (!cJSON_IsObject(json))
        return rt_fail(err, "not a JSON object");
    for (int i = 0; i < RT_COUNT(forms); i++) {
        if (!rt_json_find(json, forms[i]))
            continue;
        if (form >= 0)
            return rt_fail(err, "both %s and %s; give one", forms[form], forms[i]);
        form = i;
    }
    if (form < 0)
        return rt_fail(err, "none of prompt, messages, conversations, text");
    static const int n_known[] = { RT_COUNT(known), 8, 9, 7 }; /* of known, by form */
    if (form == 1 || form == 2) {
        if (rt_json_get_array(json, forms[form], &list, err))
            return -1;
        if (!list->child)
            return rt_fail(err, "%s is empty", forms[form]);
        if (form == 1 ? read_openai(r, list, err) : read_sharegpt(r, json, list, err))
            return -1;
    } else if (rt_json_get_str(json, forms[form], &text, err) ||
               (form == 0 ? read_prompt(r, json, text, err) : copy(&r->text, text, err))) {
        return -1;
    }
    return read_scalar(&r->id, json, "id", err) || read_scalar(&r->answer, json, "answer", err) ||
                   read_scalar(&r->verify, json, "verify", err) ||
                   (!r->text && read_tools(r, json, err)) ||
                   keep_rest(&r->meta, json, known, n_known[form], err) ||
                   (!r->id && make_id(r, err))
               ? -1
               : 0;
}

int rt_record_parse(rt_record *r, const char *json, int64_t bytes, const char *where, rt_err *err)
{
    cJSON *root = NULL;
    *r = (rt_record){ 0 };
    if (rt_json_parse(&root, json, bytes, where, err))
        return -1;
    int bad = read_object(r, root, err) ? rt_wrap(err, "%s", where) : 0;
    cJSON_Delete(root);
    if (bad)
        rt_record_free(r);
    return bad;
}

int rt_record_from_item(rt_record *r, const rt_item *item, rt_err *err)
{
    if (!item->whole)
        return rt_record_parse(r, item->data, item->bytes, item->where, err);
    *r = (rt_record){ 0 };
    if (copy(&r->text, item->data, err) || make_id(r, err)) {
        rt_record_free(r);
        return rt_wrap(err, "%s", item->where);
    }
    return 0;
}

cJSON *rt_record_messages(const rt_record *r)
{
    cJSON *root = rt_json_object(), *list = rt_json_array();
    for (int i = 0; i < r->n_messages; i++) {
        const rt_message *m = &r->message[i];
        cJSON *o = rt_json_object();
        rt_json_put_str(o, "role", m->role);
        rt_json_put_str(o, "content", m->content);
        if (m->reasoning)
            rt_json_put_str(o, "reasoning_content", m->reasoning);
        cJSON *extra = m->extra ? cJSON_Parse(m->extra) : NULL;
        while (extra && extra->child) {
            cJSON *v = cJSON_DetachItemViaPointer(extra, extra->child);
            rt_json_put(o, v->string, v);
        }
        cJSON_Delete(extra);
        cJSON_AddItemToArray(list, o);
    }
    rt_json_put(root, "messages", list);
    if (r->tools)
        rt_json_put(root, "tools", cJSON_Parse(r->tools));
    return root;
}

void rt_record_drop_response(cJSON *talk)
{
    cJSON *messages = cJSON_GetObjectItemCaseSensitive(talk, "messages");
    int n = cJSON_GetArraySize(messages);
    const cJSON *last = n ? cJSON_GetArrayItem(messages, n - 1) : NULL;
    const char *role = cJSON_GetStringValue(rt_json_find(last, "role"));
    if (role && strcmp(role, "assistant") == 0)
        cJSON_DeleteItemFromArray(messages, n - 1);
}
