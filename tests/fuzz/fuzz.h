/* fuzz.h: what the fuzz targets share. A target is one file with fuzz_one, and with
   LLVMFuzzerCustomMutator where bytes changed at random would die at the format's door. Built
   twice: by clang with libFuzzer (tests/fuzz/run.sh), and by any compiler with replay.c in its
   place, so that the tests run every seed and every input that once was a finding. The readers take
   paths. In both builds the linker puts files.c between them and file.c: a path below FUZZ_DIR
   is a buffer in memory, exactly as long as the file, so that no system call is made and a read
   beyond the end is seen. Refuses: checking what a reader says; that is the work of the tests. */
#ifndef RT_FUZZ_H
#define RT_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "corpora/text.h"

#define FUZZ_DIR "fuzz"

int fuzz_one(const uint8_t *data, size_t size); /* the target */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

/* FUZZ_DIR/name holds these bytes until the next call for it; NULL removes it. Not copied. */
void fuzz_file(const char *name, const void *data, size_t bytes);
/* Input with a line of "====": two files; the second is absent without it. */
void fuzz_two_files(const char *first, const char *second, const uint8_t *data, size_t size);
/* The same bytes in a file of the kernel's, for readers of descriptors; its path. */
const char *fuzz_kernel_file(const void *data, size_t bytes);

/* A finding: ends the process. */
#define FUZZ_CHECK(what)                                                                           \
    do {                                                                                           \
        if (!(what))                                                                               \
            rt_bug("%s:%d: %s", __FILE__, __LINE__, #what);                                        \
    } while (0)

/* ---- mutators ---- */

typedef struct fuzz_dice {
    uint64_t state;
} fuzz_dice;
uint32_t fuzz_roll(fuzz_dice *d, uint64_t n); /* 0 .. n-1; 0 when n is 0 */

/* One of words, which stand one a line; valid until the next call. */
const char *fuzz_word(fuzz_dice *d, const char *words);

/* Changes one node of the tree: removes, copies, renames, retypes, or writes another value. */
void fuzz_json_change(cJSON *root, fuzz_dice *d, const char *words);
/* A whole mutator for files that are one JSON value. */
size_t fuzz_json_mutate(uint8_t *data, size_t size, size_t max, unsigned seed, const char *words);
/* libFuzzer's own mutation of a growing buffer. */
void fuzz_text_change(rt_text *text, size_t room);
/* text as the mutator's result, or libFuzzer's own mutation of data when it does not fit. Frees
   text. */
size_t fuzz_result(rt_text *text, uint8_t *data, size_t size, size_t max);
void fuzz_add(rt_text *text, const void *data, size_t bytes);
void fuzz_add_le(rt_text *text, uint64_t value, int bytes);

#endif
