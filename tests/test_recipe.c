/* test_recipe.c: recipes that are refused before anything runs, and what a stage's identity depends
   on: every option of every command is changed once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "distill/recipe.h"
#include "distill/stage.h"
#include "tests/suite.h"

#define COMMANDS(X)                                                                                \
    X(sample)                                                                                      \
    X(score)                                                                                       \
    X(archive)                                                                                     \
    X(train)                                                                                       \
    X(eval)                                                                                        \
    X(quantize)                                                                                    \
    X(generate) X(inspect) X(logits) X(tokenizer) X(tokenize) X(render) X(doctor)
#define DECLARE(name) extern const rt_command rt_command_##name;
COMMANDS(DECLARE)
#define ROW(name) &rt_command_##name,
static const rt_command *const TABLE[] = { COMMANDS(ROW) };

static void put(const char *path, const char *text)
{
    rt_err err = { 0 };
    OK(rt_file_write(path, text, (int64_t)strlen(text), &err));
}

/* ---- what changes a stage's identity ---- */

/* A stage of every command, its paths all "in.txt". */
static void put_recipe(void)
{
    FILE *f = fopen("all.json", "w");
    fputs("{\"run\": {\"out\": \"run\"}", f);
    for (int c = 0; c < RT_COUNT(TABLE); c++) {
        fprintf(f, ",\n\"%s\": {\"//\": \"\"", TABLE[c]->name);
        for (int i = 0; i < TABLE[c]->n_options; i++) {
            const rt_option *o = &TABLE[c]->options[i];
            char key[64];
            snprintf(key, sizeof key, "%s", o->name);
            for (char *p = key; *p; p++)
                *p = *p == '-' ? '_' : *p;
            if (o->role == RT_OPT_OUTPUT)
                fprintf(f, ", \"%s\": \"{out}/%s.%s\"", key, TABLE[c]->name, key);
            else if (o->role != RT_OPT_RESULT && o->role != RT_OPT_FREE)
                fprintf(f,
                        o->kind == RT_OPT_LIST ? ", \"%s\": [\"in.txt\"]" : ", \"%s\": \"in.txt\"",
                        key);
        }
        fputs("}", f);
    }
    fputs("}\n", f);
    fclose(f);
}

static rt_hash key_of(rt_work_of *w)
{
    rt_err err = { 0 };
    OK(rt_work_judge(w, RT_IDENTITY_READ, false, &err));
    return w->key;
}

static bool same(rt_hash a, rt_hash b) { return !strcmp(a.hex, b.hex); }

/* The key with another value of option o in the field at `at`. */
static rt_hash flip(rt_work_of *w, const rt_option *o, void *at, char *text)
{
    rt_hash key;
    if (o->kind == RT_OPT_BOOL) {
        *(bool *)at = !*(bool *)at;
        key = key_of(w);
        *(bool *)at = !*(bool *)at;
    } else if (o->kind == RT_OPT_INT || o->kind == RT_OPT_BYTES || o->kind == RT_OPT_SEED) {
        *(int64_t *)at += 1;
        key = key_of(w);
        *(int64_t *)at -= 1;
    } else if (o->kind == RT_OPT_FLOAT) {
        double kept = *(double *)at;
        *(double *)at = kept + 0.125;
        key = key_of(w);
        *(double *)at = kept;
    } else if (o->kind == RT_OPT_STR) {
        char *kept = *(char **)at;
        *(char **)at = text;
        key = key_of(w);
        *(char **)at = kept;
    } else {
        rt_strlist kept = *(rt_strlist *)at;
        *(rt_strlist *)at = (rt_strlist){ &text, 1 };
        key = key_of(w);
        *(rt_strlist *)at = kept;
    }
    return key;
}

static void check_option(rt_work_of *w, const rt_option *o, rt_hash key)
{
    static char word[] = "a word", spelled[] = "./in.txt", named[] = "other.txt",
                changed[] = "new.txt";
    void *at = (char *)w->stage->values + o->offset;
    const char *where = w->stage->name, *name = o->name;
#define CHANGES(text)                                                                              \
    ck_assert_msg(!same(key, flip(w, o, at, text)), "%s: --%s %s changes nothing", where, name,    \
                  text)
#define KEEPS(text)                                                                                \
    ck_assert_msg(same(key, flip(w, o, at, text)), "%s: --%s %s changes the key", where, name, text)
    switch (o->role) {
    case RT_OPT_RESULT:
        CHANGES(word);
        break;
    case RT_OPT_FREE:
    case RT_OPT_OUTPUT:
        KEEPS(word);
        break;
    case RT_OPT_MEASURE:
        KEEPS(changed);
        break;
    case RT_OPT_INPUT_WORDS:
        CHANGES(word);
        CHANGES(changed);
        KEEPS(spelled);
        break;
    case RT_OPT_INPUT:
    case RT_OPT_INPUT_NAMED:
        CHANGES(changed);
        KEEPS(spelled);
        if (o->role == RT_OPT_INPUT)
            KEEPS(named);
        else
            CHANGES(named);
    }
    ck_assert_msg(same(key, key_of(w)), "%s: --%s: not put back", where, name);
}

