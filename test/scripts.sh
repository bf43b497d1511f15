#!/bin/bash
# Tests of the scripts in profiling/: what they say when a tool or a name is missing, and what they make of made-up
# results. Needs the virtual GPUs' programs to be built. Prints one line a failure; exits 1 when there was one.
set -u
cd "$(dirname "$0")/.." || exit 1
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
failures=0
bad() { echo "FAILED: $*"; failures=$((failures + 1)); }

# says STATUS PART COMMAND...: ends with this status and one line on standard error that has PART in it.
says() {
    local status=$1 part=$2 rc
    shift 2
    "$@" >"$WORK/out" 2>"$WORK/err" </dev/null
    rc=$?
    [ $rc = "$status" ] && [ "$(wc -l <"$WORK/err")" = 1 ] && grep -qF -- "$part" "$WORK/err" ||
        bad "$*: exit $rc (expected $status with '$part'): $(cat "$WORK/err")"
}
# Without NVIDIA's tools, whatever this machine has.
bare() { env PATH=/usr/bin:/bin "$@"; }

for f in profiling/*.sh profiling/peers/*.sh; do bash -n "$f" || bad "$f does not parse"; done
for f in profiling/*.py profiling/peers/*.py profiling/claims/*.py; do
    python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' "$f" || bad "$f does not parse"
done

# Asked how it is called, each says so, and does nothing else.
for f in profiling/*.sh profiling/peers/*.sh; do
    [ "$f" != profiling/common.sh ] || continue
    "$f" --help >"$WORK/out" 2>"$WORK/err" </dev/null && grep -qF "$f" "$WORK/out" && ! grep -q '^set -u' "$WORK/out" && [ ! -s "$WORK/err" ] ||
        bad "$f --help: $(cat "$WORK/err")"
done
make help | grep -q '^  make gpu-report' || bad "make help does not say what there is to make"

python3 test/sass_vectors.py >"$WORK/out" 2>&1 || bad "sass.py and single elements: $(cat "$WORK/out")"

# ---- names and tools --------------------------------------------------------------------------------------
says 1 "which kernel?" profiling/ncu.sh
says 1 "must be LAYER.PASS" profiling/ncu.sh conv2
says 1 "which operation?" profiling/places.sh
says 1 "no kernels/lrm/problem.h" profiling/places.sh lrm
profiling/places.sh lrn | grep -q "^ 2  kernels/operations.h: " || bad "places.sh lrn does not find the list of operations"
says 1 "nearest is conv2.wgrad" profiling/ncu.sh conv2.wgradd
says 1 "nearest is tiled" profiling/ncu.sh conv2.wgrad=tild
says 1 "nearest is alexnet" profiling/ncu.sh conv2.wgrad --net alexnett
says 1 "unknown tool 'leakcheck'" profiling/sanitize.sh leakcheck
says 1 "nonsense is no commit" profiling/first_step.sh nonsense
says 1 "bin/none is not there" profiling/busy.py --program bin/none
says 1 "STEPS more than WARMUP" env STEPS=5 WARMUP=10 profiling/nsys.sh
says 1 "unknown flag --fast" profiling/gpu_report.sh --fast
says 1 "mini: must be NET:BATCH" env BIN=build/vgpu/bin profiling/scaling_check.sh mini
says 1 "parts were not done" env LIMIT_S=1 profiling/gpu_report.sh --dry
if ! ls /usr/local/cuda/bin/ncu /opt/nvidia/nsight-compute/*/ncu >/dev/null 2>&1; then
    says 1 "ncu is not here: it comes with" bare profiling/ncu.sh conv2.wgrad=tiled
    says 1 "nsys is not here: install" bare profiling/nsys.sh
    says 1 "compute-sanitizer is not here: it comes with" bare profiling/sanitize.sh
fi
nvidia-smi -L 2>/dev/null | grep -q GPU || says 1 "nvidia-smi shows no GPU" profiling/gpu_report.sh
mkdir -p "$WORK/none"
says 1 "" bare python3 profiling/sass.py "$WORK/none"
ls /usr/local/cuda/bin/cuobjdump build/deps/sass >/dev/null 2>&1 || says 1 "or run \`make sass-tools\`" bare python3 profiling/sass.py --tools

