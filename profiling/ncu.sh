#!/bin/bash
# One kernel under Nsight Compute: the one that a layer's pass runs, once, after warm-up, and nothing else. Prints the
# roofline, memory and warp-state sections and keeps the report for the viewer.
#
#   profiling/ncu.sh LAYER.PASS[=VARIANT] [FLAGS of bin/compare: --net owt --batch 256 --precision bf16]
#   profiling/ncu.sh conv2.wgrad=tiled --precision bf16
#   OUT=DIR       where the report goes         default: build/ncu
#
# Without VARIANT it is the one that training takes. The clocks are left as they are (--clock-control none), so the
# times are those of bin/compare.
set -u
NAME=ncu.sh
cd "$(dirname "$0")/.." || exit 1
source profiling/common.sh
help_if_asked "$@"

[ $# -ge 1 ] && [ "${1#-}" = "$1" ] || fail "which kernel? LAYER.PASS[=VARIANT], conv2.wgrad=tiled for one"
PASS=${1%%=*} VARIANT=
[[ $1 == *=* ]] && VARIANT=${1#*=}
shift
[[ $PASS == *.* ]] || fail "$PASS: must be LAYER.PASS (conv2.wgrad, norm1.forward, update.sgd)"
CHOICE=(--layer "$PASS" ${VARIANT:+--variants "$VARIANT"} "$@")

# bin/compare knows the names, of either target.
for list in build/cuda/bin/compare build/vgpu/bin/compare; do
    [ -x $list ] || continue
    WHY=$($list --list "${CHOICE[@]}" 2>&1 >/dev/null) && break
    case $WHY in *"there are 0"*) continue ;; esac  # no GPU here
    WHY=${WHY#compare: }
    fail "${WHY#--variants: }"
done
NCU=$(need ncu "it comes with the CUDA toolkit (cuda-nsight-compute) or from developer.nvidia.com/nsight-compute") || exit 1
COMPARE=$(program compare) || exit 1

OUT=${OUT:-build/ncu}
mkdir -p "$OUT" || exit 1
REPORT=$OUT/$PASS${VARIANT:+=$VARIANT}
SECTIONS=()
for s in SpeedOfLight SpeedOfLight_RooflineChart ComputeWorkloadAnalysis MemoryWorkloadAnalysis MemoryWorkloadAnalysis_Tables \
    SchedulerStats WarpStateStats LaunchStats Occupancy; do
    SECTIONS+=(--section "$s")
done
COMMAND=("$NCU" --profile-from-start off --clock-control none "${SECTIONS[@]}" --force-overwrite --export "$REPORT" "$COMPARE" --profile "${CHOICE[@]}")
echo "\$ ${COMMAND[*]}"
"${COMMAND[@]}" >"$REPORT.log" 2>&1 || { tail -n 20 "$REPORT.log" >&2; grep -q ERR_NVGPUCTRPERM "$REPORT.log" &&
    fail "this user may not read the GPU's counters: run as root, or see developer.nvidia.com/ERR_NVGPUCTRPERM"; fail "ncu failed: see $REPORT.log"; }
"$NCU" --import "$REPORT.ncu-rep" --page details
echo "report: $REPORT.ncu-rep (ncu-ui opens it)"
