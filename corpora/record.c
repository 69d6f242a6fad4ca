/* record.c: the four forms of a record, read into one. */
#include "corpora/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/memory.h"
#include "corpora/template/template.h"
#include "corpora/text.h"

static const char *const roles[] = { "system", "user", "assistant", "tool", "developer" };
static const char *const share_roles[][2] = {
    { "human", "user" },          { "user", "user" },     { "gpt", "assistant" },
    { "assistant", "assistant" }, { "bot", "assistant" }, { "chatgpt", "assistant" },
    { "system", "system" },       { "tool", "tool" },     { "observation", "tool" },
};

static bool one_of(const char *key, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(key, names[i]) == 0)
            return true;
    return false;
}

/* "null" stands for an absent member in what data frames and columns write. */
static void drop_nulls(cJSON *json)
{
    for (cJSON *v = json->child, *next; v; v = next) {
        next = v->next;
        if (cJSON_IsNull(v) && cJSON_IsObject(json))
            cJSON_Delete(cJSON_DetachItemViaPointer(json, v));
        else
            drop_nulls(v);
    }
}

/* Text that rt_json_text wrote of a record; NULL for NULL. */
static cJSON *parse_again(const char *text)
{
    cJSON *json = NULL;
    rt_err err;
    if (text && rt_json_parse(&json, text, (int64_t)strlen(text), "record", &err))
        rt_bug("%s", err.text);
    return json;
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
    free(r->tag);
    free(r->meta);
    if (r->privileged)
        rt_record_free(r->privileged);
    free(r->privileged);
    *r = (rt_record){ 0 };
}

/* Keys of obj outside `known` as a compact object, NULL when there are none. */
static char *keep_rest(const cJSON *obj, const char *const *known, int n)
{
    cJSON *rest = NULL;
    const cJSON *v;
    cJSON_ArrayForEach(v, obj)
    {
        if (one_of(v->string, known, n))
            continue;
        if (!rest)
            rest = rt_json_object();
        rt_json_put(rest, v->string, cJSON_Duplicate(v, true));
    }
    char *text = rest ? rt_json_text(rest) : NULL;
    cJSON_Delete(rest);
    return text;
}

static rt_message *new_message(rt_record *r, const char *role, const char *content)
{
    rt_message *m = &r->message[r->n_messages++];
    m->role = rt_strdup(role);
    m->content = rt_strdup(content);
    m->weight = 1;
    return m;
}

static void make_room(rt_record *r, int n)
{
    r->message = rt_alloc((int64_t)n + 1, (int64_t)sizeof *r->message, "messages of a record");
}

/* The thought of a message or of a prompt's record, NULL when there is none. */
static int read_reasoning(const cJSON *obj, const char **out, rt_err *err)
{
    *out = NULL;
    for (int i = RT_REASONING_NAMES - 1; i >= 0; i--)
        if (rt_json_opt_str(obj, rt_reasoning_names[i], out, err))
            return -1;
    return 0;
}

/* "weight" of a record or a message: how much its learned tokens count. */
static int read_weight(const cJSON *obj, double *weight, rt_err *err)
{
    const cJSON *v = rt_json_find(obj, "weight");
    *weight = v ? v->valuedouble : 1;
    if (v && (!cJSON_IsNumber(v) || !(*weight >= 0 && *weight <= RT_WEIGHT_MAX)))
        return rt_fail(err, "weight is no number from 0 to %d, which says how much is learned from "
                            "it: rename the key if it means something else", RT_WEIGHT_MAX);
    return 0;
}

/* "content": text, absent beside tool calls, or a list of parts of type text, joined. */
static int read_content(const cJSON *message, rt_text *out, rt_err *err)
{
    const cJSON *v = rt_json_find(message, "content"), *part;
    if (!v)
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
    make_room(r, cJSON_GetArraySize(list));
    cJSON_ArrayForEach(v, list)
    {
        const char *role, *thought;
        rt_text content = { 0 };
        if (!cJSON_IsObject(v))
            return rt_fail(err, "a message that is no object with role and content");
        if (rt_json_get_str(v, "role", &role, err))
            return -1;
        if (!one_of(role, roles, RT_COUNT(roles)))
            return rt_fail(err, "role %.40s is unknown", role);
        if (read_reasoning(v, &thought, err) || read_content(v, &content, err)) {
            rt_text_free(&content);
            return -1;
        }
        rt_message *m = new_message(r, role, content.data);
        m->reasoning = thought ? rt_strdup(thought) : NULL;
        m->extra = keep_rest(v, known, RT_COUNT(known));
        rt_text_free(&content);
        if (read_weight(v, &m->weight, err))
            return -1;
    }
    return 0;
}

