#!/bin/bash
# Where an operation of kernels/ is named outside its folder and test/: what adding another like it would touch. Lines
# next to each other (at most 3 apart) are one place, and so is host/bench/ops/OP.cpp. Fusions with other operations
# count too.
#
#   profiling/places.sh OP [COMMIT]
#   profiling/places.sh lrn
#
# COMMIT is HEAD unless given. Looked for are the names in kernels/OP/problem.h (problems, arguments, tables), that folder,
# and the kind of layer.
set -u
NAME=places.sh
cd "$(dirname "$0")/.." || exit 1
source profiling/common.sh
help_if_asked "$@"

[ $# -ge 1 ] || fail "which operation? A folder of kernels/: profiling/places.sh lrn, for one"
OP=$1 AT=${2:-HEAD}
TEXT=$(git show "$AT:kernels/$OP/problem.h" 2>/dev/null) ||
    fail "no kernels/$OP/problem.h at $AT: which operation? lrn, for one"
TYPES=$(grep -oE '\b[A-Z]\w+(Problem|Args)\b|\b\w+_variants\b' <<<"$TEXT" | sort -u | paste -sd'|')
git grep -nE "\b($TYPES|LayerKind::$OP|kernels/$OP/)|LayerKind \{.*\b$OP\b" "$AT" -- '*.h' '*.cpp' '*.cu' \
    ":!kernels/$OP" ':!test' |
    awk -F: -v op="$OP" '
        { file = $2; whole = file == "host/bench/ops/" op ".cpp" }
        file != last || (!whole && $3 > line + 3) { places[file]++; all++; lines[file] = lines[file] " " $3 }
        { last = file; line = $3 }
        END {
            for (f in places) { printf "%2d  %s:%s\n", places[f], f, lines[f] | "sort -k2"; files++ }
            close("sort -k2")
            printf "%d places in %d files\n", all, files
        }'
