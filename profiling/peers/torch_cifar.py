#!/usr/bin/env python3
"""The network `cifar` trained by PyTorch and by bin/train with one recipe, for several seeds, in turns. Prints both
curves, epoch by epoch, as mean and standard deviation over the seeds: loss on the training images (mean over the
epoch's steps), loss and top-1 error on the held-out ones.

    python3 profiling/peers/torch_cifar.py --data records:DIR --epochs 5 --seeds 1,2,3 --json curves.json

The recipe is data/recipes/cifar; --epochs shortens it, and --every K takes every K-th image alone. --train "" leaves bin/train out, --torch off PyTorch. The two
draw other random numbers, so curves agree within the noise of the seeds and no better. PyTorch multiplies the
velocity with the step's rate, where bin/train has the rate in it, as the paper does: with a rate that falls slowly the
two differ by less than that noise.

Needs torch and numpy, and records that bin/pack has made of CIFAR-10.
"""

import argparse
import json
import math
import os
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
try:
    import numpy as np
    import torch
    import nets
except ImportError as e:
    sys.exit(f"torch_cifar.py: {e}: run it with a python3 that has PyTorch and NumPy")


def read_recipe(path):
    """{"--lr": "0.01"} of a file with a flag a line."""
    flags = {}
    with open(path) as lines:
        for line in lines:
            words = line.split("#")[0].split()
            if words:
                flags[words[0]] = words[1] if len(words) > 1 else ""
    return flags


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="records:DIR of CIFAR-10")
    p.add_argument("--epochs", type=int, default=0, help="default: the recipe's")
    p.add_argument("--every", type=int, default=1, help="a smaller set: every so many images")
    p.add_argument("--seeds", default="1,2,3")
    p.add_argument("--threads", type=int, default=1, help="CPU threads of each")
    p.add_argument("--recipe", default=os.path.join(ROOT, "data", "recipes", "cifar"))
    p.add_argument("--train", default=os.path.join(ROOT, "bin", "train"), help="bin/train; empty: it is left out")
    p.add_argument("--torch", default="on", choices=["on", "off"])
    p.add_argument("--json", help="a file for both curves")
    a = p.parse_args()
    kind, _, folder = a.data.partition(":")
    if kind != "records" or not os.path.isfile(os.path.join(folder, "stats.json")):
        sys.exit(f"torch_cifar.py: --data {a.data}: must be records:DIR, made by bin/pack")
    a.folder = folder
    a.flags = read_recipe(a.recipe)
    a.epochs = a.epochs or int(a.flags["--epochs"])
    a.seeds = [int(s) for s in a.seeds.split(",")]
    return a


