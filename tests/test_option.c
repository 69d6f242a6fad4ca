/* test_option.c: the contract of option.h on a table of its own: precedence, every spelling of
   a flag, recipe sections, bounds, suggestions, round trip through --print-recipe, broken tables.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/option.h"
#include "tests/suite.h"

typedef struct values {
    bool fresh, shuffle;
    int64_t steps;
    uint64_t seed;
    double lr;
    char *model, *target, *out;
    rt_strlist data;
} values;

static const rt_option OPTIONS[] = {
    OPT_NEED(values, model, "model", "DIR", "model directory", RT_OPT_INPUT),
    OPT_LIST(values, data, "data", "PATH", "training data", RT_OPT_INPUT),
    OPT_STR(values, out, "out", NULL, "DIR", "where to write", RT_OPT_OUTPUT),
    OPT_CHOICE(values, target, "target", "drawn", "drawn|bucket|renorm|reverse", "soft target"),
    OPT_FLOAT(values, lr, "learning-rate", "3e-4", 0, 1, "peak learning rate"),
    OPT_INT(values, steps, "steps", "100", 1, 1000000, "optimizer steps"),
    OPT_SEED(values, seed, "seed of everything random"),
    OPT_BOOL(values, fresh, "fresh", "false", "start again"),
    OPT_BOOL(values, shuffle, "shuffle", "true", "shuffle the samples"),
};

static int run_nothing(void *options, rt_err *err)
{
    (void)options;
    (void)err;
    return 0;
}

static const rt_command TRAIN = {
    .name = "train",
    .help = "train a student",
    .options = OPTIONS,
    .n_options = RT_COUNT(OPTIONS),
    .struct_bytes = sizeof(values),
    .positional = "data",
    .run = run_nothing,
    .example = "retort train --model DIR A.traces",
};

// Parses words (NULL-terminated) over a recipe section in JSON text (may be NULL).
static int parse(values *v, const char *section, char **words, rt_err *err)
{
    rt_err json_err;
    cJSON *json = NULL;
    int argc = 0;
    bool help = false;
    while (words && words[argc])
        argc++;
    if (section)
        ck_assert_int_eq(
            rt_json_parse(&json, section, (int64_t)strlen(section), "section", &json_err), 0);
    *err = (rt_err){ 0 };
    int rc = rt_options_parse(&TRAIN, v, json, argc, words, &help, err);
    ck_assert(rc == 0 || err->exit_code == 2);
    cJSON_Delete(json);
    return help ? 1 : rc;
}

#define WORDS(...) ((char *[]){ __VA_ARGS__, NULL })

START_TEST(precedence)
{
    values v;
    rt_err err;
    const char *recipe = "{\"//\":\"a remark\",\"//steps\":3,\"model\":\"r\",\"steps\":200,"
                         "\"learning_rate\":0.5,\"shuffle\":false,\"data\":[\"x\",\"y\"],"
                         "\"target\":null,\"seed\":\"9007199254740993\"}";
    ck_assert_int_eq(parse(&v, NULL, WORDS("--model", "m"), &err), 0);
    ck_assert(v.lr == 3e-4 && v.steps == 100 && !v.fresh && v.shuffle && v.data.n == 0 && !v.out);
    ck_assert(!strcmp(v.target, "drawn") && !strcmp(v.model, "m"));
    rt_options_free(&TRAIN, &v);
    ck_assert_int_eq(parse(&v, recipe, NULL, &err), 0);
    ck_assert(v.lr == 0.5 && v.steps == 200 && !v.shuffle && v.data.n == 2);
    ck_assert(!strcmp(v.data.item[1], "y") && !strcmp(v.model, "r") && !strcmp(v.target, "drawn"));
    ck_assert_uint_eq(v.seed, 9007199254740993); // beyond 2^53: from a string, exact
    rt_options_free(&TRAIN, &v);
    ck_assert_int_eq(parse(&v, recipe, WORDS("--steps=7", "--data", "z", "--shuffle"), &err), 0);
    ck_assert(v.steps == 7 && v.lr == 0.5 && v.shuffle && v.data.n == 1);
    ck_assert_str_eq(v.data.item[0], "z");
    rt_options_free(&TRAIN, &v);
}
END_TEST

START_TEST(spellings)
{
    values v;
    rt_err err;
    ck_assert_int_eq(
        parse(&v, NULL,
              WORDS("a", "--model=m", "--data=b=c", "--fresh", "--no-shuffle", "-", "--out", "-5",
                    "--steps", "+12", "--learning-rate=1e-2", "--steps=13", "--", "--data"),
              &err),
        0);
    ck_assert(!strcmp(v.model, "m") && v.fresh && !v.shuffle && v.lr == 1e-2 && v.steps == 13);
    ck_assert_str_eq(v.out, "-5");
    const char *data[] = { "a", "b=c", "-", "--data" };
    ck_assert_int_eq(v.data.n, RT_COUNT(data));
    for (int i = 0; i < v.data.n; i++)
        ck_assert_str_eq(v.data.item[i], data[i]);
    rt_options_free(&TRAIN, &v);
    ck_assert_int_eq(
        parse(&v, NULL, WORDS("--fresh=false", "--shuffle=true", "--model", "x"), &err), 0);
    ck_assert(!v.fresh && v.shuffle);
    rt_options_free(&TRAIN, &v);
    ck_assert_int_eq(parse(&v, NULL, WORDS("--steps", "5", "--help", "--nonsense"), &err), 1);
    rt_options_free(&TRAIN, &v);
    ck_assert_int_eq(parse(&v, NULL, WORDS("-h"), &err), 1);
    rt_options_free(&TRAIN, &v);
}
END_TEST

START_TEST(mistakes)
{
    const struct {
        const char *section;
        char *word[3];
        const char *says;
    } ROWS[] = {
        { NULL,
          { NULL },
          "missing --model DIR: give it here or in recipe section \"train\"; e.g. retort train" },
        { NULL, { "--lr", "3" }, "unknown flag --lr; did you mean --learning-rate?" },
        { NULL, { "--output=x" }, "unknown flag --output=x; did you mean --out?" },
        { NULL, { "--epochs", "3" }, "did you mean --steps (counted in optimizer steps)?" },
        { NULL, { "--max_steps", "3" }, "did you mean --steps?" },
        { NULL, { "--LR", "3" }, "did you mean --learning-rate?" },
        { NULL, { "--model", "" }, "--model: is empty (an unset variable?); give DIR, or leave" },
        { NULL, { "--out=", "x" }, "--out: is empty" },
        { NULL, { "" }, "is empty" },
        { NULL, { "--data", "" }, "--data: is empty" },
        { "{\"out\":\"\"}", { NULL }, "key \"out\": is empty" },
        { "{\"data\":[\"x\",\"\"]}", { NULL }, "key \"data\": is empty" },
        { "{\"lr\":1}", { NULL }, "unknown key \"lr\"; did you mean learning_rate?" },
        { "{\"num_train_epochs\":1}",
          { NULL },
          "did you mean steps (counted in optimizer steps)?" },
        { NULL, { "--stesp", "3" }, "unknown flag --stesp; did you mean --steps?" },
        { NULL, { "--step=3" }, "unknown flag --step=3; did you mean --steps?" },
        { NULL, { "--learning_rate=1" }, "did you mean --learning-rate?" },
        { NULL, { "--learn" }, "did you mean --learning-rate?" },
        { NULL, { "--qqqqqqqq" }, "unknown flag --qqqqqqqq (retort train --help" },
        { NULL, { "-x" }, "unknown flag -x" },
        { NULL, { "--steps" }, "--steps needs a value: --steps N" },
        { NULL, { "--steps", "--fresh" }, "--steps needs a value" },
        { NULL, { "--steps", "many" }, "--steps: \"many\" is not an integer" },
        { NULL, { "--steps", "1.5" }, "--steps: \"1.5\" is not an integer" },
        { NULL, { "--steps", "" }, "is not an integer" },
        { NULL, { "--steps", "99999999999999999999" }, "is out of bounds" },
        { NULL, { "--steps", "0" }, "--steps: 0 is out of bounds, it must be from 1 to 1000000" },
        { NULL, { "--seed", "18446744073709551616" }, "from 0 to 18446744073709551615" },
        { NULL, { "--seed", "-1" }, "is not an integer from 0 to" },
        { NULL, { "--seed", " 1" }, "is not an integer from 0 to" },
        { NULL, { "--learning-rate", "nan" }, "is not a number" },
        { NULL, { "--learning-rate", "1.01" }, "--learning-rate: 1.01 is out of bounds" },
        { NULL, { "--learning-rate", "1e-3x" }, "is not a number" },
        { NULL, { "--fresh=yes" }, "--fresh: \"yes\" is not true or false" },
        { NULL, { "--no-steps" }, "--no-steps: --steps takes a value" },
        { NULL, { "--no-fresh=1" }, "unknown flag --no-fresh=1" },
        { NULL,
          { "--target", "buckt" },
          "\"buckt\" is not one of drawn|bucket|renorm|reverse; did "
          "you mean bucket?" },
        { "{\"stpes\":1}", { NULL }, "unknown key \"stpes\"; did you mean steps?" },
        { "{\"learning-rate\":1}", { NULL }, "did you mean learning_rate?" },
        { "{\"steps\":0}",
          { NULL },
          "recipe section \"train\": key \"steps\": 0 is out of bounds" },
        { "{\"steps\":1.5}", { NULL }, "\"1.5\" is not an integer" },
        { "{\"steps\":\"x\"}", { NULL }, "\"x\" is not an integer" },
        { "{\"steps\":true}", { NULL }, "must be an integer" },
        { "{\"learning_rate\":\"0.1\"}", { NULL }, "must be a number" },
        { "{\"fresh\":1}", { NULL }, "must be true or false" },
        { "{\"model\":3}", { NULL }, "must be a string" },
        { "{\"data\":[1]}", { NULL }, "every item must be a string" },
        { "{\"data\":{}}", { NULL }, "must be a string or an array of strings" },
        { "[]", { NULL }, "must be an object" },
    };
    for (int i = 0; i < RT_COUNT(ROWS); i++) {
        values v;
        rt_err err;
        char *words[4] = { ROWS[i].word[0], ROWS[i].word[1], ROWS[i].word[2], NULL };
        ck_assert_msg(parse(&v, ROWS[i].section, words, &err) == -1, "row %d was accepted", i);
        ck_assert_msg(strstr(err.text, ROWS[i].says) != NULL, "row %d: %s", i, err.text);
        rt_options_free(&TRAIN, &v);
    }
}
END_TEST

START_TEST(positional_words)
{
    static const rt_option rows[] = { OPT_NEED(values, model, "path", "PATH",
                                                "what to look at", RT_OPT_INPUT) };
    rt_command cmd = { .name = "inspect",
                       .help = "look",
                       .options = rows,
                       .n_options = 1,
                       .struct_bytes = sizeof(values),
                       .positional = "path",
                       .run = run_nothing };
    values v;
    rt_err err = { 0 };
    bool help;
    ck_assert_int_eq(rt_options_parse(&cmd, &v, NULL, 1, WORDS("p"), &help, &err), 0);
    ck_assert_str_eq(v.model, "p");
    rt_options_free(&cmd, &v);
    ck_assert_int_eq(rt_options_parse(&cmd, &v, NULL, 2, WORDS("p", "q"), &help, &err), -1);
    ck_assert_msg(strstr(err.text, "unexpected word \"q\"") != NULL, "%s", err.text);
    rt_options_free(&cmd, &v);
    cmd.positional = NULL;
    ck_assert_int_eq(rt_options_parse(&cmd, &v, NULL, 1, WORDS("p"), &help, &err), -1);
    rt_options_free(&cmd, &v);
}
END_TEST

START_TEST(round_trip)
{
    values v, w;
    rt_err err;
    rt_origin origin[RT_COUNT(OPTIONS)];
    bool help;
    char **words = WORDS("--model", "a \"b\"", "--seed=18446744073709551615", "--learning-rate",
                         "0.1", "--data", "x", "--data", "y", "--fresh");
    ck_assert_int_eq(rt_options_parse_origins(&TRAIN, &v, NULL, 10, words, origin, &help, &err), 0);
    ck_assert(origin[0] == RT_FROM_FLAG && origin[2] == RT_FROM_DEFAULT);
    cJSON *json = rt_options_json(&TRAIN, &v);
    ck_assert_int_eq(rt_options_parse_origins(&TRAIN, &w, json, 0, NULL, origin, &help, &err), 0);
    ck_assert(origin[0] == RT_FROM_RECIPE && origin[2] == RT_FROM_DEFAULT); // null: not given
    ck_assert(w.seed == UINT64_MAX && w.lr == v.lr && w.fresh && w.data.n == 2 && !w.out);
    cJSON *again = rt_options_json(&TRAIN, &w);
    ck_assert(cJSON_Compare(json, again, true));
    cJSON_Delete(json);
    cJSON_Delete(again);
    rt_options_free(&TRAIN, &v);
    rt_options_free(&TRAIN, &w);
}
END_TEST

START_TEST(bytes)
{
    static const rt_option rows[] = { OPT_BYTES(values, steps, "memory", "0", 0, 1e15, "h") };
    rt_command cmd = { .name = "c",
                       .help = "h",
                       .options = rows,
                       .n_options = 1,
                       .struct_bytes = sizeof(values),
                       .run = run_nothing };
    static const struct {
        const char *word;
        int64_t bytes; /* -1: refused */
    } ROWS[] = { { "0", 0 },           { "2147483648", 2147483648 },
                 { "2G", 2147483648 }, { "512M", 512 << 20 },
                 { "1.5k", 1536 },     { "1T", (int64_t)1 << 40 },
                 { "2GB", -1 },        { "2X", -1 },
                 { "-1", -1 },         { "G", -1 },
                 { "1e3", -1 },        { "0x10", -1 },
                 { "inf", -1 },        { "2000T", -1 },
                 { " 2G", -1 },        { "", -1 } };
    for (int i = 0; i < RT_COUNT(ROWS); i++) {
        values v;
        rt_err err;
        bool help;
        char *words[] = { "--memory", (char *)(uintptr_t)ROWS[i].word };
        int bad = rt_options_parse(&cmd, &v, NULL, 2, words, &help, &err);
        ck_assert_msg(bad == (ROWS[i].bytes < 0 ? -1 : 0), "%s: %s", ROWS[i].word,
                      bad ? err.text : "accepted");
        ck_assert(bad || v.steps == ROWS[i].bytes);
        rt_options_free(&cmd, &v);
    }
}
END_TEST

