#!/bin/bash
# retort run on a finished run folder while the file system fails: every call that changes or looks at a
# file fails once (no space, input/output error), or the process dies there. Whatever comes of it, every
# finished output is still there with its bytes, in its place or in old/, and the next run ends with the
# bytes of a run without faults. FAULTS=all for every call; CI takes some of each kind. PART=1/4
# takes every fourth of them, from the first, so that several can run at once in folders of their own.
set -u
. "$(dirname "$0")/check.sh"
retort=$1 dir=$2 problems=$(dirname "$1")/reasoning-problems fault=$(dirname "$1")/fault.so faults=${FAULTS:-12} part=${PART:-1/1}
rm -rf "$dir" && mkdir -p "$dir"
tests=$PWD/tests template=$PWD/examples/reasoning/chat_template.jinja
cd "$dir" || exit 1
dir=$PWD
export OMP_NUM_THREADS=1
. "$tests/run_small.sh"
if ! LD_PRELOAD=$fault "$retort" --version >/dev/null 2>err.txt || [ -s err.txt ]; then
    echo "skipped: $(head -1 err.txt)" # a sanitizer's runtime must come first
    exit 0
fi

# three folders: finished; the same replaced by another seed; what each flags then give without faults
"$retort" -q run recipe.json >/dev/null || { fail "a clean run"; exit 1; }
first=$(results run)
cp -a run finished
"$retort" -q run recipe.json --set traces.seed=3 >/dev/null || { fail "another seed"; exit 1; }
second=$(results run)
cp -a run replaced

# sweep NAME FOLDER WANT flags: each fault on a copy of FOLDER; then flags give WANT
sweep() {
    local name=$1 folder=$2 want=$3 how n=0 step calls
    shift 3
    rm -rf run && cp -a "$folder" run
    FAULT_BELOW=$dir/run FAULT_LOG=$dir/calls LD_PRELOAD=$fault "$retort" -q run recipe.json "$@" >/dev/null 2>&1
    calls=$(cut -d' ' -f1 calls)
    [ "$calls" -gt 100 ] || fail "$name: only $calls calls seen"
    step=1
    [ "$faults" = all ] || step=$((calls / faults + 1))
    step=$((step * ${part#*/}))
    for how in enospc eio kill; do
        n=$((n % 7 + ${part%/*})) # another place of the stride for each
        [ "$faults" != all ] || n=${part%/*}
        while [ "$n" -le "$calls" ]; do
            rm -rf run && cp -a "$folder" run
            FAULT_AT=$n FAULT_HOW=$how FAULT_BELOW=$dir/run FAULT_LOG=$dir/calls LD_PRELOAD=$fault \
                "$retort" -q run recipe.json "$@" >/dev/null 2>stderr &
            wait $! 2>/dev/null # in the background, so that bash does not tell of each death
            rc=$? where="$name: $how at call $n ($(cut -d' ' -f2- calls))"
            [ -z "$(lost "$first" run)" ] || fail "$where: lost $(lost "$first" run)"
            [ $how = kill ] || [ $rc = 0 ] || [ "$(grep -c . stderr)" = 1 ] || fail "$where: $(cat stderr)"
            [ $rc -le 1 ] || [ $how = kill ] || fail "$where: exit $rc: $(cat stderr)"
            "$retort" -q run recipe.json "$@" >/dev/null 2>stderr || fail "$where: the next run: $(cat stderr)"
            [ "$(results run)" = "$want" ] || fail "$where: other bytes: $(diff <(results run) <(echo "$want"))"
            [ -z "$(lost "$first" run)" ] || fail "$where: the next run lost $(lost "$first" run)"
            count=$((count + 1)) n=$((n + step))
        done
    done
}
count=0
sweep unchanged finished "$first"
sweep replaced finished "$second" --set traces.seed=3
sweep "taken back" replaced "$first"
sweep fresh finished "$first" --fresh
[ $failed != 0 ] || echo "$count faults, nothing lost"
exit $failed
