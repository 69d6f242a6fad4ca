#include "distill/idle.h"

#include <string.h>

/* What rows of the table need. */
typedef bool has(const rt_train_options *o, const rt_loss_plan *loss);
#define HAS(what, value)                                                                           \
    static bool what(const rt_train_options *o, const rt_loss_plan *loss)                          \
    {                                                                                              \
        (void)o, (void)loss;                                                                       \
        return value;                                                                              \
    }
HAS(soft, rt_loss_plan_soft(loss))
HAS(jsd, RT_LOSS_HAS(loss, jsd))
HAS(skew, RT_LOSS_HAS(loss, skew) || RT_LOSS_HAS(loss, skew_reverse))
HAS(reference, RT_LOSS_HAS(loss, reference))
HAS(targets, rt_loss_plan_soft(loss) || o->entropy_share < 1)
HAS(share, o->entropy_share < 1)
HAS(adapters, o->lora.rank > 0)
HAS(muon, !strcmp(o->learn.optimizer, "muon"))
HAS(wsd, !strcmp(o->schedule, "wsd"))
HAS(falling, strcmp(o->schedule, "constant") != 0)
HAS(teacher, o->rollout.teacher != NULL)
HAS(crossing, o->teachers.n > 0)
HAS(measured, o->eval_data.n > 0 || o->exam.problems.n > 0)
HAS(problems, o->exam.problems.n > 0)
#undef HAS

static const struct row {
    const char *option;
    has *there;
    const char *needs; /* to be given too */
} rows[] = {
    { "hard-weight", soft, "a loss from soft targets beside it (--loss forward)" },
    { "temperature", soft, "a loss from soft targets (--loss bucket)" },
    { "jsd-beta", jsd, "jsd in --loss" },
    { "skew-alpha", skew, "skew or skew-reverse in --loss" },
    { "reference", reference, "reference in --loss (forward:1,reference:0.05)" },
    { "entropy-rest", share, "--entropy-share" },
    { "mix-teachers", targets, "a loss from soft targets (--loss forward)" },
    { "unmatched", crossing, "--teacher-tokenizer" },
    { "lora-alpha", adapters, "--lora-rank" },
    { "lora-targets", adapters, "--lora-rank" },
    { "lora-stabilized", adapters, "--lora-rank" },
    { "momentum", muon, "--optimizer muon" },
    { "cooldown", wsd, "--schedule wsd" },
    { "min-rate", falling, "a --schedule that falls" },
    { "verify", teacher, "--teacher" },
    { "rounds", teacher, "--teacher" },
    { "rollouts", teacher, "--teacher" },
    { "rollout-tokens", teacher, "--teacher" },
    { "rollout-temperature", teacher, "--teacher" },
    { "rollout-batch", teacher, "--teacher" },
    { "head-max", teacher, "--teacher" },
    { "student-top", teacher, "--teacher" },
    { "head-floor", teacher, "--teacher" },
    { "tail-spacing", teacher, "--teacher" },
    { "eval-every", measured, "--eval-data or --eval-problems" },
    { "eval-limit", measured, "--eval-data or --eval-problems" },
    { "eval-samples", problems, "--eval-problems" },
    { "eval-temperature", problems, "--eval-problems" },
    { "eval-max-tokens", problems, "--eval-problems" },
    { "eval-batch", problems, "--eval-problems" },
};

extern const rt_command rt_command_train;

int rt_idle_check(const rt_train_options *o, const rt_loss_plan *loss, rt_err *err)
{
    for (int i = 0; i < RT_COUNT(rows); i++) {
        const rt_option *option = rt_option_find(&rt_command_train, rows[i].option);
        if (!option)
            rt_bug("idle: no option is called %s", rows[i].option);
        if (!rows[i].there(o, loss) && !rt_option_is_default(option, o))
            return rt_usage(err, "--%s changes nothing alone: give %s too, or leave it out",
                            rows[i].option, rows[i].needs);
    }
    return 0;
}
