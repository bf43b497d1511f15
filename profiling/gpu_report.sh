#!/bin/bash
# Everything a machine with a GPU can say about this project, in one run of less than 9 minutes on 16 cores: builds, runs
# the tests on the GPU (the semantics of PTX instructions first), compares the kernel variants, times training steps of
# each network, batch and precision, and two workers on one GPU, takes turns with PyTorch where there is one, and puts
# the most expensive kernels under Nsight Compute where that is. No network, no root; a part that fails is said to have
# failed, and the next one runs. Each part has its own share of the time.
#
#   profiling/gpu_report.sh [--quick | --dry] [DIR]     DIR: default profiling/results/<gpu>-<date>
#       --quick     less than 3 minutes
#       --dry       a tiny run on virtual GPUs, in less than a minute: proves the script; its times are a CPU's
#   LIMIT_S=520     seconds in all
#   OUT=DIR2        the files are copied there too, as they come
#   PYTHON=python3  one that may have torch
#   COMMIT=...      what the tree is, where it was copied without .git
#
# DIR gets summary.md, steps.json, compare.json, compare.html, timeline-*.svg and logs.tar.gz; it is usable whenever the run is stopped.
set -u
NAME=gpu_report.sh
cd "$(dirname "$0")/.." || exit 1
source profiling/common.sh
help_if_asked "$@"

MODE=full
case ${1:-} in
    --quick | --dry) MODE=${1#--}; shift ;;
    -*) fail "unknown flag $1: must be --quick or --dry" ;;
esac
TARGET=${TARGET:-cuda}
[ $MODE = dry ] && TARGET=vgpu
PYTHON=${PYTHON:-python3}
command -v "$PYTHON" >/dev/null || fail "there is no $PYTHON: install python3, or set PYTHON"
GPU=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n1)
[ $TARGET = vgpu ] && GPU="virtual GPU"
[ -n "$GPU" ] || fail "nvidia-smi shows no GPU: run it where there is one, or with --dry on virtual GPUs"
SLUG=$(tr -cs 'A-Za-z0-9\n' '-' <<<"$GPU" | tr 'A-Z' 'a-z')
DIR=${1:-profiling/results/${SLUG%-}-$(date +%Y-%m-%d)}
[ -z "${1:-}" ] && [ -e "$DIR" ] && DIR=$DIR-$(date +%H%M)  # one of today's is there
if [ $TARGET = vgpu ]; then
    DIR=${1:-build/report-dry}
    rm -rf build/report-dry
fi
COPY=${OUT:-}
mkdir -p "$DIR/logs" ${COPY:+"$COPY"} || exit 1
DIR=$(cd "$DIR" && pwd)
BIN=build/$TARGET/bin
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

LIMIT_S=${LIMIT_S:-$([ $MODE = full ] && echo 520 || echo 170)}
START=$(date +%s)
left() { echo $((START + LIMIT_S - $(date +%s))); }

# What is run. The precision that matters first.
NETS=(alexnet owt alexnet2012) BATCHES=(256 128 1024) PRECISIONS=(bf16 tf32 fp32) STEPS=50 SKIP=12 SAMPLING=(--seconds 0.08)
case $MODE in
    quick) NETS=(alexnet owt) BATCHES=(256) PRECISIONS=(bf16) SAMPLING=(--seconds 0.03) ;;
    dry) NETS=(mini) BATCHES=(8) PRECISIONS=(fp32) STEPS=4 SKIP=1 SAMPLING=(--seconds 0 --layer fc7) ;;
esac

# ---- bookkeeping ------------------------------------------------------------------------------------------
# What compiles this target: virtual GPUs know no nvcc.
compiler() {
    local cxx=${CXX:-g++} nvcc
    [ $TARGET = vgpu ] || nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
    [ -z "${nvcc:-}" ] || printf 'nvcc %s; ' "$("$nvcc" --version | sed -n 's/.*release //p')"
    echo "$cxx $("$cxx" -dumpfullversion -dumpversion 2>/dev/null)"
}
query() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | head -n1; }
"$PYTHON" - "$DIR/machine.json" <<END || fail "cannot write $DIR/machine.json"
import json, sys
about = {"gpu": """$GPU""", "date": "$(date '+%Y-%m-%d %H:%M')", "virtual": $([ $TARGET = vgpu ] && echo True || echo False), "mode": "$MODE",
         "commit": """${COMMIT:-$(git rev-parse --short HEAD 2>/dev/null || echo unknown)}$([ -z "$(git status --porcelain 2>/dev/null)" ] || echo ' and changes')""",
         "processor": """$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n1), $(nproc) cores""",
         "driver": """$(query driver_version)""", "clocks": """$(query clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem) (SM, memory now; at most)""",
         "power": """$(query power.draw,power.limit) (now, limit)""", "compiler": """$(compiler)"""}
json.dump({k: v for k, v in about.items() if v not in ("", " (SM, memory now; at most)", " (now, limit)")}, open(sys.argv[1], "w"), indent=1)
END

