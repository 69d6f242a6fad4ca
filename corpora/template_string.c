/* template_string.c: the string methods that are more than a line: strip, find, split, replace,
   splitlines, title. Positions are code points, as in Python. Every
   search is charged by the bytes it may read. */
#include "corpora/template_impl.h"

#include <string.h>

#include <utf8proc.h>

static bool in_set(rt_val chars, const char *s, int64_t len)
{
    const char *set = chars.u.str;
    return chars.n && (len == 1 ? memchr(set, *s, chars.n) : memmem(set, chars.n, s, (size_t)len));
}

rt_val rt_str_strip(rt_tpl *m, rt_val s, rt_val chars, int sides)
{
    int64_t at = 0, end = s.n;
    uint32_t cp;
    if (chars.kind != V_MISSING && chars.kind != V_NONE && chars.kind != V_STR)
        return rt_tpl_fail(m, "strip needs a string of characters");
    rt_tpl_scan(m, s.n);
    if (chars.kind != V_STR) {
        at = sides & 1 ? rt_space_begin(s.u.str, s.n) : 0;
        end = sides & 2 ? at + rt_space_end(s.u.str + at, s.n - at) : end;
    } else {
        for (int len; (sides & 1) && at < end && rt_tpl_step(m, 1 + (chars.n >> 4)); at += len) {
            len = rt_cp_next(s.u.str + at, end - at, &cp);
            if (!in_set(chars, s.u.str + at, len))
                break;
        }
        for (int64_t last; (sides & 2) && at < end && rt_tpl_step(m, 1 + (chars.n >> 4));
             end = last) {
            last = end - 1;
            while (last > at && ((unsigned char)s.u.str[last] & 0xC0) == 0x80)
                last--;
            if (!in_set(chars, s.u.str + last, end - last))
                break;
        }
    }
    rt_val v = rt_val_str(s.u.str + at, end - at);
    v.flag = s.flag;
    return v;
}

/* Where `what` begins in s at or after `at`; -1 when it does not. */
static int64_t find(rt_tpl *m, rt_val s, rt_val what, int64_t at)
{
    if (at > s.n || !rt_tpl_scan(m, 64))
        return -1;
    const char *from = s.u.str + at;
    const char *p = what.n ? memmem(from, (size_t)(s.n - at), what.u.str, what.n) : from;
    rt_tpl_scan(m, p ? p - from : s.n - at);
    return p ? p - s.u.str : -1;
}

static int64_t find_last(rt_tpl *m, rt_val s, rt_val what, int64_t end)
{
    rt_tpl_scan(m, 64);
    for (int64_t at = end - what.n; at >= 0; at--) {
        if (!(at & 63) && !rt_tpl_step(m, 1 + (what.n >> 6)))
            break;
        if (!memcmp(s.u.str + at, what.u.str, what.n))
            return at;
    }
    return -1;
}

