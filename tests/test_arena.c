/* test_arena.c: the arena, tensors, scalar conversions and random numbers. Conversions are checked
   against a formula in doubles, Philox against its published vectors through a second text of it.
 */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/rng.h"
#include "core/device/tensor.h"
#include "core/network/needs.h"
#include "tests/suite.h"

static bool aborts(void (*fn)(void)) { return child_signal(fn) == SIGABRT; }

// --------------------------------------------------------------------------------- arena

// A plan as layers write them: saved activations, and scratch that every layer takes again.
static void plan(rt_arena *a, uint8_t *taken[64], int64_t bytes[64])
{
    static const char *const NAME[] = { "x", "attn.q", "ffn.gate" };
    for (int i = 0; i < 64; i++) {
        rt_u32x4 r = rt_rng_bits(5, RT_RNG_DATA, (uint64_t)i);
        bytes[i] = r.v[0] % 5000;
        taken[i] = rt_arena_take(a, NAME[i % 3], bytes[i]);
        int64_t mark = rt_arena_mark(a);
        rt_arena_take(a, "scratch", r.v[1] % 100000);
        rt_tensor t = rt_plan_3(a, "scores", RT_F32, 3, 5, r.v[2] % 7);
        ck_assert_int_eq(rt_tensor_bytes(&t), 60 * (int64_t)(r.v[2] % 7));
        rt_arena_release(a, mark);
    }
}

START_TEST(arena_measure_equals_place)
{
    rt_arena a;
    rt_err err;
    uint8_t *taken[64];
    int64_t bytes[64], sum = 0;
    rt_arena_init(&a, "activations");
    plan(&a, taken, bytes);
    int64_t measured = a.used, high = a.high;
    ck_assert_ptr_null(taken[0]);
    for (int i = 0; i < a.n_slots; i++)
        sum += a.slot[i].bytes;
    ck_assert_int_eq(sum, high); // the table adds up
    ck_assert_int_gt(high, measured);
    ck_assert_int_eq(rt_arena_place(&a, &err), 0);
    ck_assert_int_eq(a.size, high);
    for (int pass = 0; pass < 2; pass++) { // a released arena gives the same places again
        plan(&a, taken, bytes);
        ck_assert_int_eq(a.used, measured);
        for (int i = 0; i < 64; i++) {
            ck_assert_uint_eq((uintptr_t)taken[i] % RT_CACHE_LINE, 0);
            ck_assert(taken[i] >= a.base && taken[i] + bytes[i] <= a.base + a.size);
            for (int64_t b = 0; b < bytes[i] && pass == 0; b++)
                if (taken[i][b])
                    ck_abort_msg("slot %d is not zeroed", i);
            if (i > 0)
                ck_assert(taken[i] >= taken[i - 1] + bytes[i - 1]);
        }
        rt_arena_release(&a, 0);
    }
    rt_needs p = { 0 };
    rt_dev *cpu;
    ck_assert_int_eq(rt_dev_open(&cpu, "cpu", 1, &err), 0);
    const rt_arenas list = { .item = { { .arena = &a } }, .n = 1 };
    rt_needs_arenas(&p, cpu, &list);
    rt_needs_add(&p, RT_NEEDS_GROWS, "data", "not in the sum", 1 << 30);
    rt_needs_add(&p, RT_NEEDS_MEMORY, "activations", "twice", 64);
    rt_needs_add(&p, RT_NEEDS_MEMORY, "activations", "twice", 64);
    ck_assert_int_eq(rt_needs_sum(&p, RT_NEEDS_MEMORY), a.size + 128);
    ck_assert_int_eq(p.n, a.n_slots + 2);
    cJSON *json = rt_needs_json(&p);
    const cJSON *memory = rt_json_find(json, "memory");
    double total = 0;
    for (const cJSON *c = memory->child->next; c; c = c->next)
        total += c->valuedouble;
    ck_assert(total == (double)a.size + 128);
    ck_assert(rt_json_find(memory, "bytes")->valuedouble == total);
    cJSON_Delete(json);
    FILE *f = tmpfile();
    rt_needs_print(&p, f);
    rewind(f);
    char line[200];
    int rows = 0;
    long long row_sum = 0, row = 0, all = 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, " memory activations %*s %lld", &row) == 1 && ++rows)
            row_sum += row;
        else
            sscanf(line, " memory all %lld", &all);
    ck_assert_int_eq(rows, a.n_slots + 1);
    ck_assert(row_sum == a.size + 128 && all == row_sum);
    fclose(f);
    rt_needs_free(&p);
    rt_dev_close(cpu);
    rt_arena_free(&a);
}
END_TEST