START_TEST(every_option)
{
    rt_err err = { 0 };
    rt_recipe r;
    const rt_strlist none = { 0 };
    put("in.txt", "content");
    put("other.txt", "content");
    put("new.txt", "content!");
    put_recipe();
    OK(rt_recipe_open(&r, "all.json", NULL, &none, TABLE, RT_COUNT(TABLE), &err));
    ck_assert_int_eq(r.n, RT_COUNT(TABLE));
    for (int c = 0; c < r.n; c++) {
        rt_work_of w;
        OK(rt_work_open(&w, &r, c, false, &err));
        rt_hash key = key_of(&w);
        for (int i = 0; i < r.stage[c].command->n_options; i++)
            check_option(&w, &r.stage[c].command->options[i], key);
        rt_work_close(&w);
    }
    ck_assert(!rt_path_exists("run")); /* looking wrote nothing */
    rt_recipe_close(&r);
}
END_TEST

/* What is called free must be so: tests/check_run.sh, check_sample.sh, check_stream.sh,
   check_train.sh, check_rounds.sh, check_outputs.sh and check_export.sh run these and compare bytes. A new one goes there first, then
   here. */
START_TEST(free_options)
{
    static const char *const PROVED[] = { "threads",
                                          "gpu-memory",
                                          "plan",
                                          "json",
                                          "batch",
                                          "rollout-batch",
                                          "prefill-tokens",
                                          "cache-tokens",
                                          "memory",
                                          "save-every",
                                          "eval-every",
                                          "eval-limit",
                                          "eval-samples",
                                          "eval-temperature",
                                          "eval-max-tokens",
                                          "eval-batch",
                                          "recompute",
                                          "overwrite",
                                          "quantize self-test",
                                          "score pass-tokens",
                                          "score head-rows",
                                          "eval pass-tokens",
                                          "eval head-rows" };
    for (int c = 0; c < RT_COUNT(TABLE); c++)
        for (int i = 0; i < TABLE[c]->n_options; i++) {
            const rt_option *o = &TABLE[c]->options[i];
            char full[96];
            bool proved = o->role != RT_OPT_FREE;
            snprintf(full, sizeof full, "%s %s", TABLE[c]->name, o->name);
            for (int k = 0; k < RT_COUNT(PROVED); k++)
                proved = proved || !strcmp(PROVED[k], o->name) || !strcmp(PROVED[k], full);
            ck_assert_msg(proved, "%s: --%s is called free, and no test compares the bytes",
                          TABLE[c]->name, o->name);
        }
}
END_TEST

/* ---- what is refused ---- */

#define QUANTIZE(name, model, out)                                                                 \
    "\"" name "\": {\"command\": \"quantize\", \"model\": \"" model "\", \"out\": \"" out "\"}"
#define EVAL(name, more)                                                                           \
    "\"" name "\": {\"command\": \"eval\", \"model\": \"m\", \"out\": \"{out}/" name               \
    ".json\"" more "}"