static int read_sharegpt(rt_record *r, const cJSON *json, const cJSON *list, rt_err *err)
{
    static const char *const known[] = { "from", "value" };
    const char *system = "";
    const cJSON *v;
    if (rt_json_opt_str(json, "system", &system, err))
        return -1;
    make_room(r, cJSON_GetArraySize(list) + 1);
    if (*system)
        new_message(r, "system", system);
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
        rt_message *m = new_message(r, role, value);
        m->extra = keep_rest(v, known, RT_COUNT(known));
        if (read_weight(v, &m->weight, err))
            return -1;
    }
    return 0;
}

static int read_prompt(rt_record *r, const cJSON *json, const char *prompt, rt_err *err)
{
    const char *system = NULL, *response = NULL, *completion = NULL, *reasoning;
    if (rt_json_opt_str(json, "system", &system, err) ||
        rt_json_opt_str(json, "response", &response, err) ||
        rt_json_opt_str(json, "completion", &completion, err) ||
        read_reasoning(json, &reasoning, err))
        return -1;
    if (response && completion)
        return rt_fail(err, "both response and completion; give one");
    if (!response)
        response = completion;
    if (reasoning && !response)
        return rt_fail(err, "reasoning without a response");
    if (!*prompt)
        return rt_fail(err, "prompt is empty");
    make_room(r, 3);
    if (system)
        new_message(r, "system", system);
    new_message(r, "user", prompt);
    if (response)
        new_message(r, "assistant", response)->reasoning = reasoning ? rt_strdup(reasoning) : NULL;
    return 0;
}

/* A string, or a number as it is spelled. */
static int read_scalar(char **out, const cJSON *json, const char *key, rt_err *err)
{
    const cJSON *v = rt_json_find(json, key);
    if (!v)
        return 0;
    if (!cJSON_IsString(v) && !cJSON_IsNumber(v))
        return rt_fail(err, "%s is neither text nor a number", key);
    *out = cJSON_IsString(v) ? rt_strdup(v->valuestring) : rt_json_text(v);
    return 0;
}

/* Kept as it is given, or refused: what is made from a record must be found again by it. */
static int check_id(const char *id, rt_err *err)
{
    int64_t n = (int64_t)strlen(id);
    if (n == 0)
        return rt_fail(err, "id is empty: leave the key out, or give one");
    if (n > RT_RECORD_ID_MAX)
        return rt_fail(err, "id \"%.40s...\" has %lld bytes; at most %d are kept", id, (long long)n,
                       RT_RECORD_ID_MAX);
    return rt_utf8_check_line(id, n) == n
               ? 0
               : rt_fail(err, "id \"%.40s\" holds a control character", id);
}

bool rt_record_tag_ok(const char *tag)
{
    int64_t n = (int64_t)strlen(tag);
    return n >= 1 && n <= RT_RECORD_TAG_MAX && !strpbrk(tag, ",=") &&
           rt_utf8_check_line(tag, n) == n;
}

/* "tag": so that options can name it. It stays in meta too, for whoever reports by a key. */
static int read_tag(rt_record *r, const cJSON *json, rt_err *err)
{
    if (read_scalar(&r->tag, json, "tag", err))
        return -1;
    return !r->tag || rt_record_tag_ok(r->tag)
               ? 0
               : rt_fail(err, "tag \"%.40s\" is no line of 1 to %d bytes without commas and equals "
                              "signs: rename the key if it means something else",
                         r->tag, RT_RECORD_TAG_MAX);
}

/* "tools": a list, or as many data sets have it, a list as text. */
static int read_tools(rt_record *r, const cJSON *json, rt_err *err)
{
    const cJSON *v = rt_json_find(json, "tools");
    cJSON *parsed = NULL;
    if (!v || (cJSON_IsString(v) && !*v->valuestring))
        return 0;
    if (cJSON_IsString(v)) {
        if (rt_json_parse(&parsed, v->valuestring, (int64_t)strlen(v->valuestring), "tools", err))
            return -1;
        drop_nulls(parsed);
        v = parsed;
    }
    int bad = cJSON_IsArray(v) || cJSON_IsNull(v) ? 0 : rt_fail(err, "tools is no list");
    if (!bad && v->child)
        r->tools = rt_json_text(v);
    cJSON_Delete(parsed);
    return bad;
}

static bool is_role(const rt_message *m, const char *role) { return !strcmp(m->role, role); }

