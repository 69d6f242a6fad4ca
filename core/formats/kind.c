#include "core/formats/kind.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/file.h"

static bool has(const char *dir, const char *name)
{
    char *path = rt_path_join(dir, name);
    struct stat st;
    bool there = stat(path, &st) == 0;
    free(path);
    return there;
}

static const char *kind_of_folder(const char *dir)
{
    size_t n = strlen(dir);
    while (n && dir[n - 1] == '/')
        n--;
    bool named = n > 7 && !strncmp(dir + n - 7, ".traces", 7);
    if (has(dir, "shard-00000.npz") || (named && has(dir, "manifest.json")))
        return "a trace archive"; // a manifest.json alone stands in many a folder of records
    if (has(dir, "config.json") && (has(dir, "model.safetensors") || has(dir, "tokenizer.json") ||
                                    has(dir, "model.safetensors.index.json")))
        return "a model directory";
    if (has(dir, "adapter_config.json"))
        return "an adapter";
    if (has(dir, "tokenizer.json"))
        return "a tokenizer's directory";
    return has(dir, "stages") && has(dir, "lock") ? "the folder of a run" : NULL;
}

static const char *kind_of_file(const char *path)
{
    unsigned char head[10] = { 0 };
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || read(fd, head, sizeof head) < 4)
        head[0] = 0;
    if (fd >= 0)
        close(fd);
    const char *name = rt_path_base(path);
    size_t n = strlen(name);
    if (!memcmp(head, "GGUF", 4))
        return "a GGUF";
    if (!memcmp(head, "\x93NUMPY", 6))
        return "a .npy";
    if (!memcmp(head, "PK\3\4", 4) && n > 4 && !strcmp(name + n - 4, ".npz"))
        return "a .npz (a shard of an archive?)";
    // the length of a JSON header, then its "{"
    if (head[8] == '{' && !head[4] && !head[5] && !head[6] && !head[7])
        return "a .safetensors file, weights alone";
    return NULL;
}

const char *rt_kind_name(const char *path)
{
    struct stat st;
    if (stat(path, &st))
        return NULL;
    return S_ISDIR(st.st_mode)   ? kind_of_folder(path)
           : S_ISREG(st.st_mode) ? kind_of_file(path)
                                 : NULL;
}

int rt_kind_fail(const char *path, const char *wanted, const char *hint, rt_err *err)
{
    struct stat st;
    const char *kind = rt_kind_name(path), *colon = hint ? ": " : "";
    hint = hint ? hint : "";
    if (stat(path, &st))
        return rt_fail(err, "%s: %s%s%s", path, rt_errno_text(errno), colon, hint);
    if (kind)
        return rt_fail(err, "%s: is %s, not %s%s%s", path, kind, wanted, colon, hint);
    return rt_fail(err, "%s: is not %s%s%s", path, wanted, colon, hint);
}
