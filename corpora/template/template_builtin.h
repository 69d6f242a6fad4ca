/* template_builtin.h: how the rows of rt_builtin are written. */
#ifndef RT_TEMPLATE_BUILTIN_H
#define RT_TEMPLATE_BUILTIN_H

#include "corpora/template/template_impl.h"

#define SPARE __attribute__((unused)) /* not every row needs every argument */
#define BUILTIN(name)                                                                              \
    static rt_val name(rt_tpl *m SPARE, rt_val self SPARE, const rt_val a[4] SPARE,                \
                       const rt_args *raw SPARE)

#endif
