/* option.h: ONE table per command gives its flags, recipe keys, defaults, bounds, help,
   --print-recipe and the copy stored in every output. default < recipe < flag.
   Flag --learning-rate is recipe key "learning_rate" in the section named after the command.
   An unknown key or flag is an error that suggests the nearest name. In a recipe a key that starts
   with "//" is a comment and null means "not given"; a list given by flags replaces the recipe's. */
#ifndef RT_OPTION_H
#define RT_OPTION_H

#include "core/base/err.h"
#include "core/base/json.h"
#include "core/base/suggest.h"

RT_BEGIN

typedef enum rt_opt_kind {
    RT_OPT_BOOL,  /* bool field; flag alone means true, --no-NAME false */
    RT_OPT_INT,   /* int64_t field */
    RT_OPT_FLOAT, /* double field */
    RT_OPT_STR,   /* char * field, malloc'd or NULL; choices (if any) separated by '|' */
    RT_OPT_LIST,  /* rt_strlist field; flag may repeat; recipe takes an array or a string */
    RT_OPT_BYTES, /* int64_t field: bytes, or "1.5G" with K, M, G or T of 1024 each */
    RT_OPT_SEED,  /* uint64_t field, every value of it */
} rt_opt_kind;

/* What an option means for the result, the bytes that a command leaves. Skipping and resuming
   depend on it: values of RESULT and contents of INPUT are the identity of a piece of work. */
typedef enum rt_opt_role {
    RT_OPT_RESULT,      /* its value changes the result; what a row without a mark is */
    RT_OPT_INPUT,       /* a path that is read: its content changes the result, its spelling not */
    RT_OPT_INPUT_NAMED, /* the same, and the path's last name stands in the result too */
    RT_OPT_INPUT_WORDS, /* words, some of them paths: the words count, and the content of paths */
    RT_OPT_MEASURE,     /* a path that is read only to report on it */
    RT_OPT_OUTPUT,      /* a path that is written */
    RT_OPT_FREE,        /* how fast, how often, how it is told: never the bytes */
} rt_opt_role;

struct rt_needs;

typedef struct rt_strlist { char **item; int n; } rt_strlist;

typedef struct rt_option {
    const char *name;     /* flag spelling, words joined by '-' */
    rt_opt_kind kind;
    size_t offset;        /* of the field in the command's struct */
    const char *def;      /* default as text; NULL = none (required when required is set) */
    double min, max;      /* bounds for numbers */
    const char *choices;  /* "a|b|c" for STR, else NULL */
    const char *arg;      /* "DIR", "FILE", "N" in help; only a "TEXT" may be empty */
    bool required;
    const char *help;     /* one line */
    rt_opt_role role;
    bool open;            /* choices are what is offered; the command reads other words too */
} rt_option;

/* Row macros check that the field has the type its kind needs. `S` is the command's struct. After
   the help may follow the role, which is RT_OPT_RESULT when left out, or .open = true. */
#define RT_OPT_FIELD(S, f, T) \
    (offsetof(S, f) + 0 * sizeof(char[(sizeof(((S *)0)->f) == sizeof(T)) ? 1 : -1]))
#define RT_OPT_ROW(S, f, T, k, n, d, low, high, of, a, need, ...) \
    { .name = n, .kind = k, .offset = RT_OPT_FIELD(S, f, T), .def = d, .min = low, .max = high, \
      .choices = of, .arg = a, .required = need, .help = __VA_ARGS__ }
#define OPT_BOOL(S, f, name, def, ...) \
    RT_OPT_ROW(S, f, bool, RT_OPT_BOOL, name, def, 0, 1, NULL, NULL, false, __VA_ARGS__)
#define OPT_INT(S, f, name, def, min, max, ...) \
    RT_OPT_ROW(S, f, int64_t, RT_OPT_INT, name, def, min, max, NULL, "N", false, __VA_ARGS__)
#define OPT_BYTES(S, f, name, def, min, max, ...)                                                  \
    RT_OPT_ROW(S, f, int64_t, RT_OPT_BYTES, name, def, min, max, NULL, "BYTES", false, __VA_ARGS__)
#define OPT_SEED(S, f, ...)                                                                        \
    RT_OPT_ROW(S, f, uint64_t, RT_OPT_SEED, "seed", "0", 0, 0x1p64, NULL, "N", false, __VA_ARGS__)
#define OPT_FLOAT(S, f, name, def, min, max, ...) \
    RT_OPT_ROW(S, f, double, RT_OPT_FLOAT, name, def, min, max, NULL, "X", false, __VA_ARGS__)
#define OPT_STR(S, f, name, def, arg, ...) \
    RT_OPT_ROW(S, f, char *, RT_OPT_STR, name, def, 0, 0, NULL, arg, false, __VA_ARGS__)
#define OPT_NEED(S, f, name, arg, ...) \
    RT_OPT_ROW(S, f, char *, RT_OPT_STR, name, NULL, 0, 0, NULL, arg, true, __VA_ARGS__)
