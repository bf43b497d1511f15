#!/usr/bin/env python3
"""Where a training step goes, from an SQLite export of Nsight Systems: milliseconds a step by NVTX range (layer.pass),
with the kernels of each and the gaps before them.

    python3 profiling/step_summary.py [--skip STEPS] [--device N] REPORT.sqlite

A kernel belongs to the innermost range that was open, on the same host thread, when it was launched; one replayed by a
CUDA graph to the range in which its node was captured. A gap is the time before an operation in which the GPU does
nothing: no kernel, copy or memset on any stream. A step is one pass of the range that opens it (--step).
"""
import argparse
import bisect
import collections
import sqlite3
import sys

PUSH_POP = 59  # NVTX_EVENTS.eventType of ranges that nest


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("report")
    p.add_argument("--skip", type=int, default=0, help="steps at the start that do not count")
    p.add_argument("--device", type=int, default=0)
    p.add_argument("--step", default="loader", help="the range that every step opens with")
    return p.parse_args()


def tables(db):
    return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}


def columns(db, table):
    return {row[1] for row in db.execute(f"PRAGMA table_info({table})")}


class Ranges:
    """The named ranges of every host thread; at(thread, time) is the innermost one open then."""

    def __init__(self, db):
        have = columns(db, "NVTX_EVENTS")
        text = "coalesce(e.text, s.value)" if "textId" in have else "e.text"
        join = "LEFT JOIN StringIds s ON s.id = e.textId" if "textId" in have else ""
        rows = db.execute(f"SELECT e.start, e.end, e.globalTid, {text} FROM NVTX_EVENTS e {join} "
                          f"WHERE e.eventType = {PUSH_POP} AND e.end IS NOT NULL ORDER BY e.start, -e.end").fetchall()
        self.by_thread = collections.defaultdict(list)
        for start, end, thread, name in rows:
            self.by_thread[thread].append((start, end, name or "?"))
        self.starts = {t: [r[0] for r in rs] for t, rs in self.by_thread.items()}

    def at(self, thread, time):
        ranges = self.by_thread.get(thread, [])
        i = bisect.bisect_right(self.starts.get(thread, []), time) - 1
        for back in range(i, max(-1, i - 64), -1):  # ranges nest a few deep
            if ranges[back][1] >= time:
                return ranges[back][2]
        return None


def operations(db, device, ranges):
    """(start, end, range, name) of everything the device did, by start."""
    have = tables(db)
    calls = {c: (t, s) for c, t, s in db.execute("SELECT correlationId, globalTid, start FROM CUPTI_ACTIVITY_KIND_RUNTIME")} \
        if "CUPTI_ACTIVITY_KIND_RUNTIME" in have else {}
    nodes = {}
    if "CUDA_GRAPH_NODE_EVENTS" in have:
        nodes = {n: (t, s) for n, t, s in db.execute("SELECT graphNodeId, globalTid, start FROM CUDA_GRAPH_NODE_EVENTS")}
        if "originalGraphNodeId" in columns(db, "CUDA_GRAPH_NODE_EVENTS"):  # an instantiated graph's nodes are clones
            original = dict(db.execute("SELECT graphNodeId, originalGraphNodeId FROM CUDA_GRAPH_NODE_EVENTS "
                                       "WHERE originalGraphNodeId IS NOT NULL"))
            nodes = {n: nodes.get(original.get(n, n), at) for n, at in nodes.items()}
    ops = []
    for table, name in ("KERNEL", "coalesce(s.value, 'kernel')"), ("MEMCPY", "'copy'"), ("MEMSET", "'memset'"):
        table = "CUPTI_ACTIVITY_KIND_" + table
        if table not in have:
            continue
        node = "o.graphNodeId" if "graphNodeId" in columns(db, table) else "NULL"
        join = "LEFT JOIN StringIds s ON s.id = o.shortName" if table.endswith("KERNEL") else ""
        for start, end, call, graph_node, what in db.execute(
                f"SELECT o.start, o.end, o.correlationId, {node}, {name} FROM {table} o {join} WHERE o.deviceId = ?", (device,)):
            at = nodes.get(graph_node) if graph_node else None
            at = at or calls.get(call)
            ops.append((start, end, (ranges.at(*at) if at else None) or "(no range)", what))
    return sorted(ops)


def main():
    a = arguments()
    try:
        db = sqlite3.connect(f"file:{a.report}?mode=ro", uri=True)
        if "NVTX_EVENTS" not in tables(db):
            sys.exit(f"step_summary.py: {a.report} has no NVTX ranges: trace with --trace cuda,nvtx")
    except sqlite3.Error as e:
        sys.exit(f"step_summary.py: {a.report}: {e}")
    ranges = Ranges(db)
    steps = sorted(s for rs in ranges.by_thread.values() for s, _, name in rs if name == a.step)
    ops = operations(db, a.device, ranges)
    if not ops:
        sys.exit(f"step_summary.py: {a.report} has no work on device {a.device}")
    # Steps as the device sees them: from the first operation of one that counts to the last one's end.
    workers = max(1, len({t for t, rs in ranges.by_thread.items() if any(r[2] == a.step for r in rs)}))
    firsts = [o[0] for i, o in enumerate(ops) if o[2] == a.step and (i == 0 or ops[i - 1][2] != a.step)]
    count = max(1, len(steps) // workers - a.skip)
    begin = firsts[min(a.skip, len(firsts) - 1)] if firsts else ops[0][0]
    count = max(1, min(count, len(firsts) - a.skip)) if firsts else count
    ops = [o for o in ops if o[0] >= begin]
    total = collections.defaultdict(lambda: [0, 0.0, 0.0])  # range: operations, busy, gaps
    kernels = collections.defaultdict(collections.Counter)
    busy_until = ops[0][0]
    for start, end, where, what in ops:
        t = total[where]
        t[0] += 1
        t[1] += end - start
        t[2] += max(0, start - busy_until)
        busy_until = max(busy_until, end)
        kernels[where][what] += end - start
    span = busy_until - ops[0][0]
    gaps = sum(t[2] for t in total.values())
    ms = lambda ns: ns / count / 1e6
    print(f"{count} steps: {ms(span):.3f} ms each, {ms(span - gaps):.3f} of them with work on the GPU, {ms(gaps):.3f} in gaps "
          f"({100 * gaps / span:.1f}%)")
    print(f"{'range':<28} {'ms':>9} {'share':>7} {'gaps ms':>9} {'ops':>6}  longest kernel")
    for where, (n, busy, gap) in sorted(total.items(), key=lambda kv: -kv[1][1]):
        longest = kernels[where].most_common(1)[0][0]
        print(f"{where:<28} {ms(busy):>9.4f} {100 * busy / span:>6.1f}% {ms(gap):>9.4f} {n / count:>6.1f}  {longest}")


if __name__ == "__main__":
    main()
