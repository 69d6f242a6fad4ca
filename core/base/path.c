#include "core/base/path.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/memory.h"

char *rt_path_parent(const char *path)
{
    const char *base = rt_path_base(path);
    if (base == path)
        return rt_strdup(".");
    return rt_strndup(path, base - path > 1 ? base - path - 1 : 1);
}

/* Appends the names of `rest` to the absolute path, by the letter: "." and ".." mean what they say.
 */
static char *append(char *path, const char *rest)
{
    while (*rest) {
        size_t n = strcspn(rest, "/");
        char *name = rt_strndup(rest, (int64_t)n), *slash = strrchr(path, '/');
        if (!strcmp(name, "..") && slash) {
            slash[slash == path] = 0;
        } else if (n && strcmp(name, ".")) {
            char *longer = rt_path_join(path, name);
            free(path);
            path = longer;
        }
        free(name);
        rest += n + (rest[n] == '/');
    }
    return path;
}

char *rt_path_resolve(const char *path)
{
    char *head = rt_strdup(path), *real = NULL;
    size_t n = strlen(head);
    while (n > 1 && head[n - 1] == '/')
        head[--n] = 0;
    while (!(real = realpath(head, NULL))) {
        char *slash = strrchr(head, '/');
        if (!slash || slash == head) {
            bool absolute = slash == head;
            free(head);
            head = NULL;
            real = absolute ? rt_strdup("/") : realpath(".", NULL);
            break;
        }
        *slash = 0;
    }
    if (!real)
        real = rt_strdup("/"); /* the folder we stand in is gone */
    const char *rest = head ? path + strlen(head) : path;
    free(head);
    return append(real, rest);
}

/* The same, but a link that is the last name stays one. */
char *rt_path_resolve_parent(const char *path)
{
    char *trimmed = rt_strdup(path);
    size_t n = strlen(trimmed);
    while (n > 1 && trimmed[n - 1] == '/')
        trimmed[--n] = 0;
    const char *base = rt_path_base(trimmed);
    char *whole;
    if (!*base || !strcmp(base, ".") || !strcmp(base, "..")) {
        whole = rt_path_resolve(trimmed);
    } else {
        char *parent = rt_path_parent(trimmed), *real = rt_path_resolve(parent);
        whole = rt_path_join(real, base);
        free(parent);
        free(real);
    }
    free(trimmed);
    return whole;
}

char *rt_path_target(const char *path)
{
    char *real = rt_path_resolve(path), *name = rt_path_resolve_parent(path);
    bool link = strcmp(real, name) != 0;
    char *target = rt_strdup(link ? real : path);
    free(real);
    free(name);
    return target;
}

bool rt_path_holds(const char *outer, const char *inner)
{
    size_t n = strlen(outer);
    if (n == 1 && outer[0] == '/')
        return inner[0] == '/';
    return !strncmp(outer, inner, n) && (inner[n] == 0 || inner[n] == '/');
}

bool rt_path_overlap(const char *a, const char *b)
{
    return rt_path_holds(a, b) || rt_path_holds(b, a);
}
