/* npz.c: see npz.h. ZIP after PKWARE's APPNOTE 6.3.3, .npy after numpy's format description.
   Every length is checked against the bytes that remain before it is used; entries must follow one
   another without gap or overlap from offset 0 to the central directory. */
#include "corpora/archive/npz.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

// ---- .npy ----

void rt_npy_head(uint8_t head[RT_NPY_HEAD], const char *descr, int rank, const int64_t *dim)
{
    char shape[96] = "(";
    size_t at = 1;
    for (int i = 0; i < rank; i++) {
        const char *fmt = rank == 1 ? "%lld," : i + 1 < rank ? "%lld, " : "%lld";
        at += (size_t)snprintf(shape + at, sizeof shape - at, fmt, (long long)dim[i]);
    }
    int n = snprintf((char *)head + 10, RT_NPY_HEAD - 10,
                     "{'descr': '%s', 'fortran_order': False, 'shape': %s), }", descr, shape);
    if (n < 0 || n >= RT_NPY_HEAD - 11)
        rt_bug("rt_npy_head: descr %s does not fit", descr);
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    head[8] = RT_NPY_HEAD - 10;
    head[9] = 0;
    memset(head + 10 + n, ' ', (size_t)(RT_NPY_HEAD - 11 - n));
    head[RT_NPY_HEAD - 1] = '\n';
}

// Advance *at past `text`, or false.
static bool skip_text(const char **at, const char *end, const char *text)
{
    size_t n = strlen(text);
    if ((size_t)(end - *at) < n || memcmp(*at, text, n) != 0)
        return false;
    *at += n;
    return true;
}

// A decimal of up to 18 digits, no leading zeros.
static bool read_decimal(const char **at, const char *end, int64_t *out)
{
    const char *p = *at;
    int64_t v = 0;
    while (p < end && *p >= '0' && *p <= '9' && p - *at < 18)
        v = v * 10 + (*p++ - '0');
    if (p == *at || (p - *at > 1 && **at == '0'))
        return false;
    *at = p;
    *out = v;
    return true;
}

static bool parse_shape(rt_npy *npy, const char **at, const char *end)
{
    if (!skip_text(at, end, "("))
        return false;
    npy->rank = 0;
    while (!skip_text(at, end, ")")) {
        if (npy->rank == 4 || !read_decimal(at, end, &npy->dim[npy->rank]))
            return false;
        npy->rank++;
        bool comma = skip_text(at, end, ",");
        if (!comma && npy->rank == 1)
            return false; // (3) is a number in Python, not a tuple
        if (comma)
            skip_text(at, end, " ");
        else if (*at == end || **at != ')')
            return false;
    }
    return true;
}

// "<i4", "|u1", "|S12": byte order, kind, bytes of an element.
static bool parse_descr(rt_npy *npy)
{
    const char *d = npy->descr, *at = d + 2, *end = d + strlen(d);
    bool order = d[0] == '<' || d[0] == '|';
    return strlen(d) >= 3 && order && strchr("biufSV", d[1]) &&
           read_decimal(&at, end, &npy->item) && at == end && npy->item >= 1 && npy->item <= 4096;
}

static bool parse_dict(rt_npy *npy, const char *at, const char *end)
{
    if (!skip_text(&at, end, "{'descr': '"))
        return false;
    const char *quote = memchr(at, '\'', (size_t)(end - at));
    if (!quote || quote - at >= (ptrdiff_t)sizeof npy->descr)
        return false;
    memcpy(npy->descr, at, (size_t)(quote - at));
    npy->descr[quote - at] = '\0';
    at = quote;
    if (!parse_descr(npy) || !skip_text(&at, end, "', 'fortran_order': False, 'shape': ") ||
        !parse_shape(npy, &at, end) || !skip_text(&at, end, ", }"))
        return false;
    while (at < end && *at == ' ')
        at++;
    return at + 1 == end && *at == '\n';
}

int rt_npy_parse(rt_npy *npy, const uint8_t *data, int64_t bytes, const char *what, rt_err *err)
{
    *npy = (rt_npy){ .dim = { 1, 1, 1, 1 } };
    if (bytes < 10 || memcmp(data, "\x93NUMPY", 6) != 0)
        return rt_fail(err, "%s: not a .npy file: write it with numpy.save", what);
    if (data[6] != 1 || data[7] != 0)
        return rt_fail(err, "%s: .npy format %d.%d; only 1.0 is read", what, data[6], data[7]);
    int64_t head = 10 + data[8] + 256 * (int64_t)data[9];
    if (head > bytes || !parse_dict(npy, (const char *)data + 10, (const char *)data + head))
        return rt_fail(
            err,
            "%s: the .npy header is damaged or not plain (little-endian, C order, at most "
            "4 dimensions)",
            what);
    int64_t size = npy->item;
    for (int i = 0; i < npy->rank; i++)
        if (!rt_mul_ok(size, npy->dim[i], &size))
            return rt_fail(err, "%s: the .npy shape is larger than any file", what);
    if (size != bytes - head)
        return rt_fail(err, "%s: .npy shape needs %lld bytes of data, the file has %lld", what,
                       (long long)size, (long long)(bytes - head));
    npy->data = data + head;
    npy->bytes = size;
    return 0;
}

