/* identity.c: files listed and looked at first, so that what is left to read is known, then read.
   The cache is one small file an entry, named by device and inode and replaced atomically: two
   programs that write it at once write the same, and it never holds more entries than files. */
#include "core/base/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/base/log.h"
#include "core/base/memory.h"

enum {
    DEPTH_MAX = 16,
    BLOCK_BYTES = 4 << 20,
    AHEAD_BYTES = 32 << 20,      /* asked of the disk before it is needed */
    CACHED_FROM_BYTES = 1 << 20, /* smaller files are read faster than looked up */
    SETTLED_NS = 2000000000      /* a file changed later than this may change again unseen */
};

typedef struct entry {
    char *path, *name; /* name: below the root, "" of a single file */
    struct stat st;
    rt_hash hash;
    bool known;
} entry;

typedef struct list {
    entry *entry;
    int64_t n, cap;
} list;

static void free_list(list *l)
{
    for (int64_t i = 0; i < l->n; i++) {
        free(l->entry[i].path);
        free(l->entry[i].name);
    }
    free(l->entry);
}

/* ---- which files ---- */

/* "NAME.tmp.PID" */
static bool is_temp(const char *name)
{
    const char *at = strstr(name, ".tmp.");
    return at && at[5] && !at[5 + strspn(at + 5, "0123456789")];
}

static bool is_checkpoint(const char *name)
{
    size_t n = strlen(name), tail = strlen(".safetensors");
    return !strncmp(name, "checkpoint", 10) && n > tail && !strcmp(name + n - tail, ".safetensors");
}

/* Beside a result, not part of it. */
static bool left_out(const char *name, bool model)
{
    static const char *const RUN[] = { "lock", "metrics.jsonl" };
    static const char EVENTS[] = "events.out.tfevents."; /* of any trainer's */
    for (int i = 0; i < RT_COUNT(RUN); i++)
        if (!strcmp(name, RUN[i]))
            return true;
    if (!strncmp(name, EVENTS, sizeof EVENTS - 1))
        return true;
    return is_checkpoint(name) || is_temp(name) || !strncmp(name, "round-", 6) ||
           (model && (name[0] == '.' || !strcmp(name, "README.md")));
}

static int add_file(list *l, const char *path, const char *name, const struct stat *st, rt_err *err)
{
    if (!S_ISREG(st->st_mode))
        return rt_fail(err, "%s: neither a file nor a directory: copy it to disk first", path);
    rt_grow(&l->entry, &l->cap, l->n + 1, (int64_t)sizeof *l->entry, "a list of files");
    l->entry[l->n++] = (entry){ .path = rt_strdup(path), .name = rt_strdup(name), .st = *st };
    return 0;
}

static int look(struct stat *st, const char *path, rt_err *err)
{
    return stat(path, st) ? rt_fail(err, "%s: %s", path, rt_errno_text(errno)) : 0;
}

static int add_tree(list *l, const char *path, const char *name, int depth, rt_err *err)
{
    char **names = NULL;
    int n = 0, bad = 0;
    bool model = false;
    if (depth > DEPTH_MAX)
        return rt_fail(err, "%s: more than %d folders deep (or a link to itself)", path, DEPTH_MAX);
    if (rt_dir_list(&names, &n, path, err))
        return -1;
    for (int i = 0; i < n; i++)
        model = model || !strcmp(names[i], "config.json") || !strcmp(names[i], "tokenizer.json");
    for (int i = 0; !bad && i < n; i++) {
        struct stat st;
        if (left_out(names[i], model))
            continue;
        char *inner = rt_path_join(path, names[i]);
        char *below = name[0] ? rt_path_join(name, names[i]) : rt_strdup(names[i]);
        bad = look(&st, inner, err) ||
              (S_ISDIR(st.st_mode) ? add_tree(l, inner, below, depth + 1, err)
                                   : add_file(l, inner, below, &st, err));
        free(inner);
        free(below);
    }
    rt_names_free(names, n);
    return bad ? -1 : 0;
}

/* The files of NAME-00001-of-00003.gguf, in order; false when path is not spelled like that. */
static bool parts_of(const char *path, int *n, size_t *stem)
{
    int at = 0, end = 0;
    size_t bytes = strlen(path), tail = strlen("-00001-of-00003.gguf");
    if (bytes <= tail || sscanf(path + bytes - tail, "-%5d-of-%5d.gguf%n", &at, n, &end) != 2)
        return false;
    *stem = bytes - tail;
    return (size_t)end == tail && at > 0 && *n >= at && *n <= 99999;
}