START_TEST(refused)
{
    static const struct {
        const char *sections, *message;
    } ROWS[] = {
        { QUANTIZE("a", "m", "{out}/a") "," QUANTIZE("b", "m", "{out}/./a/"), "both write" },
        { QUANTIZE("a", "m", "{out}/a") "," QUANTIZE("b", "m", "{out}/a/b"), "both write" },
        { QUANTIZE("a", "m", "{out}/x/a") "," QUANTIZE("b", "m", "{out}/x"), "both write" },
        { QUANTIZE("a", "{out}/a", "{out}/a"), "where it also writes" },
        { QUANTIZE("a", "{out}/a/b", "{out}/a"), "where it also writes" },
        { QUANTIZE("a", "m", "m/model.gguf"), "where it also writes" },
        { QUANTIZE("a", "{out}/b", "{out}/a") "," QUANTIZE("b", "m", "{out}/b"), "a later stage" },
        { QUANTIZE("a", "m", "/"), "name a path of its own" },
        { QUANTIZE("a", "m", "{out}"), "name a path of its own" },
        { QUANTIZE("a", "m", "{out}/.."), "name a path of its own" },
        { QUANTIZE("a", "m", "."), "name a path of its own" },
        { QUANTIZE("a", "m", "bad.json"), "name a path of its own" },
        { QUANTIZE("a", "m", "home"), "name a path of its own" },
        { QUANTIZE("a", "m", "{out}/stages/a"), "keeps its own files" },
        { QUANTIZE("a", "m", "{out}/old"), "keeps its own files" },
        { QUANTIZE("a", "m", "{out}/report.json"), "keeps its own files" },
        { QUANTIZE("a", "m", ""), "empty" },
        { "\"a\": {\"command\": \"run\", \"file\": \"bad.json\"}", "cannot run recipes" },
        { "\"a\": {\"command\": \"quantise\"}", "did you mean quantize" },
        { "\"a\": {\"command\": \"quantize\", \"model\": \"m\", \"plan\": true}", "\"plan\"" },
        { "\"a.b\": {\"command\": \"doctor\"}", "names have no" },
        { "\"a\": []", "must be an object" },
        { "\"run2\": 3", "must be an object" },
        { "\"//\": 1", "no stages" },
        { EVAL("e", "") ", \"report\": {\"models\": {\"x\": \"f\"}}", "no stage \"f\"" },
        { EVAL("judged", "") ", \"report\": {\"models\": {\"x\": \"juged\"}}",
          "did you mean judged" },
        { EVAL("e", "") ", \"report\": {\"kl\": {\"x\": \"e\"}}", "needs a \"reference\"" },
        { EVAL("e", "") ", \"report\": {\"archive\": \"e\"}", "is no retort sample" },
        { EVAL("e", "") ", \"report\": {\"modles\": {}}", "unknown key \"modles\"" },
        { EVAL("e", "") ", \"report\": {\"models\": [\"e\"]}", "must be an object" },
        { EVAL("e", "") ", \"report\": {\"models\": {\"x\": 3}}", "must name a stage" },
        { EVAL("e", "") ", \"report\": []", "must be an object" },
    };
    char home[4096], text[1024];
    const rt_strlist none = { 0 };
    ck_assert_ptr_nonnull(getcwd(home, sizeof home - 8));
    strcat(home, "/home");
    ck_assert_int_eq(mkdir("home", 0700), 0);
    setenv("HOME", home, 1);
    for (int i = 0; i < RT_COUNT(ROWS); i++) {
        rt_err err = { 0 };
        rt_recipe r;
        snprintf(text, sizeof text, "{\"run\": {\"out\": \"run\"}, %s}", ROWS[i].sections);
        put("bad.json", text);
        ck_assert_msg(rt_recipe_open(&r, "bad.json", NULL, &none, TABLE, RT_COUNT(TABLE), &err),
                      "accepted: %s", text);
        ck_assert_msg(strstr(err.text, ROWS[i].message), "%s\n%s", text, err.text);
        ck_assert_int_eq(err.exit_code, 2);
        rt_recipe_close(&r);
    }
    put("bad.json", "{\"run\": {\"uot\": \"run\"}, " QUANTIZE("a", "m", "{out}/a") "}");
    rt_err err = { 0 };
    rt_recipe r;
    FAILS(rt_recipe_open(&r, "bad.json", NULL, &none, TABLE, RT_COUNT(TABLE), &err), "unknown key");
    rt_recipe_close(&r);
}
END_TEST

/* The same place however it is spelled; and a path below an output belongs to its stage. */
START_TEST(places)
{
    rt_err err = { 0 };
    rt_recipe r;
    const rt_strlist none = { 0 };
    char here[4096], text[4200];
    ck_assert_ptr_nonnull(getcwd(here, sizeof here));
    ck_assert(mkdir("run", 0700) == 0 && symlink("run", "link") == 0);
    put("r.json", "{\"run\": {\"out\": \"link/\"}, " QUANTIZE("a", "m", "{out}/x/a") ", " QUANTIZE(
                      "b", "{out}/x/a", "{out}/b") "}");
    OK(rt_recipe_open(&r, "r.json", NULL, &none, TABLE, RT_COUNT(TABLE), &err));
    snprintf(text, sizeof text, "%s/run/x/a", here);
    const char *const spelled[] = { "run/x/a", "./run//x/./a/", "link/x/a", text, "run/y/../x/a" };
    for (int i = 0; i < RT_COUNT(spelled); i++) {
        char *place = rt_recipe_place(&r, spelled[i]);
        ck_assert_str_eq(place, "x/a");
        free(place);
    }
    char *outside = rt_recipe_place(&r, "running/x");
    ck_assert_int_eq(outside[0], '/');
    free(outside);
    bool exact = false;
    ck_assert_int_eq(rt_recipe_writer(&r, 2, "run/x/a", &exact), 0);
    ck_assert(exact);
    ck_assert_int_eq(rt_recipe_writer(&r, 2, "run/x/a/config.json", &exact), 0);
    ck_assert(!exact);
    ck_assert_int_eq(rt_recipe_writer(&r, 2, "run/x", &exact), 0);
    ck_assert(!exact);
    ck_assert_int_eq(rt_recipe_writer(&r, 2, "run/x/ab", NULL), -1);
    ck_assert_int_eq(rt_recipe_writer(&r, 1, "run/b", NULL), -1);
    rt_recipe_close(&r);
}
END_TEST

int main(void)
{
    const suite_test tests[] = {
        { every_option, 1 }, { free_options, 1 }, { refused, 1 }, { places, 1 }
    };
    return suite_run("recipe", NULL, tests, RT_COUNT(tests));
}
