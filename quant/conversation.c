#include "quant/conversation.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"

int rt_conversation_open(rt_chat *c, const char *path, bool warn, rt_err *err)
{
    rt_err why = { 0 };
    if (rt_chat_open_any(c, path, &why, err))
        return -1;
    if (warn && *why.text)
        rt_warn("%s; it is written as it is: what ends an answer, and a Modelfile's TEMPLATE, are not made from it",
                why.text);
    return 0;
}

int rt_conversation_render(const rt_chat *c, const rt_turn *turn, int n, bool generation_prompt,
                           char **text, rt_err *err)
{
    int64_t bytes = 0;
    cJSON *context = cJSON_Duplicate(c->context, true), *messages = rt_json_array();
    for (int i = 0; i < n; i++) {
        cJSON *m = rt_json_object();
        rt_json_put_str(m, "role", turn[i].role);
        rt_json_put_str(m, "content", turn[i].content);
        rt_json_put(messages, NULL, m);
    }
    rt_json_put(context, "messages", messages);
    rt_json_put_bool(context, "add_generation_prompt", generation_prompt);
    int rc = rt_template_render(c->chat, context, text, &bytes, err);
    if (!rc && (int64_t)strlen(*text) != bytes) {
        free(*text);
        rc = rt_fail(err, "the chat template writes a NUL");
    }
    cJSON_Delete(context);
    return rc;
}

/* The first special token of text. */
static int32_t first_special(const rt_tokenizer *t, const char *text)
{
    rt_ids ids = { 0 };
    rt_err ignored;
    int32_t found = -1;
    int bad = rt_tokenizer_encode(t, text, (int64_t)strlen(text), RT_TOKENIZE_SPECIAL, &ids,
                                  &ignored);
    for (int64_t i = 0; !bad && i < ids.n && found < 0; i++)
        if (rt_tokenizer_type(t, ids.id[i]) == RT_TOKEN_CONTROL)
            found = ids.id[i];
    rt_ids_free(&ids);
    return found;
}

int32_t rt_conversation_end(const rt_chat *c)
{
    static const char WORDS[] = "Seventeen times three is 51.";
    const rt_turn turn[] = { { "user", "How much is 17 * 3?" }, { "assistant", WORDS } };
    char *text = NULL;
    rt_err ignored;
    if (!c->chat || rt_conversation_render(c, turn, 2, false, &text, &ignored))
        return -1;
    const char *at = strstr(text, WORDS);
    int32_t id = at ? first_special(c->tokenizer, at + strlen(WORDS)) : -1;
    free(text);
    return id;
}
