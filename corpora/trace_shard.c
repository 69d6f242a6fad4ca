/* trace_shard.c: a shard file from payloads and back, and the records of the journal. The columns
   are one table; a shard's bytes are a function of the manifest, its number and its samples.
   Refuses: deciding where a shard ends, checking content (that is the content hash's work). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "corpora/trace_inside.h"

typedef struct column {
    const char *name, *descr; // descr NULL: |S with the width of the longest id
    int item, width;          // bytes of an element, elements a row (2: rank 2)
    int extra;                // rows beyond the number of samples; -1 = not one a sample
} column;

static const column COLUMNS[RT_COL_COUNT] = {
    [RT_COL_LINE_OFFSETS] = { "line_offsets.npy", "<i8", 8, 1, 1 },
    [RT_COL_ID] = { "id.npy", NULL, 1, 1, 0 },
    [RT_COL_INDEX] = { "index.npy", "<i8", 8, 1, 0 },
    [RT_COL_VERDICT] = { "verdict.npy", "|u1", 1, 1, 0 },
    [RT_COL_PROMPT_TOKENS] = { "prompt_tokens.npy", "<i4", 4, 1, 0 },
    [RT_COL_SOFT_FIRST] = { "soft_first.npy", "<i4", 4, 1, 0 },
    [RT_COL_TOKEN_OFFSETS] = { "token_offsets.npy", "<i8", 8, 1, 1 },
    [RT_COL_TOKENS] = { "tokens.npy", "<i4", 4, 1, -1 },
    [RT_COL_SPAN_OFFSETS] = { "span_offsets.npy", "<i8", 8, 1, 1 },
    [RT_COL_SPANS] = { "spans.npy", "<i4", 4, 2, -1 },
    [RT_COL_ROW_OFFSETS] = { "row_offsets.npy", "<i8", 8, 1, 1 },
    [RT_COL_RECORD_OFFSETS] = { "record_offsets.npy", "<i8", 8, 1, 1 },
    [RT_COL_RECORDS] = { "records.npy", "|u1", 1, 1, -1 },
    [RT_COL_HASH] = { "hash.npy", "<u8", 8, 1, 0 },
};

// ---- writing ----

typedef struct shard_build {
    rt_trace_buf column[RT_COL_COUNT]; // each begins with room for its .npy header
    rt_trace_buf lines, meta;
    int64_t id_width;
    int64_t at[RT_COL_COUNT]; // running offsets, by offset column
    rt_err *err;
} shard_build;

static int add(shard_build *b, enum rt_trace_column c, const void *data, int64_t bytes)
{
    return rt_trace_buf_add(&b->column[c], data, bytes, b->err);
}

// The offset where the next sample begins, then move by `count`.
static int add_offset(shard_build *b, enum rt_trace_column c, int64_t count)
{
    b->at[c] += count;
    return add(b, c, &b->at[c], 8);
}

static int add_sample(shard_build *b, const rt_trace_pieces *p)
{
    static const char zeros[RT_TRACE_ID_MAX + 1];
    uint8_t verdict = (uint8_t)p->verdict;
    bool bad = add(b, RT_COL_ID, p->id, p->id_bytes) ||
               add(b, RT_COL_ID, zeros, b->id_width - p->id_bytes) ||
               add(b, RT_COL_INDEX, &p->index, 8) || add(b, RT_COL_VERDICT, &verdict, 1) ||
               add(b, RT_COL_PROMPT_TOKENS, &p->prompt_tokens, 4) ||
               add(b, RT_COL_SOFT_FIRST, &p->soft_first, 4) ||
               add(b, RT_COL_TOKENS, p->token, 4 * (int64_t)p->tokens) ||
               add(b, RT_COL_SPANS, p->span, 8 * (int64_t)p->spans) ||
               add(b, RT_COL_RECORDS, p->record, p->record_bytes) ||
               add(b, RT_COL_HASH, &p->hash, 8) ||
               rt_trace_buf_add(&b->lines, p->line, p->line_bytes, b->err) ||
               rt_trace_buf_add(&b->lines, "\n", 1, b->err) ||
               add_offset(b, RT_COL_LINE_OFFSETS, p->line_bytes + 1) ||
               add_offset(b, RT_COL_TOKEN_OFFSETS, p->tokens) ||
               add_offset(b, RT_COL_SPAN_OFFSETS, p->spans) ||
               add_offset(b, RT_COL_ROW_OFFSETS, p->rows) ||
               add_offset(b, RT_COL_RECORD_OFFSETS, p->record_bytes);
    return bad ? -1 : 0;
}

static int build_columns(shard_build *b, const rt_trace_buf *payload, int64_t n)
{
    rt_trace_pieces p;
    b->id_width = 1;
    for (int64_t i = 0; i < n; i++) {
        if (rt_trace_payload_parse(&p, payload[i].data, payload[i].n, b->err))
            return -1;
        b->id_width = rt_max(b->id_width, p.id_bytes);
    }
    static const uint8_t head[RT_NPY_HEAD];
    for (int c = 0; c < RT_COL_COUNT; c++)
        if (add(b, c, head, RT_NPY_HEAD) || (COLUMNS[c].extra == 1 && add_offset(b, c, 0)))
            return -1;
    for (int64_t i = 0; i < n; i++)
        if (rt_trace_payload_parse(&p, payload[i].data, payload[i].n, b->err) || add_sample(b, &p))
            return -1;
    for (int c = 0; c < RT_COL_COUNT; c++) {
        const column *col = &COLUMNS[c];
        char descr[16];
        int64_t row = col->descr ? (int64_t)col->item * col->width : b->id_width;
        if (col->descr)
            snprintf(descr, sizeof descr, "%s", col->descr);
        else
            snprintf(descr, sizeof descr, "|S%lld", (long long)b->id_width);
        int64_t dim[2] = { (b->column[c].n - RT_NPY_HEAD) / row, col->width };
        rt_npy_head(b->column[c].data, descr, col->width == 2 ? 2 : 1, dim);
    }
    return 0;
}

static void put_entry(cJSON *entries, rt_npz_entry *e, const char *name, const rt_trace_buf *b)
{
    *e = (rt_npz_entry){ .data = b->data, .bytes = b->n };
    snprintf(e->name, sizeof e->name, "%s", name);
    if (!entries)
        return;
    cJSON *json = rt_json_object();
    rt_json_put_i64(json, "bytes", b->n);
    rt_json_put_str(json, "xxh3", rt_hash_bytes(b->data, b->n).hex);
    rt_json_put(entries, name, json);
}

// entry[0] is meta.json, which holds the hashes of the others
static int build_entries(shard_build *b, rt_npz_entry entry[RT_COL_COUNT + 2], int64_t k,
                         const rt_trace_manifest *m, int64_t n)
{
    cJSON *meta = rt_json_object(), *entries = rt_json_object();
    rt_json_put_str(meta, "format", "retort-traces");
    rt_json_put_i64(meta, "version", RT_TRACE_VERSION);
    rt_json_put_i64(meta, "shard", k);
    rt_json_put_i64(meta, "samples", n);
    rt_json_put(meta, "manifest", rt_trace_manifest_json(m));
    put_entry(entries, &entry[1], "samples.jsonl", &b->lines);
    for (int c = 0; c < RT_COL_COUNT; c++)
        put_entry(entries, &entry[c + 2], COLUMNS[c].name, &b->column[c]);
    rt_json_put(meta, "entries", entries);
    char *text = rt_json_pretty(meta);
    cJSON_Delete(meta);
    int rc = rt_trace_buf_add(&b->meta, text, (int64_t)strlen(text), b->err);
    free(text);
    if (!rc)
        put_entry(NULL, &entry[0], "meta.json", &b->meta);
    return rc;
}

static int write_file(const char *path, const rt_npz_entry *entry, int n, rt_trace_hook *hook,
                      void *ctx, rt_err *err)
{
    rt_out out;
    if (rt_out_open(&out, path, err))
        return -1;
    int rc = rt_npz_write(out.fd, entry, n, path, err);
    if (!rc && hook)
        hook(ctx, "shard temp written");
    if (rc)
        rt_out_abort(&out);
    else
        rc = rt_out_commit(&out, err);
    return rc;
}

int rt_trace_shard_write(const char *dir, int64_t k, const rt_trace_manifest *m,
                         const rt_trace_buf *payload, int64_t n, rt_trace_shard_info *info,
                         rt_trace_hook *hook, void *ctx, rt_err *err)
{
    shard_build b = { .err = err };
    rt_npz_entry entry[RT_COL_COUNT + 2];
    char name[32];
    rt_trace_shard_name(name, k);
    char *path = rt_path_join(dir, name);
    *info = (rt_trace_shard_info){ .samples = n };
    for (int64_t i = 0; i < n; i++)
        info->content += payload[i].n;
    int rc = build_columns(&b, payload, n) || build_entries(&b, entry, k, m, n) ||
             write_file(path, entry, RT_COL_COUNT + 2, hook, ctx, err) ||
             rt_path_size(path, &info->bytes, err) || rt_hash_file(&info->hash, path, err);
    for (int c = 0; c < RT_COL_COUNT; c++)
        free(b.column[c].data);
    free(b.lines.data);
    free(b.meta.data);
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

static int open_column(rt_trace_shard *s, int c, const char *path, rt_err *err)
{
    const column *col = &COLUMNS[c];
    const rt_npz_entry *e = rt_npz_find(&s->npz, col->name);
    if (!e)
        return rt_fail(err, "%s: %s is missing", path, col->name);
    rt_npy npy;
    if (rt_npy_parse(&npy, e->data, e->bytes, col->name, err))
        return rt_wrap(err, "%s", path);
    bool text = !col->descr;
    if (text ? strncmp(npy.descr, "|S", 2) != 0 || npy.item > RT_TRACE_ID_MAX
             : strcmp(npy.descr, col->descr) != 0)
        return rt_fail(err, "%s: %s has dtype %s, not %s", path, col->name, npy.descr,
                       text ? "|S1..|S255" : col->descr);
    if (npy.rank != (col->width == 2 ? 2 : 1) || npy.dim[1] != col->width)
        return rt_fail(err, "%s: %s has the wrong shape", path, col->name);
    if (text)
        s->id_width = npy.item;
    s->column[c] = npy.data;
    s->count[c] = npy.dim[0];
    return 0;
}

/* The columns whatever the headers say: element sizes are known, counts follow from the bytes. */
static void salvage_columns(rt_trace_shard *s)
{
    for (int c = 0; c < RT_COL_COUNT; c++) {
        const rt_npz_entry *e = rt_npz_find(&s->npz, COLUMNS[c].name);
        if (!e || e->bytes < RT_NPY_HEAD)
            continue;
        s->column[c] = e->data + RT_NPY_HEAD;
        s->count[c] = (e->bytes - RT_NPY_HEAD) / ((int64_t)COLUMNS[c].item * COLUMNS[c].width);
    }
    s->n = s->count[RT_COL_INDEX];
    s->id_width = s->n ? s->count[RT_COL_ID] / s->n : 0;
    if (s->id_width > RT_TRACE_ID_MAX)
        s->id_width = 0;
    s->count[RT_COL_ID] = s->id_width ? s->n : 0;
}

