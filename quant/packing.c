#include "quant/packing.h"

#include <stdio.h>
#include <string.h>

/* AutoAWQ's order: nibble i of a word is output ORDER[i] of its eight. */
static const int ORDER[8] = { 0, 2, 4, 6, 1, 3, 5, 7 }, PLAIN[8] = { 0, 1, 2, 3, 4, 5, 6, 7 };

rt_packing rt_pack_named(const char *name)
{
    return !strcmp(name, "compressed-tensors") ? RT_PACK_COMPRESSED
           : !strcmp(name, "gptq")             ? RT_PACK_GPTQ
           : !strcmp(name, "awq")              ? RT_PACK_AWQ
                                               : RT_PACK_GGUF;
}

bool rt_pack_symmetric(rt_packing p) { return p != RT_PACK_AWQ; }

int rt_pack_parts(rt_packing p, int64_t outputs, int64_t inputs, int64_t group,
                  rt_pack_part part[RT_PACK_PARTS])
{
    int64_t o = outputs, i = inputs, g = inputs / group;
    const rt_pack_part compressed[] = { { "weight_packed", RT_I32, 2, { o, i / 8 } },
                                        { "weight_scale", RT_F16, 2, { o, g } },
                                        { "weight_shape", RT_I32, 1, { 2, 1 } } };
    const rt_pack_part gptq[] = { { "qweight", RT_I32, 2, { i / 8, o } },
                                  { "qzeros", RT_I32, 2, { g, o / 8 } },
                                  { "scales", RT_F16, 2, { g, o } },
                                  { "g_idx", RT_I32, 1, { i, 1 } } };
    const rt_pack_part awq[] = { { "qweight", RT_I32, 2, { i, o / 8 } },
                                 { "qzeros", RT_I32, 2, { g, o / 8 } },
                                 { "scales", RT_F16, 2, { g, o } } };
    if (p == RT_PACK_COMPRESSED)
        return memcpy(part, compressed, sizeof compressed), RT_COUNT(compressed);
    if (p == RT_PACK_GPTQ)
        return memcpy(part, gptq, sizeof gptq), RT_COUNT(gptq);
    return memcpy(part, awq, sizeof awq), RT_COUNT(awq);
}

int64_t rt_pack_part_bytes(const rt_pack_part *part)
{
    return rt_dtype_bytes(part->dtype, part->dim[0] * part->dim[1]);
}

/* ---- writing ---- */

/* Words of eight nibbles: word (r, c) of (rows, cols) holds the nibbles get(r, c, 0 .. 7). */
typedef uint32_t nibble_fn(const rt_codes *c, int64_t row, int64_t col, int i);

static uint32_t compressed_code(const rt_codes *c, int64_t row, int64_t col, int i)
{
    return c->code[row * c->inputs + 8 * col + i];
}
static uint32_t gptq_code(const rt_codes *c, int64_t row, int64_t col, int i)
{
    return c->code[col * c->inputs + 8 * row + i];
}
/* v1 keeps zero - 1, which readers add again. */
static uint32_t gptq_zero(const rt_codes *c, int64_t row, int64_t col, int i)
{
    return (c->zero[(8 * col + i) * (c->inputs / c->group) + row] - 1U) & 15;
}
static uint32_t awq_code(const rt_codes *c, int64_t row, int64_t col, int i)
{
    return c->code[(8 * col + ORDER[i]) * c->inputs + row];
}
static uint32_t awq_zero(const rt_codes *c, int64_t row, int64_t col, int i)
{
    return c->zero[(8 * col + ORDER[i]) * (c->inputs / c->group) + row];
}

static void pack_words(const rt_codes *c, nibble_fn *get, int64_t rows, int64_t cols,
                       uint32_t *word)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < cols; k++) {
            uint32_t w = 0;
            for (int i = 0; i < 8; i++)
                w |= get(c, r, k, i) << (4 * i);
            word[r * cols + k] = w;
        }
}

static void pack_scales(const rt_codes *c, bool transposed, uint16_t *out)
{
    int64_t groups = c->inputs / c->group;
    for (int64_t o = 0; o < c->outputs; o++)
        for (int64_t g = 0; g < groups; g++)
            out[transposed ? g * c->outputs + o : o * groups + g] = c->scale[o * groups + g];
}

void rt_pack(rt_packing p, int k, const rt_codes *c, void *data)
{
    rt_pack_part part[RT_PACK_PARTS];
    rt_pack_parts(p, c->outputs, c->inputs, c->group, part);
    int64_t rows = part[k].dim[0], cols = part[k].dim[1];
    int32_t *number = data;
    if (part[k].dtype == RT_F16)
        pack_scales(c, p != RT_PACK_COMPRESSED, data);
    else if (part[k].rank == 2 && k == 0)
        pack_words(c,
                   p == RT_PACK_COMPRESSED ? compressed_code
                   : p == RT_PACK_GPTQ     ? gptq_code
                                           : awq_code,
                   rows, cols, data);
    else if (part[k].rank == 2)
        pack_words(c, p == RT_PACK_GPTQ ? gptq_zero : awq_zero, rows, cols, data);
    else if (p == RT_PACK_COMPRESSED)
        number[0] = (int32_t)c->outputs, number[1] = (int32_t)c->inputs;
    else
        for (int64_t i = 0; i < rows; i++)
            number[i] = (int32_t)(i / c->group);
}

