#!/bin/bash
# Training speed against PyTorch: the same network, batch, optimizer and cores, in turns (ours, theirs, ours, theirs),
# so that a machine that slows down does so for both. PyTorch runs in the mode that is the fastest here, chosen before
# the turns among eager and compiled, NCHW and channels_last. Prints both rates (medians over all steps) and their ratio,
# and of every network the ratio of the best of both.
#
#   profiling/peers/compare.sh [NET...]          default: alexnet owt
#   BATCH=128 STEPS=4 ROUNDS=2 THREADS=<cores>   steps timed in each turn; one more comes before them
#   PRECISIONS="fp32 bf16"                       default: fp32, and bf16 where the CPU multiplies it
#   PYTHON=python3                               one that has torch 2 or later (python3 -m venv DIR; DIR/bin/pip install torch)
#   TRAIN_FLAGS="--kernels own"                  added to bin/train
#   TORCH_FLAGS="--layout nhwc"                  a mode of torch_alexnet.py instead of the fastest
set -u
cd "$(dirname "$0")/../.." || exit 1
case ${1:-} in -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' profiling/peers/compare.sh && exit ;; esac
BATCH=${BATCH:-128} STEPS=${STEPS:-4} ROUNDS=${ROUNDS:-2} THREADS=${THREADS:-$(nproc)} PYTHON=${PYTHON:-python3}
NETS=("$@")
[ $# -gt 0 ] || NETS=(alexnet owt)

fail() { echo "compare.sh: $*" >&2; exit 1; }

[ -x bin/train ] || fail "there is no bin/train: run make first"
"$PYTHON" -c 'import sys, torch; sys.exit(int(torch.__version__.split(".")[0]) < 2)' 2>/dev/null ||
    fail "$PYTHON has no PyTorch 2: python3 -m venv DIR; DIR/bin/pip install torch; then PYTHON=DIR/bin/python"
if [ -z "${PRECISIONS:-}" ]; then
    PRECISIONS=fp32
    grep -qE '\<(avx512_bf16|amx_bf16)\>' /proc/cpuinfo 2>/dev/null && PRECISIONS="fp32 bf16"
fi

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM

# Seconds of each step but the first, one a line: from the run's own clock, so that a step is all of it.
ours() {
    local out=$WORK/run
    rm -rf "$out"
    OMP_NUM_THREADS=$THREADS bin/train --net "$1" --precision "$2" --data synthetic --gpus 0 --batch "$BATCH" \
        --steps $((STEPS + 1)) --out "$out" ${TRAIN_FLAGS:-} >"$WORK/train.log" 2>&1 ||
        fail "bin/train failed: $(tail -n1 "$WORK/train.log")"
    "$PYTHON" - "$out/metrics.jsonl" <<'END'
import json, sys
steps = [j for j in map(json.loads, open(sys.argv[1])) if j["kind"] == "step"]
for a, b in zip(steps, steps[1:]):
    print((b["seconds"] - a["seconds"]) / (b["step"] - a["step"]))
END
}

# torch_alexnet.py NET PRECISION FLAGS... into torch.json. OpenBLAS chooses its kernels for the CPU by itself: variables
# that pin another are unset.
torch_run() {
    local net=$1 precision=$2
    shift 2
    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE "$PYTHON" profiling/peers/torch_alexnet.py --net "$net" --device cpu \
        --precision "$precision" --batch "$BATCH" --threads "$THREADS" --json "$@" >"$WORK/torch.json" 2>"$WORK/torch.log" ||
        fail "torch_alexnet.py failed: $(tail -n1 "$WORK/torch.log")"
}

json() { "$PYTHON" -c 'import json, sys; v = json.load(open(sys.argv[1]))[sys.argv[2]]; print(*v if isinstance(v, list) else [v], sep="\n")' "$WORK/torch.json" "$1"; }

for net in "${NETS[@]}"; do
    for precision in $PRECISIONS; do
        run=$net.$precision flags=${TORCH_FLAGS:-}
        if [ -z "$flags" ]; then
            echo "$net $precision: PyTorch's fastest mode" >&2
            torch_run "$net" "$precision" --best --budget 600 --steps 2
            grep ' ms$' "$WORK/torch.log" | sed 's/^/    /' >&2
            flags=$(json flags) || exit 1
        fi
        : >"$WORK/$run.ours"
        : >"$WORK/$run.theirs"
        for ((round = 1; round <= ROUNDS; round++)); do
            echo "$net $precision, turn $round of $ROUNDS: bin/train" >&2
            ours "$net" "$precision" >>"$WORK/$run.ours" || exit 1
            echo "$net $precision, turn $round of $ROUNDS: PyTorch" >&2
            torch_run "$net" "$precision" --steps "$STEPS" $flags
            json seconds >>"$WORK/$run.theirs" || exit 1
        done
        cp "$WORK/torch.json" "$WORK/$run.json"
    done
done

"$PYTHON" - "$WORK" "$BATCH" "$THREADS" "$PRECISIONS" "${NETS[@]}" <<'END'
import json, statistics, sys
work, batch, threads, precisions = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4].split()
rows = []
for net in sys.argv[5:]:
    best = [0, 0]
    for precision in precisions:
        torch = json.load(open(f"{work}/{net}.{precision}.json"))
        a, b = ([float(x) for x in open(f"{work}/{net}.{precision}.{who}")] for who in ("ours", "theirs"))
        if not a:
            sys.exit(f"compare.sh: bin/train logged fewer than two steps of {net}")
        ra, rb = batch / statistics.median(a), batch / statistics.median(b)
        best = [max(best[0], ra), max(best[1], rb)]
        mode = " ".join(m for m in torch["mode"].split() if m.split("=")[0] not in (precision, "graph", "sgd"))
        rows.append(f"{net:<12} {precision:<9} {ra:>8.2f} im/s {rb:>8.2f} im/s  {ra / rb:>5.2f}x   "
                    f"{min(a):.3f} to {max(a):.3f}, {min(b):.3f} to {max(b):.3f}; {mode}")
    if len(precisions) > 1:
        rows.append(f"{net:<12} {'best':<9} {best[0]:>8.2f} im/s {best[1]:>8.2f} im/s  {best[0] / best[1]:>5.2f}x")
print(f"batch {batch}, {threads} CPU threads; PyTorch {torch['torch']}, {torch['device']}")
print(f"{'net':<12} {'precision':<9} {'bin/train':>13} {'PyTorch':>13}  {'ratio':>6}   seconds a step: ours, PyTorch (min to max); PyTorch's mode")
print("\n".join(rows))
END
