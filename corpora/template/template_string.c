/* template_string.c: the methods of str. Positions are code points, as in Python. Every search is
   charged by the bytes it may read. Refuses: rsplit at white space, bounds of find. */
#include "corpora/template/template_builtin.h"

static bool in_set(rt_val chars, const char *s, int64_t len)
{
    const char *set = chars.u.str;
    return chars.n && (len == 1 ? memchr(set, *s, chars.n) : memmem(set, chars.n, s, (size_t)len));
}

rt_val rt_str_strip(rt_tpl *m, rt_val s, rt_val chars, int sides)
{
    int64_t at = 0, end = s.n, step = 1 + (chars.n >> 4);
    uint32_t cp;
    if (chars.kind > V_NONE && chars.kind != V_STR)
        rt_tpl_fail(m, "strip needs a string of characters");
    rt_tpl_scan(m, s.n);
    if (chars.kind != V_STR) {
        at = sides & 1 ? rt_space_begin(s.u.str, s.n) : 0;
        end = sides & 2 ? at + rt_space_end(s.u.str + at, s.n - at) : end;
    }
    for (int len; chars.kind == V_STR && (sides & 1) && at < end; at += len) {
        len = rt_cp_next(s.u.str + at, end - at, &cp);
        rt_tpl_step(m, step);
        if (!in_set(chars, s.u.str + at, len))
            break;
    }
    for (int64_t last; chars.kind == V_STR && (sides & 2) && at < end; end = last) {
        last = end - 1;
        while (last > at && ((unsigned char)s.u.str[last] & 0xC0) == 0x80)
            last--;
        rt_tpl_step(m, step);
        if (!in_set(chars, s.u.str + last, end - last))
            break;
    }
    s.u.str += at;
    s.n = (uint32_t)(end - at);
    return s;
}

/* Where `what` begins in s at or after `at`; -1 when it does not. */
static int64_t find(rt_tpl *m, rt_val s, rt_val what, int64_t at)
{
    rt_tpl_scan(m, 64);
    const char *from = s.u.str + at;
    const char *p = what.n ? memmem(from, (size_t)(s.n - at), what.u.str, what.n) : from;
    rt_tpl_scan(m, p ? p - from : s.n - at);
    return p ? p - s.u.str : -1;
}

static int64_t find_last(rt_tpl *m, rt_val s, rt_val what, int64_t end)
{
    rt_tpl_scan(m, 64);
    for (int64_t at = end - what.n; at >= 0; at--) {
        rt_tpl_step(m, at & 63 ? 0 : 1 + (what.n >> 6));
        if (!memcmp(s.u.str + at, what.u.str, what.n))
            return at;
    }
    return -1;
}

rt_val rt_str_replace(rt_tpl *m, rt_val s, rt_val from, rt_val to, rt_val max)
{
    rt_buf b = { 0 };
    int64_t at = 0, count = -1, hit;
    uint32_t cp;
    if (from.kind != V_STR || to.kind != V_STR ||
        (max.kind > V_NONE && !rt_val_integer(max, &count)))
        rt_tpl_fail(m, "replace needs two strings and an integer");
    for (; count != 0 && (hit = find(m, s, from, at)) >= 0; count -= count > 0) {
        rt_buf_add(m, &b, s.u.str + at, hit - at);
        rt_buf_val(m, &b, to);
        at = hit + from.n;
        if (from.n)
            continue;
        if (at == s.n)
            break;
        int len = rt_cp_next(s.u.str + at, s.n - at, &cp);
        rt_buf_add(m, &b, s.u.str + at, len);
        at += len;
    }
    rt_buf_add(m, &b, s.u.str + at, s.n - at);
    return rt_buf_string(m, &b);
}

static int line_break(const char *s, int64_t n)
{
    uint32_t cp;
    int len = rt_cp_next(s, n, &cp);
    if (cp == '\r' && n > 1 && s[1] == '\n')
        return 2;
    bool breaks = (cp >= 10 && cp <= 13) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 ||
                  cp == 0x2028 || cp == 0x2029;
    return breaks ? len : 0;
}

rt_val rt_str_lines(rt_tpl *m, rt_val s)
{
    rt_val list = rt_seq_new(m, SEQ_LIST, 0);
    rt_tpl_scan(m, s.n);
    for (int64_t at = 0, begin = 0; at < s.n;) {
        int len = line_break(s.u.str + at, s.n - at);
        at += len ? len : 1;
        if (len || at == s.n) {
            list = rt_seq_push(m, list, rt_val_str(s.u.str + begin, at - len - begin));
            begin = at;
        }
    }
    return list;
}

/* ---- methods --------------------------------------------------------------------------------- */

BUILTIN(strip) { return rt_str_strip(m, self, a[0], 3); }
BUILTIN(lstrip) { return rt_str_strip(m, self, a[0], 1); }
BUILTIN(rstrip) { return rt_str_strip(m, self, a[0], 2); }
BUILTIN(lines) { return rt_str_lines(m, self); }
BUILTIN(upper) { return rt_str_case(m, self, CASE_UPPER, CASE_UPPER); }
BUILTIN(lower) { return rt_str_case(m, self, CASE_LOWER, CASE_LOWER); }
BUILTIN(capitalize) { return rt_str_case(m, self, CASE_TITLE, CASE_LOWER); }
BUILTIN(title) { return rt_str_title(m, self, false); }
BUILTIN(replace) { return rt_str_replace(m, self, a[0], a[1], a[2]); }

static void check_str(rt_tpl *m, rt_val v)
{
    if (v.kind != V_STR)
        rt_tpl_fail(m, "a method of str needs a string here, not a %s", rt_val_type(v));
}

