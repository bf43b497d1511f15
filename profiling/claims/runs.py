"""Runs of bin/train that a claim compares: started, gone on with, or taken as they are; and what their logs say."""

import collections
import concurrent.futures
import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import time


class Failure(Exception):
    """What is wrong, in one line."""


class Log:
    """A run's metrics.jsonl: steps as (epoch, error, images/s), evaluations as (epoch, loss, error); errors in percent."""

    def __init__(self, folder):
        path = os.path.join(folder, "metrics.jsonl")
        self.steps, self.evals, self.images = [], [], 0
        try:
            with open(path, errors="replace") as f:
                lines = f.read().split("\n")[:-1]  # a torn last line is left out
        except OSError as e:
            raise Failure(f"{path}: {e.strerror}: there is no such run") from None
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                if row["kind"] == "step":
                    self.steps.append((row["epoch"], row["top1_error"], row["images_per_s"]))
                elif row["kind"] == "eval":
                    if row["loss"] is None:
                        raise Failure(f"{path}:{number}: the loss is not finite: the run has diverged")
                    self.evals.append((row["epoch"], row["loss"], row["top1_error"]))
            except (ValueError, KeyError, TypeError):
                raise Failure(f"{path}:{number}: not a line that bin/train wrote") from None

    def training_curve(self):
        """(epochs done, mean error of the last of them), of whole epochs; the error is each batch's before its update."""
        epochs = collections.defaultdict(list)
        for epoch, error, _ in self.steps:
            epochs[math.ceil(epoch - 1e-6)].append(error)
        if epochs and self.steps[-1][0] < max(epochs) - 1e-6:
            del epochs[max(epochs)]
        return [(e, statistics.fmean(errors)) for e, errors in sorted(epochs.items())]

    def epochs_to(self, error):
        """Epochs until the training error had fallen to this, between two of them by a straight line; None: it has not."""
        before = None
        for epoch, mean in self.training_curve():
            if mean <= error:
                return (
                    epoch
                    if before is None
                    else before[0] + (before[1] - error) / (before[1] - mean) * (epoch - before[0])
                )
            before = (epoch, mean)
        return None

    def last_error(self):
        """The held-out error of the last evaluation."""
        if not self.evals:
            raise Failure("a run without an evaluation: nothing was held out")
        return self.evals[-1][2]


class Trainer:
    """Trains into folders under `root`, so many runs at once. `read`: trains nothing, takes what is there."""

    def __init__(self, program, root, jobs, environment, read=False, say=print):
        self.program, self.root, self.jobs, self.environment, self.read, self.say = (
            program,
            root,
            jobs,
            environment,
            read,
            say,
        )
        self.cpu_seconds, self.stopping = 0.0, False

    def all(self, wanted):
        """wanted: (folder, flags, until) each; `until`, of the log so far, ends a run before its epochs do. Returns the logs."""
        if self.read:
            return [self.one(*w) for w in wanted]
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(self.one, *w) for w in wanted]
            try:
                for f in concurrent.futures.as_completed(futures):
                    f.result()
                return [f.result() for f in futures]
            except BaseException:
                self.stopping = True
                for f in futures:
                    f.cancel()
                raise

    def one(self, name, flags, until):
        if self.stopping:
            raise Failure("stopped")
        folder = os.path.join(self.root, name)
        noted = os.path.join(folder, "claim.json")
        try:
            with open(noted) as f:
                known = json.load(f)
        except (OSError, ValueError):
            known = {}
        if self.read:
            if not known.get("done", True):
                raise Failure(f"{folder} has not finished: the claim without --read goes on with it")
            self.cpu_seconds += known.get("cpu_seconds", 0)
            return Log(folder)
        begun = known.get("flags") == flags
        if not begun:
            known = {"flags": flags, "done": False, "cpu_seconds": 0.0}
        if not known["done"]:
            going_on = begun and os.path.exists(os.path.join(folder, "checkpoint.safetensors"))
            os.makedirs(folder, exist_ok=True)
            write_json(noted, known)
            if going_on:
                command = [self.program, "--resume", folder]
            else:
                command = [self.program, *flags, "--out", folder, "--overwrite"]
                with contextlib.suppress(FileNotFoundError):  # else `until` would judge another run's log
                    os.remove(os.path.join(folder, "metrics.jsonl"))
            usage, wrong = self.run(command, folder, until)
            known["cpu_seconds"] = round(known["cpu_seconds"] + usage.ru_utime + usage.ru_stime, 1)
            known["done"] = not wrong
            write_json(noted, known)
            if wrong:
                raise Failure(wrong)
            self.say(f"  {name}: {known['cpu_seconds']:.0f} CPU seconds", flush=True)
        self.cpu_seconds += known["cpu_seconds"]
        return Log(folder)

    def run(self, command, folder, until):
        """Returns what it used, and what went wrong or "". A run that `until` ends gets SIGINT, after which it leaves a checkpoint and exits with 130."""
        errors = os.path.join(folder, "errors.txt")
        with open(errors, "w") as err, open(os.path.join(folder, "output.txt"), "w") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env={**os.environ, **self.environment}
            )
            ended, look_at = False, 0.0
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    process.returncode = os.waitstatus_to_exitcode(status)
                    break
                now = time.monotonic()
                if not ended and until and now >= look_at and os.path.exists(f"{folder}/metrics.jsonl"):
                    ended = bool(until(Log(folder)))
                    if ended:
                        process.send_signal(signal.SIGINT)
                    look_at = now + 20 * (time.monotonic() - now)  # a long log takes a while to read
                if not ended and self.stopping:
                    process.send_signal(signal.SIGINT)
                    ended = True
                time.sleep(0.5)
        if not self.stopping and (process.returncode == 0 or ended and process.returncode == 130):
            return usage, ""
        with open(errors) as f:
            said = f.read().strip().split("\n")[-1]
        return usage, said or f"{command[0]} ended with {process.returncode} (its output is in {folder}/output.txt)"


def write_json(path, value):
    with open(path + ".part", "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")
    os.replace(path + ".part", path)


class Mean:
    """Of some seeds, with the standard error of it; of one value that is not known, and 0 here."""

    def __init__(self, values):
        values = list(values)
        self.values, self.mean = values, statistics.fmean(values)
        self.error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0

    def text(self, places=2):
        return f"{self.mean:.{places}f}" + (f" +- {self.error:.{places}f}" if len(self.values) > 1 else "")


def beyond_noise(smaller, larger):
    """Whether one mean is below another by more than twice the standard error of their difference."""
    return larger.mean - smaller.mean > 2 * math.hypot(smaller.error, larger.error)


def mean_curve(curves):
    """Curves of (x, y), one a seed, as one: means where all of them have the same x."""
    curves, at = list(curves), collections.defaultdict(list)
    for curve in curves:
        for x, y in curve:
            at[round(x, 6)].append(y)
    return [[x, round(statistics.fmean(ys), 4)] for x, ys in sorted(at.items()) if len(ys) == len(curves)]
