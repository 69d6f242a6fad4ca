/* archive.c: the command `retort archive VERB ARCHIVE...`: list, show, verify, repair, merge,
   stats, export. A verb is one line of VERBS and one function; all they know is trace.h.
   Refuses: changing a sample, guessing which archive is meant. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/option.h"
#include "core/base/utf8.h"
#include "core/formats/output.h"
#include "corpora/archive/trace.h"

typedef struct archive_options {
    rt_strlist words;
    char *out, *verdict;
    int64_t rows;
    bool soft, json, overwrite;
} archive_options;

static const rt_option OPTIONS[] = {
    OPT_LIST(archive_options, words, "words", "VERB ARCHIVE...",
             "list, show ARCHIVE [ID], verify, repair, merge, stats or export, then archives",
             RT_OPT_INPUT_WORDS),
    OPT_STR(archive_options, out, "out", NULL, "PATH", "merge: the new archive; export: the file",
            RT_OPT_OUTPUT),
    OPT_STR(archive_options, verdict, "verdict", NULL, "V[,V]",
            "export: only these of correct, wrong, unverified, unfinished"),
    OPT_OVERWRITE(archive_options, overwrite),
    OPT_INT(archive_options, rows, "rows", "6", 0, 1 << 24, "show ID: soft rows to print"),
    OPT_BOOL(archive_options, soft, "soft", "false", "export: tokens and decoded soft rows too"),
    OPT_BOOL(archive_options, json, "json", "false", "report as JSON", RT_OPT_FREE),
};

static void print_json(cJSON *json)
{
    rt_json_print(json);
    cJSON_Delete(json);
}

// Texts of strangers on a terminal: control characters are shown, not obeyed.
static void print_text(const char *text)
{
    uint32_t c;
    for (int64_t n; *text; text += n) {
        n = rt_utf8_decode(text, (int64_t)strnlen(text, 4), &c);
        if (n && (!rt_utf8_is_control(c) || c == '\n' || c == '\t'))
            fwrite(text, 1, (size_t)n, stdout);
        else
            printf("\\x%02x", n ? (unsigned)c : (unsigned)(uint8_t)*text);
        n = n ? n : 1;
    }
}

static void print_part(const char *name, const char *text)
{
    fputs("\n[", stdout);
    print_text(name);
    fputs("]\n", stdout);
    print_text(text);
    putchar('\n');
}

// ---- a sample as JSON ----

static cJSON *pair(double a, double b)
{
    cJSON *list = rt_json_array();
    rt_json_put_num(list, NULL, a);
    rt_json_put_num(list, NULL, b);
    return list;
}

// {"head": [[id, logp]...], "draws": [[id, hits]...], ...}; null stands for -inf
static cJSON *row_json(const rt_soft *s, int64_t r, int temps)
{
    cJSON *row = rt_json_object(), *head = rt_json_array(), *draws = rt_json_array();
    for (int64_t i = s->offset[r]; i < s->offset[r + 1]; i++) {
        bool exact = i < s->offset[r] + s->head_n[r];
        rt_json_put(exact ? head : draws, NULL,
                    pair(s->id[i], exact ? (double)s->logp[i] : s->hits[i]));
    }
    rt_json_put(row, "head", head);
    rt_json_put(row, "draws", draws);
    rt_json_put_num(row, "tail_logmass", (double)s->tail_logmass[r]);
    rt_json_put_num(row, "entropy", (double)s->entropy[r]);
    rt_json_put_num(row, "taken_logp", (double)s->taken_logp[r]);
    cJSON *logz = rt_json_array();
    for (int t = 0; t < temps; t++)
        rt_json_put_num(logz, NULL, (double)s->logz[r * temps + t]);
    rt_json_put(row, "log_z", logz);
    return row;
}

// *json stays NULL for a part that the sample lacks.
static int parse_part(cJSON **json, const char *text, const char *what, rt_err *err)
{
    return text ? rt_json_parse(json, text, (int64_t)strlen(text), what, err) : 0;
}

// A record as corpora/record.h reads it: a text, or the conversation with the response at its end.
static cJSON *sample_json(const rt_trace_sample *s, bool soft, int temps, rt_err *err)
{
    cJSON *said = NULL, *tools = NULL, *json;
    if (parse_part(&said, s->messages, "messages", err) ||
        parse_part(&tools, s->tools, "tools", err)) {
        cJSON_Delete(said);
        return NULL;
    }
    json = rt_json_object();
    rt_json_put_i64(json, "index", s->index);
    rt_json_put_str(json, "id", s->id);
    rt_json_put_str(json, "prompt_id", s->prompt_id);
    if (*s->tag)
        rt_json_put_str(json, "tag", s->tag);
    if (cJSON_IsString(said)) {
        rt_json_put(json, "text", said);
        if (s->weight != 1)
            rt_json_put_num(json, "weight", s->weight);
    } else {
        cJSON *response = rt_json_object(), *messages = said ? said : rt_json_array();
        rt_json_put_str(response, "role", "assistant");
        rt_json_put_str(response, "content", s->answer);
        if (*s->reasoning)
            rt_json_put_str(response, "reasoning_content", s->reasoning);
        if (s->weight != 1)
            rt_json_put_num(response, "weight", s->weight);
        rt_json_put(messages, NULL, response);
        rt_json_put(json, "messages", messages);
    }
    if (tools)
        rt_json_put(json, "tools", tools);
    rt_json_put_str(json, "finish", s->finish);
    rt_json_put_str(json, "verdict", rt_verdict_name(s->verdict));
    rt_json_put_num(json, "reward", s->reward);
    rt_json_put_u64(json, "seed", s->seed);
    if (!soft)
        return json;
    cJSON *tokens = rt_json_array(), *spans = rt_json_array(), *rows = rt_json_array();
    for (int64_t i = 0; i < s->n_tokens; i++)
        rt_json_put(tokens, NULL, cJSON_CreateNumber(s->tokens[i]));
    for (int32_t i = 0; i < s->n_spans; i++)
        rt_json_put(spans, NULL, pair(s->spans[i].begin, s->spans[i].end));
    for (int64_t r = 0; r < s->soft.n; r++)
        rt_json_put(rows, NULL, row_json(&s->soft, r, temps));
    rt_json_put(json, "tokens", tokens);
    rt_json_put_i64(json, "prompt_tokens", s->prompt_tokens);
    rt_json_put(json, "spans", spans);
    if (s->span_weight) {
        cJSON *weights = rt_json_array();
        for (int32_t i = 0; i < s->n_spans; i++)
            rt_json_put_num(weights, NULL, (double)s->span_weight[i]);
        rt_json_put(json, "span_weights", weights);
    }
    rt_json_put_i64(json, "soft_first", s->soft_first);
    rt_json_put(json, "soft", rows);
    return json;
}

// ---- list ----

// all NULL: print it
static int list_archive(const char *path, cJSON *all, rt_err *err)
{
    rt_trace_reader *r;
    if (rt_trace_open_read(&r, path, err))
        return -1;
    const rt_trace_manifest *m = rt_trace_info(r);
    if (all) {
        cJSON *json = rt_json_object();
        rt_json_put_str(json, "path", path);
        rt_json_put_i64(json, "samples", rt_trace_count(r));
        rt_json_put_i64(json, "planned", m->planned);
        rt_json_put_bool(json, "complete", m->complete);
        rt_json_put_str(json, "mode", m->mode);
        rt_json_put_str(json, "teacher", m->teacher);
        rt_json_put(all, NULL, json);
    } else {
        char of[32] = "";
        if (m->planned > 0)
            snprintf(of, sizeof of, " of %lld", (long long)m->planned);
        printf("%s: %lld%s samples, %s, %s by %s\n", path, (long long)rt_trace_count(r), of,
               m->complete ? "complete" : "unfinished",
               strcmp(m->mode, "score") ? "sampled" : "scored", m->teacher);
    }
    rt_trace_reader_close(r);
    return 0;
}

// Archives named, or standing in a folder that is named.
static int list_one(const char *path, cJSON *all, rt_err *err)
{
    char **names;
    int n;
    if (!rt_path_is_dir(path) || rt_trace_is(path))
        return list_archive(path, all, err);
    if (rt_dir_list(&names, &n, path, err))
        return -1;
    int found = 0;
    for (int i = 0; i < n; i++) {
        size_t length = strlen(names[i]);
        if (length < 7 || strcmp(names[i] + length - 7, ".traces") != 0)
            continue;
        found++;
        char *inside = rt_path_join(path, names[i]);
        if (list_archive(inside, all, err))
            rt_warn("%s", err->text); // the others are still worth listing
        free(inside);
    }
    rt_names_free(names, n);
    return found ? 0 : rt_fail(err, "%s: no NAME.traces in it, and no archive itself", path);
}

static int run_list(const archive_options *o, char **path, int n, rt_err *err)
{
    cJSON *all = o->json ? rt_json_array() : NULL;
    int rc = 0;
    for (int i = 0; i < n && !rc; i++)
        rc = list_one(path[i], all, err);
    if (all && !rc)
        print_json(all);
    else
        cJSON_Delete(all);
    return rc;
}

// ---- show ----

static void print_messages(const char *text)
{
    cJSON *messages = NULL;
    rt_err ignored;
    if (!text || rt_json_parse(&messages, text, (int64_t)strlen(text), "messages", &ignored))
        return;
    for (const cJSON *m = messages->child; m; m = m->next) {
        const char *role = "?", *content = "";
        rt_json_opt_str(m, "role", &role, &ignored);
        rt_json_opt_str(m, "content", &content, &ignored);
        print_part(role, content);
    }
    if (cJSON_IsString(messages))
        print_part("text", messages->valuestring);
    cJSON_Delete(messages);
}

static void print_row(const rt_trace_sample *s, int64_t r)
{
    const rt_soft *q = &s->soft;
    int32_t taken = s->tokens[s->soft_first + r];
    printf("%6lld  token %-7d p %.4f  entropy %.3f  tail %.2e ", (long long)(s->soft_first + r),
           (int)taken, exp((double)q->taken_logp[r]), (double)q->entropy[r],
           exp((double)q->tail_logmass[r]));
    for (int64_t i = q->offset[r]; i < q->offset[r + 1]; i++)
        if (i < q->offset[r] + q->head_n[r])
            printf(" %d:%.3f", (int)q->id[i], exp((double)q->logp[i]));
        else
            printf(" %d x%d", (int)q->id[i], (int)q->hits[i]);
    printf("\n");
}

static void print_sample(const rt_trace_sample *s, int64_t rows)
{
    print_text(s->id);
    printf("  (plan index %lld, prompt ", (long long)s->index);
    print_text(s->prompt_id);
    printf(")\nverdict %s, reward %g, finish ", rt_verdict_name(s->verdict), s->reward);
    print_text(s->finish);
    printf(", seed %llu\n", (unsigned long long)s->seed);
    printf("%lld tokens, %d of them the prompt; %lld soft rows\n", (long long)s->n_tokens,
           (int)s->prompt_tokens, (long long)s->soft.n);
    if (*s->tag) {
        fputs("tag ", stdout);
        print_text(s->tag);
        putchar('\n');
    }
    for (int32_t i = 0; s->span_weight && i < s->n_spans; i++)
        printf("tokens %d to %d count %g\n", (int)s->spans[i].begin, (int)s->spans[i].end,
               (double)s->span_weight[i]);
    print_messages(s->messages);
    if (s->tools)
        print_part("tools", s->tools);
    if (*s->reasoning)
        print_part("reasoning", s->reasoning);
    if (*s->answer)
        print_part("answer", s->answer);
    if (rows > 0 && s->soft.n > 0)
        printf("\nposition, the token that followed, exact head id:p, drawn id xhits\n");
    for (int64_t r = 0; r < rt_min(rows, s->soft.n); r++)
        print_row(s, r);
}

static int show_sample(const archive_options *o, const rt_trace_reader *r, const char *id,
                       rt_err *err)
{
    int64_t i = rt_trace_find(r, id);
    if (i < 0)
        return rt_fail(err, "no sample %s in the archive; 'retort archive export' lists all", id);
    rt_trace_sample s;
    rt_trace_sample_init(&s);
    int rc = rt_trace_get(r, i, RT_TRACE_TEXT | RT_TRACE_SOFT, &s, err);
    cJSON *json = NULL;
    if (!rc && !o->json)
        print_sample(&s, o->rows);
    else if (!rc && !(json = sample_json(&s, true, rt_trace_info(r)->capture.n_temperatures, err)))
        rc = -1;
    if (json)
        print_json(json);
    rt_trace_sample_free(&s);
    return rc;
}

// The manifest is the description.
static int show_manifest(const char *archive, rt_err *err)
{
    char *path = rt_path_join(archive, "manifest.json"), *text;
    int64_t bytes;
    int rc = rt_file_read(&text, &bytes, path, RT_JSON_MAX_BYTES, err);
    if (!rc) {
        print_text(text);
        free(text);
    }
    free(path);
    return rc;
}

static int run_show(const archive_options *o, char **path, int n, rt_err *err)
{
    rt_trace_reader *r;
    if (n > 2)
        return rt_usage(err, "show: one archive and at most one id");
    if (rt_trace_open_read(&r, path[0], err))
        return -1;
    int rc = n == 2 ? show_sample(o, r, path[1], err) : show_manifest(path[0], err);
    rt_trace_reader_close(r);
    return rc;
}

// ---- verify, repair ----

typedef struct findings {
    const char *path;
    cJSON *list; // NULL: print them
    bool ids;    // ids to stdout, texts to stderr
} findings;

static void add_finding(void *ctx, const char *id, const char *text)
{
    findings *f = ctx;
    if (f->list) {
        cJSON *one = rt_json_object();
        rt_json_put_str(one, "id", id);
        rt_json_put_str(one, "text", text);
        rt_json_put(f->list, NULL, one);
    } else if (f->ids) {
        rt_info("%s%s%s", id ? id : "", id ? ": " : "", text);
        if (id) {
            print_text(id);
            putchar('\n');
        }
    } else {
        printf("%s: ", f->path);
        print_text(text);
        fputs(id ? " (" : "", stdout);
        print_text(id ? id : "");
        puts(id ? ")" : "");
    }
}

static int run_care(const archive_options *o, char **path, int n, rt_err *err)
{
    bool repair = strcmp(o->words.item[0], "repair") == 0;
    cJSON *all = rt_json_array();
    int64_t total = 0, found = 0;
    for (int i = 0; i < n && found >= 0; i++) {
        cJSON *one = rt_json_object();
        findings f = { path[i], o->json ? rt_json_array() : NULL, repair };
        found = (repair ? rt_trace_repair : rt_trace_verify)(path[i], add_finding, &f, err);
        total += found;
        rt_json_put_str(one, "path", path[i]);
        rt_json_put_i64(one, repair ? "lost" : "problems", found);
        if (o->json)
            rt_json_put(one, "findings", f.list);
        else if (repair && found >= 0)
            rt_info("%s: %lld samples lost; run the command that made it again to refill", path[i],
                    (long long)found);
        else if (found == 0)
            printf("%s: whole\n", path[i]);
        rt_json_put(all, NULL, one);
    }
    if (o->json && found >= 0)
        print_json(all);
    else
        cJSON_Delete(all);
    if (found >= 0 && !repair && total > 0)
        return rt_fail(err, "%lld problems; 'retort archive repair' keeps what is whole",
                       (long long)total);
    return found < 0 ? -1 : 0;
}

// ---- merge, stats ----

static int run_merge(const archive_options *o, char **path, int n, rt_err *err)
{
    if (!o->out)
        return rt_usage(err, "merge: name the new archive with --out");
    return rt_trace_merge(o->out, (const char *const *)path, n, err);
}

static int run_stats(const archive_options *o, char **path, int n, rt_err *err)
{
    rt_trace_reader *r;
    rt_trace_statistics s;
    if (n != 1)
        return rt_usage(err, "stats: one archive at a time");
    if (rt_trace_open_read(&r, path[0], err))
        return -1;
    int rc = rt_trace_stats(r, &s, err);
    rt_trace_reader_close(r);
    if (rc)
        return rt_wrap(err, "%s", path[0]);
    cJSON *json = rt_json_object();
    rt_trace_stats_put(json, &s);
    if (o->json) {
        print_json(json);
        return 0;
    }
    for (const cJSON *c = json->child; c; c = c->next) {
        if (!cJSON_IsObject(c))
            printf("%-20s %.6g\n", c->string, c->valuedouble);
        for (const cJSON *i = c->child; i; i = i->next)
            printf("%-13s %-6s %.6g\n", c->string, i->string, i->valuedouble);
    }
    cJSON_Delete(json);
    return 0;
}

// ---- export ----

static int export_sample(const archive_options *o, const rt_trace_sample *s, int temps, rt_out *out,
                         rt_err *err)
{
    cJSON *json = sample_json(s, o->soft, temps, err);
    if (!json)
        return -1;
    if (!o->out) {
        print_json(json);
        return 0;
    }
    char *text = rt_json_text(json);
    int rc = rt_out_printf(out, err, "%s\n", text);
    free(text);
    cJSON_Delete(json);
    return rc;
}

static int export_all(const archive_options *o, const rt_trace_reader *r, unsigned mask,
                      rt_out *out, rt_err *err)
{
    rt_trace_sample s;
    rt_trace_sample_init(&s);
    int rc = 0, parts = RT_TRACE_TEXT | (o->soft ? RT_TRACE_SOFT : 0);
    for (int64_t i = 0; !rc && i < rt_trace_count(r) && !rt_interrupted(); i++)
        if (mask & (1u << rt_trace_verdict(r, i)))
            rc = rt_trace_get(r, i, parts, &s, err) ||
                 export_sample(o, &s, rt_trace_info(r)->capture.n_temperatures, out, err);
    rt_trace_sample_free(&s);
    return rc ? -1 : 0;
}

static int run_export(const archive_options *o, char **path, int n, rt_err *err)
{
    rt_trace_reader *r;
    rt_out out = { 0 };
    unsigned mask = ~0u;
    if (n != 1)
        return rt_usage(err, "export: one archive at a time");
    if ((o->verdict && rt_verdict_mask(&mask, "--verdict", o->verdict, err)) ||
        rt_output_file(o->out, RT_OUTPUT_RECORDS, o->overwrite, err) ||
        rt_trace_open_read(&r, path[0], err))
        return -1;
    int rc = o->out ? rt_out_open(&out, o->out, err) : 0;
    bool opened = o->out && !rc;
    out.keep = !o->overwrite;
    rc = rc ? rc : export_all(o, r, mask, &out, err);
    if (opened && !rc && !rt_interrupted())
        rc = rt_out_commit(&out, err);
    else if (opened)
        rt_out_abort(&out);
    rt_trace_reader_close(r);
    return rc;
}

// ---- the command ----

#define EACH_VERB(X)                                                                               \
    X(list, run_list)                                                                              \
    X(show, run_show)                                                                              \
    X(verify, run_care)                                                                            \
    X(repair, run_care)                                                                            \
    X(merge, run_merge)                                                                            \
    X(stats, run_stats)                                                                            \
    X(export, run_export)

static const struct {
    const char *name;
    int (*run)(const archive_options *o, char **path, int n, rt_err *err);
} VERBS[] = {
#define X(name, run) { #name, run },
    EACH_VERB(X)
#undef X
};

static int run_archive(void *options, rt_err *err)
{
    const archive_options *o = options;
    const char *names[RT_COUNT(VERBS)];
    if (o->words.n == 0)
        return rt_usage(err,
                        "a verb is needed: list, show, verify, repair, merge, stats or export");
    for (int i = 0; i < RT_COUNT(VERBS); i++) {
        names[i] = VERBS[i].name;
        if (strcmp(o->words.item[0], names[i]) != 0)
            continue;
        if (o->words.n < 2)
            return rt_usage(err, "%s: name an archive", names[i]);
        return VERBS[i].run(o, o->words.item + 1, o->words.n - 1, err);
    }
    const char *near = rt_nearest(o->words.item[0], names, RT_COUNT(VERBS));
    return rt_usage(err, "no verb \"%s\"%s%s%s", o->words.item[0], near ? "; did you mean " : "",
                    near ? near : "", near ? "?" : "");
}

const rt_command rt_command_archive = {
    .name = "archive",
    .help = "trace archives: list, show, verify, repair, merge, stats, export",
    .group = "a teacher's traces",
    .options = OPTIONS,
    .n_options = RT_COUNT(OPTIONS),
    .struct_bytes = sizeof(archive_options),
    .positional = "words",
#define X(name, run) "|" #name
    .verbs = EACH_VERB(X) + 1,
#undef X
    .run = run_archive,
    .example = "retort archive stats A.traces",
};