// The number each offset column must end with.
static int64_t offset_total(const rt_trace_shard *s, int c)
{
    switch (c) {
    case RT_COL_LINE_OFFSETS:
        return s->lines_bytes;
    case RT_COL_TOKEN_OFFSETS:
        return s->count[RT_COL_TOKENS];
    case RT_COL_SPAN_OFFSETS:
        return s->count[RT_COL_SPANS];
    case RT_COL_RECORD_OFFSETS:
        return s->count[RT_COL_RECORDS];
    default:
        return load64(s->column[c], s->n); // rows are counted nowhere else
    }
}

static int check_columns(rt_trace_shard *s, const char *path, rt_err *err)
{
    s->n = s->count[RT_COL_INDEX];
    for (int c = 0; c < RT_COL_COUNT; c++) {
        int extra = COLUMNS[c].extra;
        if (extra >= 0 && s->count[c] != s->n + extra)
            return rt_fail(err, "%s: %s has %lld rows for %lld samples", path, COLUMNS[c].name,
                           (long long)s->count[c], (long long)s->n);
        if (extra == 1 &&
            (load64(s->column[c], 0) != 0 || load64(s->column[c], s->n) != offset_total(s, c)))
            return rt_fail(err, "%s: %s does not cover its column", path, COLUMNS[c].name);
    }
    return s->n > 0 ? 0 : rt_fail(err, "%s: no samples", path);
}