// ---- ZIP, writing ----

static int fail_archive(struct archive *a, const char *what, rt_err *err)
{
    int number = archive_errno(a); /* below 0: libarchive's own, for damage */
    const char *why = number > 0 ? rt_errno_text(number) : archive_error_string(a);
    return rt_fail(err, "%s: cannot write the ZIP: %s", what, why ? why : "unknown reason");
}

static int write_entry(struct archive *a, const rt_npz_entry *e, const char *what, rt_err *err)
{
    struct archive_entry *entry = archive_entry_new();
    if (!entry)
        return rt_fail_memory(err, -1, what);
    archive_entry_set_pathname(entry, e->name);
    archive_entry_set_size(entry, e->bytes);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    int rc = archive_write_header(a, entry) == ARCHIVE_OK ? 0 : fail_archive(a, what, err);
    for (int64_t done = 0; rc == 0 && done < e->bytes;) {
        la_ssize_t n = archive_write_data(a, e->data + done, (size_t)(e->bytes - done));
        if (n <= 0)
            rc = fail_archive(a, what, err);
        done += n;
    }
    archive_entry_free(entry);
    return rc;
}

int rt_npz_write(int fd, const rt_npz_entry *entry, int n, const char *what, rt_err *err)
{
    int64_t total = 0;
    for (int i = 0; i < n; i++)
        total += entry[i].bytes + 512;
    if (n > RT_NPZ_ENTRIES_MAX || total > RT_NPZ_BYTES_MAX)
        return rt_fail(err, "%s: a shard may not pass 4 GiB: lower the shard limits", what);
    struct archive *a = archive_write_new();
    if (!a)
        return rt_fail_memory(err, -1, what);
    int rc = 0;
    if (archive_write_set_format_zip(a) != ARCHIVE_OK ||
        archive_write_set_options(a, "zip:compression=store") != ARCHIVE_OK ||
        archive_write_set_bytes_per_block(a, 1 << 16) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(a, 1) != ARCHIVE_OK ||
        archive_write_open_fd(a, fd) != ARCHIVE_OK)
        rc = fail_archive(a, what, err);
    for (int i = 0; rc == 0 && i < n; i++)
        rc = write_entry(a, &entry[i], what, err);
    if (rc == 0 && archive_write_close(a) != ARCHIVE_OK)
        rc = fail_archive(a, what, err);
    archive_write_free(a);
    return rc;
}

// ---- ZIP, reading ----

enum { LOCAL_BYTES = 30, CENTRAL_BYTES = 46, END_BYTES = 22, DESCRIPTOR_BYTES = 16 };

static uint32_t le16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }
static uint32_t le32(const uint8_t *p) { return le16(p) | le16(p + 2) << 16; }

