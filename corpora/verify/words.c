/* words.c: small scanners over text that is not mathematics. */
#include "corpora/verify/words.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { TEXT_MAX = 80 }; /* bytes of an option's text */

static bool is_word(char c) { return isalnum((unsigned char)c) || (unsigned char)c >= 0x80; }

/* A word of three letters and more, or one of a few, in small letters but for the first. */
static bool is_plain_word(const char *s, size_t n)
{
    static const char *const small[] = { "no", "up", "on", "off", "in" };
    bool known = n >= 3;
    for (int i = 0; i < RT_COUNT(small) && !known; i++)
        known = strlen(small[i]) == n && strncasecmp(small[i], s, n) == 0;
    for (size_t i = 0; known && i < n; i++)
        known = isalpha((unsigned char)s[i]) && (i == 0 || islower((unsigned char)s[i]));
    return known;
}

static bool is_verdict(const char *s, size_t n)
{
    return (n == 2 && strncasecmp(s, "no", n) == 0) || (n == 3 && strncasecmp(s, "yes", n) == 0) ||
           (n == 4 && strncasecmp(s, "true", n) == 0) ||
           (n == 5 && strncasecmp(s, "false", n) == 0);
}

bool rt_words_same(const char *a, const char *b)
{
    while (*a && *b) {
        size_t n = 0, m = 0;
        while (isalpha((unsigned char)a[n]))
            n++;
        while (isalpha((unsigned char)b[m]))
            m++;
        bool equal = n == m && strncasecmp(a, b, n) == 0 &&
                     (memcmp(a, b, n) == 0 || (is_plain_word(a, n) && is_plain_word(b, n)) ||
                      is_verdict(a, n));
        if (!equal || (n == 0 && *a != *b))
            return false;
        a += n ? n : 1;
        b += n ? n : 1;
    }
    return *a == *b;
}

bool rt_words_alike(const char *a, const char *b)
{
    for (;; a++, b++) {
        while (*a && !is_word(*a))
            a++;
        while (*b && !is_word(*b))
            b++;
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b))
            return false;
        if (!*a)
            return true;
    }
}

bool rt_words_contain(const char *a, const char *b)
{
    size_t n = strlen(b);
    for (const char *p = a; n && (p = strcasestr(p, b)) != NULL; p++)
        if (!(p > a && is_word(p[-1]) && is_word(*b)) && !(is_word(p[n]) && is_word(b[n - 1])))
            return true;
    return false;
}

bool rt_words_option(const char *s, rt_option_letter *o)
{
    s += strncasecmp(s, "option ", 7) == 0 || strncasecmp(s, "choice ", 7) == 0 ? 7 : 0;
    bool open = *s == '(';
    char letter = s[open], mark;
    if (letter < 'A' || letter > 'J')
        return false;
    s += 1 + open;
    mark = *s;
    if (open ? mark != ')' : mark && !strchr("):.", mark) && strncmp(s, " - ", 3) != 0)
        return false;
    s += mark ? (mark == ' ' ? 3 : 1) : 0;
    if ((mark == '.' && *s && *s != ' ') ||
        (mark == ' ' && !(isalpha((unsigned char)s[0]) && isalpha((unsigned char)s[1]))))
        return false;
    s += strspn(s, " :.-");
    *o = (rt_option_letter){ letter, s };
    for (const char *p = s; *p; p++) /* no second letter in the text */
        if (*p >= 'A' && *p <= 'J' && !(p > s && is_word(p[-1])) && !is_word(p[1]))
            return false;
    return strlen(s) <= TEXT_MAX && strncmp(s, "or ", 3) != 0 && strncmp(s, "and ", 4) != 0 &&
           !strchr(",;+*/=^", *s ? *s : ' ');
}
