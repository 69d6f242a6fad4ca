/* peak.h: what the machine can do at most, measured: fused multiply-adds from registers, and
 * memory. */
#ifndef RT_BENCH_PEAK_H
#define RT_BENCH_PEAK_H

/* Multiplications and additions a second of `threads` threads together, bursts going on for `seconds`,
   with the vectors of `isa`. */
double rt_peak_rate(const char *isa, int threads, double seconds);

double rt_median(double *v, int n); /* sorts v */

#endif
