/* test_template.c: chat templates against jinja2's own renders (tests/golden/make_templates.py),
   and hostile templates, which must end in an error within a second and 64 MiB. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "corpora/template/template.h"
#include "tests/suite.h"

#define GOLDEN RT_SOURCE_DIR "/tests/golden/"
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INSTRUMENTED 1
#else
#define INSTRUMENTED 0
#endif

static cJSON *load(const char *path)
{
    cJSON *json;
    rt_err err = { 0 };
    ck_assert_msg(!rt_json_load(&json, path, &err), "%s", err.text);
    return json;
}

/* 0 and the result, or -1 and err, for a template in source. */
static int render(const char *source, int64_t bytes, const cJSON *context,
                  const rt_template_limits *limits, rt_template_result *out, rt_err *err)
{
    rt_template *t;
    *out = (rt_template_result){ 0 };
    if (rt_template_parse(&t, source, bytes, err))
        return -1;
    int rc = rt_template_render_limited(t, context, limits, out, err);
    rt_template_free(t);
    return rc;
}

/* Compare one render with the golden text; null stands for any error. */
static int differs(const char *name, const char *source, const cJSON *context, const cJSON *want)
{
    rt_template_limits limits = rt_template_limits_default();
    rt_template_result got;
    rt_err err = { 0 };
    int rc = render(source, (int64_t)strlen(source), context, &limits, &got, &err), bad;
    const cJSON *text = rt_json_find(want, "text");
    if (!cJSON_IsString(text)) {
        bad = rc == 0;
        if (bad)
            printf("%s: renders, an error is expected: %s\n", name, got.text);
        else
            ck_assert_msg(strstr(err.text, "line ") != NULL, "%s: no line: %s", name, err.text);
    } else {
        bad = rc || strcmp(got.text, text->valuestring);
        if (bad)
            printf("%s\n--- expected\n%s\n--- got\n%s\n", name, text->valuestring,
                   rc ? err.text : got.text);
    }
    free(got.text);
    return bad;
}

/* tokens + settings + messages */
static cJSON *family_context(const cJSON *golden, const cJSON *row)
{
    cJSON *context = cJSON_Duplicate(rt_json_find(golden, "tokens"), true);
    const cJSON *name = rt_json_find(row, "setting"), *item;
    cJSON_ArrayForEach(item, rt_json_find(rt_json_find(golden, "settings"), name->valuestring))
    {
        rt_json_put(context, item->string, cJSON_Duplicate(item, true));
    }
    name = rt_json_find(row, "chat");
    item = rt_json_find(rt_json_find(golden, "chats"), name->valuestring);
    rt_json_put(context, "messages", cJSON_Duplicate(item, true));
    return context;
}

START_TEST(families)
{
    cJSON *golden = load(GOLDEN "templates.json"), *row;
    int n = 0, bad = 0;
    rt_err err = { 0 };
    cJSON_ArrayForEach(row, rt_json_find(golden, "family"))
    {
        char path[600], name[200], *source;
        int64_t bytes;
        const char *file = rt_json_find(row, "template")->valuestring;
        snprintf(path, sizeof path, GOLDEN "templates/%s", file);
        snprintf(name, sizeof name, "%s, %s, %s", file, rt_json_find(row, "chat")->valuestring,
                 rt_json_find(row, "setting")->valuestring);
        ck_assert_msg(!rt_file_read(&source, &bytes, path, 1 << 20, &err), "%s", err.text);
        cJSON *context = family_context(golden, row);
        bad += differs(name, source, context, row);
        n++;
        cJSON_Delete(context);
        free(source);
    }
    cJSON_Delete(golden);
    ck_assert_int_ge(n, 200);
    ck_assert_msg(bad == 0, "%d of %d renders differ from jinja2", bad, n);
}
END_TEST

