# check.sh: what the check_*.sh scripts share (sourced, not run): a failure that does not end the script,
# and how a command is expected to answer. The script sets retort, works in a folder of its own, where
# out.txt and err.txt are what was last said, and ends with `exit $failed`.

failed=0
fail() { echo "FAIL: $*" >&2; failed=1; }

# expect CODE STDERR-REGEX arguments...: exit code, and one line on stderr, or none
expect() {
    local code=$1 err=$2 got
    shift 2
    "$retort" "$@" -q >out.txt 2>err.txt
    got=$?
    [ $got = "$code" ] && [ "$(wc -l <err.txt)" -le 1 ] &&
        { [ -z "$err" ] || grep -qE -- "$err" err.txt; } || tell "$code" "$got" "$@"
}
# prints CODE STDOUT-REGEX STDERR-REGEX arguments...; an empty regex: nothing is said
prints() {
    local code=$1 out=$2 err=$3 got
    shift 3
    "$retort" "$@" >out.txt 2>err.txt
    got=$?
    [ $got = "$code" ] && matches "$out" out.txt && matches "$err" err.txt || tell "$code" "$got" "$@"
}
matches() { if [ -z "$1" ]; then [ ! -s "$2" ]; else grep -qE -- "$1" "$2"; fi; }
# tell WANTED GOT arguments...: what was said instead
tell() {
    fail "retort ${*:3}: exit $2, expected $1"
    sed 's/^/  stdout: /' out.txt | head -5
    sed 's/^/  stderr: /' err.txt | head -5
}

same() { diff -r "$1" "$2" >diff.txt 2>&1 || fail "${3:-bytes}: $1 and $2 differ: $(head -3 diff.txt)"; }
absent() { [ ! -e "$1" ] || fail "$1 was left behind"; }
