#include "corpora/turns.h"

#include <stdlib.h>
#include <string.h>

enum { CUTS = 8, AROUND = 256 }; /* bytes around a turn's words in which its marks are looked for */

/* Begins of the generation prompt, the longest first: all of it, then up to each of its tokens that
   a template writes as a mark ("<|Assistant|>" of "<|Assistant|><think>\n"). */
typedef struct header {
    rt_text text;
    int64_t cut[CUTS];
    int n;
} header;

static bool is_mark(const rt_tokenizer *t, int32_t id)
{
    rt_token_type type = rt_tokenizer_type(t, id);
    return type == RT_TOKEN_CONTROL || type == RT_TOKEN_USER;
}

/* Where the generation prompt begins: what the prompt has and the conversation without it has not,
   token by token (the latter may end in a mark of its own: "<|endoftext|>"). */
static int begin_of_header(const rt_turns *t, const rt_text *bare, const rt_text *prompt,
                           int64_t *begin, rt_err *err)
{
    rt_ids a = { 0 }, b = { 0 };
    rt_text same = { 0 };
    int64_t n = 0;
    *begin = bare->bytes;
    if (bare->bytes <= prompt->bytes && memcmp(bare->data, prompt->data, (size_t)bare->bytes) == 0)
        return 0;
    int bad = rt_tokenizer_encode(t->tokenizer, bare->data, bare->bytes, RT_TOKENIZE_SPECIAL, &a,
                                  err) ||
              rt_tokenizer_encode(t->tokenizer, prompt->data, prompt->bytes, RT_TOKENIZE_SPECIAL,
                                  &b, err);
    while (!bad && n < a.n && n < b.n && a.id[n] == b.id[n])
        n++;
    bad = bad || rt_tokenizer_decode(t->tokenizer, b.id, n, 0, &same, err);
    bool exact = !bad && same.bytes <= prompt->bytes &&
                 (same.bytes == 0 || memcmp(same.data, prompt->data, (size_t)same.bytes) == 0);
    *begin = exact ? same.bytes : prompt->bytes;
    rt_ids_free(&a);
    rt_ids_free(&b);
    rt_text_free(&same);
    return bad;
}

static int read_header(const rt_turns *t, const cJSON *talk, const rt_text *prompt, header *h,
                       rt_err *err)
{
    rt_text bare = { 0 }, piece = { 0 };
    rt_ids ids = { 0 };
    int64_t begin = 0;
    int bad = rt_text_puts(&bare, "", err) || t->render(t->ctx, talk, false, &bare, err) ||
              begin_of_header(t, &bare, prompt, &begin, err) ||
              rt_text_puts(&h->text, prompt->data + begin, err) ||
              rt_tokenizer_encode(t->tokenizer, h->text.data, h->text.bytes, RT_TOKENIZE_SPECIAL,
                                  &ids, err);
    if (!bad && h->text.bytes)
        h->cut[h->n++] = h->text.bytes;
    for (int64_t i = ids.n - 1; !bad && i > 0 && h->n < CUTS; i--) {
        rt_text_clear(&piece);
        bad = rt_tokenizer_decode(t->tokenizer, ids.id, i, 0, &piece, err);
        if (!bad && is_mark(t->tokenizer, ids.id[i - 1]) && piece.bytes < h->text.bytes &&
            memcmp(piece.data, h->text.data, (size_t)piece.bytes) == 0)
            h->cut[h->n++] = piece.bytes;
    }
    rt_text_free(&bare);
    rt_text_free(&piece);
    rt_ids_free(&ids);
    return bad ? -1 : 0;
}

