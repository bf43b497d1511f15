"""The page of all claims, README.md, from the results beside it."""

import json
import os

from runs import Failure

HEAD = """# The papers' claims, measured here

This page is made by `make claims` (or `make claim-NAME`, which measures one) from the `.json` files beside it; do not edit it.
*2012* is Krizhevsky, Sutskever and Hinton's paper, *2014* [one weird trick](https://arxiv.org/abs/1404.5997).

    make claims DATA=cifar10:DIR                    # CIFAR-10's binary version; without DATA it is fetched
    make claim-lrn DATA=folder:DIR                  # or images in DIR/train/<class>/* and DIR/test/<class>/*
    make claim-dropout FULL=1 IMAGENET=records:DIR  # the paper's size, on GPUs; CIFAR-10's claims take DATA
    make claims CLAIMS="--jobs 1"                   # runs at once; default: one a core

On a CPU the size is reduced: a part of CIFAR-10 and a small network, so a claim that does not hold below does not hold *at
that size*. A difference counts when it is more than twice its standard error over the seeds; `+-` is the standard error of a
mean. Runs lie under `runs/claims`: a claim that was stopped goes on, and finished runs are taken as they are.
"""


def verdict(result):
    return "held" if result["held"] else "not held"


def line(name, result):
    note = f" ({result['note']})" if result["note"] else ""
    return f"claim-{name}: {verdict(result)}{note}; claimed: {result['claim']}; measured here: {result['measured']}"


def read(folder):
    from measures import CLAIMS

    results = {}
    for claim in CLAIMS:
        path = os.path.join(folder, claim.name + ".json")
        if not os.path.exists(path):
            continue
        try:
            with open(path) as f:
                results[claim.name] = json.load(f)
            line(claim.name, results[claim.name])
        except (ValueError, KeyError, TypeError):
            raise Failure(f"{path} is not a result of a claim: remove it, and run make claim-{claim.name}") from None
    return results, [c.name for c in CLAIMS if c.name not in results]


def write(folder):
    results, missing = read(folder)
    rows = ["| claim | the paper says | measured here | |", "|---|---|---|---|"]
    parts = []
    for name, r in results.items():
        rows.append(
            f"| [`{name}`](#{name}) | {r['claim']} ({r['source']}) | {r['measured']} | **{verdict(r)}**{': ' + r['note'] if r['note'] else ''} |"
        )
        part = [
            f"## {name}",
            "",
            f"![{name}]({name}.svg)",
            "",
            r["method"],
            "",
            f"Size: {r['size']}. {r['machine']}, {r['date']}",
        ]
        part[-1] += f", {r['cpu_seconds']} CPU seconds." if r["cpu_seconds"] else "."
        parts.append("\n".join(part))
    if missing:
        rows.append("\nNot measured yet: " + ", ".join(f"`{name}`" for name in missing) + ".")
    if not any(r["full"] for r in results.values()):
        rows.append("\n`FULL=1` has not been run: no GPU was there.")
    text = "\n".join([HEAD, *rows]) + "\n\n" + "\n\n".join(parts) + "\n"
    path = os.path.join(folder, "README.md")
    with open(path + ".part", "w") as f:
        f.write(text)
    os.replace(path + ".part", path)
