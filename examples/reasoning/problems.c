/* problems.c: the command `reasoning-problems`: word problems whose every thought can be verified,
   as JSON lines for `retort sample` (--form problem) and for pretraining a teacher (--form trace).
   A hash of a problem's numbers and operations, not of names, decides its split, so the splits
   share no problem whatever the seeds; a run repeats no problem. The same flags print the same
   bytes. Refuses: files (stdout is the product), and making more distinct problems than a family
   has. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/help.h"
#include "core/base/json.h"
#include "core/base/memory.h"
#include "core/base/option.h"
#include "examples/reasoning/problem.h"

enum { ATTEMPTS_MAX = 50000, HELDOUT_ONE_IN = 8 };

typedef struct options {
    int64_t n, seed;
    char *split, *form, *family;
    bool stats, words;
} options;

/* Keys of this run, so that it repeats no problem. 0 marks a free place. */
typedef struct key_set {
    uint64_t *hash;
    uint64_t mask;
} key_set;

static bool add_key(key_set *set, uint64_t hash)
{
    uint64_t at = hash & set->mask;
    for (hash |= 1; set->hash[at]; at = (at + 1) & set->mask)
        if (set->hash[at] == hash)
            return false;
    set->hash[at] = hash;
    return true;
}

static int make_problem(rt_problem *p, key_set *seen, const options *o, rt_family family,
                        int64_t index, rt_err *err)
{
    bool heldout = strcmp(o->split, "heldout") == 0;
    for (int attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        rt_problem_draw(p, o->seed, index, attempt, family);
        uint64_t hash = rt_hash64(p->key.data, p->key.bytes, 0);
        if (heldout != (hash % HELDOUT_ONE_IN == 0) || !add_key(seen, hash / HELDOUT_ONE_IN))
            continue;
        rt_problem_word(p, o->seed, index);
        return 0;
    }
    return rt_fail(
        err, "--n %lld: found no new problem of --family %s --split %s after %lld; ask for fewer",
        (long long)o->n, o->family, o->split, (long long)index);
}

static int print_problem(const rt_problem *p, const options *o, int64_t index)
{
    char id[64], answer[16], boxed[32];
    snprintf(id, sizeof id, "%s-%lld-%06lld", o->split, (long long)o->seed, (long long)index);
    snprintf(answer, sizeof answer, "%d", p->answer);
    snprintf(boxed, sizeof boxed, "\\boxed{%d}", p->answer);
    cJSON *json = rt_json_object();
    rt_json_put_str(json, "id", id);
    if (strcmp(o->form, "problem") == 0) {
        rt_json_put_str(json, "prompt", p->prompt.data);
    } else {
        cJSON *messages = rt_json_array(), *user = rt_json_object(), *assistant = rt_json_object();
        rt_json_put_str(user, "role", "user");
        rt_json_put_str(user, "content", p->prompt.data);
        rt_json_put_str(assistant, "role", "assistant");
        rt_json_put_str(assistant, "reasoning_content", p->reasoning.data);
        rt_json_put_str(assistant, "content", boxed);
        cJSON_AddItemToArray(messages, user);
        cJSON_AddItemToArray(messages, assistant);
        rt_json_put(json, "messages", messages);
    }
    rt_json_put_str(json, "answer", answer);
    rt_json_put_str(json, "family", rt_family_names[p->family]);
    char *line = rt_json_text(json);
    int rc = printf("%s\n", line) < 0 ? -1 : 0;
    free(line);
    cJSON_Delete(json);
    return rc;
}

/* One JSON line a word, each a document of its own: a tokenizer trained on them has them all. */
static void print_word(const char *word)
{
    cJSON *json = rt_json_object();
    rt_json_put_str(json, "text", word);
    char *line = rt_json_text(json);
    printf("%s\n", line);
    free(line);
    cJSON_Delete(json);
}

typedef struct totals {
    int64_t n, prompt, response, steps, longest;
    double nats, entropy;
} totals;

/* As rendered by chat_template.jinja: <|user|> prompt <|assistant|>, then the response
   <think> \n reasoning \n </think> \n \boxed{N} <|end|>; each marker is one token. */
