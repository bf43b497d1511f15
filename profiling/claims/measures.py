"""What each claim compares, at which size, and when it is said to hold."""

import collections
import json
import os
import re
import statistics
import subprocess

from runs import Failure, Mean, beyond_noise, mean_curve, write_json

Found = collections.namedtuple("Found", "measured held note method chart")
Claim = collections.namedtuple("Claim", "name says source measure reduced full imagenet")


def errors(logs):
    return Mean(log.last_error() for log in logs)


def held_out(logs):
    return mean_curve([(epoch, error) for epoch, _, error in log.evals] for log in logs)


def held_out_chart(title, arms, logs, x="epochs"):
    return {
        "title": title,
        "x": x,
        "series": [{"name": name, "points": held_out(logs[arm]), "dots": True} for arm, name in arms.items()],
    }


def lower_error(context, arms, common, better, worse, names, title):
    """Two arms, of which one is to end with the lower held-out error: what was measured, whether it held, why not, a chart."""
    logs = context.compare(arms, common)
    low, high = errors(logs[better]), errors(logs[worse])
    held = beyond_noise(low, high)
    note = "" if held else "the other way round" if beyond_noise(high, low) else "no difference beyond the noise"
    return (
        f"{low.text()} % {names[better]}, {high.text()} % {names[worse]}",
        held,
        note,
        held_out_chart(title, names, logs),
    )


# Images in 0 to 255 less their mean, and small weights.
AS_IN_2012 = ["--std", "1,1,1", "--init", "paper"]


# ---- ReLU and tanh ------------------------------------------------------------------------------------------
GOAL = 25  # percent


def relu_vs_tanh(c):
    arms = {"relu": ["--activation", "relu", "--lr", "0.001"], "tanh": ["--activation", "tanh", "--lr", "0.01"]}
    common = [
        "--net",
        "cifar",
        "--gpus",
        "0",
        *AS_IN_2012,
        "--lrn",
        "off",
        "--augment",
        "none",
        "--weight-decay",
        "0",
        "--lr-policy",
        "constant",
        "--eval-every",
        "0",
    ]
    logs = c.compare(arms, common, until=lambda log: log.epochs_to(GOAL) is not None)
    curves = {arm: mean_curve(log.training_curve() for log in logs[arm]) for arm in arms}
    longest = max((points[-1][0] for points in curves.values() if points), default=1)
    chart = {
        "title": "training error, %",
        "x": "epochs",
        "series": [
            {"name": "ReLU", "points": curves["relu"]},
            {"name": "tanh", "points": curves["tanh"]},
            {"name": f"{GOAL} %", "points": [[0, GOAL], [longest, GOAL]], "colour": 7, "dashed": True},
        ],
    }
    method = (
        "Four weighted layers, no regularisation of any kind, no normalisation, images in 0 to 255 less their mean and weights from N(0, 0.01), "
        "the rate with which the error fell fastest on 2,000 images: 0.001 for ReLUs (0.003 was slower), 0.01 for tanh (0.001 and 0.003 were slower, "
        f"0.03 diverged). Counted are the epochs until the mean error of an epoch's batches is {GOAL} %. Held: ReLUs need between 4 and 9 times fewer."
    )
    if not c.full:
        method += " A thousand images can be learned by heart, which the paper's 50,000 cannot so soon."
    reached = {arm: [log.epochs_to(GOAL) for log in logs[arm]] for arm in arms}
    late = [arm for arm in arms if None in reached[arm]]
    if "relu" in late:
        return Found(f"ReLUs did not reach {GOAL} % in {c.size['epochs']} epochs", False, "", method, chart)
    relu = Mean(reached["relu"])
    if late:
        least = c.size["epochs"] / relu.mean
        return Found(
            f"{relu.text(1)} epochs with ReLUs; tanh had not reached {GOAL} % after {c.size['epochs']}: more than {least:.1f} times as many",
            least >= 4,
            "" if least >= 4 else "not decided: tanh needs longer runs",
            method,
            chart,
        )
    tanh = Mean(reached["tanh"])
    ratio = tanh.mean / relu.mean
    held = 4 <= ratio <= 9 and beyond_noise(relu, tanh)
    note = "" if held else "fewer, by another factor" if beyond_noise(relu, tanh) else "not fewer"
    return Found(
        f"{relu.text(1)} epochs with ReLUs, {tanh.text(1)} with tanh: {ratio:.1f} times as many",
        held,
        note,
        method,
        chart,
    )


