/* page.h: report.html, what a person sees of a run: one page that holds all it needs (no network, no
   script), written from what the stages left. What a run does not have is left out.
   Refuses: measuring anything, numbers that report.json and the stages' own files do not have. */
#ifndef RT_PAGE_H
#define RT_PAGE_H

#include "distill/recipe.h"

RT_BEGIN

/* One page. report: of report.json. results: {NAME: what its stage of eval left}, the rows of models. */
typedef struct rt_page {
    const rt_recipe *recipe;
    const cJSON *report, *results;
} rt_page;

/* FOLDER/report.html */
int rt_page_write(const rt_page *p, rt_err *err);

RT_END

#endif
