#!/bin/bash
# Training speed against PyTorch: the same network, batch, optimizer and cores, in turns (ours, theirs, ours, theirs),
# so that a machine that slows down does so for both. Prints both rates (medians over all steps) and their ratio.
#
#   profiling/peers/compare.sh [NET...]          default: alexnet owt
#   BATCH=128 STEPS=4 ROUNDS=2 THREADS=<cores>   steps timed in each turn; one more comes before them
#   PYTHON=/usr/bin/python3                      one that has torch
#   TRAIN_FLAGS="--kernels own"                  added to bin/train
#   TORCH_FLAGS="--layout nhwc"                  added to torch_alexnet.py
set -u
cd "$(dirname "$0")/../.." || exit 1
case ${1:-} in -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' profiling/peers/compare.sh && exit ;; esac
BATCH=${BATCH:-128} STEPS=${STEPS:-4} ROUNDS=${ROUNDS:-2} THREADS=${THREADS:-$(nproc)}
NETS=("$@")
[ $# -gt 0 ] || NETS=(alexnet owt)

fail() { echo "compare.sh: $*" >&2; exit 1; }

[ -x bin/train ] || fail "there is no bin/train: run make first"
if [ -z "${PYTHON:-}" ]; then
    for p in /usr/bin/python3 python3; do
        if command -v $p >/dev/null && $p -c 'import torch' 2>/dev/null; then PYTHON=$p; break; fi
    done
fi
[ -n "${PYTHON:-}" ] && "$PYTHON" -c 'import torch' 2>/dev/null ||
    fail "no python3 here has PyTorch: apt install python3-torch libopenblas0-pthread (Debian), or PYTHON=..."

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM

# Seconds of each step but the first, one a line: from the run's own clock, so that a step is all of it.
ours() {
    local out=$WORK/run
    rm -rf "$out"
    OMP_NUM_THREADS=$THREADS bin/train --net "$1" --data synthetic --gpus 0 --batch "$BATCH" --steps $((STEPS + 1)) \
        --out "$out" ${TRAIN_FLAGS:-} >"$WORK/train.log" 2>&1 || fail "bin/train failed: $(tail -n1 "$WORK/train.log")"
    "$PYTHON" - "$out/metrics.jsonl" <<'END'
import json, sys
steps = [j for j in map(json.loads, open(sys.argv[1])) if j["kind"] == "step"]
for a, b in zip(steps, steps[1:]):
    print((b["seconds"] - a["seconds"]) / (b["step"] - a["step"]))
END
}

# The same of PyTorch. OpenBLAS chooses its kernels for the CPU by itself: variables that pin another are unset.
theirs() {
    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE "$PYTHON" profiling/peers/torch_alexnet.py --net "$1" \
        --batch "$BATCH" --steps "$STEPS" --threads "$THREADS" --json ${TORCH_FLAGS:-} \
        >"$WORK/torch.json" 2>"$WORK/torch.log" ||
        fail "torch_alexnet.py failed: $(tail -n1 "$WORK/torch.log")"
    "$PYTHON" -c 'import json, sys; print(*json.load(open(sys.argv[1]))["seconds"], sep="\n")' "$WORK/torch.json"
}

for net in "${NETS[@]}"; do
    : >"$WORK/$net.ours"
    : >"$WORK/$net.theirs"
    for ((round = 1; round <= ROUNDS; round++)); do
        echo "$net, turn $round of $ROUNDS: bin/train" >&2
        ours "$net" >>"$WORK/$net.ours" || exit 1
        echo "$net, turn $round of $ROUNDS: PyTorch" >&2
        theirs "$net" >>"$WORK/$net.theirs" || exit 1
    done
done

"$PYTHON" - "$WORK" "$BATCH" "$THREADS" "${NETS[@]}" <<'END'
import json, statistics, sys
work, batch, threads, nets = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
torch = json.load(open(f"{work}/torch.json"))
print(f"batch {batch}, {threads} CPU threads; PyTorch {torch['torch']}, {torch['device']}, {torch['mode']}")
print(f"{'net':<12} {'bin/train':>12} {'PyTorch':>12}   {'ratio':>5}   seconds a step: ours, PyTorch (min to max)")
for net in nets:
    a, b = ([float(x) for x in open(f"{work}/{net}.{who}")] for who in ("ours", "theirs"))
    if not a:
        sys.exit(f"compare.sh: bin/train logged fewer than two steps of {net}")
    ra, rb = batch / statistics.median(a), batch / statistics.median(b)
    print(f"{net:<12} {ra:>8.2f} im/s {rb:>8.2f} im/s  {ra / rb:>5.2f}x   "
          f"{min(a):.3f} to {max(a):.3f}, {min(b):.3f} to {max(b):.3f}")
END
