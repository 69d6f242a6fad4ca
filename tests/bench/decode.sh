#!/bin/bash
# decode.sh MODEL.gguf [THREADS [TOKENS [PROMPT [ROUNDS]]]]: tokens a second of one stream, decoded and its prompt
# read, by retort (exact, int8) and by llama.cpp, which take turns for ROUNDS (7) rounds; medians, and medians of
# the ratios of a round. By the clock; with THREADS 1 (the default) by processor time, so that it may be run on a
# machine that others use. "of memory": what a decoded token reads, as a share of what the same threads read of a
# gigabyte, measured before (more than 100 %: the model is partly in cache). Needs build/bench_decode, and a python
# (PYTHON) with numpy and xllamacpp; the line of llama.cpp says for which instructions it was built: RETORT_ISA=avx2
# compares like with like. BUILD: another build folder.
set -eu
model=${1:?usage: decode.sh MODEL.gguf [THREADS [TOKENS [PROMPT [ROUNDS]]]]} threads=${2:-1}
tokens=${3:-32} prompt=${4:-256} rounds=${5:-7}
here=$(cd "$(dirname "$0")" && pwd)
bench=${BUILD:-$here/../../build}/bench_decode
first=$([ "$threads" = 1 ] && echo 3 || echo 1) # column of a round: of the clock, or of processor time

pipes=$(mktemp -d)
trap 'rm -rf "$pipes"' EXIT
# start NAME command...: a program that goes on by a round for each line of its input; says its first line
start() {
    local who=$1
    shift
    mkfifo "$pipes/$who.in" "$pipes/$who.out"
    "$@" <"$pipes/$who.in" >"$pipes/$who.out" &
    exec {to}>"$pipes/$who.in" {from}<"$pipes/$who.out"
    printf -v "${who}_in" %s "$to"
    printf -v "${who}_out" %s "$from"
    read -r first_line <&"$from"
}
start exact "$bench" "$model" exact "$threads" "$tokens" "$prompt"
read -r exact_mb exact_clock exact_own <<<"$first_line"
start int8 "$bench" "$model" int8 "$threads" "$tokens" "$prompt"
read -r int8_mb int8_clock int8_own <<<"$first_line"
start llama "${PYTHON:-python3}" "$here/llama.py" speed "$model" "$threads" "$tokens" "$prompt" "$rounds"
echo "llama.cpp: $first_line"

memory=$([ "$threads" = 1 ] && echo "$exact_own $int8_own" || echo "$exact_clock $int8_clock")
for round in $(seq "$rounds"); do
    for who in exact int8 llama; do
        in=${who}_in out=${who}_out
        echo go >&"${!in}"
        read -r line <&"${!out}"
        echo "$who $line"
    done
done | awk -v at="$first" -v memory="$memory" -v exact_mb="$exact_mb" -v int8_mb="$int8_mb" '
    function median(v, n,    i, j, t) {
        for (i = 2; i <= n; i++)
            for (j = i; j > 1 && v[j] < v[j - 1]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
        return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
    }
    function of(who, kind, by,    r, v) {
        for (r = 1; r <= n; r++)
            v[r] = rate[who, kind, r] / (by ? rate[by, kind, r] : 1)
        return median(v, n)
    }
    { n += $1 == "exact"; rate[$1, "decode", n] = $(1 + at); rate[$1, "read", n] = $(2 + at) }
    END {
        split(memory, m, " ")
        gb = (m[1] + m[2]) / 2
        printf "memory: %.1f GB/s\n%-10s %14s %10s %12s %14s %10s\n", gb, "", "decode tok/s", "llama.cpp", "of memory", "prompt tok/s", "llama.cpp"
        mb["exact"] = exact_mb; mb["int8"] = int8_mb
        for (i = split("exact int8 llama", who, " "); i > 0; i--) {
            w = who[4 - i]
            printf "%-10s %14.1f %9.2fx %12s %14.1f %9.2fx\n", w, of(w, "decode"), of(w, "decode", "llama"),
                w == "llama" ? "" : sprintf("%.0f %%", 100 * of(w, "decode") * mb[w] / 1000 / gb), of(w, "read"), of(w, "read", "llama")
        }
    }'
