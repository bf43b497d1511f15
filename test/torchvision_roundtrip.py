#!/usr/bin/env python3
"""torchvision's AlexNet in, fine-tuned, and back in PyTorch: the logits of both on the same images.

  test/torchvision_roundtrip.py PHOTOGRAPHS             a folder or .tar with five images or more, each of another class
  test/torchvision_roundtrip.py PHOTOGRAPHS --weights alexnet-owt-7be5be79.pth        torchvision's own, downloaded before

Needs torch, torchvision, safetensors, numpy and pillow (pip), and bin/train. Without --weights the network has random weights,
drawn as He et al. do, so that logits are of order 1. Each of five photographs becomes a class of some tens of images: random
crops, mirrored, brighter or darker, as PNG files of 256 x 256, which both sides read to the same bit. Then

  1. torchvision's weights, as fp32, fp16 and bf16, evaluated by bin/train against PyTorch (1000 classes)
  2. the same from a .pth file, converted as bin/train says
  3. fine-tuned on the five classes with all but the last layers frozen, exported, loaded by load_state_dict: against PyTorch,
     and what was frozen against what came in

and bin/classify names the classes that PyTorch names, with the weights of 1 and of 3. It ends with 1 when a logit differs by more than --tolerance.
"""
import argparse
import io
import json
import os
import random
import re
import subprocess
import sys
import tarfile

import numpy as np
import safetensors
import torch
import torchvision
from PIL import Image, ImageEnhance, ImageOps
from safetensors.torch import load_file, save_file

SIDE, CROP = 256, 224
FROZEN = "conv1,conv2,conv3,conv4,conv5,fc6"
failures = 0


def photographs(source, count):
    """The first `count` images, by name."""
    if os.path.isdir(source):
        files = [(n, open(os.path.join(source, n), "rb").read()) for n in sorted(os.listdir(source))]
    else:
        with tarfile.open(source) as tar:
            files = [(os.path.basename(m.name), tar.extractfile(m).read()) for m in tar if m.isfile()]
    images = [(n, d) for n, d in sorted(files) if n.lower().endswith((".jpg", ".jpeg", ".png"))]
    if len(images) < count:
        sys.exit(f"{source} has {len(images)} images, {count} are needed")
    return [(os.path.splitext(n)[0], Image.open(io.BytesIO(d)).convert("RGB")) for n, d in images[:count]]


def variation(image, rng):
    """A random crop of at least half of each side, mirrored or not, brighter or darker."""
    side = int(min(image.size) * rng.uniform(0.5, 1))
    left, top = rng.randint(0, image.width - side), rng.randint(0, image.height - side)
    crop = image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.BILINEAR)
    if rng.random() < 0.5:
        crop = ImageOps.mirror(crop)
    return ImageEnhance.Brightness(crop).enhance(rng.uniform(0.7, 1.3))


def make_set(folder, classes, train, val, seed=1):
    rng = random.Random(seed)
    for name, image in classes:
        for split, n in (("train", train), ("val", val)):
            os.makedirs(f"{folder}/{split}/{name}")
            for i in range(n):
                variation(image, rng).save(f"{folder}/{split}/{name}/{i:03}.png")


def make_thousand(folder, val):
    """As many classes as torchvision's weights have: one image in each, and the other set's held-out ones as class 0."""
    images = held_out(val)
    for i in range(1000):
        os.makedirs(f"{folder}/train/c{i:03}")
        os.link(images[0], f"{folder}/train/c{i:03}/0.png")
    os.makedirs(f"{folder}/val/c000")
    for i, image in enumerate(images):
        os.link(image, f"{folder}/val/c000/{i:03}.png")


def held_out(folder):
    val = f"{folder}/val"
    return [f"{val}/{c}/{n}" for c in sorted(os.listdir(val)) for n in sorted(os.listdir(f"{val}/{c}"))]


