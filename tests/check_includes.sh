#!/bin/bash
# The arrows of the house, a table: which room may include which, and what a room shows to others. Also:
# includes are written from the root, and every header stands on its own.
set -u
. "$(dirname "$0")/check.sh"
scratch=$2
rm -rf "$scratch" && mkdir -p "$scratch"

# room | the rooms it may include beside itself | its headers that other rooms may include (all when empty)
rooms='core/base           |                                              |
core/formats        | core/base                                    |
core/device         | core/base                                    |
core/network        | core/base core/formats core/device           |
corpora             | core corpora                                 |
corpora/template    | core corpora                                 | template.h
corpora/tokenizer   | core corpora                                 | tokenizer.h
corpora/archive     | core corpora                                 | trace.h npz.h
corpora/verify      | core corpora                                 | verify.h
corpora/crossing    | core corpora                                 | crossing.h vocab_map.h
teacher             | core corpora                                 |
student             | core corpora                                 |
quant               | core corpora                                 |
distill             | core corpora student quant teacher           |'

# room PATH: the longest room whose folder holds it; a folder below a room (core/device/cpu) is part of it
room() {
    local folder=${1%/*}
    while [ -n "$folder" ]; do
        grep -q "^$folder *|" <<<"$rooms" && { echo "$folder"; return; }
        [ "$folder" = "${folder%/*}" ] && return
        folder=${folder%/*}
    done
}

violations() { # of the tree in the current directory, one a line
    local file line target from to may shows word fits
    grep -rnE --include='*.[ch]' --include='*.cu' --include='*.cuh' '^ *# *include +"' core corpora teacher student quant distill 2>/dev/null |
    sed -E 's/^([^:]*):([0-9]*):.*include +"([^"]*)".*/\1 \2 \3/' |
    while read -r file line target; do
        from=$(room "$file") to=$(room "$target")
        if [ ! -f "$target" ]; then
            echo "$file:$line: \"$target\" is not a path from the repository root"
        elif [ -z "$from" ] || [ -z "$to" ]; then
            echo "$file:$line: ${file%/*} or ${target%/*} is no room of the table"
        elif [ "$from" != "$to" ]; then
            IFS='|' read -r _ may _ < <(grep "^$from *|" <<<"$rooms")
            IFS='|' read -r _ _ shows < <(grep "^$to *|" <<<"$rooms")
            fits=
            for word in $may; do [[ $to/ == "$word"/* ]] && fits=yes; done
            if [ -z "$fits" ]; then
                echo "$file:$line: $from/ may not include \"$target\""
            elif [ -n "${shows// /}" ] && ! grep -qw -- "${target##*/}" <<<"$shows"; then
                echo "$file:$line: \"$target\" is private to $to/"
            fi
        fi
    done
}

# First the check itself: a tree with five mistakes and five good lines.
mkdir -p "$scratch/tree"/{core/base,core/device/cpu,core/network,corpora/archive,teacher,student}
(
    cd "$scratch/tree" || exit 1
    touch core/base/err.h core/network/model.h corpora/archive/trace.h corpora/archive/inside.h teacher/stream.h
    echo '#include "core/base/err.h"' >core/device/cpu/tensor.c
    echo '#include "core/network/model.h"' >>core/device/cpu/tensor.c
    echo '#include "corpora/archive/trace.h"' >core/network/model.c
    echo '#include "core/base/err.h"' >>core/network/model.c
    echo '#include "inside.h"' >corpora/archive/trace.c
    echo '#include "corpora/archive/inside.h"' >>corpora/archive/trace.c
    echo '  #  include "core/network/model.h"' >>corpora/archive/trace.c
    echo '#include "teacher/stream.h"' >student/init.c
    echo '#include "corpora/archive/trace.h"' >>student/init.c
    echo '#include "corpora/archive/inside.h"' >teacher/work.c
)
found=$(cd "$scratch/tree" && violations)
if [ "$(echo "$found" | cut -d: -f1 | sort | tr '\n' ' ')" != \
     "core/device/cpu/tensor.c core/network/model.c corpora/archive/trace.c student/init.c teacher/work.c " ]; then
    echo "the check does not find its own mistakes:"; echo "$found"; exit 1
fi

found=$(violations)
if [ -n "$found" ]; then echo "$found"; exit 1; fi

flags="-std=gnu11 -Wall -Wextra -Wpedantic -Werror -D_GNU_SOURCE -DRT_VERSION=\"0\" -I. -fsyntax-only"
# core/device/cpu/isa_*.h is kernel text that isa.c includes once for each instruction set: no header;
# core/device/cuda/ is C++.
for header in $(find core corpora teacher student quant distill -name '*.h' -not -name 'isa_*' \
                -not -path 'core/device/cuda/*' 2>/dev/null | sort); do
    # Twice: the guard works too.
    printf '#include "%s"\n#include "%s"\n' "$header" "$header" >"$scratch/alone.c"
    ${CC:-gcc} $flags "$scratch/alone.c" || { echo "$header does not stand alone"; failed=1; }
    case $header in
    core/base/base.h | core/base/rng.h | core/device/kernels/*) ;; # nvcc reads these: valid C++17 too
    *) continue ;;
    esac
    cp "$scratch/alone.c" "$scratch/alone.cc"
    command -v g++ >/dev/null && ! g++ -std=c++17 -Wall -Wextra -Werror -I. -fsyntax-only "$scratch/alone.cc" &&
        { echo "$header is not C++17"; failed=1; }
done
exit $failed
