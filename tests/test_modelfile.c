/* A chat template in Go's language: of twelve published Jinja templates those that can be said so
   are, as tests/golden/go_template.json has them; Go's own text/template renders each, and others,
   to the texts there (make_go_template.go), and so does retort's evaluator, which refuses what it
   does not know. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "quant/go_template.h"
#include "quant/modelfile.h"
#include "tests/suite.h"

#define GOLDEN RT_SOURCE_DIR "/tests/golden/"

static rt_err err;

static void copy(const char *from, const char *to)
{
    char *data;
    int64_t bytes;
    OK(rt_file_read(&data, &bytes, from, 1 << 24, &err));
    OK(rt_file_write(to, data, bytes, &err));
    free(data);
}

/* A model directory with the student's tokens and this template. */
static void open_chat(rt_chat *c, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, GOLDEN "templates/%s.jinja", name);
    OK(rt_dir_make("chat", &err));
    copy(GOLDEN "student/tokenizer.json", "chat/tokenizer.json");
    copy(path, "chat/chat_template.jinja");
    OK(rt_file_write("chat/tokenizer_config.json", "{\"eos_token\":\"<|end|>\"}", 23, &err));
    OK(rt_chat_open(c, "chat", &err));
}

static const struct {
    const char *name, *why; /* NULL: it is expressed */
} TEMPLATES[] = {
    { "chatml", NULL },       { "qwen25", NULL },
    { "qwen3", NULL },        { "deepseek-r1", NULL },
    { "deepseek-v31", NULL }, { "gemma", NULL },
    { "glm4", NULL },         { "kimi", NULL },
    { "phi", NULL },          { "mistral", "by more than" },
    { "llama31", "date" },    { "harmony", "date" },
};

static cJSON *golden;

static const cJSON *source_named(const char *name)
{
    const cJSON *s;
    cJSON_ArrayForEach(
        s, rt_json_find(golden, "sources")) if (!strcmp(rt_json_find(s, "name")->valuestring,
                                                        name)) return s;
    return NULL;
}

START_TEST(published)
{
    rt_chat c;
    rt_text go = { 0 };
    rt_err why;
    const cJSON *want = source_named(TEMPLATES[_i].name);
    open_chat(&c, TEMPLATES[_i].name);
    OK(rt_modelfile_template(&c, &go, &why, &err));
    if (TEMPLATES[_i].why) {
        HAS(why, TEMPLATES[_i].why);
        ck_assert(go.bytes == 0 && !want);
    } else {
        ck_assert_ptr_nonnull(want);
        ck_assert_str_eq(go.data, rt_json_find(want, "template")->valuestring);
    }
    rt_text_free(&go);
    rt_chat_close(&c);
}
END_TEST

/* Whether text is what https://docs.ollama.com/modelfile describes: comments, and instructions with
   the rest of the line, or what stands between two """. Its parts are counted. */
static void check_grammar(const char *text, int *from, int *template, int *stops)
{
    static const char *const PARAMETERS[] = { "num_ctx ",     "repeat_last_n ", "repeat_penalty ",
                                              "temperature ", "seed ",          "stop ",
                                              "num_predict ", "top_k ",         "top_p ",
                                              "min_p " };
    *from = *template = *stops = 0;
    while (*text) {
        const char *end = strchr(text, '\n');
        ck_assert_ptr_nonnull(end);
        if (!strncmp(text, "FROM ./", 7)) {
            ++*from;
        } else if (!strncmp(text, "TEMPLATE \"\"\"", 12)) {
            end = strstr(text + 12, "\"\"\"");
            ck_assert(end && end[3] == '\n');
            end += 3;
            ++*template;
        } else if (!strncmp(text, "PARAMETER ", 10)) {
            bool known = false;
            for (int i = 0; i < RT_COUNT(PARAMETERS); i++)
                known = known || !strncmp(text + 10, PARAMETERS[i], strlen(PARAMETERS[i]));
            ck_assert_msg(known, "%s", text);
            *stops += !strncmp(text + 10, "stop \"", 6) && end[-1] == '"';
        } else {
            ck_assert_msg(*text == '#', "%s", text);
        }
        text = end + 1;
    }
}

