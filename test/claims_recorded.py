#!/usr/bin/env python3
"""Tests of profiling/claims on runs that are made up: does a claim hold when it does, and not when it does not; what is said of
bad input; how runs are stopped, gone on with and taken as they are.

  test/claims_recorded.py BIN      BIN has summary and report
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from types import SimpleNamespace

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
os.chdir(ROOT)
sys.path.insert(0, os.path.join(ROOT, "profiling/claims"))
import cifar10  # noqa: E402
import measures  # noqa: E402
from runs import Failure, Log, Mean, Trainer, beyond_noise, mean_curve  # noqa: E402

BIN = os.path.abspath(sys.argv[1])
failures = 0


def check(right, what):
    global failures
    if not right:
        failures += 1
        print("FAILED: " + what[-1000:])


def record(folder, training, held_out, rate=100.0, steps=4):
    """A run's log: an error of each epoch in training, (loss, error) of each held out."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "metrics.jsonl"), "w") as f:
        f.write('{"kind":"kernels","step":0,"choices":{}}\n')
        for epoch, error in enumerate(training):
            for i in range(1, steps + 1):
                row = {
                    "kind": "step",
                    "step": epoch * steps + i,
                    "epoch": epoch + i / steps,
                    "loss": 1.0,
                    "top1_error": error + (1 if i % 2 else -1),
                    "lr": 0.01,
                    "images_per_s": rate,
                    "input_wait": 0,
                    "seconds": 1,
                }
                f.write(json.dumps(row) + "\n")
            if epoch < len(held_out):
                loss, top1 = held_out[epoch]
                f.write(
                    json.dumps(
                        {
                            "kind": "eval",
                            "step": (epoch + 1) * steps,
                            "epoch": epoch + 1,
                            "split": "test",
                            "loss": loss,
                            "top1_error": top1,
                            "top5_error": 1,
                            "images": 10,
                            "skipped": 0,
                            "seconds": 1,
                        }
                    )
                    + "\n"
                )
        f.write('{"kind":"done","step":1')  # a torn last line, as a run that was killed leaves


def claims(work, *arguments, program=None, **environment):
    command = [
        "profiling/claims/claims.py",
        "--bin",
        program or BIN,
        "--runs",
        f"{work}/runs",
        "--results",
        f"{work}/results",
        *arguments,
    ]
    return subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, **environment}
    )


def verdict(work, name, expected, note=""):
    done = claims(work, name, "--read")
    path = f"{work}/results/{name}.json"
    check(done.returncode == 0 and os.path.exists(path), f"{name} --read: {done.stderr}")
    if not os.path.exists(path):
        return None
    result = json.load(open(path))
    last = done.stdout.strip().split("\n")[-1]
    word = "held" if expected else "not held"
    check(result["held"] == expected and note in result["note"], f"{name}: {last} (expected: {word}, '{note}')")
    check(
        last.startswith(f"claim-{name}: {word}") and result["measured"] in last and result["claim"] in last,
        f"the line of {name}: {last}",
    )
    check(os.path.getsize(f"{work}/results/{name}.svg") < 60000, f"the picture of {name}")
    page = open(f"{work}/results/README.md").read()
    check(
        f"![{name}]({name}.svg)" in page and f"**{word}**" in page and result["measured"] in page, f"the page of {name}"
    )
    return result


def fall(first, last, epochs):
    return [first + (last - first) * i / (epochs - 1) for i in range(epochs)]


def two_arms(work, name, low, high, low_ends, high_ends):
    for arm, ends in ((low, low_ends), (high, high_ends)):
        for seed, end in enumerate(ends, 1):
            record(f"{work}/runs/{name}/{arm}-{seed}", [50, 40, 30], [(2, 70), (1.5, 60), (1.2, end)])


