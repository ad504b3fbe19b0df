"""What `fit_to` found: the plan, the frontier, and the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras_fmc.choose.plan import CompressionPlan
from keras_fmc.sizes import format_size


@dataclass(frozen=True, slots=True)
class FitPoint:
    """A plan that was looked at: no other has a smaller arena, loss and fewer MACs at once.

    Attributes:
        arena_bytes: estimated, or of the chosen plan that of the converted model.
        loss: predicted change of the model's output, the sum over codes (`CodeCosts`).
        macs: of one inference.
        codes: what becomes of each map, in a line.
    """

    arena_bytes: int
    loss: float
    macs: int
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MapReason:
    """Why a map got a code, or none.

    Attributes:
        loss: predicted change of the output by its code, None without one.
    """

    name: str
    size_bytes: int
    reason: str
    code: str | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """How a model fits.

    Attributes:
        plan: for `keras_fmc.insert_bottlenecks`; without bottlenecks where strips are enough.
        limit_bytes: what was asked for.
        limit_source: where that comes from.
        strips_arena_bytes: of the model as it is, in strips or rows.
        predicted_arena_bytes: of the chosen plan on the int8 graph with codes in place of maps.
        arena_bytes: of the converted model with bottlenecks, before training; training changes
            weights and scales and no size.
        macs, source_macs: of one inference of the chosen plan, and of the model as it is.
        loss: predicted change of the output.
        samples: that losses were measured on.
        evaluations: plans that were made.
        interrupted: what ended the search early, or None.
    """

    plan: CompressionPlan
    runtime: str
    board: str
    limit_bytes: int
    limit_source: str
    strips_arena_bytes: int
    predicted_arena_bytes: int
    arena_bytes: int
    macs: int
    source_macs: int
    loss: float
    samples: int
    evaluations: int
    frontier: tuple[FitPoint, ...]
    reasons: tuple[MapReason, ...]
    warnings: tuple[str, ...] = ()
    interrupted: str | None = None

    @property
    def macs_ratio(self) -> float:
        return self.macs / self.source_macs if self.source_macs else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {
            "model": self.plan.model,
            "board": self.board,
            "runtime": self.runtime,
            "limit_bytes": self.limit_bytes,
            "limit_source": self.limit_source,
            "strips_arena_bytes": self.strips_arena_bytes,
            "predicted_arena_bytes": self.predicted_arena_bytes,
            "arena_bytes": self.arena_bytes,
            "macs": self.macs,
            "macs_ratio": round(self.macs_ratio, 4),
            "predicted_loss": self.loss,
            "samples": self.samples,
            "evaluations": self.evaluations,
            "interrupted": self.interrupted,
            "warnings": list(self.warnings),
            "plan": self.plan.to_dict(),
            "frontier": [
                {
                    "arena_bytes": point.arena_bytes,
                    "predicted_loss": point.loss,
                    "macs": point.macs,
                    "codes": list(point.codes),
                }
                for point in self.frontier
            ],
            "maps": [
                {
                    "name": item.name,
                    "bytes": item.size_bytes,
                    "code": item.code,
                    "predicted_loss": item.loss,
                    "reason": item.reason,
                }
                for item in self.reasons
            ],
        }

    def to_text(self) -> str:
        """Returns the result for people."""
        lines = [
            f"{self.plan.model} on {self.board}, runtime {self.runtime}: at most "
            f"{format_size(self.limit_bytes)} ({self.limit_source})",
            f"  in strips or rows, uncompressed   {self.strips_arena_bytes:>10,} bytes",
        ]
        if not self.plan.bottlenecks:
            lines.append("  That is enough: no bottleneck is needed, and no training.")
        else:
            lines += [
                f"  with {len(self.plan.bottlenecks)} bottlenecks, predicted      "
                f"{self.predicted_arena_bytes:>10,} bytes",
                f"  the same, converted               {self.arena_bytes:>10,} bytes, "
                f"{self.macs_ratio:.3f}x the multiply-accumulates",
                f"  predicted change of the output    {self.loss:>10.4f} of its variance, before "
                f"training, on {self.samples} samples",
                "",
            ]
            for item in self.reasons:
                if item.code is not None:
                    lines.append(f"  {item.code}, {item.loss:.4f}: {item.reason}")
        left = [item for item in self.reasons if item.code is None and self.plan.bottlenecks]
        if left:
            lines += ["", "left as they are:"]
            lines += [f"  {i.name}  {i.size_bytes:,} B: {i.reason}" for i in left[:12]]
            if len(left) > 12:
                lines.append(f"  and {len(left) - 12} more")
        if len(self.frontier) > 1:
            lines += ["", "     arena  predicted loss        MACs  codes"]
            lines += [
                f"{p.arena_bytes:>10,}  {p.loss:>14.4f}  {p.macs:>10,}  {len(p.codes)}"
                for p in self.frontier
            ]
        lines += [f"warning: {text}" for text in self.warnings]
        if self.interrupted is not None:
            lines.append(f"ended early by {self.interrupted}: the best so far")
        return "\n".join(lines) + "\n"
