#!/bin/bash
# CIFAR-10's binary version, fetched and checked, for --data cifar10:DIR: six files of 30,730,000 bytes.
#
#   data/cifar10.sh DIR
#   URL=...             another place of the same archive (162 MB); file:///... where it was copied to
#
# Does nothing where DIR has the files. Needs curl or wget, sha256sum and tar.
set -euo pipefail
fail() {
    echo "cifar10.sh: $*" >&2
    exit 1
}
case ${1:-} in
    -h | --help)
        sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
esac
[ $# = 1 ] || { echo "usage: data/cifar10.sh DIR" >&2; exit 2; }
dir=$1 url=${URL:-https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz}
sum=c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd
files=(data_batch_{1..5}.bin test_batch.bin)
whole() { for f in "${files[@]}"; do [ "$(stat -c %s "$1/$f" 2>/dev/null)" = 30730000 ] || return 1; done; }

whole "$dir" && { echo "$dir has CIFAR-10"; exit 0; }
mkdir -p "$dir" || fail "cannot make the folder $dir"
part=$dir/.part
trap 'rm -rf "$part"' EXIT
rm -rf "$part" && mkdir "$part"
echo "fetching $url"
if command -v curl >/dev/null; then
    why=$(curl -fsSL --connect-timeout 20 --max-time 3600 -o "$part/archive" "$url" 2>&1) || fail "$url could not be fetched (${why##*$'\n'})"
elif command -v wget >/dev/null; then
    wget -q -T 20 -O "$part/archive" "$url" || fail "$url could not be fetched (wget ended with $?)"
else
    fail "neither curl nor wget is here to fetch $url"
fi
[ "$(sha256sum "$part/archive" | cut -d' ' -f1)" = $sum ] ||
    fail "what $url gave is another file than CIFAR-10's archive (its SHA-256 is not $sum)"
tar -xzf "$part/archive" -C "$part" --strip-components=1 || fail "$part/archive does not unpack"
whole "$part" || fail "the archive lacks files"
mv "$part"/*.bin "$part/batches.meta.txt" "$dir/"
echo "$dir has CIFAR-10"
