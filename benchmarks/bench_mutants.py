"""How ``fmc`` ends with damaged models: exit 0, 1 or 2, in bounded time and memory.

    python benchmarks/bench_mutants.py --first 0 --count 20000

Each seed damages a small sound model (``tests/mutants.py``) and runs ``fmc profile`` and
``fmc plan`` on it, without strips unless ``--strips`` is given: their search takes its time. Exit
status 1 if any ends otherwise; seeds are printed.
"""

from __future__ import annotations

import argparse
import collections
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.mutants import mutant, outcome

_MEMORY_KILOBYTES = 4 * 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--strips", action="store_true")
    arguments = parser.parse_args()
    strips = f"--strips={str(arguments.strips).lower()}"
    resource.setrlimit(resource.RLIMIT_AS, (4 * _MEMORY_KILOBYTES * 1024,) * 2)
    counts: collections.Counter[tuple[str, int]] = collections.Counter()
    slowest, bad = (0.0, 0), 0
    for seed in range(arguments.first, arguments.first + arguments.count):
        content = mutant(seed)
        for command, options in (("profile", ()), ("plan", (strips,))):
            before = time.monotonic()
            try:
                status, errors = outcome(content, command, *options)
            except Exception as error:
                status, errors = -1, repr(error)
            slowest = max(slowest, (time.monotonic() - before, seed))
            counts[command, status] += 1
            lines = len(errors.strip().splitlines())
            if status not in (0, 1, 2) or (status and not 1 <= lines <= 2):
                bad += 1
                print(f"seed {seed}, fmc {command}: exit {status}\n{errors[-800:]}", flush=True)
    for (command, status), count in sorted(counts.items()):
        print(f"fmc {command}: exit {status}: {count}")
    used = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(f"slowest {slowest[0]:.1f} s (seed {slowest[1]}), memory {used // 1024} MB")
    print(f"{bad} of {arguments.count} mutants ended as they must not")
    return 1 if bad or used > _MEMORY_KILOBYTES else 0


if __name__ == "__main__":
    sys.exit(main())
