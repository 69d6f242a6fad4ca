/* output.h: where a command may write. Owns the rules that hold in every command:
     an output is no input, nor inside one, nor around one, by whatever spelling or link;
     a file that stands there must be of the same kind and retort's, and goes to old/ beside it when
     the new one differs; --overwrite replaces any;
     a directory is taken up by the work that made it; with --overwrite what another left in it is
     moved to old/ in it;
     all of this is looked at before any work, and the folders on the way are made.
   Refuses: recipes (distill/recipe.h looks at all stages at once), archives (they are taken up by
   their own manifest), removing anything. */
#ifndef RT_OUTPUT_H
#define RT_OUTPUT_H

#include "core/base/option.h"

RT_BEGIN

#define OPT_OVERWRITE(S, f)                                                                        \
    OPT_BOOL(S, f, "overwrite", "false", "replace what stands at --out", RT_OPT_FREE)

/* Every output of the table against every path that is read, and against the other outputs. */
int rt_output_apart(const rt_command *cmd, const void *values, rt_err *err);

typedef enum rt_output_kind {
    RT_OUTPUT_GGUF,    /* with the checksums of retort's */
    RT_OUTPUT_REPORT,  /* of eval: a JSON object with model, parameters and bytes */
    RT_OUTPUT_NPY,     /* has no place for a mark: any .npy */
    RT_OUTPUT_RECORDS, /* of archive export: lines with index and prompt_id */
    RT_OUTPUT_KLD,     /* has no place for a mark: any base file of llama-perplexity */
    RT_OUTPUT_NOTE,    /* text for people, a Modelfile or a card, that says it is retort's */
    RT_OUTPUT_KINDS
} rt_output_kind;

/* A file can be written at path: nothing stands there, or an empty file, or one of the kind that
   retort wrote; its folder is made when missing. path NULL is 0. */
int rt_output_file(const char *path, rt_output_kind kind, bool overwrite, rt_err *err);
/* Such a file, of JSON. */
int rt_output_json(const cJSON *json, const char *path, bool overwrite, rt_err *err);

typedef enum rt_output_state {
    RT_OUTPUT_FREE,  /* nothing of a model stands there */
    RT_OUTPUT_BEGUN, /* this very work was begun there: it is taken up */
    RT_OUTPUT_DONE,  /* and finished */
    RT_OUTPUT_OTHER  /* something else stands there, and overwrite was given */
} rt_output_state;

/* A directory that `command` fills with files of a model. identity: of the work, as text; NULL: any
   work of the command may replace another's. Looks only, and refuses what is not FREE, BEGUN or
   DONE without overwrite. */
int rt_output_look(rt_output_state *state, const char *dir, const char *command,
                   const char *identity, bool overwrite, rt_err *err);
/* The same, and then it is ours: made, locked (*lock, to be closed by the caller in any case), and
   begun unless DONE, in which case nothing was touched. */
int rt_output_take(rt_output_state *state, int *lock, const char *dir, const char *command,
                   const char *identity, bool overwrite, rt_err *err);
/* Under the directory's lock: OTHER is moved to old/ in it; FREE and OTHER become BEGUN by a
   retort.json that says so. */
int rt_output_begin(rt_output_state state, const char *dir, const char *command,
                    const char *identity, rt_err *err);
/* DONE: retort.json lists the files with their checksums. A command with more to say of its work
   writes it by rt_listing_write. */
int rt_output_finish(const char *dir, const char *command, const char *identity, rt_err *err);

RT_END

#endif
