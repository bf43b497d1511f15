#!/bin/bash
# How long a newcomer waits: seconds from `make run` in a clean clone to the first training step, for each of some commits.
#
#   profiling/first_step.sh [COMMIT...]      default: HEAD
#   profiling/first_step.sh b55b37a HEAD     before and after
#
# Packages that `make run` would install count when they are missing: on a machine that has them, they do not. Each clone
# lies in a folder of its own below $TMPDIR, which is removed.
set -u
cd "$(dirname "$0")/.." || exit 1
case ${1:-} in -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0" && exit ;; esac
[ $# -gt 0 ] || set -- HEAD
for commit; do
    git rev-parse --verify --quiet "$commit^{commit}" >/dev/null || {
        echo "first_step.sh: $commit is no commit of this repository" >&2
        exit 1
    }
done
WORK=$(mktemp -d)
running=
stop() {
    [ -z "$running" ] || kill -KILL -- "-$running" 2>/dev/null
    running=
}
trap 'stop; rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM

for commit; do
    clone=$WORK/$(git rev-parse --short "$commit")
    git clone -q . "$clone" && git -C "$clone" checkout -q "$(git rev-parse "$commit")" || exit 1
    start=$(date +%s.%N)
    # A session of its own, so that all of it can be stopped.
    setsid make -C "$clone" run >"$WORK/log" 2>&1 &
    running=$!
    disown $running  # bash would report that it was killed
    until grep -qs '"kind":"step"' "$clone/runs/mini/metrics.jsonl"; do
        sleep 0.2
        kill -0 $running 2>/dev/null || {
            echo "first_step.sh: make run of $commit ended before its first step:" >&2
            tail -n 5 "$WORK/log" >&2
            exit 1
        }
    done
    seconds=$(awk "BEGIN {print $(date +%s.%N) - $start}")
    stop
    printf '%s  %5.0f s from make run to the first step  (%s, %s cores)\n' "$(git log -1 --format='%h %cd' --date=short "$commit")" \
        "$seconds" "$(sed -n 's/^model name.*: //p;T;q' /proc/cpuinfo)" "$(nproc)"
    rm -rf "$clone"
done
