/* fuzz_traces.c: what the trace archive reads: by the first bytes a journal, a manifest, one .npy
   column, or else a shard (a ZIP of columns), which is opened strictly and as salvage opens it.
   Hashes are made to fit, so that the content behind them is reached. The mutator takes a ZIP apart
   and changes one entry under headers that stay true. */
#include "fuzz.h"

#include "corpora/archive/trace_inside.h"

static const rt_trace_codec *codec(void)
{
    static rt_trace_codec c;
    if (!c.vocab) {
        rt_trace_manifest m;
        rt_trace_manifest_init(&m);
        m.vocab_size = 1000; // as the archive of the seeds
        m.capture = (rt_soft_config){ .head_max = 8,
                                      .head_floor = 1e-3f,
                                      .tail_spacing = 1.0f / 32,
                                      .n_temperatures = 2,
                                      .temperature = { 0.6f, 2.0f } };
        rt_trace_codec_init(&c, &m);
    }
    return &c;
}

static void decode(rt_trace_pieces *p)
{
    rt_trace_sample s;
    rt_err err;
    rt_trace_sample_init(&s);
    p->hash = rt_trace_pieces_hash(p);
    rt_trace_sample_decode(codec(), p, RT_TRACE_TEXT | RT_TRACE_SOFT, &s, NULL, &err);
    rt_trace_sample_free(&s);
}

static void read_shard(bool salvage)
{
    rt_trace_shard s;
    rt_trace_pieces p;
    rt_npy npy;
    rt_err err;
    if (rt_trace_shard_open(&s, FUZZ_DIR, 0, -1, salvage, &err))
        return;
    for (int i = 0; i < s.npz.n; i++) {
        const rt_npz_entry *e = &s.npz.entry[i];
        FUZZ_CHECK(e->data >= s.map.data && e->data + e->bytes <= s.map.data + s.map.bytes);
        rt_npy_parse(&npy, e->data, e->bytes, e->name, &err);
    }
    for (int64_t i = 0; i < s.n && i < 8; i++)
        if (rt_trace_shard_pieces(&s, i, &p, &err) == 0)
            decode(&p);
    rt_trace_shard_close(&s);
}

static void read_journal(uint8_t *data, int64_t bytes)
{
    rt_trace_pieces p;
    int64_t at = RT_TRACE_JOURNAL_HEAD, next = at;
    uint32_t n;
    while (bytes - next >= RT_TRACE_RECORD_HEAD) { // hashes that fit
        memcpy(&n, data + next + 4, 4);
        int64_t payload = next + RT_TRACE_RECORD_HEAD;
        if (n > bytes - payload)
            break;
        uint64_t hash = rt_hash64(data + payload, n, n);
        memcpy(data + next + 8, &hash, 8);
        next = payload + n;
    }
    for (;;) {
        enum rt_trace_record r = rt_trace_record_next(data, bytes, &at, &p);
        if (r == RT_RECORD_WHOLE)
            decode(&p);
        else if (r != RT_RECORD_BAD)
            break;
    }
}

int fuzz_one(const uint8_t *data, size_t size)
{
    rt_trace_manifest m;
    rt_trace_shards shards;
    rt_npy npy;
    rt_err err;
    if (!size)
        return 0;
    if (rt_trace_journal_head_ok(data, (int64_t)size)) {
        uint8_t *copy = malloc(size);
        FUZZ_CHECK(copy);
        memcpy(copy, data, size);
        read_journal(copy, (int64_t)size);
        free(copy);
    } else if (data[0] == '{') {
        fuzz_file("manifest.json", data, size);
        if (rt_trace_manifest_load(FUZZ_DIR, &m, &shards, &err) == 0)
            free(shards.item);
    } else if (data[0] == 0x93) {
        rt_npy_parse(&npy, data, (int64_t)size, "column", &err);
    } else {
        fuzz_file("shard-00000.npz", data, size);
        read_shard(false);
        read_shard(true);
    }
    return 0;
}

