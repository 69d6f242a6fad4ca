/* listing.h: retort.json of a directory that retort wrote: what made it, and its files with their
   checksums:

     {"xxh3": OWN, ..., "files": {NAME: {"bytes": N, "xxh3": H}, NAME.safetensors: {"bytes": N,
      "header": H}}}

   OWN is the XXH3-128 of the text of retort.json with these 32 digits as zeros; the header of a
   safetensors file holds the checksums of its tensors (safetensors.h). A run that has only begun
   says "unfinished": true in place of "files". It is written last: what it lists is whole.
   Refuses: files that nobody listed, and directories without retort.json or with one of an older
   retort: nothing is known of them. */
#ifndef RT_LISTING_H
#define RT_LISTING_H

#include "core/base/json.h"

RT_BEGIN

/* about: what made the directory (taken). unfinished: nothing is listed. Else every file of a model
   that stands in dir is: weights, descriptions, tokenizer, template, card. */
int rt_listing_write(const char *dir, cJSON *about, bool unfinished, rt_err *err);

typedef struct rt_listing {
    cJSON *json; /* NULL: no retort.json, or an older one: nothing is known */
    bool unfinished;
} rt_listing;

/* An error when retort.json is not as it was written. cJSON_Delete(l->json). */
int rt_listing_read(rt_listing *l, const char *dir, rt_err *err);
/* The same where nothing depends on it: what is known of path, or NULL (also of a file, of NULL and of
   a damaged listing). cJSON_Delete it. */
cJSON *rt_listing_known(const char *path);

/* When a directory is opened: the small files that are listed are those that were written. Files of
   weights check themselves. */
int rt_listing_check(const char *dir, rt_err *err);

/* One call a file that is not as it was written; text says what is wrong and begins with its
   path. */
typedef void rt_listing_report(void *ctx, const char *text);
/* Every listed file, but of weights only size and header. The number of findings. */
int64_t rt_listing_verify(const rt_listing *l, const char *dir, rt_listing_report *report,
                          void *ctx);
/* A small file that rt_listing_write lists when it stands there. */
bool rt_listing_may(const char *name);

RT_END

#endif
