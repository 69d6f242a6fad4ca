/* test_idle.c: options of `retort train` that do nothing alone: each is refused where what it needs is
   not given, and taken with it, or at its default, which stored copies of options spell out. */
#include "distill/idle.h"
#include "tests/suite.h"

extern const rt_command rt_command_train;

/* The options read, and the table asked; 0 when nothing is idle. */
static int check(const char *words, rt_err *found)
{
    rt_err err = { .text = "" };
    char text[512] = "--out o ", *argv[40];
    int n = 0;
    bool help;
    rt_train_options o;
    rt_loss_plan loss;
    strncat(text, words, sizeof text - strlen(text) - 1);
    for (char *save = NULL, *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[n++] = w;
    *found = err;
    OK(rt_options_parse(&rt_command_train, &o, NULL, n, argv, &help, &err));
    rt_command_train.settle(&o);
    const rt_objective objective = { o.loss,        o.loss_first, o.loss_change, 0,
                                     o.temperature, o.jsd_beta,   o.skew_alpha,  false };
    OK(rt_objective_read(&loss, &objective, &err));
    int bad = rt_idle_check(&o, &loss, found);
    rt_options_free(&rt_command_train, &o);
    return bad;
}

/* alone: refused as it stands; too: with these words it is not. */
static const struct { const char *alone, *too; } rows[] = {
    { "--hard-weight 0.1 --loss hard", "--loss bucket" },
    { "--temperature 2 --loss hard", "--loss bucket" },
    { "--temperature 2 --loss hard", "--loss-first bucket" },
    { "--jsd-beta 0.3", "--loss forward,jsd:0.1" },
    { "--jsd-beta 0.3", "--loss-first jsd" },
    { "--skew-alpha 0.3 --loss jsd", "--loss skew" },
    { "--skew-alpha 0", "--loss skew-reverse" },
    { "--reference DIR", "--loss forward,reference:0.1" },
    { "--entropy-rest 0.5", "--entropy-share 0.2" },
    { "--mix-teachers --loss hard", "--loss forward" },
    { "--unmatched tail", "--teacher-tokenizer DIR" },
    { "--lora-alpha 16", "--lora-rank 4" },
    { "--lora-alpha 16", "--memory-mode lora4" },
    { "--lora-targets q_proj", "--lora-rank 4" },
    { "--lora-stabilized", "--lora-rank 4" },
    { "--momentum 0.9", "--optimizer muon" },
    { "--cooldown 0.3", "--schedule wsd" },
    { "--min-rate 0.2 --schedule constant", "--schedule linear" },
    { "--verify boxed", "--teacher DIR" },
    { "--rounds 2", "--teacher DIR" },
    { "--rollouts 2", "--teacher DIR" },
    { "--rollout-tokens 2", "--teacher DIR" },
    { "--rollout-temperature 2", "--teacher DIR" },
    { "--rollout-batch 2", "--teacher DIR" },
    { "--head-max 2", "--teacher DIR" },
    { "--student-top 2", "--teacher DIR" },
    { "--head-floor 0.5", "--teacher DIR" },
    { "--tail-spacing 0.5", "--teacher DIR" },
    { "--eval-every 2", "--eval-data F" },
    { "--eval-limit 2", "--eval-problems F" },
    { "--eval-samples 2", "--eval-problems F" },
    { "--eval-temperature 1", "--eval-problems F" },
    { "--eval-max-tokens 2", "--eval-problems F" },
    { "--eval-batch 2", "--eval-problems F" },
};

START_TEST(each)
{
    char words[256], name[64];
    rt_err err;
    snprintf(name, sizeof name, "%.*s changes nothing alone", (int)strcspn(rows[_i].alone, " "),
             rows[_i].alone);
    FAILS(check(rows[_i].alone, &err), name);
    ck_assert_int_eq(err.exit_code, 2);
    snprintf(words, sizeof words, "%s %s", rows[_i].alone, rows[_i].too);
    OK(check(words, &err));
}
END_TEST

START_TEST(defaults)
{
    rt_err err;
    char words[128];
    OK(check("", &err));
    for (int i = 0; i < rt_command_train.n_options; i++) {
        const rt_option *o = &rt_command_train.options[i];
        if (!o->def || !strcmp(o->name, "out"))
            continue;
        snprintf(words, sizeof words, "--%s=%s", o->name, o->def);
        OK(check(words, &err));
    }
    OK(check("--jsd-beta 0.50 --min-rate 1e-1", &err)); /* values, not spellings */
}
END_TEST

int main(void)
{
    const suite_test tests[] = { { each, RT_COUNT(rows) }, { defaults, 1 } };
    return suite_run("idle", NULL, tests, RT_COUNT(tests));
}