START_TEST(suggestions)
{
    const char *const names[] = { "train", "sample", "score", "archive", "quantize", "eval" };
    const struct {
        const char *word, *near;
    } ROWS[] = {
        { "trian", "train" },
        { "rtian", "train" },
        { "Train", "train" },
        { "quant", "quantize" },
        { "quantise", "quantize" },
        { "scroe", "score" },
        { "evl", "eval" },
        { "archiv", "archive" },
        { "zzz", NULL },
        { "", NULL },
        { "t", NULL },
        { "samples", "sample" },
        { "fwd", NULL },
    };
    for (int i = 0; i < RT_COUNT(ROWS); i++) {
        const char *near = rt_nearest(ROWS[i].word, names, RT_COUNT(names));
        ck_assert_msg(near == ROWS[i].near || (near && ROWS[i].near && !strcmp(near, ROWS[i].near)),
                      "%s -> %s", ROWS[i].word, near ? near : "nothing");
    }
}
END_TEST

START_TEST(broken_tables)
{
    rt_err err;
    ck_assert_int_eq(rt_options_check(&TRAIN, &err), 0);
    const struct {
        rt_option row;
        const char *says;
    } ROWS[] = {
        { OPT_INT(values, steps, "a", "0", 1, 9, "h"), "out of bounds" },
        { OPT_INT(values, steps, "a", "x", 1, 9, "h"), "not an integer" },
        { OPT_INT(values, steps, "a", NULL, 1, 9, "h"), "a default" },
        { OPT_INT(values, steps, "a", "1", 9, 1, "h"), "min <= max" },
        { OPT_BOOL(values, shuffle, "a", "yes", "h"), "not true or false" },
        { OPT_CHOICE(values, out, "a", "z", "x|y", "h"), "not one of" },
        { OPT_BOOL(values, shuffle, "a", "true", ""), "no help" },
        { OPT_BOOL(values, shuffle, "fresh", "true", "h"), "occurs twice" },
        { OPT_BOOL(values, shuffle, "help", "true", "h"), "reserved" },
        { OPT_BOOL(values, shuffle, "no-way", "true", "h"), "reserved" },
        { OPT_BOOL(values, shuffle, "A_b", "true", "h"), "no name" },
        { OPT_BOOL(values, fresh, "a", "true", "h"), "share a field" },
        { { .name = "a", .kind = RT_OPT_STR, .offset = sizeof(values), .help = "h" }, "outside" },
        { { .name = "a",
            .kind = RT_OPT_STR,
            .offset = 32,
            .def = "x",
            .required = true,
            .help = "h" },
          "required and has a default" },
        { OPT_STR(values, out, "a", NULL, "DIR", "h"), "needs the role" },
        { OPT_INT(values, steps, "a", "0", 0, 9, "h", RT_OPT_INPUT), "cannot be a path" },
    };
    for (int i = 0; i < RT_COUNT(ROWS); i++) {
        rt_option rows[2] = { OPT_BOOL(values, fresh, "fresh", "false", "start again"),
                              ROWS[i].row };
        rt_command cmd = { .name = "c",
                           .help = "h",
                           .options = rows,
                           .n_options = 2,
                           .struct_bytes = sizeof(values),
                           .run = run_nothing };
        ck_assert_msg(rt_options_check(&cmd, &err) == -1, "row %d is sound", i);
        ck_assert_msg(strstr(err.text, ROWS[i].says) != NULL, "row %d: %s", i, err.text);
    }
    rt_command cmd = { .name = "c",
                       .help = "h",
                       .options = OPTIONS,
                       .n_options = RT_COUNT(OPTIONS),
                       .struct_bytes = sizeof(values),
                       .positional = "nope",
                       .run = run_nothing };
    ck_assert_int_eq(rt_options_check(&cmd, &err), -1);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { precedence, 1 },       { spellings, 1 },  { mistakes, 1 },
                                 { positional_words, 1 }, { round_trip, 1 }, { suggestions, 1 },
                                 { broken_tables, 1 },    { bytes, 1 } };
    return suite_run("option", NULL, tests, RT_COUNT(tests));
}
