#!/usr/bin/env python3
"""The claims of the two papers on AlexNet, each measured here and said to hold or not.

  make claim-NAME DATA=cifar10:DIR|folder:DIR     one claim; `make claims` runs all
  profiling/claims/claims.py --list               their names

2012 is Krizhevsky, Sutskever and Hinton's paper, 2014 "One weird trick" (arXiv 1404.5997). Each claim trains the networks that
it compares, ends in one line, and writes NAME.json and NAME.svg beside this file and the page README.md of all of them. On a CPU
the size is reduced; --full is the paper's, for GPUs. Runs lie under runs/claims: one that was stopped goes on, one that is there
with the same flags is taken as it is, and `rm -r runs/claims/NAME` begins anew.
"""

import argparse
import datetime
import json
import os
import shlex
import signal
import subprocess
import sys

import cifar10
import page
from measures import CLAIMS
from runs import Failure, Trainer, write_json


class Context:
    """What a claim measures with."""

    def __init__(self, claim, options):
        self.claim, self.options, self.full = claim, options, options.full
        self.size = dict(claim.full if options.full else claim.reduced)
        if options.seeds and self.size:
            self.size["seeds"] = options.seeds
        self.root = os.path.join(options.runs, claim.name + ("-full" if options.full else ""))
        # On virtual GPUs runs side by side, a core each: small networks do not fill two.
        environment = {} if options.full else {"OMP_NUM_THREADS": "1", "VGPU_THREADS": "1", "VGPU_DEVICES": "4"}
        jobs = 1 if options.full else options.jobs
        self.trainer = Trainer(self.program("train"), self.root, jobs, environment, options.read)
        self._data = None

    def program(self, name):
        return os.path.join(self.options.bin, name)

    def data(self):
        """What --data takes."""
        if self._data is None:
            self._data = self.find_data()
        return self._data

    def find_data(self):
        o = self.options
        if o.read:
            return "read"
        if self.full and self.claim.imagenet:
            if not o.imagenet:
                raise Failure(
                    f"claim {self.claim.name} at the paper's size needs ImageNet: give IMAGENET=records:DIR or "
                    "IMAGENET=folder:DIR (data/imagenet.md)"
                )
            return o.imagenet
        kind, folder = cifar10.find(o.data, os.path.join(o.runs, "cifar10"))
        if self.full:
            return f"{kind}:{folder}"
        into = os.path.join(os.path.abspath(o.runs), f"data-{self.size['train']}-{self.size['test']}")
        return cifar10.reduced(
            kind, folder, self.size["train"] // cifar10.CLASSES, self.size["test"] // cifar10.CLASSES, into
        )

    def compare(self, arms, common, until=None):
        """Trains each arm (name: flags) with each seed. Returns the logs: name: [one a seed]."""
        seeds = range(1, self.size["seeds"] + 1)
        flags = ["--data", self.data(), *common, "--epochs", str(self.size["epochs"]), *shlex.split(self.options.train)]
        if not self.full:
            flags += ["--batch", str(self.size["batch"]), "--save-every", "1000000"]
        wanted = [
            (f"{arm}-{seed}", [*flags, *own, "--seed", str(seed)], until) for seed in seeds for arm, own in arms.items()
        ]
        logs = self.trainer.all(wanted)
        return {arm: logs[i :: len(arms)] for i, arm in enumerate(arms)}

    def size_text(self):
        s = self.size
        if not s:
            return "as it is"
        seeds = (
            f"{s['seeds']} seed"
            + ("s" if s["seeds"] > 1 else "")
            + (f", {self.options.train}" if self.options.train else "")
        )
        if self.full:
            return f"the paper's size, {s['epochs']} epochs, {seeds}"
        return (
            f"reduced: {s['net']}, {s['train']:,} training and {s['test']:,} test images of CIFAR-10, batch {s['batch']} a worker, "
            f"at most {s['epochs']} epochs, {seeds}"
        )