START_TEST(expressions)
{
    cJSON *golden = load(GOLDEN "templates.json"), *row;
    const cJSON *context = rt_json_find(golden, "case_context");
    int n = 0, bad = 0;
    cJSON_ArrayForEach(row, rt_json_find(golden, "cases"))
    {
        const char *source = rt_json_find(row, "source")->valuestring;
        bad += differs(source, source, context, row);
        n++;
    }
    ck_assert_int_ge(n, 750);
    ck_assert_msg(bad == 0, "%d of %d cases differ from jinja2", bad, n);
    cJSON_ArrayForEach(row, rt_json_find(golden, "refused"))
    {
        ck_assert_msg(!differs(row->valuestring, row->valuestring, context, row),
                      "%s is not refused", row->valuestring);
    }
    cJSON_Delete(golden);
}
END_TEST

/* Every limit stops a render at every height without a leak or a crash, and says so. */
START_TEST(every_limit)
{
    cJSON *golden = load(GOLDEN "templates.json"), *row;
    rt_template_limits limits = rt_template_limits_default();
    rt_template_result whole, part;
    rt_err err = { 0 };
    int failed = 0, n = 0;
    cJSON_ArrayForEach(row, rt_json_find(golden, "family"))
    {
        char path[600], *source;
        int64_t bytes;
        if (strcmp(rt_json_find(row, "setting")->valuestring, "effort"))
            continue;
        snprintf(path, sizeof path, GOLDEN "templates/%s",
                 rt_json_find(row, "template")->valuestring);
        ck_assert_msg(!rt_file_read(&source, &bytes, path, 1 << 20, &err), "%s", err.text);
        cJSON *context = family_context(golden, row);
        if (!render(source, bytes, context, &limits, &whole, &err))
            for (int i = 1; i < 24; i++) {
                rt_template_limits less = limits;
                int64_t *which[] = { &less.steps, &less.memory_bytes, &less.output_bytes };
                int64_t full[] = { whole.steps, whole.memory_bytes, whole.bytes };
                *which[i % 3] = full[i % 3] * i / 24;
                int rc = render(source, bytes, context, &less, &part, &err);
                ck_assert(rc == 0 || strstr(err.text, "more than") != NULL);
                ck_assert(rc == 0 ? !strcmp(part.text, whole.text) : !part.text);
                failed += rc != 0;
                n++;
                free(part.text);
            }
        free(whole.text);
        cJSON_Delete(context);
        free(source);
    }
    cJSON_Delete(golden);
    ck_assert_int_ge(n, 500);
    ck_assert_int_ge(failed, n / 2);
}
END_TEST

