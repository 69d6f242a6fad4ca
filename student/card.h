/* card.h: what a written model says about itself: retort.json (the settings that made it, for
   programs) and README.md (the same for people; Hugging Face shows it as the model card).
   No clock and no machine in either: the same run writes the same bytes. */
#ifndef RT_CARD_H
#define RT_CARD_H

#include "core/network/config.h"

RT_BEGIN

typedef struct rt_card {
    const rt_config *cfg;
    int64_t parameters;
    const char *command;  /* that made it: "train" */
    const cJSON *options; /* effective values; paths of outputs removed */
    int64_t steps, tokens;
    const char *identity; /* of the work (core/formats/output.h) */
    const char *base, *licence; /* NULL = not stated */
} rt_card;

int rt_card_write(const char *dir, const rt_card *card, rt_err *err); /* README.md */
/* retort.json, with the checksums of what stands in dir: the last file of a model. */
int rt_card_list(const char *dir, const rt_card *card, rt_err *err);

RT_END

#endif