# ---- what guards say of a disassembly made up: a loop over k inside one over tiles, and a producer ------------
# guard STATUS PART ADDRESS INSTRUCTION: sass.py of the same with the NOP at an address replaced.
guard() {
    sed "s|^\( */\*$3\*/ *\)NOP ;|\1$4 ;|" test/sass_dump.txt >"$WORK/dump.txt"
    python3 profiling/sass.py --dump --json "$WORK/sass.json" "$WORK/dump.txt" >"$WORK/out" 2>&1
    [ $? = "$1" ] && grep -qF -- "$2" "$WORK/out" || bad "sass.py with '$4' at $3 (expected $1 with '$2'): $(cat "$WORK/out")"
}
guard 0 "7 (10)          8 (8)          8 (8)  " 0070 NOP
python3 - "$WORK/sass.json" <<'END' || bad "sass.py --json: $(cat "$WORK/sass.json")"
import json, sys
kernel, = json.load(open(sys.argv[1]))
loops = [(loop["inside"], loop["longest_way"]["instructions"]) for loop in kernel["loops"]]
assert loops == [(None, 16), (None, 10), (0, 7), (1, 8), (2, 2), (3, 2)], loops
assert kernel["k_loop"]["classes"]["tensor"] == 1 and kernel["epilogue"]["classes"]["tma_store"] == 2, kernel
assert kernel["producer"]["stall_clocks"] == 8 and kernel["instructions"] == 30, kernel
END
guard 1 "kernel (sm_90a) waits for memory at each stage: 1 MEMBAR" 0070 MEMBAR.ALL.GPU
guard 0 "7 (10)" 0070 MEMBAR.ALL.CTA
guard 0 "7 (10)" 0100 MEMBAR.ALL.GPU
guard 1 "loop over lanes (BRA.U.ANY) around 1 copies" 01a0 "@P4 BRA.U.ANY 0x180"
guard 1 "goes through local memory: 0 LDL, 1 STL" 00d0 "STL [R1], R5"
says 1 "has no disassembled function" python3 profiling/sass.py --dump LICENSE
says 1 "build/none is not there" python3 profiling/sass.py --dump build/none

# ---- a trace made up: two steps, three kernels each, one of them from a graph -------------------------------
python3 - "$WORK/trace.sqlite" <<'END'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.executescript("""
CREATE TABLE StringIds (id INTEGER, value TEXT);
CREATE TABLE NVTX_EVENTS (start INTEGER, end INTEGER, eventType INTEGER, text TEXT, textId INTEGER, globalTid INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER, end INTEGER, globalTid INTEGER, correlationId INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER, end INTEGER, deviceId INTEGER, streamId INTEGER, correlationId INTEGER,
                                         shortName INTEGER, graphNodeId INTEGER);
CREATE TABLE CUDA_GRAPH_NODE_EVENTS (start INTEGER, globalTid INTEGER, graphNodeId INTEGER, originalGraphNodeId INTEGER);
INSERT INTO StringIds VALUES (1, 'augment_kernel'), (2, 'conv_kernel'), (3, 'sgd_kernel'), (4, 'conv2.fprop');
INSERT INTO NVTX_EVENTS VALUES (1, 50, 59, 'capture', NULL, 7), (2, 40, 59, NULL, 4, 7);
INSERT INTO CUDA_GRAPH_NODE_EVENTS VALUES (10, 7, 900, NULL), (60, 7, 901, 900);
""")
ms = 1000000
for step in range(3):
    host, gpu = 1000 + 100 * step, ms * (10 + 10 * step)
    db.executemany("INSERT INTO NVTX_EVENTS VALUES (?, ?, 59, ?, NULL, 7)", [(host, host + 30, "loader"), (host + 50, host + 90, "update")])
    db.executemany("INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (?, ?, 7, ?)",
                   [(host + 10, host + 11, 10 * step), (host + 40, host + 41, 10 * step + 1), (host + 60, host + 61, 10 * step + 2)])
    db.executemany("INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?, ?, 0, 1, ?, ?, ?)",
                   [(gpu, gpu + ms, 10 * step, 1, None), (gpu + 2 * ms, gpu + 6 * ms, 10 * step + 1, 2, 901), (gpu + 6 * ms, gpu + 8 * ms, 10 * step + 2, 3, None)])