/* ---- reading ---- */

static const rt_st_tensor *find_part(const rt_safetensors *st, const char *base,
                                     const rt_pack_part *want, rt_err *err)
{
    char name[192];
    snprintf(name, sizeof name, "%s.%s", base, want->suffix);
    const rt_st_tensor *t = rt_safetensors_find(st, name);
    if (t && t->dtype == want->dtype && t->rank == want->rank && t->dim[0] == want->dim[0] &&
        (want->rank == 1 || t->dim[1] == want->dim[1]))
        return t;
    rt_fail(err, "%s: tensor %s is missing or has another shape", st->path[0], name);
    return NULL;
}

static uint32_t nibble(const rt_st_tensor *t, int64_t word, int i)
{
    uint32_t w;
    memcpy(&w, t->data + 4 * word, 4);
    return w >> (4 * i) & 15;
}

int rt_pack_read_row(rt_packing p, const rt_safetensors *st, const char *base, int64_t group,
                     int64_t row, float *out, int64_t inputs, rt_err *err)
{
    rt_pack_part part[RT_PACK_PARTS];
    const rt_st_tensor *t[RT_PACK_PARTS];
    char name[192];
    snprintf(name, sizeof name, "%s.scales", base);
    const rt_st_tensor *scales = rt_safetensors_find(st, name);
    int64_t outputs = scales && scales->rank == 2 ? scales->dim[1] : 8;
    int n = rt_pack_parts(p, outputs, inputs, group, part);
    if (p == RT_PACK_COMPRESSED || row >= outputs)
        rt_bug("a row that stored.h reads, or none");
    for (int k = 0; k < n; k++)
        if (!(t[k] = find_part(st, base, &part[k], err)))
            return -1;
    const int *order = p == RT_PACK_AWQ ? ORDER : PLAIN;
    int lane = 0;
    while (order[lane] != row % 8)
        lane++;
    for (int64_t i = 0; i < inputs; i++) {
        int64_t g = i / group;
        uint16_t half;
        memcpy(&half, t[2]->data + 2 * (g * outputs + row), 2);
        uint32_t code = p == RT_PACK_AWQ ? nibble(t[0], i * (outputs / 8) + row / 8, lane)
                                         : nibble(t[0], i / 8 * outputs + row, (int)(i % 8));
        uint32_t zero = nibble(t[1], g * (outputs / 8) + row / 8, lane);
        zero = p == RT_PACK_GPTQ ? zero + 1 : zero;
        out[i] = rt_f16_to_f32(half) * (float)((int)code - (int)zero);
    }
    return 0;
}

/* ---- config.json ---- */

static cJSON *compressed_config(int64_t group)
{
    cJSON *q = rt_json_object(), *groups = rt_json_object(), *one = rt_json_object();
    cJSON *targets = rt_json_array(), *weights = rt_json_object(), *ignore = rt_json_array();
    rt_json_put_str(q, "quant_method", "compressed-tensors");
    rt_json_put_str(q, "format", "pack-quantized");
    rt_json_put_str(q, "quantization_status", "compressed");
    rt_json_put_str(targets, NULL, "Linear");
    rt_json_put(one, "targets", targets);
    rt_json_put_i64(weights, "num_bits", 4);
    rt_json_put_str(weights, "type", "int");
    rt_json_put_bool(weights, "symmetric", true);
    rt_json_put_str(weights, "strategy", "group");
    rt_json_put_i64(weights, "group_size", group);
    rt_json_put_bool(weights, "dynamic", false);
    rt_json_put(one, "weights", weights);
    rt_json_put(groups, "group_0", one);
    rt_json_put(q, "config_groups", groups);
    rt_json_put_str(ignore, NULL, "lm_head");
    rt_json_put(q, "ignore", ignore);
    return q;
}

cJSON *rt_pack_config(rt_packing p, int64_t group)
{
    if (p == RT_PACK_COMPRESSED)
        return compressed_config(group);
    cJSON *q = rt_json_object();
    rt_json_put_str(q, "quant_method", p == RT_PACK_GPTQ ? "gptq" : "awq");
    rt_json_put_i64(q, "bits", 4);
    rt_json_put_i64(q, "group_size", group);
    if (p == RT_PACK_GPTQ) {
        rt_json_put_str(q, "checkpoint_format", "gptq");
        rt_json_put_bool(q, "desc_act", false);
        rt_json_put_bool(q, "sym", true);
        rt_json_put_bool(q, "lm_head", false);
    } else {
        rt_json_put_str(q, "version", "gemm");
        rt_json_put_bool(q, "zero_point", true);
        rt_json_put(q, "modules_to_not_convert", cJSON_CreateNull());
    }
    return q;
}
