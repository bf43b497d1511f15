#!/usr/bin/env python3
"""What gpu_report.sh does with numbers: steps timed from a run's log, and DIR/summary.md, steps.json and compare.json
from what its parts left.

    report.py step METRICS.jsonl... --skip N [KEY=VALUE...]   one JSON object: median time of each run's steps after its first N
    report.py torch TORCH.json [KEY=VALUE...]              the same of torch_alexnet.py's output
    report.py top DIR N                                    LAYER.PASS=VARIANT of the N most expensive kernels of a step
    report.py write DIR                                    the files

DIR has machine.json (gpu, driver, clocks, commit, ...), parts.jsonl (name, status, seconds, command, end), and
optionally steps.jsonl and compare-*.json.
"""
import glob
import json
import os
import statistics
import sys


def number(text):
    for kind in int, float:
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def pairs(arguments):
    return {k: number(v) for k, v in (a.split("=", 1) for a in arguments)}


def lines(path):
    """Objects of a file with one a line; [] without the file. A torn last line is left out."""
    found = []
    if os.path.exists(path):
        with open(path) as f:
            for line in f:
                try:
                    found.append(json.loads(line))
                except ValueError:
                    pass
    return found


def write_whole(path, text):
    with open(path + ".tmp", "w") as f:
        f.write(text)
    os.replace(path + ".tmp", path)


def timed(seconds, about):
    """The object for one configuration: `seconds` of each step."""
    if not seconds:
        return dict(about, error="no steps were timed")
    ms = sorted(1e3 * s for s in seconds)
    median = statistics.median(ms)
    quartile = lambda q: ms[min(len(ms) - 1, int(q * len(ms)))]
    return dict(about, ms=round(median, 4), images_per_s=round(about["batch"] / median * 1e3, 1),
                spread=round((quartile(0.75) - quartile(0.25)) / median, 4), steps=len(ms))


def step(paths, skip, about):
    seconds, waited = [], 0
    for path in paths:
        steps = [j for j in lines(path) if j.get("kind") == "step"][skip:]
        took = [b["seconds"] - a["seconds"] for a, b in zip(steps, steps[1:])]
        waited += sum(t * (j.get("input_wait") or 0) for t, j in zip(took, steps[1:]))
        seconds += took
    if sum(seconds) > 0:
        about = dict(about, input_wait=round(waited / sum(seconds), 4))
    return timed(seconds, about)


# A step in which the GPU waits longer than this for images, as a share, measures the loader.
MOST_WAIT = 0.02


def loader_bound(s):
    return s.get("input_wait", 0) > MOST_WAIT


def comparisons(folder):
    runs = []
    for path in sorted(glob.glob(os.path.join(folder, "compare-*.json"))):
        with open(path) as f:
            runs.append(json.load(f))
    return runs


def best(problem, baseline=False):
    """The fastest timed variant of a problem: ours, or the vendor's; None when there is none."""
    rows = [v for v in problem["variants"] if v["state"] == "timed" and v["baseline"] == baseline]
    return min(rows, key=lambda v: v["ms"], default=None)


def top(folder, count):
    runs = comparisons(folder)
    if not runs:
        return []
    kernels = [(best(p)["ms"], f"{p['name']}={best(p)['variant']}") for p in runs[0]["problems"] if best(p) and not p["name"].startswith("trunk.")]
    return [name for _, name in sorted(kernels, reverse=True)[:count]]


# ---- the summary ------------------------------------------------------------------------------------------
def table(head, rows):
    if not rows:
        return []
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + ["| " + " | ".join(r) + " |" for r in rows] + [""]


def steps_section(steps):
    rows = []
    for s in steps:
        if "error" in s:
            continue
        rows.append([s["who"], s["net"], str(s["batch"]), s["precision"], str(s.get("workers", 1)), f"{s['ms']:.3f}", f"{s['images_per_s']:.0f}",
                     f"{100 * s['spread']:.1f}%", str(s["steps"]), f"{100 * s['input_wait']:.1f}%" if "input_wait" in s else ""])
    if not rows:
        return ["No training step was timed.", ""]
    out = table(["", "net", "batch", "precision", "workers", "ms a step", "images/s", "spread", "steps", "input wait"], rows)
    slow = sum(loader_bound(s) for s in steps if "error" not in s)
    if slow:
        out += [f"**Bound by the loader: {slow} of these.** Where the GPU waited for images more than {100 * MOST_WAIT:.0f}% of the time, the step is not the GPU's: give the run more --loader-threads.", ""]
    return out