def recorded(work):
    for name, low, high in (
        ("lrn", "with", "without"),
        ("overlap-pooling", "overlap", "plain"),
        ("width-of-batch", "own", "whole"),
    ):
        two_arms(work, name, low, high, [40, 41, 40.5], [44, 43, 43.5])
        result = verdict(work, name, True)
        check(
            result and "40.50 +- 0.29 %" in result["measured"] and "43.50 +- 0.29 %" in result["measured"],
            f"{name}: {result}",
        )
        two_arms(work, name, low, high, [44, 43, 43.5], [40, 41, 40.5])
        verdict(work, name, False, "the other way round")
        two_arms(work, name, low, high, [40, 44, 42], [43, 41, 42.5])
        verdict(work, name, False, "no difference beyond the noise")

    def activations(relu, tanh):
        for seed in (1, 2, 3):
            record(f"{work}/runs/relu-vs-tanh/relu-{seed}", fall(*relu), [])
            record(f"{work}/runs/relu-vs-tanh/tanh-{seed}", fall(*tanh), [])

    activations((85, 25, 5), (85, 25, 30))
    result = verdict(work, "relu-vs-tanh", True)
    check(
        result and result["measured"] == "5.0 +- 0.0 epochs with ReLUs, 30.0 +- 0.0 with tanh: 6.0 times as many",
        f"relu-vs-tanh: {result}",
    )
    activations((85, 25, 5), (85, 25, 12))
    verdict(work, "relu-vs-tanh", False, "fewer, by another factor")
    activations((85, 25, 12), (85, 25, 5))
    verdict(work, "relu-vs-tanh", False, "not fewer")
    activations((85, 25, 5), (85, 30, 60))
    result = verdict(work, "relu-vs-tanh", True)
    check(result and "more than" in result["measured"], f"relu-vs-tanh, tanh never there: {result}")
    activations((85, 25, 30), (85, 30, 60))
    verdict(work, "relu-vs-tanh", False, "not decided")
    activations((85, 30, 60), (85, 25, 5))
    verdict(work, "relu-vs-tanh", False)

    def overfit(without, with_dropout):
        for seed in (1, 2, 3):
            shift = 0.1 * seed
            for arm, (training, held_out) in (("without", without), ("with", with_dropout)):
                record(
                    f"{work}/runs/dropout/{arm}-{seed}", training, [(loss, error + shift) for loss, error in held_out]
                )

    quick = ([60, 30, 10, 5, 2, 1], [(1.5, 60), (1.2, 50), (1.3, 50), (1.5, 50), (1.8, 51), (2.0, 51)])
    slow = ([70, 60, 55, 50, 47, 45], [(1.7, 65), (1.5, 60), (1.3, 52), (1.2, 48), (1.2, 47.5), (1.2, 47.5)])
    overfit(quick, slow)
    result = verdict(work, "dropout", True)
    check(
        result and "1.67 times as high" in result["measured"] and "2.0 times the iterations" in result["measured"],
        f"dropout: {result}",
    )
    overfit(quick, quick)
    verdict(work, "dropout", False, "neither")
    overfit(slow, quick)
    verdict(work, "dropout", False, "neither")

    def workers(rates, ends):
        for i, arm in enumerate(("one", "a", "b", "c", "dp")):
            for seed in (1, 2, 3):
                record(f"{work}/runs/two-gpus/{arm}-{seed}", [50, 40], [(2, 60), (1.5, ends[i] + 0.1 * seed)])
            with open(f"{work}/runs/two-gpus/step-{arm}.json", "w") as f:
                json.dump(
                    {"step_ms": [1, 9e4 / rates[i], 1e6], "images": 128 * (1 + (arm != "one")), "cpu_seconds": 1}, f
                )

    workers((100, 95, 96, 97.5, 75), (40, 40.2, 40.1, 39, 40))
    result = verdict(work, "two-gpus", True)
    check(
        result and "a: 1.90 times as fast, 40.4" in result["measured"] and "dp: 1.50 times" in result["measured"],
        f"two-gpus: {result}",
    )
    workers((100, 75, 96, 97.5, 75), (40, 40.2, 40.1, 45, 40))
    verdict(work, "two-gpus", False, "less than 1.8 times as fast: a; more error: c")

    verdict(work, "params-flops", True)
    page = open(f"{work}/results/README.md").read()
    check("Not measured yet" not in page and page.count("![") == 7, "the page of all claims")
    os.remove(f"{work}/results/lrn.json")
    check(
        claims(work, "--page").returncode == 0
        and "Not measured yet: `lrn`" in open(f"{work}/results/README.md").read(),
        "--page without lrn",
    )


def one_line(done, status, part):
    check(
        done.returncode == status
        and done.stderr.count("\n") == 1
        and part in done.stderr
        and "Traceback" not in done.stderr,
        f"expected {status} and '{part}': {done.returncode} {done.stderr}",
    )


