/* calibrate.h: what a model's matrices multiply when it reads calibration texts, layer by layer in
   bounded memory: the weights of one layer are read, the texts go through it, and the inputs of each
   matrix are summed (curvature.h). The caller then changes the layer's weights to what will be
   shipped; the texts go through it again, so that the next layer sees what it will see then. Texts
   are an archive's or a corpus's, as the model's own chat writes them, special tokens included.
   Refuses: encoding, writing. Routed experts and the embedding have no sums. */
#ifndef RT_CALIBRATE_H
#define RT_CALIBRATE_H

#include "core/network/stored.h"
#include "core/network/weights.h"
#include "corpora/corpus.h"
#include "quant/curvature.h"

RT_BEGIN

typedef struct rt_calibration_options {
    const rt_config *cfg;
    rt_store *store; /* of the model; stays open */
    const rt_chat *chat;
    const char *const *data; /* paths */
    int n_data;
    int64_t tokens;  /* taken at most, of documents in the order of seed */
    int64_t longest; /* of a document; what lies beyond is not read */
    uint64_t seed;
    int threads;
} rt_calibration_options;

typedef struct rt_calibration rt_calibration;

/* Texts, device and memory. */
int rt_calibration_open(rt_calibration **c, const rt_calibration_options *o, rt_err *err);
void rt_calibration_close(rt_calibration *c); /* accepts NULL */
/* What open will hold: of texts in flight and of a layer with all its sums; for `tokens`. */
int64_t rt_calibration_bytes(const rt_config *cfg, int64_t tokens);
int64_t rt_calibration_tokens(const rt_calibration *c);
int64_t rt_calibration_documents(const rt_calibration *c);
rt_dev *rt_calibration_device(const rt_calibration *c);
const rt_params *rt_calibration_list(const rt_calibration *c); /* the registry */

/* Layers ascend from 0: its weights are there, and its sums; the layer before is left, with the
   weights that are in it now. layer == layers: of the head. */
int rt_calibration_enter(rt_calibration *c, int64_t layer, rt_err *err);
/* Of the layer entered: the f32 weight i of the registry (O,I), to be changed; and the sums of its
   inputs, which it may share with others; NULL: it has none. Layer L: of the head alone, whose
   weight is NULL. */
float *rt_calibration_weight(rt_calibration *c, int i);
rt_curvature *rt_calibration_curvature(rt_calibration *c, int i);

RT_END

#endif