static int list_files(list *l, const char *path, rt_err *err)
{
    struct stat st;
    int n = 0;
    size_t stem = 0;
    if (look(&st, path, err))
        return -1;
    if (S_ISDIR(st.st_mode))
        return add_tree(l, path, "", 0, err);
    if (!parts_of(path, &n, &stem))
        return add_file(l, path, "", &st, err);
    for (int i = 1; i <= n; i++) {
        char tail[40], *part = rt_strndup(path, (int64_t)stem + 20);
        snprintf(tail, sizeof tail, "-%05d-of-%05d.gguf", i, n);
        memcpy(part + stem, tail, 20);
        int bad = look(&st, part, err) || add_file(l, part, tail, &st, err);
        free(part);
        if (bad)
            return -1;
    }
    return 0;
}

/* ---- the cache ---- */

static int64_t nanoseconds(const struct timespec *t)
{
    return (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
}

static rt_identity_mark mark_of(const entry *e, int64_t n)
{
    struct timespec now;
    uint64_t sum[2] = { 1, 2 };
    int64_t bytes = 0;
    rt_identity_mark mark = { .settled = true };
    clock_gettime(CLOCK_REALTIME, &now);
    for (int64_t i = 0; i < n; i++) {
        const struct stat *st = &e[i].st;
        int64_t fact[] = { (int64_t)st->st_dev, (int64_t)st->st_ino, st->st_size,
                           nanoseconds(&st->st_mtim), nanoseconds(&st->st_ctim) };
        sum[0] = rt_hash64(fact, (int64_t)sizeof fact, sum[0]);
        sum[0] = rt_hash64(e[i].name, (int64_t)strlen(e[i].name), sum[0]);
        sum[1] = rt_hash64(&sum[0], (int64_t)sizeof sum[0], sum[1]);
        if (i == 0)
            mark.place = rt_hash64(fact, 2 * (int64_t)sizeof *fact, 0);
        mark.settled = mark.settled && nanoseconds(&now) - rt_max(fact[3], fact[4]) > SETTLED_NS;
        bytes += st->st_size;
    }
    snprintf(mark.stat.hex, sizeof mark.stat.hex, "%016llx%016llx", (unsigned long long)sum[1],
             (unsigned long long)sum[0]);
    mark.settled = mark.settled && bytes >= CACHED_FROM_BYTES;
    return mark;
}

/* The file of an entry, or NULL without a home. */
static char *cache_file(const rt_identity_mark *mark, const char *kind)
{
    const char *home = getenv("HOME"), *cache = getenv("XDG_CACHE_HOME");
    char name[64];
    bool given = cache && cache[0] == '/';
    if (!given && (!home || home[0] != '/' || !rt_path_is_dir(home)))
        return NULL;
    snprintf(name, sizeof name, "%s-%016llx", kind, (unsigned long long)mark->place);
    char *base = given ? rt_strdup(cache) : rt_path_join(home, ".cache");
    char *folder = rt_path_join(base, "retort"), *file = rt_path_join(folder, name);
    free(base);
    free(folder);
    return file;
}

bool rt_identity_recall(rt_hash *value, const rt_identity_mark *mark, const char *kind)
{
    char stat_hex[33], value_hex[33], *path = mark->settled ? cache_file(mark, kind) : NULL;
    FILE *f = path ? fopen(path, "re") : NULL;
    bool found = f && fscanf(f, "%32[0-9a-f] %32[0-9a-f]", stat_hex, value_hex) == 2 &&
                 !strcmp(stat_hex, mark->stat.hex) && strlen(value_hex) == 32;
    if (f)
        fclose(f);
    free(path);
    if (found)
        memcpy(value->hex, value_hex, sizeof value_hex);
    return found;
}

void rt_identity_keep(const rt_hash *value, const rt_identity_mark *mark, const char *kind)
{
    char text[80], *path = mark->settled ? cache_file(mark, kind) : NULL;
    rt_err ignored = { 0 };
    if (!path)
        return;
    char *folder = rt_strndup(path, rt_path_base(path) - path - 1);
    int n = snprintf(text, sizeof text, "%s %s\n", mark->stat.hex, value->hex);
    if (rt_dir_make(folder, &ignored) == 0)
        rt_file_write(path, text, n, &ignored);
    free(folder);
    free(path);
}

int rt_identity_mark_of(rt_identity_mark *mark, const char *path, rt_err *err)
{
    list l = { 0 };
    int bad = list_files(&l, path, err);
    if (!bad)
        *mark = mark_of(l.entry, l.n);
    free_list(&l);
    return bad ? -1 : 0;
}

/* ---- reading ---- */

typedef struct reading {
    rt_progress progress;
    int64_t done, total; /* bytes */
} reading;

static int tick(reading *r, int64_t bytes, const char *path, rt_err *err)
{
    r->done += bytes;
    if (r->total >= 8 * (int64_t)AHEAD_BYTES)
        rt_progress_update(&r->progress, r->done >> 20, "%s", rt_path_base(path));
    if (!rt_interrupted())
        return 0;
    rt_fail(err, "interrupted while reading %s", path);
    err->exit_code = 130;
    return -1;
}

static int read_all(XXH3_state_t *state, int fd, const entry *e, reading *r, rt_err *err)
{
    char *block = rt_alloc(1, BLOCK_BYTES, "a block of a file");
    int64_t at = 0;
    ssize_t n;
    int bad = 0;
    while (!bad && (n = read(fd, block, BLOCK_BYTES)) != 0) {
        if (n < 0 && errno == EINTR) {
            bad = tick(r, 0, e->path, err);
            continue;
        }
        if (n < 0) {
            bad = rt_fail(err, "%s: read failed at byte %lld: %s", e->path, (long long)at,
                          rt_errno_text(errno));
            break;
        }
        XXH3_128bits_update(state, block, (size_t)n);
        at += n;
        posix_fadvise(fd, at, AHEAD_BYTES, POSIX_FADV_WILLNEED);
        bad = tick(r, n, e->path, err);
    }
    free(block);
    return bad;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           nanoseconds(&a->st_mtim) == nanoseconds(&b->st_mtim);
}

static int read_entry(entry *e, reading *r, rt_err *err)
{
    struct stat after;
    XXH3_state_t *state = XXH3_createState();
    int fd = open(e->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int bad = !state   ? rt_fail_memory(err, -1, "a hash")
              : fd < 0 ? rt_fail(err, "%s: cannot open: %s", e->path, rt_errno_text(errno))
                       : 0;
    if (!bad) {
        XXH3_128bits_reset(state);
        posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        bad = read_all(state, fd, e, r, err);
    }
    if (!bad && (fstat(fd, &after) || !same_file(&e->st, &after)))
        bad = rt_fail(err, "%s: changed while it was read: run again when nothing writes it",
                      e->path);
    if (!bad) {
        XXH128_hash_t h = XXH3_128bits_digest(state);
        snprintf(e->hash.hex, sizeof e->hash.hex, "%016llx%016llx", (unsigned long long)h.high64,
                 (unsigned long long)h.low64);
        e->known = true;
    }
    XXH3_freeState(state);
    if (fd >= 0)
        close(fd);
    return bad;
}

static bool to_read(const entry *e, rt_identity_use use)
{
    return !e->known && (use != RT_IDENTITY_STAT || e->st.st_size < CACHED_FROM_BYTES);
}

static int read_unknown(list *l, rt_identity_use use, rt_err *err)
{
    reading r = { 0 };
    int bad = 0;
    for (int64_t i = 0; i < l->n; i++)
        r.total += to_read(&l->entry[i], use) ? (int64_t)l->entry[i].st.st_size : 0;
    rt_progress_begin(&r.progress, "reading, MiB", 0, r.total >> 20);
    for (int64_t i = 0; !bad && i < l->n; i++) {
        entry *e = &l->entry[i];
        if (!to_read(e, use))
            continue;
        rt_identity_mark mark = mark_of(e, 1);
        bad = read_entry(e, &r, err);
        if (!bad)
            rt_identity_keep(&e->hash, &mark, "file");
    }
    rt_progress_end(&r.progress);
    return bad ? -1 : 0;
}

static rt_hash combine(const list *l)
{
    char *text = NULL;
    size_t size = 0;
    if (l->n == 1 && !l->entry[0].name[0])
        return l->entry[0].hash;
    FILE *f = rt_memory_stream(&text, &size);
    for (int64_t i = 0; i < l->n; i++)
        fprintf(f, "%s%c%s\n", l->entry[i].name, 0, l->entry[i].hash.hex);
    rt_memory_stream_close(f);
    rt_hash hash = rt_hash_bytes(text, (int64_t)size);
    free(text);
    return hash;
}

static void put_file(cJSON *files, const entry *e)
{
    cJSON *row = rt_json_object();
    rt_json_put_num(row, "bytes", (double)e->st.st_size);
    if (e->known)
        rt_json_put_str(row, "hash", e->hash.hex);
    rt_json_put(files, e->name[0] ? e->name : ".", row);
}

int rt_identity_of(rt_identity *id, const char *path, rt_identity_use use, cJSON *files,
                   rt_err *err)
{
    list l = { 0 };
    int bad = list_files(&l, path, err);
    *id = (rt_identity){ .known = true };
    for (int64_t i = 0; !bad && use != RT_IDENTITY_READ && i < l.n; i++) {
        rt_identity_mark mark = mark_of(&l.entry[i], 1);
        l.entry[i].known = rt_identity_recall(&l.entry[i].hash, &mark, "file");
    }
    if (!bad)
        bad = read_unknown(&l, use, err);
    for (int64_t i = 0; !bad && i < l.n; i++) {
        id->bytes += l.entry[i].st.st_size;
        id->known = id->known && l.entry[i].known;
        if (files)
            put_file(files, &l.entry[i]);
    }
    if (!bad && id->known)
        id->hash = combine(&l);
    free_list(&l);
    return bad ? -1 : 0;
}
