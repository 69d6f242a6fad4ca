/* fuzz_safetensors.c: one .safetensors file: header, layout, every tensor read. Inputs that are a
   JSON object are an index instead, over a small good file. The mutator changes the header as a
   JSON tree and makes length, offsets and data agree with it more often than not. */
#include "fuzz.h"

#include "core/formats/safetensors.h"

#define GOOD "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}\0\0\0\0\0\0\0\0"

static void read_all(const rt_safetensors *st)
{
    rt_err err;
    for (int64_t i = 0; i < st->n_tensors; i++) {
        const rt_st_tensor *t = &st->tensor[i];
        float row[256];
        FUZZ_CHECK(rt_safetensors_find(st, t->name) == t);
        FUZZ_CHECK(t->data >= st->map[t->file].data &&
                   t->data + t->bytes <= st->map[t->file].data + st->map[t->file].bytes);
        int64_t n = rt_min(t->elements, RT_COUNT(row));
        rt_safetensors_read_f32(row, t, t->elements - n, n, &err);
    }
}

int fuzz_one(const uint8_t *data, size_t size)
{
    static uint8_t good[8 + sizeof GOOD - 1] = { sizeof GOOD - 1 - 8 };
    rt_safetensors st;
    rt_err err;
    bool index = size && data[0] == '{';
    memcpy(good + 8, GOOD, sizeof GOOD - 1);
    fuzz_file("a.safetensors", good, sizeof good);
    fuzz_file("model.safetensors", index ? NULL : data, size);
    fuzz_file("model.safetensors.index.json", index ? data : NULL, size);
    if (rt_safetensors_open(&st, FUZZ_DIR, &err) == 0) {
        read_all(&st);
        rt_safetensors_close(&st);
    }
    return 0;
}

static const char WORDS[] =
    "dtype\nshape\ndata_offsets\n__metadata__\nF32\nF16\nBF16\nI32\nU8\nF4\nI64\nF8_E4M3\n"
    "BOOL\nC64\nweight_map\na\nb\na.safetensors\nretort.header\nretort.xxh3\n"
    "99aa06d3014798d86001c324468d497f";

// data_offsets that follow from dtype and shape, one tensor behind the other; all their bytes.
static uint64_t lay_out(cJSON *header)
{
    uint64_t at = 0;
    for (cJSON *t = header->child; t; t = t->next) {
        const char *type = cJSON_GetStringValue(rt_json_find(t, "dtype"));
        const cJSON *d;
        uint64_t bits = !type                ? 8
                        : strstr(type, "64") ? 64
                        : strstr(type, "32") ? 32
                        : strstr(type, "16") ? 16
                        : strstr(type, "F4") ? 4
                                             : 8;
        cJSON_ArrayForEach(d, rt_json_find(t, "shape"))
            bits *= d->valuedouble >= 0 && d->valuedouble < 64 ? (uint64_t)d->valuedouble : 1;
        int extent[2] = { (int)at, (int)(at + bits / 8) };
        at += bits / 8;
        if (rt_json_find(t, "data_offsets"))
            cJSON_ReplaceItemInObjectCaseSensitive(t, "data_offsets",
                                                   cJSON_CreateIntArray(extent, 2));
        if (at > 1 << 12)
            return at;
    }
    return at;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    fuzz_dice d = { seed };
    if (size && data[0] == '{')
        return fuzz_json_mutate(data, size, max, seed, WORDS);
    uint64_t length = 0;
    for (size_t i = 8; i-- > 0 && size >= 8;)
        length = length << 8 | data[i];
    cJSON *header = size >= 8 && length <= size - 8 && fuzz_roll(&d, 4)
                        ? cJSON_ParseWithLength((const char *)data + 8, length)
                        : NULL;
    if (!header)
        return LLVMFuzzerMutate(data, size, max);
    for (int n = 1 + (int)fuzz_roll(&d, 3); n > 0; n--)
        fuzz_json_change(header, &d, WORDS);
    uint64_t bytes = fuzz_roll(&d, 4) ? lay_out(header) : size - 8 - length;
    char *printed = cJSON_PrintUnformatted(header);
    rt_text text = { 0 }, json = { 0 };
    fuzz_add(&json, printed ? printed : "{}", printed ? strlen(printed) : 2);
    if (fuzz_roll(&d, 8) == 0)
        fuzz_text_change(&json, 16);
    fuzz_add_le(&text, (uint64_t)json.bytes, 8);
    fuzz_add(&text, json.data, (size_t)json.bytes);
    for (uint64_t i = 0; i < bytes && i < 1 << 12; i++)
        fuzz_add_le(&text, fuzz_roll(&d, 256), 1);
    free(printed);
    rt_text_free(&json);
    cJSON_Delete(header);
    return fuzz_result(&text, data, size, max);
}
