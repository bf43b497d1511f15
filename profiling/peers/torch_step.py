#!/usr/bin/env python3
"""One training step against PyTorch: the same weights (safetensors), the same images, one step of plain SGD in fp32.
The loss must agree within 1e-5 relative, and the gradient of every parameter, taken from the difference of the
weights before and after, within 1e-3 relative in norm. Exits 1 when one does not.

    python3 profiling/peers/torch_step.py --net alexnet --images 8 --train "--kernels own" --train ""

makes DIR/w.safetensors and DIR/data/train/CLASS/N.png, runs bin/train once for each --train (its further flags) and
compares each. --prepare stops before bin/train and prints its command; --check RUN compares a run made by hand.
--self shows what rounding alone does: PyTorch's own fp32 step against its fp64 one.

The rate. A weight w and its step lr * g are added in fp32, so the difference knows g to about
2^-25 * |w| / (lr * |g|) relative. The rate is therefore taken as large as it must be for that to be small for every
parameter (nothing is computed with the new weights); --lr overrides it.
"""
import argparse
import json
import os
import struct
import subprocess
import sys
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
try:
    import numpy as np
    import torch
    import nets
except ImportError as e:
    sys.exit(f"torch_step.py: {e}: install PyTorch (pip install torch numpy) and run with that python3")

SIDE = 256  # of the images: stored as they are, so that no resampling comes between
LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-3


# ---- files ------------------------------------------------------------------------------------------------
def write_safetensors(path, tensors):
    """{name: fp32 array}. 8 bytes of header length, a JSON header, the bytes."""
    header, at = {}, 0
    for name, a in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".tmp", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for a in tensors.values():
            f.write(np.ascontiguousarray(a, "<f4").tobytes())
    os.replace(path + ".tmp", path)


def read_safetensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    return {name: np.frombuffer(data, "<f4", (e["data_offsets"][1] - e["data_offsets"][0]) // 4,
                                e["data_offsets"][0]).reshape(e["shape"])
            for name, e in header.items() if name != "__metadata__" and e["dtype"] == "F32"}


def write_png(path, rgb):
    """8-bit RGB, no filter, no interlace."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    h, w, _ = rgb.shape
    rows = b"".join(b"\0" + rgb[y].tobytes() for y in range(h))
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)) +
                chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))


# ---- what both sides compute from -------------------------------------------------------------------------
def make_images(n, rng):
    """Smooth blobs of colour with noise on top: no flat regions, in which max pooling would have to break ties."""
    coarse = torch.from_numpy(rng.normal(0, 1, (n, 3, 9, 9)))
    smooth = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic", align_corners=True).numpy()
    x = 120 + 45 * smooth + rng.normal(0, 20, smooth.shape)
    return np.clip(np.rint(x), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def make_weights(net, rng):
    """He's scale, so that signals keep their size through the layers; small biases, none of them zero."""
    w = {}
    for name, p in net.named_parameters():
        shape = tuple(p.shape)
        if name.endswith(".bias"):
            w[name] = rng.normal(0, 0.05, shape).astype(np.float32)
        else:
            scale = 0.01 if name.startswith("fc8") else (2.0 / np.prod(shape[1:])) ** 0.5
            w[name] = rng.normal(0, scale, shape).astype(np.float32)
    return w


def centre_crops(images, size):
    at = (SIDE - size) // 2
    return images[:, at:at + size, at:at + size, :]


def torch_step(a, weights, images, labels, dtype):
    """Mean loss of the batch, and the gradient of every parameter."""
    net = nets.make(a.net, a.classes, dropout=0.0)
    net.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in weights.items()})
    net = net.to(dtype).train()
    x = torch.from_numpy(centre_crops(images, nets.INPUT[a.net]).copy()).to(dtype)
    x = (x - torch.tensor(a.mean, dtype=dtype)) / torch.tensor(a.std, dtype=dtype)
    loss = torch.nn.functional.cross_entropy(net(x.permute(0, 3, 1, 2).contiguous()), torch.from_numpy(labels))
    loss.backward()
    return float(loss), {k: p.grad.double().numpy() for k, p in net.named_parameters()}


def norm(x):
    return float(np.sqrt(np.sum(np.square(x, dtype=np.float64))))


def difference_error(w, g, lr):
    """What rounding the new weight to fp32 alone does to (w0 - w1) / lr, relative to the gradient's norm."""
    new = (w.astype(np.float64) - lr * g).astype(np.float32)
    return norm((w.astype(np.float64) - new) / lr - g) / norm(g)


def choose_rate(weights, gradients):
    """The least power of ten at which rounding takes a fiftieth of the tolerance at most."""
    for k in range(-2, 7):
        if all(difference_error(weights[n], g, 10.0 ** k) < GRADIENT_TOLERANCE / 50 for n, g in gradients.items()):
            return 10.0 ** k
    sys.exit("torch_step.py: no rate up to 1e6 resolves every gradient: are some zero?")


# ---- comparison -------------------------------------------------------------------------------------------
def row(name, got, want):
    if got.shape != want.shape:
        print(f"  {name:<14} shape {list(got.shape)}, PyTorch's is {list(want.shape)}  WRONG")
        return False
    error = norm(got - want) / norm(want)
    ok = error <= GRADIENT_TOLERANCE  # a NaN is not
    print(f"  {name:<14} {norm(want):>12.5g} {norm(got):>12.5g} {error:>10.2e}  {'ok' if ok else 'WRONG'}")
    return ok