# ---- dropout ------------------------------------------------------------------------------------------------
def dropout(c):
    arms = {"without": ["--dropout", "0"], "with": ["--dropout", "0.5"]}
    net = "alexnet" if c.full else "mini"
    common = ["--net", net, "--gpus", "0"] + ([] if c.full else ["--lr-policy", "constant", "--augment", "none"])
    logs = c.compare(arms, common)
    loss = {arm: mean_curve([(e, l) for e, l, _ in log.evals] for log in logs[arm]) for arm in arms}
    error = {arm: held_out(logs[arm]) for arm in arms}
    if not all(loss.values()):
        raise Failure("a run without an evaluation: nothing was held out")
    rise = loss["without"][-1][1] / min(l for _, l in loss["without"])
    gap = {arm: Mean(log.last_error() - log.training_curve()[-1][1] for log in logs[arm]) for arm in arms}
    converged = {arm: next(e for e, v in error[arm] if v <= min(v for _, v in error[arm]) + 1) for arm in arms}
    ratio = converged["with"] / converged["without"]
    overfits = rise > 1.1 and beyond_noise(gap["with"], gap["without"])
    twice = 1.5 <= ratio <= 3
    note = (
        ""
        if overfits and twice
        else (
            "it overfits, by another factor of iterations"
            if overfits
            else "about twice the iterations, but it does not overfit" if twice else "neither"
        )
    )
    chart = {
        "title": "error, %",
        "x": "epochs",
        "series": [
            {
                "name": f"{arm} dropout, {kind}",
                "points": points,
                "colour": i,
                "dots": kind == "held out",
                "dashed": kind == "training",
            }
            for i, arm in enumerate(arms)
            for kind, points in (
                ("held out", error[arm]),
                ("training", mean_curve(log.training_curve() for log in logs[arm])),
            )
        ],
    }
    measured = (
        f"without: held-out loss ends {rise:.2f} times as high as its lowest, held-out error {errors(logs['without']).text(1)} %; "
        f"with: {errors(logs['with']).text(1)} %, after {ratio:.1f} times the iterations"
    )
    images = (
        ""
        if c.full
        else " Images are neither cropped at random nor mirrored, since that would put overfitting off beyond the reduced size."
    )
    method = (
        f"`{net}` with dropout of 0.5 and with none.{images} *Overfits*: the held-out loss ends more than a tenth above its lowest, and held-out and "
        "training error differ more than with dropout. *Iterations*: until the held-out error is within a point of its lowest; "
        "*about twice* is 1.5 to 3 times. Held: both."
    )
    return Found(measured, overfits and twice, note, method, chart)


# ---- pooling and normalisation ------------------------------------------------------------------------------
def overlap_pooling(c):
    arms = {"overlap": ["--pool", "overlap"], "plain": ["--pool", "plain"]}
    net = "alexnet" if c.full else "mini"
    common = ["--net", net, "--gpus", "0"] + ([] if c.full else ["--lr-policy", "linear"])
    names = {"overlap": "with 3x3/2", "plain": "with 2x2/2"}
    measured, held, note, chart = lower_error(c, arms, common, "overlap", "plain", names, "held-out error, %")
    method = f"`{net}`, whose maps have the same extents with either. Held: the error with overlapping windows is lower, by more than the noise."
    return Found("top-1 error " + measured, held, note, method, chart)


def lrn(c):
    arms = {"with": ["--lrn", "on", "--lr", "0.003"], "without": ["--lrn", "off", "--lr", "0.001"]}
    common = ["--net", "cifar", "--gpus", "0", *AS_IN_2012] + ([] if c.full else ["--lr-policy", "linear"])
    names = {"with": "with LRN", "without": "without"}
    measured, held, note, chart = lower_error(c, arms, common, "with", "without", names, "held-out error, %")
    method = (
        "Four weighted layers, images in 0 to 255 less their mean and weights from N(0, 0.01), as in 2012: of images that are divided by "
        "their standard deviation, the sums of squares are far below k = 2, and the normalisation is a mere factor. Each with that rate of "
        "0.001 and 0.003 with which its training error fell faster: 0.003 with LRN, 0.001 without. Held: the error with LRN is lower, by more than the noise; "
        "how low both are depends on the size."
    )
    return Found("test error " + measured, held, note, method, chart)


