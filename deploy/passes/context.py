"""What a pass is, and what it may ask of the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from deploy.graph import Graph
from deploy.targets import Kernels


@dataclass(frozen=True, slots=True)
class Context:
    """What a graph is rewritten for; ``kernels`` is None where no library runs it."""

    kernels: Kernels | None = None

    @property
    def in_place(self) -> frozenset[str]:
        """Opcodes whose output may take the place of an input."""
        return frozenset() if self.kernels is None else self.kernels.in_place


class Pass(Protocol):
    """A frozen dataclass whose fields are its options; see ``deploy.passes.text``."""

    name: ClassVar[str]

    def apply(self, graph: Graph, context: Context) -> Graph:
        """Returns the graph rewritten; leaves its argument alone and changes no output byte."""
        ...
