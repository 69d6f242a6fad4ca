/* doctor.c: `retort doctor`, what this machine offers: processor, memory, disk, libraries.
   Lives here because corpora/ is the lowest folder that links every library. Asks /proc and the
   libraries themselves; changes nothing, measures nothing. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <archive.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <utf8proc.h>
#include <xxhash.h>

#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/option.h"
#include "core/device/ops.h"

typedef struct doctor_options {
    bool json;
} doctor_options;

static const rt_option OPTIONS[] = {
    OPT_BOOL(doctor_options, json, "json", "false", "one JSON object on stdout", RT_OPT_FREE),
};

// The rest of the first line of a /proc file that begins with key, after ':' and blanks; "" if
// none.
static void read_proc(char *out, size_t size, const char *path, const char *key)
{
    char line[512];
    FILE *f = fopen(path, "r");
    out[0] = 0;
    while (f && !out[0] && fgets(line, sizeof line, f)) {
        if (strncmp(line, key, strlen(key)))
            continue;
        const char *value = line + strlen(key);
        value += strspn(value, " \t:");
        snprintf(out, size, "%.*s", (int)strcspn(value, "\n"), value);
    }
    if (f)
        fclose(f);
}

static double proc_kib(const char *key)
{
    char text[64];
    read_proc(text, sizeof text, "/proc/meminfo", key);
    return strtod(text, NULL) * 1024;
}

static cJSON *processor(void)
{
    char model[128];
    cJSON *json = rt_json_object(), *features = rt_json_array();
    read_proc(model, sizeof model, "/proc/cpuinfo", "model name");
    rt_json_put_str(json, "model", model[0] ? model : "unknown");
    rt_json_put_num(json, "cores_online", (double)sysconf(_SC_NPROCESSORS_ONLN));
#ifdef __x86_64__
#define FEATURE(name)                                                                              \
    if (__builtin_cpu_supports(name))                                                              \
        rt_json_put(features, NULL, cJSON_CreateString(name));
    __builtin_cpu_init();
    FEATURE("avx2")
    FEATURE("fma")
    FEATURE("f16c")
    FEATURE("avx512f")
    FEATURE("avx512bw") FEATURE("avx512vl") FEATURE("avx512vnni") FEATURE("avx512bf16")
#undef FEATURE
#endif
        rt_json_put(json, "features", features);
    return json;
}

static void describe_gpu(rt_dev *d, const rt_dev_facts *f, char *text, size_t size)
{
    char all[32], left[32];
    rt_dev_speed s = { 0 };
    rt_err slow;
    int n = snprintf(text, size, "%s, %s, %d multiprocessors, %s free of %s", f->chip, f->isa,
                     f->threads, rt_fmt_bytes(left, sizeof left, f->free),
                     rt_fmt_bytes(all, sizeof all, f->memory));
    if (n < 0 || (size_t)n >= size)
        return;
    text += n, size -= (size_t)n;
    if (rt_dev_measure(&s, d, &slow))
        snprintf(text, size, "; not measured: %.200s", slow.text);
    else
        snprintf(text, size,
                 "; copies %.1f GB/s there, %.1f back; products %.1f TFLOP/s in f32, %.1f in bf16; "
                 "one row %.0f GB/s",
                 s.up / 1e9, s.down / 1e9, s.f32 / 1e12, s.bf16 / 1e12, s.row / 1e9);
}

// Opens the backend, so what is reported is what a command would get (RETORT_ISA included).
static int backends(cJSON **out, rt_err *err)
{
    char text[512];
    rt_dev *d;
    cJSON *json = rt_json_object();
    for (int i = 0; rt_dev_name(i); i++) {
        if (rt_dev_open(&d, rt_dev_name(i), 0, err)) {
            if (!strcmp(rt_dev_name(i), "cpu")) {
                cJSON_Delete(json);
                return -1;
            }
            rt_json_put_str(json, rt_dev_name(i), err->text); /* no GPU is no fault */
            *err = (rt_err){ .text = "" };
            continue;
        }
        rt_dev_facts f = rt_dev_get(d);
        if (f.chip)
            describe_gpu(d, &f, text, sizeof text);
        else
            snprintf(text, sizeof text, "%s, %d threads", f.isa, f.threads);
        rt_json_put_str(json, f.name, text);
        rt_dev_close(d);
    }