# ---- what the network costs ---------------------------------------------------------------------------------
def params_flops(c):
    text = subprocess.run([c.program("summary"), "alexnet"], capture_output=True, text=True)
    if text.returncode:
        raise Failure(text.stderr.strip().split("\n")[-1])
    rows = re.findall(r"^((?:conv|fc)\d+) +\S+ +([\d,]+) +\S+% +([\d,]+) +\S+%$", text.stdout, re.M)
    layers = [(name, int(p.replace(",", "")), int(m.replace(",", ""))) for name, p, m in rows]
    if len(layers) != 8:
        raise Failure("bin/summary alexnet does not list eight layers with weights")
    parameters, macs = sum(p for _, p, _ in layers), sum(m for _, _, m in layers)
    conv = [sum(row[i] for row in layers if row[0].startswith("conv")) for i in (1, 2)]
    shares = 100 * conv[0] / parameters, 100 * conv[1] / macs
    held = (
        round(parameters / 1e5) in (623, 624)
        and round(shares[0]) == 6
        and round(shares[1]) == 95
        and round(macs / 1e8) == 11
    )
    running = [[0, 0.0, 0.0]]
    for i, (_, p, m) in enumerate(layers, 1):
        running.append([i, running[-1][1] + 100 * p / parameters, running[-1][2] + 100 * m / macs])
    chart = {
        "title": "share of all up to a layer, %",
        "x": "layers with weights: conv1 to conv5, fc6 to fc8",
        "marks": [[5, "conv5"]],
        "series": [
            {"name": "parameters", "points": [[i, round(p, 3)] for i, p, _ in running], "dots": True},
            {"name": "multiply-adds", "points": [[i, round(m, 3)] for i, _, m in running], "dots": True},
        ],
    }
    return Found(
        f"{parameters:,} parameters, {macs / 1e9:.3f} G multiply-adds an image; convolutions: {shares[0]:.1f} % of parameters, {shares[1]:.1f} % of multiply-adds",
        held,
        "",
        "`bin/summary alexnet`, one tower, forward. Held: rounded, the figures are the claimed ones.",
        chart,
    )


# ---- two GPUs, and how wide the batch is ---------------------------------------------------------------------
WHOLE, OWN = ["--fc-update", "accumulate"], ["--fc-update", "per-pass"]


def images_per_s(c, arm, flags, logs):
    """On GPUs as the log has it; on virtual GPUs one step in virtual time (two devices do not slow each other down), the median of five."""
    if c.full:
        return statistics.median(rate for log in logs for _, _, rate in log.steps[10:] or log.steps)
    path, folder = os.path.join(c.root, f"step-{arm}.json"), os.path.join(c.root, f"step-{arm}")
    if not c.options.read and not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        times, spent = [], 0.0
        for _ in range(5):
            command = [
                c.program("train"),
                "--net",
                "mini",
                "--data",
                "synthetic:10:1024",
                *flags,
                "--batch",
                "128",
                "--steps",
                "3",
                "--eval-every",
                "0",
                "--out",
                folder,
                "--overwrite",
                "--timeline",
                os.path.join(folder, "step.svg"),
            ]
            usage, wrong = c.trainer.run(command, folder, None)
            if wrong:
                raise Failure(wrong)
            spent += usage.ru_utime + usage.ru_stime
            with open(os.path.join(folder, "step.json")) as f:
                times.append(json.load(f)["otherData"]["step_ms"])
        workers = flags[flags.index("--gpus") + 1].count(",") + 1
        write_json(path, {"step_ms": times, "images": 128 * workers, "cpu_seconds": round(spent, 1)})
    with open(path) as f:
        step = json.load(f)
    c.trainer.cpu_seconds += step["cpu_seconds"]
    return 1e3 * step["images"] / statistics.median(step["step_ms"])


def two_gpus(c):
    two = ["--gpus", "0,1", "--lr-scale", "k", "--fc-scheme"]
    arms = {
        "one": ["--gpus", "0"],
        "a": [*two, "a"],
        "b": [*two, "b", *OWN],
        "c": [*two, "c", *OWN],
        "dp": [*two, "dp"],
    }
    common = ["--net", "owt"] if c.full else ["--net", "mini", "--lr-policy", "linear"]
    logs = c.compare(arms, common)
    rate = {arm: images_per_s(c, arm, flags, logs[arm]) for arm, flags in arms.items()}
    error = {arm: errors(logs[arm]) for arm in arms}
    fast = [arm for arm in "abc" if rate[arm] >= 1.8 * rate["one"]]
    good = [
        arm for arm in "abc" if error[arm].mean <= error["one"].mean + 0.3 or not beyond_noise(error["one"], error[arm])
    ]
    measured = f"one: {error['one'].text(1)} %; " + "; ".join(
        f"{arm}: {rate[arm] / rate['one']:.2f} times as fast, {error[arm].text(1)} %" for arm in list(arms)[1:]
    )
    held = len(fast) == len(good) == 3
    note = (
        ""
        if held
        else "; ".join(
            what + ", ".join(sorted(set("abc") - set(which)))
            for which, what in ((fast, "less than 1.8 times as fast: "), (good, "more error: "))
            if len(which) < 3
        )
    )
    names = {arm: "one worker" if arm == "one" else f"two, scheme {arm}" for arm in arms}
    chart = {
        "title": "held-out error, %",
        "x": "time, in epochs of one worker",
        "series": [
            {
                "name": names[arm],
                "points": [[x * rate["one"] / rate[arm], y] for x, y in held_out(logs[arm])],
                "dots": True,
            }
            for arm in arms
        ],
    }
    timed = (
        "images/s of the runs"
        if c.full
        else "a step of batch 128 a worker in virtual time, in which two devices do not slow each other down"
    )
    method = (
        f"Schemes b and c update the fully connected layers after each worker's batch (per-pass), a and dp after both; rates of larger batches are "
        f"multiplied by 2 (`--lr-scale k`). dp is plain data parallelism, to compare with. Time: {timed}. Held: with each of a, b and c at least 1.8 "
        "times as fast, and the error at most 0.3 points higher, or within the noise."
    )
    return Found(measured, held, note, method, chart)


