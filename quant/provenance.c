#include "quant/provenance.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/formats/gguf.h"

enum { CARD_MAX = 1 << 26 };

/* A plain value of YAML, without quotes; only what a name or an identifier is written with. */
static void take_value(char *out, size_t size, const char *value, size_t n)
{
    while (n && strchr(" '\"\t\r", value[n - 1]))
        n--;
    while (n && strchr(" '\"\t", *value))
        value++, n--;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)value[i]) && !strchr("/._-+", value[i]))
            return;
    if (n > 0 && n < size)
        snprintf(out, size, "%.*s", (int)n, value);
}

/* "key: value", or "key:" and a list, whose first item counts. */
static void take_key(char *out, size_t size, const char *matter, const char *key)
{
    size_t k = strlen(key);
    for (const char *line = matter; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, k) || line[k] != ':')
            continue;
        const char *value = line + k + 1;
        value += strspn(value, " ");
        if (*value == '\n' && value[1 + strspn(value + 1, " ")] == '-')
            value += 2 + strspn(value + 1, " ");
        take_value(out, size, value, strcspn(value, "\n"));
        return;
    }
}

static int read_card(rt_provenance *p, const char *dir, rt_err *err)
{
    char *path = rt_path_join(dir, "README.md"), *text = NULL, *end;
    int64_t bytes;
    int bad = rt_path_exists(path) ? rt_file_read(&text, &bytes, path, CARD_MAX, err) : 0;
    if (text && !bad && !strncmp(text, "---\n", 4) && (end = strstr(text + 3, "\n---"))) {
        *end = 0;
        take_key(p->licence, sizeof p->licence, text, "license");
        take_key(p->base, sizeof p->base, text, "base_model");
    }
    free(text);
    free(path);
    return bad;
}

static void take_string(char *out, size_t size, const rt_gguf *g, const char *key)
{
    rt_gguf_str s = { "", 0 };
    rt_err ignored;
    if (!rt_gguf_opt_str(g, key, &s, &ignored) && s.bytes > 0)
        take_value(out, size, s.text, (size_t)s.bytes);
}

static int read_gguf(rt_provenance *p, const char *path, rt_err *err)
{
    static const char HUB[] = "https://huggingface.co/";
    rt_gguf g;
    rt_err ignored;
    rt_gguf_str url = { "", 0 };
    if (rt_gguf_open(&g, path, err))
        return -1;
    take_string(p->licence, sizeof p->licence, &g, "general.license");
    if (!rt_gguf_opt_str(&g, "general.base_model.0.repo_url", &url, &ignored) &&
        url.bytes > (int64_t)strlen(HUB) && !strncmp(url.text, HUB, strlen(HUB)))
        take_value(p->base, sizeof p->base, url.text + strlen(HUB),
                   (size_t)url.bytes - strlen(HUB));
    if (!*p->base)
        take_string(p->base, sizeof p->base, &g, "general.base_model.0.name");
    rt_gguf_close(&g);
    return 0;
}

int rt_provenance_read(rt_provenance *p, const char *path, rt_err *err)
{
    *p = (rt_provenance){ "", "" };
    if (!rt_path_exists(path))
        return 0;
    return rt_gguf_is(path) ? read_gguf(p, path, err) : read_card(p, path, err);
}
