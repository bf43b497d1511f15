#!/bin/bash
# Trains a few steps and prints one line a run: its name and the SHA-256 of all tensors of its checkpoint (weights and
# momentum). A change that must not change results prints the same lines before and after:
#
#   git stash; make; test/checksums.sh > before; git stash pop; make; test/checksums.sh | diff before -
#
#   test/checksums.sh [--train PROGRAM] [--steps N] [--list] [PATTERN...]
#
#   --train PROGRAM   bin/train unless given
#   --steps N         of each run; 5 unless given
#   --list            prints the names of the runs and trains nothing
#   PATTERN           only runs whose name matches one of these, as in the shell: 'cifar.*' '*.bf16.wgmma'
#
# A run is NET.SCHEME.WORKERS.PRECISION.KERNELS: nets mini, cifar, owt and alexnet on synthetic images; the schemes a, b, c
# and dp of the fully connected layers; 1 to 3 workers; fp32 and bf16; KERNELS own (our fastest) or, of bf16 alone, wgmma and
# mma (tensor-core kernels by name, wherever they fit). All of them take hours on two cores, most of it alexnet and owt.
set -u
cd "$(dirname "$0")/.." || exit 1
TRAIN=bin/train STEPS=5 LIST= PATTERNS=()
die() { echo "checksums: $*" >&2; exit 1; }
while [ $# -gt 0 ]; do
    case $1 in
        --train) [ $# -gt 1 ] || die "--train needs a program"; TRAIN=$2; shift 2 ;;
        --steps) [[ ${2-} =~ ^[1-9][0-9]*$ ]] || die "--steps needs a number above 0"; STEPS=$2; shift 2 ;;
        --list) LIST=1; shift ;;
        -*) die "unknown option $1: the first lines of test/checksums.sh say what there is" ;;
        *) PATTERNS+=("$1"); shift ;;
    esac
done
[ ${#PATTERNS[@]} -gt 0 ] || PATTERNS=('*')
[ -n "$LIST" ] || [ -x "$TRAIN" ] || die "no $TRAIN: run make first, or name a program with --train"

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

wanted() {
    local pattern
    # shellcheck disable=SC2053
    for pattern in "${PATTERNS[@]}"; do [[ $1 == $pattern ]] && return 0; done
    return 1
}

# kernels_of NET KIND: what --kernels is given.
kernels_of() {
    local convs fcs layer list=own
    case $1 in
        mini) convs="2 3 4 5" fcs="6 7 8" ;;
        cifar) convs="2 3" fcs="4" ;;
        *) convs="2 3 4 5" fcs="6 7 8" ;;
    esac
    if [ "$2" != own ]; then
        local variant=wgmma_sm90
        [ "$2" = mma ] && variant=mma_sm80
        for layer in $convs; do list+=",conv$layer.fprop=$variant,conv$layer.dgrad=$variant,conv$layer.wgrad=$variant"; done
        for layer in $fcs; do list+=",fc$layer.fprop=$variant,fc$layer.dgrad=$variant,fc$layer.wgrad=$variant"; done
    fi
    echo "$list"
}

# Of every tensor in the order of names: the name and its bytes.
tensors_sum() {
    python3 - "$1" <<'PY'
import hashlib, json, sys
data = open(sys.argv[1], "rb").read()
size = int.from_bytes(data[:8], "little")
header, body = json.loads(data[8:8 + size]), data[8 + size:]
digest = hashlib.sha256()
for name in sorted(n for n in header if n != "__metadata__"):
    begin, end = header[name]["data_offsets"]
    digest.update(name.encode() + b"\0" + body[begin:end])
print(digest.hexdigest())
PY
}

failed=0 ran=0
for net in mini cifar owt alexnet; do
    case $net in mini | cifar) batch=6 images="synthetic" ;; *) batch=3 images="synthetic" ;; esac
    for scheme in a b c dp; do
        for workers in 1 2 3; do
            for kind in fp32.own bf16.own bf16.wgmma bf16.mma; do
                name=$net.$scheme.$workers.$kind
                wanted "$name" || continue
                ran=$((ran + 1))
                [ -z "$LIST" ] || { echo "$name"; continue; }
                gpus=0
                for ((w = 1; w < workers; ++w)); do gpus+=,0; done
                rm -rf "$WORK/run"
                if "$TRAIN" --net $net --data "$images" --gpus $gpus --batch $batch --fc-scheme $scheme --precision "${kind%.*}" \
                    --kernels "$(kernels_of $net "${kind#*.}")" --steps "$STEPS" --out "$WORK/run" >"$WORK/log" 2>&1; then
                    echo "$name $(tensors_sum "$WORK/run/checkpoint.safetensors")"
                else
                    echo "$name failed: $(tail -n1 "$WORK/log")"
                    failed=1
                fi
            done
        done
    done
done
[ $ran -gt 0 ] || die "no run is called that: --list prints the names"
exit $failed