def machine(full):
    """The first GPU's name, "" where there is none; or the CPU's."""
    if full:
        try:
            found = subprocess.run(
                ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True
            )
        except OSError:
            return ""
        return found.stdout.strip().split("\n")[0] if found.returncode == 0 else ""
    with open("/proc/cpuinfo") as f:
        return (
            next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "a CPU")
            + ", virtual GPUs"
        )


def measure(claim, o):
    context = Context(claim, o)
    print(f"claim-{claim.name}: {claim.says}", flush=True)
    found = claim.measure(context)
    result = {
        "claim": claim.says,
        "source": claim.source,
        "measured": found.measured,
        "held": found.held,
        "note": found.note,
        "size": context.size_text(),
        "full": o.full,
        "machine": machine(o.full),
        "date": f"{datetime.date.today():%Y-%m-%d}",
        "cpu_seconds": round(context.trainer.cpu_seconds),
        "method": found.method,
    }
    os.makedirs(o.results, exist_ok=True)
    chart = os.path.join(context.root, "chart.json")
    os.makedirs(context.root, exist_ok=True)
    write_json(chart, found.chart)
    drawn = subprocess.run(
        [context.program("report"), "--chart", chart, "--out", f"{o.results}/{claim.name}.svg"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if drawn.returncode:
        raise Failure(drawn.stderr.strip().split("\n")[-1])
    write_json(f"{o.results}/{claim.name}.json", result)
    page.write(o.results)
    return page.line(claim.name, result)


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Failure(f"{message}; --help lists the flags")


def main():
    names = [c.name for c in CLAIMS]
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="claims, or all: " + ", ".join(names))
    parser.add_argument("--data", default="", help="CIFAR-10: cifar10:DIR or folder:DIR; fetched where it is not given")
    parser.add_argument("--imagenet", default="", help="records:DIR or folder:DIR, for --full")
    parser.add_argument("--full", action="store_true", help="the paper's size, on a GPU")
    parser.add_argument(
        "--train", default="", metavar="FLAGS", help='further flags of bin/train for every run: "--precision bf16"'
    )
    parser.add_argument("--bin", default="bin", help="where the programs are")
    parser.add_argument("--runs", default="runs/claims", help="where runs go")
    parser.add_argument("--results", default="profiling/claims", help="where the results and the page go")
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="runs at once on virtual GPUs (one a core)"
    )
    parser.add_argument("--seeds", type=int, default=0, help="so many seeds, in place of the claim's own")
    parser.add_argument("--read", action="store_true", help="trains nothing: judges the runs that are there")
    parser.add_argument(
        "--page", action="store_true", help="writes the page of the results that are there, and nothing else"
    )
    parser.add_argument("--list", action="store_true", help="prints the names")
    o = parser.parse_args()
    if o.list:
        print("\n".join(names))
        return
    if o.page:
        page.write(o.results)
        return
    if not o.names:
        raise Failure("which claim? " + ", ".join(names) + ", or all")
    for name in o.names:
        if name != "all" and name not in names:
            raise Failure(f"unknown claim '{name}': must be one of {', '.join(names)}, or all")
    if o.jobs < 1:
        raise Failure(f"--jobs {o.jobs}: must be 1 or more")
    if o.seeds < 0:
        raise Failure(f"--seeds {o.seeds}: must be 1 or more, or 0 for the claim's own")
    for program in ("train", "summary", "report"):
        if not os.access(os.path.join(o.bin, program), os.X_OK):
            raise Failure(f"there is no {o.bin}/{program}: run make first")
    if o.full and not o.read and not machine(True):
        raise Failure(
            "the paper's size needs a GPU, and nvidia-smi shows none: leave FULL=1 away for a reduced size on a CPU"
        )
    failed = []
    for claim in CLAIMS:
        if claim.name not in o.names and "all" not in o.names:
            continue
        try:
            print(measure(claim, o), flush=True)
        except Failure as e:  # the other claims are measured all the same
            print(f"claims: {claim.name}: {e}", file=sys.stderr, flush=True)
            failed.append(claim.name)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    try:
        main()
    except KeyboardInterrupt:
        print("claims: stopped; the same command goes on", file=sys.stderr)
        sys.exit(130)
    except (Failure, OSError) as e:
        sys.exit(f"claims: {e}")
