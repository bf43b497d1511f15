#!/bin/bash
# bin/scaling against steps that were measured here: per-layer times by bin/compare, the step of one worker and of two by
# bin/train --timeline, and how far off the model is. On virtual GPUs all of it is virtual time, on one core (a kernel at
# a time, CPU time), so that it can be trusted on a machine that does other things too: what two such devices would take.
#
#   profiling/scaling_check.sh [NET:BATCH...]      default: mini:32 cifar:32 alexnet:8
#   SCHEMES="a" ROUNDS=5 WORKERS="1 2"             so many turns of all of it; medians count
#   MACHINE=virtual                                or h200, on GPUs: then LINK=GB/s and LATENCY=us replace its own
#   KEEP=DIR                                       keeps times, timelines and traces there
set -u
cd "$(dirname "$0")/.." || exit 1
NAME=scaling_check.sh
source profiling/common.sh
help_if_asked "$@"
SCHEMES=${SCHEMES:-a} ROUNDS=${ROUNDS:-5} WORKERS=${WORKERS:-1 2} MACHINE=${MACHINE:-virtual} BIN=${BIN:-bin}
CASES=("$@")
[ $# -gt 0 ] || CASES=(mini:32 cifar:32 alexnet:8)
for p in compare train scaling; do [ -x "$BIN/$p" ] || fail "there is no $BIN/$p: run make first"; done
[ "$MACHINE" = virtual ] && export VGPU_THREADS=1 OMP_NUM_THREADS=1

WORK=${KEEP:-$(mktemp -d)}
mkdir -p "$WORK" || exit 1
[ -n "${KEEP:-}" ] || trap 'rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM

# step NET BATCH WORKERS SCHEME: milliseconds of step 3; leaves its timeline.
step() {
    local gpus=0 i at="$WORK/$1-$2-$3-$4"
    for ((i = 1; i < $3; i++)); do gpus+=,$i; done
    rm -rf "$WORK/run"
    "$BIN/train" --net "$1" --data synthetic --batch "$2" --gpus "$gpus" --fc-scheme "$4" --fc-update accumulate --steps 3 --out "$WORK/run" \
        --timeline "$at.svg" >"$WORK/train.log" 2>&1 || fail "bin/train failed: $(tail -n1 "$WORK/train.log")"
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["otherData"]["step_ms"])' "$at.json"
}

for case in "${CASES[@]}"; do
    net=${case%%:*} batch=${case#*:}
    [[ $batch =~ ^[0-9]+$ ]] || fail "$case: must be NET:BATCH, as in mini:32"
    rm -f "$WORK/$net-$batch"-*
    for ((round = 1; round <= ROUNDS; round++)); do
        echo "$net, batch $batch, turn $round of $ROUNDS: bin/compare" >&2
        "$BIN/compare" --net "$net" --batch "$batch" --variants auto --json "$WORK/$net-$batch-times-$round.json" >"$WORK/compare.log" 2>&1 ||
            fail "bin/compare failed: $(tail -n1 "$WORK/compare.log")"
        for scheme in $SCHEMES; do
            for workers in $WORKERS; do
                echo "$net, batch $batch, turn $round of $ROUNDS: $workers workers, scheme $scheme" >&2
                step "$net" "$batch" "$workers" "$scheme" >>"$WORK/$net-$batch-$workers-$scheme.ms" || exit 1
            done
        done
    done
    python3 - "$WORK/$net-$batch-times.json" "$WORK/$net-$batch-times-"*.json <<'END'
import json, statistics, sys
runs = [json.load(open(path)) for path in sys.argv[2:]]
def medians(values):  # of the same place in every run
    first = values[0]
    if isinstance(first, dict):
        return {k: medians([v[k] for v in values]) for k in first if all(k in v for v in values)}
    if isinstance(first, list):
        return [medians(list(v)) for v in zip(*values)]
    number = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    return statistics.median(values) if number else first
json.dump(medians(runs), open(sys.argv[1], "w"), indent=1)
END
    for scheme in $SCHEMES; do
        for workers in $WORKERS; do
            median=$(python3 -c 'import statistics, sys; print(statistics.median(float(x) for x in open(sys.argv[1])) / 1e3)' \
                "$WORK/$net-$batch-$workers-$scheme.ms")
            "$BIN/scaling" --net "$net" --batch "$batch" --machine "$MACHINE" --times "$WORK/$net-$batch-times.json" --workers "$workers" \
                --scheme "$scheme" --measured "$median" ${LINK:+--link "$LINK"} ${LATENCY:+--latency "$LATENCY"} || exit 1
        done
    done
done
