/* replay.c: main of a target built without libFuzzer: runs every file of the directories named, so
   that the tests hold what fuzzing once found. */
#include "fuzz.h"

#include <stdio.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max)
{
    (void)data;
    return size < max ? size : max;
}

static int run_dir(const char *dir, int *ran)
{
    rt_err err;
    char **name;
    int n, bad = 0;
    if (rt_dir_list(&name, &n, dir, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    for (int i = 0; i < n; i++) {
        char *path = rt_path_join(dir, name[i]), *data;
        int64_t bytes;
        if (rt_file_read(&data, &bytes, path, 1 << 20, &err)) {
            fprintf(stderr, "%s\n", err.text);
            bad++;
        } else {
            uint8_t *input = malloc((size_t)bytes); // without the NUL that file_read puts behind
            memcpy(input, data, (size_t)bytes);
            fprintf(stderr, "%s\n", path); // the last one is the one that crashed
            LLVMFuzzerTestOneInput(input, (size_t)bytes);
            (*ran)++;
            free(input);
            free(data);
        }
        free(path);
    }
    rt_names_free(name, n);
    return bad;
}

int main(int argc, char **argv)
{
    int bad = 0, ran = 0;
    for (int i = 1; i < argc; i++)
        if (rt_path_is_dir(argv[i]))
            bad += run_dir(argv[i], &ran);
    printf("%d inputs, %d of them bad\n", ran, bad);
    return bad || !ran;
}