/* A text goes behind the last message of the user's. */
static int add_to_question(rt_record *p, const char *text, rt_err *err)
{
    int i = p->n_messages - 1;
    while (i >= 0 && !is_role(&p->message[i], "user"))
        i--;
    if (i < 0)
        return rt_fail(err, "privileged text stands behind the last message of the user's: there is "
                            "none");
    rt_text whole = { 0 };
    rt_message *m = &p->message[i];
    if (rt_text_printf(&whole, err, "%s\n\n%s", m->content, text)) {
        rt_text_free(&whole);
        return -1;
    }
    free(m->content);
    m->content = rt_strdup(whole.data);
    rt_text_free(&whole);
    return 0;
}

/* "privileged": a text, or the whole prompt as messages. */
static int read_privileged(rt_record *r, const cJSON *json, rt_err *err)
{
    const cJSON *v = rt_json_find(json, "privileged");
    bool list = cJSON_IsArray(v);
    if (!v)
        return 0;
    if (list ? !v->child : !cJSON_IsString(v) || !*v->valuestring)
        return rt_fail(err, "privileged is neither text nor a list of messages, or it is empty");
    rt_record *p = r->privileged = rt_alloc(1, sizeof *p, "a record");
    p->tools = r->tools ? rt_strdup(r->tools) : NULL;
    if (list) {
        if (read_openai(p, v, err))
            return rt_wrap(err, "privileged");
        return is_role(&p->message[p->n_messages - 1], "assistant")
                   ? rt_fail(err, "privileged ends with the assistant: it is a prompt, without the "
                                  "answer")
                   : 0;
    }
    make_room(p, r->n_messages);
    for (int i = 0; i < r->n_messages; i++) {
        const rt_message *m = &r->message[i];
        if (i == r->n_messages - 1 && is_role(m, "assistant"))
            break;
        rt_message *copy = new_message(p, m->role, m->content);
        copy->reasoning = m->reasoning ? rt_strdup(m->reasoning) : NULL;
        copy->extra = m->extra ? rt_strdup(m->extra) : NULL;
    }
    return add_to_question(p, v->valuestring, err);
}

/* A hash of what the record says, so that the same record has the same id everywhere. */
static int add_messages(rt_text *x, const rt_record *r, rt_err *err)
{
    for (int i = 0; i < r->n_messages; i++) {
        const rt_message *m = &r->message[i];
        const char *part[] = { m->role, m->content, m->reasoning, m->extra };
        for (int k = 0; k < RT_COUNT(part); k++)
            if (rt_text_add(x, part[k] ? part[k] : "", part[k] ? (int64_t)strlen(part[k]) + 1 : 1,
                            err))
                return -1;
    }
    return 0;
}

static int make_id(rt_record *r, rt_err *err)
{
    rt_text x = { 0 };
    int bad = add_messages(&x, r, err) || (r->text && rt_text_puts(&x, r->text, err)) ||
              rt_text_add(&x, "", 1, err) || (r->answer && rt_text_puts(&x, r->answer, err)) ||
              (r->tools && rt_text_puts(&x, r->tools, err)) ||
              (r->privileged && add_messages(&x, r->privileged, err));
    r->id = bad ? NULL : rt_strdup(rt_hash_bytes(x.data, x.bytes).hex);
    r->id_made = true;
    rt_text_free(&x);
    return bad ? -1 : 0;
}

/* ---- the record -----------------------------------------------------------------------------
 */

static const char *const forms[] = { "prompt", "messages", "conversations", "text" };

/* What other programs call these keys; the first that a record has is named in its error. */
static const char *const other_names[][2] = {
    { "question", "prompt" },        { "instruction", "prompt" },
    { "problem", "prompt" },         { "query", "prompt" },
    { "input", "prompt" },           { "message", "messages" },
    { "conversation", "messages" },  { "dialog", "messages" },
    { "dialogue", "messages" },      { "chat", "messages" },
    { "content", "text" },           { "document", "text" },
    { "output", "response" },        { "answer_text", "response" },
    { "target", "response" },        { "solution", "response (to learn) or answer (to compare)" },
    { "ground_truth", "answer" },    { "final_answer", "answer" },
    { "expected_answer", "answer" }, { "label", "answer" },
};