#ifndef RT_CUDA_DEVICE
    rt_json_put_str(json, "cuda", "not in this build");
#endif
    read_proc(text, sizeof text, "/proc/driver/nvidia/version", "NVRM version");
    if (text[0])
        rt_json_put_str(json, "nvidia_driver", text);
    *out = json;
    return 0;
}

static cJSON *libraries(void)
{
    char pcre[64];
    cJSON *json = rt_json_object();
    pcre2_config(PCRE2_CONFIG_VERSION, pcre);
    char xx[32];
    unsigned v = XXH_versionNumber();
    snprintf(xx, sizeof xx, "%u.%u.%u", v / 10000, v / 100 % 100, v % 100);
    rt_json_put_str(json, "libarchive", archive_version_details());
    rt_json_put_str(json, "cJSON", cJSON_Version());
    rt_json_put_str(json, "PCRE2", pcre);
    rt_json_put_str(json, "utf8proc", utf8proc_version());
    rt_json_put_str(json, "xxHash", xx);
    return json;
}

static int survey(cJSON *json, rt_err *err)
{
    struct statvfs disk;
    cJSON *devices;
    rt_json_put_str(json, "retort", RT_VERSION);
    rt_json_put_str(json, "compiler", __VERSION__);
    if (backends(&devices, err))
        return -1;
    rt_json_put(json, "backends", devices);
    if (statvfs(".", &disk))
        return rt_fail(err, "the current directory cannot be examined; is it still there?");
    rt_json_put(json, "processor", processor());
    cJSON *memory = rt_json_object(), *space = rt_json_object();
    rt_json_put_num(memory, "total_bytes", proc_kib("MemTotal:"));
    rt_json_put_num(memory, "available_bytes", proc_kib("MemAvailable:"));
    rt_json_put(json, "memory", memory);
    rt_json_put_num(space, "total_bytes", (double)disk.f_blocks * (double)disk.f_frsize);
    rt_json_put_num(space, "free_bytes", (double)disk.f_bavail * (double)disk.f_frsize);
    rt_json_put(json, "disk_here", space);
    rt_json_put(json, "libraries", libraries());
    return 0;
}

// "group  name  value", one line a leaf; bytes in units.
static void print_tree(const cJSON *json, const char *group)
{
    for (const cJSON *c = json->child; c; c = c->next) {
        if (cJSON_IsObject(c)) {
            print_tree(c, c->string);
            continue;
        }
        char size[32], name[32];
        size_t n = strlen(c->string);
        bool bytes = n > 6 && !strcmp(c->string + n - 6, "_bytes");
        snprintf(name, sizeof name, "%.*s", (int)(bytes ? n - 6 : n), c->string);
        printf("%-10s %-14s ", group, name);
        if (bytes)
            printf("%s", rt_fmt_bytes(size, sizeof size, (int64_t)c->valuedouble));
        else if (cJSON_IsString(c))
            printf("%s", c->valuestring);
        else if (cJSON_IsNumber(c))
            printf("%.0f", c->valuedouble);
        for (const cJSON *item = c->child; item; item = item->next)
            printf("%s%s", item->valuestring, item->next ? " " : "");
        printf("\n");
    }
}

static int run_doctor(void *options, rt_err *err)
{
    const doctor_options *o = options;
    cJSON *json = rt_json_object();
    int rc = survey(json, err);
    if (!rc && o->json)
        rt_json_print(json);
    else if (!rc)
        print_tree(json, "retort");
    cJSON_Delete(json);
    return rc;
}

const rt_command rt_command_doctor = {
    .name = "doctor",
    .help = "what this machine has: backends, processor, memory, disk, libraries",
    .group = "this machine and this program",
    .options = OPTIONS,
    .n_options = RT_COUNT(OPTIONS),
    .struct_bytes = sizeof(doctor_options),
    .run = run_doctor,
    .example = "retort doctor --json",
};