typedef struct owner {
    int runs;
    void *data;
} owner;

static void plan_owner(void *ctx, rt_arena *a)
{
    owner *o = ctx;
    o->runs++;
    o->data = rt_arena_take(a, "owned", 100);
}

START_TEST(arenas_place_what_was_measured)
{
    rt_err err;
    rt_dev *d;
    rt_arenas list = { 0 };
    rt_arena there, here;
    owner device = { 0 }, host = { 0 };
    const char text[100] = "on the host";
    char back[100];
    ck_assert_int_eq(rt_dev_open(&d, NULL, 1, &err), 0);
    for (int twice = 0; twice < 2; twice++) {
        rt_arenas_add(&list, &there, "there", RT_ON_DEVICE, plan_owner, &device);
        rt_arenas_add(&list, &here, "here", RT_ON_HOST, plan_owner, &host);
        ck_assert_int_eq(rt_arenas_bytes(&list), 2 * rt_align_up(100, RT_CACHE_LINE));
        ck_assert(!device.data && !host.data);
        ck_assert_int_eq(rt_arenas_place(&list, d, &err), 0);
        ck_assert(device.data && host.data && device.runs == 2 && host.runs == 2);
        memcpy(host.data, text, sizeof text);
        rt_upload(d, device.data, host.data, sizeof text);
        rt_download(d, back, device.data, sizeof text);
        ck_assert_int_eq(rt_sync(d, &err), 0);
        ck_assert_mem_eq(back, text, sizeof text);
        rt_arenas_free(&list, d);
        device.runs = host.runs = 0;
    }
    rt_arenas_add(&list, &here, "here", RT_ON_HOST, plan_owner, &host);
    here.high = INT64_MAX - 63;
    rt_arenas_add(&list, &there, "there", RT_ON_DEVICE, plan_owner, &device);
    ck_assert_int_eq(rt_arenas_bytes(&list), INT64_MAX);
    ck_assert_int_eq(rt_arenas_place(&list, d, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.text, "here: "));
    rt_arenas_free(&list, d);
    rt_dev_close(d);
}
END_TEST

START_TEST(arena_refuses_too_much)
{
    rt_arena a;
    rt_err err;
    rt_arena_init(&a, "weights");
    rt_plan_3(&a, "head", RT_F32, INT64_MAX / 2, 1 << 20, 1 << 20);
    rt_plan_2(&a, "more", RT_Q4_K, INT64_MAX / 512, 256 << 20);
    rt_arena_take(&a, "and more", INT64_MAX);
    ck_assert_int_gt(a.high, INT64_MAX - 64);
    ck_assert_int_eq(rt_arena_place(&a, &err), -1);
    ck_assert_msg(strstr(err.text, "weights: 8.00 EiB are needed") != NULL, "%s", err.text);
    rt_arena_free(&a);
    ck_assert_int_eq(a.high, 0);
}
END_TEST

static void ask_more_than_planned(void)
{
    rt_arena a;
    rt_err err;
    rt_arena_init(&a, "a");
    rt_arena_take(&a, "x", 64);
    if (rt_arena_place(&a, &err) == 0)
        rt_arena_take(&a, "x", 65);
}
static void ask_negative(void)
{
    rt_arena a;
    rt_arena_init(&a, "a");
    rt_arena_take(&a, "x", -1);
}
static void fill_table(void)
{
    static char names[97][8];
    rt_arena a;
    rt_arena_init(&a, "a");
    for (int i = 0; i < 97; i++) {
        snprintf(names[i], sizeof names[i], "n%d", i);
        rt_arena_take(&a, names[i], 1);
    }
}
static void release_ahead(void)
{
    rt_arena a;
    rt_arena_init(&a, "a");
    rt_arena_release(&a, 64);
}
static void split_block(void) { rt_dtype_bytes(RT_Q4_0, 33); }
static void rows_outside(void)
{
    float x[6];
    rt_tensor t = rt_tensor_2(x, RT_F32, 3, 2);
    rt_tensor_rows(&t, 2, 2);
}