// The entry's name; false when it is none that we would give.
static bool take_name(rt_npz_entry *e, const uint8_t *name, int64_t n)
{
    static const char ALLOWED[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    if (n < 1 || n > RT_NPZ_NAME_MAX || name[0] == '.')
        return false;
    memcpy(e->name, name, (size_t)n);
    e->name[n] = '\0';
    return strspn(e->name, ALLOWED) == (size_t)n;
}

/* One entry from its central record c; *next is where its local record must begin, and after it
   the following one. limit: start of the central directory. Returns a reason, or NULL when good. */
static const char *parse_entry(rt_npz_entry *e, const uint8_t *data, int64_t limit,
                               const uint8_t *c, int64_t *next)
{
    uint32_t flags = le16(c + 8), size = le32(c + 24), n_name = le16(c + 28);
    bool descriptor = flags & 8;
    if ((flags & ~0x0808u) || le16(c + 10) != 0 || le16(c + 34) != 0 || le16(c + 32) != 0)
        return "is compressed, encrypted or split; only stored entries are read";
    if (le32(c + 20) != size)
        return "has two sizes";
    if (le32(c + 42) != *next)
        return "overlaps its neighbour or leaves a gap";
    if (!take_name(e, c + CENTRAL_BYTES, n_name))
        return "has a name outside [A-Za-z0-9._-]{1,47}";
    const uint8_t *l = data + *next;
    if (limit - *next < LOCAL_BYTES || le32(l) != 0x04034b50u)
        return "has no local header";
    int64_t head = LOCAL_BYTES + (int64_t)le16(l + 26) + le16(l + 28);
    int64_t total = head + size + (descriptor ? DESCRIPTOR_BYTES : 0);
    if (limit - *next < total)
        return "is longer than the file";
    if (le16(l + 6) != flags || le16(l + 8) != 0 || le16(l + 26) != n_name ||
        memcmp(l + LOCAL_BYTES, c + CENTRAL_BYTES, n_name) != 0)
        return "disagrees with its local header";
    // with a descriptor libarchive writes crc 0 and the size in the local header
    bool local_ok = descriptor ? (le32(l + 22) == size || le32(l + 22) == 0) && le32(l + 14) == 0
                               : le32(l + 22) == size && le32(l + 14) == le32(c + 16);
    const uint8_t *d = l + head + size;
    if (!local_ok || le32(l + 18) != le32(l + 22) ||
        (descriptor && (le32(d) != 0x08074b50u || le32(d + 4) != le32(c + 16) ||
                        le32(d + 8) != size || le32(d + 12) != size)))
        return "disagrees with its local sizes";
    e->data = l + head;
    e->bytes = size;
    *next += total;
    return NULL;
}

int rt_npz_parse(rt_npz *z, const uint8_t *data, int64_t bytes, const char *what, rt_err *err)
{
    memset(z, 0, sizeof *z);
    const uint8_t *end = bytes < END_BYTES ? NULL : data + bytes - END_BYTES;
    if (!end || bytes > RT_NPZ_BYTES_MAX || le32(end) != 0x06054b50u)
        return rt_fail(err, "%s: not a whole ZIP file (truncated or damaged at its end)", what);
    int64_t n = le16(end + 10), size = le32(end + 12), at = le32(end + 16), next = 0;
    if (le32(end + 4) != 0 || le16(end + 8) != n || le16(end + 20) != 0 || n > RT_NPZ_ENTRIES_MAX ||
        at + size != bytes - END_BYTES)
        return rt_fail(err, "%s: the ZIP end record (last %d bytes) is damaged", what, END_BYTES);
    const int64_t limit = at, stop = at + size;
    for (; z->n < n; z->n++) {
        const uint8_t *c = data + at;
        int64_t record = CENTRAL_BYTES;
        if (stop - at >= CENTRAL_BYTES)
            record += (int64_t)le16(c + 28) + le16(c + 30) + le16(c + 32);
        if (stop - at < record || le32(c) != 0x02014b50u)
            return rt_fail(err, "%s: byte %lld: the ZIP directory is damaged", what, (long long)at);
        rt_npz_entry *e = &z->entry[z->n];
        const char *why = parse_entry(e, data, limit, c, &next);
        if (!why && rt_npz_find(z, e->name))
            why = "stands twice";
        if (why)
            return rt_fail(err, "%s: byte %lld: ZIP entry %d %s", what, (long long)at, z->n, why);
        at += record;
    }
    if (at != stop || next != limit)
        return rt_fail(err, "%s: byte %lld: bytes outside every ZIP entry", what,
                       (long long)(at != stop ? at : next));
    return 0;
}

// A local or central record stands there.
static bool record_at(const uint8_t *data, int64_t bytes, int64_t at)
{
    uint32_t magic = bytes - at >= 4 ? le32(data + at) : 0;
    return magic == 0x04034b50u || magic == 0x02014b50u;
}

/* The entry whose local record stands at `at` by one header's account, believed when what must
   follow it does: its descriptor or the record behind that. Where the next should begin, or -1. */
static int64_t salvage_entry(rt_npz *z, const uint8_t *data, int64_t bytes, int64_t at,
                             const uint8_t *name, int64_t n_name, int64_t n_extra, int64_t size)
{
    int64_t begin = at + LOCAL_BYTES + n_name + n_extra, end = begin + size;
    rt_npz_entry e = { .bytes = size };
    if (bytes - end < 4 || !take_name(&e, name, n_name))
        return -1;
    int64_t next = end + (data[at + 6] & 8 ? DESCRIPTOR_BYTES : 0);
    if (le32(data + end) != 0x08074b50u && !record_at(data, bytes, next))
        return -1;
    e.data = data + begin;
    if (z->n < RT_NPZ_ENTRIES_MAX && !rt_npz_find(z, e.name))
        z->entry[z->n++] = e;
    return next;
}

void rt_npz_salvage(rt_npz *z, const uint8_t *data, int64_t bytes)
{
    memset(z, 0, sizeof *z);
    for (int64_t at = 0; at >= 0 && bytes - at >= LOCAL_BYTES;) {
        const uint8_t *l = data + at;
        int64_t n_name = le16(l + 26), n_extra = le16(l + 28);
        if (le32(l) != 0x04034b50u || bytes - at < LOCAL_BYTES + n_name)
            break;
        at = salvage_entry(z, data, bytes, at, l + LOCAL_BYTES, n_name, n_extra, le32(l + 22));
    }
    int64_t at = bytes < END_BYTES ? bytes : le32(data + bytes - END_BYTES + 16);
    while (at <= bytes - CENTRAL_BYTES) {
        const uint8_t *c = data + at;
        int64_t n_name = le16(c + 28), n_extra = le16(c + 30);
        if (le32(c) != 0x02014b50u || bytes - at < CENTRAL_BYTES + n_name)
            break;
        // libarchive gives both headers extra fields of one length
        salvage_entry(z, data, bytes, le32(c + 42), c + CENTRAL_BYTES, n_name, n_extra,
                      le32(c + 24));
        at += CENTRAL_BYTES + n_name + n_extra + le16(c + 32);
    }
}

const rt_npz_entry *rt_npz_find(const rt_npz *z, const char *name)
{
    for (int i = 0; i < z->n; i++)
        if (strcmp(z->entry[i].name, name) == 0)
            return &z->entry[i];
    return NULL;
}
