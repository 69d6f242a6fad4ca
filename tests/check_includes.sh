#!/bin/bash
# The arrows of the house: which folder may include which, and inside core/ that the machine does not
# know the network. Also: includes are written from the root, and every header stands on its own.
set -u
scratch=$2
rm -rf "$scratch" && mkdir -p "$scratch"

allowed() { # folder -> folders it may include
    case $1 in
    core) echo core ;;
    corpora) echo core corpora ;;
    teacher) echo core corpora teacher ;;
    student) echo core corpora student ;;
    quant) echo core corpora quant ;;
    distill) echo core corpora student quant distill ;;
    esac
}
machine='^core/((base|err|memory|utf8|log|hash|path|file|json|option|suggest|section|help|manual|completion|process|rng|arena|tensor|decode|soft|ops)\.[ch]$|kernels/|cpu/|cuda/)'

violations() { # of the tree in the current directory, one a line
    for folder in core corpora teacher student quant distill; do
        [ -d $folder ] || continue
        grep -rn --include='*.[ch]' --include='*.cu' --include='*.cuh' -E '^ *# *include +"' $folder |
        while IFS=: read -r file line text; do
            target=$(echo "$text" | sed -E 's/.*include +"([^"]*)".*/\1/')
            top=${target%%/*}
            if [ ! -f "$target" ]; then
                echo "$file:$line: \"$target\" is not a path from the repository root"
            elif ! allowed $folder | grep -qw -- "$top"; then
                echo "$file:$line: $folder/ may not include \"$target\""
            elif [[ $file =~ $machine && ! $target =~ $machine ]]; then
                echo "$file:$line: the machine may not include \"$target\", the network"
            fi
        done
    done
}

# First the check itself: a tree with four mistakes and four good lines.
mkdir -p "$scratch/tree"/{core,corpora,teacher,student}
(
    cd "$scratch/tree" || exit 1
    touch core/err.h core/model.h corpora/trace.h teacher/stream.h
    echo '#include "core/err.h"' >core/tensor.c
    echo '#include "core/model.h"' >>core/tensor.c
    echo '#include "corpora/trace.h"' >core/model.c
    echo '#include "core/err.h"' >>core/model.c
    echo '#include "trace.h"' >corpora/trace.c
    echo '  #  include "core/model.h"' >>corpora/trace.c
    echo '#include "teacher/stream.h"' >student/init.c
    echo '#include "corpora/trace.h"' >>student/init.c
)
found=$(cd "$scratch/tree" && violations)
if [ "$(echo "$found" | cut -d: -f1 | sort | tr '\n' ' ')" != \
     "core/model.c core/tensor.c corpora/trace.c student/init.c " ]; then
    echo "the check does not find its own mistakes:"; echo "$found"; exit 1
fi

found=$(violations)
if [ -n "$found" ]; then echo "$found"; exit 1; fi

flags="-std=gnu11 -Wall -Wextra -Wpedantic -Werror -D_GNU_SOURCE -DRT_VERSION=\"0\" -I. -fsyntax-only"
failed=0
# core/cpu/isa_*.h is kernel text that isa.c includes once for each instruction set: no header.
for header in $(find core corpora teacher student quant distill -name '*.h' -not -name 'isa_*' \
                2>/dev/null | sort); do
    # Twice: the guard works too.
    printf '#include "%s"\n#include "%s"\n' "$header" "$header" >"$scratch/alone.c"
    ${CC:-gcc} $flags "$scratch/alone.c" || { echo "$header does not stand alone"; failed=1; }
    case $header in
    core/base.h | core/rng.h | core/kernels/*) ;; # nvcc reads these: valid C++17 too
    *) continue ;;
    esac
    cp "$scratch/alone.c" "$scratch/alone.cc"
    command -v g++ >/dev/null && ! g++ -std=c++17 -Wall -Wextra -Werror -I. -fsyntax-only "$scratch/alone.cc" &&
        { echo "$header is not C++17"; failed=1; }
done
exit $failed