START_TEST(bugs_abort)
{
    void (*const bug[])(void) = { ask_more_than_planned, ask_negative, fill_table,
                                  release_ahead,         split_block,  rows_outside };
    for (int i = 0; i < RT_COUNT(bug); i++)
        ck_assert_msg(aborts(bug[i]), "case %d went through", i);
}
END_TEST

// --------------------------------------------------------------------------------- tensors

START_TEST(tensor_shapes)
{
    // name, elements a block, bytes a block, ggml_type, safetensors: facts of the two formats
    const struct {
        rt_dtype t;
        const char *name;
        int64_t elements, bytes;
        int gguf;
        const char *st;
    } ROWS[] = {
        { RT_F32, "f32", 1, 4, 0, "F32" },
        { RT_F16, "f16", 1, 2, 1, "F16" },
        { RT_BF16, "bf16", 1, 2, 30, "BF16" },
        { RT_I32, "i32", 1, 4, 26, "I32" },
        { RT_U8, "u8", 1, 1, -1, "U8" },
        { RT_Q8_0, "q8_0", 32, 2 + 32, 8, NULL },
        { RT_Q4_0, "q4_0", 32, 2 + 16, 2, NULL },
        { RT_Q4_K, "q4_K", 256, 4 + 12 + 128, 12, NULL },
        { RT_Q6_K, "q6_K", 256, 2 + 16 + 128 + 64, 14, NULL },
        { RT_Q4_1, "q4_1", 32, 4 + 16, 3, NULL },
        { RT_Q5_0, "q5_0", 32, 2 + 4 + 16, 6, NULL },
        { RT_Q5_1, "q5_1", 32, 4 + 4 + 16, 7, NULL },
        { RT_Q5_K, "q5_K", 256, 4 + 12 + 32 + 128, 13, NULL },
        { RT_IQ4_NL, "iq4_nl", 32, 2 + 16, 20, NULL },
        { RT_MXFP4, "mxfp4", 32, 1 + 16, 39, NULL },
        { RT_Q2_K, "q2_K", 256, 4 + 16 + 64, 10, NULL },
        { RT_Q3_K, "q3_K", 256, 2 + 32 + 64 + 12, 11, NULL },
        { RT_IQ4_XS, "iq4_xs", 256, 2 + 2 + 4 + 128, 23, NULL },
        { RT_NVFP4, "nvfp4", 64, 4 + 32, 40, NULL },
        { RT_TQ2_0, "tq2_0", 256, 2 + 64, 35, NULL },
        { RT_Q2_0, "q2_0", 64, 2 + 16, 42, NULL },
        { RT_F8_E4M3, "f8_e4m3", 1, 1, -1, "F8_E4M3" },
        { RT_F8_E8M0, "f8_e8m0", 1, 1, -1, "F8_E8M0" },
        { RT_M8, "m8", 256, 4 + 256, -1, NULL },
        { RT_V8, "v8", 256, 4 + 256, -1, NULL },
    };
    ck_assert_int_eq(RT_COUNT(ROWS), RT_DTYPE_COUNT);
    for (int i = 0; i < RT_COUNT(ROWS); i++) {
        const rt_dtype_info *d = rt_dtype_get(ROWS[i].t);
        ck_assert_str_eq(d->name, ROWS[i].name);
        ck_assert(d->block == ROWS[i].elements && d->gguf_type == ROWS[i].gguf);
        ck_assert(ROWS[i].st ? !strcmp(d->safetensors, ROWS[i].st) : !d->safetensors);
        uint8_t data[1];
        rt_tensor t = rt_tensor_3(data, ROWS[i].t, 5, 7, 2 * ROWS[i].elements);
        ck_assert_int_eq(rt_tensor_bytes(&t), 70 * ROWS[i].bytes);
        t.panels = data;
        rt_tensor view = rt_tensor_rows(&t, 2, 3);
        ck_assert((uint8_t *)view.data == data + 28 * ROWS[i].bytes && view.panels == NULL);
        ck_assert(view.dim[0] == 3 && view.dim[1] == 7 && !rt_tensor_same_shape(&view, &t));
        view = rt_tensor_rows(&t, 0, 5);
        ck_assert(rt_tensor_same_shape(&view, &t));
    }
    rt_tensor none = rt_tensor_2(NULL, RT_F32, INT64_MAX, 0);
    ck_assert_int_eq(rt_tensor_bytes(&none), 0);
}
END_TEST

