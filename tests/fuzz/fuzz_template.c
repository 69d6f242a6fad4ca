/* fuzz_template.c: a chat template: parsed, then rendered for a conversation with tools and for a
   bare one, with small limits that must hold. The mutator cuts, copies and exchanges tokens. */
#include "fuzz.h"

#include "corpora/template/template.h"

static const char *const contexts[] = {
    "{\"messages\":[{\"role\":\"system\",\"content\":\"be brief\"},{\"role\":\"user\",\"content\":"
    "\"2 <b> & 3?\"},{\"role\":\"assistant\",\"content\":\"five\",\"reasoning_content\":\"so\\n5\","
    "\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\","
    "\"arguments\":{\"x\":[1,2.5,null,true]}}}]},{\"role\":\"tool\",\"content\":\"7\"}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":"
    "\"object\"}}}],\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"add_generation_prompt\":true,"
    "\"strftime_now\":\"2026-11-26T08:30:00\"}",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"\\u00e9\"}],\"bos_token\":\"\","
    "\"strftime_now\":\"2026-11-26\"}",
};

int fuzz_one(const uint8_t *data, size_t size)
{
    static cJSON *context[RT_COUNT(contexts)];
    const rt_template_limits limits = {
        .steps = 20000, .depth = 12, .output_bytes = 64 << 10, .memory_bytes = 4 << 20
    };
    rt_template *t;
    rt_err err;
    if (rt_template_parse(&t, (const char *)data, (int64_t)size, &err))
        return 0;
    for (int i = 0; i < RT_COUNT(contexts); i++) {
        rt_template_result r;
        if (!context[i])
            FUZZ_CHECK(rt_json_parse(&context[i], contexts[i], (int64_t)strlen(contexts[i]),
                                     "context", &err) == 0);
        int rc = rt_template_render_limited(t, context[i], &limits, &r, &err);
        if (rc == 0)
            FUZZ_CHECK(r.bytes <= limits.output_bytes && r.text[r.bytes] == 0);
        free(r.text);
    }
    rt_template_free(t);
    return 0;
}

// ---- mutator ----

static const char TOKENS[] =
    "{{ \n }}\n{% \n %}\n{%- \n -%}\n{# \n #}\n{% for m in messages %}\n{% endfor %}\n"
    "{% for k, v in m.items() %}\n{% if \n{% elif x %}\n{% else %}\n{% endif %}\n"
    "{% set x = \n{% set x %}\n{% endset %}\n{% set ns = namespace(a=1) %}\n"
    "{% set ns.a = \n{% macro f(a, b=2) %}\n{% endmacro %}\n{{ f(\n{% call f(1) %}\n"
    "{% endcall %}\n{{ caller() }}\n{% generation %}\n{% endgeneration %}\n{% raw %}\n"
    "{% endraw %}\n{% break %}\n{% continue %}\nmessages\nm\nx\ntools\nloop.index0\n"
    "loop.previtem\nloop.changed(x)\nloop.cycle('a', 1)\n.content\n['role']\n[0]\n[::-1]\n"
    "[1:-1]\n['__class__']\n.split('\\n')\n.strip()\n.replace('a', 'bb')\n.format(1, x=2)\n"
    ".items()\n.join(x)\n.startswith('a')\n.upper()\n|tojson(indent=2)\n|length\n"
    "|join(', ')\n|map(attribute='role')\n|selectattr('role', 'equalto', 'user')\n|list\n"
    "|sort\n|unique\n|groupby('role')\n|dictsort\n|batch(2)\n|slice(2)\n|trim\n"
    "|replace('a', 'b')\n|default('d', true)\n|int\n|float\n|round(2)\n|indent(2)\n"
    "|wordwrap(3)\n|center(9)\n|escape\n|safe\n|string\n|first\n|last\n|reverse\n|sum\n"
    "|min\n|abs\n|filesizeformat\n|urlencode\n|xmlattr\n is defined\n is string\n"
    " is mapping\n is divisibleby 2\n is sameas none\n not in \n in \n and \n or \nnot \n"
    " if x else \n ~ \n + \n * \n ** \n // \n % \n-\n == \n < \n(\n)\n[\n]\n{'a': 1}\n, \n"
    "=\n'%s %5.2f' % (x, 2)\n'{:>5}{0!r}'\n\"\\u00e9\"\nrange(9)\nrange(1, 99999999)\n"
    "9223372036854775807\n1.5e300\nnone\ntrue\ndict(a=x)\ncycler(1, 2).next()\n"
    "joiner(',')()\nlipsum()\nstrftime_now('%Y-%m-%d')\nraise_exception('no')";

// 2 for what words and numbers are made of, 1 for white space.
static int class_of(uint8_t c)
{
    bool letter = (uint8_t)((c | 32) - 'a') < 26, digit = (uint8_t)(c - '0') < 10;
    return letter || digit || c == '_' ? 2 : c == ' ' || c == '\n' || c == '\t';
}

// Do two bytes belong to one token: a word, a number, white space or a delimiter?
static bool joined(uint8_t a, uint8_t b)
{
    bool opens = a == '{' && (b == '{' || b == '%' || b == '#');
    bool closes = b == '}' && (a == '}' || a == '%' || a == '#');
    return class_of(a) ? class_of(a) == class_of(b) : opens || closes;
}

// A run of tokens somewhere in s: [*from, *to).
static void pick_run(const uint8_t *s, size_t n, fuzz_dice *d, size_t *from, size_t *to)
{
    *from = *to = fuzz_roll(d, n + 1);
    while (*from > 0 && *from < n && joined(s[*from - 1], s[*from]))
        --*from;
    for (uint32_t run = fuzz_roll(d, 3) ? 1 : 1 + fuzz_roll(d, 12); run > 0 && *to < n; run--)
        do
            ++*to;
        while (*to < n && joined(s[*to - 1], s[*to]));
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    fuzz_dice d = { seed };
    if (fuzz_roll(&d, 4) == 0)
        return LLVMFuzzerMutate(data, size, max);
    size_t from, to, other, end;
    rt_text text = { 0 };
    const char *word = fuzz_word(&d, TOKENS);
    pick_run(data, size, &d, &from, &to);
    pick_run(data, size, &d, &other, &end);
    int what = (int)fuzz_roll(&d,
                              5); // insert a word, replace by one, copy a run, replace by it, cut
    fuzz_add(&text, data, from);
    if (what < 2)
        fuzz_add(&text, word, strlen(word));
    else if (what < 4)
        fuzz_add(&text, data + other, end - other);
    size_t on = what == 0 || what == 2 ? from : to;
    fuzz_add(&text, data + on, size - on);
    return fuzz_result(&text, data, size, max);
}
