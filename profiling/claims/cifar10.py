"""CIFAR-10 for the claims: found or fetched, and the part of it that a reduced size trains on."""

import os
import shutil
import subprocess
import tempfile

from runs import Failure

RECORD, CLASSES = 3073, 10
HINT = "give DATA=cifar10:DIR (the binary version) or DATA=folder:DIR (DIR/train/<class>/*.jpg and DIR/test likewise)"


def find(given, fetched):
    """KIND:DIR of what was given, or of what data/cifar10.sh fetches into the folder `fetched`."""
    if given:
        kind, _, folder = given.partition(":")
        if kind not in ("cifar10", "folder") or not folder:
            raise Failure(f"DATA={given}: {HINT}")
        if not os.path.isdir(folder):
            raise Failure(f"DATA={given}: no such folder")
        return kind, os.path.abspath(folder)
    done = subprocess.run(["data/cifar10.sh", fetched], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise Failure((done.stderr.strip().split("\n")[-1] or "data/cifar10.sh failed") + f"; or {HINT}")
    return "cifar10", os.path.abspath(fetched)


def reduced(kind, folder, train, test, into):
    """The first `train` and `test` images of each class, in the folder `into`. Returns what --data takes."""
    made_from = f"{kind}:{folder} {train} {test}\n"

    def is_there():
        try:
            with open(os.path.join(into, "made_from.txt")) as f:
                return f.read() == made_from
        except OSError:
            return False

    if not is_there():
        # Aside first: another claim may be making the same at this moment.
        os.makedirs(os.path.dirname(into), exist_ok=True)
        aside = tempfile.mkdtemp(prefix="making-", dir=os.path.dirname(into))
        try:
            (of_folder if kind == "folder" else of_binary)(folder, {"train": train, "test": test}, aside)
            with open(os.path.join(aside, "made_from.txt"), "w") as f:
                f.write(made_from)
            if not is_there():
                shutil.rmtree(into, ignore_errors=True)
                os.rename(aside, into)
        except OSError:
            if not is_there():
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return f"{kind}:{into}"


def of_folder(folder, wanted, into):
    """Links to the files."""
    for split, n in wanted.items():
        source = os.path.join(folder, split)
        if split == "test" and not os.path.isdir(source):
            source = os.path.join(folder, "val")
        if not os.path.isdir(source):
            raise Failure(f"{source} is missing: {HINT}")
        classes = sorted(c for c in os.listdir(source) if os.path.isdir(os.path.join(source, c)) and c[0] != ".")
        if len(classes) != CLASSES:
            raise Failure(f"{source} has {len(classes)} classes, and CIFAR-10 has {CLASSES}: {HINT}")
        for c in classes:
            files = sorted(
                f for f in os.listdir(os.path.join(source, c)) if f.lower().endswith((".jpg", ".jpeg", ".png"))
            )
            if len(files) < n:
                raise Failure(f"{source}/{c} has {len(files)} images, and {n} are wanted")
            os.makedirs(os.path.join(into, split, c))
            for f in files[:n]:
                os.symlink(os.path.join(source, c, f), os.path.join(into, split, c, f))


def of_binary(folder, wanted, into):
    """Batches of the same format: five for training, of equal length."""
    inner = os.path.join(folder, "cifar-10-batches-bin")
    if not os.path.exists(os.path.join(folder, "test_batch.bin")) and os.path.isdir(inner):
        folder = inner
    for split, n in wanted.items():
        names = [f"data_batch_{i}.bin" for i in range(1, 6)] if split == "train" else ["test_batch.bin"]
        kept, seen = [], [0] * 256
        for name in names:
            try:
                data = open(os.path.join(folder, name), "rb").read()
            except OSError as e:
                raise Failure(f"{folder}/{name}: {e.strerror}: {HINT}") from None
            for at in range(0, len(data) - RECORD + 1, RECORD):
                seen[data[at]] += 1
                if seen[data[at]] <= n:
                    kept.append(data[at : at + RECORD])
        if len(kept) != CLASSES * n:
            raise Failure(f"{folder} has too few images for {n} of each class in {split}")
        for i, name in enumerate(names):
            with open(os.path.join(into, name), "wb") as f:
                f.write(b"".join(kept[i :: len(names)]))
