"""What is installed as ``fmc``: finds the package deploy of this installation and hands over."""

from __future__ import annotations

import sys

from keras_fmc.lazy import load


def main() -> None:
    """Runs the command line and ends; another package named deploy in the way is told by path."""
    try:
        cli = load("deploy.cli", wanted="fmc")
    except ImportError as error:
        print(f"fmc: {error}", file=sys.stderr)
        sys.exit(2)
    cli.leave(cli.main())


if __name__ == "__main__":
    main()
