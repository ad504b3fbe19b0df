"""Where opcodes are spelt: in the operator table and its sets, and where operators are made."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema

from deploy.graph import CALLS, CUSTOM
from deploy.operators import OPERATORS

ROOT = Path(__file__).resolve().parent.parent
OPCODES = {kind.removeprefix(f"{CUSTOM} ") for kind in OPERATORS} | {
    name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
}
TABLE = ("deploy/operators/", "deploy/backends/c/operators/")
"""The table, and generated C's kernels by operator."""

SPELT = {
    # Which operators call subgraphs or keep state, the graph itself has to know.
    "deploy/graph.py": {*CALLS, CUSTOM, "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"}
    | {"CIRCULAR_BUFFER", "SignalDelay", "SignalFilterBankSpectralSubtraction", "SignalFramer"}
    | {"SignalOverlapAdd", "SignalStacker"},
    # It doubts the table, so it has its own.
    "deploy/proof/replay.py": {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SLICE", "STRIDED_SLICE"}
    | {"CONCATENATION"},
    # Passes that make one operator of another.
    "deploy/end_types.py": {"QUANTIZE", "DEQUANTIZE"},
    "deploy/float_left.py": {"DEQUANTIZE", "ELU", "QUANTIZE"},
    "deploy/input_scale.py": {"DEPTHWISE_CONV_2D"},
    # The form of look-ups, which one makes and the other lets pass.
    "deploy/int8_check.py": {"ADD", "CAST", "QUANTIZE"},
    "deploy/look_up.py": {"CAST", "DEQUANTIZE", "GATHER"},
    "deploy/passes/dense.py": {"DENSIFY"},
    "deploy/passes/halves.py": {"DEQUANTIZE"},
    "deploy/passes/reference_versions.py": {"DEPTH_TO_SPACE"},
    "deploy/passes/slices.py": {"STRIDED_SLICE"},
    "deploy/passes/selects.py": {"ADD", "MUL", "SELECT", "SELECT_V2", "SUB"},
    "deploy/passes/tiles.py": {"TILE"},
    "deploy/backends/tflm/strips/clones.py": {"CONV_2D"},
    # How damaged files name an operator that is none.
    "deploy/supported.py": {"DELEGATE"},
    # Generated C fuses operators, and makes tables of one byte for some.
    "deploy/backends/c/bits.py": {"CONV_2D", "DEPTH_TO_SPACE", "PAD", "SLICE", "STRIDED_SLICE"},
    "deploy/backends/c/byte_tables.py": {"HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "QUANTIZE"}
    | {"RELU", "RELU6", "TANH"},
    "deploy/backends/c/lowering.py": {"CONV_2D", "DEPTHWISE_CONV_2D", "PAD"},
}
"""File -> opcodes that it may spell besides those of operators that it makes."""


def spelt(tree: ast.AST) -> Iterator[str]:
    """Opcodes among the strings of a file, but for those of new operators."""
    made = {
        id(call.args[0])
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and call.args
        and (
            (isinstance(call.func, ast.Name) and call.func.id == "Operator")
            or (isinstance(call.func, ast.Attribute) and call.func.attr == "_add")
        )
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in OPCODES and id(node) not in made:
            yield node.value


def test_opcodes_are_spelt_in_the_table_and_where_operators_are_made() -> None:
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "deploy").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        opcodes = set(spelt(ast.parse(path.read_text(encoding="utf-8"))))
        if opcodes and not name.startswith(TABLE):
            found[name] = opcodes
    assert found == SPELT


def test_an_opcode_that_is_compared_is_found_and_a_new_operator_is_not() -> None:
    source = 'a = o.opcode == "CONV_2D"\nb = Operator("SLICE", (x,), (y,))\nc = ("ADD", "words")\n'
    assert sorted(spelt(ast.parse(source))) == ["ADD", "CONV_2D"]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
