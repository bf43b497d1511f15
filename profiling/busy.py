#!/usr/bin/env python3
"""How fast training is beside other busy threads: its share of a machine that it does not have to itself.

  profiling/busy.py                     mini on this machine's virtual GPUs: one and two workers, oneDNN and own kernels
  profiling/busy.py --busy 2,8 --seconds 30 --workers 2 --kernels auto

One run trains throughout. In every other window it is alone, in those between as many threads as asked for count as fast as they
can. Printed are images/s, their share of the quiet windows before and after, and that over the fair share: with C cores, C threads
of ours and N others, C / (C + N). Why a share is missed, the last two columns say: the CPU time that an image takes, over that of the
quiet windows (above 1: work is done in vain), and what part of the time the C busiest threads sleep, waiting for each other, while
they could have had a core.
"""
import argparse
import collections
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

COUNT = "while :; do :; done"


# Images/s; seconds of CPU time an image; what part of the time the busiest threads sleep.
Window = collections.namedtuple("Window", "rate cpu asleep")


class Run:
    """bin/train in the background, and the rate of its steps from its log."""

    def __init__(self, program, workers, kernels, net, environment):
        self.folder = tempfile.mkdtemp(prefix="busy-")
        gpus = ",".join(str(i) for i in range(workers))
        command = [program, "--net", net, "--gpus", gpus, "--kernels", kernels, "--epochs", "1000", "--out", self.folder]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                        env={**os.environ, "VGPU_DEVICES": str(workers), **environment})
        self.workers = workers

    def steps(self):
        """(seconds since training began, images/s) of each step so far."""
        path = os.path.join(self.folder, "metrics.jsonl")
        rows = []
        if os.path.exists(path):
            for line in open(path):
                if not line.endswith("\n"):
                    break
                row = json.loads(line)
                if row["kind"] == "step":
                    rows.append((row["seconds"], row["images_per_s"]))
        return rows

    def threads(self):
        """Seconds that each thread has run, and has been ready to run without a core."""
        times = {}
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            try:
                run, ready, _ = open(f"/proc/{self.process.pid}/task/{task}/schedstat").read().split()
                times[task] = (int(run) / 1e9, int(ready) / 1e9)
            except FileNotFoundError:
                pass
        return times

    def window(self, seconds):
        """Of the steps that end in the next `seconds`, and in as many more as give three."""
        before, start, until = len(self.steps()), time.time(), time.time() + seconds
        threads = self.threads()
        while time.time() < until or len(self.steps()) < before + 4:
            time.sleep(0.2)
            if self.process.poll() is not None:
                sys.exit("busy.py: bin/train has ended: " + self.process.stderr.read().strip())
        rates = [rate for _, rate in self.steps()[before + 1:]]  # the first began before the window
        rate, took = len(rates) / sum(1 / r for r in rates), time.time() - start
        spent = sorted(((run - threads.get(t, (0, 0))[0], ready - threads.get(t, (0, 0))[1]) for t, (run, ready) in self.threads().items()), reverse=True)
        busiest = spent[:len(os.sched_getaffinity(0))]
        asleep = 1 - sum(run + ready for run, ready in busiest) / took / len(busiest)
        return Window(rate, sum(run for run, _ in spent) / took / rate, asleep)

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def beside(run, threads, seconds):
    others = [subprocess.Popen(["sh", "-c", COUNT]) for _ in range(threads)]
    try:
        time.sleep(1)
        return run.window(seconds)
    finally:
        for o in others:
            o.kill()
            o.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="bin/train")
    parser.add_argument("--net", default="mini")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--kernels", default="auto,own")
    parser.add_argument("--busy", default="2,3,4,6,8", help="numbers of busy threads")
    parser.add_argument("--seconds", type=float, default=8, help="of each window")
    parser.add_argument("--rounds", type=int, default=3, help="windows with so many busy threads; the median counts")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for bin/train")
    a = parser.parse_args()
    if not os.path.exists(a.program):
        sys.exit(f"busy.py: {a.program} is not there: run make, or give --program")
    cores = len(os.sched_getaffinity(0))
    print("| workers | kernels | busy threads | images/s | quiet | share | fair | of fair (each round) | CPU an image | asleep |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for workers in map(int, a.workers.split(",")):
        for kernels in a.kernels.split(","):
            run = Run(a.program, workers, kernels, a.net, dict(e.split("=", 1) for e in a.env))
            try:
                run.window(5)  # plans, and the first steps
                quiet = [run.window(a.seconds)]
                for threads in map(int, a.busy.split(",")):
                    fair, windows, shares = cores / (cores + threads), [], []
                    for _ in range(a.rounds):
                        windows.append(beside(run, threads, a.seconds))
                        quiet.append(run.window(a.seconds))
                        shares.append(windows[-1].rate / ((quiet[-2].rate + quiet[-1].rate) / 2))
                    share, calm = statistics.median(shares), quiet[-a.rounds - 1:]
                    middle = lambda of, member: statistics.median(getattr(w, member) for w in of)
                    print(f"| {workers} | {kernels} | {threads} | {middle(windows, 'rate'):.0f} | "
                          f"{middle(calm, 'rate'):.0f} | {share:.0%} | {fair:.0%} | {share / fair:.0%} ("
                          + ", ".join(f"{s / fair:.0%}" for s in shares)
                          + f") | {middle(windows, 'cpu') / middle(calm, 'cpu'):.2f} | {middle(windows, 'asleep'):.0%} |", flush=True)
            finally:
                run.stop()


if __name__ == "__main__":
    main()