static rt_val split_space(rt_tpl *m, rt_val s, int64_t max)
{
    rt_val list = rt_seq_new(m, SEQ_LIST, 0);
    uint32_t cp;
    rt_tpl_scan(m, s.n);
    for (int64_t at = rt_space_begin(s.u.str, s.n), begin, len; at < s.n; max--) {
        for (begin = at; at < s.n; at += len) {
            len = rt_cp_next(s.u.str + at, s.n - at, &cp);
            if (max != 0 && rt_cp_space(cp))
                break;
        }
        list = rt_seq_push(m, list, rt_val_str(s.u.str + begin, at - begin));
        at += rt_space_begin(s.u.str + at, s.n - at);
    }
    return list;
}

static int64_t split_max(rt_tpl *m, const rt_val *a)
{
    int64_t max = -1;
    if ((a[0].kind > V_NONE && (a[0].kind != V_STR || !a[0].n)) ||
        (a[1].kind != V_MISSING && !rt_val_integer(a[1], &max)))
        rt_tpl_fail(m, "split needs a separator that is not empty, and an integer");
    return max;
}

BUILTIN(split)
{
    int64_t max = split_max(m, a), at = 0, hit;
    rt_val list = rt_seq_new(m, SEQ_LIST, 0);
    if (a[0].kind != V_STR)
        return split_space(m, self, max);
    for (; max != 0 && (hit = find(m, self, a[0], at)) >= 0; max--, at = hit + a[0].n)
        list = rt_seq_push(m, list, rt_val_str(self.u.str + at, hit - at));
    return rt_seq_push(m, list, rt_val_str(self.u.str + at, self.n - at));
}

BUILTIN(rsplit)
{
    int64_t max = split_max(m, a), end = self.n, hit;
    rt_val list = rt_seq_new(m, SEQ_LIST, 0);
    if (a[0].kind != V_STR)
        rt_tpl_fail(m, "rsplit needs a separator in chat templates");
    for (; max != 0 && (hit = find_last(m, self, a[0], end)) >= 0; max--, end = hit)
        list = rt_seq_push(m, list, rt_val_str(self.u.str + hit + a[0].n, end - hit - a[0].n));
    list = rt_seq_push(m, list, rt_val_str(self.u.str, end));
    rt_val out = rt_seq_new(m, SEQ_LIST, list.u.seq->n);
    for (int64_t i = 0, n = out.u.seq->n; i < n; i++)
        out.u.seq->item[i] = list.u.seq->item[n - 1 - i];
    return out;
}

/* startswith, endswith with a string or a tuple of strings. */
static bool has_affix(rt_tpl *m, rt_val s, rt_val what, bool end)
{
    if (what.kind == V_SEQ && what.u.seq->kind == SEQ_TUPLE) {
        for (int64_t i = 0; i < what.u.seq->n; i++)
            if (has_affix(m, s, what.u.seq->item[i], end))
                return true;
        return false;
    }
    check_str(m, what);
    rt_tpl_scan(m, what.n);
    return what.n <= s.n && !memcmp(s.u.str + (end ? s.n - what.n : 0), what.u.str, what.n);
}
BUILTIN(startswith) { return rt_val_bool(has_affix(m, self, a[0], false)); }
BUILTIN(endswith) { return rt_val_bool(has_affix(m, self, a[0], true)); }

BUILTIN(removeprefix)
{
    check_str(m, a[0]);
    int64_t cut = has_affix(m, self, a[0], false) ? a[0].n : 0;
    return rt_val_str(self.u.str + cut, self.n - cut);
}
BUILTIN(removesuffix)
{
    check_str(m, a[0]);
    return rt_val_str(self.u.str, self.n - (has_affix(m, self, a[0], true) ? a[0].n : 0));
}

static rt_val position(rt_tpl *m, rt_val s, rt_val what, bool last)
{
    check_str(m, what);
    int64_t hit = last ? find_last(m, s, what, s.n) : find(m, s, what, 0);
    rt_tpl_scan(m, s.n);
    return rt_val_int(hit < 0 ? -1 : rt_cp_count(s.u.str, hit));
}
BUILTIN(find_) { return position(m, self, a[0], false); }
BUILTIN(rfind) { return position(m, self, a[0], true); }

BUILTIN(join)
{
    rt_seq *s = rt_val_iterate(m, a[0]);
    rt_val item;
    rt_buf b = { 0 };
    for (int64_t i = 0; rt_seq_next(m, s, &i, &item);) {
        check_str(m, item);
        if (i > 1)
            rt_buf_val(m, &b, self);
        rt_buf_val(m, &b, item);
    }
    return rt_buf_string(m, &b);
}

BUILTIN(format) { return rt_str_format(m, self, raw); }

const rt_builtin rt_str_methods[] = {
    { "capitalize", "", capitalize },
    { "endswith", "<suffix>", endswith },
    { "find", "<sub>", find_ },
    { "format", "*", format },
    { "join", "<items>", join },
    { "lower", "", lower },
    { "lstrip", "=<chars>", lstrip },
    { "removeprefix", "<prefix>", removeprefix },
    { "removesuffix", "<suffix>", removesuffix },
    { "replace", "<old> <new> =<count>", replace },
    { "rfind", "<sub>", rfind },
    { "rsplit", "=sep maxsplit", rsplit },
    { "rstrip", "=<chars>", rstrip },
    { "split", "=sep maxsplit", split },
    { "splitlines", "", lines },
    { "startswith", "<prefix>", startswith },
    { "strip", "=<chars>", strip },
    { "title", "", title },
    { "upper", "", upper },
    { 0 },
};
