#include "distill/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/formats/gguf.h"
#include "core/network/stored.h"
#include "distill/forecast.h"
#include "distill/recipe.h"
#include "distill/report.h"
#include "distill/stage.h"

#define O rt_run_options
const rt_option rt_run_table[RT_RUN_OPTIONS] = {
    OPT_NEED(O, recipe, "file", "RECIPE.json", "the recipe; a bare word will do", RT_OPT_INPUT),
    OPT_STR(O, out, "out", NULL, "DIR", "run folder; default is the recipe's run.out",
            RT_OPT_OUTPUT),
    OPT_LIST(O, set, "set", "STAGE.KEY=VALUE", "change one value of the recipe"),
    OPT_BOOL(O, fresh, "fresh", "false", "move what an earlier run left to old/ and start over",
             RT_OPT_FREE),
    OPT_BOOL(O, plan, "plan", "false", "print memory and disk of each stage by name, and stop",
             RT_OPT_FREE),
    OPT_BOOL(O, dry_run, "dry-run", "false",
             "say for each stage whether it would run and why, and stop; writes nothing",
             RT_OPT_FREE),
    OPT_BOOL(O, status, "status", "false", "say what each stage has left, and stop; reads little",
             RT_OPT_FREE),
    OPT_BOOL(O, json, "json", "false", "report, plan, dry run or status as JSON", RT_OPT_FREE),
};
#undef O

typedef struct runner {
    const rt_run_options *o;
    rt_recipe recipe;
    rt_work_of *work;   /* (n) */
    rt_forecast *plans; /* (n) */
    int lock;
} runner;

/* ---- before anything is written ---- */

/* An earlier stage that is not done, and whose output this one reads; -1 = none. described: whether
   its plan says what it will leave. */
static int waits_for(const runner *x, int at, bool *described)
{
    const rt_stage *s = &x->recipe.stage[at];
    int found = -1;
    *described = true;
    for (int i = 0; i < s->command->n_options; i++) {
        const rt_option *o = &s->command->options[i];
        const char *path;
        for (int k = 0; (path = rt_option_path(o, s->values, k)); k++) {
            bool exact = false;
            int w = o->role == RT_OPT_OUTPUT ? -1 : rt_recipe_writer(&x->recipe, at, path, &exact);
            if (w < 0 || x->work[w].state == RT_STAGE_DONE)
                continue;
            found = w;
            *described = *described && exact && x->plans[w].needs.output.path;
        }
    }
    return found;
}

/* Weights that the command's plan does not look at: their headers, which say whether they are
   whole. A tokenizer's directory may hold any. */
static int check_weights(const rt_option *o, const char *path, rt_err *err)
{
    static const char *const NAMES[] = { "model.safetensors", "model.safetensors.index.json" };
    bool any = false;
    rt_store store;
    if (!strcmp(o->name, "tokenizer") || (o->role != RT_OPT_INPUT && o->role != RT_OPT_INPUT_NAMED))
        return 0;
    if (!rt_path_is_dir(path))
        any = rt_gguf_is(path);
    for (int i = 0; i < RT_COUNT(NAMES) && rt_path_is_dir(path); i++) {
        char *file = rt_path_join(path, NAMES[i]);
        any = any || rt_path_exists(file);
        free(file);
    }
    if (!any)
        return 0;
    if (rt_store_open(&store, path, err))
        return -1;
    rt_store_close(&store);
    return 0;
}

/* Every path that is read is there, or an earlier stage writes it. */
static int check_inputs(const runner *x, int at, rt_err *err)
{
    const rt_stage *s = &x->recipe.stage[at];
    for (int i = 0; i < s->command->n_options; i++) {
        const rt_option *o = &s->command->options[i];
        const char *path;
        for (int k = 0; (path = rt_option_path(o, s->values, k)); k++) {
            if (o->role == RT_OPT_OUTPUT || o->role == RT_OPT_INPUT_WORDS || strstr(path, "://") ||
                rt_recipe_writer(&x->recipe, at, path, NULL) >= 0)
                continue;
            if (!rt_path_exists(path))
                return rt_fail(
                    err, "stage %s: \"%s\": %s does not exist, and no earlier stage writes it",
                    s->name, o->name, path);
            if (check_weights(o, path, err))
                return rt_wrap(err, "stage %s", s->name);
        }
    }
    return 0;
}

