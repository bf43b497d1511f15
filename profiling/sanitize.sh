#!/bin/bash
# The unit tests under compute-sanitizer: memcheck, racecheck, initcheck and synccheck, each with a log; a line of
# result each. Exits 1 when one found something.
#
#   profiling/sanitize.sh [TOOL...] [-- OPTIONS of the tests]       default: all four, all tests of kernels
#   profiling/sanitize.sh racecheck -- -tc="conv*"
#   OUT=DIR LIMIT_S=1800       where the logs go (default build/sanitize); seconds each tool may take
set -u
NAME=sanitize.sh
cd "$(dirname "$0")/.." || exit 1
source profiling/common.sh
help_if_asked "$@"

KNOWN=(memcheck racecheck initcheck synccheck)
TOOLS=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    [[ " ${KNOWN[*]} " == *" $1 "* ]] || fail "unknown tool '$1': must be one of ${KNOWN[*]}"
    TOOLS+=("$1")
    shift
done
[ "${1:-}" = -- ] && shift
[ ${#TOOLS[@]} -gt 0 ] || TOOLS=("${KNOWN[@]}")
# Not the tests of programs and of data: they start other processes, or use no GPU.
TESTS=("$@")
[ $# -gt 0 ] || TESTS=('-tce=train:*,compare:*,data*,loader*,checkpoint*')
SANITIZER=$(need compute-sanitizer "it comes with the CUDA toolkit (cuda-sanitizer)") || exit 1
[ -x build/cuda/bin/unit ] || fail "there is no build/cuda/bin/unit: run make TARGET=cuda build/cuda/bin/unit first (it needs nvcc)"

OUT=${OUT:-build/sanitize}
mkdir -p "$OUT" || exit 1
failed=0
for tool in "${TOOLS[@]}"; do
    start=$(date +%s)
    FLAGS=(--tool "$tool" --error-exitcode 9 --print-limit 20)
    [ "$tool" = memcheck ] && FLAGS+=(--leak-check full)
    timeout "${LIMIT_S:-1800}" "$SANITIZER" "${FLAGS[@]}" build/cuda/bin/unit "${TESTS[@]}" >"$OUT/$tool.log" 2>&1
    rc=$?
    found=$(grep -aoE 'ERROR SUMMARY: [0-9]+ errors?|RACECHECK SUMMARY: .*' "$OUT/$tool.log" | tail -n1)
    case $rc in
        0) echo "$tool: ok, $(($(date +%s) - start)) s" ;;
        124) echo "$tool: stopped after ${LIMIT_S:-1800} s: fewer tests? (-- -tc=...); see $OUT/$tool.log" ;;
        *) echo "$tool: FAILED, exit $rc: ${found:-see the log}; $OUT/$tool.log" ;;
    esac
    [ $rc = 0 ] || failed=1
done
exit $failed
