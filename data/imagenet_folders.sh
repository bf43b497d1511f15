#!/bin/bash
# ILSVRC-2012's three archives to the folders that --data folder:DIR reads:
#   DIR/train/<wnid>/*.JPEG (1,281,167) and DIR/val/<wnid>/*.JPEG (50,000)
#
#   data/imagenet_folders.sh SOURCE DIR
#
# SOURCE holds ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz from image-net.org
# (after signing in; this script downloads nothing). Needs tar, python3 and about 150 GB in DIR. Classes become
# sorted wnids; the devkit's own numbers (ILSVRC2012_ID) have another order, so the validation truth goes
# through its meta.mat, and is checked against the training classes. Can be run again after a stop.
set -euo pipefail
fail() {
    echo "imagenet_folders: $*" >&2
    exit 1
}
[ $# = 2 ] || { echo "usage: data/imagenet_folders.sh SOURCE DIR" >&2; exit 2; }
source=$1 dir=$2
for f in ILSVRC2012_img_train.tar ILSVRC2012_img_val.tar ILSVRC2012_devkit_t12.tar.gz; do
    [ -f "$source/$f" ] || fail "$source/$f is missing"
done
command -v python3 > /dev/null || fail "python3 is missing; it reads the devkit's meta.mat"
mkdir -p "$dir/train" "$dir/val"

# A class is unpacked aside and renamed, so what is there is whole.
tar -tf "$source/ILSVRC2012_img_train.tar" | sed -nE 's|^((\./)?n[0-9]+)\.tar$|\1|p' | while read -r member; do
    wnid=${member#./}
    [ -d "$dir/train/$wnid" ] && continue
    rm -rf "$dir/train/.part" && mkdir "$dir/train/.part"
    echo "train/$wnid"
    tar -xOf "$source/ILSVRC2012_img_train.tar" "$member.tar" | tar -xf - -C "$dir/train/.part"
    mv "$dir/train/.part" "$dir/train/$wnid"
done

rm -rf "$dir/.val" "$dir/.devkit" && mkdir "$dir/.val" "$dir/.devkit"
tar -xzf "$source/ILSVRC2012_devkit_t12.tar.gz" -C "$dir/.devkit" --strip-components=1
for f in data/meta.mat data/ILSVRC2012_validation_ground_truth.txt; do
    [ -f "$dir/.devkit/$f" ] || fail "$source/ILSVRC2012_devkit_t12.tar.gz has no regular file $f"
done
tar -xf "$source/ILSVRC2012_img_val.tar" -C "$dir/.val"
python3 - "$dir" << 'PYTHON'
import os, re, struct, sys, zlib
top = sys.argv[1]
mat = open(f"{top}/.devkit/data/meta.mat", "rb").read()

# MATLAB level 5: elements of (type, length, data); type 15 is compressed, 14 a matrix of further elements.
def elements(b, at=0):
    while at + 8 <= len(b):
        kind, size = struct.unpack_from("<II", b, at)
        if kind >> 16:  # short form: type, size and data in 8 bytes
            yield kind & 0xFFFF, b[at + 4:at + 4 + (kind >> 16)]
            at += 8
        else:
            yield kind, b[at + 8:at + 8 + size]
            at += 8 + (size if kind == 15 else (size + 7) // 8 * 8)

def number(b):  # the first value of a numeric matrix: flags, extents, name, values
    kind, data = list(elements(b))[3]
    form = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d"}[kind]
    return int(struct.unpack_from("<" + form, data)[0])

def text(b):
    kind, data = list(elements(b))[3]
    return data.decode({4: "utf-16-le", 17: "utf-16-le"}.get(kind, "utf-8"))

wnid_of = {}
for kind, data in elements(mat, 128):
    if kind == 15:
        kind, data = next(elements(zlib.decompress(data)))
    parts = list(elements(data)) if kind == 14 else []
    if len(parts) < 6 or parts[2][1].rstrip(b"\0") != b"synsets":
        continue
    width = struct.unpack("<i", parts[3][1][:4])[0]
    names = [n.rstrip(b"\0").decode() for n in re.findall(b".{%d}" % width, parts[4][1], re.S)]
    cells = [d for _, d in parts[5:]]
    for i in range(0, len(cells), len(names)):
        row = dict(zip(names, cells[i:i + len(names)]))
        wnid_of[number(row["ILSVRC2012_ID"])] = text(row["WNID"])

truth = [int(x) for x in open(f"{top}/.devkit/data/ILSVRC2012_validation_ground_truth.txt").read().split()]
images = sorted(f for f in os.listdir(f"{top}/.val") if f.upper().endswith(".JPEG"))
train = {d for d in os.listdir(f"{top}/train") if d[0] != "."}
used = {wnid_of.get(t) for t in truth}
if len(truth) != len(images):
    sys.exit(f"imagenet_folders: {len(images)} validation images but {len(truth)} labels")
if not used <= train:
    sys.exit(f"imagenet_folders: validation classes that training lacks: {sorted(map(str, used - train))[:3]}")
for image, t in zip(images, truth):
    os.makedirs(f"{top}/val/{wnid_of[t]}", exist_ok=True)
    os.rename(f"{top}/.val/{image}", f"{top}/val/{wnid_of[t]}/{image}")
print(f"{len(train)} classes, {len(images)} validation images in {top}")
PYTHON
rm -rf "$dir/.val" "$dir/.devkit"
