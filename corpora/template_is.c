/* template_is.c: the tests of jinja2 ("x is defined"), one row each. */
#include "corpora/template_impl.h"

#include <string.h>

typedef bool test_fn(rt_tpl *m, rt_val v, const rt_val *a);
#define SPARE __attribute__((unused)) /* not every row needs every argument */
#define TEST(name) static bool name(rt_tpl *m SPARE, rt_val v SPARE, const rt_val *a SPARE)

TEST(is_defined) { return v.kind != V_UNDEF; }
TEST(is_undefined) { return v.kind == V_UNDEF; }
TEST(is_none) { return v.kind == V_NONE; }
TEST(is_boolean) { return v.kind == V_BOOL; }
TEST(is_true) { return v.kind == V_BOOL && v.u.i; }
TEST(is_false) { return v.kind == V_BOOL && !v.u.i; }
TEST(is_integer) { return v.kind == V_INT; }
TEST(is_float) { return v.kind == V_FLOAT; }
TEST(is_number)
{
    double f;
    return rt_val_number(v, &f);
}
TEST(is_string) { return v.kind == V_STR; }
TEST(is_mapping) { return v.kind == V_DICT; }
TEST(is_escaped) { return v.kind == V_STR && v.flag; }
TEST(is_in) { return rt_val_in(m, v, a[0]); }
TEST(is_equal) { return rt_val_equal(m, v, a[0]); }
TEST(is_unequal) { return !rt_val_equal(m, v, a[0]); }
TEST(is_less) { return rt_val_order(m, v, a[0]) == -1; }
TEST(is_more) { return rt_val_order(m, v, a[0]) == 1; }
TEST(is_filter) { return v.kind == V_STR && rt_filter_find(v) != -1; }
TEST(is_test) { return v.kind == V_STR && rt_test_find(v) != -1; }

TEST(is_at_most)
{
    int c = rt_val_order(m, v, a[0]);
    return c == -1 || c == 0;
}

TEST(is_at_least)
{
    int c = rt_val_order(m, v, a[0]);
    return c == 1 || c == 0;
}

/* An undefined value has a length, items and a call operator in jinja2, all of which fail. */
TEST(is_sequence)
{
    return v.kind == V_STR || v.kind == V_DICT || v.kind == V_UNDEF ||
           (v.kind == V_SEQ && v.u.seq->kind <= SEQ_RANGE);
}
TEST(is_iterable) { return is_sequence(m, v, a) || v.kind == V_SEQ || v.kind == V_LOOP; }
TEST(is_callable)
{
    return v.kind == V_FUNCTION || v.kind == V_METHOD || v.kind == V_MACRO || v.kind == V_UNDEF;
}

static bool remainder_is(rt_tpl *m, rt_val v, rt_val by, int64_t want)
{
    return rt_val_equal(m, rt_val_binary(m, '%', v, by), rt_val_int(want));
}
TEST(is_odd) { return remainder_is(m, v, rt_val_int(2), 1); }
TEST(is_even) { return remainder_is(m, v, rt_val_int(2), 0); }
TEST(is_divisible) { return remainder_is(m, v, a[0], 0); }

/* str.islower, str.isupper: some cased letter, and none of the other case. */
static bool all_case(rt_tpl *m, rt_val v, rt_case how, rt_case other)
{
    rt_val s = rt_val_text(m, v), same = rt_str_case(m, s, how, how);
    rt_val differs = rt_str_case(m, s, other, other);
    return !m->failed && rt_val_equal(m, s, same) && !rt_val_equal(m, s, differs);
}
TEST(is_lower) { return all_case(m, v, CASE_LOWER, CASE_UPPER); }
TEST(is_upper) { return all_case(m, v, CASE_UPPER, CASE_LOWER); }

TEST(is_same)
{
    bool pointer = v.kind >= V_SEQ;
    return v.kind == a[0].kind && (pointer ? v.u.seq == a[0].u.seq : rt_val_equal(m, v, a[0]));
}

static const struct {
    const char *name;
    bool argument;
    test_fn *fn;
} TESTS[] = {
    { "odd", false, is_odd },
    { "even", false, is_even },
    { "divisibleby", true, is_divisible },
    { "defined", false, is_defined },
    { "undefined", false, is_undefined },
    { "filter", false, is_filter },
    { "test", false, is_test },
    { "none", false, is_none },
    { "boolean", false, is_boolean },
    { "false", false, is_false },
    { "true", false, is_true },
    { "integer", false, is_integer },
    { "float", false, is_float },
    { "lower", false, is_lower },
    { "upper", false, is_upper },
    { "string", false, is_string },
    { "mapping", false, is_mapping },
    { "number", false, is_number },
    { "sequence", false, is_sequence },
    { "iterable", false, is_iterable },
    { "callable", false, is_callable },
    { "sameas", true, is_same },
    { "escaped", false, is_escaped },
    { "in", true, is_in },
    { "==", true, is_equal },
    { "eq", true, is_equal },
    { "equalto", true, is_equal },
    { "!=", true, is_unequal },
    { "ne", true, is_unequal },
    { ">", true, is_more },
    { "gt", true, is_more },
    { "greaterthan", true, is_more },
    { "ge", true, is_at_least },
    { ">=", true, is_at_least },
    { "<", true, is_less },
    { "lt", true, is_less },
    { "lessthan", true, is_less },
    { "<=", true, is_at_most },
    { "le", true, is_at_most },
};

int rt_test_find(rt_val name)
{
    for (int i = 0; i < RT_COUNT(TESTS); i++)
        if (rt_val_is(name, TESTS[i].name))
            return i;
    return -1;
}

bool rt_test_apply(rt_tpl *m, int row, rt_val v, const rt_args *args)
{
    rt_val slot[1] = { rt_val_missing() };
    if (!rt_args_bind(m, TESTS[row].name, TESTS[row].argument ? "value" : "", args, slot))
        return false;
    return TESTS[row].fn(m, v, slot);
}
