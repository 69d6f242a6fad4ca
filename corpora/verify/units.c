/* units.c: the tables, and words looked up in them. */
#include "corpora/verify/units.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { LONG_NAME = 3, PARTS_MAX = 5 };

/* Names (those of three letters and more also with "s" or "es", of four and more in any case), then
   dimensions (above / below the line), then the factor: a decimal or a fraction. Dimensions: L
   metre, M gram, T second, R month, D dollar, U cup (American measures); a letter of its own where
   nothing converts exactly: euro, pound, degrees Celsius, an angle's degree ... */
static const struct {
    const char *names, *dimensions, *factor;
} units[] = {
    { "m|meter|metre", "L", "1" },
    { "km|kilometer|kilometre", "L", "1000" },
    { "cm|centimeter|centimetre", "L", "0.01" },
    { "mm|millimeter|millimetre", "L", "0.001" },
    { "dm|decimeter|decimetre", "L", "0.1" },
    { "in|inch", "L", "0.0254" },
    { "ft|foot|feet", "L", "0.3048" },
    { "yd|yard", "L", "0.9144" },
    { "mi|mile", "L", "1609.344" },
    { "ha|hectare", "LL", "10000" },
    { "acre", "LL", "4046.8564224" },
    { "L|l|liter|litre", "LLL", "0.001" },
    { "mL|ml|milliliter|millilitre|cc", "LLL", "0.000001" },
    { "g|gram", "M", "1" },
    { "kg|kilogram|kilo", "M", "1000" },
    { "mg|milligram", "M", "0.001" },
    { "tonne", "M", "1000000" },
    { "lb|lbs", "M", "453.59237" },
    { "oz|ounce", "M", "28.349523125" },
    { "s|sec|second", "T", "1" },
    { "ms|millisecond", "T", "0.001" },
    { "min|minute", "T", "60" },
    { "h|hr|hrs|hour", "T", "3600" },
    { "day", "T", "86400" },
    { "week", "T", "604800" },
    { "month", "R", "1" },
    { "yr|year", "R", "12" },
    { "mph", "L/T", "0.44704" },
    { "kph|kmh", "L/T", "5/18" },
    { "Hz|hertz", "/T", "1" },
    { "N|newton", "ML/TT", "1000" },
    { "J|joule", "MLL/TT", "1000" },
    { "kJ|kilojoule", "MLL/TT", "1000000" },
    { "W|watt", "MLL/TTT", "1000" },
    { "kW|kilowatt", "MLL/TTT", "1000000" },
    { "kWh", "MLL/TT", "3600000000" },
    { "Pa|pascal", "M/LTT", "1000" },
    { "kPa|kilopascal", "M/LTT", "1000000" },
    { "$|dollar|USD|buck", "D", "1" },
    { "\xc2\xa2|cent", "D", "0.01" },
    { "\xe2\x82\xac|euro|EUR", "E", "1" },
    { "\xc2\xa3|GBP", "G", "1" },
    { "pound", "P", "1" },
    { "\xc2\xa5|yen|JPY", "Y", "1" },
    { "\xe2\x82\xb9|rupee|Rs", "Q", "1" },
    { "deg|degree", "A", "1" },
    { "rad|radian", "B", "1" },
    { "C|Celsius", "C", "1" },
    { "F|Fahrenheit", "F", "1" },
    { "K|kelvin", "K", "1" },
    { "gallon", "U", "16" },
    { "quart", "U", "4" },
    { "pint", "U", "2" },
    { "cup", "U", "1" },
    { "V|volt", "V", "1" },
    { "A|amp|ampere", "I", "1" },
    { "mol|mole", "N", "1" },
    { "bit", "O", "1" },
    { "byte", "O", "8" },
    { "unit", "X", "1" },
    { "ton", "W", "1" },
};

/* Counted things: a number of them is that number. */
static const char *const things[] = {
    "person|people", "student",     "child|children",
    "man|men",       "woman|women", "boy",
    "girl",          "friend",      "player",
    "team",          "customer",    "worker",
    "apple",         "orange",      "banana",
    "egg",           "cookie",      "candy|candies",
    "cake",          "slice",       "pizza",
    "book",          "page",        "pencil",
    "pen",           "card",        "coin",
    "penny|pennies", "marble",      "ball",
    "toy",           "sticker",     "stamp",
    "ticket",        "game",        "point",
    "question",      "problem",     "answer",
    "solution",      "way",         "time",
    "item",          "piece",       "bag",
    "box",           "bottle",      "jar",
    "car",           "bus",         "train",
    "house",         "room",        "seat",
    "chair",         "table",       "flower",
    "tree",          "bird",        "cat",
    "dog",           "fish",        "cow",
    "chicken",       "sheep",       "horse",
    "side",          "edge",        "vertex|vertices",
    "face",          "diagonal",    "triangle",
    "square",        "digit",       "term",
    "root",          "letter",      "word",
    "row",           "column",      "step",
    "trip",          "lap",         "mark",
};

static const struct {
    const char *word, *value;
} scales[] = {
    { "hundred", "100" },        { "thousand", "1000" },          { "million", "1000000" },
    { "billion", "1000000000" }, { "trillion", "1000000000000" }, { "dozen", "12" },
};

static const char *const numerals[] = {
    "zero",     "one",     "two",     "three",     "four",     "five",     "six",
    "seven",    "eight",   "nine",    "ten",       "eleven",   "twelve",   "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
};

/* Whether the word is one of "a|b|c". */
static bool named(const char *names, const char *word, size_t n)
{
    for (; *names; names += *names == '|') {
        size_t m = strcspn(names, "|");
        size_t more = m >= LONG_NAME && n > m ? n - m : 0; /* a plural's ending */
        bool ending = more == 0 || (more == 1 && word[m] == 's') ||
                      (more == 2 && memcmp(word + m, "es", 2) == 0);
        if (n == m + more && ending &&
            (m > LONG_NAME ? strncasecmp(names, word, m) : strncmp(names, word, m)) == 0)
            return true;
        names += m;
    }
    return false;
}

