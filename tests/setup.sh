# setup.sh: shared by tests/run.sh and examples/run.sh (sourced, not run). Installs what is missing on
# Debian, configures and builds. Owns the list of packages; builds nothing by itself.

RETORT_PACKAGES="cmake ninja-build gcc libc6-dev pkg-config libarchive-dev libcjson-dev check
                 libpcre2-dev libutf8proc-dev libxxhash-dev zlib1g-dev libmicrohttpd-dev"
RETORT_PROXIES="http_proxy https_proxy ftp_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY"

# by_root COMMAND...: as it is for root, else through sudo, which forgets proxies unless told.
by_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
        return
    fi
    for name in $RETORT_PROXIES; do
        eval "value=\${$name-}"
        [ -z "$value" ] || set -- "$name=$value" "$@"
    done
    sudo env "$@"
}

# install_packages: apt-get only when something is missing, sudo only when needed and there.
install_packages() {
    if ! command -v dpkg-query >/dev/null; then
        echo "setup: not a Debian system; these must be present:" $RETORT_PACKAGES >&2
        return 0
    fi
    missing=""
    for package in $RETORT_PACKAGES; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            missing="$missing $package"
    done
    [ -z "$missing" ] && return 0
    echo "setup: installing$missing" >&2
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        echo "setup: neither root nor sudo: ask an administrator for: apt-get install$missing" >&2
        return 1
    fi
    by_root apt-get update -q >&2 &&
        by_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -q -y --no-install-recommends $missing >&2
}

# build_tree DIR [cmake arguments]: configure once, build what changed, of RETORT_TARGETS or all.
build_tree() {
    tree=$1
    shift
    cmake -S . -B "$tree" -G Ninja "$@" >&2 && cmake --build "$tree" --target ${RETORT_TARGETS:-all} >&2
}
