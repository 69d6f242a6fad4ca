/* page_inside.h: the sections of the page of a run, private to distill/page*.c. Each writes itself, or
   nothing where the run has nothing of it. */
#ifndef RT_PAGE_INSIDE_H
#define RT_PAGE_INSIDE_H

#include <stdio.h>

#include "distill/page.h"

RT_BEGIN

void rt_page_curves(FILE *f, const rt_page *p);
void rt_page_examples(FILE *f, const rt_page *p);
void rt_page_stages(FILE *f, const rt_page *p);

/* The colour of a name, of a model or a stage: the same everywhere on the page. */
int rt_page_colour(const rt_page *p, const char *name);

RT_END

#endif
