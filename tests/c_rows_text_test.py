"""The C expressions of a read's windows say what the rules say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from c_compilers import require

from deploy.backends.c.program import Read, Rows
from deploy.backends.c.rows_text import above_text, first_text, stop_text

_KERNELS = Path(__file__).parents[1] / "deploy/backends/c/kernels"


def test_expressions_are_the_rules_in_c(tmp_path: Path) -> None:
    """Of rules with and without strides, divisors, and windows over either end of the map."""
    require("gcc")
    rng = np.random.default_rng(0)
    lines, wanted = [], []
    for _ in range(400):
        step, divisor, end = (int(n) for n in rng.integers(1, (4, 5, 9)))
        begin, out_rows, rows = (int(n) for n in rng.integers((-9, 1, 1), (end, 12, 14)))
        read = Read(0, Rows(step, begin, end, divisor), rows, 1)
        texts = [text(read, "row", out_rows) for text in (first_text, stop_text, above_text)]
        lines.append(f"for (int32_t row = 0; row < {out_rows}; row++) {{")
        lines += [f'  printf("%ld ", (long)({text}));' for text in texts] + ["}"]
        for row in range(out_rows):
            first, stop = read.window(row)
            wanted += [first, stop, first - read.rows.first(row)]
    body = "\n".join(lines)
    source = f'#include <stdio.h>\n#include "fmc_fixed_point.h"\nint main(void) {{\n{body}\n}}\n'
    (tmp_path / "rows.c").write_text(source)
    command = ["gcc", f"-I{_KERNELS}", "rows.c", "-o", "rows"]
    subprocess.run(command, cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "rows"], check=True, capture_output=True, text=True).stdout
    assert [int(word) for word in said.split()] == wanted


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
