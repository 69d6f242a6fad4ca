/* fuzz_jsonl.c: problems, conversations and texts as corpora/source.h hands them out: lines as
   records, then the file whole. Messages of a good record go to what a template is given. */
#include "fuzz.h"

#include "corpora/record.h"

static void read_source(const char *path, rt_source_mode mode)
{
    rt_source *s;
    rt_item item;
    rt_err err;
    if (rt_source_open(&s, path, mode, &err))
        return;
    int items = 0;
    while (items++ < 64 && rt_source_next(s, &item, &err) == 1) {
        rt_record r;
        FUZZ_CHECK(strlen(item.data) == (size_t)item.bytes);
        if (rt_record_from_item(&r, &item, &err))
            continue;
        FUZZ_CHECK(r.id && (r.text || r.n_messages));
        if (r.n_messages)
            cJSON_Delete(rt_record_messages(&r));
        rt_record_free(&r);
    }
    rt_source_close(s);
}

int fuzz_one(const uint8_t *data, size_t size)
{
    const char *path = fuzz_kernel_file(data, size);
    read_source(path, RT_SOURCE_LINES);
    if (size && data[0] != '{')
        read_source(path, RT_SOURCE_FILES);
    return 0;
}

static const char WORDS[] =
    "prompt\nanswer\nmessages\nconversations\ntext\nid\nverify\nsystem\nresponse\n"
    "completion\nrole\ncontent\nreasoning_content\nreasoning\nthinking\nfrom\nvalue\n"
    "human\ngpt\ntool_calls\nuser\nassistant\ntool\ntype";

// The tree of one line changes; the others stay.
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    fuzz_dice d = { seed };
    size_t begin = fuzz_roll(&d, size);
    while (begin > 0 && data[begin - 1] != '\n')
        begin--;
    const uint8_t *newline = size ? memchr(data + begin, '\n', size - begin) : NULL;
    size_t end = newline ? (size_t)(newline - data) : size;
    rt_text line = { 0 }, text = { 0 };
    fuzz_add(&line, data + begin, end - begin);
    rt_err err;
    FUZZ_CHECK(rt_text_reserve(&line, (int64_t)max, &err) == 0);
    size_t n = fuzz_json_mutate((uint8_t *)line.data, end - begin, max, seed, WORDS);
    fuzz_add(&text, data, begin);
    fuzz_add(&text, line.data, n);
    fuzz_add(&text, data + end, size - end);
    rt_text_free(&line);
    return fuzz_result(&text, data, size, max);
}
