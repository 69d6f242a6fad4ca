#include "quant/modelfile.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "quant/go_template.h"

/* What a template puts around the parts of a conversation; each malloc'd. */
typedef struct around {
    char *head;      /* before the first user's turn when nobody is the system */
    char *system[2]; /* NULL: it has none */
    bool inside;     /* the system's words lie inside the first user's turn */
    char *user[2], *assistant[2];
    char *generate; /* the opening of an answer */
} around;

#define SYSTEM "Sy5temWords"
static const rt_turn PROBE[] = { { "system", SYSTEM },
                                 { "user", "U5erWords1" },
                                 { "assistant", "An5werWords1" },
                                 { "user", "U5erWords2" } };

static void around_free(around *a)
{
    char *all[] = { a->head,    a->system[0],    a->system[1],    a->user[0],
                    a->user[1], a->assistant[0], a->assistant[1], a->generate };
    for (int i = 0; i < RT_COUNT(all); i++)
        free(all[i]);
}

/* ---- what the template renders ---- */

/* text without the BOS that runtimes put there themselves. */
static void drop_bos(const rt_chat *c, char *text)
{
    int32_t bos = rt_tokenizer_bos(c->tokenizer);
    const char *mark = bos >= 0 ? rt_tokenizer_token(c->tokenizer, bos).data : NULL;
    if (mark && *mark && rt_tokenizer_adds_bos(c->tokenizer) && !strncmp(text, mark, strlen(mark)))
        memmove(text, text + strlen(mark), strlen(text + strlen(mark)) + 1);
}

static int render(const rt_chat *c, const rt_turn *turn, int n, bool generate, char **text,
                  rt_err *why)
{
    if (rt_conversation_render(c, turn, n, generate, text, why))
        return -1;
    drop_bos(c, *text);
    return 0;
}

/* The n + 1 pieces between the words of turn (n), each found once and in order; malloc'd. */
static int split(const char *text, const rt_turn *turn, int n, char **piece)
{
    for (int i = 0; i < n; i++) {
        const char *at = strstr(text, turn[i].content);
        if (!at || strstr(at + 1, turn[i].content)) {
            while (i-- > 0)
                free(piece[i]);
            return -1;
        }
        piece[i] = rt_strndup(text, at - text);
        text = at + strlen(turn[i].content);
    }
    piece[n] = rt_strdup(text);
    return 0;
}

static int pieces(const rt_chat *c, const rt_turn *turn, int n, bool generate, char **piece,
                  rt_err *why)
{
    char *text;
    if (render(c, turn, n, generate, &text, why))
        return -1;
    int bad = split(text, turn, n, piece);
    free(text);
    return bad ? rt_fail(why, "it does not write each turn's words once, as they are") : 0;
}

static void pieces_free(char **piece, int n)
{
    for (int i = 0; i < n; i++)
        free(piece[i]);
}

static bool begins(const char *text, const char *with)
{
    return !strncmp(text, with, strlen(with));
}

static bool ends(const char *text, const char *with)
{
    size_t n = strlen(text), m = strlen(with);
    return n >= m && !strcmp(text + n - m, with);
}

static int64_t common(const char *a, const char *b)
{
    int64_t n = 0;
    while (a[n] && a[n] == b[n])
        n++;
    return n;
}

/* user, assistant, generate, head: from [user, assistant, user], and what ends such turns when
   nobody is to answer. Where that says nothing, any cut does: users and assistants take turns. */
static int find_turns(const rt_chat *c, around *a, rt_err *why)
{
    char *chat[4] = { NULL }, *asked[2] = { NULL }, *answered[3] = { NULL };
    if (pieces(c, PROBE + 1, 3, true, chat, why))
        return -1;
    if (pieces(c, PROBE + 1, 1, false, asked, why)) {
        pieces_free(chat, 4);
        return -1;
    }
    int64_t n = begins(chat[1], asked[1]) && begins(chat[3], asked[1]) ? (int64_t)strlen(asked[1])
                                                                       : common(chat[1], chat[3]);
    a->user[1] = rt_strndup(chat[1], n);
    a->assistant[0] = rt_strdup(chat[1] + n);
    a->generate = rt_strdup(chat[3] + n);
    int bad = pieces(c, PROBE + 1, 2, false, answered, why);
    if (!bad) {
        n = begins(chat[2], answered[2]) ? (int64_t)strlen(answered[2]) : 0;
        while (
            !ends(chat[0], chat[2] + n)) /* what opens the first user's turn opens the second's */
            n++;
        a->assistant[1] = rt_strndup(chat[2], n);
        a->user[0] = rt_strdup(chat[2] + n);
        a->head = rt_strndup(chat[0], (int64_t)(strlen(chat[0]) - strlen(a->user[0])));
        pieces_free(answered, 3);
    }
    pieces_free(chat, 4);
    pieces_free(asked, 2);
    return bad;
}