int rt_trace_shard_open(rt_trace_shard *s, const char *path, int64_t bytes, bool salvage,
                        rt_err *err)
{
    memset(s, 0, sizeof *s);
    if (rt_map_open(&s->map, path, err))
        return -1;
    const uint8_t *data = s->map.data;
    int rc = 0;
    if (salvage)
        rt_npz_salvage(&s->npz, data, s->map.bytes);
    else if (bytes >= 0 && bytes != s->map.bytes)
        rc = rt_fail(err, "%s: has %lld bytes, the manifest says %lld", path,
                     (long long)s->map.bytes, (long long)bytes);
    else
        rc = rt_npz_parse(&s->npz, data, s->map.bytes, path, err);
    const rt_npz_entry *lines = rt_npz_find(&s->npz, "samples.jsonl");
    if (!rc && !lines && !salvage)
        rc = rt_fail(err, "%s: samples.jsonl is missing", path);
    if (!rc && lines) {
        s->lines = lines->data;
        s->lines_bytes = lines->bytes;
    }
    if (!rc && salvage)
        salvage_columns(s);
    for (int c = 0; !rc && !salvage && c < RT_COL_COUNT; c++)
        rc = open_column(s, c, path, err);
    if (!rc && !salvage)
        rc = check_columns(s, path, err);
    if (rc)
        rt_trace_shard_close(s);
    return rc;
}

