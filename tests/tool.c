/* tool.c: what the check_*.sh scripts need beyond a shell, so that they run on a machine with
   nothing but what setup.sh installs.
     test-tool json FILE KEY.KEY.0.KEY     a value: a string as it is, anything else as JSON
     test-tool head IN.npy N OUT.npy       the first N elements
     test-tool near LOGITS.npy GOLDEN_DIR LIMIT
                                           largest difference from GOLDEN_DIR/logits.npy (f32; every
                                           row, or every eighth and the last), relative to its
                                           largest; exit 1 when above LIMIT
     test-tool bare IN.gguf OUT.gguf       a GGUF of ours without its two keys of checksums
     test-tool flip FILE BIT               the file with one bit turned over
     test-tool tokens A.traces N OUT.npy   the tokens of its sample N
     test-tool listed A.traces N TEACHER.npy STUDENT.npy OWN TOP FLOOR [MORE]
                                           whether sample N holds, at every position, the OWN most
                                           probable tokens of the teacher and the TOP of the student
                                           (fewer where less than FLOOR is left), as the logits of
                                           the two say in f64; the teacher's begin with MORE tokens
                                           that the sample lacks
     test-tool random CONFIG.json OUT.safetensors   the weights of a model of that shape as another
                                           program would write them: bf16, about N(0, 0.02), norms
   1; with quantization_config fp8, layers' matrices e4m3 Refuses: being installed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/memory.h"
#include "core/formats/gguf.h"
#include "core/network/weights.h"
#include "corpora/archive/npz.h"
#include "corpora/archive/trace.h"

static int json_value(const char *file, char *path, rt_err *err)
{
    cJSON *json = NULL;
    if (rt_json_load(&json, file, err))
        return -1;
    const cJSON *at = json;
    for (char *save = NULL, *key = strtok_r(path, ".", &save); key && at;
         key = strtok_r(NULL, ".", &save))
        at = cJSON_IsArray(at) ? cJSON_GetArrayItem(at, atoi(key)) : rt_json_find(at, key);
    char *text = at && !cJSON_IsString(at) ? rt_json_text(at) : NULL;
    if (at)
        puts(text ? text : at->valuestring);
    free(text);
    cJSON_Delete(json);
    return at ? 0 : rt_fail(err, "%s: has no such value", file);
}

static int open_npy(rt_map *map, rt_npy *npy, const char *dir, const char *name, rt_err *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s%s%s", dir, dir[0] ? "/" : "", name);
    return rt_map_open(map, path, err) || rt_npy_parse(npy, map->data, map->bytes, path, err);
}

static int head(const char *in, int64_t n, const char *out, rt_err *err)
{
    rt_map map = { 0 };
    rt_npy npy;
    uint8_t top[RT_NPY_HEAD];
    if (open_npy(&map, &npy, "", in, err))
        return -1;
    n = n < npy.dim[0] ? n : npy.dim[0];
    rt_npy_head(top, npy.descr, 1, &n);
    FILE *f = fopen(out, "wb");
    bool bad = !f || npy.rank != 1 || fwrite(top, 1, sizeof top, f) != sizeof top ||
               fwrite(npy.data, (size_t)npy.item, (size_t)n, f) != (size_t)n || fclose(f);
    rt_map_close(&map);
    return bad ? rt_fail(err, "%s: cannot be written", out) : 0;
}

static double value(const rt_npy *npy, int64_t i)
{
    float v;
    memcpy(&v, npy->data + i * 4, 4);
    return v;
}

static int near(const char *ours, const char *dir, double limit, rt_err *err)
{
    rt_map m[3] = { { 0 } };
    rt_npy a, b, tokens;
    if (open_npy(&m[0], &a, "", ours, err) || open_npy(&m[1], &b, dir, "logits.npy", err) ||
        open_npy(&m[2], &tokens, dir, "tokens.npy", err))
        return -1;
    int64_t v = b.dim[1], n = tokens.dim[0], rows = 0;
    double most = 0, largest = 0;
    if (strcmp(a.descr, "<f4") || strcmp(b.descr, "<f4") || a.rank != 2 || a.dim[1] != v)
        return rt_fail(err, "%s: not the logits of that model", ours);
    for (int64_t r = 0; r < b.dim[0]; r++) {
        int64_t at = b.dim[0] == n ? r : (n - 1) % 8 + 8 * r; // the row of the sequence
        for (int64_t i = 0; at < a.dim[0] && i < v; i++) {
            double d = fabs(value(&a, at * v + i) - value(&b, r * v + i));
            most = d > most || isnan(d) ? d : most;
            largest = fmax(largest, fabs(value(&b, r * v + i)));
        }
        rows += at < a.dim[0];
    }
    for (int i = 0; i < 3; i++)
        rt_map_close(&m[i]);
    printf("%.3g\n", most / largest);
    return rows && most / largest <= limit ? 0 : rt_fail(err, "%s: above %g", ours, limit);
}

static int read_sample(rt_trace_sample *t, const char *path, int64_t n, rt_err *err)
{
    rt_trace_reader *r = NULL;
    if (rt_trace_open_read(&r, path, err))
        return -1;
    rt_trace_sample_init(t);
    int bad = rt_trace_get(r, n, RT_TRACE_SOFT, t, err);
    rt_trace_reader_close(r);
    return bad;
}

static int tokens(const char *path, int64_t n, const char *out, rt_err *err)
{
    rt_trace_sample t;
    uint8_t top[RT_NPY_HEAD];
    if (read_sample(&t, path, n, err))
        return -1;
    rt_npy_head(top, "<i4", 1, &t.n_tokens);
    FILE *f = fopen(out, "wb");
    bool bad = !f || fwrite(top, 1, sizeof top, f) != sizeof top ||
               fwrite(t.tokens, 4, (size_t)t.n_tokens, f) != (size_t)t.n_tokens || fclose(f);
    rt_trace_sample_free(&t);
    return bad ? rt_fail(err, "%s: cannot be written", out) : 0;
}

/* Row r of logits as probabilities; marks[i] += mark for each of the `most` most probable ids, fewer
   where less than `floor` is left. */
