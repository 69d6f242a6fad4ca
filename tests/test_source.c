/* test_source.c: lines and files out of plain, compressed and archived input, the caps and
   refusals, and the four forms of a record. Compressed files are made here with libarchive. */
#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/rng.h"
#include "corpora/record.h"
#include "corpora/text.h"
#include "tests/suite.h"

static void put(const char *name, const char *data, int64_t bytes)
{
    rt_err err = { 0 };
    OK(rt_file_write(name, data, bytes < 0 ? (int64_t)strlen(data) : bytes, &err));
}

/* Everything a source gives, as "where|data\n..."; or the error. */
static char *drain(const char *path, rt_source_mode mode)
{
    rt_err err = { 0 };
    rt_source *s;
    rt_item item;
    rt_text out = { 0 };
    int more = -1;
    ck_assert_int_eq(rt_text_puts(&out, "", &err), 0);
    if (!rt_source_open(&s, path, mode, &err)) {
        while ((more = rt_source_next(s, &item, &err)) > 0) {
            ck_assert_int_eq(item.data[item.bytes], 0);
            OK(rt_text_printf(&out, &err, "%s%s|%s\n", item.where, item.whole ? "*" : "",
                              item.data));
        }
        rt_source_close(s);
    }
    if (more < 0)
        OK(rt_text_printf(&out, &err, "!%s", err.text));
    return out.data;
}

static void expect(const char *name, rt_source_mode mode, const char *want)
{
    char *got = drain(name, mode);
    ck_assert_str_eq(got, want);
    free(got);
}

static void expect_part(const char *name, rt_source_mode mode, const char *part)
{
    char *got = drain(name, mode);
    ck_assert_msg(strstr(got, part) != NULL, "\"%.300s\" lacks \"%s\"", got, part);
    free(got);
}

typedef struct member {
    const char *name, *data;
    int64_t bytes;
    unsigned type; /* AE_IFREG, ... */
} member;

