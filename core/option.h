/* option.h: ONE table per command gives its flags, recipe keys, defaults, bounds, help,
   --print-recipe and the copy stored in every output. default < recipe < flag.
   Flag --learning-rate is recipe key "learning_rate" in the section named after the command.
   An unknown key or flag is an error that suggests the nearest name. In a recipe a key that starts
   with "//" is a comment and null means "not given"; a list given by flags replaces the recipe's. */
#ifndef RT_OPTION_H
#define RT_OPTION_H

#include "core/err.h"
#include "core/json.h"
#include "core/suggest.h"

RT_BEGIN

typedef enum rt_opt_kind {
    RT_OPT_BOOL,   /* bool field; flag alone means true, --no-NAME false */
    RT_OPT_INT,    /* int64_t field */
    RT_OPT_FLOAT,  /* double field */
    RT_OPT_STR,    /* char * field, malloc'd or NULL; choices (if any) separated by '|' */
    RT_OPT_LIST,   /* rt_strlist field; flag may repeat; recipe takes an array or a string */
} rt_opt_kind;

struct rt_needs;

typedef struct rt_strlist { char **item; int n; } rt_strlist;

typedef struct rt_option {
    const char *name;     /* flag spelling, words joined by '-' */
    rt_opt_kind kind;
    size_t offset;        /* of the field in the command's struct */
    const char *def;      /* default as text; NULL = none (required when required is set) */
    double min, max;      /* bounds for INT and FLOAT */
    const char *choices;  /* "a|b|c" for STR, else NULL */
    const char *arg;      /* "DIR", "FILE", "N" in help; only a "TEXT" may be empty */
    const char *help;     /* one line */
    bool required;
} rt_option;

/* Row macros check that the field has the type its kind needs. `S` is the command's struct. */
#define RT_OPT_FIELD(S, f, T) \
    (offsetof(S, f) + 0 * sizeof(char[(sizeof(((S *)0)->f) == sizeof(T)) ? 1 : -1]))
#define OPT_BOOL(S, f, name, def, help) \
    { name, RT_OPT_BOOL, RT_OPT_FIELD(S, f, bool), def, 0, 1, NULL, NULL, help, false }
#define OPT_INT(S, f, name, def, min, max, help) \
    { name, RT_OPT_INT, RT_OPT_FIELD(S, f, int64_t), def, min, max, NULL, "N", help, false }
#define OPT_FLOAT(S, f, name, def, min, max, help) \
    { name, RT_OPT_FLOAT, RT_OPT_FIELD(S, f, double), def, min, max, NULL, "X", help, false }
#define OPT_STR(S, f, name, def, arg, help) \
    { name, RT_OPT_STR, RT_OPT_FIELD(S, f, char *), def, 0, 0, NULL, arg, help, false }
#define OPT_NEED(S, f, name, arg, help) \
    { name, RT_OPT_STR, RT_OPT_FIELD(S, f, char *), NULL, 0, 0, NULL, arg, help, true }
#define OPT_CHOICE(S, f, name, def, choices, help) \
    { name, RT_OPT_STR, RT_OPT_FIELD(S, f, char *), def, 0, 0, choices, choices, help, false }
#define OPT_THREADS(S, f) \
    OPT_INT(S, f, "threads", "0", 0, 4096, "CPU threads; 0 = all cores")
#define OPT_LIST(S, f, name, arg, help) \
    { name, RT_OPT_LIST, RT_OPT_FIELD(S, f, rt_strlist), NULL, 0, 0, NULL, arg, help, false }
#define OPT_NEED_LIST(S, f, name, arg, help) \
    { name, RT_OPT_LIST, RT_OPT_FIELD(S, f, rt_strlist), NULL, 0, 0, NULL, arg, help, true }

/* A command. run() gets its filled struct; argv words that are not flags are an error unless
   positional names them. A name "./NAME" is a program of its own, not a command of retort. */
typedef struct rt_command {
    const char *name, *help;      /* help: one line for `retort help` */
    const rt_option *options;
    int n_options;
    size_t struct_bytes;          /* of the options struct; zeroed before defaults are set */
    const char *positional;       /* option name that bare words fill, or NULL */
    int (*run)(void *options, rt_err *err);
    /* What run would take (needs.h), for the option "plan"; NULL = the command has no plan. */
    int (*plan)(void *options, struct rt_needs *plan, rt_err *err);
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
/* The option called name (a flag's spelling without "--"), or NULL. */
const rt_option *rt_option_find(const rt_command *cmd, const char *name);
/* A table is sound: names unique and well spelled, help present, defaults parse within bounds and
   choices, fields inside the struct, no two rows on one field. For tests. */
int rt_options_check(const rt_command *cmd, rt_err *err);
void rt_options_free(const rt_command *cmd, void *values);
const char *rt_command_program(const rt_command *cmd); /* "retort ", or "" before "./NAME" */
/* Effective values as a recipe section; keys with '_' for '-'. cJSON_Delete it. */
cJSON *rt_options_json(const rt_command *cmd, const void *values);
RT_END

#endif
