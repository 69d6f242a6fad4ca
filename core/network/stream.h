/* stream.h: the weights of a frozen model read from its checkpoint as a pass needs them, so that a
   model of any size runs in little memory: layer l + 1 is read while layer l computes, of routed
   experts only those that have rows, one after the other while the ones before are multiplied.
   Reads are direct (O_DIRECT, large pieces, several at once), or plain where a file system refuses
   that, and then the pages are given back. Held from the start are the head, or an embedding that
   is the head too; of any other only the rows of a pass are read (embedding.h). Where operations do
   not read the host's memory, what was read is copied to buffers of the device: a layer while the
   one before computes and the next is read. Owns the buffers, the reading threads and what they
   count; is the visitor of the model. Refuses: backward, and choosing how much memory to take. */
#ifndef RT_STREAM_H
#define RT_STREAM_H

#include "core/network/model.h"
#include "core/network/needs.h"

RT_BEGIN

typedef struct rt_stream rt_stream;

typedef struct rt_stream_sizes {
    int64_t layer, expert;   /* bytes of a buffer for a layer's own weights; for one expert */
    int64_t resident;        /* held from the start */
    int64_t layers, experts; /* bytes a pass: of all layers' own weights, of all their experts */
    int64_t a_layer;         /* experts of one layer; 0 = none is routed */
} rt_stream_sizes;

/* Which bytes of its checkpoint each layer of m takes; m is planned by rt_model_plan_streamed on d
   and stays where it is. NULL when there is no checkpoint yet. */
rt_stream *rt_stream_plan(rt_model *m, rt_dev *d);
void rt_stream_close(rt_stream *s); /* accepts NULL */
const rt_stream_sizes *rt_stream_size(const rt_stream *s);
/* How many experts have a buffer, from 2 on. With one for each of a layer they stay until it is
   left: of several batches only the first reads them. */
void rt_stream_slots(rt_stream *s, int64_t slots);
/* So many bytes more hold leading layers, own weights and experts, from the first pass that reads
   them on: of use where there are several passes. */
void rt_stream_hold(rt_stream *s, int64_t bytes);
double rt_stream_held(const rt_stream *s);   /* the share of a pass's bytes that these layers are */
int64_t rt_stream_bytes(const rt_stream *s); /* of memory, with these slots and layers */
void rt_stream_needs(const rt_stream *s, rt_needs *p);
/* Once the model is read: buffers, threads, and what is held. From here on m's weights are visited.
 */
int rt_stream_open(rt_stream *s, rt_err *err);

typedef struct rt_stream_counts {
    int64_t bytes,
        weights; /* read from disk since open; of them of weights, without what lies around */
    int64_t layers, experts, unread; /* layers and experts read; experts that no row went to */
    int64_t held;                    /* bytes read once by open */
    double read_s, wait_s; /* seconds with a read under way; seconds that a pass waited for one */
    double pass_s;         /* seconds from the first pass's begin to the last layer left */
    bool plain;            /* a file system refused direct reads */
} rt_stream_counts;
rt_stream_counts rt_stream_count(rt_stream *s);
/* Lets reads under way end and counts from 0 again, but for what is held. */
int rt_stream_reset(rt_stream *s, rt_err *err);

RT_END

#endif
