/* trace_shard.c: a shard file from the pieces of its samples and back, and the records of the
   journal. The columns are one table; a shard's bytes are a function of the manifest, its number
   and its samples.
   Refuses: deciding where a shard ends, checking content (that is the content hash's work). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "corpora/archive/trace_inside.h"

typedef struct column {
    const char *name, *descr; // descr "": bytes without a .npy header; "|S": as wide as an id
    int item, width;          // bytes of an element, elements a row (2: rank 2)
    int extra;                // rows beyond the number of samples; -1 = not one a sample
    int of;                   // offsets (extra 1): the column they lead into, -1 = none
} column;

static const column COLUMNS[RT_COL_COUNT] = {
    [RT_COL_LINES] = { "samples.jsonl", "", 1, 1, -1, -1 },
    [RT_COL_LINE_OFFSETS] = { "line_offsets.npy", "<i8", 8, 1, 1, RT_COL_LINES },
    [RT_COL_ID] = { "id.npy", "|S", 1, 1, 0, -1 },
    [RT_COL_INDEX] = { "index.npy", "<i8", 8, 1, 0, -1 },
    [RT_COL_VERDICT] = { "verdict.npy", "|u1", 1, 1, 0, -1 },
    [RT_COL_PROMPT_TOKENS] = { "prompt_tokens.npy", "<i4", 4, 1, 0, -1 },
    [RT_COL_SOFT_FIRST] = { "soft_first.npy", "<i4", 4, 1, 0, -1 },
    [RT_COL_TOKEN_OFFSETS] = { "token_offsets.npy", "<i8", 8, 1, 1, RT_COL_TOKENS },
    [RT_COL_TOKENS] = { "tokens.npy", "<i4", 4, 1, -1, -1 },
    [RT_COL_SPAN_OFFSETS] = { "span_offsets.npy", "<i8", 8, 1, 1, RT_COL_SPANS },
    [RT_COL_SPANS] = { "spans.npy", "<i4", 4, 2, -1, -1 },
    [RT_COL_SPAN_WEIGHTS] = { "span_weights.npy", "<f4", 4, 1, -1, -1 },
    [RT_COL_ROW_OFFSETS] = { "row_offsets.npy", "<i8", 8, 1, 1, -1 },
    [RT_COL_RECORD_OFFSETS] = { "record_offsets.npy", "<i8", 8, 1, 1, RT_COL_RECORDS },
    [RT_COL_RECORDS] = { "records.npy", "|u1", 1, 1, -1, -1 },
    [RT_COL_HASH] = { "hash.npy", "<u8", 8, 1, 0, -1 },
};

// Of version 2: left out where no sample of the shard has weights.
static bool is_optional(int c) { return c == RT_COL_SPAN_WEIGHTS; }
static bool is_npy(int c) { return COLUMNS[c].descr[0] != '\0'; }

// The .npy header of a column of so many data bytes; how many of them its shape covers.
static int64_t make_head(uint8_t head[RT_NPY_HEAD], int c, int64_t bytes, int64_t id_width)
{
    const column *col = &COLUMNS[c];
    char descr[16];
    int64_t row = c == RT_COL_ID ? id_width : (int64_t)col->item * col->width;
    int64_t dim[2] = { bytes / row, col->width };
    snprintf(descr, sizeof descr, "%s", col->descr);
    if (c == RT_COL_ID)
        snprintf(descr, sizeof descr, "|S%lld", (long long)id_width);
    rt_npy_head(head, descr, col->width == 2 ? 2 : 1, dim);
    return dim[0] * row;
}

// ---- writing ----

typedef struct shard_build {
    rt_text column[RT_COL_COUNT]; // a .npy begins with room for its header
    int64_t at[RT_COL_COUNT];     // running offsets, by offset column
    int64_t id_width;
    rt_err *err;
    bool weighted; // some sample is
    bool failed; // out of memory, err says so
} shard_build;

static void add(shard_build *b, enum rt_trace_column c, const void *data, int64_t bytes)
{
    b->failed = b->failed || rt_text_add(&b->column[c], data, bytes, b->err);
}

// The offset where the next sample begins, then move by `count`.
static void add_offset(shard_build *b, enum rt_trace_column c, int64_t count)
{
    b->at[c] += count;
    add(b, c, &b->at[c], 8);
}

static void add_sample(shard_build *b, const rt_trace_pieces *p)
{
    static const char zeros[RT_TRACE_ID_MAX + 1];
    uint8_t verdict = (uint8_t)p->verdict;
    add(b, RT_COL_LINES, p->line, p->line_bytes);
    add(b, RT_COL_LINES, "\n", 1);
    add(b, RT_COL_ID, p->id, p->id_bytes);
    add(b, RT_COL_ID, zeros, b->id_width - p->id_bytes);
    add(b, RT_COL_INDEX, &p->index, 8);
    add(b, RT_COL_VERDICT, &verdict, 1);
    add(b, RT_COL_PROMPT_TOKENS, &p->prompt_tokens, 4);
    add(b, RT_COL_SOFT_FIRST, &p->soft_first, 4);
    add(b, RT_COL_TOKENS, p->token, 4 * (int64_t)p->tokens);
    add(b, RT_COL_SPANS, p->span, 8 * (int64_t)p->spans);
    const float one = 1;
    for (int64_t i = 0; b->weighted && i < p->spans; i++)
        add(b, RT_COL_SPAN_WEIGHTS, p->weight ? p->weight + 4 * i : (const uint8_t *)&one, 4);
    add(b, RT_COL_RECORDS, p->record, p->record_bytes);
    add(b, RT_COL_HASH, &p->hash, 8);
    add_offset(b, RT_COL_LINE_OFFSETS, p->line_bytes + 1);
    add_offset(b, RT_COL_TOKEN_OFFSETS, p->tokens);
    add_offset(b, RT_COL_SPAN_OFFSETS, p->spans);
    add_offset(b, RT_COL_ROW_OFFSETS, p->rows);
    add_offset(b, RT_COL_RECORD_OFFSETS, p->record_bytes);
}

static int build_columns(shard_build *b, const rt_trace_pieces *p, int64_t n)
{
    static const uint8_t head[RT_NPY_HEAD];
    b->id_width = 1;
    for (int64_t i = 0; i < n; i++) {
        b->id_width = rt_max(b->id_width, p[i].id_bytes);
        b->weighted |= p[i].weight != NULL;
    }
    for (int c = 0; c < RT_COL_COUNT; c++) {
        add(b, c, head, is_npy(c) ? RT_NPY_HEAD : 0);
        if (COLUMNS[c].extra == 1)
            add_offset(b, c, 0);
    }
    for (int64_t i = 0; i < n; i++)
        add_sample(b, &p[i]);
    for (int c = 0; c < RT_COL_COUNT && !b->failed; c++)
        if (is_npy(c))
            make_head((uint8_t *)b->column[c].data, c, b->column[c].bytes - RT_NPY_HEAD,
                      b->id_width);
    return b->failed ? -1 : 0;
}

// The columns as *n_entries ZIP entries; returns meta.json, which holds their hashes.
static char *build_entries(const shard_build *b, rt_npz_entry entry[RT_COL_COUNT], int *n_entries,
                           int64_t k, const rt_trace_manifest *m, int64_t n)
{
    *n_entries = 0;
    cJSON *meta = rt_json_object(), *manifest = rt_json_object(), *entries = rt_json_object();
    rt_json_put_str(meta, "format", "retort-traces");
    rt_json_put_i64(meta, "version", b->weighted ? 2 : 1);
    rt_json_put_i64(meta, "shard", k);
    rt_json_put_i64(meta, "samples", n);
    rt_trace_manifest_put(manifest, m);
    rt_json_put(meta, "manifest", manifest);
    for (int c = 0; c < RT_COL_COUNT; c++) {
        const rt_text *data = &b->column[c];
        if (is_optional(c) && !b->weighted)
            continue;
        rt_npz_entry *e = &entry[(*n_entries)++];
        cJSON *json = rt_json_object();
        rt_json_put_i64(json, "bytes", data->bytes);
        rt_json_put_str(json, "xxh3", rt_hash_bytes(data->data, data->bytes).hex);
        rt_json_put(entries, COLUMNS[c].name, json);
        *e = (rt_npz_entry){ .data = (const uint8_t *)data->data, .bytes = data->bytes };
        snprintf(e->name, sizeof e->name, "%s", COLUMNS[c].name);
    }
    rt_json_put(meta, "entries", entries);
    char *text = rt_json_pretty(meta);
    cJSON_Delete(meta);
    return text;
}

static int write_file(const char *path, const rt_npz_entry *entry, int n, rt_trace_hook *hook,
                      void *ctx, rt_err *err)
{
    rt_out out;
    if (rt_out_open(&out, path, err))
        return -1;
    if (rt_npz_write(out.fd, entry, n, path, err)) {
        rt_out_abort(&out);
        return -1;
    }
    if (hook)
        hook(ctx, "shard temp written");
    return rt_out_commit(&out, err);
}

int rt_trace_shard_write(const char *dir, int64_t k, const rt_trace_manifest *m,
                         const rt_trace_pieces *p, int64_t n, rt_trace_shard_info *info,
                         rt_trace_hook *hook, void *ctx, rt_err *err)
{
    shard_build b = { .id_width = 1, .err = err };
    rt_npz_entry entry[RT_COL_COUNT + 1] = { { .name = "meta.json" } };
    char *path = rt_trace_shard_path(dir, k), *meta = NULL;
    *info = (rt_trace_shard_info){ .samples = n };
    for (int64_t i = 0; i < n; i++)
        info->content += rt_trace_payload_bytes(&p[i]);
    int rc = build_columns(&b, p, n);
    if (!rc) {
        int n_entries;
        meta = build_entries(&b, entry + 1, &n_entries, k, m, n);
        entry[0].data = (const uint8_t *)meta;
        entry[0].bytes = (int64_t)strlen(meta);
        rc = write_file(path, entry, n_entries + 1, hook, ctx, err) ||
             rt_path_size(path, &info->bytes, err) || rt_hash_file(&info->hash, path, err);
    }
    for (int c = 0; c < RT_COL_COUNT; c++)
        rt_text_free(&b.column[c]);
    free(meta);
    free(path);
    return rc ? -1 : 0;
}

// ---- reading ----

static int64_t load64(const uint8_t *base, int64_t i)
{
    int64_t v;
    memcpy(&v, base + 8 * i, 8);
    return v;
}

static int32_t load32(const uint8_t *base, int64_t i)
{
    int32_t v;
    memcpy(&v, base + 4 * i, 4);
    return v;
}

static const uint8_t ABSENT[1]; // where a column without bytes stands

// Where the columns are: element sizes are known, counts follow from the bytes.
static void place_columns(rt_trace_shard *s)
{
    for (int c = 0; c < RT_COL_COUNT; c++) {
        const rt_npz_entry *e = rt_npz_find(&s->npz, COLUMNS[c].name);
        int64_t head = is_npy(c) ? RT_NPY_HEAD : 0;
        s->column[c] = ABSENT;
        if (!e || e->bytes < head)
            continue;
        s->column[c] = e->data + head;
        s->count[c] = (e->bytes - head) / ((int64_t)COLUMNS[c].item * COLUMNS[c].width);
    }
    s->n = s->count[RT_COL_INDEX];
    s->id_width = s->n ? s->count[RT_COL_ID] / s->n : 0;
    if (s->id_width > RT_TRACE_ID_MAX)
        s->id_width = 0;
    s->count[RT_COL_ID] = s->id_width ? s->n : 0;
}

// The column stands there with exactly the header that numpy and we write for its bytes.
static int check_head(const rt_trace_shard *s, int c, const char *path, rt_err *err)
{
    uint8_t want[RT_NPY_HEAD];
    if (s->column[c] == ABSENT && is_optional(c) && !rt_npz_find(&s->npz, COLUMNS[c].name))
        return 0;
    if (s->column[c] == ABSENT)
        return rt_fail(err, "%s: %s is missing or too short", path, COLUMNS[c].name);
    const rt_npz_entry *e = rt_npz_find(&s->npz, COLUMNS[c].name);
    if (!is_npy(c))
        return 0;
    int64_t bytes = e->bytes - RT_NPY_HEAD;
    if (make_head(want, c, bytes, rt_max(1, s->id_width)) != bytes ||
        memcmp(want, e->data, RT_NPY_HEAD) != 0)
        return rt_fail(err, "%s: %s: the .npy header is damaged or says another type or shape",
                       path, COLUMNS[c].name);
    return 0;
}

static int check_columns(const rt_trace_shard *s, const char *path, rt_err *err)
{
    for (int c = 0; c < RT_COL_COUNT; c++)
        if (check_head(s, c, path, err))
            return -1;
    for (int c = 0; c < RT_COL_COUNT; c++) {
        const column *col = &COLUMNS[c];
        if (col->extra >= 0 && s->count[c] != s->n + col->extra)
            return rt_fail(err, "%s: %s has %lld rows for %lld samples", path, col->name,
                           (long long)s->count[c], (long long)s->n);
        // rows are counted nowhere else
        if (col->extra == 1 && (load64(s->column[c], 0) != 0 ||
                                (col->of >= 0 && load64(s->column[c], s->n) != s->count[col->of])))
            return rt_fail(err, "%s: %s does not cover its column", path, col->name);
    }
    if (s->column[RT_COL_SPAN_WEIGHTS] != ABSENT &&
        s->count[RT_COL_SPAN_WEIGHTS] != s->count[RT_COL_SPANS])
        return rt_fail(err, "%s: %s has %lld rows for %lld spans", path,
                       COLUMNS[RT_COL_SPAN_WEIGHTS].name, (long long)s->count[RT_COL_SPAN_WEIGHTS],
                       (long long)s->count[RT_COL_SPANS]);
    return s->n > 0 ? 0 : rt_fail(err, "%s: no samples", path);
}

static int open_strict(rt_trace_shard *s, const char *path, int64_t bytes, rt_err *err)
{
    if (bytes >= 0 && bytes != s->map.bytes)
        return rt_fail(err, "%s: has %lld bytes, the manifest says %lld", path,
                       (long long)s->map.bytes, (long long)bytes);
    if (rt_npz_parse(&s->npz, s->map.data, s->map.bytes, path, err))
        return -1;
    place_columns(s);
    return check_columns(s, path, err);
}

int rt_trace_shard_open(rt_trace_shard *s, const char *dir, int64_t k, int64_t bytes, bool salvage,
                        rt_err *err)
{
    char *path = rt_trace_shard_path(dir, k);
    *s = (rt_trace_shard){ .number = k };
    int rc = rt_map_open(&s->map, path, err);
    if (!rc && salvage) {
        rt_npz_salvage(&s->npz, s->map.data, s->map.bytes);
        place_columns(s);
    } else if (!rc) {
        rc = open_strict(s, path, bytes, err);
    }
    if (rc)
        rt_trace_shard_close(s);
    free(path);
    return rc;
}

void rt_trace_shard_close(rt_trace_shard *s)
{
    rt_map_close(&s->map);
    memset(s, 0, sizeof *s);
}

// Where sample i stands in the column that offsets c lead into.
static bool range(const rt_trace_shard *s, int c, int64_t i, int64_t *begin, int64_t *n)
{
    int64_t total = COLUMNS[c].of >= 0 ? s->count[COLUMNS[c].of] : INT64_MAX;
    if (i + 1 >= s->count[c])
        return false;
    int64_t end = load64(s->column[c], i + 1);
    *begin = load64(s->column[c], i);
    if (*begin < 0 || end < *begin || end > total || end - *begin > RT_TRACE_PAYLOAD_MAX)
        return false;
    *n = end - *begin;
    return true;
}

int rt_trace_shard_pieces(const rt_trace_shard *s, int64_t i, rt_trace_pieces *p, rt_err *err)
{
    int64_t at[RT_COL_COUNT] = { 0 }, n[RT_COL_COUNT] = { 0 }; // of this sample, by offset column
    for (int c = 0; c < RT_COL_COUNT; c++) {
        if (i < 0 || (COLUMNS[c].extra >= 0 && i >= s->count[c]))
            return rt_fail(err, "sample %lld: not in column %s", (long long)i, COLUMNS[c].name);
        if (COLUMNS[c].extra == 1 && !range(s, c, i, &at[c], &n[c]))
            return rt_fail(err, "sample %lld: its offsets are damaged", (long long)i);
    }
    const uint8_t *line = s->column[RT_COL_LINES] + at[RT_COL_LINE_OFFSETS];
    int64_t line_bytes = n[RT_COL_LINE_OFFSETS] - 1;
    if (line_bytes < 0 || line[line_bytes] != '\n')
        return rt_fail(err, "sample %lld: its JSON line is damaged", (long long)i);
    const char *id = (const char *)s->column[RT_COL_ID] + i * s->id_width;
    int64_t id_bytes = (int64_t)strnlen(id, (size_t)s->id_width);
    for (int64_t z = id_bytes; z < s->id_width; z++)
        if (id[z] != 0)
            return rt_fail(err, "sample %lld: its id is damaged", (long long)i);
    int64_t span = at[RT_COL_SPAN_OFFSETS], spans = n[RT_COL_SPAN_OFFSETS];
    const uint8_t *weight = span + spans <= s->count[RT_COL_SPAN_WEIGHTS]
                                ? s->column[RT_COL_SPAN_WEIGHTS] + 4 * span
                                : NULL;
    *p = (rt_trace_pieces){
        .index = load64(s->column[RT_COL_INDEX], i),
        .tokens = (int32_t)n[RT_COL_TOKEN_OFFSETS],
        .prompt_tokens = load32(s->column[RT_COL_PROMPT_TOKENS], i),
        .soft_first = load32(s->column[RT_COL_SOFT_FIRST], i),
        .rows = (int32_t)n[RT_COL_ROW_OFFSETS],
        .spans = (int32_t)spans,
        .verdict = s->column[RT_COL_VERDICT][i],
        .id = id,
        .id_bytes = id_bytes,
        .line = line,
        .line_bytes = line_bytes,
        .token = s->column[RT_COL_TOKENS] + 4 * at[RT_COL_TOKEN_OFFSETS],
        .span = s->column[RT_COL_SPANS] + 8 * span,
        .weight = rt_trace_weighted(weight, spans) ? weight : NULL,
        .record = s->column[RT_COL_RECORDS] + at[RT_COL_RECORD_OFFSETS],
        .record_bytes = n[RT_COL_RECORD_OFFSETS],
        .hash = (uint64_t)load64(s->column[RT_COL_HASH], i),
    };
    return 0;
}

// ---- the journal ----

static const char JOURNAL_HEAD[RT_TRACE_JOURNAL_HEAD + 1] = "rtjourn1";
static const uint32_t RECORD_MAGIC = 0x52545352;

bool rt_trace_journal_head_ok(const uint8_t *data, int64_t bytes)
{
    return bytes >= RT_TRACE_JOURNAL_HEAD && memcmp(data, JOURNAL_HEAD, RT_TRACE_JOURNAL_HEAD) == 0;
}

int rt_trace_journal_head_add(rt_text *out, rt_err *err)
{
    return rt_text_add(out, JOURNAL_HEAD, RT_TRACE_JOURNAL_HEAD, err);
}

int rt_trace_record_add(rt_text *out, const rt_trace_pieces *p, rt_err *err)
{
    uint32_t bytes = (uint32_t)rt_trace_payload_bytes(p), head[2] = { RECORD_MAGIC, bytes };
    uint64_t hash = 0; // known once the payload stands behind it
    if (rt_text_add(out, head, sizeof head, err) || rt_text_add(out, &hash, sizeof hash, err) ||
        rt_trace_payload_add(out, p, err))
        return -1;
    char *payload = out->data + out->bytes - bytes;
    hash = rt_hash64(payload, bytes, bytes);
    memcpy(payload - sizeof hash, &hash, sizeof hash);
    return 0;
}

// *end: behind the record that stands whole at `at`.
static bool record_whole(const uint8_t *data, int64_t bytes, int64_t at, int64_t *end)
{
    uint32_t head[2];
    uint64_t hash;
    if (bytes - at < RT_TRACE_RECORD_HEAD)
        return false;
    memcpy(head, data + at, sizeof head);
    memcpy(&hash, data + at + sizeof head, sizeof hash);
    *end = at + RT_TRACE_RECORD_HEAD + head[1];
    return head[0] == RECORD_MAGIC && *end <= bytes &&
           rt_hash64(data + at + RT_TRACE_RECORD_HEAD, head[1], head[1]) == hash;
}

enum rt_trace_record rt_trace_record_next(const uint8_t *data, int64_t bytes, int64_t *at,
                                          rt_trace_pieces *p)
{
    int64_t begin = *at + RT_TRACE_RECORD_HEAD;
    rt_err ignored;
    if (*at >= bytes)
        return RT_RECORD_END;
    if (record_whole(data, bytes, *at, at))
        return rt_trace_payload_parse(p, data + begin, *at - begin, &ignored) ? RT_RECORD_BAD
                                                                              : RT_RECORD_WHOLE;
    // a hostile file may be all magic: each candidate costs a hash, so their number is bounded
    int tries = 1000;
    int64_t end, next = begin - RT_TRACE_RECORD_HEAD + 1;
    for (; next <= bytes - RT_TRACE_RECORD_HEAD && tries > 0; next++) {
        if (memcmp(data + next, &RECORD_MAGIC, sizeof RECORD_MAGIC) != 0)
            continue;
        tries--;
        if (record_whole(data, bytes, next, &end)) {
            *at = next;
            return RT_RECORD_BAD;
        }
    }
    *at = bytes;
    return RT_RECORD_TORN;
}
