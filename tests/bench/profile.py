"""Make host/plugpost.profdata of what an instrumented engine counted in target/profile/raw:
the functions that a delivery runs, without the thousands that ran while it started.

A function that is left out is compiled as if there were no profile.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RAW = ROOT / "target/profile/raw"
PROFILE = ROOT / "host/plugpost.profdata"

# What the busiest part of a function has to reach of the busiest of all.
KEPT = 1 / 5000

# A function: its name, its hash, how many counters, and the counters, a line each.
COUNTERS = re.compile(r"# Num Counters:\n\d+\n# Counter Values:\n((?:\d+\n)+)")


def tool():
    """The compiler's own llvm-profdata: profiles have a version."""
    sysroot = subprocess.check_output(["rustc", "--print", "sysroot"], text=True).strip()
    return next(Path(sysroot).glob("lib/rustlib/*/bin/llvm-profdata"))


def busiest(function):
    counters = COUNTERS.search(function + "\n")
    return max(map(int, counters[1].split())) if counters else 0


def main():
    text, kept = RAW / "all.txt", RAW / "kept.txt"
    merge = [tool(), "merge", "--sparse"]
    subprocess.run([*merge, "--text", *sorted(RAW.glob("*.profraw")), "-o", text], check=True)
    # What is said of all of them stands before the first.
    head, body = re.match(r"((?:[#:].*\n)*)((?:.*\n)*)", text.read_text()).groups()
    functions = body.strip().split("\n\n")
    counts = [busiest(it) for it in functions]
    enough = max(counts) * KEPT
    chosen = [it for it, count in zip(functions, counts) if count >= enough]
    kept.write_text(head + "\n\n".join(chosen) + "\n")
    subprocess.run([*merge, kept, "-o", PROFILE], check=True)
    size = PROFILE.stat().st_size // 1024
    print(f"{PROFILE.relative_to(ROOT)}: {len(chosen)} of {len(functions)} functions, {size} KiB")


main()