/* The command's own plan reads what its run will read, and refuses what that would refuse. */
static int plan_stage(runner *x, int at, rt_err *err)
{
    const rt_stage *s = &x->recipe.stage[at];
    rt_forecast *f = &x->plans[at];
    bool described;
    int writer = waits_for(x, at, &described);
    f->needs.before = at ? &x->plans[at - 1].needs : NULL;
    if (writer >= 0 && !described) {
        snprintf(f->why, sizeof f->why, "known once stage %s has run",
                 x->recipe.stage[writer].name);
        return 0;
    }
    if (!s->command->plan) {
        snprintf(f->why, sizeof f->why, "the command has no plan");
        return 0;
    }
    rt_log_level level = rt_log_get_level();
    rt_log_set_level(RT_LOG_SILENT); /* it says the same again when it runs */
    int bad = s->command->plan(s->values, &f->needs, err);
    rt_log_set_level(level);
    f->needs.output.anew = x->work[at].state != RT_STAGE_DONE;
    f->planned = !bad;
    return bad ? rt_wrap(err, "stage %s", s->name) : 0;
}

/* States of all stages; a stage behind one that will run waits for it. */
static int judge_stages(runner *x, rt_identity_use use, rt_err *err)
{
    for (int i = 0; i < x->recipe.n; i++) {
        rt_work_of *w = &x->work[i];
        bool fresh = x->o->fresh && !x->o->status, described;
        if (rt_work_open(w, &x->recipe, i, fresh, err))
            return -1;
        int writer = waits_for(x, i, &described);
        if (writer >= 0) {
            w->state = RT_STAGE_WAITS;
            snprintf(w->why, sizeof w->why, "stage %s comes first", x->recipe.stage[writer].name);
        } else if (rt_work_judge(w, use, fresh, err)) {
            return -1;
        }
    }
    return 0;
}

static int check_stages(runner *x, rt_err *err)
{
    for (int i = 0; i < x->recipe.n; i++) {
        rt_stage_state state = x->work[i].state;
        if (state != RT_STAGE_DONE && state != RT_STAGE_KEPT &&
            (check_inputs(x, i, err) || plan_stage(x, i, err)))
            return -1;
    }
    return 0;
}

/* ---- running ---- */

/* stdout is the report's: a stage's own goes to stderr, or nowhere when that is to be quiet. */
static int run_aside(const rt_command *command, void *values, rt_err *err)
{
    bool quiet = rt_log_get_level() < RT_LOG_NORMAL;
    fflush(stdout);
    int own = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    int to = quiet ? open("/dev/null", O_WRONLY | O_CLOEXEC) : STDERR_FILENO;
    int bad = own < 0 || to < 0 || dup2(to, STDOUT_FILENO) < 0
                  ? rt_fail(err, "stdout: cannot be set aside: %s", rt_errno_text(errno))
                  : 0;
    if (!bad) {
        bad = command->run(values, err);
        fflush(stdout);
        if (dup2(own, STDOUT_FILENO) < 0 && !bad)
            bad = rt_fail(err, "stdout: cannot be restored: %s", rt_errno_text(errno));
    }
    if (quiet && to >= 0)
        close(to);
    if (own >= 0)
        close(own);
    return bad;
}

static int do_stage(rt_work_of *w, const char *label, rt_err *err)
{
    char took[32], moved[512];
    const rt_stage *s = w->stage;
    rt_stage_state state = w->state;
    if (rt_work_begin(w, moved, sizeof moved, err))
        return rt_wrap(err, "stage %s", s->name);
    if (moved[0])
        rt_info("%s: what was there is now in %s (%s)", label, moved, w->why);
    if (state == RT_STAGE_KEPT) {
        rt_info("%s: taken back from %s: same settings, same inputs", label, w->kept);
        bool done = rt_work_finished(w);
        if (rt_work_take_back(w, err))
            return rt_wrap(err, "stage %s", s->name);
        if (done)
            return rt_work_finish(w, 0, 0, err);
        state = RT_STAGE_CUT;
    }
    rt_info("%s: retort %s%s", label, s->command->name,
            state == RT_STAGE_CUT ? " (taking it up where it stopped)" : "");
    double start = rt_now();
    bool counted = rt_peak_rss_reset();
    if (run_aside(s->command, s->values, err))
        return moved[0] ? rt_wrap(err, "stage %s (what it was to replace is in %s)", s->name, moved)
                        : rt_wrap(err, "stage %s", s->name);
    double seconds = rt_now() - start;
    rt_info("%s: done in %s", label, rt_fmt_seconds(took, sizeof took, seconds));
    int64_t peak = counted ? rt_peak_rss_bytes() : 0;
    return rt_work_finish(w, seconds, peak, err) ? rt_wrap(err, "stage %s", s->name) : 0;
}