static void pack(const char *file, int format, int filter, const member *m, int n)
{
    setlocale(LC_CTYPE, "C.UTF-8"); /* names are written so; they are read in the C locale */
    struct archive *a = archive_write_new();
    ck_assert_int_eq(archive_write_set_format(a, format), ARCHIVE_OK);
    ck_assert_int_eq(archive_write_add_filter(a, filter), ARCHIVE_OK);
    ck_assert_int_eq(archive_write_open_filename(a, file), ARCHIVE_OK);
    for (int i = 0; i < n; i++) {
        struct archive_entry *e = archive_entry_new();
        int64_t bytes = m[i].bytes < 0 ? (int64_t)strlen(m[i].data) : m[i].bytes;
        archive_entry_set_pathname(e, m[i].name);
        archive_entry_set_filetype(e, m[i].type);
        archive_entry_set_perm(e, 0644);
        archive_entry_set_size(e, m[i].type == AE_IFREG ? bytes : 0);
        if (m[i].type == AE_IFLNK)
            archive_entry_set_symlink(e, "/etc/passwd");
        ck_assert_int_eq(archive_write_header(a, e), ARCHIVE_OK);
        if (m[i].type == AE_IFREG)
            ck_assert_int_eq(archive_write_data(a, m[i].data, (size_t)bytes), bytes);
        archive_entry_free(e);
    }
    ck_assert_int_eq(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
    setlocale(LC_CTYPE, "C");
}

START_TEST(lines)
{
    put("a.txt", "\xef\xbb\xbfone\r\n\n  \t\ntwo\nlast", -1);
    expect("a.txt", RT_SOURCE_LINES, "a.txt:1|one\na.txt:4|two\na.txt:5|last\n");
    expect("a.txt", RT_SOURCE_ALL_LINES,
           "a.txt:1|\xef\xbb\xbfone\r\na.txt:2|\na.txt:3|  \t\na.txt:4|two\na.txt:5|last\n");
    expect("a.txt", RT_SOURCE_FILES, "a.txt*|one\r\n\n  \t\ntwo\nlast\n");
    expect("a.txt", RT_SOURCE_RECORDS, "a.txt*|one\r\n\n  \t\ntwo\nlast\n");
    put("b.jsonl", "{}\n{}\n", -1);
    expect("b.jsonl", RT_SOURCE_RECORDS, "b.jsonl:1|{}\nb.jsonl:2|{}\n");
    put("empty", "", 0);
    expect("empty", RT_SOURCE_LINES, "");
    expect("empty", RT_SOURCE_FILES, "empty*|\n");
    put("nul", "a\nb\0c\n", 6);
    expect_part("nul", RT_SOURCE_LINES, "a\n!");
    expect_part("nul", RT_SOURCE_LINES, "NUL");
    expect_part("missing", RT_SOURCE_LINES, "No such file");
}
END_TEST

/* Lines longer than the buffer, and one that ends exactly where the buffer does. */
START_TEST(long_lines)
{
    int64_t sizes[] = { 1, 256 << 10, (256 << 10) - 1, 700001 };
    rt_text x = { 0 };
    rt_err err = { 0 };
    for (int i = 0; i < RT_COUNT(sizes); i++) {
        for (int64_t k = 0; k < sizes[i]; k++)
            OK(rt_text_add(&x, "abcdefgh" + k % 8, 1, &err));
        OK(rt_text_puts(&x, "\n", &err));
    }
    put("long", x.data, x.bytes);
    rt_source *s;
    rt_item item;
    OK(rt_source_open(&s, "long", RT_SOURCE_LINES, &err));
    int64_t used = 0;
    for (int i = 0; i < RT_COUNT(sizes); i++) {
        ck_assert_int_eq(rt_source_next(s, &item, &err), 1);
        ck_assert_int_eq(item.bytes, sizes[i]);
        ck_assert_int_eq(memcmp(item.data, x.data + used, (size_t)item.bytes), 0);
        used += item.bytes + 1;
    }
    ck_assert_int_eq(rt_source_next(s, &item, &err), 0);
    rt_source_close(s);
    rt_text_free(&x);
}
END_TEST

START_TEST(directories)
{
    rt_err err = { 0 };
    OK(rt_dir_make("d/sub", &err));
    put("d/b", "B\n", -1);
    put("d/a", "A\n", -1);
    put("d/sub/c", "C\n", -1);
    put("d/.hidden", "H\n", -1);
    ck_assert_int_eq(symlink("..", "d/sub/loop"), 0);
    expect("d", RT_SOURCE_LINES, "d/a:1|A\nd/b:1|B\nd/sub/c:1|C\n");
}
END_TEST

START_TEST(packed)
{
    static const int filters[] = { ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_ZSTD, ARCHIVE_FILTER_XZ,
                                   ARCHIVE_FILTER_BZIP2 };
    const member one[] = { { "data", "x\ny\n", -1, AE_IFREG } };
    const member many[] = { { "dir", "", 0, AE_IFDIR },
                            { "dir/in.jsonl", "{}\n\n{}\n", -1, AE_IFREG },
                            { "dir/link", "", 0, AE_IFLNK },
                            { "t\xc3\xa9xt.md", "all\nof it", -1, AE_IFREG },
                            { "empty.jsonl", "", 0, AE_IFREG } };
    for (int i = 0; i < RT_COUNT(filters); i++) {
        pack("x.jsonl.gz", ARCHIVE_FORMAT_RAW, filters[i], one, 1);
        expect("x.jsonl.gz", RT_SOURCE_RECORDS, "x.jsonl.gz:1|x\nx.jsonl.gz:2|y\n");
        expect("x.jsonl.gz", RT_SOURCE_FILES, "x.jsonl.gz*|x\ny\n\n");
        pack("t.tgz", ARCHIVE_FORMAT_TAR_PAX_RESTRICTED, filters[i], many, RT_COUNT(many));
        expect(
            "t.tgz", RT_SOURCE_RECORDS,
            "t.tgz/dir/in.jsonl:1|{}\nt.tgz/dir/in.jsonl:3|{}\nt.tgz/t\xc3\xa9xt.md*|all\nof it\n");
    }
    pack("z.zip", ARCHIVE_FORMAT_ZIP, ARCHIVE_FILTER_NONE, many, RT_COUNT(many));
    expect("z.zip", RT_SOURCE_RECORDS,
           "z.zip/dir/in.jsonl:1|{}\nz.zip/dir/in.jsonl:3|{}\nz.zip/t\xc3\xa9xt.md*|all\nof it\n");
    pack("p.tar", ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_NONE, many, 2);
    expect("p.tar", RT_SOURCE_LINES, "p.tar/dir/in.jsonl:1|{}\np.tar/dir/in.jsonl:3|{}\n");
}
END_TEST

START_TEST(hostile_archives)
{
    static const char *const names[] = { "../evil", "a/../../b", "/..", "x\ny", "a\x1b[2J" };
    for (int i = 0; i < RT_COUNT(names); i++) {
        const member m[] = { { names[i], "x\n", -1, AE_IFREG } };
        pack("evil.tar", ARCHIVE_FORMAT_TAR_PAX_RESTRICTED, ARCHIVE_FILTER_NONE, m, 1);
        expect_part("evil.tar", RT_SOURCE_LINES, "refused");
    }
    /* 40 MB of newlines in a few bytes: refused once it is clear */
    int64_t bytes = 40 << 20;
    char *zero = malloc((size_t)bytes);
    memset(zero, '\n', (size_t)bytes);
    const member bomb[] = { { "data", zero, bytes, AE_IFREG } };
    pack("bomb.zst", ARCHIVE_FORMAT_RAW, ARCHIVE_FILTER_ZSTD, bomb, 1);
    expect_part("bomb.zst", RT_SOURCE_LINES, "expands beyond");
    free(zero);
    /* cut anywhere, a compressed file gives an error or a shorter text, never a crash */
    const member one[] = { { "data", "first line\nsecond line\n", -1, AE_IFREG } };
    pack("cut.gz", ARCHIVE_FORMAT_RAW, ARCHIVE_FILTER_GZIP, one, 1);
    rt_err err = { 0 };
    char *data;
    int64_t n;
    OK(rt_file_read(&data, &n, "cut.gz", 1 << 20, &err));
    int failed = 0;
    for (int64_t i = 4; i < n; i++) {
        put("cut.gz", data, i);
        char *got = drain("cut.gz", RT_SOURCE_LINES);
        failed += strchr(got, '!') != NULL;
        free(got);
    }
    ck_assert_int_gt(failed, n / 2);
    free(data);
}
END_TEST

/* Random damage to an archive: any result, no crash, no hang. */
START_TEST(damaged_archives)
{
    const member many[] = { { "a.jsonl", "{\"text\":\"abc\"}\n{\"text\":\"def\"}\n", -1, AE_IFREG },
                            { "b.txt", "some text\n", -1, AE_IFREG } };
    rt_err err = { 0 };
    char *data;
    int64_t n;
    for (int k = 0; k < 2; k++) {
        pack("ok", k ? ARCHIVE_FORMAT_ZIP : ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_NONE, many, 2);
        OK(rt_file_read(&data, &n, "ok", 1 << 20, &err));
        for (uint64_t i = 0; i < 300; i++) {
            int64_t where = rt_rng_below(11, RT_RNG_DATA, 2 * i, (uint32_t)n);
            char old = data[where];
            data[where] = (char)rt_rng_u32(11, RT_RNG_DATA, 2 * i + 1);
            put("bad", data, n);
            free(drain("bad", RT_SOURCE_RECORDS));
            data[where] = old;
        }
        free(data);
    }
}
END_TEST

START_TEST(not_files)
{
    static const char UTF16[] = "\xff\xfe{\0\"\0";
    ck_assert(mkfifo("pipe", 0600) == 0 && mkdir("none", 0700) == 0);
    expect_part("pipe", RT_SOURCE_RECORDS, "is a pipe: give a file");
    expect_part("/dev/tty", RT_SOURCE_RECORDS, "/dev/tty: ");
    expect("none", RT_SOURCE_RECORDS, "");
    put("empty.jsonl", "", 0);
    expect("empty.jsonl", RT_SOURCE_RECORDS, "");
    put("u16.jsonl", UTF16, sizeof UTF16 - 1);
    expect_part("u16.jsonl", RT_SOURCE_RECORDS, "u16.jsonl:1: UTF-16, not UTF-8");
    put("latin.txt", "caf\xe9", -1);
    expect_part("latin.txt", RT_SOURCE_RECORDS, "byte 4 of it is not UTF-8");
    put("lfs.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 123456\n",
        -1);
    expect_part("lfs.jsonl", RT_SOURCE_RECORDS, "a Git LFS pointer");
    put("dos.jsonl", "\xef\xbb\xbf{}\r\n{}\r\n", -1);
    expect("dos.jsonl", RT_SOURCE_RECORDS, "dos.jsonl:1|{}\ndos.jsonl:2|{}\n");
}
END_TEST

/* The data without the places: "|line\n...", or the error. */
static char *contents(const char *path)
{
    char *got = drain(path, RT_SOURCE_LINES), *to = got;
    if (strchr(got, '!'))
        return got;
    for (const char *line = got; *line;) {
        const char *bar = strchr(line, '|'), *end = bar + strcspn(bar, "\n");
        memmove(to, bar, (size_t)(end + 1 - bar));
        to += end + 1 - bar;
        line = end + 1;
    }
    *to = 0;
    return got;
}

/* Every byte of `name` flipped, every length cut: an error, or the same text. */
static void flip_all(const char *name, bool cut, int64_t most)
{
    rt_err err = { 0 };
    char *data, *want = contents(name);
    int64_t n;
    OK(rt_file_read(&data, &n, name, 1 << 20, &err));
    ck_assert_str_eq(want, "|{\"text\":\"first line\"}\n|{\"text\":\"second line\"}\n");
    int64_t all = n;
    n = rt_min(n, most);
    for (int64_t i = 0; i < 3 * n; i++) {
        static const char bits[] = { 1, 32, 0 };
        char bit = bits[i / n];
        if (!bit && !cut)
            break;
        data[i % n] ^= bit;
        put("bad", data, bit ? all : i % n);
        data[i % n] ^= bit;
        char *got = contents("bad");
        /* a file shorter than its magic number is read as the text it seems to be */
        if (!strchr(got, '!') && strcmp(got, want) != 0 && (bit || i % n >= 10))
            ck_abort_msg("%s: byte %lld ^ %d of %lld: \"%s\"", name, (long long)(i % n), bit,
                         (long long)n, got);
        free(got);
    }
    free(want);
    free(data);
}

START_TEST(flipped_bytes)
{
    static const char TEXT[] = "{\"text\":\"first line\"}\n{\"text\":\"second line\"}\n";
    static const char ZSTD[] =
        "\x28\xb5\x2f\xfd\x04\x58\x69\x01\x00\x7b\x22\x74\x65\x78\x74\x22\x3a\x22\x66\x69"
        "\x72\x73\x74\x20\x6c\x69\x6e\x65\x22\x7d\x0a\x7b\x22\x74\x65\x78\x74\x22\x3a\x22"
        "\x73\x65\x63\x6f\x6e\x64\x20\x6c\x69\x6e\x65\x22\x7d\x0a\xae\x5d\xec\x96";
    static const int filters[] = { ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_XZ, ARCHIVE_FILTER_BZIP2 };
    const member one[] = { { "d.jsonl", TEXT, -1, AE_IFREG } };
    const member half[] = { { "a", TEXT, 22, AE_IFREG }, { "b", TEXT + 22, -1, AE_IFREG } };
    rt_err err = { 0 };
    for (int i = 0; i < RT_COUNT(filters); i++) {
        pack("x", ARCHIVE_FORMAT_RAW, filters[i], one, 1);
        flip_all("x", true, INT64_MAX);
        pack("x.tar", ARCHIVE_FORMAT_TAR_USTAR, filters[i], one, 1);
        flip_all("x.tar", true, INT64_MAX);
    }
    put("x.zst", ZSTD, sizeof ZSTD - 1);
    flip_all("x.zst", true, INT64_MAX);
    pack("x.zip", ARCHIVE_FORMAT_ZIP, ARCHIVE_FILTER_NONE, one, 1);
    char *zip;
    int64_t bytes;
    OK(rt_file_read(&zip, &bytes, "x.zip", 1 << 20, &err));
    const char *directory = memmem(zip, (size_t)bytes, "PK\1\2", 4); /* says what is a link, too */
    flip_all("x.zip", false, directory - zip);
    zip[directory - zip] ^= 1;
    put("bad", zip, bytes);
    expect_part("bad", RT_SOURCE_LINES, "0 of its 1 entries");
    free(zip);
    rt_text both = { 0 }; /* two members, as pigz and cat leave them */
    for (int i = 0; i < 2; i++) {
        char *data;
        int64_t n;
        pack("x", ARCHIVE_FORMAT_RAW, ARCHIVE_FILTER_GZIP, &half[i], 1);
        OK(rt_file_read(&data, &n, "x", 1 << 20, &err) || rt_text_add(&both, data, n, &err));
        free(data);
    }
    put("two.gz", both.data, both.bytes);
    flip_all("two.gz", false, INT64_MAX);
    rt_text_free(&both);
}
END_TEST

/* ---- records ----------------------------------------------------------------------------------
 */

/* "id|role:content(reasoning){extra}...|text|answer|verify|meta", or "!error" */
static char *describe(const char *json)
{
    rt_err err = { 0 };
    rt_record r;
    rt_text out = { 0 };
    if (rt_record_parse(&r, json, (int64_t)strlen(json), "f:7", &err)) {
        ck_assert_int_eq(rt_text_printf(&out, &err, "!%s", err.text), 0);
        return out.data;
    }
    rt_err *e = &err;
    OK(rt_text_puts(&out, strlen(r.id) == 32 ? "#" : r.id, e) || rt_text_puts(&out, "|", e));
    for (int i = 0; i < r.n_messages; i++) {
        const rt_message *m = &r.message[i];
        OK(rt_text_printf(&out, e, "%s:%s", m->role, m->content));
        OK(m->reasoning ? rt_text_printf(&out, e, "(%s)", m->reasoning) : 0);
        OK(m->extra ? rt_text_printf(&out, e, "%s", m->extra) : 0);
        OK(rt_text_puts(&out, ";", e));
    }
    OK(rt_text_printf(&out, e, "|%s|%s|%s|%s", r.text ? r.text : "", r.answer ? r.answer : "",
                      r.verify ? r.verify : "", r.meta ? r.meta : ""));
    rt_record_free(&r);
    return out.data;
}

START_TEST(records)
{
    static const char *const rows[][2] = {
        { "{\"prompt\":\"2+2?\",\"answer\":4}", "#|user:2+2?;||4||" },
        { "{\"id\":12,\"prompt\":\"q\",\"answer\":\"1/2\",\"verify\":\"number\",\"system\":\"s\"}",
          "12|system:s;user:q;||1/2|number|" },
        { "{\"prompt\":\"q\",\"response\":\"r\",\"reasoning\":\"t\",\"source\":\"x\"}",
          "#|user:q;assistant:r(t);||||{\"source\":\"x\"}" },
        { "{\"id\":\"a\",\"prompt\":\"q\",\"completion\":\"r\"}", "a|user:q;assistant:r;||||" },
        { "{\"id\":\"a\",\"text\":\"doc\"}", "a||doc|||" },
        { "{\"id\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":"
          "\"assistant\","
          "\"content\":\"r\",\"reasoning_content\":\"t\"}]}",
          "a|user:q;assistant:r(t);||||" },
        { "{\"id\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
          "\"x\"},"
          "{\"type\":\"text\",\"text\":\"y\"}]},{\"role\":\"assistant\",\"content\":null,\"tool_"
          "calls\":[1]}]}",
          "a|user:xy;assistant:{\"tool_calls\":[1]};||||" },
        { "{\"id\":\"a\",\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"gpt\","
          "\"value\":\"r\"}],"
          "\"system\":\"s\",\"n\":1}",
          "a|system:s;user:q;assistant:r;||||{\"n\":1}" },
        { "{\"id\":\"a\",\"prompt\":\"q\",\"tools\":\"[]\"}", "a|user:q;||||" },
        { "{\"id\":\"a\",\"text\":\"q\",\"tools\":[1]}", "a||q|||{\"tools\":[1]}" },
        { "{\"prompt\":\"q\",\"tools\":{}}", "!f:7: tools is no list" },
        { "{\"prompt\":\"q\",\"tools\":\"[\"}", "!f:7: tools:1:1" },
        { "{}", "!f:7: none of prompt" },
        { "[]", "!f:7: a JSON array" },
        { "3", "!f:7: not a JSON object" },
        { "{\"text\":3}", "!f:7" },
        { "{\"text\":\"a\",\"prompt\":\"b\"}", "!f:7: both" },
        { "{\"messages\":[]}", "!f:7: messages is empty" },
        { "{\"messages\":[{\"role\":\"wizard\",\"content\":\"x\"}]}", "!f:7: role wizard" },
        { "{\"messages\":[{\"role\":\"user\"}]}", "!f:7: a message without content" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]}",
          "!f:7: a content part of type image" },
        { "{\"messages\":[7]}", "!f:7" },
        { "{\"conversations\":[{\"from\":\"ghost\",\"value\":\"x\"}]}", "!f:7: \"from\": ghost" },
        { "{\"prompt\":\"q\",\"response\":\"a\",\"completion\":\"b\"}", "!f:7: both response" },
        { "{\"prompt\":\"q\",\"reasoning\":\"a\"}", "!f:7: reasoning without" },
        { "{\"prompt\":\"q\",\"answer\":[1]}", "!f:7: answer is neither" },
        { "{\"text\":\"a\"", "!f:7" },
        { "{\"prompt\":null,\"id\":null,\"answer\":null,\"tools\":null,\"messages\":[{\"role\":"
          "\"user\",\"content\":\"q\",\"name\":null}],\"text\":null,\"n\":{\"a\":null,\"b\":[null]}"
          "}",
          "#|user:q;||||{\"n\":{\"b\":[null]}}" },
        { "{\"prompt\":null,\"text\":null}", "!f:7: none of prompt" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":null}]}",
          "!f:7: a message without content" },
        { "{\"id\":1834567890123456789,\"prompt\":\"q\",\"answer\":1.50,\"n\":[-0,1E+2]}",
          "1834567890123456789|user:q;||1.50||{\"n\":[-0,1E+2]}" },
        { "{\"id\":\"n\xc3\xa9 e\",\"text\":\"t\"}", "n\xc3\xa9 e||t|||" },
        { "{\"id\":\"\",\"text\":\"t\"}", "!f:7: id is empty" },
        { "{\"id\":\"a\\nb\",\"text\":\"t\"}", "!f:7: id \"a b\" holds a control" },
        { "{\"id\":\"a\xc2\x9b\",\"text\":\"t\"}", "!f:7: id" },
        { "{\"id\":007,\"text\":\"t\"}", "!f:7:7: malformed number" },
        { "{\"prompt\":\"q\",\"response\":\"r\",\"thinking\":\"t\",\"reasoning\":\"u\"}",
          "#|user:q;assistant:r(t);||||" },
        { "{\"messages\":[{\"role\":\"assistant\",\"content\":\"r\",\"reasoning\":\"u\","
          "\"thinking\":"
          "\"t\"}]}",
          "#|assistant:r(t);||||" },
        { "{\"question\":\"q\",\"solution\":\"r\"}",
          "!f:7: none of prompt, messages, conversations, text: its keys are question, solution; "
          "rename question to prompt, solution to response" },
        { "{\"instruction\":\"q\",\"input\":\"\",\"output\":\"r\"}",
          "!f:7: none of prompt, messages, conversations, text: its keys are instruction, input, "
          "output; rename instruction to prompt, output to response" },
        { "{\"Prompt\":\"q\"}", "!f:7: no \"prompt\": the key \"Prompt\"" },
    };
    for (int i = 0; i < RT_COUNT(rows); i++) {
        char *got = describe(rows[i][0]);
        if (rows[i][1][0] == '!')
            ck_assert_msg(strncmp(got, rows[i][1], strlen(rows[i][1])) == 0, "%s: %s", rows[i][0],
                          got);
        else
            ck_assert_str_eq(got, rows[i][1]);
        free(got);
    }
}
END_TEST