/* Behind the first mark of prompt[from, words), else `words`. */
static int behind_mark(const rt_turns *t, const rt_text *prompt, int64_t from, int64_t words,
                       int64_t *begin, rt_err *err)
{
    rt_ids ids = { 0 };
    rt_text piece = { 0 };
    int64_t n = 0;
    int bad = rt_tokenizer_encode(t->tokenizer, prompt->data + from, words - from,
                                  RT_TOKENIZE_SPECIAL, &ids, err);
    while (n < ids.n && !is_mark(t->tokenizer, ids.id[n]))
        n++;
    bool marked = !bad && n < ids.n;
    bad = bad || rt_text_puts(&piece, "", err) ||
          (marked && rt_tokenizer_decode(t->tokenizer, ids.id, n + 1, 0, &piece, err));
    bool exact = !bad && marked && piece.bytes <= words - from &&
                 memcmp(prompt->data + from, piece.data, (size_t)piece.bytes) == 0;
    *begin = exact ? from + piece.bytes : words;
    rt_ids_free(&ids);
    rt_text_free(&piece);
    return bad;
}

/* Behind the header that is next before `words`, or -1. */
static int64_t behind_header(const header *h, const rt_text *prompt, int64_t from, int64_t words)
{
    for (int i = 0; i < h->n; i++)
        for (int64_t at = words - h->cut[i]; at >= from; at--)
            if (memcmp(prompt->data + at, h->text.data, (size_t)h->cut[i]) == 0)
                return at + h->cut[i];
    return -1;
}

static bool is_stop(const rt_turns *t, int32_t id)
{
    const rt_reasoning *r = t->reasoning;
    for (int32_t i = 0; i < r->n_stops; i++)
        if (r->stop[i] == id)
            return true;
    return r->end == id && id >= 0; /* "<|end|>", of harmony and of Phi */
}

/* Behind the end token, when that is the first mark that follows the words. */
static int find_end(const rt_turns *t, const rt_text *prompt, int64_t words, int64_t *end,
                    rt_err *err)
{
    rt_ids ids = { 0 };
    rt_text piece = { 0 };
    const char *from = prompt->data + words;
    int64_t i = 0, most = rt_min(prompt->bytes - words, AROUND);
    int bad = rt_tokenizer_encode(t->tokenizer, from, most, RT_TOKENIZE_SPECIAL, &ids, err);
    while (!bad && i < ids.n && !is_mark(t->tokenizer, ids.id[i]))
        i++;
    *end = words;
    if (!bad && i < ids.n && is_stop(t, ids.id[i])) {
        bad = rt_tokenizer_decode(t->tokenizer, ids.id, i + 1, 0, &piece, err);
        if (!bad && piece.bytes <= most && memcmp(from, piece.data, (size_t)piece.bytes) == 0)
            *end = words + piece.bytes;
    }
    rt_ids_free(&ids);
    rt_text_free(&piece);
    return bad;
}

/* Words that the prompt does not hold, of a character that no text should hold. */
static void choose_words(const rt_text *prompt, char words[8])
{
    for (uint32_t c = 0xF8FF; c > 0xE000; c--) {
        words[rt_utf8_encode(c, words)] = 0;
        if (!memmem(prompt->data, (size_t)prompt->bytes, words, strlen(words)))
            return;
    }
}

static bool inside_character(char c) { return ((uint8_t)c & 0xC0) == 0x80; }

/* [*begin, *end): what of a differs from b. */
static void difference(const rt_text *a, const rt_text *b, int64_t *begin, int64_t *end)
{
    int64_t n = rt_min(a->bytes, b->bytes), from = 0, behind = 0;
    while (from < n && a->data[from] == b->data[from])
        from++;
    while (from > 0 && from < a->bytes && inside_character(a->data[from]))
        from--;
    while (behind < n - from && a->data[a->bytes - 1 - behind] == b->data[b->bytes - 1 - behind])
        behind++;
    while (behind > 0 && inside_character(a->data[a->bytes - behind]))
        behind--;
    *begin = from;
    *end = a->bytes - behind;
}

/* What a message may say, one way after the other until the template writes it: a template may
   refuse tools' answers to calls that are not there, or leave out the content beside calls. */
enum { WORDS_ALONE, WORDS_AND_CALLS, WORDS_IN_CALLS, WORDS_COUNT };

