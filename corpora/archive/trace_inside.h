/* trace_inside.h: what the files of the trace archive share and nobody else includes.
     trace_rows.c      soft rows <-> bits          trace_sample.c    sample <-> pieces <-> payload
     trace_manifest.c  manifest <-> JSON           trace_shard.c     pieces <-> shard file, journal
     trace_write.c     the writer                  trace_ids.c       the ids it has
     trace_read.c      the reader                  trace_stats.c     statistics
     trace_care.c      repair, merge               trace_verify.c    what is wrong, what is whole */
#ifndef RT_TRACE_INSIDE_H
#define RT_TRACE_INSIDE_H

#include "core/base/json.h"
#include "corpora/archive/npz.h"
#include "corpora/archive/trace.h"
#include "corpora/bytes_map.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the archive's columns are little-endian and copied as they stand"
#endif

/* ---- soft rows (trace_rows.c) ---- */

typedef struct rt_trace_codec {
    int32_t vocab, temps, head_max;
    int head_bits;          /* that hold 0 .. head_max - 1 */
    bool soft, draws;       /* rows and drawn tails are allowed at all */
    float logp[256];        /* short rows: by a */
    float entropy[256][16]; /* short rows: by a, b; nats */
} rt_trace_codec;

void rt_trace_codec_init(rt_trace_codec *c, const rt_trace_manifest *m);
/* taken: (soft->n) the token each row predicts. */
int rt_trace_rows_encode(const rt_trace_codec *c, rt_text *out, const rt_soft *soft,
                         const int32_t *taken, rt_err *err);
/* Appends `rows` rows to soft; the bytes must hold exactly these. *shorts += short rows. */
int rt_trace_rows_decode(const rt_trace_codec *c, rt_soft *soft, const uint8_t *data, int64_t bytes,
                         int64_t rows, const uint8_t *taken, int64_t *shorts, rt_err *err);

/* ---- one sample as stored (trace_sample.c) ---- */

/* The pieces of a sample, as the content hash takes them. Pointers into a map or a payload. */
typedef struct rt_trace_pieces {
    int64_t index;
    int32_t tokens, prompt_tokens, soft_first, rows, spans, verdict;
    const char *id; /* id_bytes, no NUL */
    const uint8_t *line, *token, *span,
        *record,          /* line without '\n'; i32 (tokens), i32 (spans, 2) */
        *weight;          /* f32 (spans), one of them not 1; or NULL */
    int64_t id_bytes, line_bytes, record_bytes;
    uint64_t hash;
} rt_trace_pieces;

enum { RT_TRACE_FIXED = 32, RT_TRACE_PAYLOAD_HEAD = 44 };
#define RT_TRACE_PAYLOAD_MAX (1LL << 30)

uint64_t rt_trace_pieces_hash(const rt_trace_pieces *p);
int64_t rt_trace_payload_bytes(const rt_trace_pieces *p);
int rt_trace_payload_add(rt_text *out, const rt_trace_pieces *p, rt_err *err);
/* Strict; sets hash. Pieces point into payload. */
int rt_trace_payload_parse(rt_trace_pieces *p, const uint8_t *payload, int64_t bytes, rt_err *err);
int rt_trace_sample_encode(const rt_trace_codec *c, rt_text *out, const rt_trace_sample *s,
                           rt_err *err);
/* The pieces of the sample as `place` has it; their line is appended to `line` and points there. */
int rt_trace_pieces_place(const rt_trace_codec *c, rt_trace_pieces *p, rt_trace_place *place,
                          void *ctx, rt_text *line, rt_err *err);
/* Everything the pieces say is checked. shorts may be NULL. */
int rt_trace_sample_decode(const rt_trace_codec *c, const rt_trace_pieces *p, int parts,
                           rt_trace_sample *s, int64_t *shorts, rt_err *err);

/* ---- manifest (trace_manifest.c) ---- */

