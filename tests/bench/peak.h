/* peak.h: what the machine can do at most, measured: fused multiply-adds from registers, and
 * memory. */
#ifndef RT_BENCH_PEAK_H
#define RT_BENCH_PEAK_H

#include <stdint.h>

/* Multiply-add operations (2 each) of one short burst with the vectors of `isa`; time it yourself.
 */
int64_t rt_peak_burst(const char *isa);

double rt_thread_seconds(void);  /* processor time of the calling thread */
double rt_process_seconds(void); /* of all threads */

#endif