rt_val rt_str_replace(rt_tpl *m, rt_val s, rt_val from, rt_val to, int64_t count)
{
    rt_buf b = { 0 };
    int64_t at = 0;
    uint32_t cp;
    while (count != 0 && !m->failed) {
        int64_t hit = find(m, s, from, at);
        if (hit < 0)
            break;
        rt_buf_add(m, &b, s.u.str + at, hit - at);
        rt_buf_add(m, &b, to.u.str, to.n);
        at = hit + from.n;
        count -= count > 0;
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

rt_val rt_str_lines(rt_tpl *m, rt_val s, bool keep)
{
    rt_val list = rt_seq_new(m, SEQ_LIST, 0);
    rt_tpl_scan(m, s.n);
    for (int64_t at = 0, begin = 0; at < s.n && !m->failed;) {
        int len = line_break(s.u.str + at, s.n - at);
        at += len ? len : 1;
        if (len || at == s.n) {
            int64_t end = len && !keep ? at - len : at;
            list = rt_seq_push(m, list, rt_val_str(s.u.str + begin, end - begin));
            begin = at;
        }
    }
    return list;
}

/* split and rsplit at white space. */
static rt_val split_space(rt_tpl *m, rt_val s, int64_t max, bool right)
{
    rt_val list = rt_seq_new(m, SEQ_LIST, 0);
    int64_t at = rt_space_begin(s.u.str, s.n), end = at + rt_space_end(s.u.str + at, s.n - at);
    uint32_t cp;
    rt_tpl_scan(m, s.n);
    for (int64_t words = 0; at < end && !m->failed; words++) {
        int64_t cut = right ? end : at;
        bool whole = max >= 0 && words >= max;
        while (!whole && !right && cut < end) {
            int len = rt_cp_next(s.u.str + cut, end - cut, &cp);
            if (rt_cp_space(cp))
                break;
            cut += len;
        }
        while (!whole && right && cut > at && rt_space_end(s.u.str, cut) == cut)
            cut--;
        if (whole && right) /* the rest keeps the white space at its far end */
            at = cut = 0;
        else if (whole)
            cut = end = s.n;
        else if (right) /* cut may stand inside a character: step to its end */
            while (cut > at && cut < end && ((unsigned char)s.u.str[cut] & 0xC0) == 0x80)
                cut++;
        list = rt_seq_push(m, list,
                           rt_val_str(s.u.str + (right ? cut : at), right ? end - cut : cut - at));
        if (right)
            end = at + rt_space_end(s.u.str + at, cut - at);
        else
            at = cut + rt_space_begin(s.u.str + cut, end - cut);
    }
    return list;
}

static void turn_round(rt_val list)
{
    rt_seq *q = list.u.seq;
    for (int64_t i = 0, j = q->n - 1; i < j; i++, j--) {
        rt_val swap = q->item[i];
        q->item[i] = q->item[j];
        q->item[j] = swap;
    }
}

rt_val rt_str_split(rt_tpl *m, rt_val s, const rt_val a[2], bool right)
{
    int64_t max = -1, at = 0, end = s.n, hit;
    rt_val list = rt_seq_new(m, SEQ_LIST, 0);
    bool space = a[0].kind == V_MISSING || a[0].kind == V_NONE;
    if ((!space && (a[0].kind != V_STR || !a[0].n)) ||
        (a[1].kind != V_MISSING && !rt_val_integer(a[1], &max)))
        return rt_tpl_fail(m, "split needs a separator that is not empty, and an integer");
    if (space) {
        list = split_space(m, s, max, right);
    } else if (right) {
        for (; max != 0 && (hit = find_last(m, s, a[0], end)) >= 0; max -= max > 0, end = hit)
            list = rt_seq_push(m, list, rt_val_str(s.u.str + hit + a[0].n, end - hit - a[0].n));
        list = rt_seq_push(m, list, rt_val_str(s.u.str, end));
    } else {
        for (; max != 0 && (hit = find(m, s, a[0], at)) >= 0; max -= max > 0, at = hit + a[0].n)
            list = rt_seq_push(m, list, rt_val_str(s.u.str + at, hit - at));
        list = rt_seq_push(m, list, rt_val_str(s.u.str + at, s.n - at));
    }
    if (right && !m->failed)
        turn_round(list);
    return list;
}

/* startswith, endswith with a string or a tuple of strings. */
rt_val rt_str_affix(rt_tpl *m, rt_val s, rt_val what, bool end)
{
    if (what.kind == V_SEQ && what.u.seq->kind == SEQ_TUPLE) {
        for (int64_t i = 0; i < what.u.seq->n && !m->failed; i++)
            if (rt_val_truth(m, rt_str_affix(m, s, what.u.seq->item[i], end)))
                return rt_val_bool(true);
        return rt_val_bool(false);
    }
    if (what.kind != V_STR)
        return rt_tpl_fail(m, "startswith and endswith need a string or a tuple of strings");
    rt_tpl_scan(m, what.n);
    const char *at = end ? s.u.str + s.n - rt_min(what.n, s.n) : s.u.str;
    return rt_val_bool(what.n <= s.n && !memcmp(at, what.u.str, what.n));
}

/* find, rfind, index, rindex, count: in code points; a: what, start, end. */
rt_val rt_str_find(rt_tpl *m, rt_val s, const rt_val a[3], const char *how)
{
    const rt_val bound[3] = { a[1].kind ? a[1] : rt_val_none(), a[2].kind ? a[2] : rt_val_none(),
                              rt_val_none() };
    rt_val part = a[1].kind || a[2].kind ? rt_val_slice(m, s, bound) : s;
    if (a[0].kind != V_STR || m->failed)
        return rt_tpl_fail(m, "%s needs a string", how);
    int64_t before = rt_cp_count(s.u.str, part.u.str - s.u.str), n = 0, hit;
    if (*how == 'c') {
        if (!a[0].n)
            return rt_val_int(rt_val_length(m, part) + 1);
        for (int64_t at = 0; (hit = find(m, part, a[0], at)) >= 0; at = hit + a[0].n)
            n++;
        return rt_val_int(n);
    }
    hit = *how == 'r' ? find_last(m, part, a[0], part.n) : find(m, part, a[0], 0);
    if (hit < 0 && strstr(how, "index"))
        return rt_tpl_fail(m, "%s: the text is not there", how);
    rt_tpl_scan(m, s.n);
    return rt_val_int(hit < 0 ? -1 : before + rt_cp_count(part.u.str, hit));
}

/* str.title: a capital wherever a letter follows something that is not one. */
rt_val rt_str_title(rt_tpl *m, rt_val s)
{
    rt_buf b = { 0 };
    uint32_t cp;
    bool inside = false;
    rt_tpl_scan(m, s.n);
    for (int64_t at = 0; at < s.n && !m->failed;) {
        int len = rt_cp_next(s.u.str + at, s.n - at, &cp);
        utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)cp);
        rt_buf_case(m, &b, s, at, at + len, inside ? CASE_LOWER : CASE_TITLE);
        inside = k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LT;
        at += len;
    }
    return rt_buf_string(m, &b);
}
