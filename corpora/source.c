/* source.c: a list of paths, one open input at a time (a descriptor or a libarchive reader, which
   reads through gunzip.c where the file is gzip's), one buffer, one growing item. */
#include "corpora/source.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/formats/kind.h"
#include "corpora/gunzip.h"
#include "corpora/text.h"

enum { BUFFER_BYTES = 64 << 10, MAX_DEPTH = 64 };

struct rt_source {
    rt_source_mode mode;
    char **path; /* (n_paths) files, in order */
    int64_t n_paths, paths_cap, at;
    int fd;              /* of a plain file, else -1 */
    struct archive *arc; /* of a compressed one, else NULL */
    rt_gunzip *gz;       /* what arc reads from, else NULL */
    locale_t utf8;       /* names in archives are read in it, whatever the user's locale */
    const char *entry;   /* name inside the archive, NULL = the file itself */
    bool open, ended;    /* an entry is being read; it has no more bytes */
    bool whole;          /* this entry is one item */
    int64_t n_entries, n_passed, entry_bytes, total_bytes, line;
    int64_t n_zip; /* entries that the end of a .zip says it has; -1 = unknown */
    char *buffer;
    int64_t filled, used;
    rt_text item, where;
};

/* ---- paths ---------------------------------------------------------------------------------- */

static int add_path(rt_source *s, const char *path, rt_err *err)
{
    if (s->n_paths == RT_SOURCE_MAX_ENTRIES)
        return rt_fail(err, "%s: too many files", path);
    rt_grow(&s->path, &s->paths_cap, s->n_paths + 1, sizeof *s->path, "a list of files");
    s->path[s->n_paths++] = rt_strdup(path);
    return 0;
}

/* Files of a directory, depth first in byte order; links to directories are not followed. */
static int walk(rt_source *s, const char *path, int depth, rt_err *err)
{
    struct stat st;
    char **names;
    int n, bad = 0;
    if (!rt_path_is_dir(path))
        return add_path(s, path, err);
    if (depth > MAX_DEPTH)
        return rt_fail(err, "%s: directories nested deeper than %d", path, MAX_DEPTH);
    if (rt_dir_list(&names, &n, path, err))
        return -1;
    for (int i = 0; i < n && !bad; i++) {
        if (names[i][0] == '.')
            continue;
        char *inner = rt_path_join(path, names[i]);
        bool real = lstat(inner, &st) == 0 && !(S_ISLNK(st.st_mode) && rt_path_is_dir(inner));
        if (real && (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode) || S_ISDIR(st.st_mode)))
            bad = walk(s, inner, depth + 1, err);
        free(inner);
    }
    rt_names_free(names, n);
    return bad;
}