static const struct {
    const char *name, *source;
} HOSTILE[] = {
    { "nested loops", "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}"
                      "{% endfor %}" },
    { "recursion", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}" },
    { "two macros", "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}"
                    "{{ f() }}" },
    { "callers",
      "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}" },
    { "branching", "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}"
                   "{{ f(60) }}" },
    { "string bomb", "{{ 'a' * 1000000000 }}" },
    { "overflowing bomb", "{{ ('abc' * 1000000) * 9223372036854775807 }}" },
    { "list bomb", "{{ ([0] * 100000) * 100000 }}" },
    { "doubling", "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(99) %}"
                  "{% set n.s = n.s + n.s %}{% endfor %}" },
    { "doubling lists", "{% set n = namespace(s=[1]) %}{% for i in range(99) %}"
                        "{% set n.s = n.s + n.s %}{% endfor %}" },
    { "growing text", "{% set n = namespace(s='') %}{% for i in range(100000) %}"
                      "{% set n.s = n.s ~ i ~ n.s[:1000] %}{{ n.s }}{% endfor %}" },
    { "output", "{% set s = 'x' * 100000 %}{% for i in range(100000) %}{{ s }}{% endfor %}" },
    { "deep value", "{% set n = namespace(l=[]) %}{% for i in range(5000) %}{% set n.l = [n.l] %}"
                    "{% endfor %}{{ n.l }}" },
    { "deep json", "{% set n = namespace(l=[]) %}{% for i in range(5000) %}{% set n.l = [n.l] %}"
                   "{% endfor %}{{ n.l|tojson }}" },
    { "deep equality", "{% set n = namespace(l=[], m=[]) %}{% for i in range(5000) %}"
                       "{% set n.l = [n.l] %}{% set n.m = [n.m] %}{% endfor %}{{ n.l == n.m }}" },
    { "a value in itself", "{% set n = namespace() %}{% set n.n = [n, n] %}{{ n }}" },
    { "range", "{{ range(1000000000) }}" },
    { "wide range", "{{ range(-9223372036854775807, 9223372036854775807)|list }}" },
    { "replace bomb", "{{ ('a' * 100000)|replace('a', 'b' * 100000) }}" },
    { "replace nothing", "{{ ('a' * 100000)|replace('', 'b' * 100000) }}" },
    { "join bomb", "{{ range(100000)|join('b' * 100000) }}" },
    { "split bomb",
      "{% set s = ',' * 1000000 %}{% for i in range(1000) %}{% set x = s.split(',') %}"
      "{% endfor %}" },
    { "characters", "{% for i in range(1000) %}{% set x = ('a' * 1000000)|list %}{% endfor %}" },
    { "searching", "{% set s = 'a' * 1000000 %}{% set t = 'a' * 500 ~ 'b' ~ 'a' * 500 %}"
                   "{% for i in range(100000) %}{{ t in s }}{% endfor %}" },
    { "searching back", "{% set s = 'a' * 1000000 %}{% set t = 'a' * 5000 ~ 'b' %}"
                        "{% for i in range(100000) %}{{ s.rfind(t) }}{% endfor %}" },
    { "counting", "{% set s = 'é' * 1000000 %}{% for i in range(100000) %}{{ s|length }}"
                  "{% endfor %}" },
    { "indexing",
      "{% set s = 'é' * 1000000 %}{% for i in range(100000) %}{{ s[-1] }}{% endfor %}" },
    { "slicing", "{% set s = 'é' * 1000000 %}{% for i in range(100000) %}{{ s[1:-1]|length }}"
                 "{% endfor %}" },
    { "stripping", "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{{ s.strip('bcda') }}"
                   "{% endfor %}" },
    { "lower", "{% set s = 'Σ' * 100000 %}{% for i in range(10000) %}{% set x = s|lower %}"
               "{% endfor %}" },
    { "comparing", "{% set s = 'a' * 4000000 %}{% set t = s ~ '' %}{% set u = 'a' * 4000000 %}"
                   "{% for i in range(100000) %}{{ t == u }}{% endfor %}" },
    { "sorting", "{% set s = 'a' * 3000 %}{% set n = namespace(l=[]) %}{% for i in range(5000) %}"
                 "{% set n.l = n.l + [s ~ i] %}{% endfor %}{{ n.l|sort|length }}" },
    { "unique", "{{ range(100000)|unique|list|length }}" },
    { "keys",
      "{% set n = namespace(l=[]) %}{% for i in range(100000) %}{% set n.l = n.l + [(i, i)] %}"
      "{% endfor %}{{ dict(n.l)|length }}" },
    { "equal dicts", "{% set n = namespace(l=[]) %}{% for i in range(3000) %}"
                     "{% set n.l = n.l + [(i, i)] %}{% endfor %}{% set a = dict(n.l) %}"
                     "{% set b = dict(n.l) %}{% for i in range(1000) %}{{ a == b }}{% endfor %}" },
    { "indent", "{{ 'a\nb'|indent(1000000000) }}" },
    { "wide json", "{{ [[1]]|tojson(indent=1000000000) }}" },
    { "power", "{{ 9 ** 9 ** 9 }}" },
    { "iterators of iterators", "{% set n = namespace(l=[1]) %}{% for i in range(2000) %}"
                                "{% set n.l = [n.l|map('list')] %}{% endfor %}{{ n.l|tojson }}" },
    { "strftime", "{{ strftime_now('%999999999Y') }}" },
    { "class", "{{ ''.__class__.__mro__[1].__subclasses__() }}" },
    { "class by item", "{{ []['__class__']['__base__'] }}" },
    { "globals", "{{ raise_exception.__globals__['os'].system('id') }}" },
    { "init", "{{ namespace.__init__.__globals__ }}" },
    { "loop class", "{% for i in [1] %}{{ loop.__class__.__init__ }}{% endfor %}" },
    { "macro code", "{% macro f() %}{% endmacro %}{{ f.__code__.co_code }}" },
    { "attribute filter", "{{ ''|attr('__class__') }}" },
    { "map to attribute", "{{ ['']|map(attribute='__class__.__mro__')|list }}" },
    { "change a list", "{% set l = [1] %}{{ l.append(2) }}" },
    { "change a dict", "{{ {'a': 1}.update({'b': 2}) }}" },
    { "change by item", "{{ [1]['append'](2) }}" },
    { "underscore", "{% set n = namespace() %}{% set n.__class__ = 1 %}" },
    { "include", "{% include '/etc/passwd' %}" },
    { "import", "{% import 'os' as os %}" },
};

