"""What the data files of targets mean: runtimes, kernel libraries, boards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from deploy.targets.expression import Expression


@dataclass(frozen=True, slots=True)
class Structure:
    """A structure that the runtime allocates: its size and alignment in bytes."""

    size_bytes: int
    alignment_bytes: int


@dataclass(frozen=True, slots=True)
class Runtime:
    """One version of TensorFlow Lite Micro for one ABI: what it keeps besides the tensors.

    Attributes:
        name: what ``runtime(name)`` takes.
        abi: which sizes of the kernel libraries apply, such as "ilp32" or "lp64".
        fixed: allocated once, in order, before the model.
        scratch_requests: capacity (entries) that is kept free for the next operator.
        subgraph, eval_tensor, node: one of each for a subgraph, tensor, operator.
        kernel_alignment_bytes: alignment of whatever a kernel asks for.
        resources, resource: the register of resource variables, and one for each of them.
        scratch_handle: one for each scratch buffer.
        end_pointer: one for each input (and output), as an array.
        tensor, quantization, zero_point_item: an input or output, or a temporary tensor.
        scratch_request, subgraph_counter, buffer_info, planner_buffer_bytes: what planning takes
            and gives back.
        parameters: opcode -> parsed options of an operator.
        commit: of TensorFlow Lite Micro's repository; empty: not known.
        fixed_of_two: as ``fixed`` without its last, of an allocator whose head and tail stand in
            two buffers; empty: not known.
    """

    name: str
    summary: str
    source: str
    abi: str
    arena_alignment_bytes: int
    fixed: tuple[Structure, ...]
    subgraph: Structure
    eval_tensor: Structure
    node: Structure
    kernel_alignment_bytes: int
    resources: Structure
    resource: Structure
    scratch_handle: Structure
    end_pointer: Structure
    tensor: Structure
    quantization: Structure
    zero_point_item: Structure
    scratch_request: Structure
    scratch_requests: int
    subgraph_counter: Structure
    buffer_info: Structure
    planner_buffer_bytes: int
    parameters: Mapping[str, Structure]
    commit: str = ""
    fixed_of_two: tuple[Structure, ...] = ()


GATHERED_PIXELS = {"2 pixels": 2, "4 pixels": 4}
"""Rule -> how many windows a kernel gathers in its scratch before it writes their pixels."""

OVERLAP_RULES = ("all channels", "own channel", *GATHERED_PIXELS)
"""What a kernel reads for one output value: the window in all channels, or in its own; or the
windows of several pixels at once."""


class StepKind(Enum):
    """What a kernel does while it prepares."""

    TEMPORARY = "temp"
    KEEP = "keep"
    SCRATCH = "scratch"
    REQUEST = "request"
    ROOM = "room"


@dataclass(frozen=True, slots=True)
class PrepareStep:
    """One allocation of a kernel while it prepares.

    A temporary names a tensor of the operator by ``side`` ("input", "output") and ``index``
    (None: each), and is taken where its ``condition`` holds; the others have a size in bytes.
    What is kept and scratch buffers are asked for where the size is above zero, a request is a
    scratch buffer that is asked for at size 0, too, and not where the size is negative. Room is
    what the kernel really uses of the buffer asked for before, where that is more.
    """

    kind: StepKind
    size_bytes: Expression | None = None
    side: str = ""
    index: int | None = None
    condition: Expression | None = None


@dataclass(frozen=True, slots=True)
class KernelRule:
    """What the kernel of one opcode allocates.

    Attributes:
        data_bytes: ABI -> size of what it keeps from its initialisation; no entry: nothing.
        initial: what it keeps besides from its initialisation, in order.
        steps: its allocations while it prepares, in order.
        temporaries: number of steps that are temporaries of one tensor.
        temporary_inputs: number of steps that are temporaries of each input.
        int16: whether this holds for maps of int16, too. A library's own kernels for them are
            others, so it does where its data say so.
    """

    data_bytes: Mapping[str, int]
    steps: tuple[PrepareStep, ...]
    temporaries: int = 0
    temporary_inputs: int = 0
    int16: bool = True
    initial: tuple[PrepareStep, ...] = ()

    @property
    def has_scratch(self) -> bool:
        return any(step.kind in (StepKind.SCRATCH, StepKind.REQUEST) for step in self.steps)


@dataclass(frozen=True, slots=True)
class Selection:
    """A function of a library that computes the operators for which ``when`` holds (None: all)."""

    function: str
    when: Expression | None = None


@dataclass(frozen=True, slots=True)
class Defect:
    """Shapes for which a function of a library is known to do harm.

    Attributes:
        name: what a later version of the library lists as ``mended``.
        function: one of the library's selections.
        when: holds for the shapes in question, of those that select the function.
        effect: what happens, as the predicate of a sentence.
        remedy: what a user can do about it.
        source: where that is known from.
        library: whose function it is, where not that of the kernels.
        harmless_with_room: it writes past a scratch buffer and nothing else, so that a plan that
            keeps the bytes behind it free is right (``KernelRule``'s "room" steps).
    """

    name: str
    function: str
    when: Expression
    effect: str
    remedy: str
    source: str
    library: str = ""
    harmless_with_room: bool = False


@dataclass(frozen=True, slots=True)
class Time:
    """What an operator takes on a core, in instructions: an estimate for comparing graphs.

    Attributes:
        product: for each multiply-accumulate.
        output_byte: for each byte that it writes.
        call: each time it runs.
        asserted_byte: more for each byte where the runtime is built without NDEBUG.
    """

    product: float = 0.0
    output_byte: float = 0.0
    call: float = 0.0
    asserted_byte: float = 0.0


@dataclass(frozen=True, slots=True)
class Kernels:
    """A kernel library: what its kernels allocate, and what they may do in place.

    Attributes:
        name: what ``kernels(name)`` takes.
        rules: opcode -> rule. An opcode that is not here is unknown to the library.
        in_place: opcodes whose output may start at the same address as an input.
        view_alignment_bytes: what the address of a view must be a multiple of.
        overlap: opcode -> one of ``OVERLAP_RULES``, by which output and input may overlap
            diagonally (``deploy.backends.tflm.overlap``). An opcode that is not here never
            overlaps.
        library, version: of the kernels that are not TFLM's own; empty where all are.
        selections: opcode -> the functions that compute it, the first whose condition holds.
        defects: what is known to be wrong with them in this version.
        build: compiler definitions that the figures hold for.
        times: opcode -> what it takes; "*" stands for every other one. Empty: not known.
        times_source: how that was measured.
        note: what a user should know of these kernels.
    """

    name: str
    summary: str
    source: str
    rules: Mapping[str, KernelRule] = field(repr=False)
    in_place: frozenset[str] = field(repr=False)
    view_alignment_bytes: int
    overlap: Mapping[str, str] = field(repr=False)
    library: str = ""
    version: str = ""
    selections: Mapping[str, tuple[Selection, ...]] = field(default_factory=dict, repr=False)
    defects: tuple[Defect, ...] = field(default=(), repr=False)
    build: tuple[str, ...] = ()
    times: Mapping[str, Time] = field(default_factory=dict, repr=False)
    times_source: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """A region of RAM on a board. ``address`` is None where the figure does not apply.

    ``external`` memory is outside the chip, and several times slower.
    """

    name: str
    size_bytes: int
    address: int | None
    external: bool = False


@dataclass(frozen=True, slots=True)
class BoardNames:
    """What the worlds of firmware call a board; empty where one does not have it.

    Attributes:
        platformio: platform and board, such as "nordicnrf52:nano33ble", of boards for which
            PlatformIO has the framework Arduino.
        arduino: FQBN of the Arduino IDE and arduino-cli.
        zephyr: what ``west build -b`` takes.
        esp_idf: what ``idf.py set-target`` takes.
        stm32: the part, as STM32CubeMX refers to it, its package included.
    """

    platformio: str = ""
    arduino: str = ""
    zephyr: str = ""
    esp_idf: str = ""
    stm32: str = ""


@dataclass(frozen=True, slots=True)
class Board:
    """A board or chip and its memories, as its makers state them.

    Attributes:
        name: what ``board(name)`` takes; ``aliases`` work as well.
        core: for example "Cortex-M4F".
        kernels, runtime: names of what is usually built for it.
        memories: the regions that an arena can stand in, the preferred one first.
        flash_bytes: program memory, None where it is outside the chip.
        reserve_bytes: what the firmware itself is assumed to need in the first region.
        source: the document the figures are from.
        fpu: what GCC calls its floating point unit, "auto" where the core says it all; empty:
            none, or not known.
        clock_hz: the highest of its core; 0: not known.
        names: what PlatformIO, Arduino, Zephyr, ESP-IDF and STM32CubeMX call it.
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    core: str
    kernels: str
    runtime: str
    memories: tuple[Memory, ...]
    flash_bytes: int | None
    reserve_bytes: int
    source: str
    note: str = ""
    fpu: str = ""
    clock_hz: int = 0
    names: BoardNames = BoardNames()

    @property
    def float_abi(self) -> str:
        """What GCC's -mfloat-abi is for it."""
        return "hard" if self.fpu else "soft"
