/* folder.c: directories: made, listed, synced, and held by one writer at a time. The rest of file.h is
   in file.c. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/memory.h"

int rt_dir_make(const char *path, rt_err *err)
{
    char *part = rt_strdup(path);
    int rc = 0;
    for (char *p = part + 1; !rc; p++) {
        if (*p != '/' && *p != 0)
            continue;
        char held = *p;
        *p = 0;
        if (mkdir(part, 0777) && errno != EEXIST)
            rc = rt_fail(err, "%s: cannot make directory: %s", part, rt_errno_text(errno));
        else if (!rt_path_is_dir(part))
            rc = rt_fail(err, "%s: exists and is not a directory; move it or name another path",
                         part);
        *p = held;
        if (!held)
            break;
    }
    free(part);
    return rc;
}

int rt_dir_sync(const char *path, rt_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return rt_fail(err, "%s: cannot open directory: %s", path, rt_errno_text(errno));
    int rc = 0;
    if (fsync(fd) && errno != EINVAL) // EINVAL: a file system without directory fsync
        rc = rt_fail(err, "%s: fsync of the directory failed: %s", path, rt_errno_text(errno));
    close(fd);
    return rc;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int rt_dir_list(char ***names, int *n, const char *path, rt_err *err)
{
    DIR *dir = opendir(path);
    if (!dir)
        return rt_fail(err, "%s: cannot list: %s", path, rt_errno_text(errno));
    char **list = NULL;
    int count = 0;
    int64_t cap = 0;
    errno = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL; errno = 0) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        rt_grow(&list, &cap, count + 1, sizeof *list, "a list of files");
        list[count++] = rt_strdup(e->d_name);
    }
    int failed = errno;
    closedir(dir);
    if (failed) {
        rt_names_free(list, count);
        return rt_fail(err, "%s: cannot list: %s", path, rt_errno_text(failed));
    }
    if (count)
        qsort(list, (size_t)count, sizeof *list, by_bytes);
    *names = list;
    *n = count;
    return 0;
}

void rt_names_free(char **names, int n)
{
    for (int i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

bool rt_dir_locked(const char *dir)
{
    char *path = rt_path_join(dir, "lock");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool locked = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
    if (fd >= 0)
        close(fd);
    free(path);
    return locked;
}

int rt_dir_lock(int *fd, const char *dir, rt_err *err)
{
    char *path = rt_path_join(dir, "lock");
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    int rc = 0, held = *fd < 0 ? 0 : flock(*fd, LOCK_EX | LOCK_NB);
    if (held && errno == EWOULDBLOCK) { // or only rt_dir_locked, for a moment
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
        held = flock(*fd, LOCK_EX | LOCK_NB);
    }
    if (*fd < 0)
        rc = rt_fail(err, "%s: cannot create: %s", path, rt_errno_text(errno));
    else if (held && errno == EWOULDBLOCK)
        rc = rt_fail(err, "%s: another retort is writing here; wait for it or stop it", dir);
    else if (held)
        rc = rt_fail(err, "%s: cannot lock: %s", path, rt_errno_text(errno));
    free(path);
    return rc;
}