db.commit()
END
python3 profiling/step_summary.py --skip 1 "$WORK/trace.sqlite" >"$WORK/steps.txt" 2>&1 || bad "step_summary.py: $(cat "$WORK/steps.txt")"
# From 20 to 38 ms: 2 steps, 14 ms of work, gaps of 1 ms in each step and 2 ms between them.
grep -q '^2 steps: 9.000 ms each, 7.000 of them with work on the GPU, 2.000 in gaps' "$WORK/steps.txt" || bad "step_summary.py: $(head -n1 "$WORK/steps.txt")"
grep -qE '^conv2.fprop +4.0000 +44.4% +1.0000 +1.0 +conv_kernel' "$WORK/steps.txt" || bad "step_summary.py: $(grep conv2 "$WORK/steps.txt")"
grep -qE '^loader +1.0000 .*augment_kernel' "$WORK/steps.txt" || bad "step_summary.py: $(grep loader "$WORK/steps.txt")"
grep -qE '^update +2.0000 ' "$WORK/steps.txt" || bad "step_summary.py: $(grep update "$WORK/steps.txt")"
echo nothing >"$WORK/broken.sqlite"
says 1 "step_summary.py: " python3 profiling/step_summary.py "$WORK/broken.sqlite"

# ---- numbers ----------------------------------------------------------------------------------------------
for i in 1 2 3 4 5; do echo "{\"kind\":\"step\",\"step\":$i,\"input_wait\":0.0$i,\"seconds\":$(python3 -c "print(0.5 * ($i > 1) + 0.02 * $i)")}"; done >"$WORK/m.jsonl"
echo '{"kind":"st' >>"$WORK/m.jsonl"
python3 profiling/report.py step "$WORK/m.jsonl" --skip 1 net=alexnet batch=256 who=ours precision=bf16 >"$WORK/step.json"
python3 -c 'import json, sys; j = json.load(open(sys.argv[1])); assert abs(j["ms"] - 20) < 1e-3 and j["images_per_s"] == 12800 and j["steps"] == 3 and j["input_wait"] == 0.04, j' "$WORK/step.json" || bad "report.py step"
python3 profiling/report.py step "$WORK/none.jsonl" --skip 1 net=a batch=1 | grep -q '"error"' || bad "report.py step without a log"

# ---- README's table from a GPU's results, made up: every figure is one that was in the files -----------------
ROOT=$WORK/root
mkdir -p "$ROOT/profiling/results/gpu-a" "$ROOT/work"
printf '# x\n<!-- results: made by profiling/results_table.py -->\n<!-- end of results -->\ntail\n' | tee "$ROOT/README.md" >"$ROOT/profiling/results/README.md"
RESULTS_ROOT=$ROOT python3 profiling/results_table.py || bad "results_table.py without results"
grep -q 'No GPU has run this yet' "$ROOT/README.md" || bad "results_table.py does not say that no GPU has run this"
grep -q '`alexnet` step, batch 256, bf16 | not measured yet' "$ROOT/profiling/results/README.md" || bad "results_table.py does not say 'not measured yet'"
RESULTS_ROOT=$ROOT python3 profiling/results_table.py --check || bad "results_table.py --check of its own table"
D=$ROOT/profiling/results/gpu-a
echo '{"gpu": "GPU A", "date": "2030-01-02 03:04", "commit": "abc"}' >"$D/machine.json"
echo '{"name": "build", "status": "FAILED, exit 2", "seconds": 3, "end": "no such file", "command": "make"}' >"$D/parts.jsonl"
{
    cat "$WORK/step.json"
    echo '{"who": "PyTorch", "net": "alexnet", "batch": 256, "precision": "bf16", "ms": 40, "images_per_s": 6400, "spread": 0.01, "steps": 150, "mode": "m", "torch": "2"}'
    echo '{"who": "ours, in turns with PyTorch", "net": "alexnet", "batch": 256, "precision": "bf16", "ms": 16, "images_per_s": 16000, "spread": 0.01, "steps": 150}'
    echo '{"who": "ours", "net": "owt", "batch": 256, "precision": "bf16", "error": "no steps were timed"}'
} >"$D/steps.jsonl"
cat >"$D/compare-alexnet-bf16.json" <<'END'
{"net": "alexnet", "batch": 256, "precision": "bf16", "wrong": 1, "matrix_ceiling": {"tflop_per_s": 700, "how": "x"}, "copy_ceiling": null, "problems": [
 {"name": "conv2.fprop", "op": "conv_fprop", "variants": [
   {"variant": "naive", "baseline": false, "state": "timed", "ms": 9, "tflop_per_s": 25},
   {"variant": "fast", "baseline": false, "state": "timed", "ms": 0.5, "tflop_per_s": 458, "of_ceiling": 0.65, "of_baseline": 1.2},
   {"variant": "broken", "baseline": false, "state": "wrong", "why": "nan"},
   {"variant": "cudnn", "baseline": true, "state": "timed", "ms": 0.6, "tflop_per_s": 382}]},
 {"name": "norm1.forward", "op": "lrn_forward", "variants": [{"variant": "v", "baseline": false, "state": "timed", "ms": 1, "gb_per_s": 2000, "of_ceiling": 0.87}]}]}
