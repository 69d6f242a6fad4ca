#!/bin/bash
# `retort archive` as a user meets it, and the archive as others meet it: unzip, libarchive and numpy.
set -u
. "$(dirname "$0")/check.sh"
retort=$1
scratch=$2
root=$PWD
maker=$(dirname "$retort")/test_trace
rm -rf "$scratch" && mkdir -p "$scratch" && cd "$scratch" || exit 1

# expect CODE STDOUT-REGEX STDERR-REGEX arguments...; an empty regex means "nothing at all".
expect() { prints "$1" "$2" "$3" archive "${@:4}"; }

export CK_FORK=no CK_VERBOSITY=silent
"$maker" make a.traces 23 && "$maker" make b.traces 6 open || exit 1

expect 0 '^a.traces: 23 of 23 samples, complete, sampled by tiny/teacher$' '' list a.traces
expect 0 '^./b.traces: 6 of 6 samples, unfinished' '' list .
expect 0 '"samples":23' '' list a.traces --json
expect 0 '"vocab_size": 1000' '' show a.traces
expect 0 '^p3/1  \(plan index 7, prompt p3\)$' '' show a.traces p3/1
expect 0 '^verdict unfinished, reward 0.7, finish stop, seed 9223372036854775815$' '' show a.traces p3/1
expect 0 '"soft":\[\{"head":' '' show a.traces p3/1 --json
expect 1 '' 'no sample p99/0' show a.traces p99/0
expect 0 '^[a-d].traces: whole$' '' verify a.traces b.traces
expect 0 '^bytes_per_position +[0-9.]+$' '' stats a.traces
expect 0 '"verdicts":\{"unverified":6,"correct":6,"wrong":6,"unfinished":5\}' '' stats a.traces --json
expect 0 '"id":"p0/1".*"messages":\[\{"role":"user","content":"1 \+ ' '' export a.traces --verdict correct
[ "$(wc -l <out.txt)" = 6 ] || fail "export --verdict correct: $(wc -l <out.txt) lines"
expect 2 '' 'is none of correct' export a.traces --verdict good
expect 0 '' '' export a.traces --soft --out soft.jsonl
expect 2 '' 'a verb is needed'
expect 2 '' 'did you mean verify' verfy a.traces
expect 2 '' 'name an archive' verify
expect 1 '' 'No such file or directory: a directory NAME.traces' stats nothing.traces
expect 1 '' 'No such file or directory: a directory NAME.traces' verify nothing.traces
expect 2 '' 'with --out' merge a.traces
expect 0 '' '' merge a.traces --out c.traces
for file in manifest.json shard-00000.npz shard-00005.npz journal; do
    cmp a.traces/$file c.traces/$file || fail "merging one whole archive changed $file"
done
expect 0 '' 'not every input was finished' merge b.traces --out d.traces
expect 0 '^[a-d].traces: whole$' '' verify d.traces

# damage: reported with the place, repaired, told by id
size=$(stat -c %s c.traces/shard-00001.npz)
at=$(grep -abo '"p3/1"' c.traces/shard-00001.npz | head -1 | cut -d: -f1)
printf 'X' | dd of=c.traces/shard-00001.npz bs=1 seek=$((at + 1)) conv=notrunc status=none
expect 1 '^c.traces: shard-00001.npz: samples.jsonl \(bytes [0-9]+ to [0-9]+\) does not match' '1 problems|[0-9]+ problems' verify c.traces
expect 1 '"id":"p3/1"' 'problems' verify c.traces --json
expect 0 '^p3/1$' '1 samples lost' repair c.traces
expect 0 '^[a-d].traces: whole$' '' verify c.traces
expect 0 '"samples":22' '' list c.traces --json
[ "$(stat -c %s c.traces.damaged/shard-00001.npz)" = "$size" ] || fail "the damaged archive is gone"

# others read it
for shard in a.traces/shard-*.npz; do
    if command -v unzip >/dev/null; then
        unzip -tqq "$shard" >unzip.txt || fail "unzip -t $shard: $(head -1 unzip.txt)"
    fi
    if command -v bsdtar >/dev/null; then
        bsdtar -tf "$shard" >/dev/null || fail "bsdtar $shard"
    fi
done
if python3 -c 'import numpy' 2>/dev/null; then
    python3 "$root/tests/read_traces.py" --against soft.jsonl a.traces/shard-*.npz || fail "numpy reads other values"
else
    echo "check_archive: numpy is not installed, its part is skipped"
fi
exit $failed
