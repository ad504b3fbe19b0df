"""What a plan is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.targets import Target, target


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """What a plan is made for.

    Attributes:
        board: a name that ``fmc boards`` lists; "host" is the tflite_micro wheel.
        board_file: a JSON file with boards of the user's own.
        kernels, runtime: other than the board's usual ones.
        reserve_bytes: what the firmware itself needs, instead of the board's usual reserve.
        arena_bytes: what the arena may use, instead of what the board leaves.
        max_macs: most multiply-accumulates, as a multiple of the source model's.
        max_time: most time as it is estimated for the kernels, as a multiple of the source
            model's; None: not bounded.
        minimise: "arena" or "head": what the strips are to make small.
        strips: whether big maps may be run strip by strip.
        overlap: whether outputs may grow into their inputs where the kernel library allows it;
            None: with strips only.
        effort: "quick", "normal" or "thorough": how much work the searches may do.
        time_limit: seconds after which the searches end with the best so far, which the report
            then says; None: as long as their work takes, so that a plan is always the same.
        progress: whether to show a progress bar on stderr.
    """

    board: str = "host"
    board_file: str | None = None
    kernels: str | None = None
    runtime: str | None = None
    reserve_bytes: int | None = None
    arena_bytes: int | None = None
    max_macs: float = 1.10
    max_time: float | None = None
    minimise: str = "arena"
    strips: bool = True
    overlap: bool | None = None
    effort: str = "normal"
    time_limit: float | None = None
    progress: bool = False

    def target(self) -> Target:
        return target(
            board=self.board,
            kernels=self.kernels,
            runtime=self.runtime,
            reserve_bytes=self.reserve_bytes,
            board_file=self.board_file,
        )
