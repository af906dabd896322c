#!/usr/bin/env python3
"""Compares figures with the baseline of the compiler that built them.

    tests/baseline.py FOLDER TARGET [--with WORD] [--accept] < FIGURES

A figure is a line `KEY VALUE`, or `KEY VALUE <= LIMIT`; the last word of a key is its kind. The baseline of a compiler is
the file FOLDER/TARGET/COMPILER.txt, where COMPILER is the word that `tests/thumb --id TARGET` prints; `--with` appends
other things that the figures depend on. Figures are compared only with those of the same compiler. For a compiler
without a baseline, the figures are printed and the command succeeds. `--accept` writes only the file of this compiler.
"""

import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
# Allowed difference from the baseline, absolute or relative, whichever is more. Figures of other kinds are kept for the
# documents and not compared.
TOLERANCE = {"flash": (8, 0.02), "state": (0, 0), "ram": (0, 0), "stack": (16, 0.1), "at16": (2, 0.02), "at240": (2, 0.02),
             "instructions": (1, 0.1)}


def compiler(target):
    """Returns the word for the compiler of a target, from tests/thumb."""
    done = subprocess.run([os.path.join(HERE, "thumb"), "--id", target], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout.strip()


def read(path):
    """Returns the figures of a baseline, as text by key; empty if the file does not exist."""
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return dict(line.rstrip("\n").rsplit(" ", 1) for line in file)


def all_of(folder, target):
    """Returns the baselines of a target, by compiler; those with `core` built from source first."""
    folder = os.path.join(folder, target)
    names = [name.removesuffix(".txt") for name in os.listdir(folder) if name.endswith(".txt")]
    return {name: read(os.path.join(folder, f"{name}.txt")) for name in sorted(names, key=lambda it: ("source-core" not in it, it))}


def label(name):
    """Returns a short name of a compiler, for the head of a column."""
    version = re.match(r"rustc-([0-9.]+(?:-(?:nightly|beta[.0-9]*))?)", name)
    return f"{version[1] if version else name} {'source' if 'source-core' in name else 'prebuilt'}"


def legend(names):
    """Returns a line for each compiler: its short name, and its full name."""
    built = {True: "`core` built from source", False: "with the toolchain's prebuilt `core`"}
    return "\n".join(f"- {label(name)}: `{name}`, {built['source-core' in name]}" for name in names)


def compare(folder, target, figures, accept=False, also="", bars=None, whole=lambda key: True):
    """Compares figures, text by key, and prints the result; returns whether they pass.

    `bars` are upper limits of some figures. A key of the baseline for which `whole` is true must be among the figures.
    """
    name = "-".join(filter(None, (compiler(target), also)))
    path = os.path.join(folder, target, f"{name}.txt")
    shown = os.path.relpath(path)
    bars = bars or {}
    over = [f"{key}: {figures[key]}, and at most {bar} are allowed" for key, bar in bars.items()
            if float(figures[key]) > float(bar)]
    if accept:
        # Keeps the figures that were not measured this time.
        kept = {key: value for key, value in read(path).items() if not whole(key)}
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"{key} {value}\n" for key, value in {**figures, **kept}.items())
        print(f"{target}: {len(figures)} figures are written to {shown}")
    baseline = read(path)
    if not baseline:
        print(f"{target}: no baseline for {name}: {len(figures)} figures are printed and not compared")
        for key, value in figures.items():
            print(f"  {key} {value}")
        for line in over:
            print(f"  {line} where there is a baseline")
        return True
    bad = over
    for key, value in figures.items():
        if key not in baseline:
            bad.append(f"{key}: {value}, and not in the baseline")
        elif key.split()[-1] in TOLERANCE:
            least, share = TOLERANCE[key.split()[-1]]
            now, was = float(value), float(baseline[key])
            if abs(now - was) > max(least, abs(was) * share):
                bad.append(f"{key}: {value}, was {baseline[key]}: " + ("grown" if now > was else "smaller"))
    bad += [f"{key}: in the baseline only" for key in baseline if whole(key) and key not in figures]
    print(f"{target}: {len(figures)} figures of {name}: " + ("as in its baseline" if not bad else f"not as in {shown}:"))
    for line in bad:
        print(f"  {line}")
    if bad:
        print("  to accept the new figures, run the same command with `--accept`")
    return not bad


def rewrite(document, section, command, text):
    """Replaces the text between the two marks of a section in a document."""
    begin, end = f"<!-- {section}: written by {command} -->", f"<!-- {section}: end -->"
    with open(document, encoding="utf-8") as file:
        before, has_begin, rest = file.read().partition(begin)
    _, has_end, after = rest.partition(end)
    if not (has_begin and has_end):
        sys.exit(f"{document} has no lines {begin} and {end}")
    with open(document, "w", encoding="utf-8") as file:
        file.write(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")


def main(words):
    accept, also = False, ""
    folders = []
    while words:
        word = words.pop(0)
        if word == "--accept":
            accept = True
        elif word == "--with" and words:
            also = words.pop(0)
        else:
            folders.append(word)
    if len(folders) != 2 or folders[0].startswith("-"):
        sys.exit(__doc__)
    figures, bars = {}, {}
    for line in sys.stdin:
        line, _, bar = line.strip().partition(" <= ")
        key, value = line.rsplit(" ", 1)
        figures[key] = value
        if bar:
            bars[key] = bar
    if not figures:
        sys.exit("no figures on standard input")
    return compare(*folders, figures, accept, also, bars)


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1:]))
