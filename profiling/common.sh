# What the profiling scripts share; read with `source`, from the repository's root. NAME is the script's.

fail() {
    echo "$NAME: $*" >&2
    exit 1
}

# help_if_asked "$@": prints the first lines of the script and ends it where --help is the first argument.
help_if_asked() {
    case ${1:-} in -h | --help) ;; *) return ;; esac
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "profiling/$NAME"
    exit 0
}

# tool_path TOOL: where one of NVIDIA's tools is, on PATH or where its packages put it; fails where there is none.
tool_path() {
    local at
    at=$(command -v "$1") && { echo "$at"; return; }
    for at in /usr/local/cuda/bin/"$1" /opt/nvidia/nsight-compute/*/"$1" /opt/nvidia/nsight-systems/*/bin/"$1" \
        /usr/local/cuda/compute-sanitizer/"$1" /usr/lib/nsight-*/"$1"; do
        [ -x "$at" ] && { echo "$at"; return; }
    done
    return 1
}

# need TOOL HOW-TO-GET-IT: its path, or the end of the script.
need() {
    tool_path "$1" || fail "$1 is not here: $2"
}

# program NAME: the program for real GPUs, built; else the end of the script.
program() {
    [ -x "build/cuda/bin/$1" ] || fail "there is no build/cuda/bin/$1: run make TARGET=cuda first (it needs nvcc)"
    echo "build/cuda/bin/$1"
}
