/* finite.h: why logits are not finite. Commands notice where they look anyway (a sample of -1, a
   captured entropy, a loss); only then are weights searched, so that a good model pays nothing.
   Owns the one line that names the weight, or the layer where finite weights overflow.
   Refuses: repairing. */
#ifndef RT_FINITE_H
#define RT_FINITE_H

#include "core/network/model.h"

RT_BEGIN

/* -1 when a weight is NaN or infinite, and err names the first. Of a frozen model the checkpoint is
   read again, of any other the weights as they are on the device. */
int rt_finite_weights(rt_dev *d, const rt_model *m, rt_err *err);
/* After a pass over a's rows gave logits that are not finite: always -1, err says why. */
int rt_finite_fail(rt_dev *d, const rt_model *m, rt_acts *a, rt_err *err);

RT_END

#endif