int rt_source_open(rt_source **out, const char *path, rt_source_mode mode, rt_err *err)
{
    *out = NULL;
    bool input = strcmp(path, "-") == 0;
    if (!input && (!rt_path_exists(path) || rt_kind_name(path)))
        return rt_kind_fail(path, "records or text", NULL, err);
    rt_source *s = rt_alloc(1, sizeof *s, "a source");
    s->buffer = rt_alloc(BUFFER_BYTES, 1, "a source");
    s->mode = mode;
    s->fd = -1;
    if (input ? add_path(s, path, err) : walk(s, path, 0, err)) {
        rt_source_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

static void close_file(rt_source *s)
{
    if (s->fd > 0)
        close(s->fd);
    if (s->arc)
        archive_read_free(s->arc);
    rt_gunzip_close(s->gz);
    s->fd = -1;
    s->arc = NULL;
    s->gz = NULL;
    s->open = false;
}

void rt_source_close(rt_source *s)
{
    if (!s)
        return;
    close_file(s);
    for (int64_t i = 0; i < s->n_paths; i++)
        free(s->path[i]);
    if (s->utf8)
        freelocale(s->utf8);
    free(s->path);
    free(s->buffer);
    rt_text_free(&s->item);
    rt_text_free(&s->where);
    free(s);
}

/* ---- files and entries ---------------------------------------------------------------------- */

static bool gzipped(const uint8_t *head, ssize_t n)
{
    return n >= 2 && head[0] == 0x1f && head[1] == 0x8b;
}

static bool packed(const uint8_t *head, ssize_t n)
{
    static const struct {
        int at, bytes;
        const char *magic;
    } known[] = { { 0, 4, "\x28\xb5\x2f\xfd" },
                  { 0, 6,
                    "\xfd"
                    "7zXZ\0" },
                  { 0, 4, "PK\3\4" },
                  { 0, 4, "PK\5\6" },
                  { 257, 5, "ustar" } };
    for (int i = 0; i < RT_COUNT(known); i++)
        if (n >= known[i].at + known[i].bytes &&
            memcmp(head + known[i].at, known[i].magic, (size_t)known[i].bytes) == 0)
            return true;
    return n >= 10 && memcmp(head, "BZh", 3) == 0 && memcmp(head + 4, "1AY&SY", 6) == 0;
}

static int fail_archive(rt_source *s, rt_err *err)
{
    const char *why = s->gz ? rt_gunzip_problem(s->gz) : NULL;
    why = why ? why : archive_error_string(s->arc);
    return rt_fail(err, "%s%s%s: %s", s->path[s->at], s->entry ? "/" : "", s->entry ? s->entry : "",
                   why ? why : "damaged or of an unknown format");
}

static la_ssize_t read_gzip(struct archive *a, void *gz, const void **data)
{
    int64_t n = rt_gunzip_next(gz, data);
    if (n < 0)
        archive_set_error(a, EINVAL, "%s", rt_gunzip_problem(gz));
    return n < 0 ? ARCHIVE_FATAL : (la_ssize_t)n;
}

/* The record at the end of a .zip, which libarchive stops before: a directory that is damaged in
   the middle would otherwise end there. */
static int64_t count_zip(int fd, int64_t bytes)
{
    enum { END = 22, COMMENT = 65535 };
    int64_t n = rt_min(bytes, END + COMMENT), count = -1;
    uint8_t *tail = rt_alloc(n, 1, "the end of a .zip");
    if (n >= END && pread(fd, tail, (size_t)n, bytes - n) == n)
        for (int64_t i = n - END; i >= 0 && count < 0; i--)
            if (memcmp(tail + i, "PK\5\6", 4) == 0)
                count = tail[i + 10] | tail[i + 11] << 8;
    free(tail);
    return count == 0xffff ? -1 : count; /* more than that: zip64 says elsewhere */
}

/* Exactly these formats; everything rarer stays out of the program. */
static int open_archive(rt_source *s, rt_err *err)
{
    struct archive *a = s->arc = archive_read_new();
    if (!s->utf8) // kept for the next archive; reading plain files does not pay for it
        s->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (!a)
        return rt_fail_memory(err, -1, s->path[s->at]);
    archive_read_support_filter_zstd(a);
    archive_read_support_filter_xz(a);
    archive_read_support_filter_bzip2(a);
    archive_read_support_format_tar(a);
    archive_read_support_format_zip(a);
    archive_read_support_format_raw(a);
    archive_read_support_format_empty(a);
    /* to the very end, where compressed streams keep their checksums */
    archive_read_set_format_option(a, "tar", "read_concatenated_archives", "1");
    s->entry = NULL;
    int rc = s->gz ? archive_read_open(a, s->gz, NULL, read_gzip, NULL)
                   : archive_read_open_filename(a, s->path[s->at], BUFFER_BYTES);
    return rc == ARCHIVE_OK ? 0 : fail_archive(s, err);
}

static int open_file(rt_source *s, rt_err *err)
{
    const char *path = s->path[s->at];
    uint8_t head[512];
    s->entry = NULL;
    s->n_entries = s->n_passed = s->total_bytes = 0;
    s->n_zip = -1;
    if (strcmp(path, "-") == 0) {
        s->fd = STDIN_FILENO;
        return 0;
    }
    int64_t bytes;
    if (rt_file_open(&s->fd, &bytes, path, err))
        return -1;
    ssize_t n = pread(s->fd, head, sizeof head, 0);
    if (n < 0)
        return rt_fail(err, "%s: %s", path, rt_errno_text(errno));
    bool gzip = gzipped(head, n);
    if (!gzip && !packed(head, n))
        return 0;
    if (gzip)
        s->gz = rt_gunzip_open(s->fd);
    else if (memcmp(head, "PK", 2) == 0)
        s->n_zip = count_zip(s->fd, bytes);
    if (!gzip)
        close(s->fd);
    s->fd = -1;
    return open_archive(s, err);
}

static bool ends_with(const char *name, const char *suffix)
{
    size_t n = strlen(name), m = strlen(suffix);
    return n >= m && strcasecmp(name + n - m, suffix) == 0;
}

/* Whether the entry's name says lines of JSON; the suffix of a compressed stream is looked through.
 */
static bool holds_records(const rt_source *s)
{
    static const char *const json[] = { ".jsonl", ".ndjson", ".json" };
    static const char *const packings[] = { "", ".gz", ".zst", ".xz", ".bz2" };
    const char *name = s->entry ? s->entry : s->path[s->at];
    char full[16];
    if (strcmp(name, "-") == 0)
        return true;
    for (int i = 0; i < RT_COUNT(json); i++)
        for (int k = 0; k < RT_COUNT(packings); k++) {
            strcpy(full, json[i]);
            strcat(full, packings[k]);
            if (ends_with(name, full))
                return true;
        }
    return false;
}

static int check_name(const rt_source *s, const char *name, rt_err *err)
{
    size_t n = name ? strlen(name) : 0;
    bool ok = n > 0 && n <= 4096;
    for (size_t i = 0; i < n && ok; i++) {
        bool dots = name[i] == '.' && name[i + 1] == '.' && (i == 0 || name[i - 1] == '/') &&
                    (name[i + 2] == '/' || name[i + 2] == 0);
        ok = (uint8_t)name[i] >= 32 && name[i] != 127 && !dots;
    }
    return ok ? 0
              : rt_fail(err,
                        "%s: entry %lld has a name that is refused (\"..\", control characters, "
                        "or not readable as text)",
                        s->path[s->at], (long long)s->n_entries);
}

/* 0 when all of it was seen. libarchive takes a stream whose first block is damaged for an empty
   file. */
static int end_archive(rt_source *s, rt_err *err)
{
    const char *path = s->path[s->at];
    if (s->gz && rt_gunzip_problem(s->gz))
        return fail_archive(s, err);
    if (s->n_zip >= 0 && s->n_zip != s->n_entries)
        return rt_fail(err, "%s: damaged: %lld of its %lld entries can be read", path,
                       (long long)s->n_entries, (long long)s->n_zip);
    if (s->n_passed)
        rt_warn("%s: %lld links or devices in it are passed over", path, (long long)s->n_passed);
    return 0;
}

/* The header of the next regular file of an archive: 1, or 0 when there is none. */
static int next_header(rt_source *s, rt_err *err)
{
    struct archive_entry *e;
    bool passed;
    s->entry = NULL; /* the name belonged to the header before */
    do {
        int r = archive_read_next_header(s->arc, &e);
        if (r == ARCHIVE_EOF)
            return end_archive(s, err);
        if (r < ARCHIVE_WARN)
            return fail_archive(s, err);
        if (++s->n_entries > RT_SOURCE_MAX_ENTRIES)
            return rt_fail(err, "%s: more than %d entries", s->path[s->at], RT_SOURCE_MAX_ENTRIES);
        passed = archive_entry_filetype(e) != AE_IFREG || archive_entry_hardlink(e);
        s->n_passed += passed && archive_entry_filetype(e) != AE_IFDIR;
    } while (passed);
    if (archive_format(s->arc) == ARCHIVE_FORMAT_RAW) /* of a stream; nothing else is raw */
        return s->gz || archive_filter_count(s->arc) > 1
                   ? 1
                   : rt_fail(err, "%s: begins like a compressed file and is none: damaged",
                             s->path[s->at]);
    s->entry = archive_entry_pathname(e);
    return check_name(s, s->entry, err) ? -1 : 1;
}

/* 1 = the next entry of this file is open, 0 = there is none. */
static int open_entry(rt_source *s, rt_err *err)
{
    if (s->fd >= 0) {
        if (s->n_entries++)
            return 0;
    } else {
        locale_t user = s->utf8 ? uselocale(s->utf8) : (locale_t)0;
        int r = next_header(s, err);
        if (s->utf8)
            uselocale(user);
        if (r <= 0)
            return r;
    }
    s->open = true;
    s->ended = false;
    s->line = s->filled = s->used = s->entry_bytes = 0;
    s->whole = s->mode == RT_SOURCE_FILES || (s->mode == RT_SOURCE_RECORDS && !holds_records(s));
    return 1;
}

/* More bytes into the buffer; at the end of the entry filled stays 0 and ended is set. */
static int fill(rt_source *s, rt_err *err)
{
    s->used = s->filled = 0;
    if (s->fd >= 0) {
        ssize_t n;
        do
            n = read(s->fd, s->buffer, BUFFER_BYTES);
        while (n < 0 && errno == EINTR && !rt_interrupted());
        if (n < 0)
            return rt_fail(err, "%s: %s", s->path[s->at], rt_errno_text(errno));
        s->filled = n;
    } else {
        la_ssize_t n = archive_read_data(s->arc, s->buffer, BUFFER_BYTES);
        if (n < 0)
            return fail_archive(s, err);
        s->filled = n;
        s->entry_bytes += n;
        s->total_bytes += n;
        int64_t in = s->gz ? rt_gunzip_packed(s->gz) : archive_filter_bytes(s->arc, -1);
        bool bomb = s->total_bytes > (16 << 20) && s->total_bytes / RT_SOURCE_MAX_RATIO > in;
        if (bomb || s->entry_bytes > RT_SOURCE_MAX_ENTRY)
            return rt_fail(err,
                           "%s: expands beyond %d times its size or %lld bytes an entry; refused",
                           s->path[s->at], RT_SOURCE_MAX_RATIO, (long long)RT_SOURCE_MAX_ENTRY);
    }
    s->ended = s->filled == 0;
    return 0;
}

/* ---- items ---------------------------------------------------------------------------------- */

static int set_where(rt_source *s, rt_err *err)
{
    rt_text_clear(&s->where);
    const char *path = s->path[s->at];
    if (strcmp(path, "-") == 0)
        path = "stdin";
    if (rt_text_puts(&s->where, path, err) ||
        (s->entry && rt_text_printf(&s->where, err, "/%s", s->entry)))
        return -1;
    return s->whole ? 0 : rt_text_printf(&s->where, err, ":%lld", (long long)s->line);
}

/* One line, or all of a whole entry, into s->item: 1, or 0 when nothing is left. */
static int read_item(rt_source *s, rt_err *err)
{
    bool any = false, complete = false;
    rt_text_clear(&s->item);
    s->line++;
    if (rt_text_puts(&s->item, "", err))
        return -1;
    while (!complete) {
        if (s->used == s->filled && !s->ended && fill(s, err))
            return -1;
        if (s->ended)
            return any || (s->whole && s->line == 1);
        const char *from = s->buffer + s->used;
        int64_t n = s->filled - s->used;
        const char *newline = s->whole ? NULL : memchr(from, '\n', (size_t)n);
        complete = newline != NULL;
        if (complete)
            n = newline - from;
        if (s->item.bytes + n > RT_SOURCE_MAX_LINE)
            return set_where(s, err) ? -1
                                     : rt_fail(err, "%s: longer than %lld bytes", s->where.data,
                                               (long long)RT_SOURCE_MAX_LINE);
        if (rt_text_add(&s->item, from, n, err))
            return -1;
        s->used += n + complete;
        any = true;
    }
    return 1;
}

/* Drop CR of CR LF and a byte order mark; whether anything is left to hand out. */
static bool tidy(rt_source *s, int64_t *skip)
{
    *skip = 0;
    if (s->mode == RT_SOURCE_ALL_LINES)
        return true;
    if (s->line == 1 && s->item.bytes >= 3 && memcmp(s->item.data, "\xef\xbb\xbf", 3) == 0)
        *skip = 3;
    if (s->whole)
        return true;
    if (s->item.bytes > *skip && s->item.data[s->item.bytes - 1] == '\r')
        s->item.data[--s->item.bytes] = 0;
    for (int64_t i = *skip; i < s->item.bytes; i++)
        if (s->item.data[i] != ' ' && s->item.data[i] != '\t')
            return true;
    return false;
}

static int check_text(const rt_source *s, rt_err *err)
{
    const char *text = s->item.data, *where = s->where.data;
    bool exact = s->mode == RT_SOURCE_ALL_LINES;
    if (!exact && s->line == 1 &&
        (strncmp(text, "\xff\xfe", 2) == 0 || strncmp(text, "\xfe\xff", 2) == 0))
        return rt_fail(err, "%s: UTF-16, not UTF-8: iconv -f UTF-16 -t UTF-8 makes it so", where);
    if (memchr(text, 0, (size_t)s->item.bytes))
        return rt_fail(err, "%s: holds a NUL byte; this is not text", where);
    int64_t good = exact ? s->item.bytes : rt_utf8_check(text, s->item.bytes);
    return good == s->item.bytes
               ? 0
               : rt_fail(err, "%s: byte %lld of it is not UTF-8", where, (long long)good + 1);
}

int rt_source_next(rt_source *s, rt_item *item, rt_err *err)
{
    for (;;) {
        int r = 0;
        if (rt_interrupted())
            return rt_fail_interrupted(err, "reading", s->at < s->n_paths ? s->path[s->at] : "");
        if (s->open) {
            r = read_item(s, err);
            if (r < 0)
                return -1;
            if (r == 0) {
                s->open = false;
                continue;
            }
            int64_t skip;
            if (!tidy(s, &skip))
                continue;
            if (set_where(s, err))
                return -1;
            if (check_text(s, err))
                return -1;
            *item = (rt_item){ s->item.data + skip, s->item.bytes - skip, s->where.data, s->whole };
            return 1;
        }
        if (s->fd < 0 && !s->arc) {
            if (s->at == s->n_paths)
                return 0;
            if (open_file(s, err))
                return -1;
        }
        r = open_entry(s, err);
        if (r < 0)
            return -1;
        if (r == 0) {
            close_file(s);
            s->at++;
        }
    }
}
