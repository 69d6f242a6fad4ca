#include "distill/chart.h"

#include <math.h>

#include "core/base/log.h"
#include "distill/html.h"

/* A drawing in its own units: 420 wide, so that text is as large as the page's on a phone. */
enum { WIDE = 420, HIGH = 230, LEFT = 46, RIGHT = 16, TOP = 10, BOTTOM = 24, POINTS = 200 };

typedef struct frame {
    double x0, x1, y0, y1; /* values at the edges */
} frame;

static double at_x(const frame *w, double x)
{
    return LEFT + (x - w->x0) / (w->x1 - w->x0) * (WIDE - LEFT - RIGHT);
}

static double at_y(const frame *w, double y)
{
    return HIGH - BOTTOM - (y - w->y0) / (w->y1 - w->y0) * (HIGH - TOP - BOTTOM);
}

bool rt_chart_any(const rt_series *s, int n)
{
    for (int k = 0; k < n; k++)
        for (int64_t i = 0; i < s[k].n; i++)
            if (isfinite(s[k].x[i]) && isfinite(s[k].y[i]))
                return true;
    return false;
}

/* 1, 2 or 5 times a power of ten, so that about four of them make the range. */
static double step_of(double range)
{
    double raw = range / 4, power = pow(10, floor(log10(raw)));
    double share = raw / power;
    return power * (share < 1.5 ? 1 : share < 3.5 ? 2 : share < 7.5 ? 5 : 10);
}

/* A share of points that are far above the rest does not flatten it: the first steps of a loss. */
static double top_of(const rt_series *s, int n, double low)
{
    double high = -INFINITY, later = -INFINITY;
    for (int k = 0; k < n; k++)
        for (int64_t i = 0; i < s[k].n; i++) {
            if (!isfinite(s[k].y[i]))
                continue;
            high = fmax(high, s[k].y[i]);
            if (i >= s[k].n / 20)
                later = fmax(later, s[k].y[i]);
        }
    return later - low > 0 && high - low > 2 * (later - low) ? low + 1.1 * (later - low) : high;
}

static frame frame_of(const rt_series *s, int n)
{
    frame w = { INFINITY, -INFINITY, INFINITY, 0 };
    for (int k = 0; k < n; k++)
        for (int64_t i = 0; i < s[k].n; i++) {
            if (!isfinite(s[k].x[i]) || !isfinite(s[k].y[i]))
                continue;
            w.x0 = fmin(w.x0, s[k].x[i]);
            w.x1 = fmax(w.x1, s[k].x[i]);
            w.y0 = fmin(w.y0, s[k].y[i]);
        }
    w.y1 = top_of(s, n, w.y0);
    if (w.y0 > 0 && w.y0 < (w.y1 - w.y0) / 2)
        w.y0 = 0;
    if (!(w.y1 > w.y0))
        w.y1 = w.y0 + (w.y0 != 0 ? fabs(w.y0) : 1);
    if (!(w.x1 > w.x0))
        w.x1 = w.x0 + 1;
    return w;
}

static void put_number(FILE *f, double v, double step, bool percent)
{
    char text[32];
    v = fabs(v) < 1e-9 * step ? 0 : v; /* and no -0 */
    if (percent)
        fprintf(f, "%.*f%%", step < 0.01 ? 1 : 0, 100 * v);
    else if (step >= 1)
        fputs(rt_fmt_count(text, sizeof text, v), f);
    else
        fprintf(f, "%.*f", (int)rt_min(6, (int64_t)ceil(-log10(step) - 1e-9)), v);
}

static void put_axes(FILE *f, const frame *w, const char *unit, bool percent, bool percent_x)
{
    double step = step_of(w->y1 - w->y0);
    for (double v = ceil(w->y0 / step - 1e-9) * step; v <= w->y1 + 1e-9 * step; v += step) {
        fprintf(f, "<path class=rule d='M%d %.1fH%d'/><text class=y x=%d y=%.1f>", LEFT, at_y(w, v),
                WIDE - RIGHT, LEFT - 6, at_y(w, v) + 4);
        put_number(f, v, step, percent);
        fputs("</text>", f);
    }
    step = step_of(w->x1 - w->x0);
    for (double v = ceil(w->x0 / step - 1e-9) * step; v <= w->x1 + 1e-9 * step; v += step) {
        fprintf(f, "<text class=x x=%.1f y=%d>", at_x(w, v), HIGH - 6);
        put_number(f, v, step, percent_x);
        fputs("</text>", f);
    }
    fprintf(f, "<text class=unit x=%d y=%d>", LEFT - 6, HIGH - 6);
    rt_html_text(f, unit);
    fputs("</text>", f);
}

