#!/bin/bash
# Where a training step goes, by Nsight Systems: some steps of bin/train are traced and summed up by layer and pass,
# with the gaps between kernels (profiling/step_summary.py). Keeps the report for the viewer.
#
#   profiling/nsys.sh [FLAGS of bin/train: --net alexnet --batch 256 --precision bf16 --gpus 0]
#   STEPS=30 WARMUP=10 OUT=DIR      steps in all, those left out of the summary; default OUT: build/nsys
set -u
NAME=nsys.sh
cd "$(dirname "$0")/.." || exit 1
source profiling/common.sh
help_if_asked "$@"

STEPS=${STEPS:-30} WARMUP=${WARMUP:-10}
[[ $STEPS =~ ^[0-9]+$ && $WARMUP =~ ^[0-9]+$ && $STEPS -gt $((WARMUP + 2)) ]] || fail "STEPS=$STEPS WARMUP=$WARMUP: must be numbers, STEPS more than WARMUP + 2"
FLAGS=("$@")
[ $# -gt 0 ] || FLAGS=(--net alexnet --batch 256 --precision bf16 --gpus 0)
NSYS=$(need nsys "install Nsight Systems (cuda-nsight-systems, or developer.nvidia.com/nsight-systems)") || exit 1
TRAIN=$(program train) || exit 1

OUT=${OUT:-build/nsys}
mkdir -p "$OUT" || exit 1
REPORT=$OUT/step
COMMAND=("$NSYS" profile --trace cuda,nvtx --cuda-graph-trace node --sample none --cpuctxsw none --force-overwrite true --output "$REPORT"
    "$TRAIN" --data synthetic:1000:1000000 --steps "$STEPS" --out "$OUT/run" --overwrite "${FLAGS[@]}")
echo "\$ ${COMMAND[*]}"
"${COMMAND[@]}" >"$REPORT.log" 2>&1 || { tail -n 5 "$REPORT.log" >&2; fail "the traced run failed: see $REPORT.log"; }
rm -rf "$OUT/run"
"$NSYS" stats --force-export true --report nvtx_gpu_proj_sum,cuda_gpu_kern_sum --format table --output "$REPORT" "$REPORT.nsys-rep" >>"$REPORT.log" 2>&1 ||
    echo "nsys stats failed: see $REPORT.log" >&2
"$NSYS" export --type sqlite --force-overwrite true --output "$REPORT.sqlite" "$REPORT.nsys-rep" >>"$REPORT.log" 2>&1 || fail "nsys export failed: see $REPORT.log"
python3 profiling/step_summary.py --skip "$WARMUP" "$REPORT.sqlite"
echo "report: $REPORT.nsys-rep (nsys-ui opens it); sums over all steps: ${REPORT}_*.txt"