static void mark_head(double *p, int *marks, int mark, const rt_npy *z, int64_t r, int most,
                      double floor)
{
    int64_t v = z->dim[1];
    double sum = 0, left = 1, max = -INFINITY;
    for (int64_t i = 0; i < v; i++)
        max = fmax(max, value(z, r * v + i));
    for (int64_t i = 0; i < v; i++)
        sum += p[i] = exp(value(z, r * v + i) - max);
    for (int64_t i = 0; i < v; i++)
        p[i] /= sum;
    for (int k = 0; k < most && (k == 0 || left >= floor); k++) {
        int64_t best = -1;
        for (int64_t i = 0; i < v; i++)
            if (!(marks[i] & mark) && (best < 0 || p[i] > p[best]))
                best = i;
        if (best < 0)
            break;
        marks[best] |= mark;
        left -= p[best];
    }
}

/* A row against f64: 0 when it is as it should be. */
static int listed_row(const rt_trace_sample *t, int64_t r, const rt_npy *teacher,
                      const rt_npy *student, const int most[2], double floor, int64_t more,
                      rt_err *err)
{
    const rt_soft *s = &t->soft;
    int64_t v = teacher->dim[1], at = s->offset[r], row = t->soft_first + r - 1, found = 0;
    double *p = rt_alloc(v, sizeof *p, "p"), *q = rt_alloc(v, sizeof *q, "q"), tail = 0, off = 0;
    int *marks = rt_alloc(v, sizeof *marks, "marks");
    mark_head(q, marks, 2, student, row, most[1], floor);
    mark_head(p, marks, 1, teacher, row + more, most[0], floor);
    for (int64_t i = 0; i < v; i++)
        tail += marks[i] ? 0 : p[i];
    for (int32_t i = 0; i < s->head_n[r]; i++, at++) {
        found += marks[s->id[at]] != 0;
        off = fmax(off, fabs((double)s->logp[at] - fmax(log(p[s->id[at]]), -31.99)));
        marks[s->id[at]] = 0;
    }
    int64_t missed = 0;
    for (int64_t i = 0; i < v; i++)
        missed += marks[i] != 0;
    off = fmax(off, fabs(exp((double)s->tail_logmass[r]) - tail));
    off = fmax(off, fabs((double)s->taken_logp[r] - log(p[t->tokens[row + 1]])));
    free(p), free(q), free(marks);
    return found == s->head_n[r] && !missed && off < 1e-3
               ? 0
               : rt_fail(err, "row %lld: %lld ids missed, %lld too many, off by %g", (long long)r,
                         (long long)missed, (long long)(s->head_n[r] - found), off);
}

static int listed(char **argv, rt_err *err)
{
    rt_map m[2] = { { 0 } };
    rt_npy teacher, student;
    rt_trace_sample t;
    int most[2] = { atoi(argv[4]), atoi(argv[5]) };
    if (read_sample(&t, argv[0], atoll(argv[1]), err) ||
        open_npy(&m[0], &teacher, "", argv[2], err) || open_npy(&m[1], &student, "", argv[3], err))
        return -1;
    int bad = t.soft.n < 2 ? rt_fail(err, "%s: no soft targets", argv[0]) : 0;
    for (int64_t r = 0; !bad && r < t.soft.n; r++)
        bad = listed_row(&t, r, &teacher, &student, most, atof(argv[6]),
                         argv[7] ? atoll(argv[7]) : 0, err);
    rt_trace_sample_free(&t);
    rt_map_close(&m[0]), rt_map_close(&m[1]);
    return bad;
}

