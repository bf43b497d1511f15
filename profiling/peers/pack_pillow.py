#!/usr/bin/env python3
"""bin/pack beside Pillow, one core each, in turns: reading, decoding, resizing to a short side of 256, the
centre, and writing the pixels. CPU seconds, so that others' work counts little.

    python3 profiling/peers/pack_pillow.py FOLDER [ROUNDS]       FOLDER/CLASS/*.jpg; needs Pillow and NumPy
"""
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile

PILLOW = """
import os, sys
import numpy as np
from PIL import Image
root, out, side = sys.argv[1], sys.argv[2], 256
files = sorted(os.path.join(d, f) for d, _, names in os.walk(root) for f in names)
pixels = np.empty((len(files), side, side, 3), np.uint8)
for i, f in enumerate(files):
    image = Image.open(f).convert("RGB")
    w, h = image.size
    scale = side / min(w, h)
    w, h = max(side, round(w * scale)), max(side, round(h * scale))
    image = image.resize((w, h), Image.BILINEAR)
    x, y = (w - side) // 2, (h - side) // 2
    pixels[i] = np.asarray(image.crop((x, y, x + side, y + side)))
np.save(out, pixels)
"""


def cpu_seconds(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__.strip())
    folder, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    images = sum(len(names) for _, _, names in os.walk(folder))
    start = cpu_seconds([sys.executable, "-c", "import numpy; from PIL import Image"])
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as out:
        for _ in range(rounds):
            shutil.rmtree(out + "/records", ignore_errors=True)
            ours.append(cpu_seconds(["bin/pack", folder, out + "/records", "--threads", "1"]))
            theirs.append(cpu_seconds([sys.executable, "-c", PILLOW, folder, out + "/pixels.npy"]) - start)
    a, b = (images / statistics.median(t) for t in (ours, theirs))
    import PIL
    print(f"{images} images, medians of {rounds} rounds in turns, one core each")
    print(f"bin/pack       {a:7.0f} images/s")
    print(f"Pillow {PIL.__version__:7} {b:7.0f} images/s    bin/pack is {a / b:.2f} times as fast")


if __name__ == "__main__":
    main()
