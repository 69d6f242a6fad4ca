/* rope.c: rotary angles of a description (config.h): plain, linear, Llama 3's and YaRN's
   frequencies, and what YaRN does to the scale of attention. */
#include <math.h>

#include "core/network/config.h"

/* YaRN's magnitude correction, section 3.4 of arXiv 2309.00071. */
static double yarn_gain(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

float rt_config_softmax_scale(const rt_config *cfg)
{
    double scale = 1 / sqrt((double)rt_config_dk(cfg));
    if (cfg->family->attn == RT_ATTN_MLA && cfg->rope_scaling == RT_ROPE_YARN &&
        cfg->yarn_mscale_all !=
            0) { /* mscale_all_dim, not mscale, and squared: q and k both carry it */
        double gain = yarn_gain(cfg->rope_factor, cfg->yarn_mscale_all);
        scale *= gain * gain;
    }
    return (float)scale;
}

/* Where YaRN's ramp begins and ends: the dimension that makes `turns` rotations in the original
   context, eq. (23). */
static double yarn_dimension(const rt_config *cfg, double turns)
{
    double width = (double)rt_config_rope_dim(cfg);
    return width * log(cfg->rope_original / (turns * 2 * M_PI)) / (2 * log(cfg->rope_theta));
}

double rt_config_rope_divisor(const rt_config *cfg, int64_t i)
{
    double wavelength = 2 * M_PI *
                        pow(cfg->rope_theta, 2 * (double)i / (double)rt_config_rope_dim(cfg));
    double turns = cfg->rope_original / wavelength;
    double blend = (turns - cfg->rope_low) / (cfg->rope_high - cfg->rope_low);
    return turns > cfg->rope_high  ? 1
           : turns < cfg->rope_low ? cfg->rope_factor
                                   : 1 / ((1 - blend) / cfg->rope_factor + blend);
}

static double inverse_frequency(const rt_config *cfg, int64_t i)
{
    int64_t half = rt_config_rope_dim(cfg) / 2;
    double f = pow(cfg->rope_theta, -(double)i / (double)half);
    if (cfg->rope_scaling == RT_ROPE_LINEAR)
        return f / cfg->rope_factor;
    if (cfg->rope_scaling == RT_ROPE_LLAMA3)
        return f / rt_config_rope_divisor(cfg, i);
    if (cfg->rope_scaling == RT_ROPE_YARN) {
        double low = yarn_dimension(cfg, cfg->yarn_fast),
               high = yarn_dimension(cfg, cfg->yarn_slow);
        low = fmax(cfg->yarn_truncate ? floor(low) : low, 0);
        high = fmin(cfg->yarn_truncate ? ceil(high) : high, (double)(2 * half - 1));
        double ramp = ((double)i - low) / fmax(high - low, 0.001);
        ramp = fmin(fmax(ramp, 0), 1);
        return f / cfg->rope_factor * ramp + f * (1 - ramp);
    }
    return f;
}

void rt_config_rope_table(const rt_config *cfg, float *table, int64_t positions)
{
    int64_t half = rt_config_rope_dim(cfg) / 2;
    double gain = 1;
    if (cfg->rope_scaling == RT_ROPE_YARN) {
        gain = yarn_gain(cfg->rope_factor, 1);
        if (cfg->yarn_mscale != 0 && cfg->yarn_mscale_all != 0)
            gain = yarn_gain(cfg->rope_factor, cfg->yarn_mscale) /
                   yarn_gain(cfg->rope_factor, cfg->yarn_mscale_all);
        if (cfg->yarn_attention != 0)
            gain = cfg->yarn_attention;
    }
    for (int64_t i = 0; i < half; i++) {
        double f = inverse_frequency(cfg, i);
        for (int64_t t = 0; t < positions; t++) {
            table[t * 2 * half + i] = (float)(gain * cos((double)t * f));
            table[t * 2 * half + half + i] = (float)(gain * sin((double)t * f));
        }
    }
}
