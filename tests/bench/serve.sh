#!/bin/bash
# tests/bench/serve.sh RETORT MODEL [ROUNDS [TOKENS [more of serve's options]]]: tokens a second of 1, 4 and 16 streams
# at once. Every round measures all three, one after the other, so that what else the machine does falls on each; the
# median of a round's ratios to its one stream is told beside the median rates. Needs curl.
set -eu
retort=$1 model=$2 rounds=${3:-5} tokens=${4:-64}
shift $(($# < 4 ? $# : 4))
dir=$(mktemp -d)
"$retort" -q serve --model "$model" --port 0 "$@" >"$dir/url" &
server=$!
trap 'kill $server; wait $server || true; rm -rf "$dir"' EXIT
for _ in $(seq 600); do [ -s "$dir/url" ] && break; sleep 0.1; done
url=$(cat "$dir/url")

streams() { # N -> tokens a second
    local begun=$EPOCHREALTIME i all=
    for i in $(seq "$1"); do
        curl -sSN "$url/v1/chat/completions" -d '{"messages": [{"role": "user", "content": "Tell a long story of a ship."}],
            "seed": '"$i"', "max_tokens": '"$tokens"', "stream": true, "stream_options": {"include_usage": true}}' >"$dir/$i" &
        all="$all $!"
    done
    wait $all
    cat "$dir"/[0-9]* | grep -o '"completion_tokens":[0-9]*' | cut -d: -f2 |
        awk -v begun="$begun" -v ended="$EPOCHREALTIME" '{ n += $1 } END { printf "%.1f\n", n / (ended - begun) }'
    rm -f "$dir"/[0-9]*
}

streams 1 >/dev/null # the weights are in memory now
for round in $(seq "$rounds"); do
    echo "$(streams 1) $(streams 4) $(streams 16)"
done | awk '{ one[NR] = $1; four[NR] = $2; many[NR] = $3; r4[NR] = $2 / $1; r16[NR] = $3 / $1 }
    function median(a, n,   i, j, t) {
        for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (a[j] < a[i]) { t = a[i]; a[i] = a[j]; a[j] = t }
        return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
    }
    END {
        print "streams    tok/s    to one stream"
        printf "%7d %8.1f %16.2f\n", 1, median(one, NR), 1
        printf "%7d %8.1f %16.2f\n", 4, median(four, NR), median(r4, NR)
        printf "%7d %8.1f %16.2f\n", 16, median(many, NR), median(r16, NR)
    }'
