#include "corpora/mixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "corpora/corpus.h"

/* "math=0.7,code=0.3" */
static int parse_tags(rt_mixture *m, const char *flag, const char *list, rt_err *err)
{
    const char *at = list;
    m->by_tag = true;
    for (bool last = false; !last;) {
        const char *is = strchr(at, '=');
        char *end = NULL;
        size_t bytes = is ? (size_t)(is - at) : 0;
        double w = is ? strtod(is + 1, &end) : 0;
        if (!bytes || bytes > RT_RECORD_TAG_MAX || memchr(at, ',', bytes) || end == is + 1 ||
            !(w > 0 && w <= 1e6) || (*end && *end != ',') || m->n == RT_MIXTURE_SOURCES)
            return rt_usage(err, "%s %s: write shares above 0 of up to %d tags, as math=0.7,code=0.3", flag,
                            list, RT_MIXTURE_SOURCES);
        rt_mixture_source *s = &m->source[m->n];
        snprintf(s->tag, sizeof s->tag, "%.*s", (int)bytes, at);
        if (rt_mixture_find(m, s->tag) >= 0)
            return rt_usage(err, "%s %s: %s twice", flag, list, s->tag);
        m->n++;
        s->weight = w;
        last = !*end;
        at = end + 1;
    }
    return m->n > 1 ? 0 : rt_usage(err, "%s %s: name two tags or more", flag, list);
}

static void divide(rt_mixture *m)
{
    double sum = 0;
    for (int i = 0; i < m->n; i++)
        sum += m->source[i].weight;
    for (int i = 0; i < m->n; i++)
        m->source[i].weight /= sum;
}

int rt_mixture_find(const rt_mixture *m, const char *tag)
{
    for (int i = 0; i < m->n; i++)
        if (strcmp(m->source[i].tag, tag) == 0)
            return i;
    return -1;
}

int rt_mixture_parse(rt_mixture *m, const char *flag, const char *list, int n, rt_err *err)
{
    const char *at = list;
    *m = (rt_mixture){ 0 };
    if (strchr(list, '=')) {
        if (parse_tags(m, flag, list, err))
            return -1;
        divide(m);
        return 0;
    }
    if (n < 2 || n > RT_MIXTURE_SOURCES)
        return rt_usage(err, "%s %s: mixes from 2 to %d --data, not %d", flag, list,
                        RT_MIXTURE_SOURCES, n);
    for (; m->n < n; m->n++) {
        char *end;
        double w = strtod(at, &end);
        bool last = m->n == n - 1;
        if (end == at || !(w > 0) || w > 1e6 || *end != (last ? 0 : ','))
            return rt_usage(err, "%s %s: write a share above 0 for each of the %d --data, as 0.7,0.3",
                            flag, list, n);
        m->source[m->n].weight = w;
        at = end + 1;
    }
    divide(m);
    return 0;
}

/* The source whose exact number of slots is furthest above what it has. */
static int furthest(const rt_mixture *m, const double *exact)
{
    int best = 0;
    for (int i = 1; i < m->n; i++)
        if (exact[i] - (double)m->source[i].slots > exact[best] - (double)m->source[best].slots)
            best = i;
    return best;
}

void rt_mixture_share(rt_mixture *m)
{
    double documents[RT_MIXTURE_SOURCES], sum = 0;
    int64_t given = 0;
    for (int i = 0; i < m->n; i++) {
        rt_mixture_source *s = &m->source[i];
        documents[i] = s->weight * (double)s->n / (double)s->tokens;
        sum += documents[i];
    }
    for (int i = 0; i < m->n; i++) {
        documents[i] *= RT_MIXTURE_WINDOW / sum;
        m->source[i].slots = rt_max(1, (int64_t)floor(documents[i]));
        given += m->source[i].slots;
    }
    for (; given < RT_MIXTURE_WINDOW; given++)
        m->source[furthest(m, documents)].slots++;
    for (; given > RT_MIXTURE_WINDOW; given--) { /* the minimum of the small ones is the largest's loss */
        int most = 0;
        for (int i = 1; i < m->n; i++)
            if (m->source[i].slots > m->source[most].slots)
                most = i;
        m->source[most].slots--;
    }
}

int64_t rt_mixture_at(const rt_mixture *m, uint64_t seed, int64_t index)
{
    int64_t window = index / RT_MIXTURE_WINDOW;
    int64_t slot = rt_corpus_shuffle(RT_MIXTURE_WINDOW, seed, window, index % RT_MIXTURE_WINDOW);
    const rt_mixture_source *s = m->source;
    for (; slot >= s->slots; s++)
        slot -= s->slots;
    int64_t own = window * s->slots + slot;
    /* sources of equal sizes are not in step */
    uint64_t apart = seed + 0x9E3779B97F4A7C15u * (uint64_t)(s - m->source + 1);
    return s->first + rt_corpus_shuffle(s->n, apart, own / s->n, own % s->n);
}

/* Whole windows with two orders of the source that takes longest, and what stands before the first. */
int64_t rt_mixture_round(const rt_mixture *m)
{
    int64_t windows = 0;
    for (int i = 0; i < m->n; i++)
        windows = rt_max(windows, rt_ceil_div(2 * m->source[i].n, m->source[i].slots));
    return (windows + 1) * RT_MIXTURE_WINDOW;
}
