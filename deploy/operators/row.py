"""A row of the operator table, and the place in a graph that its functions look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

import numpy as np

from deploy.graph import Graph, Operator, Tensor
from deploy.memory.plan import AliasReason
from deploy.operators.by_rows import ByRows
from deploy.operators.copied import Copied
from deploy.operators.intervals import IntervalRule, whole
from deploy.operators.window import Window
from keras_fmc.errors import UnsupportedModelError

Shape = tuple[int, ...]
DAMAGED = "The file is damaged, or its converter left it wrong: convert the model again"
OPEN_BATCH = (
    "The model was converted with an open batch, for which its shapes do not hold: give its "
    "inputs batch_size=1 and convert it again"
)


@dataclass(frozen=True, slots=True)
class Site:
    """One operator in its graph, as the functions of a row see it.

    Positions count the operator's inputs; what is wrong is raised by ``fail`` with operator
    and tensor named.
    """

    graph: Graph
    index: int
    source: str = "model"

    @property
    def operator(self) -> Operator:
        return self.graph.operators[self.index]

    def has(self, position: int) -> bool:
        """Whether that input is given."""
        inputs = self.operator.inputs
        return position < len(inputs) and inputs[position] >= 0

    def tensor(self, position: int) -> Tensor:
        if not self.has(position):
            self.fail(f"has no input {position}")
        return self.graph.tensors[self.operator.inputs[position]]

    def shape(self, position: int = 0) -> Shape:
        return self.tensor(position).shape

    def ranked(self, position: int, rank: int) -> Shape:
        """The shape of an input that must have so many dimensions."""
        shape = self.shape(position)
        if len(shape) != rank:
            self.fail_at(position, f"{rank} dimensions", shape)
        return shape

    @property
    def output(self) -> Tensor:
        return self.graph.tensors[self.operator.outputs[0]]

    def integers(self, position: int, count: int | None = None) -> tuple[int, ...] | None:
        """Values of a constant integer input, flat; None where they are computed."""
        tensor = self.tensor(position)
        if tensor.dtype not in ("int32", "int64"):
            self.fail_at(position, "int32 or int64", tensor.dtype)
        if count is not None and tensor.elements != count:
            self.fail_at(position, f"{count} values", f"{tensor.elements}")
        if tensor.data is None:
            return None
        if len(tensor.data) != tensor.size_bytes:
            # A graph that is only profiled gives its variables no values.
            self.fail_at(position, "constant values", "a variable")
        return tuple(int(v) for v in tensor.array().ravel())

    def axis(self, value: int, rank: int) -> int:
        """A dimension that may count from the end, from 0."""
        if not -rank <= value < rank:
            self.fail("has an axis that its input lacks", f"{-rank} to {rank - 1}", value)
        return value % rank

    def choice(self, name: str, values: range) -> int:
        """An integer field of the options within a range."""
        value = self.number(name)
        if value not in values:
            self.fail(f"has a wrong {name}", f"{values.start} to {values.stop - 1}", value)
        return value

    def positive(self, name: str, default: int = 0) -> int:
        value = self.number(name, default)
        if value < 1:
            self.fail(f"has a wrong {name}", "1 or more", value)
        return value

    def number(self, name: str, default: int = 0) -> int:
        value = self.operator.option(name, default)
        if not isinstance(value, int):
            self.fail(f"has a wrong {name}", "an integer", value)
        return value

    def finite(self, name: str) -> float:
        value = self.operator.option(name, 0.0)
        if not isinstance(value, int | float) or not np.isfinite(value):
            self.fail(f"has a wrong {name}", "a finite number", value)
        return float(value)

    def fail_at(self, position: int, expected: object, received: object) -> NoReturn:
        """Refuses an input."""
        name = self.tensor(position).name
        what = f"cannot take input {position}, {name}"
        self.fail(what, expected, received, remedy=self.shape_remedy)

    @property
    def shape_remedy(self) -> str:
        """What to do about a shape that does not follow from the others."""
        operator = self.operator
        tensors = [self.graph.tensors[i] for i in (*operator.present_inputs, *operator.outputs)]
        if not any(-1 in (tensor.shape_signature or ()) for tensor in tensors):
            return DAMAGED
        for index in self.graph.inputs:
            given = self.graph.tensors[index]
            if -1 in (given.shape_signature or ())[1:]:
                sizes = ", ".join("?" if n < 0 else str(n) for n in given.shape_signature or ())
                return (
                    f"The model was converted with open sizes, ({sizes}) of {given.name}, which "
                    f"the file has as {given.shape}: convert it again with those of the device"
                )
        return OPEN_BATCH

    def fail(
        self,
        what: str,
        expected: object = None,
        received: object = None,
        *,
        remedy: str = DAMAGED,
    ) -> NoReturn:
        """Refuses the operator.

        Raises:
            UnsupportedModelError: always.
        """
        raise UnsupportedModelError(
            f"{self.graph.label(self.index)} in {self.source} {what}",
            expected=expected,
            received=received,
            remedy=remedy,
        )


ShapeRule = Callable[[Site], tuple[Shape | None, ...]]
"""Shapes of the outputs from those of the inputs, options and constants. None: it depends on
values that are computed. Refuses inputs and options that do not go together."""

ProductRule = Callable[[Site], int]
"""Products of a weight with an activation in one inference, those with padding included."""


def no_products(site: Site) -> int:
    """Operators without weights: pools, additions, activations, copies."""
    return 0


TypeRule = Callable[[Site], None]
"""Refuses types that do not go together."""


CopyRule = Callable[[Site], tuple[Copied, ...] | None]
"""What it only copies; None: that depends on values that are computed."""


def computes(site: Site) -> tuple[Copied, ...] | None:
    """Operators that do more than copy."""
    return ()


WindowRule = Callable[[Graph, Operator], Window]
"""The window that slides over the map."""


class InC(Enum):
    """What generated C makes of an operator."""

    KERNEL = "a kernel of its own"
    COPY = "the kernel that copies"
    RENAMED = "nothing: the same bytes under another shape"
    TFLM = "nothing: TFLM runs it"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRow:
    """What is known of an operator.

    Attributes:
        opcode: as in the schema.
        inputs: fewest and most; ``optional`` are positions among them that may be absent (-1).
        outputs: fewest and most.
        options: table of the schema that holds its parameters; "" for none.
        needs_options: without that table its parameters would be zeros that make no sense.
        shapes, types: rules of their kind.
        by_rows: how it runs strip by strip; None: it stays whole.
        in_c: what generated C makes of it.
        has_scale: 8- and 16-bit inputs and outputs are numbers: they need a scale.
        weights: (position, dimension of its scales) of weights that may have one for each
            channel.
        data: position of the map that it works on.
        window: the window that slides over that map, if one does.
        products: multiply-accumulates.
        copies: what it hands on as it is.
        view: the runtime's kernel may copy each byte onto itself: why its output, or its input,
            may then stand inside the other.
        in_place: the output may stand where an input of its size stood; whether a kernel allows
            it, the data of its library say.
        keeps_state: it keeps state in variables.
        interval: which int8 codes it can write; any, unless the row says less.
    """

    opcode: str
    shapes: ShapeRule
    types: TypeRule
    by_rows: ByRows | None
    in_c: InC
    inputs: tuple[int, int]
    outputs: tuple[int, int] = (1, 1)
    optional: tuple[int, ...] = ()
    options: str = ""
    needs_options: bool = False
    has_scale: bool = False
    weights: tuple[int, int] | None = None
    data: int = 0
    window: WindowRule | None = None
    products: ProductRule = no_products
    copies: CopyRule = computes
    view: AliasReason | None = None
    in_place: bool = False
    keeps_state: bool = False
    interval: IntervalRule = whole

    @property
    def same_bytes(self) -> bool:
        """Whether the output holds the bytes of input 0 in their order."""
        return self.view is AliasReason.RESHAPE_VIEW