typedef struct rt_trace_shard_info {
    int64_t samples, content, bytes;
    rt_hash hash;
} rt_trace_shard_info;

typedef struct rt_trace_shards {
    rt_trace_shard_info *item;
    int64_t n;
} rt_trace_shards;

/* Is a shard of so many samples and content (payload) bytes closed? */
bool rt_trace_shard_full(const rt_trace_manifest *m, int64_t samples, int64_t content);
void rt_trace_shard_name(char name[32], int64_t k);
char *rt_trace_shard_path(const char *dir, int64_t k); /* free() it */
int64_t rt_trace_shard_number(const char *name);       /* -1: not the name of a shard */
void rt_trace_manifest_put(cJSON *json, const rt_trace_manifest *m); /* the sections */
int rt_trace_manifest_read(rt_trace_manifest *m, const cJSON *json, rt_err *err);
int rt_trace_manifest_check(const rt_trace_manifest *m, rt_err *err); /* bounds */
int rt_trace_manifest_load(const char *dir, rt_trace_manifest *m, rt_trace_shards *s, rt_err *err);
int rt_trace_manifest_save(const char *dir, const rt_trace_manifest *m, const rt_trace_shards *s,
                           rt_err *err);
/* Names the first field that differs. What may: */
typedef enum rt_trace_may {
    RT_MAY_NOTHING,
    RT_MAY_PART, /* of archives that are merged */
    RT_MAY_PLAN  /* of an archive that grows: prompts, planned, samples_per_prompt */
} rt_trace_may;
int rt_trace_manifest_same(const rt_trace_manifest *have, const rt_trace_manifest *want,
                           rt_trace_may may, const char *path, rt_err *err);

/* ---- shards and journal (trace_shard.c) ---- */

/* Called with a name between all steps that a kill could separate; tests end the process there. */
typedef void rt_trace_hook(void *ctx, const char *point);

enum rt_trace_column {
    RT_COL_LINES, /* samples.jsonl */
    RT_COL_LINE_OFFSETS,
    RT_COL_ID,
    RT_COL_INDEX,
    RT_COL_VERDICT,
    RT_COL_PROMPT_TOKENS,
    RT_COL_SOFT_FIRST,
    RT_COL_TOKEN_OFFSETS,
    RT_COL_TOKENS,
    RT_COL_SPAN_OFFSETS,
    RT_COL_SPANS,
    RT_COL_SPAN_WEIGHTS, /* version 2 */
    RT_COL_ROW_OFFSETS,
    RT_COL_RECORD_OFFSETS,
    RT_COL_RECORDS,
    RT_COL_HASH,
    RT_COL_COUNT
};

typedef struct rt_trace_shard {
    rt_map map;
    rt_npz npz;
    int64_t number, n; /* of the file; samples */
    int64_t id_width;
    const uint8_t *column[RT_COL_COUNT]; /* not aligned */
    int64_t count[RT_COL_COUNT];         /* elements along the outermost dimension */
} rt_trace_shard;

/* p[i]: the samples, in order. The file is committed under dir/shard-k. */
int rt_trace_shard_write(const char *dir, int64_t k, const rt_trace_manifest *m,
                         const rt_trace_pieces *p, int64_t n, rt_trace_shard_info *info,
                         rt_trace_hook *hook, void *ctx, rt_err *err);
/* bytes < 0: any size. salvage: take what can be found, whatever the headers say. */
int rt_trace_shard_open(rt_trace_shard *s, const char *dir, int64_t k, int64_t bytes, bool salvage,
                        rt_err *err);
void rt_trace_shard_close(rt_trace_shard *s);
/* Bounds-checked; content is checked against hash by the caller. */
int rt_trace_shard_pieces(const rt_trace_shard *s, int64_t i, rt_trace_pieces *p, rt_err *err);

