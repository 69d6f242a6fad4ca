/* digits.c: which separators group and which one is the decimal sign. */
#include "corpora/verify/digits.h"

#define THIN '\1'

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

int64_t rt_digits_count(const char *s)
{
    int64_t n = 0;
    while (is_digit(s[n]))
        n++;
    return n;
}

/* Digits and groups of three behind them, each after the separator c. */
static int64_t count_groups(const char *s, char c, int *groups)
{
    int64_t lead = rt_digits_count(s), n = lead;
    *groups = 0;
    while (lead >= 1 && lead <= 3 && s[0] != '0' && s[n] == c && rt_digits_count(s + n + 1) == 3) {
        n += 4;
        ++*groups;
    }
    return n;
}

rt_digits rt_digits_read(const char *s, rt_number_style style)
{
    int groups;
    int64_t n = count_groups(s, '.', &groups);
    int64_t decimals = groups && s[n] == ',' ? rt_digits_count(s + n + 1) : 0;
    bool european = style == RT_STYLE_EUROPEAN || groups > 1 || (decimals && decimals != 3);
    const char separators[] = { european ? '.' : style == RT_STYLE_LIST ? THIN : ',', THIN, ' ' };
    n = rt_digits_count(s);
    for (int i = 0; i < RT_COUNT(separators); i++) {
        int64_t with = count_groups(s, separators[i], &groups);
        bool apart = separators[i] == ' ' &&
                     (s[with] == '/' || (s[with] == ' ' && is_digit(s[with + 1])));
        if (groups && !apart) { /* 1 234/500 is mixed, 1 234 5 is a list */
            n = with;
            break;
        }
    }
    rt_digits d = { n, 0, false };
    if (s[n] == (european ? ',' : '.') && is_digit(s[n + 1]) && (n || !european)) {
        d.decimals = rt_digits_count(s + n + 1);
        d.bytes += 1 + d.decimals;
    }
    s += d.bytes;
    d.more = d.bytes && (*s == '.' || *s == THIN) && is_digit(s[1]);
    return d;
}