END
[ "$(python3 profiling/report.py top "$D" 1)" = "norm1.forward=v" ] || bad "report.py top"
python3 profiling/report.py write "$D" || bad "report.py write"
for part in "# GPU A, 2030-01-02" "build: FAILED, exit 2 in 3 s: no such file" "| alexnet | 256 | bf16 | 16000 | 6400 | 2.50x | m |" \
    "| conv2.fprop | fast | 0.5000 | 458.0 TFLOP/s | 65% | 1.20x cudnn | WRONG: broken |" "1 of 1 parts did not end well" "| 3 | 4.0% |" "Bound by the loader: 1 of these"; do
    grep -qF -- "$part" "$D/summary.md" || bad "summary.md lacks '$part'"
done
sed -i 's/"ms": 16,/"ms": 16, "input_wait": 0.03,/' "$D/steps.jsonl"
python3 profiling/report.py write "$D" || bad "report.py write, again"
grep -qF "| 16000 | 6400 | bound by the loader | m |" "$D/summary.md" || bad "summary.md compares a run that waited for images with PyTorch"
sed -i 's/"input_wait": 0.03,//' "$D/steps.jsonl"
python3 profiling/report.py write "$D" || bad "report.py write, again"
# The same beside a prediction: a GPU made up, by report.py; and predictions of two times, one behind the other.
H=$WORK/predicted/h200-made-up
mkdir -p "$H"
echo '{"gpu": "NVIDIA H200 (made up)", "date": "2030-01-02 03:04", "commit": "abc"}' >"$H/machine.json"
cp "$WORK/step.json" "$H/steps.jsonl"
cat >"$H/compare-alexnet-bf16.json" <<'END'
{"net": "alexnet", "batch": 256, "precision": "bf16", "wrong": 0, "matrix_ceiling": null, "copy_ceiling": null, "problems": [
 {"name": "conv2.fprop", "op": "conv_fprop", "problem": "n=256 h=27 w=27 c=96 k=256 r=5 s=5 pad=2 relu=1", "variants": [
   {"variant": "wgmma_sm90", "baseline": false, "state": "timed", "ms": 0.4, "tflop_per_s": 573}]}]}
END
python3 profiling/report.py write "$H" || bad "report.py write of a made-up H200"
if [ -x build/vgpu/bin/summary ]; then
    predict="build/vgpu/bin/summary alexnet --steps --predict h200 --batch 256 --precision bf16"
    $predict --measured "$WORK/predicted" >"$WORK/predicted.txt" 2>&1 || bad "summary --predict: $(cat "$WORK/predicted.txt")"
    grep -qE '^conv2.fprop +wgmma_sm90 +[0-9.]+ +[0-9.]+ +400.0 ' "$WORK/predicted.txt" || bad "summary --predict: $(grep conv2.fprop "$WORK/predicted.txt")"
    grep -q '^measured 20.00 ms, 12800 images/s' "$WORK/predicted.txt" || bad "summary --predict: $(tail -n1 "$WORK/predicted.txt")"
    export BIN=build/vgpu/bin
    python3 profiling/predicted_steps.py --batches 64 --save "$WORK/before.json" >"$WORK/table.md" || bad "predicted_steps.py --save"
    grep -qE '^\| conv2.fprop \| [0-9]+ / [0-9]+ [a-zA-Z0-9]+ \| [0-9]+ / ' "$WORK/table.md" || bad "predicted_steps.py: $(grep conv2.fprop "$WORK/table.md")"
    python3 - "$WORK/before.json" <<'END'