static void add_totals(totals *t, const rt_problem *p)
{
    char whole[RT_PROBLEM_TEXT_MAX + 1];
    snprintf(whole, sizeof whole, "%s\n", p->reasoning.data);
    int prompt = 2 + rt_pretoken_count(p->prompt.data);
    int response = 1 + 1 + rt_pretoken_count(whole) + 1 + 1;
    snprintf(whole, sizeof whole, "\\boxed{%d}", p->answer);
    response += rt_pretoken_count(whole) + 1;
    t->n++;
    t->prompt += prompt;
    t->response += response;
    t->steps += p->n_steps;
    t->longest = rt_max(t->longest, prompt + response);
    t->nats += p->nats;
    t->entropy += p->entropy_nats;
}

static void print_totals(const char *name, const totals *t)
{
    if (!t->n)
        return;
    double n = (double)t->n;
    printf("%-9s %8lld %7.2f %7.2f %9.2f %7.2f %8lld %9.3f %9.3f %10.4f\n", name, (long long)t->n,
           (double)t->steps / n, (double)t->prompt / n, (double)t->response / n,
           (double)(t->prompt + t->response) / n, (long long)t->longest, t->entropy / n,
           t->nats / n, t->entropy / (double)t->response);
}

static int run(void *values, rt_err *err)
{
    const options *o = values;
    if (o->words) {
        rt_problem_words(print_word);
        return 0;
    }
    rt_family family = RT_CHAIN;
    while (family < RT_FAMILIES && strcmp(o->family, rt_family_names[family]))
        family++; /* "mix" is RT_FAMILIES */
    key_set seen = { NULL, 1 };
    while (seen.mask < 2 * (uint64_t)o->n)
        seen.mask *= 2;
    seen.hash = rt_alloc((int64_t)seen.mask--, sizeof *seen.hash, "problems: ask for fewer");
    totals total[RT_FAMILIES + 1] = { { 0 } };
    int rc = 0;
    for (int64_t i = 0; i < o->n && !rc; i++) {
        rt_problem p;
        rc = make_problem(&p, &seen, o, family, i, err);
        if (rc)
            break;
        if (!o->stats) {
            rc = print_problem(&p, o, i);
        } else {
            add_totals(&total[p.family], &p);
            add_totals(&total[RT_FAMILIES], &p);
        }
    }
    if (o->stats && !rc) {
        printf("family    problems   steps  prompt  response  tokens  longest  nat/trace  (drawn)  "
               "nat/token\n");
        for (int i = 0; i <= RT_FAMILIES; i++)
            print_totals(i < RT_FAMILIES ? rt_family_names[i] : "all", &total[i]);
    }
    free(seen.hash);
    return rc;
}

static const rt_option table[] = {
    OPT_INT(options, n, "n", "10", 1, 50000000, "problems"),
    OPT_INT(options, seed, "seed", "1", 0, 1LL << 52, "another seed, other problems"),
    OPT_CHOICE(options, split, "split", "train", "train|heldout", "no problem is in both"),
    OPT_CHOICE(options, form, "form", "problem", "problem|trace", "JSON lines to print"),
    OPT_CHOICE(options, family, "family", "mix", "mix|chain|together|boxes|units|compare",
               "mix = 4:2:3:2 of all but compare, the hard slice"),
    OPT_BOOL(options, stats, "stats", "false", "print lengths and entropies, not problems"),
    OPT_BOOL(options, words, "words", "false", "print every pre-token once, as {\"text\"} lines"),
};

int main(int argc, char **argv)
{
    const rt_command command = {
        .name = "./reasoning-problems",
        .help = "Word problems with verifiable thoughts, as JSON lines on stdout.",
        .options = table,
        .n_options = RT_COUNT(table),
        .struct_bytes = sizeof(options),
        .run = run,
    };
    options values = { 0 };
    rt_err err = { { 0 }, 0 };
    bool help = false;
    int rc = rt_options_parse(&command, &values, NULL, argc - 1, argv + 1, &help, &err);
    if (!rc && help)
        rt_options_help(&command);
    else if (!rc)
        rc = run(&values, &err);
    rt_options_free(&command, &values);
    if ((fflush(stdout) || ferror(stdout)) && (!rc || !err.exit_code))
        rc = rt_fail(&err, "stdout: not all could be written; is the disk full?");
    if (rc)
        fprintf(stderr, "reasoning-problems: %s\n", err.text);
    return rc ? err.exit_code : 0;
}