/* Parts repeated until the source is long: hostile to the parser, or to a walk of its tree. */
static const struct {
    const char *name, *before, *part, *after;
} LONG[] = {
    { "parentheses", "{{ ", "(", " }}" },
    { "brackets", "{{ ", "[", " }}" },
    { "braces", "{{ ", "{1:", " }}" },
    { "minus", "{{ ", "-", "1 }}" },
    { "not", "{{ ", "not ", "1 }}" },
    { "sums", "{{ 1", "+1", " }}" },
    { "dots", "{{ a", ".b", " }}" },
    { "calls", "{{ a", "()", " }}" },
    { "filters", "{{ 1", "|string", " }}" },
    { "tests", "{{ 1", " is string", " }}" },
    { "conditions", "{{ 1", " if 1 else 2", " }}" },
    { "ifs", "", "{% if 1 %}", "" },
    { "fors", "", "{% for a in [1] %}", "" },
    { "macros", "", "{% macro m() %}", "" },
    { "sets", "", "{% set a %}", "" },
    { "open strings", "{{ ", "'\\", "" },
    { "open comments", "", "{#", "" },
    { "open tags", "", "{%", "" },
    { "raw", "", "{% raw %}{% endra", "" },
    { "targets", "{% set ", "(", " = 1 %}" },
    { "signs", "{{-", "-", "-}}" },
    { "zeros", "{{ 1", "0", " }}" },
    { "spaces", "{{", " ", "" },
    { "escapes", "{{ '", "\\x", "' }}" },
};

typedef struct cost {
    double seconds;
    int64_t rss;
} cost;

/* Of the processor, so that a busy machine fails nobody. */
static double cpu_seconds(const struct rusage *u)
{
    return (double)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) +
           1e-6 * (double)(u->ru_utime.tv_usec + u->ru_stime.tv_usec);
}

/* In a child: what a render takes. It must fail with one clear line. */
static cost suffer(const char *name, const char *source, int64_t bytes)
{
    int fd[2];
    cost c = { 0, 0 };
    ck_assert(!pipe(fd));
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct rusage before, after;
        rt_template_limits limits = rt_template_limits_default();
        rt_template_result result;
        rt_err err = { 0 };
        cJSON *context = rt_json_object();
        getrusage(RUSAGE_SELF, &before);
        int rc = render(source, bytes, context, &limits, &result, &err);
        getrusage(RUSAGE_SELF, &after);
        c.seconds = cpu_seconds(&after) - cpu_seconds(&before);
        c.rss = (after.ru_maxrss - before.ru_maxrss) * 1024;
        bool clear = rc == -1 && strstr(err.text, "line ") && !strchr(err.text, '\n') &&
                     result.memory_bytes <= limits.memory_bytes;
        if (!clear)
            printf("%s: %s\n", name, rc ? err.text : "no error");
        fflush(stdout);
        ck_assert(write(fd[1], &c, sizeof c) == sizeof c);
        _exit(clear ? 0 : 1);
    }
    int status = 0;
    close(fd[1]);
    ck_assert_msg(read(fd[0], &c, sizeof c) == sizeof c, "%s: died", name);
    close(fd[0]);
    waitpid(pid, &status, 0);
    ck_assert_msg(status == 0, "%s: no clear error", name);
    ck_assert_msg(c.seconds < (INSTRUMENTED ? 20 : 1), "%s: %.2f s", name, c.seconds);
    ck_assert_msg(INSTRUMENTED || c.rss <= 64 << 20, "%s: %lld bytes", name, (long long)c.rss);
    if (getenv("SHOW"))
        printf("%-24s %.3f s %6.1f MiB\n", name, c.seconds, (double)c.rss / (1 << 20));
    return c;
}

