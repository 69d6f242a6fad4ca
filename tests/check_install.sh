#!/bin/bash
# cmake --install into a folder with a space: the program, the manual page (whole, by groff where it is
# there), and completion that a bash really completes by; zsh and fish read theirs where they are there.
set -u
. "$(dirname "$0")/check.sh"
retort=$1
scratch=$2
build=$(cd "$(dirname "$retort")" && pwd)
rm -rf "$scratch" && mkdir -p "$scratch" && cd "$scratch" || exit 1

to="$PWD/a prefix"
cmake --install "$build" --prefix "$to" >install.txt 2>&1 || { fail "cmake --install: $(tail -1 install.txt)"; exit 1; }
page="$to/share/man/man1/retort.1"
bash="$to/share/bash-completion/completions/retort"
[ "$("$to/bin/retort" --version)" = "$("$retort" --version)" ] || fail "the program does not run from there"
[ -s "$to/share/doc/retort/README.md" ] || fail "no documents"

# every command and every flag stands in the page
tr -d '\\' <"$page" >page.txt
commands=$("$retort" help | sed -n 's/^  \([a-z]*\)  .*/\1/p' | grep -v '^help$')
for command in $commands; do
    grep -q "^.SS $command$" page.txt || fail "the manual has no $command"
    for flag in $("$retort" help "$command" | sed -nE 's/^  (--[][a-z0-9-]+).*/\1/p'); do
        sed -n "/^.SS $command$/,/^.S[SH] /p" page.txt | grep -qF -- "fB$flag" || fail "the manual has no $command $flag"
    done
done
[ "$(grep -c '^\.TH ' "$page")" = 1 ] && grep -q '^\.SH NAME' "$page" || fail "no manual page: $(head -2 "$page")"
grep -nE "^[.'][^A-Zf\\\\n]" "$page" | grep -vxF '3:.ad l' && fail "a line of the manual begins as a request does"
if command -v groff >/dev/null; then
    groff -man -ww -Tascii "$page" >page.ascii 2>groff.txt || fail "groff: $(head -1 groff.txt)"
    [ -s groff.txt ] && fail "groff: $(head -1 groff.txt)"
fi

# bash: type WORD... (the last one is being typed) and see what it offers
. "$bash" || fail "bash does not read its completion"
offers() { # WANTED WORD...
    local want=$1
    shift
    COMP_WORDS=(retort "$@")
    COMP_CWORD=$#
    _retort
    got=" ${COMPREPLY[*]} "
    [[ $got == *" $want "* ]] || fail "retort $*: offers${got}and not $want"
}
mkdir models && touch models/a.gguf 'models/two words.gguf' top.json
offers quantize qu
offers --version --v
offers train ''
offers --learning-rate train --lea
offers --quiet eval -
offers renorm train --loss re
offers Q4_K_M quantize --type Q4_K
offers Q4_K_M quantize --type = Q4_K
offers models quantize --model mod
offers models/a.gguf generate --model models/a
offers 'models/two words.gguf' generate --model models/tw
offers top.json run to
offers top.json train --out x --config top
offers train help tr
offers verify archive ver
offers --json archive --j
offers top.json archive show top
COMP_WORDS=(retort archive '') COMP_CWORD=2 && _retort && [[ " ${COMPREPLY[*]} " == *top.json* ]] && fail "archive offers a file for a verb"
offers models train --out mo
COMP_WORDS=(retort train --out '') COMP_CWORD=3 && _retort && [[ " ${COMPREPLY[*]} " == *top.json* ]] && fail "--out DIR offers a file"
COMP_WORDS=(retort train --steps '') COMP_CWORD=3 && _retort && [ ${#COMPREPLY[@]} = 0 ] || fail "--steps offers ${COMPREPLY[*]}"
# all commands, all flags
for command in $commands; do
    offers "$command" "$command"
    for flag in $("$retort" help "$command" | sed -nE 's/^  (--[a-z0-9-]+).*/\1/p'); do offers "$flag" "$command" "$flag"; done
done

if command -v zsh >/dev/null; then
    zsh -n "$to/share/zsh/site-functions/_retort" || fail "zsh does not read its completion"
fi
if command -v fish >/dev/null; then
    fish --no-execute "$to/share/fish/vendor_completions.d/retort.fish" || fail "fish does not read its completion"
    got=$(cd models && fish --no-config -c "source '$to/share/fish/vendor_completions.d/retort.fish'; complete -C 'retort quantize --type Q4_K_'")
    [[ $got == *Q4_K_M* ]] || fail "fish offers: $got"
fi
"$retort" help --completion csh 2>err.txt; [ $? = 2 ] && grep -q 'bash|zsh|fish' err.txt || fail "csh: $(cat err.txt)"
"$retort" help --completion 2>err.txt; [ $? = 2 ] || fail "no shell: $(cat err.txt)"
exit $failed