START_TEST(grammar)
{
    rt_chat c;
    rt_text file = { 0 };
    rt_err why;
    int from, template, stops;
    open_chat(&c, TEMPLATES[_i].name);
    static const char SAMPLING[] =
        "{\"temperature\": 0.6, \"top_k\": 20, \"repetition_penalty\": 1.05, \"do_sample\": true}";
    OK(rt_file_write("chat/generation_config.json", SAMPLING, (int64_t)strlen(SAMPLING), &err));
    OK(rt_modelfile_write(&file, &c, "chat", "a b.gguf", &why, &err));
    check_grammar(file.data, &from, &template, &stops);
    ck_assert(from == 1 && template == !TEMPLATES[_i].why && stops >= 1);
    ck_assert(strstr(file.data, "FROM ./a b.gguf\n") &&
              strstr(file.data, "PARAMETER temperature 0.6\n") &&
              strstr(file.data, "PARAMETER repeat_penalty 1.05\n"));
    rt_text_free(&file);
    rt_chat_close(&c);
}
END_TEST

/* Every source of the golden file on every talk of it. */
START_TEST(as_go_renders)
{
    const cJSON *s, *talk, *message;
    int compared = 0;
    cJSON_ArrayForEach(s, rt_json_find(golden, "sources"))
    {
        int at = 0;
        cJSON_ArrayForEach(talk, rt_json_find(golden, "talks"))
        {
            rt_turn turn[8];
            rt_text out = { 0 };
            int n = 0;
            cJSON_ArrayForEach(message, talk)
                turn[n++] = (rt_turn){ rt_json_find(message, "role")->valuestring,
                                       rt_json_find(message, "content")->valuestring };
            OK(rt_go_template_run(rt_json_find(s, "template")->valuestring, turn, n, &out, &err));
            ck_assert_str_eq(out.data ? out.data : "",
                             cJSON_GetArrayItem(rt_json_find(s, "texts"), at++)->valuestring);
            rt_text_free(&out);
            compared++;
        }
    }
    ck_assert_int_ge(compared, 12 * 5);
}
END_TEST

START_TEST(refused)
{
    static const char *const BAD[] = {
        "{{- .System }}",
        "{{ .System",
        "{{ if .System }}",
        "{{ end }}",
        "{{ else }}",
        "{{ range .Messages }}{{ end }}",
        "{{ .Prompt }}",
        "{{ printf \"x\" }}",
        "{{ $x }}",
        "{{ 5 }}",
        "{{ if eq .System 1 }}{{ end }}",
        "{{ slice .Messages 9 }}",
        "{{ \"a\\n\" }}",
        "{{ if }}{{ end }}",
        "{{ (eq 1 1 }}",
        "{{",
        "{{ if .System }}{{ else }}{{ else }}{{ end }}",
        "{{ range $i, $m := .Messages }}{{ range $j, $n := .Messages }}{{ end }}{{ end }}",
        "{{ range $i, $m := .Messages }}",
        "{{ if not .System }}{{ if .System",
        "{{ if .System }}{{ if x }}{{ .System }",
        "{{ ((((((((((((((((((((((((((((((((((((((((.System)"
    };
    const rt_turn turn = { "user", "x" };
    for (int i = 0; i < RT_COUNT(BAD); i++) {
        rt_text out = { 0 };
        rt_err why = { 0 };
        ck_assert_msg(rt_go_template_run(BAD[i], &turn, 1, &out, &why) && *why.text, "%s", BAD[i]);
        rt_text_free(&out);
    }
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { published, RT_COUNT(TEMPLATES) },
                                 { grammar, RT_COUNT(TEMPLATES) },
                                 { as_go_renders, 1 },
                                 { refused, 1 } };
    if (rt_json_load(&golden, GOLDEN "go_template.json", &err))
        return fprintf(stderr, "%s\n", err.text), 1;
    int rc = suite_run("modelfile", NULL, tests, RT_COUNT(tests));
    cJSON_Delete(golden);
    return rc;
}