def bad_input(work):
    one_line(claims(work), 1, "which claim? relu-vs-tanh, dropout")
    one_line(claims(work, "lrm"), 1, "unknown claim 'lrm': must be one of relu-vs-tanh")
    one_line(claims(work, "lrn", "--jobs", "0"), 1, "--jobs 0")
    one_line(claims(work, "lrn", "--seeds", "-1"), 1, "--seeds -1")
    one_line(claims(work, "lrn", "--fast"), 1, "--fast")
    one_line(claims(work, "lrn", program=f"{work}/none"), 1, "run make first")
    one_line(claims(work, "lrn", "--data", "cifar-10"), 1, "DATA=cifar-10: give DATA=cifar10:DIR")
    one_line(claims(work, "lrn", "--data", f"folder:{work}/none"), 1, "no such folder")
    one_line(claims(work, "lrn", URL=f"file://{work}/none"), 1, "could not be fetched")
    with open(f"{work}/other.tar.gz", "w") as f:
        f.write("something else")
    one_line(claims(work, "lrn", URL=f"file://{work}/other.tar.gz"), 1, "another file than CIFAR-10's archive")
    (
        one_line(
            claims(work, "lrn", "--full", PATH=os.path.dirname(sys.executable) + ":/usr/bin:/bin"), 1, "needs a GPU"
        )
        if no_gpu()
        else None
    )
    one_line(claims(work, "dropout", "--read", "--runs", f"{work}/empty"), 1, "there is no such run")
    record(f"{work}/odd/lrn/with-1", [], [])
    with open(f"{work}/odd/lrn/with-1/metrics.jsonl", "w") as f:
        f.write('{"kind":"step","step":1}\n')
    one_line(
        claims(work, "lrn", "--read", "--runs", f"{work}/odd"), 1, "metrics.jsonl:1: not a line that bin/train wrote"
    )
    with open(f"{work}/odd/lrn/with-1/claim.json", "w") as f:
        f.write('{"flags": [], "done": false, "cpu_seconds": 1}')
    one_line(claims(work, "lrn", "--read", "--runs", f"{work}/odd"), 1, "has not finished")
    os.remove(f"{work}/odd/lrn/with-1/claim.json")
    with open(f"{work}/odd/lrn/with-1/metrics.jsonl", "w") as f:
        f.write('{"kind":"eval","step":1,"epoch":1,"loss":null,"top1_error":90}\n')
    one_line(claims(work, "lrn", "--read", "--runs", f"{work}/odd"), 1, "the run has diverged")
    with open(f"{work}/results/lrn.json", "w") as f:
        f.write('{"held": 1}')
    one_line(claims(work, "--page"), 1, "is not a result of a claim")
    os.remove(f"{work}/results/lrn.json")
    os.makedirs(f"{work}/fake", exist_ok=True)
    for name in ("train", "summary", "report"):
        script(f"{work}/fake/{name}", "echo 'layer output'")
    one_line(claims(work, "params-flops", program=f"{work}/fake"), 1, "does not list eight layers")


def no_gpu():
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True).returncode != 0
    except OSError:
        return True


def failed(part, action, *arguments):
    try:
        action(*arguments)
    except Failure as e:
        check(part in str(e) and "\n" not in str(e), f"'{part}' is not in: {e}")
    else:
        check(False, f"nothing was said of '{part}'")