def against_torch(steps):
    """Pairs taken in turns with PyTorch in one call."""
    ours = {(s["net"], s["batch"], s["precision"]): s for s in steps if s["who"] == "ours, in turns with PyTorch" and "ms" in s}
    rows = []
    for s in steps:
        mine = ours.get((s["net"], s["batch"], s["precision"])) if s["who"] == "PyTorch" and "ms" in s else None
        if mine:
            ratio = "bound by the loader" if loader_bound(mine) else f"{s['ms'] / mine['ms']:.2f}x"
            rows.append([s["net"], str(s["batch"]), s["precision"], f"{mine['images_per_s']:.0f}", f"{s['images_per_s']:.0f}", ratio, s.get("mode", "")])
    return table(["net", "batch", "precision", "images/s", "PyTorch", "ratio", "PyTorch's mode"], rows) if rows else ["Not measured.", ""]


def compare_section(run):
    out = []
    matrix, copy = run.get("matrix_ceiling"), run.get("copy_ceiling")
    rate = f"{matrix['tflop_per_s']:.4g} TFLOP/s ({matrix['how']})" if matrix else "not measured"
    moved = f"{copy['gb_per_s']:.4g} GB/s ({copy['how']})" if copy else "not measured"
    out += [f"### {run['net'] or 'problems'}, batch {run['batch']}, {run['precision']}", "", f"Ceilings: matrix products {rate}; copy {moved}. Wrong variants: {run['wrong']}.", ""]
    rows = []
    for p in run["problems"]:
        mine, vendor = best(p), best(p, True)
        wrong = [v["variant"] for v in p["variants"] if v["state"] == "wrong"]
        if not mine:
            if wrong:
                rows.append([p["name"], "", "", "", "", "", "WRONG: " + ", ".join(wrong)])
            continue
        speed = f"{mine['tflop_per_s']:.1f} TFLOP/s" if "tflop_per_s" in mine else f"{mine['gb_per_s']:.0f} GB/s"
        fused = f"{p['parts_ms'] / mine['ms']:.2f}x its parts" if "parts_ms" in p else ""
        rows.append([p["name"], mine["variant"], f"{mine['ms']:.4f}", speed, f"{100 * mine['of_ceiling']:.0f}%" if "of_ceiling" in mine else "",
                     f"{mine['of_baseline']:.2f}x {vendor['variant']}" if vendor and "of_baseline" in mine else "",
                     "; ".join(filter(None, [fused, "WRONG: " + ", ".join(wrong) if wrong else ""]))])
    return out + table(["", "our fastest", "ms", "rate", "of ceiling", "against the vendor's", ""], rows)


def write(folder):
    with open(os.path.join(folder, "machine.json")) as f:
        machine = json.load(f)
    parts, steps, runs = lines(os.path.join(folder, "parts.jsonl")), lines(os.path.join(folder, "steps.jsonl")), comparisons(folder)
    out = [f"# {machine['gpu']}, {machine['date']}", ""]
    if machine.get("virtual"):
        out += ["A dry run on virtual GPUs: every time here is a CPU's.", ""]
    out += [f"- {k}: {v}" for k, v in machine.items() if k not in ("gpu", "date", "virtual")]
    failed = [p for p in parts if p["status"] != "done"]
    out += ["", "## Parts", ""]
    if failed:
        out += [f"**{len(failed)} of {len(parts)} parts did not end well.**", ""]
    for p in parts:
        took = f" in {p['seconds']} s" if "seconds" in p else ""
        said = f": {p['end']}" if p["status"] != "done" and p.get("end") else ""
        command = f" (`{p['command']}`)" if p.get("command") else ""
        out.append(f"- {p['name']}: {p['status']}{took}{said}{command}")
    out += ["", "## Training steps", "", "Median of the steps after warm-up, on the run's own clock: loader, copies and update included.", ""]
    out += steps_section(steps) + ["## Against PyTorch, in turns", ""] + against_torch(steps) + ["## Kernels", ""]
    for run in runs:
        out += compare_section(run)
    if not runs:
        out += ["Not compared.", ""]
    write_whole(os.path.join(folder, "summary.md"), "\n".join(out))
    write_whole(os.path.join(folder, "steps.json"), json.dumps({"machine": machine, "steps": steps}, indent=1) + "\n")
    write_whole(os.path.join(folder, "compare.json"), json.dumps({"machine": machine, "runs": runs}, indent=1) + "\n")


def main(a):
    if len(a) >= 4 and a[0] == "step" and "--skip" in a:
        at = a.index("--skip")
        print(json.dumps(step(a[1:at], int(a[at + 1]), pairs(a[at + 2:]))))
    elif len(a) >= 2 and a[0] == "torch":
        with open(a[1]) as f:
            r = json.loads(f.read().strip().splitlines()[-1])
        print(json.dumps(timed(r["seconds"], dict(pairs(a[2:]), mode=r["mode"], torch=r["torch"]))))
    elif len(a) == 3 and a[0] == "top":
        print("\n".join(top(a[1], int(a[2]))))
    elif len(a) == 2 and a[0] == "write":
        write(a[1])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError, KeyError) as e:
        sys.exit(f"report.py: {' '.join(sys.argv[1:3])}: {type(e).__name__}: {e}")