enum { RT_TRACE_JOURNAL_HEAD = 8, RT_TRACE_RECORD_HEAD = 16 };
int rt_trace_journal_head_add(rt_text *out, rt_err *err);
bool rt_trace_journal_head_ok(const uint8_t *data, int64_t bytes);
int rt_trace_record_add(rt_text *out, const rt_trace_pieces *p, rt_err *err);

enum rt_trace_record {
    RT_RECORD_END,
    RT_RECORD_WHOLE, /* p is filled and points into data */
    RT_RECORD_BAD,   /* damage before a good record, where *at stands now */
    RT_RECORD_TORN   /* nothing whole follows; *at stands at the end */
};
/* What stands at *at (begin at RT_TRACE_JOURNAL_HEAD), which moves past it. */
enum rt_trace_record rt_trace_record_next(const uint8_t *data, int64_t bytes, int64_t *at,
                                          rt_trace_pieces *p);

/* ---- ids that are there (trace_ids.c) ---- */

typedef struct rt_trace_ids {
    rt_bytes_map map;     /* id -> plan index, in the order they came */
    rt_bytes_map indices; /* the plan indices, once one came below the last */
    int64_t last_index;
    bool unordered; /* some index came after a greater one */
} rt_trace_ids;

/* 0 added, 1 this id with this index is there already, -1 (error) a conflict or no memory. */
int rt_trace_ids_add(rt_trace_ids *ids, const char *id, int64_t bytes, int64_t index,
                     const char *path, rt_err *err);
bool rt_trace_ids_has(const rt_trace_ids *ids, const char *id);

/* ---- writer and reader, inside ---- */

int rt_trace_open_hooked(rt_trace_writer **w, const char *path, const rt_trace_manifest *m,
                         rt_trace_hook *hook, void *ctx, rt_err *err);
/* Refuses pieces that do not match their hash. */
int rt_trace_append_pieces(rt_trace_writer *w, const rt_trace_pieces *p, rt_err *err);

typedef struct rt_trace_entry {
    int64_t shard; /* -1 = journal */
    int64_t at;    /* sample of the shard, or byte of the record in the journal */
} rt_trace_entry;

struct rt_trace_reader {
    char *path;
    rt_trace_manifest manifest;
    rt_trace_shards info;
    rt_trace_codec codec;
    rt_trace_shard *shard; /* (info.n, or as many as were found) */
    int64_t n_shards;
    rt_map journal;
    int64_t torn; /* bytes at the journal's end that are no whole record */
    rt_trace_entry *entry;
    int64_t n, cap;
};

int rt_trace_reader_new(rt_trace_reader **r, const char *path, rt_err *err); /* holds nothing yet */
void rt_trace_reader_add(rt_trace_reader *r, int64_t shard, int64_t at);
int rt_trace_reader_pieces(const rt_trace_reader *r, int64_t i, rt_trace_pieces *p, rt_err *err);

/* Reads everything and reports each problem; the number of them, -1 = no archive there. *whole: the
   samples whose hash and content are good, NULL when nothing says how the archive was made. */
int64_t rt_trace_inspect(rt_trace_reader **whole, int64_t *lost, const char *path,
                         rt_trace_report *report, void *ctx, rt_err *err);

/* ---- directories (trace_care.c) ---- */

int rt_trace_there(const char *path,
                   rt_err *err);               /* fails when no part of an archive stands there */
char *rt_trace_rebuild_path(const char *path); /* PATH.rebuild; free() it */
/* The archive's own files, then the directory. */
int rt_trace_remove(const char *path, rt_err *err);
int rt_trace_exchange(const char *a, const char *b, rt_err *err); /* two directories swap names */
/* A new archive at `path` (removed first) with every sample of the readers by index, each as
   `place` has it unless that is NULL; left open. */
int rt_trace_rebuild(rt_trace_writer **w, const char *path, rt_trace_reader *const *readers, int n,
                     const rt_trace_manifest *m, rt_trace_place *place, void *ctx, rt_err *err);

#endif