/* The checksums are the last keys: everything before them, the tensors' descriptions, the data. */
static int bare(const char *in, const char *out, rt_err *err)
{
    rt_gguf g;
    static const char zeros[32] = { 0 };
    if (rt_gguf_open(&g, in, err))
        return -1;
    const rt_gguf_key *own = rt_gguf_find_key(&g, RT_GGUF_HEADER_KEY);
    const rt_gguf_key *sums = rt_gguf_find_key(&g, RT_GGUF_SUMS_KEY);
    const char *file = (const char *)g.map.data;
    uint64_t keys = (uint64_t)g.n_keys - 2;
    FILE *f = own && sums && g.n_tensors ? fopen(out, "wb") : NULL;
    if (!f) {
        rt_gguf_close(&g);
        return rt_fail(err, "%s: no checksums in it, or %s cannot be written", in, out);
    }
    size_t begin = (size_t)((const char *)own->data - file) - 4 - strlen(own->name) - 8;
    const char *infos = (const char *)sums->data + sums->bytes;
    size_t bytes = 0, data_at = (size_t)g.tensor[0].offset;
    for (int64_t i = 0; i < g.n_tensors; i++)
        bytes += 8 + strlen(g.tensor[i].name) + 4 + 8 * (size_t)g.tensor[i].rank + 4 + 8;
    fwrite(file, 1, 16, f);
    fwrite(&keys, 8, 1, f);
    fwrite(file + 24, 1, begin - 24, f);
    fwrite(infos, 1, bytes, f);
    fwrite(zeros, 1, (32 - (begin + bytes) % 32) % 32, f);
    fwrite(file + data_at, 1, (size_t)g.map.bytes - data_at, f);
    rt_gguf_close(&g);
    return fclose(f) ? rt_fail(err, "%s: cannot be written", out) : 0;
}

static int flip(const char *path, long long bit, rt_err *err)
{
    FILE *f = fopen(path, "r+b");
    int c = f && fseek(f, (long)(bit / 8), SEEK_SET) == 0 ? fgetc(f) : EOF;
    bool bad = c == EOF || fseek(f, (long)(bit / 8), SEEK_SET) || fputc(c ^ 1 << bit % 8, f) == EOF;
    if (f && fclose(f))
        bad = true;
    return bad ? rt_fail(err, "%s: cannot be changed", path) : 0;
}

enum { CHUNK = 1 << 20 };

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state;
}

/* Sums of four random bytes are bell-shaped enough. */
static void fill(uint16_t *out, int64_t n, bool ones, uint64_t *state)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t r = (uint32_t)(next_random(state) >> 32);
        int sum = (int)(r & 255) + (int)(r >> 8 & 255) + (int)(r >> 16 & 255) + (int)(r >> 24) -
                  510;
        out[i] = rt_f32_to_bf16(ones ? 1.0f : (float)sum * (0.02f / 148));
    }
}

/* Codes of e4m3 below 1.9 under scales that make them about as large. */
static void fill_codes(uint8_t *out, int64_t n, uint64_t *state)
{
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t r = (uint32_t)(next_random(state) >> 32);
        for (int64_t k = i; k < n && k < i + 4; k++, r >>= 8)
            out[k] = (uint8_t)((r & 128) | (r & 127) % 64);
    }
}

/* What is fp8 in a checkpoint that is: the matrices of layers but the router. */
static bool is_fp8(const rt_config *c, const rt_param *p)
{
    return c->quantization.method == RT_QUANT_FP8 && (p->flags & RT_PARAM_PRODUCT) &&
           p->layer >= 0 && !strstr(p->name, "mlp.gate.weight");
}

static int64_t scale_dim(const rt_config *c, const rt_param *p, int d)
{
    int64_t each = d ? c->quantization.cols : c->quantization.rows;
    return rt_ceil_div(p->slot->dim[(p->experts != 0) + d], each);
}

static void declare(cJSON *header, const char *name, const char *dtype, int rank,
                    const int64_t *dim, int64_t item, int64_t *at)
{
    cJSON *one = rt_json_object(), *shape = rt_json_array(), *offsets = rt_json_array();
    int64_t bytes = item;
    for (int d = 0; d < rank; d++) {
        rt_json_put(shape, NULL, cJSON_CreateNumber((double)dim[d]));
        bytes *= dim[d];
    }
    rt_json_put(offsets, NULL, cJSON_CreateNumber((double)*at));
    *at += bytes;
    rt_json_put(offsets, NULL, cJSON_CreateNumber((double)*at));
    rt_json_put_str(one, "dtype", dtype);
    rt_json_put(one, "shape", shape);
    rt_json_put(one, "data_offsets", offsets);
    rt_json_put(header, name, one);
}