/* Means of at most POINTS stretches of equal length. */
static void put_line(FILE *f, const frame *w, const rt_series *s)
{
    int64_t stretch = rt_max(1, rt_ceil_div(s->n, POINTS));
    bool points = !s->faint && s->n <= 40;
    fprintf(f, "<path class='line c%d%s' d='", s->colour, s->faint ? " faint" : "");
    char move = 'M';
    for (int64_t first = 0; first < s->n; first += stretch) {
        double x = 0, y = 0, n = 0;
        for (int64_t i = first; i < rt_min(first + stretch, s->n); i++)
            if (isfinite(s->x[i]) && isfinite(s->y[i]))
                x += s->x[i], y += s->y[i], n++;
        if (n > 0) {
            fprintf(f, "%c%.1f %.1f", move, at_x(w, x / n), fmax(at_y(w, y / n), 0));
            move = 'L';
        }
    }
    fputs("'/>", f);
    for (int64_t i = 0; points && i < s->n; i++)
        if (isfinite(s->x[i]) && isfinite(s->y[i]))
            fprintf(f, "<circle class=c%d cx=%.1f cy=%.1f r=2.5><title>%g: %.4g</title></circle>",
                    s->colour, at_x(w, s->x[i]), fmax(at_y(w, s->y[i]), 0), s->x[i], s->y[i]);
}

static void begin(FILE *f, const char *title)
{
    fputs("<figure><figcaption>", f);
    rt_html_text(f, title);
    fprintf(f, "</figcaption><svg viewBox='0 0 %d %d' role=img>", WIDE, HIGH);
}

static void end(FILE *f, const rt_series *s, int n)
{
    fputs("</svg><div class=legend>", f);
    for (int k = 0; k < n; k++) {
        if (!s[k].name[0] || !rt_chart_any(&s[k], 1))
            continue;
        fprintf(f, "<span class='c%d%s'>", s[k].colour, s[k].faint ? " faint" : "");
        rt_html_text(f, s[k].name);
        fputs("</span>", f);
    }
    fputs("</div></figure>\n", f);
}

void rt_chart_lines(FILE *f, const char *title, const char *unit, bool percent, const rt_series *s,
                    int n)
{
    if (!rt_chart_any(s, n))
        return;
    frame w = frame_of(s, n);
    begin(f, title);
    put_axes(f, &w, unit, percent, false);
    for (int k = 0; k < n; k++)
        put_line(f, &w, &s[k]);
    end(f, s, n);
}

void rt_chart_reliability(FILE *f, const rt_series *s, const double *const *weight, int n)
{
    const frame w = { 0, 1, 0, 1 };
    if (!rt_chart_any(s, n))
        return;
    begin(f, "how often it is right (up) when it is so sure (right)");
    put_axes(f, &w, "", true, true);
    fprintf(f, "<path class=honest d='M%.1f %.1fL%.1f %.1f'/>", at_x(&w, 0), at_y(&w, 0), at_x(&w, 1),
            at_y(&w, 1));
    for (int k = 0; k < n; k++) {
        double all = 0;
        for (int64_t i = 0; i < s[k].n; i++)
            all += weight[k][i];
        for (int64_t i = 0; i < s[k].n; i++)
            fprintf(f, "<circle class=c%d cx=%.1f cy=%.1f r=%.1f><title>%.0f tokens</title></circle>",
                    s[k].colour, at_x(&w, s[k].x[i]), at_y(&w, s[k].y[i]),
                    2 + 6.5 * sqrt(weight[k][i] / fmax(all, 1)), weight[k][i]);
    }
    end(f, s, n);
}
