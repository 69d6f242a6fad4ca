/* report.h: the end of a run: one table and a page (page.h) for people and report.json for programs,
   gathered from what the stages left. It computes nothing: every number was measured by a stage. */
#ifndef RT_REPORT_H
#define RT_REPORT_H

#include "distill/recipe.h"

RT_BEGIN

/* Every name in the recipe's section "report" is a stage that leaves what is asked of it. */
int rt_report_check(const rt_recipe *r, rt_err *err);

/* Writes FOLDER/report.json and report.html, prints the table (or the JSON) to stdout. seconds (n): of each stage.
 */
int rt_report(const rt_recipe *r, const double *seconds, bool json, rt_err *err);

RT_END

#endif
