/* results.h: what `retort eval` measures, as one list: the key of its JSON, the words of its table, how
   the number is written, and the column of `retort run`'s table of models. The JSON, the text of eval
   and of a run, and the page of a run follow from it. Refuses: measuring. */
#ifndef RT_RESULTS_H
#define RT_RESULTS_H

#include "core/base/json.h"

RT_BEGIN

/* What a number counts, where it is written for people to read at a glance. */
typedef enum rt_result_size { RT_RESULT_PLAIN, RT_RESULT_COUNT, RT_RESULT_BYTES } rt_result_size;

typedef struct rt_result {
    const char *key, *label;
    const char *format; /* of one double, times scale */
    double scale;
    const char *column; /* heading in the table of models; NULL = not in it */
    bool page;          /* on the page alone: a line of text has no room for it */
    rt_result_size size;
} rt_result;

extern const rt_result rt_result_list[];
int rt_result_count(void);

/* The number of row r in json as text; false when it has none. */
bool rt_result_text(char *text, size_t size, const rt_result *r, const cJSON *json);
/* All of json that is in the list, one a line, on stdout. */
void rt_results_print(const cJSON *json);

RT_END

#endif
