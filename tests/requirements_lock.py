"""Writes requirements_lock.txt, which MODULE.bazel reads: what the tests need, pinned.

    python tests/requirements_lock.py       # or: make lock

pip resolves the extras of setup.py for this Python and machine, and says what it would install.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements_lock.txt"
EXTRAS = ("dev", "demo", "docs")


def resolve() -> list[tuple[str, str, str]]:
    """Returns (name, version, SHA-256 of the archive), sorted, the project itself left out."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
    command += ["--ignore-installed", "--report", "-", f"{ROOT}[{','.join(EXTRAS)}]"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = []
    for item in json.loads(done.stdout[done.stdout.index("{") :])["install"]:
        metadata = item["metadata"]
        name = metadata["name"].lower().replace("_", "-").replace(".", "-")
        if name == "keras-fmc":
            continue
        digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
        found.append((name, metadata["version"], digest))
    return sorted(found)


def main() -> None:
    version = ".".join(map(str, sys.version_info[:2]))
    lines = [
        f"# What the extras {', '.join(EXTRAS)} of setup.py bring with Python {version} on Linux,",
        "# x86-64. Made by tests/requirements_lock.py.",
    ]
    for name, version, digest in resolve():
        lines.append(f"{name}=={version} \\")
        lines.append(f"    --hash=sha256:{digest}")
    LOCK.write_text("\n".join(lines) + "\n")
    print(f"{LOCK.name}: {(len(lines) - 2) // 2} packages")


if __name__ == "__main__":
    main()