def train(*arguments, status=0):
    command = [ARGS.program, *arguments]
    print("$ " + " ".join(command), flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in done.stdout.splitlines():
        if re.match(r"(weights|frozen|export|notice|best|val|test|wrote|train:)", line):
            print("  " + line)
    if done.returncode != status:
        sys.exit(done.stdout + f"\nexit status {done.returncode}")
    return done.stdout


def torch_logits(net, images, mean, std):
    margin = (SIDE - CROP) // 2
    pixels = np.stack([np.asarray(Image.open(f))[margin:-margin, margin:-margin] for f in images])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    x = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.inference_mode():
        return net.eval()(x).numpy()


def compare(what, ours, theirs):
    global failures
    apart = np.abs(ours - theirs).max() if ours.shape == theirs.shape else np.inf
    good = apart <= ARGS.tolerance
    failures += not good
    print(f"{'ok' if good else 'WRONG':6}{what}: {ours.shape[0]} images x {ours.shape[1]} logits, up to {np.abs(theirs).max():.3g}; "
          f"the largest difference is {apart:.2g}", flush=True)


def compare_top5(what, weights, images, logits, names):
    """bin/classify's five likeliest classes of each image and their probabilities, against PyTorch's."""
    global failures
    command = [os.path.join(os.path.dirname(ARGS.program), "classify"), weights, *images, "--json"]
    print("$ " + " ".join(command[:2]) + " IMAGES --json", flush=True)
    said = [json.loads(line) for line in subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()]
    p = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    same, apart = 0, 0.0
    for answer, row in zip(said, p, strict=True):
        order = np.argsort(-row, kind="stable")[:5]
        same += [c["class"] for c in answer["classes"]] == [names(k) for k in order]
        apart = max(apart, max(abs(c["probability"] - row[c["number"]]) for c in answer["classes"]))
    good = same == len(images) and apart <= ARGS.tolerance
    failures += not good
    print(f"{'ok' if good else 'WRONG':6}bin/classify with {what}: the same five likeliest classes of {same} of {len(images)} images; "
          f"probabilities differ by {apart:.2g} at most", flush=True)


def random_alexnet():
    torch.manual_seed(1)
    net = torchvision.models.alexnet(weights=None)
    for name, p in net.named_parameters():
        if name.endswith("weight"):
            torch.nn.init.kaiming_normal_(p, nonlinearity="relu")
        else:
            torch.nn.init.normal_(p, std=0.1)
    return net


def main():
    os.makedirs(ARGS.out)
    os.chdir(ARGS.out)
    net = random_alexnet()
    if ARGS.weights:
        net.load_state_dict(torch.load(ARGS.weights, weights_only=True))
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, safetensors {safetensors.__version__}")
    make_set("five", photographs(ARGS.photographs, 5), ARGS.images, 6)
    make_thousand("thousand", "five")
    mean, std = [[255 * v for v in three] for three in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]

    state = {k: v.clone() for k, v in net.state_dict().items()}
    evaluate = ["--net", "owt", "--data", "folder:thousand", "--eval-only", "--batch", "10", "--gpus", ARGS.gpus]
    for name, dtype in (("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)):
        rounded = {k: v.to(dtype) for k, v in state.items()}
        save_file(rounded, f"{name}.safetensors")
        net.load_state_dict({k: v.float() for k, v in rounded.items()})
        train(*evaluate, "--init", f"{name}.safetensors", "--predictions", f"{name}.npy")
        compare(f"torchvision's weights as {name}", np.load(f"{name}.npy"), torch_logits(net, held_out("thousand"), mean, std))

    net.load_state_dict({k: v.float() for k, v in load_file("fp32.safetensors").items()})
    images = held_out("thousand")
    compare_top5("torchvision's weights", "fp32.safetensors", images, torch_logits(net, images, mean, std), lambda k: f"class {k}")

    torch.save(state, "weights.pth")
    said = train(*evaluate, "--init", "weights.pth", "--predictions", "pth.npy", status=1)
    subprocess.run(re.search(r"(python3 -c '.*?') makes", said)[1].replace("python3", sys.executable, 1), shell=True, check=True)
    train(*evaluate, "--init", "weights.safetensors", "--predictions", "pth.npy")
    net.load_state_dict(state)
    compare("a .pth file, converted", np.load("pth.npy"), torch_logits(net, held_out("thousand"), mean, std))

    train("--net", "owt", "--data", "folder:five", "--init", "fp32.safetensors", "--freeze", FROZEN, "--augment", "crop", "--batch", "10",
          "--epochs", str(ARGS.epochs), "--lr", "1e-4", "--lr-policy", "constant", "--gpus", ARGS.gpus, "--out", "run")
    train("--resume", "run", "--export", "torchvision", "out.safetensors")
    train("--resume", "run", "--eval-only", "--predictions", "run.npy")
    train("--resume", "run", "--eval-only", "--predictions", "run.csv")
    back = torchvision.models.alexnet(num_classes=5)
    tuned = load_file("out.safetensors")
    print(back.load_state_dict(tuned))
    with safetensors.safe_open("out.safetensors", "pt") as f:
        normalisation = json.loads(f.metadata()["normalisation"])
        classes = json.loads(f.metadata()["classes"])
    theirs = torch_logits(back, held_out("five"), normalisation["mean"], normalisation["std"])
    compare("fine-tuned, exported, loaded by load_state_dict", np.load("run.npy"), theirs)
    compare_top5("the fine-tuned network", "run/checkpoint.safetensors", held_out("five"), theirs, lambda k: classes[k])
    right = [classes[k] == os.path.basename(os.path.dirname(f)) for k, f in zip(theirs.argmax(1), held_out("five"))]
    print(f"      PyTorch finds the class of {sum(right)} of {len(right)} held-out images")
    frozen = [k for k in tuned if torch.equal(tuned[k], state[k]) if tuned[k].shape == state[k].shape]
    print(f"      to the bit as they came: {', '.join(frozen)}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=os.path.abspath)
    parser.add_argument("--weights", type=os.path.abspath, help="a .pth file of torchvision's AlexNet; default: random weights")
    parser.add_argument("--program", type=os.path.abspath, default="bin/train")
    parser.add_argument("--gpus", default="0,1")
    parser.add_argument("--images", type=int, default=24, help="for training, of each class (24)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--out", default="/tmp/torchvision_roundtrip", help="a folder that is not there yet")
    ARGS = parser.parse_args()
    main()
