#!/usr/bin/env python3
"""The tables of results in README.md and profiling/results/README.md, made from profiling/results/*/{steps,compare,figures}.json:
never typed.

    python3 profiling/results_table.py            rewrites what is between the two marks in both
    python3 profiling/results_table.py --check    exits 1 when that is not what it would write

Of each GPU the newest folder counts. What no GPU has shown is "not measured yet" in profiling/results, and one line in README.md.
"""
import glob
import json
import os
import sys

from report import best

BEGIN = "<!-- results: made by profiling/results_table.py -->"
END = "<!-- end of results -->"
MISSING = "not measured yet"


def load(path):
    if not os.path.exists(path):
        return None
    with open(path) as f:
        return json.load(f)


class Result:
    def __init__(self, folder):
        self.name = os.path.basename(folder)
        steps, compared = load(os.path.join(folder, "steps.json")) or {}, load(os.path.join(folder, "compare.json")) or {}
        self.machine = steps.get("machine") or compared.get("machine") or {}
        self.steps = [s for s in steps.get("steps", []) if "images_per_s" in s]
        self.problems = {}  # (net, precision): {name: problem}
        for run in compared.get("runs", []):
            self.problems[run["net"], run["precision"]] = {p["name"]: p for p in run["problems"]}
        self.figures = load(os.path.join(folder, "figures.json")) or []

    def step(self, net, batch, precision, who=("ours",)):
        found = [s for s in self.steps if (s["net"], s["batch"], s["precision"]) == (net, batch, precision) and s["who"] in who and s.get("workers", 1) == 1]
        return found[0]["images_per_s"] if found else None

    def ratio(self, net, batch, precision):
        """To PyTorch, in turns with it."""
        ours, theirs = self.step(net, batch, precision, ("ours, in turns with PyTorch",)), self.step(net, batch, precision, ("PyTorch",))
        return (ours, ours / theirs) if ours and theirs else (None, None)

    def kernels(self, names, value, net="alexnet", precision="bf16"):
        """value(problem, our fastest variant) of every one of the kernels that was timed."""
        problems = self.problems.get((net, precision), {})
        found = [value(problems[n], best(problems[n])) for n in names if n in problems and best(problems[n])]
        return [v for v in found if v is not None]


def span(values, places, unit):
    if not values:
        return MISSING
    low, high = f"{min(values):.{places}f}", f"{max(values):.{places}f}"
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def passes(layers, kinds):
    return [f"{layer}.{kind}" for layer in layers for kind in kinds]


CONVS = passes(["conv2", "conv3", "conv4", "conv5"], ["fprop", "dgrad", "wgrad"])
FCS = passes(["fc6", "fc7", "fc8"], ["fprop", "dgrad", "wgrad"])
MEMORY = ["norm1.forward", "norm1.backward", "norm2.forward", "norm2.backward", "pool1.forward", "pool1.backward", "pool2.forward", "pool2.backward",
          "drop6.forward", "update.sgd"]
FUSED = ["norm1.forward+pool1", "pool1.backward+norm1+relu1", "norm2.forward+pool2", "pool2.backward+norm2+relu2"]


def gpu_rows(r):
    """(what, figure) of one GPU; of none with r None."""
    images = lambda net, batch: (lambda v: f"{v:,.0f} images/s" if v else MISSING)(r and r.step(net, batch, "bf16"))
    against = lambda net: (lambda v: f"{v[1]:.2f} times" if v[1] else MISSING)(r.ratio(net, 256, "bf16") if r else (None, None))
    rate = lambda names: span(r.kernels(names, lambda p, v: v.get("tflop_per_s")) if r else [], 0, " TFLOP/s")
    versus = lambda names: span(r.kernels(names, lambda p, v: v.get("of_baseline")) if r else [], 2, " times")
    ceiling = span([100 * v for v in r.kernels(MEMORY, lambda p, v: v.get("of_ceiling"))] if r else [], 0, " %")
    fused = span(r.kernels(FUSED, lambda p, v: p["parts_ms"] / v["ms"] if "parts_ms" in p else None) if r else [], 2, " times")
    rows = [(f"`{net}` step, batch {batch}, bf16", images(net, batch)) for net in ("alexnet", "owt") for batch in (128, 256, 1024)]
    rows += [(f"`{net}`, batch 256, bf16, against PyTorch's best mode in turns", against(net)) for net in ("alexnet", "owt")]
    rows += [("conv2 to conv5, each pass, bf16", rate(CONVS)), ("the same against cuDNN", versus(CONVS)),
             ("fully connected products, each pass, bf16", rate(FCS)), ("the same against cuBLASLt", versus(FCS)),
             ("LRN, pooling, dropout, SGD: share of the copy rate", ceiling), ("LRN + pooling fused, against the sum of the parts", fused)]
    return rows


