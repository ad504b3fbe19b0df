"""The C and C++ compilers that emitted code has to pass, and plans to emit."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

WARNINGS = ("-Wall", "-Wextra", "-Werror", "-pedantic", "-Wshadow")


def require(*commands: str) -> None:
    """Skips the test, naming the command, where one is not installed."""
    for command in commands:
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed")


@dataclass(frozen=True, slots=True)
class Compiler:
    """A command, its language standard and options; ``name`` shows in the test's identifier."""

    name: str
    command: str
    options: tuple[str, ...]

    def compile(self, source: Path, *options: str) -> subprocess.CompletedProcess[str]:
        """Compiles one file to an object beside it; skips where the compiler is missing."""
        require(self.command)
        return subprocess.run(
            [
                self.command,
                *self.options,
                *WARNINGS,
                "-fmax-errors=0",
                *options,
                "-c",
                source.name,
                "-o",
                f"{source.name}.o",
            ],
            cwd=source.parent,
            capture_output=True,
            text=True,
            check=False,
        )

    def must_compile(self, source: Path, *options: str) -> None:
        done = self.compile(source, *options)
        assert done.returncode == 0, f"{self.name}: {done.stderr[:2000]}"


_CORTEX_M4 = ("-mcpu=cortex-m4", "-mthumb")
C99 = Compiler("gcc-c99", "gcc", ("-std=c99",))
C11 = Compiler("gcc-c11", "gcc", ("-std=c11",))
CXX17 = Compiler("g++-17", "g++", ("-x", "c++", "-std=c++17"))
ARM_C99 = Compiler("arm-gcc-c99", "arm-none-eabi-gcc", ("-std=c99", *_CORTEX_M4))
ARM_C11 = Compiler("arm-gcc-c11", "arm-none-eabi-gcc", ("-std=c11", *_CORTEX_M4))
ARM_CXX17 = Compiler("arm-g++-17", "arm-none-eabi-g++", ("-x", "c++", "-std=c++17", *_CORTEX_M4))
CXX98 = Compiler("g++-98", "g++", ("-x", "c++", "-std=c++98"))

ALL = (C99, C11, CXX17, ARM_C99, ARM_C11, ARM_CXX17)


def each(*compilers: Compiler) -> pytest.MarkDecorator:
    """Parametrises a test over compilers."""
    return pytest.mark.parametrize("compiler", compilers or ALL, ids=lambda c: c.name)