def data(work):
    names = [f"class{i}" for i in range(10)]
    for split, n in (("train", 4), ("test", 3)):
        for c in names:
            os.makedirs(f"{work}/set/{split}/{c}")
            for i in range(n):
                open(f"{work}/set/{split}/{c}/{i}.jpg", "w").close()
    into = f"{work}/part"
    check(cifar10.reduced("folder", f"{work}/set", 3, 2, into) == f"folder:{into}", "reduced folder")
    check(
        sorted(os.listdir(f"{into}/train/class3")) == ["0.jpg", "1.jpg", "2.jpg"]
        and len(os.listdir(f"{into}/test/class9")) == 2,
        "reduced folder",
    )
    check(os.path.isfile(f"{into}/test/class0/1.jpg"), "links of the reduced folder")
    failed("has 4 images, and 5 are wanted", cifar10.reduced, "folder", f"{work}/set", 5, 2, into)
    os.makedirs(f"{work}/set/train/class10")
    failed("has 11 classes", cifar10.reduced, "folder", f"{work}/set", 2, 2, into)
    failed("train is missing", cifar10.reduced, "folder", f"{work}/part/test", 2, 2, f"{work}/other")

    def batch(labels):
        return b"".join(bytes([label]) + bytes([i % 256]) * 3072 for i, label in enumerate(labels))

    binary = f"{work}/binary/cifar-10-batches-bin"
    os.makedirs(binary)
    for i in range(1, 6):
        with open(f"{binary}/data_batch_{i}.bin", "wb") as f:
            f.write(batch([0, 0, *range(10)]))
    failed("test_batch.bin: No such file", cifar10.reduced, "cifar10", binary, 2, 2, into)
    with open(f"{binary}/test_batch.bin", "wb") as f:
        f.write(batch(list(range(10)) * 2))
    check(cifar10.reduced("cifar10", f"{work}/binary", 5, 2, into) == f"cifar10:{into}", "reduced batches")
    labels = [open(f"{into}/data_batch_{i}.bin", "rb").read()[::3073] for i in range(1, 6)]
    check(
        sorted(b"".join(labels)) == sorted(list(range(10)) * 5) and all(len(label) == 10 for label in labels),
        f"labels of the batches: {labels}",
    )
    check(
        sorted(open(f"{into}/test_batch.bin", "rb").read()[::3073]) == sorted(list(range(10)) * 2),
        "labels of the test batch",
    )
    failed("too few images for 6 of each", cifar10.reduced, "cifar10", f"{work}/binary", 6, 2, into)
    check(
        " 5 2" in open(f"{into}/made_from.txt").read() and not [n for n in os.listdir(work) if n.startswith("making-")],
        "a part that failed leaves the one before, and nothing else",
    )


def script(path, text):
    with open(path, "w") as f:
        f.write("#!/bin/bash\n" + text + "\n")
    os.chmod(path, 0o755)


def runs(work):
    """A program in bin/train's place, which notes how it was called."""
    called = f"{work}/called"
    row = (
        '{"kind":"step","step":1,"epoch":1,"loss":1,"top1_error":20,"lr":1,"images_per_s":1,"input_wait":0,"seconds":1}'
    )
    script(
        f"{work}/train",
        f"""trap 'kill $!; exit 130' INT
echo "$@" >>{called}
[ "$1" = --resume ] && out=$2
while [ $# -gt 0 ]; do [ "$1" = --out ] && out=$2; [ "$1" = --wait ] && wait=1; [ "$1" = --bad ] && {{ echo "train: bad weather" >&2; exit 1; }}; shift; done
echo '{row}' >>$out/metrics.jsonl; touch $out/checkpoint.safetensors
[ -z "${{wait:-}}" ] || {{ sleep 60 & wait $!; }}""",
    )

    def trainer(**more):
        return Trainer(f"{work}/train", f"{work}/claims", 2, {}, say=lambda *a, **k: None, **more)

    logs = trainer().all([("x", ["--lr", "1"], None), ("y", ["--lr", "2"], None)])
    check(len(logs) == 2 and logs[0].steps == [(1, 20, 1)], "two runs")
    check(
        sorted(open(called).read().split("\n"))[1:]
        == [f"--lr {i} --out {work}/claims/{n} --overwrite" for i, n in ((1, "x"), (2, "y"))],
        "how they were called",
    )
    os.remove(called)
    again = trainer()
    again.all([("x", ["--lr", "1"], None)])
    check(not os.path.exists(called), "a finished run with the same flags is taken as it is")
    trainer(read=True).all([("x", ["--lr", "5"], None)])
    check(not os.path.exists(called), "--read trains nothing")
    with open(f"{work}/claims/x/claim.json", "w") as f:
        json.dump({"flags": ["--lr", "1"], "done": False, "cpu_seconds": 7.0}, f)
    again.all([("x", ["--lr", "1"], None)])
    check(
        open(called).read() == f"--resume {work}/claims/x\n" and again.cpu_seconds >= 7,
        "a run that was stopped goes on",
    )
    trainer().all([("x", ["--lr", "3"], None)])
    check("--lr 3" in open(called).read(), "other flags begin anew")
    logs = trainer().all([("z", ["--wait"], lambda log: log.steps)])
    check(len(logs[0].steps) == 1, "a run that is ended early")
    failed("train: bad weather", trainer().all, [("w", ["--bad"], None), ("v", ["--wait"], None)])
    if os.path.exists(f"{work}/claims/v/claim.json"):  # it may not have begun
        check(
            not json.load(open(f"{work}/claims/v/claim.json"))["done"],
            "a run that another's failure ended is not taken for finished",
        )