static cJSON *with_words(const cJSON *message, const char *words, int how)
{
    static const char *const said[] = { "content", "reasoning_content", "reasoning", "thinking",
                                        "tool_calls" };
    cJSON *copy = cJSON_Duplicate(message, true), *call;
    if (how != WORDS_IN_CALLS) {
        for (int k = 0; k < (how == WORDS_ALONE ? RT_COUNT(said) : 1); k++)
            cJSON_DeleteItemFromObjectCaseSensitive(copy, said[k]);
        rt_json_put_str(copy, "content", words);
        return copy;
    }
    cJSON_ArrayForEach(call, cJSON_GetObjectItemCaseSensitive(copy, "tool_calls"))
    {
        cJSON *f = cJSON_GetObjectItemCaseSensitive(call, "function"), *arguments;
        bool text = cJSON_IsString(rt_json_find(f ? f : call, "arguments"));
        if (!cJSON_IsObject(f ? f : call))
            continue;
        cJSON_DeleteItemFromObjectCaseSensitive(f ? f : call, "arguments");
        arguments = text ? cJSON_CreateString(words) : rt_json_object();
        if (!text)
            rt_json_put_str(arguments, words, words);
        rt_json_put(f ? f : call, "arguments", arguments);
    }
    return copy;
}

/* The bytes of prompt that are message i's own words: *begin = -1 when it does not write any. */
static void find_words(const rt_turns *t, cJSON *talk, const rt_text *prompt, int i, int64_t *begin,
                       int64_t *end)
{
    cJSON *messages = cJSON_GetObjectItemCaseSensitive(talk, "messages");
    cJSON *own = cJSON_Duplicate(cJSON_GetArrayItem(messages, i), true);
    rt_text other = { 0 };
    rt_err refused;
    char words[8];
    choose_words(prompt, words);
    *begin = -1;
    for (int how = 0; how < WORDS_COUNT && *begin < 0; how++) {
        rt_text_clear(&other);
        cJSON_ReplaceItemInArray(messages, i, with_words(own, words, how));
        if (t->render(t->ctx, talk, true, &other, &refused) == 0 &&
            memmem(other.data, (size_t)other.bytes, words, strlen(words)))
            difference(prompt, &other, begin, end);
    }
    cJSON_ReplaceItemInArray(messages, i, own);
    rt_text_free(&other);
}

static bool by_assistant(const cJSON *talk, int i)
{
    const cJSON *m = cJSON_GetArrayItem(rt_json_find(talk, "messages"), i);
    const char *role = cJSON_GetStringValue(rt_json_find(m, "role"));
    return role && strcmp(role, "assistant") == 0;
}

/* Where the turn begins whose words begin at `words`: behind the generation prompt. A template that
   has none writes the turn behind the end mark of the message before ("[/INST]"). */
static int find_begin(const rt_turns *t, cJSON *talk, const rt_text *prompt, const header *h, int i,
                      int64_t from, int64_t words, int64_t *begin, rt_err *err)
{
    int64_t first, last = 0;
    *begin = behind_header(h, prompt, from, words);
    if (*begin >= 0)
        return 0;
    *begin = h->n ? words : from;
    if (h->n || (i > 0 && by_assistant(talk, i - 1)))
        return 0;
    if (i > 0)
        find_words(t, talk, prompt, i - 1, &first, &last);
    return behind_mark(t, prompt, rt_min(rt_max(from, last), words), words, begin, err);
}

int rt_turns_find(const rt_turns *t, cJSON *talk, const rt_text *prompt, rt_ids *bounds,
                  rt_err *err)
{
    header h = { .n = 0 };
    int n = cJSON_GetArraySize(rt_json_find(talk, "messages"));
    int64_t from = 0, words, behind = 0, begin, end = 0;
    int bad = read_header(t, talk, prompt, &h, err);
    for (int i = 0; i < n && !bad; i++) {
        if (!by_assistant(talk, i))
            continue;
        find_words(t, talk, prompt, i, &words, &behind);
        if (words < from)
            continue;
        bad = find_begin(t, talk, prompt, &h, i, from, words, &begin, err) ||
              find_end(t, prompt, behind, &end, err);
        if (bad || begin >= end)
            continue;
        bad = rt_ids_add(bounds, (int32_t)begin, err) || rt_ids_add(bounds, (int32_t)end, err) ||
              rt_ids_add(bounds, i, err);
        from = end;
    }
    rt_text_free(&h.text);
    return bad ? -1 : 0;
}
