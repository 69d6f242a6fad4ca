/* report.h: the end of a run: one table for people and report.json for programs, gathered from what
   the stages left. It computes nothing: every number was measured by a stage. */
#ifndef RT_REPORT_H
#define RT_REPORT_H

#include "core/json.h"

RT_BEGIN

/* report: the recipe's section. Writes FOLDER/report.json, prints the table (or the JSON) to
 * stdout. */
int rt_report(const cJSON *report, const char *folder, const char *stages, bool json, rt_err *err);

RT_END

#endif