// ---- mutator ----

static void add_head(rt_text *to, const rt_npz_entry *e, int64_t bytes, int64_t at, bool central)
{
    size_t n = strlen(e->name);
    fuzz_add(to, central ? "PK\1\2\24\0" : "PK\3\4", central ? 6 : 4);
    fuzz_add_le(to, 20, 2); // version needed
    fuzz_add_le(to, 0, 8);  // flags, method, time, date
    fuzz_add_le(to, 0, 4);  // CRC-32, which the reader leaves to unzip
    fuzz_add_le(to, (uint64_t)bytes, 4);
    fuzz_add_le(to, (uint64_t)bytes, 4);
    fuzz_add_le(to, n, 2);
    fuzz_add_le(to, 0, 2); // extra
    if (central) {
        fuzz_add_le(to, 0, 8); // comment, disk, attributes
        fuzz_add_le(to, 0, 2);
        fuzz_add_le(to, (uint64_t)at, 4);
    }
    fuzz_add(to, e->name, n);
}

// The entry's bytes changed: of a .npy mostly the data, under a header that covers them.
static void change_entry(rt_text *to, const rt_npz_entry *e, fuzz_dice *d)
{
    rt_npy npy;
    rt_err err;
    rt_text body = { 0 };
    if (fuzz_roll(d, 6) == 0 || rt_npy_parse(&npy, e->data, e->bytes, "", &err) ||
        npy.data - e->data != RT_NPY_HEAD) {
        fuzz_add(to, e->data, (size_t)e->bytes);
        fuzz_text_change(to, 32);
        return;
    }
    fuzz_add(&body, npy.data, (size_t)npy.bytes);
    fuzz_text_change(&body, fuzz_roll(d, 2) ? 0 : 64);
    int64_t row = npy.item * (npy.rank == 2 ? npy.dim[1] : 1);
    npy.dim[0] = body.bytes / rt_max(1, row);
    uint8_t head[RT_NPY_HEAD];
    rt_npy_head(head, npy.descr, npy.rank, npy.dim);
    fuzz_add(to, head, sizeof head);
    fuzz_add(to, body.data, (size_t)(npy.dim[0] * row));
    rt_text_free(&body);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    fuzz_dice d = { seed };
    rt_npz z;
    rt_err err;
    if (fuzz_roll(&d, 4) == 0 || rt_npz_parse(&z, data, (int64_t)size, "", &err) || !z.n)
        return LLVMFuzzerMutate(data, size, max);
    rt_text text = { 0 }, directory = { 0 }, body = { 0 };
    int changed = (int)fuzz_roll(&d, (uint64_t)z.n);
    int dropped = fuzz_roll(&d, 32) ? -1 : (int)fuzz_roll(&d, (uint64_t)z.n), n = 0;
    for (int i = 0; i < z.n; i++) {
        rt_npz_entry *e = &z.entry[i];
        int64_t at = text.bytes;
        rt_text_clear(&body);
        if (i == dropped)
            continue;
        if (i == changed)
            change_entry(&body, e, &d);
        else
            fuzz_add(&body, e->data, (size_t)e->bytes);
        add_head(&text, e, body.bytes, at, false);
        fuzz_add(&text, body.data ? body.data : "", (size_t)body.bytes);
        add_head(&directory, e, body.bytes, at, true);
        n++;
    }
    int64_t at = text.bytes;
    fuzz_add(&text, directory.data ? directory.data : "", (size_t)directory.bytes);
    fuzz_add(&text, "PK\5\6\0\0\0\0", 8);
    fuzz_add_le(&text, (uint64_t)n, 2);
    fuzz_add_le(&text, (uint64_t)n, 2);
    fuzz_add_le(&text, (uint64_t)directory.bytes, 4);
    fuzz_add_le(&text, (uint64_t)at, 4);
    fuzz_add_le(&text, 0, 2);
    rt_text_free(&directory);
    rt_text_free(&body);
    return fuzz_result(&text, data, size, max);
}