static void declare_param(cJSON *header, const rt_config *c, const rt_param *p, int64_t *at)
{
    bool stack = p->experts != 0;
    for (int64_t e = 0; e < rt_max(p->experts, 1); e++) {
        char name[160], scale[180];
        int64_t blocks[2] = { 0 };
        snprintf(name, sizeof name, "%s", p->name);
        if (stack)
            rt_param_expert_name(p, e, name, sizeof name);
        declare(header, name, is_fp8(c, p) ? "F8_E4M3" : "BF16", p->slot->rank - stack,
                p->slot->dim + stack, is_fp8(c, p) ? 1 : 2, at);
        if (!is_fp8(c, p))
            continue;
        snprintf(scale, sizeof scale, "%s_scale_inv", name);
        for (int d = 0; d < 2; d++)
            blocks[d] = scale_dim(c, p, d);
        declare(header, scale, "F32", 2, blocks, 4, at);
    }
}

static bool write_param(FILE *f, const rt_config *c, const rt_param *p, void *chunk,
                        uint64_t *state)
{
    int64_t each = rt_tensor_elements(p->slot) / rt_max(p->experts, 1);
    bool codes = is_fp8(c, p), bad = false;
    for (int64_t e = 0; !bad && e < rt_max(p->experts, 1); e++) {
        for (int64_t left = each, n; !bad && left > 0; left -= n) {
            n = rt_min(left, CHUNK);
            if (codes)
                fill_codes(chunk, n, state);
            else
                fill(chunk, n, p->init == RT_INIT_ONES, state);
            bad = fwrite(chunk, codes ? 1 : 2, (size_t)n, f) != (size_t)n;
        }
        float scale = 0.04f;
        for (int64_t i = 0; codes && !bad && i < scale_dim(c, p, 0) * scale_dim(c, p, 1); i++)
            bad = fwrite(&scale, 4, 1, f) != 1;
    }
    return !bad;
}

static int random_weights(const char *config, const char *out, rt_err *err)
{
    rt_config c;
    rt_model m;
    cJSON *json = NULL, *header = rt_json_object();
    if (rt_json_load(&json, config, err) || rt_config_parse(&c, json, config, err))
        return -1;
    rt_model_init(&m, &c);
    int64_t at = 0;
    for (int i = 0; i < m.w.params.n; i++)
        declare_param(header, &c, &m.w.params.item[i], &at);
    char *text = rt_json_text(header);
    int64_t length = rt_align_up((int64_t)strlen(text), 64) + 56;
    void *chunk = rt_alloc(CHUNK, 2, "a chunk");
    uint64_t state = 7;
    FILE *f = fopen(out, "wb");
    bool bad = !f || fwrite(&length, 8, 1, f) != 1 || fprintf(f, "%-*s", (int)length, text) < 0;
    for (int i = 0; !bad && i < m.w.params.n; i++)
        bad = !write_param(f, &c, &m.w.params.item[i], chunk, &state);
    bad = (f && fclose(f)) || bad;
    rt_weights_free(NULL, &m.w);
    free(chunk);
    free(text);
    cJSON_Delete(header);
    cJSON_Delete(json);
    return bad ? rt_fail(err, "%s: cannot be written", out) : 0;
}

int main(int argc, char **argv)
{
    rt_err err = { 0 };
    int rc = rt_usage(&err, "wrong use: see tests/tool.c");
    if (argc == 4 && !strcmp(argv[1], "json"))
        rc = json_value(argv[2], argv[3], &err);
    else if (argc == 5 && !strcmp(argv[1], "head"))
        rc = head(argv[2], atoll(argv[3]), argv[4], &err);
    else if (argc == 5 && !strcmp(argv[1], "near"))
        rc = near(argv[2], argv[3], atof(argv[4]), &err);
    else if (argc == 4 && !strcmp(argv[1], "bare"))
        rc = bare(argv[2], argv[3], &err);
    else if (argc == 4 && !strcmp(argv[1], "flip"))
        rc = flip(argv[2], atoll(argv[3]), &err);
    else if (argc == 5 && !strcmp(argv[1], "tokens"))
        rc = tokens(argv[2], atoll(argv[3]), argv[4], &err);
    else if ((argc == 9 || argc == 10) && !strcmp(argv[1], "listed"))
        rc = listed(argv + 2, &err);
    else if (argc == 4 && !strcmp(argv[1], "random"))
        rc = random_weights(argv[2], argv[3], &err);
    if (rc)
        fprintf(stderr, "test-tool: %s\n", err.text);
    return rc ? 1 : 0;
}