def rate_of(policy, lr, step, steps, steps_per_epoch):
    """host/train/schedule.h"""
    done = step / steps
    if policy == "cosine":
        return lr * (1 + math.cos(math.pi * done)) / 2
    if policy == "linear":
        return lr * (1 - done)
    if policy == "constant":
        return lr
    if policy.startswith("step:"):
        return lr * 0.1 ** sum(step // steps_per_epoch >= int(e) for e in policy[5:].split(","))
    sys.exit(f"torch_cifar.py: no --lr-policy {policy} here: cosine, linear, constant or step:E1,E2")


def split(folder, name):
    part = os.path.join(folder, name)
    return np.load(os.path.join(part, "images.npy"), mmap_mode="r"), np.load(os.path.join(part, "labels.npy"))


def thin_out(folder, every, to):
    """Records of every so many images, of the training and the held-out ones."""
    for part in ("train", "test", "val"):
        if os.path.isdir(os.path.join(folder, part)):
            os.makedirs(os.path.join(to, part))
            images, labels = split(folder, part)
            np.save(os.path.join(to, part, "images.npy"), images[::every])
            np.save(os.path.join(to, part, "labels.npy"), labels[::every])
    for name in ("classes.txt", "stats.json"):
        shutil.copy(os.path.join(folder, name), to)


class Pixels:
    """Crops as data/sampling.h draws them, less the mean, by the standard deviation, as NCHW."""

    def __init__(self, folder, size):
        with open(os.path.join(folder, "stats.json")) as f:
            stats = json.load(f)
        self.mean = np.array(stats["mean"], np.float32)
        self.std = np.sqrt(np.diag(np.array(stats["covariance"]))).astype(np.float32)
        self.size = size

    def batch(self, images, y0, x0, mirror):
        n, s = len(images), self.size
        rows = (y0[:, None] + np.arange(s))[:, :, None]
        across = np.where(mirror[:, None], np.arange(s)[::-1], np.arange(s))
        x = images[np.arange(n)[:, None, None], rows, (x0[:, None] + across)[:, None, :]]
        return torch.from_numpy(np.ascontiguousarray(((x - self.mean) / self.std).transpose(0, 3, 1, 2)))

    def centre(self, images):
        n, free = len(images), images.shape[1] - self.size
        corner = np.full(n, free // 2)
        return self.batch(images, corner, corner, np.zeros(n, bool))

    def random(self, images, rng):
        n, free = len(images), images.shape[1] - self.size
        return self.batch(images, rng.integers(free + 1, size=n), rng.integers(free + 1, size=n), rng.random(n) < 0.5)


def he(net):
    """--init he (host/net/params.h): the last layer N(0, 0.01), biases 0."""
    layers = [m for m in net.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    for m in layers:
        inputs = m.weight[0].numel()
        torch.nn.init.normal_(m.weight, std=0.01 if m is layers[-1] else math.sqrt(2 / inputs))
        torch.nn.init.zeros_(m.bias)


def evaluate(net, pixels, images, labels):
    loss = wrong = 0
    with torch.no_grad():
        for i in range(0, len(labels), 500):
            y = torch.from_numpy(labels[i : i + 500])
            logits = net(pixels.centre(np.asarray(images[i : i + 500])))
            loss += float(torch.nn.functional.cross_entropy(logits, y, reduction="sum"))
            wrong += int((logits.argmax(1) != y).sum())
    return loss / len(labels), 100 * wrong / len(labels)


def torch_curve(a, seed):
    """[(training loss, held-out loss, held-out error)] by epoch."""
    f = a.flags
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    images, labels = split(a.folder, "train")
    images = np.asarray(images)
    held_out = split(a.folder, "test" if os.path.isdir(os.path.join(a.folder, "test")) else "val")
    pixels = Pixels(a.folder, nets.INPUT["cifar"])
    net = nets.make("cifar", int(labels.max()) + 1)
    he(net)
    lr, batch = float(f["--lr"]), int(f["--batch"])
    weights = [p for p in net.parameters() if p.dim() > 1]
    biases = [p for p in net.parameters() if p.dim() == 1]
    sgd = torch.optim.SGD(
        [{"params": weights, "weight_decay": float(f["--weight-decay"])}, {"params": biases, "weight_decay": 0}],
        lr=lr,
        momentum=float(f["--momentum"]),
    )
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=float(f.get("--label-smoothing", 0)))
    per_epoch = len(labels) // batch
    curve = []
    for epoch in range(a.epochs):
        order, total = rng.permutation(len(labels)), 0.0
        for i in range(per_epoch):
            for group in sgd.param_groups:
                group["lr"] = rate_of(f["--lr-policy"], lr, epoch * per_epoch + i, a.epochs * per_epoch, per_epoch)
            which = order[i * batch : (i + 1) * batch]
            loss = loss_of(net(pixels.random(images[which], rng)), torch.from_numpy(labels[which]))
            sgd.zero_grad(set_to_none=True)
            loss.backward()
            sgd.step()
            total += float(loss.detach())
        curve.append((total / per_epoch, *evaluate(net, pixels, *held_out)))
        print(f"seed {seed}, PyTorch, epoch {epoch + 1}: {curve[-1]}", file=sys.stderr)
    return curve


def train_curve(a, seed):
    """The same from the log of a run of bin/train."""
    with tempfile.TemporaryDirectory() as out:
        command = [
            a.train,
            "--data",
            a.data,
            "--gpus",
            "0",
            "--epochs",
            str(a.epochs),
            "--seed",
            str(seed),
            "--out",
            os.path.join(out, "run"),
        ]
        for flag, value in a.flags.items():
            if flag not in ("--epochs", "--data"):
                command += [flag, value]
        threads = str(a.threads)
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(os.environ, VGPU_THREADS=threads, OMP_NUM_THREADS=threads),
        )
        if done.returncode:
            last = (done.stdout.strip().splitlines() or ["no word"])[-1]
            sys.exit(f"torch_cifar.py: {shlex.join(command)}: exit {done.returncode}: {last}")
        with open(os.path.join(out, "run", "metrics.jsonl")) as lines:
            log = [json.loads(line) for line in lines]
    steps = [j for j in log if j["kind"] == "step"]
    curve = []
    for epoch, e in enumerate(j for j in log if j["kind"] == "eval"):
        losses = [s["loss"] for s in steps if epoch < s["epoch"] <= epoch + 1 + 1e-9]
        curve.append((statistics.mean(losses), e["loss"], e["top1_error"]))
    return curve


def cpu_seconds():
    return sum(
        u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main():
    a = arguments()
    if a.every == 1:
        return compare(a)
    with tempfile.TemporaryDirectory() as smaller:
        thin_out(a.folder, a.every, smaller)
        a.folder, a.data = smaller, "records:" + smaller
        compare(a)


def compare(a):
    torch.set_num_threads(a.threads)
    sides = {}
    if a.torch == "on":
        sides["PyTorch"] = torch_curve
    if a.train:
        sides["bin/train"] = train_curve
    curves, seconds = {s: [] for s in sides}, {s: 0.0 for s in sides}
    for seed in a.seeds:
        for side, curve in sides.items():
            begin = cpu_seconds()
            curves[side].append(curve(a, seed))
            seconds[side] += cpu_seconds() - begin
    print(
        f"cifar, {len(split(a.folder, 'train')[1])} training images, {a.epochs} epochs, seeds {','.join(map(str, a.seeds))}; "
        + " ".join(f"{k} {v}" for k, v in a.flags.items() if k != "--epochs")
    )
    print(
        f"PyTorch {torch.__version__}, {a.threads} threads; CPU seconds: "
        + ", ".join(f"{s} {t:.0f}" for s, t in seconds.items())
    )
    print("epoch  by         training loss     held-out loss     held-out top-1 error")
    for epoch in range(a.epochs):
        for side in sides:
            cells = []
            for i, digits in enumerate((4, 4, 2)):
                v = [c[epoch][i] for c in curves[side]]
                spread = statistics.stdev(v) if len(v) > 1 else 0
                cells.append(f"{statistics.mean(v):.{digits}f} +- {spread:.{digits}f}")
            print(f"{epoch + 1:5}  {side:9}  {cells[0]:16}  {cells[1]:16}  {cells[2]} %")
    if a.json:
        with open(a.json, "w") as f:
            json.dump(
                {
                    "torch": torch.__version__,
                    "seeds": a.seeds,
                    "epochs": a.epochs,
                    "flags": a.flags,
                    "cpu_seconds": seconds,
                    "curves": curves,
                },
                f,
                indent=1,
            )
            f.write("\n")


if __name__ == "__main__":
    main()