/* A template without a system's turn refuses it, or leaves its words out. */
static void find_system(const rt_chat *c, around *a)
{
    char *piece[3] = { NULL };
    rt_err ignored;
    if (pieces(c, PROBE, 2, true, piece, &ignored))
        return;
    a->system[0] = rt_strdup(piece[0]);
    a->inside = !ends(piece[1], a->user[0]);
    a->system[1] = rt_strndup(piece[1],
                              (int64_t)(strlen(piece[1]) - (a->inside ? 0 : strlen(a->user[0]))));
    pieces_free(piece, 3);
}

/* ---- the same in Go's language ---- */

static int write_template(const around *a, rt_text *out, rt_err *err)
{
    int bad;
    if (a->system[0])
        bad = rt_text_printf(out, err, "{{ if .System }}%s{{ .System }}%s{{ else }}%s{{ end }}",
                             a->system[0], a->system[1], a->head);
    else
        bad = rt_text_puts(out, a->head, err);
    bad = bad || rt_text_puts(out,
                              "{{ range $i, $m := .Messages }}"
                              "{{ $last := eq (len (slice $.Messages $i)) 1 }}"
                              "{{ if eq .Role \"user\" }}",
                              err);
    if (a->system[0] && a->inside)
        bad = bad ||
              rt_text_printf(out, err, "{{ if and $.System (eq $i 1) }}{{ else }}%s{{ end }}",
                             a->user[0]);
    else
        bad = bad || rt_text_puts(out, a->user[0], err);
    return bad || rt_text_printf(out, err,
                                 "{{ .Content }}%s{{ if $last }}%s{{ end }}"
                                 "{{ else if eq .Role \"assistant\" }}%s{{ .Content }}"
                                 "{{ if not $last }}%s{{ end }}{{ end }}{{ end }}",
                                 a->user[1], a->generate, a->assistant[0], a->assistant[1]);
}

/* Text that Go's language or a Modelfile would take for its own. */
static bool has_marks(const around *a)
{
    const char *all[] = { a->head,    a->system[0],    a->system[1],    a->user[0],
                          a->user[1], a->assistant[0], a->assistant[1], a->generate };
    for (int i = 0; i < RT_COUNT(all); i++)
        if (all[i] && (strstr(all[i], "{{") || strstr(all[i], "\"\"\"") || strstr(all[i], "}}")))
            return true;
    return false;
}

static const rt_turn TALKS[][7] = {
    { { "user", "Hello" } },
    { { "system", "Be brief.\nAlways." }, { "user", "1 + 1 = ?" } },
    { { "user", "a {{ b }} \"c\"\n\nd" },
      { "assistant", "<b>&amp;\n- x\n- y</b>" },
      { "user", "\xc3\xa9\xe4\xb8\xad" } },
    { { "system", "You are S." },
      { "user", "q1" },
      { "assistant", "a1" },
      { "user", "q2" },
      { "assistant", "a2\n\na2" },
      { "user", "q3?" } },
};

/* Both templates on one conversation. */
static int same_text(const rt_chat *c, const char *go, const rt_turn *turn, int n, rt_err *why)
{
    char *want = NULL;
    rt_text got = { 0 };
    int bad = render(c, turn, n, true, &want, why) || rt_go_template_run(go, turn, n, &got, why);
    if (!bad && strcmp(want, got.data ? got.data : ""))
        bad = rt_fail(why, "it treats a turn by more than its role, words and place (%d turns)", n);
    free(want);
    rt_text_free(&got);
    return bad;
}

static int verify(const rt_chat *c, const char *go, bool with_system, rt_err *why)
{
    for (int k = 0; k < RT_COUNT(TALKS); k++) {
        int n = 0;
        while (n < RT_COUNT(TALKS[k]) && TALKS[k][n].role)
            n++;
        if (!with_system && !strcmp(TALKS[k][0].role, "system"))
            continue;
        if (same_text(c, go, TALKS[k], n, why))
            return -1;
    }
    return 0;
}