def torch_version(r):
    """(2, 15) of the newest PyTorch that a result was compared with; (0,) of none."""
    return max((tuple(int(n) for n in s["torch"].split(".")[:2]) for s in r.steps if s.get("torch")), default=(0,))


def cpu_rows(r, newest):
    """Comparisons with a PyTorch that is older than the newest of all results are left out."""
    rows = []
    for net in ("alexnet", "alexnet2012", "owt") if torch_version(r) == newest else ():
        for batch in sorted({s["batch"] for s in r.steps if s["net"] == net}):
            for precision in ("fp32", "bf16"):
                images, ratio = r.ratio(net, batch, precision)
                if images:
                    rows.append((f"`{net}`, batch {batch}, {precision}, against PyTorch {'.'.join(map(str, newest))}", r.machine.get("command", ""), f"{images:.1f} images/s, {ratio:.2f} times"))
    return rows + [(f["what"], f["command"], f["figure"]) for f in r.figures]


def gpu_table(results, link):
    newest = {}  # of each GPU, by date: the folders are sorted
    for r in sorted((r for r in results if r.machine and not r.machine.get("cpu") and not r.machine.get("virtual")), key=lambda r: r.machine["date"]):
        newest[r.machine["gpu"]] = r
    gpus = list(newest.values())
    head = [f"{r.machine['gpu']}, [{r.machine['date'][:10]}]({link}{r.name}/summary.md)" for r in gpus] or ["a GPU"]
    columns = [gpu_rows(r) for r in gpus] or [gpu_rows(None)]
    rows = ["| " + " | ".join([row[0]] + [c[i][1] for c in columns]) + " |" for i, row in enumerate(columns[0])]
    return gpus, ["On real GPUs (`make gpu-report`):", "", "| what | " + " | ".join(head) + " |", "|---" * (1 + len(head)) + "|"] + rows


def text(results, link, short):
    gpus, table = gpu_table(results, link)
    if short and not gpus:
        table = [f"No GPU has run this yet: `make gpu-report` measures what [profiling/results]({link}README.md) lists."]
    out = [BEGIN, ""] + table
    newest = max((torch_version(r) for r in results if r.machine.get("cpu")), default=(0,))
    for r in (r for r in results if r.machine.get("cpu") and cpu_rows(r, newest)):
        out += ["", f"On {r.machine['processor']} ([CPU times]({link}{r.name}/summary.md)):", "", "| what | command | figure |", "|---|---|---|"]
        out += [f"| {what} | `{command}` | {figure} |" for what, command, figure in cpu_rows(r, newest)]
    return "\n".join(out + ["", END])


# Page, from the root; where its links to the folders of results begin; without a table that says nothing.
PAGES = [("README.md", "profiling/results/", True), ("profiling/results/README.md", "", False)]


def main(a):
    if a not in ([], ["--check"]):
        sys.exit(__doc__)
    root = os.environ.get("RESULTS_ROOT") or os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    results = [Result(f) for f in sorted(glob.glob(os.path.join(root, "profiling", "results", "*"))) if os.path.isdir(f)]
    for name, link, short in PAGES:
        path = os.path.join(root, name)
        with open(path) as f:
            page = f.read()
        begin, end = page.find(BEGIN), page.find(END)
        if not 0 <= begin < end:
            sys.exit(f"results_table.py: {path} lacks the marks {BEGIN} and {END}")
        new = page[:begin] + text(results, link, short) + page[end + len(END):]
        if new == page:
            continue
        if a:
            sys.exit(f"results_table.py: the results in {name} are not those of profiling/results: run make results")
        with open(path + ".tmp", "w") as f:
            f.write(new)
        os.replace(path + ".tmp", path)


if __name__ == "__main__":
    main(sys.argv[1:])