void rt_trace_shard_close(rt_trace_shard *s)
{
    rt_map_close(&s->map);
    memset(s, 0, sizeof *s);
}

// Range i of an offset column, inside [0, total]; `most` bounds its length.
static bool range(const rt_trace_shard *s, int c, int64_t i, int64_t total, int64_t most,
                  int64_t *begin, int64_t *length)
{
    if (i + 1 >= s->count[c])
        return false;
    int64_t end = load64(s->column[c], i + 1);
    *begin = load64(s->column[c], i);
    if (*begin < 0 || end < *begin || end > total || end - *begin > most)
        return false;
    *length = end - *begin;
    return true;
}

int rt_trace_shard_pieces(const rt_trace_shard *s, int64_t i, rt_trace_pieces *p, rt_err *err)
{
    int64_t line, lines, token, tokens, span, spans, row, rows, record, records;
    memset(p, 0, sizeof *p);
    for (int c = 0; c < RT_COL_COUNT; c++)
        if (i < 0 || (COLUMNS[c].extra >= 0 && i >= s->count[c]))
            return rt_fail(err, "sample %lld: not in column %s", (long long)i, COLUMNS[c].name);
    if (!range(s, RT_COL_LINE_OFFSETS, i, s->lines_bytes, RT_TRACE_TEXT_MAX, &line, &lines) ||
        !range(s, RT_COL_TOKEN_OFFSETS, i, s->count[RT_COL_TOKENS], RT_TRACE_TOKENS_MAX, &token,
               &tokens) ||
        !range(s, RT_COL_SPAN_OFFSETS, i, s->count[RT_COL_SPANS], RT_TRACE_SPANS_MAX, &span,
               &spans) ||
        !range(s, RT_COL_ROW_OFFSETS, i, INT64_MAX, RT_TRACE_TOKENS_MAX, &row, &rows) ||
        !range(s, RT_COL_RECORD_OFFSETS, i, s->count[RT_COL_RECORDS], RT_TRACE_PAYLOAD_MAX, &record,
               &records))
        return rt_fail(err, "sample %lld: its offsets are damaged", (long long)i);
    if (lines < 1 || s->lines[line + lines - 1] != '\n')
        return rt_fail(err, "sample %lld: its JSON line is damaged", (long long)i);
    const char *id = (const char *)s->column[RT_COL_ID] + i * s->id_width;
    p->index = load64(s->column[RT_COL_INDEX], i);
    p->tokens = (int32_t)tokens;
    p->prompt_tokens = load32(s->column[RT_COL_PROMPT_TOKENS], i);
    p->soft_first = load32(s->column[RT_COL_SOFT_FIRST], i);
    p->rows = (int32_t)rows;
    p->spans = (int32_t)spans;
    p->verdict = s->column[RT_COL_VERDICT][i];
    p->id = id;
    p->id_bytes = (int64_t)strnlen(id, (size_t)s->id_width);
    for (int64_t z = p->id_bytes; z < s->id_width; z++)
        if (id[z] != 0)
            return rt_fail(err, "sample %lld: its id is damaged", (long long)i);
    p->line = s->lines + line;
    p->line_bytes = lines - 1;
    p->token = s->column[RT_COL_TOKENS] + 4 * token;
    p->span = s->column[RT_COL_SPANS] + 8 * span;
    p->record = s->column[RT_COL_RECORDS] + record;
    p->record_bytes = records;
    p->hash = (uint64_t)load64(s->column[RT_COL_HASH], i);
    return 0;
}