static int run_stages(runner *x, rt_err *err)
{
    char label[96];
    for (int i = 0; i < x->recipe.n; i++) {
        rt_work_of *w = &x->work[i];
        snprintf(label, sizeof label, "[%d/%d] %s", i + 1, x->recipe.n, w->stage->name);
        if (w->state == RT_STAGE_WAITS && rt_work_judge(w, RT_IDENTITY_CACHED, x->o->fresh, err))
            return -1;
        if (w->state == RT_STAGE_DONE)
            rt_info("%s: nothing has changed%s%s%s", label, w->gone ? " (" : "",
                    w->gone ? w->gone : "", w->gone ? " is gone; its result stays)" : "");
        if (w->state == RT_STAGE_DONE ? rt_work_finish(w, 0, 0, err) : do_stage(w, label, err))
            return -1;
        if (rt_interrupted() && i + 1 < x->recipe.n) {
            rt_fail(err, "interrupted after stage %s: run the same command again to go on",
                    w->stage->name);
            err->exit_code = 130;
            return -1;
        }
    }
    return 0;
}

static int lock_folder(runner *x, rt_err *err)
{
    if (x->lock >= 0)
        return 0;
    return rt_dir_lock(&x->lock, x->recipe.folder, err);
}

static int run_recipe(runner *x, rt_err *err)
{
    const rt_recipe *r = &x->recipe;
    char *stages = rt_path_join(r->folder, "stages");
    int bad = (rt_path_is_dir(r->folder) && lock_folder(x, err)) ||
              judge_stages(x, RT_IDENTITY_CACHED, err) || check_stages(x, err) ||
              rt_dir_make(stages, err) || lock_folder(x, err) || rt_dir_clean_temps(stages, err) ||
              rt_dir_clean_temps(r->folder, err) || run_stages(x, err);
    free(stages);
    if (bad || !rt_json_find(r->json, "report"))
        return bad ? -1 : 0;
    double *seconds = rt_alloc(r->n, (int64_t)sizeof *seconds, "seconds");
    for (int i = 0; i < r->n; i++)
        seconds[i] = rt_work_seconds(&x->work[i]);
    bad = rt_report(r, seconds, x->o->json, err);
    free(seconds);
    return bad;
}

/* ---- only looking ---- */

static int plan_recipe(runner *x, rt_err *err)
{
    int unplanned = 0;
    if (judge_stages(x, RT_IDENTITY_STAT, err))
        return -1;
    for (int i = 0; i < x->recipe.n; i++) {
        const rt_stage *s = &x->recipe.stage[i];
        rt_forecast *f = &x->plans[i];
        rt_err later = { 0 };
        f->name = s->name;
        f->command = s->command;
        f->done = x->work[i].state == RT_STAGE_DONE;
        f->seconds = f->done ? rt_work_seconds(&x->work[i]) : -1;
        if (check_inputs(x, i, &later) || plan_stage(x, i, &later))
            snprintf(f->why, sizeof f->why, "%s", later.text);
        rt_needs_time(&f->needs);
        unplanned += !f->planned;
    }
    rt_forecast_print(x->plans, x->recipe.n, x->o->json);
    return unplanned ? rt_fail(err, "%d of %d stages cannot be planned yet (see above)", unplanned,
                               x->recipe.n)
                     : 0;
}

