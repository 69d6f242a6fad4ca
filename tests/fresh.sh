#!/bin/sh
# fresh.sh FOLDER [WHO...]: both commands of the README on a Debian 12 with nothing on it. Makes a
# minimal system in FOLDER (debootstrap --variant=minbase; kept there for the next time), and for
# each WHO, root and user, a copy of it that gets a clone of this tree in a folder with a space in its
# name and runs examples/run.sh and tests/run.sh there: as root, or as a user who has sudo. One line
# each with the exit status and the seconds; logs are FOLDER/WHO-*.log. Needs root, a Debian mirror
# (MIRROR, or deb.debian.org) and debootstrap and git, which it installs. Proxies come from the
# environment. FRESH_RUN and FRESH_TESTS are arguments for the two scripts, e.g. to be quick; `no` leaves one out.
set -eu
cd "$(dirname "$0")/.."
. tests/setup.sh
[ $# -gt 0 ] || { echo "usage: tests/fresh.sh FOLDER [root] [user]" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "fresh: needs root, to make a system of its own" >&2; exit 2; }
folder=$1
shift
[ $# -gt 0 ] || set -- root user
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
RETORT_PACKAGES="debootstrap git"
install_packages

base=$folder/base
if [ ! -e "$base.made" ]; then
    rm -rf "$base"
    debootstrap --variant=minbase bookworm "$base" "${MIRROR:-http://deb.debian.org/debian}" \
        >"$folder/debootstrap.log" 2>&1 || { tail "$folder/debootstrap.log" >&2; exit 1; }
    touch "$base.made"
fi

system=
leave() { # nothing of ours stays mounted
    [ -z "$system" ] || umount "$system/proc" 2>/dev/null || true
    system=
}
trap leave EXIT
trap 'exit 130' INT TERM

# inside USER COMMAND: runs it by sh in the system, with this shell's proxies and no other variable.
inside() {
    user=$1 home=/root
    [ "$user" = root ] || home=/home/$user
    set -- sh -c "$2"
    [ "$user" = root ] || set -- setpriv --reuid "$user" --regid "$user" --init-groups "$@"
    for name in $RETORT_PROXIES; do
        eval "value=\${$name-}"
        [ -z "$value" ] || set -- "$name=$value" "$@"
    done
    chroot "$system" env -i HOME=$home USER="$user" LC_ALL=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@" </dev/null
}

status=0
for who; do
    system=$folder/$who
    umount "$system/proc" 2>/dev/null || true
    rm -rf "$system"
    cp -a "$base" "$system"
    cp -L /etc/resolv.conf "$system/etc/resolv.conf"
    mount -t proc proc "$system/proc"
    tree="/home/$who/a new folder/retort"
    if [ "$who" != root ]; then
        inside root "useradd -m -s /bin/sh $who && apt-get update -q && DEBIAN_FRONTEND=noninteractive \
            apt-get install -q -y --no-install-recommends sudo" >"$folder/$who-setup.log" 2>&1
        echo "$who ALL=(ALL) NOPASSWD: ALL" >"$system/etc/sudoers.d/$who"
    fi
    mkdir -p "$system$(dirname "$tree")"
    git clone -q . "$system$tree"
    [ "$who" = root ] || inside root "chown -R $who:$who /home/$who"
    for run in "examples/run.sh ${FRESH_RUN-}" "tests/run.sh ${FRESH_TESTS-}"; do
        [ "${run#* }" != no ] || continue
        name=$(dirname "${run%% *}")
        begun=$(date +%s)
        rc=0
        inside "$who" "cd '$tree' && $run" >"$folder/$who-$name.log" 2>&1 || rc=$?
        [ $rc = 0 ] || status=1
        printf 'fresh: %-5s %-16s exit %d  %d s\n' "$who" "${run%% *}" $rc $(($(date +%s) - begun))
    done
    leave
    [ $status != 0 ] || rm -rf "${folder:?}/$who"
done
exit $status