/* Which keys were seen, and which of them are known under another name. */
static int fail_form(const cJSON *json, rt_err *err)
{
    char keys[160] = "", hints[200] = "";
    const char *done[RT_COUNT(other_names)];
    int n_done = 0, n = 0;
    const cJSON *v;
    cJSON_ArrayForEach(v, json)
    {
        size_t at = strlen(keys);
        if (n++ < 8)
            snprintf(keys + at, sizeof keys - at, "%s%.30s", at ? ", " : "", v->string);
        for (int i = 0; i < RT_COUNT(forms); i++)
            if (strcasecmp(v->string, forms[i]) == 0)
                return rt_fail(err, "no \"%s\": the key \"%s\" is spelled otherwise", forms[i],
                               v->string);
    }
    for (int i = 0; i < RT_COUNT(other_names); i++) {
        const char *name = other_names[i][0], *ours = other_names[i][1];
        size_t at = strlen(hints);
        if (!cJSON_GetObjectItem(json, name) || one_of(ours, done, n_done))
            continue;
        done[n_done++] = ours;
        snprintf(hints + at, sizeof hints - at, "%s %s to %s", at ? "," : "; rename", name, ours);
    }
    return rt_fail(err, "none of prompt, messages, conversations, text: its keys are %s%s%s",
                   n ? keys : "none", n > 8 ? ", ..." : "", hints);
}

void rt_record_unread(const rt_record *r, char *text, size_t size)
{
    cJSON *meta = parse_again(r->meta);
    const cJSON *v;
    int n = 0;
    *text = 0;
    cJSON_ArrayForEach(v, meta)
    {
        static const char *const read[] = { "weight", "tag" };
        if (one_of(v->string, read, RT_COUNT(read)))
            continue;
        size_t at = strlen(text);
        if (n++ < 4)
            snprintf(text + at, size - at, "%s%.30s", n == 1 ? "" : ", ", v->string);
    }
    cJSON_Delete(meta);
}

int rt_record_lacks(const rt_record *r, rt_err *err)
{
    char keys[160];
    rt_record_unread(r, keys, sizeof keys);
    return *keys ? rt_fail(err, "%s; keys that are not read: %s", strdupa(err->text), keys) : -1;
}

static int read_form(rt_record *r, const cJSON *json, int form, rt_err *err)
{
    const cJSON *list;
    const char *text;
    if (form == 0 || form == 3) {
        if (rt_json_get_str(json, forms[form], &text, err))
            return -1;
        if (form == 0)
            return read_prompt(r, json, text, err);
        r->text = rt_strdup(text);
        return 0;
    }
    if (rt_json_get_array(json, forms[form], &list, err))
        return -1;
    if (!list->child)
        return rt_fail(err, "%s is empty", forms[form]);
    return form == 1 ? read_openai(r, list, err) : read_sharegpt(r, json, list, err);
}

static int read_object(rt_record *r, const cJSON *json, rt_err *err)
{
    static const char *const known[] = {
        "prompt",   "messages",         "conversations", "text",
        "id",       "answer",           "verify",        "tools",
        "privileged", "system",         "response",      "completion",
        "reasoning", "thinking",        "reasoning_content"
    };
    static const int n_known[] = { RT_COUNT(known), 9, 10, 7 }; /* of known, by form */
    int form = -1;
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
        return fail_form(json, err);
    if (read_form(r, json, form, err) || read_scalar(&r->id, json, "id", err) ||
        (r->id && check_id(r->id, err)) || read_scalar(&r->answer, json, "answer", err) ||
        (r->answer && !*r->answer &&
         rt_fail(err, "answer is empty: leave the key out, or give one")) ||
        read_scalar(&r->verify, json, "verify", err) || read_weight(json, &r->weight, err) ||
        read_tag(r, json, err) ||
        (!r->text && (read_tools(r, json, err) || read_privileged(r, json, err))))
        return -1;
    r->meta = keep_rest(json, known, n_known[form]);
    return r->id ? 0 : make_id(r, err);
}

int rt_record_parse(rt_record *r, const char *json, int64_t bytes, const char *where, rt_err *err)
{
    cJSON *root = NULL;
    *r = (rt_record){ 0 };
    if (rt_json_parse(&root, json, bytes, where, err))
        return -1;
    drop_nulls(root);
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
    r->text = rt_strdup(item->data);
    r->weight = 1;
    if (make_id(r, err)) {
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
        cJSON *extra = parse_again(m->extra);
        while (extra && extra->child) {
            cJSON *v = cJSON_DetachItemViaPointer(extra, extra->child);
            rt_json_put(o, v->string, v);
        }
        cJSON_Delete(extra);
        cJSON_AddItemToArray(list, o);
    }
    rt_json_put(root, "messages", list);
    if (r->tools)
        rt_json_put(root, "tools", parse_again(r->tools));
    return root;
}

float rt_record_weight(const rt_record *r, int message)
{
    return (float)(r->weight * (message < 0 ? 1 : r->message[message].weight));
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