def width_of_batch(c):
    gpus = "0,1" if c.full else "0,1,2,3"
    many = ["--gpus", gpus, "--fc-scheme", "b", "--lr-scale", "k"]
    arms = {"own": [*many, *OWN], "whole": [*many, *WHOLE]}
    workers = gpus.count(",") + 1
    one = 128 if c.full else c.size["batch"]
    common = ["--net", "owt"] if c.full else ["--net", "mini", "--lr-policy", "linear"]
    names = {"own": f"with fc batch {one}", "whole": f"with {workers * one}"}
    measured, held, note, chart = lower_error(c, arms, common, "own", "whole", names, "held-out error, %")
    method = (
        f"{workers} workers, scheme b: convolutions on batches of {workers * one}, fully connected layers on one worker's {one} "
        "(`--fc-update per-pass`) or on the whole. Held: the error with the small batch is lower, by more than the noise."
    )
    return Found(f"convolutions' batch {workers * one}: top-1 error {measured}", held, note, method, chart)


def size(**of):
    return of


# Reduced: 100 to 300 CPU seconds a claim. Full: about the papers' epochs.
CLAIMS = [
    Claim(
        "relu-vs-tanh",
        "four layers reach 25 % training error on CIFAR-10 about six times sooner with ReLUs than with tanh",
        "2012, figure 1",
        relu_vs_tanh,
        size(net="`cifar`", train=1000, test=1000, batch=32, epochs=100, seeds=3),
        size(epochs=100, seeds=3),
        False,
    ),
    Claim(
        "dropout",
        "without dropout the network overfits; with it, it takes about twice the iterations",
        "2012, section 4.2",
        dropout,
        size(net="`mini`", train=1000, test=1000, batch=16, epochs=24, seeds=3),
        size(epochs=90, seeds=1),
        True,
    ),
    Claim(
        "overlap-pooling",
        "pooling 3x3 with stride 2 has 0.4 points less top-1 error than 2x2 with stride 2",
        "2012, section 3.4",
        overlap_pooling,
        size(net="`mini`", train=2000, test=1000, batch=32, epochs=8, seeds=3),
        size(epochs=90, seeds=1),
        True,
    ),
    Claim(
        "lrn",
        "normalisation takes the test error on CIFAR-10 from 13 % to 11 %",
        "2012, section 3.3",
        lrn,
        size(net="`cifar`", train=2000, test=1000, batch=32, epochs=10, seeds=3),
        size(epochs=200, seeds=3),
        False,
    ),
    Claim(
        "params-flops",
        "62.3 M parameters, 1.1 G multiply-adds; convolutions have 6 % of the parameters and 95 % of the compute",
        "counts of the 2012 network; 2014, section 2, has 5 % and 90 to 95 %",
        params_flops,
        {},
        {},
        False,
    ),
    Claim(
        "two-gpus",
        "two GPUs train 1.93 to 1.95 times as fast as one, to the same error within 0.3 points",
        "2014, table 1",
        two_gpus,
        size(net="`mini`", train=1000, test=1000, batch=16, epochs=8, seeds=3),
        size(epochs=90, seeds=1),
        True,
    ),
    Claim(
        "width-of-batch",
        "fully connected layers on batches of 128 give less error than on the whole batch: 42.27 % and 42.63 % with two GPUs, "
        "42.86 % and 43.28 % with eight",
        "2014, section 5 and table 1",
        width_of_batch,
        size(net="`mini`", train=2000, test=1000, batch=16, epochs=8, seeds=3),
        size(epochs=90, seeds=1),
        True,
    ),
]