START_TEST(record_ids)
{
    static const char *const rows[] = {
        "{\"prompt\":\"q\",\"answer\":\"4\"}", "{\"prompt\":\"q\",\"answer\":\"5\"}",
        "{\"prompt\":\"q4\"}", "{\"text\":\"q\"}",
        "{\"messages\":[{\"role\":\"assistant\",\"content\":\"q\"}]}"
    };
    char ids[RT_COUNT(rows)][64];
    for (int i = 0; i < RT_COUNT(rows); i++) {
        rt_err err = { 0 };
        rt_record r;
        OK(rt_record_parse(&r, rows[i], (int64_t)strlen(rows[i]), "x", &err));
        snprintf(ids[i], sizeof ids[i], "%s", r.id);
        ck_assert_uint_eq(strlen(r.id), 32);
        for (int k = 0; k < i; k++)
            ck_assert_str_ne(ids[k], ids[i]);
        rt_record_free(&r);
    }
    rt_err err = { 0 };
    rt_record a, b;
    OK(rt_record_parse(&a, rows[0], (int64_t)strlen(rows[0]), "x", &err));
    static const char reordered[] = " { \"answer\" : \"4\", \"prompt\" : \"q\", \"meta\": 1 } ";
    OK(rt_record_parse(&b, reordered, sizeof reordered - 1, "x", &err));
    ck_assert_str_eq(a.id, b.id); /* the same content, however it is written */
    rt_record_free(&a);
    rt_record_free(&b);
}
END_TEST

