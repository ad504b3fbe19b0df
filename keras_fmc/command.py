"""What is installed as ``fmc``: finds the package deploy of this installation and hands over."""

from __future__ import annotations

import sys

from keras_fmc.lazy import load


def main() -> int:
    """Runs the command line; another package named deploy in the way is told with its path."""
    try:
        cli = load("deploy.cli", wanted="fmc")
    except ImportError as error:
        print(f"fmc: {error}", file=sys.stderr)
        return 2
    status: int = cli.main()
    return status


if __name__ == "__main__":
    sys.exit(main())
