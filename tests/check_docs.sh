#!/bin/bash
# The documents as a reader uses them: the sh blocks of README.md and of every page of docs/ are run as
# they are written, each page in a folder of its own that has examples/ and build/ of this tree; every
# command must succeed. Links between the pages lead somewhere. A retort line that is not run is one in
# another fence (console: a transcript) or an indented block. PAGES="docs/a.md" runs only those.
set -u
. "$(dirname "$0")/check.sh"
retort=$1
scratch=$2
root=$PWD
build=$(cd "$(dirname "$retort")" && pwd)
rm -rf "$scratch" && mkdir -p "$scratch" && scratch=$(cd "$scratch" && pwd)

# the blocks, each followed by its line number for the report
blocks() { awk -v page="$1" '/^```sh$/ { on = 1; printf "at=%s:%d\n", page, NR; next } /^```/ { on = 0 } on' "$1"; }

run_page() {
    local page=$1 name=${1//\//_} begun=$SECONDS
    mkdir -p "$scratch/$name" && ln -s "$root/examples" "$scratch/$name/examples" && ln -s "$build" "$scratch/$name/build"
    blocks "$page" >"$scratch/$name.sh"
    [ -s "$scratch/$name.sh" ] || return 0
    (
        cd "$scratch/$name" || exit 1
        export PATH="$build:$PATH"
        bash -c 'set -euo pipefail; trap "echo stopped in the block at \$at" ERR; . "$1"' - "$scratch/$name.sh"
    ) >"$scratch/$name.log" 2>&1 </dev/null || { fail "$page"; tail -n 5 "$scratch/$name.log"; }
    [ "$(find "$scratch/$name" -name core)" ] && fail "$page: a core"
    echo "$page: $((SECONDS - begun)) s"
}

for page in ${PAGES:-README.md docs/*.md}; do
    run_page "$page"
    for link in $(grep -oE '\]\([^)#]+' "$page" | cut -c3- | grep -v '://'); do
        [ -e "$(dirname "$page")/$link" ] || fail "$page: $link is not there"
    done
done

# a note follows the answer on a line of its own, also where both go to one place
"$retort" generate --model examples/reasoning/teacher --prompt 'Jon has 83 cards.' --max-tokens 4 >"$scratch/both.txt" 2>&1
tail -n 1 "$scratch/both.txt" | grep -q '^4 tokens, .*cut at --max-tokens' || fail "generate: $(tail -n 1 "$scratch/both.txt")"

# the check itself: a command that fails is noticed
printf '```sh\ntrue\nretort eval --no-such-flag\ntrue\n```\n' >"$scratch/bad.md"
blocks "$scratch/bad.md" >"$scratch/bad.sh"
(PATH="$build:$PATH"; bash -c 'set -euo pipefail; . "$1"' - "$scratch/bad.sh") >/dev/null 2>&1 && fail "a failing block passes"
exit $failed
