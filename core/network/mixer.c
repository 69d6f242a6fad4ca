#include "core/network/mixer.h"

const rt_mixer *rt_mixer_of(const rt_config *c, int64_t layer)
{
    (void)layer; /* every layer of today's families has the same */
    return c->family->attn == RT_ATTN_MLA ? &rt_mixer_mla : &rt_mixer_gqa;
}

rt_attention_rule rt_mixer_rule(const rt_config *c, const rt_mixer_w *w, const rt_pass *pass)
{
    return (rt_attention_rule){ rt_config_softmax_scale(c), pass->window,
                                w->sinks.data ? &w->sinks : NULL };
}

void rt_mixer_plan_attention(const rt_plan *p, const rt_config *c, rt_mixer_saved *s)
{
    rt_plan_rows(p, &s->out, "attention.out", p->act, 1, c->heads, rt_config_dv(c));
    if (p->mode != RT_PLAN_DECODE)
        rt_plan_rows(p, &s->lse, "attention.lse", RT_F32, 1, c->heads, 0);
}

void rt_mixer_attention_backward(rt_dev *d, const rt_config *c, const rt_mixer_w *w,
                                 rt_mixer_w *dw, rt_mixer_saved *s, rt_mixer_saved *ds,
                                 const rt_tensor *dy, const rt_pass *pass)
{
    rt_attention_rule rule = rt_mixer_rule(c, w, pass);
    rt_linear_backward(d, &w->o, &dw->o, &ds->out, dy, &s->out, NULL, 0.0f);
    rt_attention_backward(d, &ds->q, &ds->k, &ds->v, &ds->out, &s->out, &s->lse, &s->q, &s->k,
                          &s->v, pass->rows, &rule);
    if (rule.sinks && dw->sinks.rank)
        rt_sinks_backward(d, &dw->sinks, &ds->out, &s->out, &s->lse, rule.sinks);
}
