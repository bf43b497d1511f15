#!/usr/bin/env python3
"""The predicted training steps of both networks as one table for Markdown: each pass's microseconds at each batch, their
floors, sums and images/s (bin/summary --steps --predict; host/model/prediction.h says what that is: no measurement).

    profiling/predicted_steps.py                                     today's code
    profiling/predicted_steps.py --save profiling/predicted/X.json   keeps it for later
    profiling/predicted_steps.py --before profiling/predicted/X.json each number behind what it was: "353 > 340"
    profiling/predicted_steps.py --write kernels/README.md [...]     the same into the file, between its two marks
    profiling/predicted_steps.py --goals "owt 256=133000"            what lies between the step and so many images/s
    profiling/predicted_steps.py --check kernels/README.md           exits 1 where its images/s are not today's

Kernels' microseconds are of --overlap auto: of those that run beside others on the SMs that they get ("296 on 14"), so that
their sum is not the step's; sums with --overlap off, every kernel on all SMs behind the one before it, stand below.
--nets alexnet,owt --batches 128,256 --gpu h200 --precision bf16 and BIN=build/vgpu/bin are the defaults.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def predicted(a, net, batch, overlap, path):
    program = os.path.join(os.environ.get("BIN", os.path.join(ROOT, "bin")), "summary")
    run = subprocess.run([program, net, "--steps", "--predict", a.gpu, "--batch", batch, "--precision", a.precision, "--overlap", overlap, "--json", path],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if run.returncode:
        sys.exit(f"predicted_steps.py: {run.stderr.strip()}")
    with open(path) as f:
        return json.load(f)["step"]


CAUSES = {"tensor": "products that no layer asks for: tiles' edges, zeros between rows, rows of ones", "shared": "waiting for shared memory",
          "L2": "waiting for L2", "fence": "waiting for fences", "issue": "issuing instructions", "HBM": "memory, slower than a large copy"}


def beyond(auto, off):
    """[[us, cause, [pass, ...]]], largest first: what the step takes beyond its kernels' floors. Of kernels on all SMs, without the
    fully connected layers' update where it runs beside others."""
    by_name, found = {p["name"]: p for p in off["passes"]}, {}

    def add(cause, us, name):
        entry = found.setdefault(cause, [0, cause, {}])
        entry[0] += us
        entry[2][name] = entry[2].get(name, 0) + us
    beside = [p for p in auto["passes"] if p.get("sms") and p["op"] == "gemm"]
    updated = max((p["begins_us"] + p["us"] for p in beside), default=0)
    for p in auto["passes"]:
        if p in beside or not p["model"]:
            continue
        alone = by_name.get(p["name"], p)
        if fewer := p["us"] - alone["us"]:
            end = p["begins_us"] + p["us"]
            late = min(1, max(0, (end - updated) / p["us"]))
            add("SMs left to the update, while it runs", fewer * (1 - late), p["name"])
            add("SMs left to the update, when it has ended", fewer * late, p["name"])
        add("SMs idle in last waves", alone["idle_us"], p["name"])
        add("epilogues and sums of parts", alone["epilogue_us"], p["name"])
        add("gaps between kernels, filling pipelines", alone["launch_us"], p["name"])
        rest = alone["us"] - alone["floor_us"] - alone["idle_us"] - alone["epilogue_us"] - alone["launch_us"]
        add(CAUSES.get(p["bound"], "waiting for small kernels"), rest, p["name"])
    if (tail := updated - max(p["begins_us"] for p in auto["passes"] if p not in beside)) > 0:
        add("waiting for the update", tail, "")
    return sorted(([us, cause, [n for n in sorted(names, key=names.get, reverse=True) if names[n] > us / 10][:3]]
                   for us, cause, names in found.values()), reverse=True)


def goals_text(now, goals):
    lines = []
    for goal in filter(None, goals.split(",")):
        parts = re.fullmatch(r"(\S+ \d+)=(\d+)", goal)
        if not parts:
            sys.exit(f"predicted_steps.py: --goals {goal} is no \"NET BATCH=IMAGES\" of a second, as \"owt 256=133000\"")
        column, images = parts[1], parts[2]
        if column not in now:
            continue
        s, batch = now[column], int(column.split()[1])
        ms = batch / float(images) * 1e3
        lines.append(f"{column}, for {int(images):,} images/s: {ms:.2f} ms, {abs(s['ms'] - ms) * 1e3:.0f} us {'less' if ms < s['ms'] else 'more'} than the step. Beyond floors, us:\n")
        for us, cause, names in s["beyond"]:
            if us >= 5:
                lines.append(f"- {us:.0f} {cause}" + (f" ({', '.join(filter(None, names))})" if any(names) else ""))
        lines.append("")
    return "\n".join(lines)


def steps(a):
    """{"alexnet 256": {"images_per_s": .., "ms": .., "floor_ms": .., "off": {"images_per_s": .., "ms": ..}, "passes": {name: [us, floor, bound, SMs; 0: all]}}}"""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "step.json")
        for net in a.nets.split(","):
            for batch in a.batches.split(","):
                step, off = (predicted(a, net, batch, overlap, path) for overlap in ("auto", "off"))
                passes = {}
                for p in step["passes"]:
                    us, floor, *_ = passes.get(p["name"], (0, 0))
                    passes[p["name"]] = [us + p.get("us", p["floor_us"]), floor + p["floor_us"], p.get("bound", "no model"), p.get("sms", 0)]
                found[f"{net} {batch}"] = {k: step[k] for k in ("images_per_s", "ms", "floor_ms")} | {
                    "off": {k: off[k] for k in ("images_per_s", "ms")}, "passes": passes, "beyond": beyond(step, off)}
    return found


