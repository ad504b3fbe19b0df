"""Formulas of the data files: integer arithmetic over named numbers of an operator.

    Expression("4 * out_c if kernel_h > 1 else 0").evaluate({"out_c": 8, "kernel_h": 3}) == 32

A formula may hold integers, the names in ``NAMES``, ``+ - * // %``, comparisons, ``and or not``,
``a if c else b`` and the functions ``min``, ``max`` and ``align`` (round up to a multiple).
Anything else is refused when the file is loaded, so data files cannot run code.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

from keras_fmc.errors import BadInputError

NAMES = frozenset(
    {
        "in_n",
        "in_h",
        "in_w",
        "in_c",
        "in_rank",
        "out_n",
        "out_h",
        "out_w",
        "out_c",
        "out_rank",
        "out_elements",
        "kernel_h",
        "kernel_w",
        "kernel_c",
        "stride_h",
        "stride_w",
        "dilation_h",
        "dilation_w",
        "pad_h",
        "pad_w",
        "multiplier",
        "operand_elements",
        "operand_rows",
        "cell_bytes",
        "per_channel",
        "fixed_weights",
        "item_bytes",
        "in_elements",
        "inputs",
        "bias_bytes",
        "is_float",
        "operand_rank",
        "adj_x",
        "adj_y",
        "pointer_bytes",
        "state_bytes",
        "fft_length",
        "num_channels",
        "delay_length",
        "frame_size",
        "frame_step",
        "stacked_frames",
        "max_detections",
        "num_classes",
    }
)
"""What a formula may name; ``deploy.backends.tflm.scratch`` says what each is."""

_NODES = (
    ast.Expression,
    ast.BinOp,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.FloorDiv,
    ast.Mod,
    ast.UnaryOp,
    ast.USub,
    ast.Not,
    ast.BoolOp,
    ast.And,
    ast.Or,
    ast.Compare,
    ast.Eq,
    ast.NotEq,
    ast.Lt,
    ast.LtE,
    ast.Gt,
    ast.GtE,
    ast.IfExp,
    ast.Call,
    ast.Name,
    ast.Load,
    ast.Constant,
)
_LONGEST = 1000


def _align(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


_FUNCTIONS = {"min": min, "max": max, "align": _align}


class Expression:
    """A checked and compiled formula; ``names`` are the numbers that it depends on.

    Args:
        text: the formula.
        names: earlier formulas that this one may use by name; they are put in its place.

    Raises:
        BadInputError: the text is not a formula, or names something that does not exist.
    """

    __slots__ = ("_code", "_source", "constant", "names", "text")

    def __init__(self, text: str | int, names: Mapping[str, str] | None = None) -> None:
        self.text = str(text)
        tree = _parse(self.text, names or {})
        named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        self._source = ast.unparse(tree)
        self._code = compile(tree, "<formula>", "eval")
        self.names = frozenset(named - _FUNCTIONS.keys())
        self.constant: int | None = None
        if not self.names:
            self.constant = self.evaluate({})

    def evaluate(self, numbers: Mapping[str, int]) -> int:
        """Returns the value for these numbers."""
        if self.constant is not None:
            return self.constant
        return int(eval(self._code, {"__builtins__": {}, **_FUNCTIONS}, numbers))

    def __getstate__(self) -> tuple[str, str, frozenset[str], int | None]:
        # Compiled code does not travel between processes, its text does.
        return self._source, self.text, self.names, self.constant

    def __setstate__(self, state: tuple[str, str, frozenset[str], int | None]) -> None:
        self._source, self.text, self.names, self.constant = state
        self._code = compile(self._source, "<formula>", "eval")

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


class _Substitution(ast.NodeTransformer):
    def __init__(self, names: Mapping[str, str], depth: int) -> None:
        self.names = names
        self.depth = depth

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.names:
            return _parse(self.names[node.id], self.names, self.depth + 1).body
        return node


def _parse(text: str, names: Mapping[str, str], depth: int = 0) -> ast.Expression:
    if len(text) > _LONGEST or depth > 8:
        raise BadInputError("a formula is too long or refers to itself", received=repr(text[:80]))
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise BadInputError("not a formula", received=repr(text)) from error
    for node in ast.walk(tree):
        bad = not isinstance(node, _NODES)
        if isinstance(node, ast.Constant):
            bad = not isinstance(node.value, int)
        elif isinstance(node, ast.Call):
            bad = not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS
            bad = bad or bool(node.keywords)
        if bad:
            raise BadInputError(
                f"a formula holds {ast.unparse(node)!r}"
                if not isinstance(node, (ast.operator, ast.unaryop, ast.cmpop))
                else "a formula holds an operator that is not allowed",
                expected="integers, names, + - * // %, comparisons, if-else, min, max, align",
                received=repr(text),
            )
        if isinstance(node, ast.Name) and node.id not in {*NAMES, *_FUNCTIONS, *names}:
            raise BadInputError(
                f"a formula names {node.id!r}",
                expected=f"one of {', '.join(sorted(NAMES))}",
                received=repr(text),
            )
    return ast.fix_missing_locations(_Substitution(names, depth).visit(tree))