START_TEST(hostile)
{
    cost worst = { 0, 0 };
    const char *slow = "", *large = "";
    char *text = malloc(RT_TEMPLATE_SOURCE_MAX + 64);
    for (int i = 0; i < RT_COUNT(HOSTILE) + RT_COUNT(LONG); i++) {
        const char *name, *source = text;
        int64_t n = 0;
        if (i < RT_COUNT(HOSTILE)) {
            name = HOSTILE[i].name;
            source = HOSTILE[i].source;
            n = (int64_t)strlen(source);
        } else {
            int k = i - RT_COUNT(HOSTILE);
            name = LONG[k].name;
            n = sprintf(text, "%s", LONG[k].before);
            while (n < RT_TEMPLATE_SOURCE_MAX - 64)
                n += sprintf(text + n, "%s", LONG[k].part);
            n += sprintf(text + n, "%s", LONG[k].after);
        }
        cost c = suffer(name, source, n);
        slow = c.seconds > worst.seconds ? name : slow;
        large = c.rss > worst.rss ? name : large;
        worst.seconds = c.seconds > worst.seconds ? c.seconds : worst.seconds;
        worst.rss = c.rss > worst.rss ? c.rss : worst.rss;
    }
    memset(text, ' ', RT_TEMPLATE_SOURCE_MAX + 1);
    rt_template *t;
    rt_err err = { 0 };
    ck_assert_int_eq(rt_template_parse(&t, text, RT_TEMPLATE_SOURCE_MAX + 1, &err), -1);
    ck_assert_int_eq(rt_template_parse(&t, "a\xFF", 2, &err), -1);
    free(text);
    printf("worst of %d hostile templates: %.2f s (%s), %.1f MiB (%s)\n",
           RT_COUNT(HOSTILE) + RT_COUNT(LONG), worst.seconds, slow, (double)worst.rss / (1 << 20),
           large);
}
END_TEST

START_TEST(places)
{
    char *source;
    int64_t bytes;
    cJSON *context, *list;
    rt_err err = { 0 };
    const char *config = "{\"bos_token\": {\"content\": \"<s>\"}, \"eos_token\": \"</s>\", "
                         "\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"no\"}, "
                         "{\"name\": \"default\", \"template\": \"{{ bos_token }}\"}]}";
    static const char path[] = "tokenizer_config.json";
    char *text;
    OK(rt_file_write(path, config, (int64_t)strlen(config), &err));
    OK(rt_template_find(&source, &bytes, ".", &err));
    ck_assert(bytes == 15 && !strcmp(source, "{{ bos_token }}"));
    ck_assert(!rt_template_context(&context, ".", &err));
    text = rt_json_text(context);
    ck_assert_str_eq(text, "{\"tools\":null,\"documents\":null,\"bos_token\":\"<s>\","
                           "\"eos_token\":\"</s>\"}");
    free(text);
    free(source);
    cJSON_Delete(context);
    unlink(path);
    ck_assert(!rt_template_find(&source, &bytes, ".", &err) && !source);
    ck_assert(!rt_template_context(&context, ".", &err) && !rt_json_find(context, "bos_token"));
    cJSON_Delete(context);
    const char *before =
        "[{\"role\":\"a\",\"reasoning\":\"r\"},{\"thinking\":null,\"reasoning\":1},"
        "{\"b\":1,\"reasoning_content\":\"c\"}]";
    const char *after =
        "[{\"thinking\":\"r\",\"role\":\"a\",\"reasoning\":\"r\",\"reasoning_content\":\"r\"},"
        "{\"thinking\":null,\"reasoning\":1,\"reasoning_content\":1},"
        "{\"thinking\":\"c\",\"b\":1,\"reasoning_content\":\"c\"}]";
    ck_assert(!rt_json_parse(&list, before, (int64_t)strlen(before), "list", &err));
    rt_template_alias_reasoning(list);
    text = rt_json_text(list);
    ck_assert_str_eq(text, after);
    free(text);
    cJSON_Delete(list);
}
END_TEST

int main(void)
{
    const suite_test tests[] = {
        { families, 1 }, { expressions, 1 }, { every_limit, 1 }, { hostile, 1 }, { places, 1 }
    };
    return suite_run("template", NULL, tests, RT_COUNT(tests));
}
