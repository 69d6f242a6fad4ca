/* mutate.c: see fuzz.h: dice, buffers, and changes to a JSON tree. */
#include "fuzz.h"

uint32_t fuzz_roll(fuzz_dice *d, uint64_t n)
{
    uint64_t z = d->state += 0x9E3779B97F4A7C15u; // splitmix64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return n ? (uint32_t)((z ^ z >> 31) % n) : 0;
}

const char *fuzz_word(fuzz_dice *d, const char *words)
{
    static char word[64];
    const char *line = words + fuzz_roll(d, strlen(words)); // long ones come up more often
    while (line > words && line[-1] != '\n')
        line--;
    size_t n = strcspn(line, "\n");
    FUZZ_CHECK(n < sizeof word);
    memcpy(word, line, n);
    word[n] = 0;
    return word;
}

// ---- buffers ----

void fuzz_add(rt_text *text, const void *data, size_t bytes)
{
    rt_err err;
    FUZZ_CHECK(rt_text_add(text, data, (int64_t)bytes, &err) == 0);
}

void fuzz_add_le(rt_text *text, uint64_t value, int bytes)
{
    uint8_t le[8];
    for (int i = 0; i < bytes; i++)
        le[i] = (uint8_t)(value >> 8 * i);
    fuzz_add(text, le, (size_t)bytes);
}

void fuzz_text_change(rt_text *text, size_t room)
{
    rt_err err;
    FUZZ_CHECK(rt_text_reserve(text, (int64_t)room, &err) == 0);
    size_t n = (size_t)text->bytes;
    text->bytes = (int64_t)LLVMFuzzerMutate((uint8_t *)text->data, n, n + room);
    text->data[text->bytes] = 0;
}

size_t fuzz_result(rt_text *text, uint8_t *data, size_t size, size_t max)
{
    size_t n = (size_t)text->bytes;
    bool fits = n && n <= max;
    if (fits)
        memcpy(data, text->data, n);
    rt_text_free(text);
    return fits ? n : LLVMFuzzerMutate(data, size, max);
}

// ---- JSON ----

// The mutator's own tree is not under test: a stack that is emptied whole is faster than malloc.
static struct {
    char byte[4 << 20];
    size_t used;
} heap;

static void *heap_alloc(size_t bytes)
{
    size_t at = heap.used, room = sizeof heap.byte - at;
    if (bytes + 16 > room)
        return NULL;
    heap.used += (bytes + 15) & ~(size_t)15;
    return heap.byte + at;
}

static void heap_free(void *p) { (void)p; }

static size_t count_nodes(const cJSON *j)
{
    size_t n = 1;
    for (const cJSON *c = j->child; c; c = c->next)
        n += count_nodes(c);
    return n;
}

// Node number *left in the order of the text, and what holds it.
static cJSON *find_node(cJSON *j, cJSON **parent, size_t *left)
{
    if ((*left)-- == 0)
        return j;
    for (cJSON *c = j->child; c; c = c->next) {
        cJSON *found = find_node(c, parent, left);
        if (found == c)
            *parent = j;
        if (found)
            return found;
    }
    return NULL;
}

static cJSON *pick_node(cJSON *root, cJSON **parent, fuzz_dice *d)
{
    size_t at = fuzz_roll(d, count_nodes(root));
    *parent = NULL;
    return find_node(root, parent, &at);
}

static cJSON *new_number(fuzz_dice *d)
{
    static const double odd[] = { 0,          1,      -1,     2,          3,    255,   256,
                                  65536,      0x1p31, 0x1p32, 0x1p53,     1e18, -1e18, 0x1p63,
                                  0x1p53 - 1, 1e300,  -1e300, 0x1p31 - 1, 0.5,  1e-9,  4194303 };
    return cJSON_CreateNumber(fuzz_roll(d, 3) ? odd[fuzz_roll(d, RT_COUNT(odd))]
                                              : (double)fuzz_roll(d, 4096) - 64);
}

// Any value but a copy of the node itself.
static cJSON *new_value(cJSON *root, const cJSON *old, fuzz_dice *d, const char *words)
{
    cJSON *parent;
    rt_text text = { 0 };
    switch (fuzz_roll(d, 8)) {
    case 0:
        return fuzz_roll(d, 3) ? cJSON_CreateBool(fuzz_roll(d, 2) == 1) : cJSON_CreateNull();
    case 1:
        return fuzz_roll(d, 2) ? cJSON_CreateArray() : cJSON_CreateObject();
    case 2:
    case 3:
        return new_number(d);
    case 4:
        return cJSON_CreateString(fuzz_word(d, words));
    case 5:
    case 6:
        if (cJSON_IsString(old)) {
            fuzz_add(&text, old->valuestring, strlen(old->valuestring));
            fuzz_text_change(&text, 16);
            cJSON *changed = cJSON_CreateString(text.data);
            rt_text_free(&text);
            return changed;
        }
        return new_number(d);
    default:
        return cJSON_Duplicate(pick_node(root, &parent, d), true);
    }
}

static void add_child(cJSON *to, const char *key, cJSON *value)
{
    bool ok = cJSON_IsObject(to) ? cJSON_AddItemToObject(to, key, value)
                                 : cJSON_IsArray(to) && cJSON_AddItemToArray(to, value);
    if (!ok)
        cJSON_Delete(value);
}

void fuzz_json_change(cJSON *root, fuzz_dice *d, const char *words)
{
    cJSON *parent, *other_parent, *node = pick_node(root, &parent, d);
    int what = (int)fuzz_roll(d, 8);
    char key[64];
    strcpy(key, fuzz_word(d, words));
    if (!parent || what == 0) { // a new member, or a copy of one, at this node
        add_child(node, key, new_value(root, node, d, words));
    } else if (what == 1) {
        cJSON_Delete(cJSON_DetachItemViaPointer(parent, node));
    } else if (what == 2) {
        cJSON *twin = cJSON_Duplicate(node, true);
        cJSON *to = fuzz_roll(d, 2) ? parent : pick_node(root, &other_parent, d);
        add_child(to, node->string && fuzz_roll(d, 2) ? node->string : key, twin);
    } else if (what == 3 && cJSON_IsObject(parent)) {
        cJSON *moved = cJSON_DetachItemViaPointer(parent, node);
        add_child(parent, key, moved);
    } else {
        cJSON *value = new_value(root, node, d, words);
        if (cJSON_IsObject(parent)) {
            char *name = strdup(node->string);
            cJSON_Delete(cJSON_DetachItemViaPointer(parent, node));
            add_child(parent, name, value);
            free(name);
        } else {
            cJSON_ReplaceItemViaPointer(parent, node, value);
        }
    }
}

size_t fuzz_json_mutate(uint8_t *data, size_t size, size_t max, unsigned seed, const char *words)
{
    fuzz_dice d = { seed };
    cJSON_InitHooks(&(cJSON_Hooks){ heap_alloc, heap_free });
    heap.used = 0;
    cJSON *root = fuzz_roll(&d, 4) ? cJSON_ParseWithLength((const char *)data, size) : NULL;
    rt_text text = { 0 };
    for (int n = root ? 1 + (int)fuzz_roll(&d, 3) : 0; n > 0; n--)
        fuzz_json_change(root, &d, words);
    const char *printed = root ? cJSON_PrintUnformatted(root) : NULL;
    if (printed)
        fuzz_add(&text, printed, strlen(printed));
    cJSON_InitHooks(NULL);
    return fuzz_result(&text, data, size, max);
}
