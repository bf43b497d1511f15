#!/bin/bash
# Runs fuzzers that `make fuzz` has built, each for so many seconds, some at once, and prints a line for each: executions,
# edges of the code reached, inputs kept. A fault's input is kept as OUT/faults/NAME-*, and the exit status is then 1.
#
#   test/fuzz/run.sh OUT SECONDS JOBS NAME...
set -u
OUT=$1
SECONDS_EACH=$2
JOBS=$3
shift 3
mkdir -p "$OUT/faults" "$OUT/log"
"$OUT/bin/make_corpus" "$OUT/seeds" || exit 1

one() {
    local name=$1 log=$OUT/log/$1.log start rc longest=4096
    start=$(date +%s)
    mkdir -p "$OUT/corpus/$name"
    [ "$name" = cifar ] && longest=256
    # Memory is filled by the fuzzers themselves; 2 GiB is more than any input of these sizes may ask for.
    UBSAN_OPTIONS=print_stacktrace=1 ASAN_OPTIONS=malloc_fill=0:max_malloc_fill_size=0:detect_odr_violation=0 \
        "$OUT/bin/$name" -max_total_time="$SECONDS_EACH" -max_len=$longest -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=1024 \
        -print_final_stats=1 -close_fd_mask=1 -use_value_profile=0 -artifact_prefix="$OUT/faults/$name-" \
        "$OUT/corpus/$name" "$OUT/seeds/$name" >"$log" 2>&1
    rc=$?
    awk -v name="$name" -v rc=$rc -v took=$(($(date +%s) - start)) '
        /stat::number_of_executed_units/ {n = $2}
        / cov: / {for (i = 1; i < NF; i++) {if ($i == "cov:") cov = $(i + 1); if ($i == "corp:") corpus = $(i + 1)}}
        END {printf "%-12s %10d executions in %d s, %5d edges, %s inputs kept%s\n", name, n, took, cov, corpus, rc ? ", A FAULT" : ""}' "$log"
    if [ $rc != 0 ]; then
        grep -aE 'runtime error|ERROR: |FAULT: |^    #[0-5] ' "$log" | head -n 12 | sed 's/^/    /'
        grep -aE 'Test unit written' "$log" | sed 's/^/    /'
    fi
    return $rc
}
export -f one
export OUT SECONDS_EACH
printf '%s\n' "$@" | xargs -P "$JOBS" -I{} bash -c 'one {}' || exit 1