def order(all_steps):
    """Names of passes, each before what follows it in any step."""
    names = []
    for s in all_steps:
        at = 0
        for name in s["passes"]:
            if name in names:
                at = names.index(name) + 1
            else:
                names.insert(at, name)
                at += 1
    return names


def commit():
    """The last that changed a kernel."""
    said = subprocess.run(["git", "-C", ROOT, "log", "-1", "--format=%h", "--", "kernels/*.cu", "kernels/*.h", ":!kernels/product_plan.h", ":!kernels/*/product_plan.cu"], stdout=subprocess.PIPE, text=True)
    return said.stdout.strip()


def table(now, before):
    columns = list(now)
    def cell(column, name):
        p, old = now[column]["passes"].get(name), before.get(column, {}).get("passes", {}).get(name)
        if not p and not old:
            return ""
        us = "-" if not p else f"{p[0]:.0f}"
        if old and us != f"{old[0]:.0f}":
            us = f"{old[0]:.0f} > {us}"
        elif before and not old:
            us = f"- > {us}"
        if p and p[3:] and p[3]:
            us += f" on {p[3]}"
        return f"{us} / {(p or old)[1]:.0f}" + (f" {p[2]}" if p else "")
    def total(label, form):
        cells = []
        for c in columns:
            text = form(now[c])
            if c in before and form(before[c]) != text:
                text = f"{form(before[c])} > {text}"
            cells.append(text)
        return f"| **{label}** | " + " | ".join(cells) + " |"
    lines = ["| us / floor, bound by | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 1)]
    for name in order(list(now.values()) + list(before.values())):
        lines.append(f"| {name} | " + " | ".join(cell(c, name) for c in columns) + " |")
    # What was kept before steps had streams is of one kernel behind the other.
    def off(s):
        return s.get("off", s)
    lines.append(total("floor, ms", lambda s: f"{s['floor_ms']:.2f}"))
    lines.append(total("step, ms, overlap off", lambda s: f"{off(s)['ms']:.2f}"))
    lines.append(total("images/s, overlap off", lambda s: f"{off(s)['images_per_s']:,.0f}"))
    lines.append(total("step, ms", lambda s: f"{s['ms']:.2f}"))
    lines.append(total("images/s", lambda s: f"{s['images_per_s']:,.0f}"))
    return "\n".join(lines)


def write_between(path, text):
    first, last = "<!-- predicted steps: made by profiling/predicted_steps.py -->", "<!-- end of predicted steps -->"
    with open(path) as f:
        old = f.read()
    if first not in old or last not in old:
        sys.exit(f"predicted_steps.py: {path} lacks the lines {first} and {last}")
    new = old[:old.index(first) + len(first)] + "\n\n" + text + "\n" + old[old.index(last):]
    with open(path + ".tmp", "w") as f:
        f.write(new)
    os.replace(path + ".tmp", path)


def check(path, now):
    with open(path) as f:
        rows = [line for line in f if line.startswith(("| **images/s** |", "| **images/s, overlap off** |"))]
    said = [cell.split(">")[-1].strip() for row in rows for cell in row.strip(" |\n").split("|")[1:]]
    today = [f"{s['images_per_s']:,.0f}" for kind in ("off", "auto") for s in (v["off"] if kind == "off" else v for v in now.values())]
    if said != today:
        sys.exit(f"predicted_steps.py: {path} says {', '.join(said) or 'nothing'}, predicted are {', '.join(today)}: run profiling/predicted_steps.py --write {path}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--nets", default="alexnet,owt")
    p.add_argument("--batches", default="128,256")
    p.add_argument("--gpu", default="h200")
    p.add_argument("--precision", default="bf16")
    p.add_argument("--save", help="writes what was predicted to this file")
    p.add_argument("--before", help="a file that --save wrote")
    p.add_argument("--check", help="a file that --write has written")
    p.add_argument("--write", help="a file with the two marks")
    p.add_argument("--goals", default="alexnet 256=87000,owt 256=133000", help="images/s; what is left to them, under the table")
    a = p.parse_args()
    before, was = {}, ""
    if a.before:
        with open(a.before) as f:
            kept = json.load(f)
        before, was = kept["steps"], f" (before: {kept['commit']})"
        if (kept["gpu"], kept["precision"]) != (a.gpu, a.precision):
            sys.exit(f"predicted_steps.py: {a.before} is of {kept['gpu']}, {kept['precision']}")
    now = steps(a)
    if a.check:
        return check(a.check, now)
    text = f"Predicted for {a.gpu}, {a.precision}, kernels of {commit()}{was}; not measured.\n\n{table(now, before)}\n"
    if goals := goals_text(now, a.goals):
        text += "\n" + goals
    write_between(a.write, text) if a.write else print(text, end="")
    if a.save:
        with open(a.save + ".tmp", "w") as f:
            json.dump({"gpu": a.gpu, "precision": a.precision, "commit": commit(), "steps": now}, f, indent=1)
            f.write("\n")
        os.replace(a.save + ".tmp", a.save)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError) as e:
        sys.exit(f"predicted_steps.py: {type(e).__name__}: {e}")
