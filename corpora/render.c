/* render.c: `retort render`: the chat template of a model on a list of messages, as text
   on stdout. Variables are what transformers' apply_chat_template passes. Refuses: tokenizing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/option.h"
#include "core/formats/gguf.h"
#include "core/formats/kind.h"
#include "corpora/chat.h"

typedef struct render_options {
    char *model, *messages;
    bool add_generation_prompt;
    rt_strlist set;
} render_options;

static const rt_option OPTIONS[] = {
    OPT_NEED(render_options, model, "model", "PATH",
             "model directory or .gguf with a chat template", RT_OPT_INPUT),
    OPT_NEED(render_options, messages, "messages", "FILE",
             "JSON: a list of messages, or an object with \"messages\" and other variables",
             RT_OPT_INPUT),
    OPT_BOOL(render_options, add_generation_prompt, "add-generation-prompt", "false",
             "end with the opening of the assistant's turn"),
    RT_CHAT_OPTION(render_options, set),
};

/* The file's list as "messages", or all members of its object. */
static int add_messages(cJSON *context, const char *path, rt_err *err)
{
    cJSON *json;
    if (rt_json_load(&json, path, err))
        return -1;
    bool object = cJSON_IsObject(json);
    if (!cJSON_IsArray(json) && !(object && cJSON_IsArray(rt_json_find(json, "messages")))) {
        cJSON_Delete(json);
        return rt_fail(err, "%s: expected a list of messages, or an object with \"messages\"",
                       path);
    }
    if (!object)
        rt_json_put(context, "messages", json);
    while (object && json->child) {
        cJSON *item = cJSON_DetachItemViaPointer(json, json->child);
        cJSON_DeleteItemFromObjectCaseSensitive(context, item->string);
        cJSON_AddItemToObject(context, item->string, item);
    }
    if (object)
        cJSON_Delete(json);
    rt_template_alias_reasoning(cJSON_GetObjectItemCaseSensitive(context, "messages"));
    return 0;
}

/* The template and its variables: of a GGUF, or of a directory, which needs no tokenizer for it. */
static int open_template(rt_chat *chat, const char *path, rt_err *err)
{
    char *source = NULL;
    int64_t bytes;
    if (!rt_path_exists(path))
        return rt_kind_fail(path, "a model", "give a Hugging Face directory or a .gguf file", err);
    if (rt_gguf_is(path)) {
        if (rt_chat_open(chat, path, err))
            return -1;
        return chat->chat ? 0 : rt_fail(err, "%s: no chat template in its keys", path);
    }
    int rc = rt_template_find(&source, &bytes, path, err);
    if (!rc && !source)
        rc = rt_fail(err,
                     "%s: no chat template: neither chat_template.jinja nor chat_template in "
                     "tokenizer_config.json",
                     path);
    rc = rc || rt_template_parse(&chat->chat, source, bytes, err) ||
         rt_template_context(&chat->context, path, err);
    free(source);
    return rc ? -1 : 0;
}

static int run_render(void *values, rt_err *err)
{
    const render_options *o = values;
    rt_chat chat = { 0 };
    char *text = NULL;
    int64_t bytes;
    int rc = open_template(&chat, o->model, err) || add_messages(chat.context, o->messages, err);
    cJSON *context = chat.context;
    if (!rc && (o->add_generation_prompt || !rt_json_find(context, "add_generation_prompt"))) {
        cJSON_DeleteItemFromObjectCaseSensitive(context, "add_generation_prompt");
        rt_json_put_bool(context, "add_generation_prompt", o->add_generation_prompt);
    }
    rc = rc || rt_chat_set(&chat, &o->set, err) ||
         rt_template_render(chat.chat, context, &text, &bytes, err);
    if (!rc)
        fwrite(text, 1, (size_t)bytes, stdout); /* retort.c checks that stdout was written */
    free(text);
    rt_chat_close(&chat);
    return rc ? -1 : 0;
}

const rt_command rt_command_render = {
    .name = "render",
    .help = "the chat template of a model on messages, as text",
    .group = "models and tokenizers",
    .options = OPTIONS,
    .n_options = RT_COUNT(OPTIONS),
    .struct_bytes = sizeof(render_options),
    .run = run_render,
    .example = "retort render --model DIR --messages chat.json --add-generation-prompt",
};