# Writes the files from what is there so far.
files() {
    local file
    "$PYTHON" profiling/report.py write "$DIR" || return
    if [ -n "$COPY" ]; then
        cp "$DIR"/{summary.md,steps.json,compare.json} "$COPY"/
        for file in "$DIR"/compare.html "$DIR"/timeline-*.svg; do
            [ ! -f "$file" ] || cp "$file" "$COPY"/
        done
    fi
}

# note NAME STATUS SECONDS END COMMAND...: a line of parts.jsonl.
note() {
    "$PYTHON" -c 'import json, sys; a = sys.argv[1:]
print(json.dumps({"name": a[0], "status": a[1], "seconds": int(a[2]), "end": a[3][-300:], "command": " ".join(a[4:])}))' "$@" >>"$DIR/parts.jsonl"
    echo "$1: $2, $3 s${4:+: $4}"
}

# part NAME SECONDS COMMAND...: within so many seconds, its output in logs/NAME.log.
part() {
    local name=$1 limit=$2 log=$DIR/logs/$1.log start rc status=done
    shift 2
    [ "$(left)" -lt "$limit" ] && limit=$(left)
    if [ "$limit" -lt 3 ]; then
        note "$name" "not run" 0 "no time left" "$@"
        return 1
    fi
    start=$(date +%s)
    echo "\$ $*" >"$log"
    timeout --kill-after=5 "$limit" "$@" >>"$log" 2>&1
    rc=$?
    case $rc in
        0) ;;
        124 | 137) status="stopped after its $limit s" ;;
        *) status="FAILED, exit $rc" ;;
    esac
    note "$name" "$status" $(($(date +%s) - start)) "$([ $rc = 0 ] || tail -n1 "$log")" "$@"
    return $rc
}

# train NET BATCH PRECISION GPUS WHO SECONDS [NAME]: times steps, with FLAGS too; one object in steps.jsonl.
FLAGS=()
train() {
    local net=$1 batch=$2 precision=$3 gpus=$4 who=$5 workers run name
    workers=$(($(tr -cd , <<<"$gpus" | wc -c) + 1))
    name=step-$net-$batch-$precision-w$workers${7:+-$7}
    run=$WORK/$name
    local steps=$STEPS
    [ "$batch" -ge 1024 ] && steps=$((SKIP + 20))
    # So many images that no epoch ends, with its evaluation and checkpoint, while steps are timed.
    local command=("$BIN/train" --net "$net" --data synthetic:1000:1000000 --gpus "$gpus" --batch $((batch / workers)) --precision "$precision"
        "${FLAGS[@]}" --steps "$steps" --loader-threads $((($(nproc) + 2 * workers - 1) / (2 * workers))) --out "$run")
    part "$name" "$6" "${command[@]}"
    local rc=$?
    # What was timed before it was stopped counts.
    "$PYTHON" profiling/report.py step "$run/metrics.jsonl" --skip $SKIP who="$who" net="$net" batch="$batch" precision="$precision" \
        workers=$workers command="${command[*]}" >>"$DIR/steps.jsonl"
    rm -rf "${run:?}"
    return $rc
}

# compare NET PRECISION BATCH SECONDS [FLAGS...]
compare() {
    local name=compare-$1-$2 limit=$4 html=()
    [ -f "$DIR/compare.html" ] || html=(--html "$DIR/compare.html")
    local flags=(--net "$1" --precision "$2" --batch "$3" "${SAMPLING[@]}")
    shift 4
    part "$name" "$limit" "$BIN/compare" "$@" "${flags[@]}" --json "$DIR/$name.json" "${html[@]}"
}