static int show_dry_run(runner *x, rt_err *err)
{
    static const char *const WORDS[RT_STAGE_STATES] = { "runs",       "runs anew",  "goes on",
                                                        "taken back", "runs later", "done" };
    if (judge_stages(x, RT_IDENTITY_CACHED, err) || check_stages(x, err))
        return -1;
    cJSON *json = rt_json_object(), *list = rt_json_array();
    for (int i = 0; i < x->recipe.n; i++) {
        const rt_work_of *w = &x->work[i];
        cJSON *row = rt_work_json(w);
        rt_json_put_bool(row, "runs", w->state != RT_STAGE_DONE && w->state != RT_STAGE_KEPT);
        rt_json_put(list, NULL, row);
        if (!x->o->json)
            printf("%-24s %-12s %s\n", w->stage->name, WORDS[w->state],
                   w->state == RT_STAGE_DONE  ? "nothing has changed"
                   : w->state == RT_STAGE_NEW ? "it has not run yet"
                                              : w->why);
    }
    rt_json_put(json, "stages", list);
    if (x->o->json)
        rt_json_print(json);
    cJSON_Delete(json);
    return 0;
}

static void print_status(const rt_work_of *w, const cJSON *row, bool runs)
{
    char took[32], size[32];
    double seconds = rt_work_seconds(w);
    const cJSON *outputs = rt_json_find(row, "outputs"), *c = outputs->child;
    const cJSON *bytes = c ? rt_json_find(c, "bytes") : NULL;
    printf("%-24s %-6s %9s %10s  %s%s%s\n", w->stage->name,
           runs ? "runs" : rt_stage_state_name(w->state),
           seconds < 0 ? "-" : rt_fmt_seconds(took, sizeof took, seconds),
           bytes ? rt_fmt_bytes(size, sizeof size, (int64_t)bytes->valuedouble) : "-",
           c ? rt_json_find(c, "path")->valuestring : "", w->why[0] && !runs ? "  " : "",
           runs ? "" : w->why);
}

static int show_status(runner *x, rt_err *err)
{
    char size[32];
    if (judge_stages(x, RT_IDENTITY_STAT, err))
        return -1;
    cJSON *json = rt_json_object(), *list = rt_json_array();
    bool busy = rt_dir_locked(x->recipe.folder), runs;
    for (int i = 0; i < x->recipe.n; i++) {
        const rt_work_of *w = &x->work[i];
        cJSON *row = rt_work_json(w);
        runs = busy && w->state != RT_STAGE_DONE && w->state != RT_STAGE_KEPT;
        busy = busy && !runs; // of a run at work it is the first that is not done
        if (runs) {
            cJSON_DeleteItemFromObjectCaseSensitive(row, "state");
            rt_json_put_str(row, "state", "runs");
        }
        rt_json_put(list, NULL, row);
        if (!x->o->json)
            print_status(w, row, runs);
    }
    char *old = rt_path_join(x->recipe.folder, "old");
    rt_identity id = { 0 };
    rt_err none = { 0 };
    if (rt_path_is_dir(old))
        rt_identity_of(&id, old, RT_IDENTITY_STAT, NULL, &none);
    rt_json_put(json, "stages", list);
    rt_json_put_num(json, "old_bytes", (double)id.bytes);
    if (x->o->json)
        rt_json_print(json);
    else if (id.bytes)
        printf("%-24s %-6s %9s %10s  replaced earlier; yours to remove\n", old, "", "",
               rt_fmt_bytes(size, sizeof size, id.bytes));
    cJSON_Delete(json);
    free(old);
    return 0;
}

int rt_run(const rt_run_options *o, const rt_command *const *commands, int n, rt_err *err)
{
    runner x = { .o = o, .lock = -1 };
    if (o->plan + o->dry_run + o->status > 1)
        return rt_usage(err, "one of --plan, --dry-run and --status at a time");
    int bad = rt_recipe_open(&x.recipe, o->recipe, o->out, &o->set, commands, n, err);
    if (!bad) {
        x.work = rt_alloc(x.recipe.n, (int64_t)sizeof *x.work, "stages");
        x.plans = rt_alloc(x.recipe.n, (int64_t)sizeof *x.plans, "plans");
        bad = o->plan      ? plan_recipe(&x, err)
              : o->dry_run ? show_dry_run(&x, err)
              : o->status  ? show_status(&x, err)
                           : run_recipe(&x, err);
    }
    for (int i = 0; x.work && i < x.recipe.n; i++) {
        rt_work_close(&x.work[i]);
        rt_needs_free(&x.plans[i].needs);
    }
    free(x.work);
    free(x.plans);
    rt_recipe_close(&x.recipe);
    if (x.lock >= 0)
        close(x.lock);
    return bad ? -1 : 0;
}
