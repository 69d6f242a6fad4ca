#include "teacher/server/door.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- listening ----------------------------------------------------------------------------------
 */

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, a, sizeof v4);
        return ntohl(v4.sin_addr.s_addr) >> 24 == 127;
    }
    struct sockaddr_in6 v6;
    memcpy(&v6, a, sizeof v6);
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

static int listen_at(rt_door *d, const struct addrinfo *a, int64_t want, rt_err *err)
{
    char name[128], port[16];
    struct sockaddr_storage at;
    socklen_t size = sizeof at;
    int on = 1;
    if (!d->key && !is_loopback(a->ai_addr))
        return rt_usage(err,
                        "--host %s: other machines reach it, so clients must show a key: put one "
                        "into the environment, RETORT_API_KEY",
                        d->host);
    d->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (d->fd < 0 || setsockopt(d->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
        bind(d->fd, a->ai_addr, a->ai_addrlen) || listen(d->fd, SOMAXCONN) ||
        getsockname(d->fd, (struct sockaddr *)&at, &size))
        return rt_fail(
            err, "--host %s --port %lld: %s%s", d->host, (long long)want, rt_errno_text(errno),
            errno == EADDRINUSE ? "; give another --port, or 0 for one that is free" : "");
    if (getnameinfo((struct sockaddr *)&at, size, name, sizeof name, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV))
        return rt_fail(err, "--host %s: has no name", d->host);
    bool six = strchr(name, ':') != NULL;
    snprintf(d->url, sizeof d->url, "http://%s%s%s:%s", six ? "[" : "", name, six ? "]" : "", port);
    return 0;
}

int rt_door_open(rt_door *d, const char *host, int64_t want, const char *key, rt_err *err)
{
    char port[16];
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list = NULL;
    *d = (rt_door){ .fd = -1, .host = host, .key = key };
    if (key && !*key)
        return rt_usage(err, "RETORT_API_KEY is empty: give it a value, or unset it");
    snprintf(port, sizeof port, "%lld", (long long)want);
    int bad = getaddrinfo(host, port, &hints, &list);
    if (bad)
        return rt_fail(err, "--host %s: %s", host, gai_strerror(bad));
    bad = listen_at(d, list, want, err);
    freeaddrinfo(list);
    return bad;
}

void rt_door_close(rt_door *d)
{
    if (d->fd >= 0)
        close(d->fd);
    d->fd = -1;
}

/* ---- who may come in ----------------------------------------------------------------------------
 */

/* Whether s (n bytes), "NAME" or "NAME:PORT", is a name of this machine for itself. */
static bool names_us(const rt_door *d, const char *s)
{
    const char *const names[] = { "localhost", "127.0.0.1", "[::1]", d->host };
    for (int i = 0; i < RT_COUNT(names); i++) {
        size_t n = strlen(names[i]);
        if (!strncasecmp(s, names[i], n) &&
            (!s[n] || (s[n] == ':' && s[n + 1 + strspn(s + n + 1, "0123456789")] == 0)))
            return true;
    }
    return false;
}

/* How long this takes tells the length of what was sent, nothing of the key. */
static bool same_secret(const char *sent, const char *key)
{
    size_t n = strlen(sent), m = strlen(key);
    volatile size_t differ = n ^ m;
    for (size_t i = 0; i < n; i++)
        differ |= (size_t)((unsigned char)sent[i] ^ (unsigned char)key[i % m]);
    return differ == 0;
}

int rt_door_check(const rt_door *d, const rt_visitor *v, bool open, rt_refusal *r)
{
    const char *origin = v->origin ? v->origin : "";
    const char *name = !strncasecmp(origin, "http://", 7)    ? origin + 7
                       : !strncasecmp(origin, "https://", 8) ? origin + 8
                                                             : "";
    if (!d->key && v->host && !names_us(d, v->host))
        return rt_refuse(r, 403, "forbidden_host", NULL,
                         "this server answers to localhost and 127.0.0.1, not to another Host");
    if (!d->key && v->origin && !names_us(d, name))
        return rt_refuse(r, 403, "forbidden_origin", NULL,
                         "this server does not answer pages of other origins");
    if (!d->key || open)
        return 0;
    if (v->authorization && !strncasecmp(v->authorization, "Bearer ", 7) &&
        same_secret(v->authorization + 7, d->key))
        return 0;
    return rt_refuse(r, 401, "invalid_api_key", NULL,
                     "no key, or a wrong one: send \"Authorization: Bearer KEY\"");
}