// The nearest value with `digits` significand bits and exponents from `lowest`, ties to even; as a
// double, so every step is exact. rint() rounds ties to even.
static double nearest(double x, int digits, int lowest, double largest)
{
    if (x == 0 || !isfinite(x))
        return x;
    int e = ilogb(x) < lowest ? lowest : ilogb(x);
    double y = ldexp(rint(ldexp(x, digits - 1 - e)), e - (digits - 1));
    return fabs(y) > largest ? copysign(INFINITY, x) : y;
}

static void check_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    float half = rt_f16_to_f32(rt_f32_to_f16(f)), brain = rt_bf16_to_f32(rt_f32_to_bf16(f));
    if (isnan(f)) {
        if (!isnan(half) || !isnan(brain))
            ck_abort_msg("a NaN became f16 %a, bf16 %a", (double)half, (double)brain);
        return;
    }
    if ((double)half != nearest(f, 11, -14, 65504) ||
        (double)brain != nearest(f, 8, -126, 0x1.fep127) || signbit(half) != signbit(f) ||
        signbit(brain) != signbit(f))
        ck_abort_msg("%a became f16 %a, bf16 %a", (double)f, (double)half, (double)brain);
}

START_TEST(conversions)
{
    for (uint32_t h = 0; h < 65536; h++) {
        int exponent = (int)(h >> 10 & 31), fraction = (int)(h & 1023);
        double value = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
        if (exponent == 31)
            value = fraction ? NAN : INFINITY;
        float f = rt_f16_to_f32((uint16_t)h);
        uint32_t bits = h << 16;
        float brain;
        memcpy(&brain, &bits, sizeof brain);
        bool ok = isnan(value) ? isnan(f) && isnan(rt_f16_to_f32(rt_f32_to_f16(f)))
                               : (double)f == (h & 0x8000 ? -value : value) &&
                                     rt_f32_to_f16(f) == h; // and back, the sign of zero included
        float widened = rt_bf16_to_f32((uint16_t)h);
        ok = ok && !memcmp(&widened, &brain, sizeof brain) &&
             (isnan(brain) || rt_f32_to_bf16(brain) == h);
        if (!ok)
            ck_abort_msg("bits %04x: f16 %a, bf16 %a", h, (double)f, (double)widened);
        for (uint32_t low = 0x7fff; low <= 0x8001; low++) // around the ties of bf16
            check_float(bits | low);
        memcpy(&bits, &f, sizeof bits);
        for (uint32_t low = 0xfff; low <= 0x1001; low++) // around the ties of normal f16
            check_float(bits | low);
    }
    // All ties of subnormal f16, and a grid over every f32.
    for (int k = 0; k < 1024; k++)
        for (int side = -1; side <= 1; side++) {
            float tie = (float)ldexp(2 * k + 1, -25);
            float f = side ? nextafterf(tie, side < 0 ? 0.0f : 1.0f) : tie;
            uint32_t bits;
            memcpy(&bits, &f, sizeof bits);
            check_float(bits);
        }
    for (uint64_t bits = 0; bits < 1ull << 32; bits += 1021)
        check_float((uint32_t)bits);
}
END_TEST