/* Bytes of the word at s: letters, or one sign of a currency. */
static size_t word_bytes(const char *s)
{
    static const char *const signs[] = { "$",        "\xc2\xa2", "\xe2\x82\xac",
                                         "\xc2\xa3", "\xc2\xa5", "\xe2\x82\xb9" };
    size_t n = 0;
    for (int i = 0; i < RT_COUNT(signs); i++)
        if (strncmp(s, signs[i], strlen(signs[i])) == 0)
            return strlen(signs[i]);
    while (isalpha((unsigned char)s[n]))
        n++;
    return n;
}

static rt_sum read_factor(rt_exact *p, const char *s)
{
    char digits[24];
    int64_t n = 0, scale = 0, begin = 0;
    rt_sum top = { NULL, 0 };
    bool fraction = strchr(s, '/') != NULL;
    for (; *s; s++) {
        if (*s == '/') {
            top = rt_sum_decimal(p, digits, n, 0);
            begin = n;
        } else if (*s == '.') {
            scale = (int64_t)strlen(s + 1);
        } else {
            digits[n++] = *s;
        }
    }
    rt_sum value = rt_sum_decimal(p, digits + begin, n - begin, scale);
    return fraction ? rt_sum_divide(p, top, value) : value;
}

static bool known(rt_exact *p, const char *word, size_t n, int power, rt_unit *u)
{
    for (int i = 0; i < RT_COUNT(units); i++) {
        if (!named(units[i].names, word, n))
            continue;
        int sign = power;
        for (const char *d = units[i].dimensions; *d; d++) {
            if (*d == '/')
                sign = -power;
            else
                u->power[*d - 'A'] = (int8_t)(u->power[*d - 'A'] + sign);
        }
        u->factor = rt_sum_multiply(p, u->factor,
                                    rt_sum_power(p, read_factor(p, units[i].factor), power));
        return true;
    }
    for (int i = 0; i < RT_COUNT(things) && u->thing < 0 && power == 1; i++)
        if (named(things[i], word, n)) {
            u->thing = i;
            return true;
        }
    return false;
}

/* "^2", "^{-1}" */
static int read_power(const char **at)
{
    const char *s = *at;
    if (*s != '^')
        return 1;
    bool brace = s[1] == '{', minus = s[1 + brace] == '-';
    s += 1 + brace + minus;
    if (*s < '1' || *s > '4' || (brace && s[1] != '}'))
        return 0;
    *at = s + 1 + brace;
    return minus ? -(*s - '0') : *s - '0';
}

bool rt_unit_read(rt_exact *p, const char *s, rt_unit *out)
{
    static const struct {
        const char *word;
        int power;
    } forms[] = { { "square ", 2 }, { "sq ", 2 }, { "cubic ", 3 }, { "cu ", 3 } };
    bool spaced = *s == ' ', below = false;
    *out = (rt_unit){ .factor = rt_sum_decimal(p, "1", 1, 0), .thing = -1, .given = true };
    s += spaced;
    for (int parts = 0; parts < PARTS_MAX; parts++) {
        int form = 1;
        for (int i = 0; i < RT_COUNT(forms); i++)
            if (strncmp(s, forms[i].word, strlen(forms[i].word)) == 0 &&
                isalpha((unsigned char)s[strlen(forms[i].word)])) {
                form = forms[i].power;
                s += strlen(forms[i].word);
            }
        size_t n = word_bytes(s);
        const char *word = s;
        s += n;
        if (*s == ' ' && named("deg|degree", word, n) &&
            named("C|Celsius|F|Fahrenheit", s + 1, word_bytes(s + 1))) {
            word = s + 1; /* degrees of temperature are not those of an angle */
            n = word_bytes(word);
            s = word + n;
        }
        int power = read_power(&s) * form;
        if (n == 0 || power == 0 ||
            (n == 1 && parts == 0 && !spaced && isalpha((unsigned char)*word)))
            return false;
        if (!known(p, word, n, below ? -power : power, out))
            return false;
        if (*s == 0)
            return !p->failed;
        below = *s == '/' || strncmp(s, " per ", 5) == 0;
        if (!below && *s != ' ' && *s != '*')
            return false;
        s += *s == ' ' && below ? 5 : 1;
    }
    return false;
}

bool rt_unit_alike(const rt_unit *a, const rt_unit *b)
{
    return a->thing == b->thing && memcmp(a->power, b->power, sizeof a->power) == 0;
}

bool rt_unit_other(rt_exact *p, const rt_unit *like, int *i, rt_sum *factor)
{
    for (; *i < RT_COUNT(units); (*i)++) {
        rt_unit u = { .factor = rt_sum_decimal(p, "1", 1, 0), .thing = -1 };
        const char *name = units[*i].names;
        if (known(p, name, strcspn(name, "|"), 1, &u) && rt_unit_alike(&u, like)) {
            *factor = u.factor;
            (*i)++;
            return true;
        }
    }
    return false;
}

const char *rt_scale_word(const char *s, size_t bytes)
{
    for (int i = 0; i < RT_COUNT(scales); i++)
        if (named(scales[i].word, s, bytes))
            return scales[i].value;
    return NULL;
}

int64_t rt_numeral(const char *s, size_t bytes)
{
    for (int i = 0; i < RT_COUNT(numerals); i++)
        if (strlen(numerals[i]) == bytes && strncasecmp(numerals[i], s, bytes) == 0)
            return i;
    return -1;
}
