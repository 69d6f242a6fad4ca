/* file.h: files read whole or by map, and files replaced atomically (write temp in the same
   directory, fsync, rename, fsync directory). Nothing half-written ever stands under a final name.
   Refuses: deciding formats; following a size it was told instead of the size it measures. */
#ifndef RT_FILE_H
#define RT_FILE_H

#include "core/base/err.h"
#include "core/base/hash.h"

RT_BEGIN

/* Open to be read: a regular file and what it says it is. Refuses directories, pipes (they would
   wait, and can be read but once), devices, and the pointer files that Git LFS leaves in a clone. */
int rt_file_open(int *fd, int64_t *bytes, const char *path, rt_err *err);

/* A read-only memory map of a regular file. bytes may be 0 (data is then a valid empty buffer). */
typedef struct rt_map {
    const uint8_t *data;
    int64_t bytes;
    char *path; /* as it was opened */
    void *base; /* private */
} rt_map;

int rt_map_open(rt_map *map, const char *path, rt_err *err);
void rt_map_close(rt_map *map); /* accepts a zeroed map */
/* Pages of a map that this process holds are given back; they are read again when they are touched.
 */
void rt_map_forget(const void *data, int64_t bytes);
/* rt_hash_fits of bytes of a map, of which it holds little at a time. */
bool rt_map_fits(const char *digits, const void *data, int64_t bytes);

/* Pages of a file that lie in memory unchanged are dropped, so that what is read next comes from
   the disk: as far as the system does as it is asked. */
void rt_file_forget(const char *path);

/* Whole file, NUL-terminated after bytes (free() it); an error when larger than max_bytes. */
int rt_file_read(char **data, int64_t *bytes, const char *path, int64_t max_bytes, rt_err *err);

/* A file being written under PATH.tmp.PID; appears as PATH only by rt_out_commit. */
typedef struct rt_out {
    int fd;
    char *path, *temp;
    int64_t bytes;    /* written so far */
    bool keep;        /* set after opening: other bytes that stand at PATH go to old/ beside it */
    uint8_t *buffer;  /* private, write coalescing */
    int64_t buffered; /* private */
} rt_out;

int rt_out_open(rt_out *out, const char *path, rt_err *err);
/* Only counts: nothing is kept, and there is nothing to commit. */
int rt_out_open_count(rt_out *out, rt_err *err);
int rt_out_write(rt_out *out, const void *data, int64_t bytes, rt_err *err);
int rt_out_printf(rt_out *out, rt_err *err, const char *fmt, ...) RT_PRINTF(3, 4);
/* Bytes already written are replaced, or read back into data. */
int rt_out_patch(rt_out *out, int64_t at, const void *data, int64_t bytes, rt_err *err);
int rt_out_read(rt_out *out, int64_t at, void *data, int64_t bytes, rt_err *err);
/* fsync, rename, fsync directory; closes in all cases. */
int rt_out_commit(rt_out *out, rt_err *err);
void rt_out_abort(rt_out *out); /* removes the temp; accepts a zeroed or committed out */

int rt_file_write(const char *path, const void *data, int64_t bytes, rt_err *err); /* atomic */

/* Full write/read loops over EINTR and short counts. */
int rt_fd_write(int fd, const void *data, int64_t bytes, const char *path, rt_err *err);

/* Also when it cannot be told (a failing disk, no permission): opening it then says why, and nothing
   that may be there is taken for absent. */
bool rt_path_exists(const char *path);
bool rt_path_is_dir(const char *path);
int rt_path_size(const char *path, int64_t *bytes, rt_err *err);
/* dir + "/" + name into a string of its own. */
char *rt_path_join(const char *dir, const char *name);
const char *rt_path_base(const char *path);     /* after the last '/' */
int rt_dir_make(const char *path, rt_err *err); /* mkdir -p */
int rt_dir_sync(const char *path, rt_err *err); /* fsync of a directory */
/* Names in a directory, sorted by bytes, without "." and ".."; free each and the list. */
int rt_dir_list(char ***names, int *n, const char *path, rt_err *err);
void rt_names_free(char **names, int n);
/* Remove PATH.tmp.* left over by killed writers, in one directory. Opening an output removes its own. */
int rt_dir_clean_temps(const char *path, rt_err *err);

/* One writer a directory: DIR/lock is held until close(*fd) or the end of the process. */
int rt_dir_lock(int *fd, const char *dir, rt_err *err);
bool rt_dir_locked(const char *dir); /* somebody holds it now */

int rt_hash_file(rt_hash *hash, const char *path, rt_err *err);

RT_END

#endif