def fetching(work):
    """data/cifar10.sh on an archive that is made up, with its own checksum and lengths in the place of CIFAR-10's."""
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    os.makedirs(f"{work}/made/cifar-10-batches-bin")
    for name in [*names, "batches.meta.txt"]:
        with open(f"{work}/made/cifar-10-batches-bin/{name}", "w") as f:
            f.write("0123456789")
    subprocess.run(["tar", "-czf", f"{work}/made.tar.gz", "-C", f"{work}/made", "cifar-10-batches-bin"], check=True)
    with open(f"{work}/made.tar.gz", "rb") as f:
        total = hashlib.sha256(f.read()).hexdigest()
    with open("data/cifar10.sh") as f:
        text = f.read().removeprefix("#!/bin/bash\n")
    script(f"{work}/fetch.sh", re.sub(r"\bsum=\w+", f"sum={total}", text.replace("30730000", "10")))

    def fetch(archive):
        return subprocess.run(
            [f"{work}/fetch.sh", f"{work}/got/set"],
            capture_output=True,
            text=True,
            env={**os.environ, "URL": f"file://{work}/{archive}"},
        )

    one_line(fetch("none"), 1, "could not be fetched")
    with open(f"{work}/cut.tar.gz", "wb") as f:
        f.write(open(f"{work}/made.tar.gz", "rb").read()[:-1])
    one_line(fetch("cut.tar.gz"), 1, "another file than CIFAR-10's archive")
    check(os.listdir(f"{work}/got/set") == [], "a fetch that failed leaves nothing")
    done = fetch("made.tar.gz")
    check(
        done.returncode == 0 and sorted(os.listdir(f"{work}/got/set")) == sorted([*names, "batches.meta.txt"]),
        f"fetching: {done.stderr}",
    )
    done = fetch("none")
    check(done.returncode == 0 and "has CIFAR-10" in done.stdout, f"what is there is not fetched again: {done.stderr}")


def timed_steps(work):
    """Steps of made-up times: what is taken is their median, and the second time nothing runs."""
    script(
        f"{work}/train",
        f"""while [ $# -gt 0 ]; do [ "$1" = --timeline ] && svg=$2; shift; done
n=$(cat {work}/n 2>/dev/null || echo 0); echo $((n + 1)) >{work}/n
echo "{{\\"otherData\\": {{\\"step_ms\\": $((100 + (n % 5 - 2) * (n % 5 - 2) * 50))}}}}" >"${{svg%.svg}}.json\"""",
    )
    trainer = Trainer(f"{work}/train", work, 1, {})
    context = SimpleNamespace(
        full=False,
        options=SimpleNamespace(read=False),
        root=f"{work}/claims",
        trainer=trainer,
        program=lambda name: f"{work}/{name}",
    )
    for _ in range(2):  # 300, 150, 100, 150 and 300 ms
        rate = measures.images_per_s(context, "a", ["--gpus", "0,1"], [])
        check(abs(rate - 256 / 0.15) < 1e-6, f"images/s of steps: {rate}")
    check(open(f"{work}/n").read() == "5\n", "steps that were timed are not timed again")


def numbers(work):
    record(f"{work}/n", [60, 40, 20, 10], [(1, 30)])
    log = Log(f"{work}/n")
    check(log.training_curve() == [(1, 60), (2, 40), (3, 20), (4, 10)], f"training_curve: {log.training_curve()}")
    check(log.epochs_to(60) == 1 and log.epochs_to(25) == 2.75 and log.epochs_to(5) is None, "epochs_to")
    log.steps = log.steps[:-1]
    check(log.training_curve() == [(1, 60), (2, 40), (3, 20)], "an epoch that is not over does not count")
    mean = Mean([1, 2, 3])
    check(
        mean.mean == 2 and abs(mean.error - 3**-0.5) < 1e-12 and Mean([4]).error == 0 and Mean([4]).text(1) == "4.0",
        "Mean",
    )
    check(beyond_noise(Mean([1, 1.1]), Mean([2, 2.1])) and not beyond_noise(Mean([1, 2]), Mean([2, 3])), "beyond_noise")
    check(mean_curve([[(1, 2), (2, 4)], [(1, 4)]]) == [[1, 3]], "mean_curve")


with tempfile.TemporaryDirectory() as work:
    for part in (numbers, timed_steps, fetching, data, runs, recorded, bad_input):
        os.makedirs(f"{work}/{part.__name__}/results")
        part(f"{work}/{part.__name__}")
if failures:
    sys.exit(1)
print("the claims' driver is right about recorded runs")
