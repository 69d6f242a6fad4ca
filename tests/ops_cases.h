/* ops_cases.h: the operations of ops.h as rows of data for tests/test_ops.c. Odd sizes on
   purpose; the larger row of a kind is split over threads. */
#ifndef OPS_CASES_H
#define OPS_CASES_H

#include "tests/ops_kinds.h"
#include "tests/ops_loss.h"

#define CASE(kind, tolerance, ...)                                                                 \
    {                                                                                              \
#kind " " #__VA_ARGS__, &kind_##kind, { __VA_ARGS__ }, tolerance, { .ce = 0 }, 0.0         \
    }
#define LOSS(title, tolerance, sharpness, m, v, width, head, drawn, blind, ...)                    \
    {                                                                                              \
        "loss " title, &kind_loss, { m, v, width, head, drawn, blind }, tolerance,                 \
            { __VA_ARGS__ }, sharpness                                                             \
    }

static const struct ops_case ops_cases[] = {
    CASE(rmsnorm, 2e-7, 5, 7, 7, 0),
    CASE(rmsnorm, 2e-7, 3, 33, 40, 1),
    CASE(rmsnorm, 2e-7, 700, 131, 140, 1),
    CASE(rope, 2e-7, 5, 3, 10, 4, 6, 0, 11),
    CASE(rope, 2e-7, 5, 3, 10, 0, 10, 1, 11),
    CASE(rope, 2e-7, 600, 2, 70, 6, 64, 1, 13),
    CASE(rope, 2e-7, 600, 2, 70, 6, 64, 0, 13),
    CASE(mla, 2e-7, 5, 3, 7, 5, 11, 6),
    CASE(mla, 3e-7, 300, 7, 16, 11, 24, 16),
    CASE(columns, 2e-7, 5, 3, 11, 4, 3, 2, 7),
    CASE(columns, 2e-7, 5, 3, 11, 4, 1, 2, 7),
    CASE(columns, 2e-7, 900, 5, 11, 0, 1, 0, 9),
    CASE(gather, 2e-7, 13, 5, 7),
    CASE(gather, 3e-7, 901, 131, 77),
    CASE(swiglu, 3e-7, 5, 7, 0),
    CASE(swiglu, 3e-7, 5, 7, 1),
    CASE(swiglu, 3e-7, 301, 131, 1),
    CASE(swiglu, 3e-7, 5, 7, 0, 1),
    CASE(swiglu, 3e-7, 301, 131, 1, 1),
    CASE(bias, 2e-7, 13, 7, 0),
    CASE(bias, 2e-7, 13, 7, 5),
    CASE(bias, 2e-7, 901, 131, 0),
    CASE(bias, 2e-7, 901, 131, 7),
    CASE(combine, 3e-7, 5, 3, 7),
    CASE(combine, 3e-7, 300, 4, 131),
    CASE(unpermute, 3e-7, 5, 3, 7),
    CASE(unpermute, 3e-7, 300, 4, 131),
    CASE(unpermute, 3e-7, 3, 256, 17),
    CASE(scale, 2e-7, 13),
    CASE(scale, 2e-7, 9001),
    CASE(route, 5e-7, 13, 11, 3, 1, 1, 0, 0),
    CASE(route, 5e-7, 13, 11, 3, 1, 1, 0, 1),
    CASE(route, 5e-7, 13, 11, 3, 1, 1, 1, 0),
    CASE(route, 5e-7, 13, 12, 3, 4, 2, 1, 1),
    CASE(route, 5e-7, 13, 12, 3, 4, 3, 0, 1),
    CASE(route, 5e-7, 13, 5, 2, 5, 3, 1, 1),
    CASE(route, 5e-7, 700, 64, 8, 8, 4, 1, 1),
    CASE(adamw, 5e-7, 77),
    CASE(adamw, 5e-7, 40013),
    { "kl", &kind_kl, { 7, 77, 80 }, 1e-6, { .ce = 0 }, 5.0 },
    { "kl", &kind_kl, { 301, 131, 131 }, 1e-6, { .ce = 0 }, 15.0 },
    LOSS("ce", 2e-6, 4.0, 5, 13, 16, 4, 3, 0, .ce = 1, .temperature = 1),
    LOSS("drawn", 2e-6, 4.0, 5, 13, 13, 4, 3, 0, .drawn = 1, .temperature = 1,
         .tail_spacing = 0.02f),
    LOSS("bucket", 2e-6, 4.0, 5, 13, 13, 4, 3, 0, .bucket = 1, .temperature = 1,
         .tail_spacing = 0.02f),
    LOSS("renorm", 2e-6, 4.0, 5, 13, 13, 4, 3, 0, .renorm = 1, .temperature = 1,
         .tail_spacing = 0.02f),
    LOSS("reverse", 2e-6, 4.0, 5, 13, 13, 4, 0, 0, .reverse = 1, .temperature = 1),
    LOSS("jsd", 2e-6, 4.0, 5, 13, 13, 4, 0, 0, .jsd = 1, .jsd_beta = 0.3f, .temperature = 1),
    LOSS("jsd of 0", 2e-6, 4.0, 5, 13, 13, 4, 0, 0, .ce = 1, .jsd = 1, .temperature = 1),
    LOSS("jsd of 1", 2e-6, 4.0, 5, 13, 13, 4, 0, 0, .ce = 1, .jsd = 1, .jsd_beta = 1,
         .temperature = 1),
    LOSS("skew", 2e-6, 4.0, 5, 13, 13, 4, 0, 0, .skew = 1, .skew_alpha = 0.1f, .temperature = 1),
    LOSS("skew reverse", 2e-6, 4.0, 5, 13, 13, 4, 0, 0, .skew_reverse = 1, .skew_alpha = 0.1f,
         .temperature = 1),
    LOSS("skew of 0", 2e-6, 4.0, 5, 13, 13, 4, 0, 0, .skew = 1, .skew_reverse = 1, .temperature = 1),
    LOSS("tvd", 2e-6, 4.0, 5, 13, 13, 4, 0, 0, .tvd = 1, .temperature = 1),
    LOSS("skew and hot", 4e-6, 6.0, 5, 31, 32, 7, 0, 0, .ce = 0.3f, .bucket = 0.5f, .skew = 0.4f,
         .skew_reverse = 0.6f, .skew_alpha = 0.3f, .tvd = 0.2f, .temperature = 2),
    LOSS("wide skew", 2e-6, 6.0, 300, 118, 121, 40, 30, 0, .drawn = 0.4f, .skew = 0.5f,
         .skew_reverse = 0.7f, .skew_alpha = 0.2f, .tvd = 0.6f, .temperature = 1,
         .tail_spacing = 0.01f),
    LOSS("all", 2e-6, 4.0, 5, 31, 32, 7, 9, 0, .ce = 0.3f, .drawn = 0.4f, .bucket = 0.5f,
         .renorm = 0.6f, .reverse = 0.7f, .jsd = 0.8f, .jsd_beta = 0.6f, .temperature = 1,
         .tail_spacing = 0.01f),
    LOSS("hot", 4e-6, 6.0, 5, 31, 32, 7, 9, 0, .ce = 0.3f, .bucket = 0.5f, .renorm = 0.6f,
         .reverse = 0.7f, .jsd = 0.8f, .jsd_beta = 0.6f, .temperature = 2, .tail_spacing = 0.01f),
    LOSS("cold", 2e-6, 3.0, 5, 31, 32, 7, 9, 0, .ce = 0.3f, .bucket = 0.5f, .temperature = 0.7f),
    LOSS("hot without ce", 4e-6, 3.0, 5, 31, 32, 7, 0, 0, .bucket = 0.5f, .temperature = 3),
    LOSS("head of 1", 2e-6, 4.0, 5, 31, 31, 1, 0, 0, .bucket = 1, .reverse = 0.5f,
         .temperature = 1),
    LOSS("head = V", 2e-6, 4.0, 5, 31, 33, 31, 0, 0, .ce = 0.3f, .drawn = 1, .bucket = 1,
         .reverse = 1, .jsd = 1, .jsd_beta = 0.5f, .temperature = 1),
    LOSS("light tail", 2e-6, 30.0, 5, 31, 31, 17, 0, 0, .bucket = 1, .reverse = 1, .jsd = 1,
         .jsd_beta = 0.5f, .temperature = 1),
    LOSS("no gradient", 2e-6, 4.0, 5, 31, 32, 7, 9, 1, .ce = 0.3f, .bucket = 0.5f, .jsd = 0.8f,
         .jsd_beta = 0.6f, .temperature = 2, .tail_spacing = 0.01f),
    LOSS("wide", 2e-6, 6.0, 300, 118, 121, 40, 30, 0, .ce = 0.3f, .drawn = 0.4f, .bucket = 0.5f,
         .renorm = 0.6f, .reverse = 0.7f, .jsd = 0.8f, .jsd_beta = 0.6f, .temperature = 1,
         .tail_spacing = 0.01f),
    LOSS("wide and hot", 4e-6, 6.0, 300, 118, 121, 40, 0, 0, .ce = 0.3f, .bucket = 0.5f,
         .jsd = 0.8f, .jsd_beta = 0.6f, .temperature = 1.5f),
    /* a case's numbers follow from where it stands */
    CASE(rmsnorm, 5e-7, 17001, 3, 3, 0),
    CASE(gather, 3e-7, 301, 5, 3),
    CASE(bias, 2e-7, 300, 5, 41),
    LOSS("of every term", 2e-6, 4.0, 7, 31, 32, 7, 9, 0, .ce = 0.3f, .drawn = 0.4f, .bucket = 0.5f,
         .renorm = 0.6f, .reverse = 0.7f, .jsd = 0.8f, .jsd_beta = 0.6f, .skew = 0.9f,
         .skew_reverse = 1.1f, .skew_alpha = 0.2f, .tvd = 1.2f, .temperature = 1,
         .tail_spacing = 0.01f),
    LOSS("of every term, warm", 4e-6, 6.0, 7, 31, 32, 7, 0, 0, .ce = 0.3f, .bucket = 0.5f,
         .renorm = 0.6f, .reverse = 0.7f, .jsd = 0.8f, .jsd_beta = 0.6f, .skew = 0.9f,
         .skew_reverse = 1.1f, .skew_alpha = 0.2f, .tvd = 1.2f, .temperature = 1.5f),
};

#endif