START_TEST(record_messages)
{
    rt_err err = { 0 };
    rt_record r;
    static const char json[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"q\",\"name\":\"u\"},"
        "{\"role\":\"assistant\",\"thinking\":\"t\",\"content\":\"r\"}],\"tools\":\" "
        "[{\\\"a\\\":1}]\"}";
    OK(rt_record_parse(&r, json, sizeof json - 1, "x", &err));
    cJSON *m = rt_record_messages(&r);
    char *text = rt_json_text(m);
    ck_assert_str_eq(text, "{\"messages\":[{\"role\":\"user\",\"content\":\"q\",\"name\":\"u\"},"
                           "{\"role\":\"assistant\",\"content\":\"r\",\"reasoning_content\":\"t\"}]"
                           ",\"tools\":[{\"a\":1}]}");
    free(text);
    cJSON_Delete(m);
    rt_record_free(&r);
    const rt_item item = { "some\ntext", 9, "a.txt", true };
    OK(rt_record_from_item(&r, &item, &err));
    ck_assert_str_eq(r.text, "some\ntext");
    rt_record_free(&r);
}
END_TEST

int main(void)
{
    const suite_test tests[] = {
        { lines, 1 },         { long_lines, 1 },       { directories, 1 },
        { packed, 1 },        { hostile_archives, 1 }, { damaged_archives, 1 },
        { flipped_bytes, 1 }, { not_files, 1 },        { records, 1 },
        { record_ids, 1 },    { record_messages, 1 }
    };
    return suite_run("source", NULL, tests, RT_COUNT(tests));
}