/* A day later a template that asks for the date would write another one. */
static bool tells_time(const rt_chat *c)
{
    const char *source = rt_tokenizer_chat_template(c->tokenizer);
    return source && strstr(source, "strftime_now");
}

int rt_modelfile_template(const rt_chat *c, rt_text *out, rt_err *why, rt_err *err)
{
    around a = { 0 };
    rt_text go = { 0 };
    int bad = 0;
    *why = (rt_err){ 0 };
    if (!c->chat)
        return rt_fail(why, rt_tokenizer_chat_template(c->tokenizer)
                                ? "retort cannot read the chat template"
                                : "the model has no chat template"), 0;
    if (tells_time(c))
        return rt_fail(why, "it writes the day's date"), 0;
    int lacks = find_turns(c, &a, why);
    if (!lacks) {
        find_system(c, &a);
        lacks = has_marks(&a)
                    ? rt_fail(
                          why,
                          "it writes {{, }} or \"\"\", which a Modelfile would take for its own")
                    : 0;
    }
    if (!lacks) {
        bad = write_template(&a, &go, err);
        lacks = bad ? 0 : verify(c, go.data, a.system[0] != NULL, why);
    }
    if (!bad && !lacks)
        bad = rt_text_add(out, go.data, go.bytes, err);
    rt_text_free(&go);
    around_free(&a);
    return bad ? -1 : 0;
}

/* ---- the file ---- */

/* Go's templates have no trim. */
static bool trims(const rt_chat *c)
{
    static const rt_turn PADDED = { "user", "  x \n" };
    char *text = NULL;
    rt_err ignored;
    bool is = !render(c, &PADDED, 1, true, &text, &ignored) && !strstr(text, PADDED.content);
    free(text);
    return is;
}

static int put_stop(rt_text *out, const rt_chat *c, int32_t id, rt_err *err)
{
    const char *text = id < 0 ? NULL : rt_tokenizer_token(c->tokenizer, id).data;
    if (!text || !*text || strpbrk(text, "\"\\\r\n"))
        return 0;
    return rt_text_printf(out, err, "PARAMETER stop \"%s\"\n", text);
}

static int put_sampling(rt_text *out, const char *dir, rt_err *err)
{
    static const struct {
        const char *theirs, *ollama;
    } KEYS[] = { { "temperature", "temperature" },
                 { "top_p", "top_p" },
                 { "top_k", "top_k" },
                 { "min_p", "min_p" },
                 { "repetition_penalty", "repeat_penalty" } };
    char *path = rt_path_join(dir, "generation_config.json");
    cJSON *json = NULL;
    int bad = rt_path_exists(path) && rt_json_load(&json, path, err);
    for (int i = 0; i < RT_COUNT(KEYS) && !bad; i++) {
        const cJSON *v = rt_json_find(json, KEYS[i].theirs);
        if (cJSON_IsNumber(v))
            bad = rt_text_printf(out, err, "PARAMETER %s %.6g\n", KEYS[i].ollama, v->valuedouble);
    }
    cJSON_Delete(json);
    free(path);
    return bad;
}

int rt_modelfile_write(rt_text *out, const rt_chat *c, const char *dir, const char *gguf,
                       rt_err *why, rt_err *err)
{
    rt_text go = { 0 };
    int32_t end = rt_conversation_end(c), eos = rt_tokenizer_eos(c->tokenizer);
    int bad = rt_modelfile_template(c, &go, why, err) ||
              rt_text_printf(
                  out, err,
                  "# Modelfile written by retort %s: ollama create NAME -f THIS\nFROM ./%s\n",
                  RT_VERSION, gguf);
    if (!bad && go.bytes && trims(c))
        bad = rt_text_puts(out,
                           "# the model's own template takes white space off both ends of a "
                           "message, this one does "
                           "not\n",
                           err);
    if (!bad && go.bytes)
        bad = rt_text_printf(out, err, "TEMPLATE \"\"\"%s\"\"\"\n", go.data);
    else if (!bad)
        bad = rt_text_printf(
            out, err, "# no TEMPLATE: %s. Ollama falls back to what it knows of the model's own.\n",
            why->text);
    bad = bad || put_stop(out, c, end, err) || (eos != end && put_stop(out, c, eos, err)) ||
          put_sampling(out, dir, err);
    rt_text_free(&go);
    return bad ? -1 : 0;
}