// --------------------------------------------------------------------------------- random numbers

// Philox4x32-10 with all four counter words, written from the paper.
static rt_u32x4 philox(rt_u32x4 c, uint32_t k0, uint32_t k1)
{
    for (uint32_t r = 0; r < 10; r++) {
        uint64_t p0 = 0xD2511F53ull * c.v[0], p1 = 0xCD9E8D57ull * c.v[2];
        uint32_t key0 = k0 + r * 0x9E3779B9u, key1 = k1 + r * 0xBB67AE85u;
        rt_u32x4 next = { { (uint32_t)(p1 >> 32) ^ c.v[1] ^ key0, (uint32_t)p1,
                            (uint32_t)(p0 >> 32) ^ c.v[3] ^ key1, (uint32_t)p0 } };
        c = next;
    }
    return c;
}

START_TEST(random_known_answers)
{
    // Random123's kat_vectors, "philox4x32 10": counter, key, answer.
    const struct {
        rt_u32x4 c;
        uint32_t k[2];
        rt_u32x4 out;
    } KAT[] = {
        { { { 0, 0, 0, 0 } }, { 0, 0 }, { { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } } },
        { { { ~0u, ~0u, ~0u, ~0u } },
          { ~0u, ~0u },
          { { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } } },
        { { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 } },
          { 0xa4093822, 0x299f31d0 },
          { { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } } },
    };
    for (int i = 0; i < RT_COUNT(KAT); i++) {
        rt_u32x4 out = philox(KAT[i].c, KAT[i].k[0], KAT[i].k[1]);
        ck_assert_mem_eq(&out, &KAT[i].out, sizeof out);
    }
    // Ours is that function at counter (index low, index high, stream, 0) and key = seed. The
    // fourth word is always 0, so of the published vectors only the first is ours to reach.
    rt_u32x4 zero = rt_rng_bits(0, 0, 0);
    ck_assert_mem_eq(&zero, &KAT[0].out, sizeof zero);
    for (uint32_t i = 0; i < 1000; i++) {
        uint64_t seed = 0x9E3779B97F4A7C15ull * (i + 1), index = seed * 0xD1342543DE82EF95ull + i;
        uint32_t stream = i % 7;
        rt_u32x4 c = { { (uint32_t)index, (uint32_t)(index >> 32), stream, 0 } };
        rt_u32x4 want = philox(c, (uint32_t)seed, (uint32_t)(seed >> 32));
        rt_u32x4 got = rt_rng_bits(seed, stream, index);
        ck_assert_mem_eq(&got, &want, sizeof got);
        ck_assert_uint_eq(rt_rng_u32(seed, stream, index), want.v[0]);
    }
}
END_TEST

START_TEST(random_ranges)
{
    // Bins of a uniform: counts are binomial, sd = sqrt(n p (1 - p)) = 94; six of them.
    enum { DRAWS = 100000, BINS = 10 };
    int count[BINS] = { 0 }, below[BINS] = { 0 };
    for (uint64_t i = 0; i < DRAWS; i++) {
        float u = rt_rng_uniform(3, RT_RNG_DATA, i);
        uint32_t k = rt_rng_below(4, RT_RNG_DATA, i, BINS);
        if (!(u >= 0 && u < 1 && k < BINS))
            ck_abort_msg("draw %d: %a, %u", (int)i, (double)u, k);
        count[(int)(u * BINS)]++;
        below[k]++;
    }
    for (int b = 0; b < BINS; b++)
        ck_assert(abs(count[b] - DRAWS / BINS) < 570 && abs(below[b] - DRAWS / BINS) < 570);
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { arena_measure_equals_place, 1 },
                                 { arenas_place_what_was_measured, 1 },
                                 { arena_refuses_too_much, 1 },
                                 { bugs_abort, 1 },
                                 { tensor_shapes, 1 },
                                 { conversions, 1 },
                                 { random_known_answers, 1 },
                                 { random_ranges, 1 } };
    return suite_run("arena", NULL, tests, RT_COUNT(tests));
}