#define OPT_CHOICE(S, f, name, def, choices, ...) \
    RT_OPT_ROW(S, f, char *, RT_OPT_STR, name, def, 0, 0, choices, choices, false, __VA_ARGS__)
#define OPT_LIST(S, f, name, arg, ...) \
    RT_OPT_ROW(S, f, rt_strlist, RT_OPT_LIST, name, NULL, 0, 0, NULL, arg, false, __VA_ARGS__)
#define OPT_THREADS(S, f)                                                                          \
    OPT_INT(S, f, "threads", "0", 0, RT_THREADS_MAX, "CPU threads; 0 = all cores", RT_OPT_FREE)
/* Those of an rt_dev_choice (core/device/device.h). Devices differ in their last bits. */
#define OPT_DEVICE(S, f)                                                                           \
    OPT_DEVICE_OF(S, f, "f32|bf16|fp8",                                                            \
                  "of a GPU's products, bf16 if none is named; fp8: e4m3 in forward passes")
/* Of a command that only runs models. */
#define OPT_DEVICE_FORWARD(S, f)                                                                   \
    OPT_DEVICE_OF(S, f, "exact|int8|f32|bf16|fp8",                                                 \
                  "of products: exact, or int8 (faster with weights of 4 to 8 bits), on a CPU; "   \
                  "bf16, f32 or fp8 on a GPU; the first if none is named")
#define OPT_DEVICE_OF(S, f, precisions, about)                                                     \
    OPT_STR(S, f.name, "device", NULL, "NAME", "cpu, cuda, or cuda:N for the GPU number N"),       \
        OPT_THREADS(S, f.threads),                                                                 \
        OPT_CHOICE(S, f.precision, "precision", NULL, precisions, about),                          \
        OPT_BYTES(S, f.memory, "gpu-memory", "0", 0, 1e15,                                         \
                  "take no more of the GPU's memory than this (20G); 0 = all that is free",        \
                  RT_OPT_FREE)
#define OPT_NEED_LIST(S, f, name, arg, ...) \
    RT_OPT_ROW(S, f, rt_strlist, RT_OPT_LIST, name, NULL, 0, 0, NULL, arg, true, __VA_ARGS__)

/* A command. run() gets its filled struct; argv words that are not flags are an error unless
   positional names them. A name "./NAME" is a program of its own, not a command of retort. */
typedef struct rt_command {
    const char *name, *help;      /* help: one line for `retort help` */
    const rt_option *options;
    int n_options;
    size_t struct_bytes;          /* of the options struct; zeroed before defaults are set */
    const char *positional;       /* option name that bare words fill, or NULL */
    const char *verbs;            /* the first of these words is one of "a|b|c"; NULL = any */
    int (*run)(void *options, rt_err *err);
    /* Fills in what was left to the environment or to other options, before options are run or are
       an identity; or NULL. */
    void (*settle)(void *options);
    /* What run would take (needs.h), for the option "plan"; NULL = the command has no plan. */
    int (*plan)(void *options, struct rt_needs *plan, rt_err *err);
    /* A cut run is taken up when a file whose name begins so stands in its output; NULL = it begins
       anew, without what it left. */
    const char *resumes;
    const char *group;            /* the heading of `retort help` it stands under */
    const char *example;          /* a command line as one would type it */
} rt_command;

/* Fill *values (zeroed here) from defaults, then recipe section (may be NULL), then argv.
   argv excludes program and command names. --help is reported through *help and ends the parse.
   Call rt_options_free(cmd, values) in every case, also after an error. */
int rt_options_parse(const rt_command *cmd, void *values, const cJSON *section, int argc, char **argv,
                     bool *help, rt_err *err);

/* The same, and where each value came from: origin[n_options], may be NULL. */
typedef enum rt_origin { RT_FROM_DEFAULT, RT_FROM_RECIPE, RT_FROM_FLAG } rt_origin;
int rt_options_parse_origins(const rt_command *cmd, void *values, const cJSON *section, int argc,
                             char **argv, rt_origin *origin, bool *help, rt_err *err);
/* Whether its value is that of the table, which nobody had to give. */
bool rt_option_is_default(const rt_option *o, const void *values);
/* The option called name (a flag's spelling without "--"), or NULL. */
const rt_option *rt_option_find(const rt_command *cmd, const char *name);
/* A table is sound: names unique and well spelled, help present, defaults parse within bounds and
   choices, fields inside the struct, no two rows on one field. For tests. */
int rt_options_check(const rt_command *cmd, rt_err *err);
void rt_options_free(const rt_command *cmd, void *values);
const char *rt_command_program(const rt_command *cmd); /* "retort ", or "" before "./NAME" */
/* Effective values as a recipe section; keys with '_' for '-'. cJSON_Delete it. */
cJSON *rt_options_json(const rt_command *cmd, const void *values);
/* Of these only the values that change the result (RT_OPT_RESULT). */
cJSON *rt_options_result(const rt_command *cmd, const void *values);
/* Path k (from 0) of an option that names paths, or NULL after the last. */
const char *rt_option_path(const rt_option *o, const void *values, int k);

RT_END

#endif
