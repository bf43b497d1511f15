#!/bin/bash
# Everything a machine with a GPU can say about this project, in one run: builds, runs the tests on the GPU, compares
# the kernel variants, times training steps of each network in each precision, and PyTorch beside them where there is
# one. No network, no root; a part that fails is said to have failed, and the next one runs.
#
#   profiling/gpu_report.sh [--quick] [OUT]     OUT: default profiling/results/<gpu>-<date>
#   TARGET=vgpu                                 a dry run on virtual GPUs: its times are CPU times
#   LIMIT_S=540                                 no part is begun after so many seconds
set -u
cd "$(dirname "$0")/.." || exit 1
QUICK=
if [ "${1:-}" = --quick ]; then QUICK=1; shift; fi
TARGET=${TARGET:-cuda}
GPU=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n1 | tr -cs 'A-Za-z0-9\n' '-')
[ "$TARGET" = vgpu ] && GPU=virtual
if [ -z "$GPU" ]; then
    echo "gpu_report.sh: nvidia-smi shows no GPU: run it where there is one, or TARGET=vgpu for a dry run" >&2
    exit 1
fi
OUT=${1:-profiling/results/${GPU%-}-$(date +%Y-%m-%d)}
mkdir -p "$OUT" || exit 1
OUT=$(cd "$OUT" && pwd)
BIN=build/$TARGET/bin
END=$(($(date +%s) + ${LIMIT_S:-540}))
SUMMARY=$OUT/summary.md

NETS=(alexnet alexnet2012 owt) BATCHES=(128 256 1024) PRECISIONS=(fp32 tf32 bf16) STEPS=60
if [ -n "$QUICK" ]; then BATCHES=(256) PRECISIONS=(bf16) STEPS=30; fi
if [ "$TARGET" = vgpu ]; then NETS=(mini) BATCHES=(8) PRECISIONS=(fp32) STEPS=4; fi

{
    echo "# ${GPU%-}, $(date '+%Y-%m-%d %H:%M')"
    echo
    echo "commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), target $TARGET"
    nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit --format=csv 2>/dev/null
    [ "$TARGET" = vgpu ] && echo "A dry run on virtual GPUs: every time here is a CPU's."
    echo
} >"$SUMMARY"

# part NAME COMMAND...: its output in OUT/NAME.log, how it ended in the summary.
part() {
    local name=$1 start rc
    shift
    start=$(date +%s)
    if [ "$start" -ge "$END" ]; then
        echo "- $name: not run, no time left" >>"$SUMMARY"
        return 1
    fi
    echo "\$ $*" >"$OUT/$name.log"
    timeout $((END - start)) "$@" >>"$OUT/$name.log" 2>&1
    rc=$?
    if [ $rc = 0 ]; then
        echo "- $name: done in $(($(date +%s) - start)) s (\`$*\`)" >>"$SUMMARY"
    else
        echo "- $name: FAILED, exit $rc (\`$*\`): $(tail -n1 "$OUT/$name.log")" >>"$SUMMARY"
    fi
    return $rc
}

part build make TARGET="$TARGET" ARCHS="${ARCHS:-90}" -j"$(nproc)" programs "$BIN/unit"
part unit "$BIN/unit"
part compare "$BIN/compare" --json "$OUT/compare.json"

# One line a run: median time of the steps after the first ten (the first one of a dry run).
steps() {
    python3 - "$1" <<'END'
import json, statistics, sys
s = [j for j in map(json.loads, open(sys.argv[1])) if j["kind"] == "step"]
skip = 10 if len(s) > 20 else 1
d = [b["seconds"] - a["seconds"] for a, b in zip(s[skip:], s[skip + 1:])]
rate = statistics.median(d) if d else float("nan")
print(f"{rate * 1e3:.3f}")
END
}
{
    echo
    echo "| network | batch | precision | workers | ms a step | images/s |"
    echo "|---|---|---|---|---|---|"
} >"$OUT/steps.md"
RUN=$(mktemp -d)
trap 'rm -rf "$RUN"' EXIT
train() {  # NET BATCH PRECISION GPUS
    local workers name=step-$1-$2-$3-w${4//,/} ms
    workers=$(tr -cd , <<<"$4" | wc -c)
    workers=$((workers + 1))
    part "$name" "$BIN/train" --net "$1" --data synthetic --gpus "$4" --batch $(($2 / workers)) --precision "$3" --steps $STEPS --loader-threads $(($(nproc) / 2)) --out "$RUN/$name" || return
    ms=$(steps "$RUN/$name/metrics.jsonl")
    echo "| $1 | $2 | $3 | $workers | $ms | $(awk "BEGIN{printf \"%.0f\", $2 / $ms * 1000}") |" >>"$OUT/steps.md"
    echo "{\"net\":\"$1\",\"batch\":$2,\"precision\":\"$3\",\"workers\":$workers,\"ms\":$ms}" >>"$OUT/steps.jsonl"
    rm -rf "${RUN:?}/$name"
}
for net in "${NETS[@]}"; do
    for batch in "${BATCHES[@]}"; do
        for precision in "${PRECISIONS[@]}"; do
            train "$net" "$batch" "$precision" 0
        done
    done
    train "$net" "${BATCHES[0]}" "${PRECISIONS[-1]}" 0,0
    if python3 -c 'import torch' 2>/dev/null && [ "$TARGET" = cuda ]; then
        part "torch-$net" python3 profiling/peers/torch_alexnet.py --net "$net" --batch "${BATCHES[0]}" --steps $STEPS --json
    fi
done
python3 -c 'import torch' 2>/dev/null || echo "- PyTorch: not here, not measured" >>"$SUMMARY"
cat "$OUT/steps.md" >>"$SUMMARY"
rm "$OUT/steps.md"
cat "$SUMMARY"
! grep -q FAILED "$SUMMARY"