def table(title, loss, loss_want, gradients, wanted):
    error = abs(loss - loss_want) / abs(loss_want)
    ok = error <= LOSS_TOLERANCE
    print(f"{title}\n  loss {loss:.9g}, PyTorch {loss_want:.9g}, relative error {error:.2e}  {'ok' if ok else 'WRONG'}")
    print(f"  {'gradient of':<14} {'PyTorch norm':>12} {'norm':>12} {'error':>10}")
    for name, want in wanted.items():
        if name in gradients:
            ok = row(name, gradients[name], want) and ok
        else:
            print(f"  {name:<14} is not there  WRONG")
            ok = False
    return ok


def check(a, run, weights, lr, loss_want, wanted):
    with open(os.path.join(run, "metrics.jsonl")) as f:
        steps = [j for j in map(json.loads, f) if j["kind"] == "step"]
    after = read_safetensors(os.path.join(run, "checkpoint.safetensors"))
    if not steps or steps[0]["loss"] is None:
        print(f"{run}: no step with a loss in metrics.jsonl  WRONG")
        return False
    got = {n: (w.astype(np.float64) - after[n]) / lr for n, w in weights.items() if n in after}
    return table(f"{run}: {a.net}, {a.images} images, rate {lr:g}", steps[0]["loss"], loss_want, got, wanted)


# ---- the program ------------------------------------------------------------------------------------------
def numbers(text):
    v = [float(x) for x in text.split(",")]
    if len(v) != 3:
        raise argparse.ArgumentTypeError(f"'{text}': must be R,G,B")
    return v


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--net", default="alexnet", choices=[n for n in nets.INPUT if n not in ("cifar", "mini")])
    p.add_argument("--images", type=int, default=8, help="images, all of them in the one batch")
    p.add_argument("--classes", type=int, default=0, help="default: as many as images, at most 1000")
    p.add_argument("--dir", default="", help="default: build/peers/NET")
    p.add_argument("--mean", type=numbers, default=[123.0, 117.0, 104.0], help="R,G,B, of 0..255")
    p.add_argument("--std", type=numbers, default=[58.0, 57.0, 57.5], help="R,G,B, of 0..255")
    p.add_argument("--lr", type=float, default=0.0, help="default: what resolves every gradient")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--gpus", default="0", help="for bin/train; --batch is divided among them")
    p.add_argument("--train", action="append", metavar="FLAGS", help="run bin/train with these further flags")
    p.add_argument("--program", default="bin/train")
    p.add_argument("--prepare", action="store_true")
    p.add_argument("--check", metavar="RUN")
    p.add_argument("--self", action="store_true", dest="self_check")
    a = p.parse_args()
    a.classes = a.classes or min(a.images, 1000)
    if not 1 <= a.classes <= a.images:
        p.error(f"--classes {a.classes}: must be 1 to --images, no class's folder may be empty")
    if a.images % len(a.gpus.split(",")):
        p.error(f"--images {a.images}: must divide among --gpus {a.gpus}")
    a.dir = a.dir or os.path.join("build", "peers", a.net)
    a.train = a.train or [""]
    return a


def prepare(a, weights, images, labels):
    write_safetensors(os.path.join(a.dir, "w.safetensors"), weights)
    train = os.path.join(a.dir, "data", "train")
    if os.path.isdir(train):  # of an earlier call, perhaps with other images
        for c in os.listdir(train):
            for f in os.listdir(os.path.join(train, c)):
                os.remove(os.path.join(train, c, f))
            os.rmdir(os.path.join(train, c))
    for i, (image, label) in enumerate(zip(images, labels)):
        folder = os.path.join(train, f"class{label:04d}")
        os.makedirs(folder, exist_ok=True)
        write_png(os.path.join(folder, f"{i:05d}.png"), image)


def train_command(a, lr, out, flags):
    triple = lambda v: ",".join(f"{x:g}" for x in v)
    return [a.program, "--net", a.net, "--init", os.path.join(a.dir, "w.safetensors"),
            "--data", "folder:" + os.path.join(a.dir, "data"), "--augment", "none", "--dropout", "0",
            "--momentum", "0", "--weight-decay", "0", "--steps", "1", "--lr-policy", "constant", "--lr", f"{lr:g}",
            "--gpus", a.gpus, "--batch", str(a.images // len(a.gpus.split(","))),
            "--mean", triple(a.mean), "--std", triple(a.std), "--out", out, "--overwrite",
            ] + flags.split()


def main():
    a = arguments()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    rng = np.random.default_rng(a.seed)
    images = make_images(a.images, rng)
    labels = np.arange(a.images, dtype=np.int64) % a.classes
    weights = make_weights(nets.make(a.net, a.classes), rng)
    loss, gradients = torch_step(a, weights, images, labels, torch.float32)
    lr = a.lr or choose_rate(weights, gradients)

    if a.self_check:
        exact_loss, exact = torch_step(a, weights, images, labels, torch.float64)
        rounded = {n: (w.astype(np.float64) - (w - np.float32(lr) * gradients[n].astype(np.float32))) / lr
                   for n, w in weights.items()}
        sys.exit(not table(f"PyTorch fp32 against fp64: {a.net}, {a.images} images, rate {lr:g}",
                           loss, exact_loss, rounded, exact))
    if a.check:
        sys.exit(not check(a, a.check, weights, lr, loss, gradients))
    os.makedirs(a.dir, exist_ok=True)
    prepare(a, weights, images, labels)
    ok = True
    for i, flags in enumerate(a.train):
        out = os.path.join(a.dir, f"run{i}")
        command = train_command(a, lr, out, flags)
        if a.prepare:
            print(" ".join(command))
            continue
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if run.returncode != 0:
            print(f"{' '.join(command)}\n  exit {run.returncode}: {run.stdout.strip().splitlines()[-1:]}")
            ok = False
            continue
        ok = check(a, out, weights, lr, loss, gradients) and ok
    sys.exit(not ok)


if __name__ == "__main__":
    main()
