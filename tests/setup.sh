# setup.sh: shared by tests/run.sh and examples/run.sh (sourced, not run). Installs what is missing on
# Debian, configures and builds. Owns the list of packages; builds nothing by itself.

RETORT_PACKAGES="cmake ninja-build gcc libc6-dev pkg-config libarchive-dev libcjson-dev check
                 libpcre2-dev libutf8proc-dev libxxhash-dev zlib1g-dev"

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
    as_root=""
    if [ "$(id -u)" != 0 ]; then
        as_root=$(command -v sudo) || {
            echo "setup: neither root nor sudo: ask an administrator for: apt-get install$missing" >&2
            return 1
        }
    fi
    $as_root apt-get update -q >&2 &&
        $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -q -y --no-install-recommends $missing >&2
}

# build_tree DIR [cmake arguments]: configure once, build what changed.
build_tree() {
    tree=$1
    shift
    cmake -S . -B "$tree" -G Ninja "$@" >&2 && cmake --build "$tree" >&2
}