import json, sys
kept = json.load(open(sys.argv[1]))
kept["steps"]["alexnet 64"]["passes"]["conv2.fprop"][0] = 1000
json.dump(kept, open(sys.argv[1], "w"))
END
    python3 profiling/predicted_steps.py --batches 64 --before "$WORK/before.json" >"$WORK/table.md" || bad "predicted_steps.py --before"
    grep -q '^| conv2.fprop | 1000 > ' "$WORK/table.md" || bad "predicted_steps.py --before: $(grep conv2.fprop "$WORK/table.md")"
    python3 profiling/predicted_steps.py --nets alexnet --batches 64 --goals "alexnet 64=1000000" >"$WORK/table.md" || bad "predicted_steps.py --goals"
    grep -q '^alexnet 64, for 1,000,000 images/s: 0.06 ms, [0-9]* us less than the step' "$WORK/table.md" || bad "predicted_steps.py --goals: $(tail -n 12 "$WORK/table.md")"
    grep -qE '^- [0-9]+ SMs idle in last waves \(' "$WORK/table.md" || bad "predicted_steps.py --goals: $(tail -n 12 "$WORK/table.md")"
    says 1 'is no "NET BATCH=IMAGES"' python3 profiling/predicted_steps.py --nets alexnet --batches 64 --goals alexnet
    python3 profiling/predicted_steps.py --check kernels/README.md || bad "kernels/README.md has other predicted steps"
    says 1 "predicted are" python3 profiling/predicted_steps.py --batches 64,128 --check kernels/README.md
    says 1 "lacks the lines" python3 profiling/predicted_steps.py --batches 64 --write "$WORK/table.md"
    says 1 "nearest is alexnet" python3 profiling/predicted_steps.py --nets alexnett
    unset BIN
fi
says 1 "none of the objects" bare python3 profiling/issue_slots.py "$WORK/none"
says 1 "run make results" env RESULTS_ROOT="$ROOT" python3 profiling/results_table.py --check
RESULTS_ROOT=$ROOT python3 profiling/results_table.py || bad "results_table.py with results"
for part in "GPU A, [2030-01-02](profiling/results/gpu-a/summary.md)" '`alexnet` step, batch 256, bf16 | 12,800 images/s' \
    "against PyTorch's best mode in turns | 2.50 times" 'conv2 to conv5, each pass, bf16 | 458 TFLOP/s' 'share of the copy rate | 87 %'; do
    grep -qF -- "$part" "$ROOT/README.md" || bad "README's table lacks '$part'"
done
grep -qF '[2030-01-02](gpu-a/summary.md)' "$ROOT/profiling/results/README.md" || bad "the table beside the results has another link"
[ "$(tail -n1 "$ROOT/README.md")" = tail ] || bad "results_table.py changed what is outside the marks"

# ---- the papers' claims: recorded runs of both outcomes, bad input ------------------------------------------
python3 test/claims_recorded.py build/vgpu/bin >"$WORK/out" 2>&1 || bad "claims_recorded.py: $(tail -n 20 "$WORK/out")"
profiling/claims/claims.py --help | grep -q 'width-of-batch' || bad "claims.py --help does not list the claims"
data/cifar10.sh --help | grep -q 'URL=' || bad "data/cifar10.sh --help"

# ---- PTX on virtual GPUs: what its reader takes and refuses (host/vgpu/ptx_exec) ----------------------------
python3 test/test_ptx_translate.py >"$WORK/out" 2>&1 || bad "test_ptx_translate.py: $(tail -n 20 "$WORK/out")"
python3 test/test_ptx_count.py >"$WORK/out" 2>&1 || bad "test_ptx_count.py: $(tail -n 20 "$WORK/out")"
python3 test/ptx_faults.py --help >/dev/null || bad "ptx_faults.py --help"
says 1 "none.ptx: No such file" python3 host/vgpu/ptx_exec/translate.py --check "$WORK/none.ptx"
printf '.version 9.0\n.target sm_90\n.visible .entry k()\n{\n.reg .b32 %%r<2>;\nfoo.b32 %%r1, 0;\nret;\n}\n' >"$WORK/bad.ptx"
says 1 "bad.ptx:6: foo.b32 is not a form that is known: foo.b32 %r1, 0" python3 host/vgpu/ptx_exec/translate.py "$WORK/bad.ptx" "$WORK/bad.cpp"

# ---- this repository's README -----------------------------------------------------------------------------
python3 profiling/results_table.py --check || bad "README.md is not up to date"

[ $failures = 0 ] && echo "all scripts answer as they should"
[ $failures = 0 ]
