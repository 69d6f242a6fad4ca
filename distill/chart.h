/* chart.h: drawings of numbers as inline SVG, in the colours of the page's style (page_style.h): lines
   over steps, and a reliability diagram. Refuses: where numbers come from; a drawing without any. */
#ifndef RT_CHART_H
#define RT_CHART_H

#include <stdio.h>

#include "core/base/base.h"

RT_BEGIN

enum { RT_CHART_COLOURS = 8 }; /* c0 .. c7 of the style */

/* A line of n points; x ascends. A point that is not finite is left out. */
typedef struct rt_series {
    const char *name; /* "" = not in the legend */
    int colour;
    bool faint;             /* thin and without points: what stands behind */
    const double *x, *y;    /* (n) */
    int64_t n;
} rt_series;

/* Whether any of them has a point. */
bool rt_chart_any(const rt_series *s, int n);
/* Every series in one drawing, long ones as means of neighbours. unit: what x counts. percent: y is a
   share. */
void rt_chart_lines(FILE *f, const char *title, const char *unit, bool percent, const rt_series *s,
                    int n);
/* Confidence x against accuracy y, each 0 to 1, and the diagonal of the honest. weight[k] (s[k].n): of
   points, for their size. */
void rt_chart_reliability(FILE *f, const rt_series *s, const double *const *weight, int n);

RT_END

#endif