// ---- the journal ----

static const char JOURNAL_HEAD[RT_TRACE_JOURNAL_HEAD + 1] = "rtjourn1";
static const uint32_t RECORD_MAGIC = 0x52545352;

bool rt_trace_journal_head_ok(const uint8_t *data, int64_t bytes)
{
    return bytes >= RT_TRACE_JOURNAL_HEAD && memcmp(data, JOURNAL_HEAD, RT_TRACE_JOURNAL_HEAD) == 0;
}

int rt_trace_journal_head_add(rt_trace_buf *out, rt_err *err)
{
    return rt_trace_buf_add(out, JOURNAL_HEAD, RT_TRACE_JOURNAL_HEAD, err);
}

int rt_trace_record_add(rt_trace_buf *out, const rt_trace_buf *payload, rt_err *err)
{
    uint32_t head[2] = { RECORD_MAGIC, (uint32_t)payload->n };
    uint64_t hash = rt_hash64(payload->data, payload->n, (uint64_t)payload->n);
    bool bad = rt_trace_buf_add(out, head, sizeof head, err) ||
               rt_trace_buf_add(out, &hash, sizeof hash, err) ||
               rt_trace_buf_add(out, payload->data, payload->n, err);
    return bad ? -1 : 0;
}

int rt_trace_record_next(const uint8_t *data, int64_t bytes, int64_t *at, const uint8_t **payload,
                         int64_t *n)
{
    uint32_t head[2];
    uint64_t hash;
    if (*at == bytes)
        return 0;
    if (bytes - *at < RT_TRACE_RECORD_HEAD)
        return -1;
    memcpy(head, data + *at, sizeof head);
    memcpy(&hash, data + *at + sizeof head, sizeof hash);
    const uint8_t *begin = data + *at + RT_TRACE_RECORD_HEAD;
    if (head[0] != RECORD_MAGIC || head[1] > bytes - *at - RT_TRACE_RECORD_HEAD ||
        rt_hash64(begin, head[1], head[1]) != hash)
        return -1;
    *payload = begin;
    *n = head[1];
    *at += RT_TRACE_RECORD_HEAD + (int64_t)head[1];
    return 1;
}

int64_t rt_trace_record_after(const uint8_t *data, int64_t bytes, int64_t at)
{
    // a hostile file may be all magic: each candidate costs a hash, so their number is bounded
    int tries = 1000;
    for (int64_t next = at + 1; next <= bytes - RT_TRACE_RECORD_HEAD && tries > 0; next++) {
        if (memcmp(data + next, &RECORD_MAGIC, sizeof RECORD_MAGIC) != 0)
            continue;
        int64_t end = next, n;
        const uint8_t *payload;
        tries--;
        if (rt_trace_record_next(data, bytes, &end, &payload, &n) == 1)
            return next;
    }
    return -1;
}