# Logs are packed, the end of long ones only; what the files were made of goes.
finish() {
    files
    local log
    for log in "$DIR"/logs/*; do
        [ -e "$log" ] || continue  # no part was run
        [ "$(stat -c %s "$log")" -lt 400000 ] || { tail -c 400000 "$log" >"$log.end" && mv "$log.end" "$log"; }
    done
    tar czf "$DIR/logs.tar.gz" -C "$DIR" logs
    [ -z "$COPY" ] || cp "$DIR/logs.tar.gz" "$COPY"/
    local failed undone
    failed=$(grep -c '"status": "FAILED' "$DIR/parts.jsonl")
    undone=$(grep -vc '"status": "done"' "$DIR/parts.jsonl")
    rm -rf "$DIR"/logs "$DIR"/compare-*.json "$DIR"/{parts,steps}.jsonl "$DIR/machine.json"
    echo "wrote ${DIR#"$PWD"/}: summary.md, steps.json, compare.json, logs.tar.gz; $(($(date +%s) - START)) s"
    # A dry run is there to prove the script: a part that was stopped, or for which no time was left, proves nothing.
    [ $MODE != dry ] || [ "$undone" = 0 ] || fail "dry run: $undone parts were not done, see ${DIR#"$PWD"/}/summary.md; build first (make all test), or give it more time with LIMIT_S"
    [ "$failed" = 0 ]
}

# ---- parts ------------------------------------------------------------------------------------------------
: >"$DIR/parts.jsonl"
part build 240 make TARGET=$TARGET ARCHS="${ARCHS:-90}" -j"$(nproc)" programs "$BIN/unit"
if [ ! -x "$BIN/compare" ]; then
    finish
    fail "the build failed: see $DIR/summary.md"
fi

PTX=(-tc="ptx*") KERNELS=(-tce="ptx*,train:*,compare:*,loader*,data*")
[ $MODE = dry ] && KERNELS=(-tc="softmax*,sgd*")
part unit-ptx 40 "$BIN/unit" "${PTX[@]}"
[ $MODE = quick ] || part unit 60 "$BIN/unit" "${KERNELS[@]}"
files

compare "${NETS[0]}" "${PRECISIONS[0]}" "${BATCHES[0]}" 100
# The times of one layer prove the script; right or wrong is asked of all.
[ $MODE != dry ] || part compare-check 100 "$BIN/compare" --net mini --batch 2 --check-only --json "$DIR/compare-check.json"
files

# The steps that are quoted most, then the rest as far as the time goes.
for net in "${NETS[@]}"; do train "$net" "${BATCHES[0]}" "${PRECISIONS[0]}" 0 ours 30; done
train "${NETS[0]}" "${BATCHES[0]}" "${PRECISIONS[0]}" 0,0 "ours, two workers on one GPU" 30
# A step of theirs as a picture, whose title says how much communication nothing hid: what each scheme makes of it.
SCHEMES=(a b c dp)
[ $MODE = full ] || SCHEMES=(a)
for scheme in "${SCHEMES[@]}"; do
    part "timeline-$scheme" 20 "$BIN/train" --net "${NETS[0]}" --data synthetic --gpus 0,0 --batch $((BATCHES[0] / 2)) --precision "${PRECISIONS[0]}" \
        --fc-scheme "$scheme" --steps 4 --out "$WORK/timeline" --timeline "$DIR/timeline-$scheme.svg"
    rm -rf "$WORK/timeline"
done
files

# In turns with PyTorch: it compiles once, and then each of three rounds runs our step before its own.
torch_part() {
    local net=$1 batch=$2 precision=$3 limit=$4 turn
    turn="$BIN/train --net $net --data synthetic:1000:1000000 --gpus 0 --batch $batch --precision $precision --steps $STEPS --loader-threads $(($(nproc) / 2)) --out $WORK/turn-\$ROUND >/dev/null 2>&1"
    part "torch-$net" "$limit" bash -c 'exec "$@" >"$0"' "$WORK/torch.json" "$PYTHON" profiling/peers/torch_alexnet.py --net "$net" --batch "$batch" --precision "$precision" \
        --best --budget $((limit / 2)) --steps $STEPS --rounds 3 --between "$turn" --json || return
    "$PYTHON" profiling/report.py torch "$WORK/torch.json" who=PyTorch net="$net" batch="$batch" precision="$precision" >>"$DIR/steps.jsonl"
    "$PYTHON" profiling/report.py step "$WORK"/turn-*/metrics.jsonl --skip $SKIP who="ours, in turns with PyTorch" net="$net" batch="$batch" precision="$precision" >>"$DIR/steps.jsonl"
    rm -rf "$WORK"/turn-*
}
TORCH=
if [ $MODE = dry ]; then
    :
elif "$PYTHON" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    TORCH=1
    torch_part "${NETS[0]}" "${BATCHES[0]}" "${PRECISIONS[0]}" $([ $MODE = quick ] && echo 60 || echo 110)
else
    note torch "not here" 0 "$PYTHON has no PyTorch that sees a GPU" ""
fi
files

if [ $MODE = full ]; then
    if tool_path ncu >/dev/null; then
        end=$(($(date +%s) + 70))
        for kernel in $("$PYTHON" profiling/report.py top "$DIR" 10); do
            OUT=$WORK/ncu part "ncu-${kernel%%=*}" $(($(date +%s) < end ? end - $(date +%s) : 0)) profiling/ncu.sh "$kernel" --net "${NETS[0]}" --batch "${BATCHES[0]}" --precision "${PRECISIONS[0]}"
        done
    else
        note ncu "not here" 0 "Nsight Compute is not installed" ""
    fi
    for precision in "${PRECISIONS[@]}"; do
        for net in "${NETS[@]}"; do
            for batch in "${BATCHES[@]}"; do
                [ "$batch $precision" = "${BATCHES[0]} ${PRECISIONS[0]}" ] || train "$net" "$batch" "$precision" 0 ours 20
            done
        done
        files
    done
    # What it gains that kernels start before the one ahead of them is over.
    FLAGS=(--pdl off)
    train "${NETS[0]}" "${BATCHES[0]}" "${PRECISIONS[0]}" 0 "ours, no kernel starts early" 20 late
    FLAGS=()
    [ -n "$TORCH" ] && torch_part "${NETS[1]}" "${BATCHES[0]}" "${PRECISIONS[0]}" 90
    compare owt bf16 "${BATCHES[0]}" 60
    compare alexnet tf32 "${BATCHES[0]}" 60
    compare alexnet fp32 128 60
fi
finish
