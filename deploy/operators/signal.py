"""TensorFlow Lite Micro's custom operators: signals and detections, shapes and types."""

from __future__ import annotations

from collections.abc import Callable

from deploy.graph import Tensor
from deploy.operators.custom import custom_map, custom_number
from deploy.operators.row import Shape, ShapeRule, Site, TypeRule

Types = tuple[str, ...]
_REMEDY = "Export the model with the signal library of TensorFlow Lite Micro again"


def types(inputs: Types, outputs: Types) -> TypeRule:
    """Exactly these types of inputs and outputs; "float" stands for the type of input 0."""

    def rule(site: Site) -> None:
        for position, wanted in enumerate(inputs):
            if wanted != "float" and site.tensor(position).dtype != wanted:
                site.fail_at(position, wanted, site.tensor(position).dtype)
        for index, wanted in zip(site.operator.outputs, outputs, strict=True):
            made = site.graph.tensors[index]
            kind = site.tensor(0).dtype if wanted == "float" else wanted
            if made.dtype != kind:
                site.fail(f"cannot write {made.name}", kind, made.dtype)

    return rule


def like_input(outputs: int = 1) -> ShapeRule:
    """Every output has the shape of input 0."""

    def rule(site: Site) -> tuple[Shape | None, ...]:
        return (site.shape(0),) * outputs

    return rule


def window(site: Site) -> tuple[Shape | None, ...]:
    """The shape of input 0, whose last dimension is a multiple of the window."""
    (size,) = site.ranked(1, 1)
    if not site.shape(0) or site.shape(0)[-1] % size:
        site.fail_at(0, f"frames of {size}", site.shape(0))
    return (site.shape(0),)


def scaled(site: Site) -> tuple[Shape | None, ...]:
    """The shape of input 0, and one number."""
    site.ranked(0, 1)
    return (site.shape(0), ())


def spectrum(site: Site) -> tuple[Shape | None, ...]:
    """n ≤ N samples → N / 2 + 1 complex numbers, two values each."""
    length = _number(site, "fft_length")
    *outer, size = site.shape(0)
    if length % 2 or size > length:
        site.fail_at(0, f"{length} samples at most, an even number", size)
    return ((*outer, length + 2),)


def samples(site: Site) -> tuple[Shape | None, ...]:
    """N / 2 + 1 complex numbers, two values each → N samples."""
    length = _number(site, "fft_length")
    *outer, size = site.shape(0)
    if length % 2 or size != length + 2:
        site.fail_at(0, f"{length + 2} values", size)
    return ((*outer, length),)


def energy(site: Site) -> tuple[Shape | None, ...]:
    """Complex numbers from start to end → a number for each; the others stay as they are."""
    (size,) = site.ranked(0, 1)
    end = custom_map(site.operator).get("end_index")
    limit = min(size // 2, site.output.elements)
    if not isinstance(end, int) or not 0 < end <= limit:
        site.fail("has a wrong end_index", f"1 to {limit}", end, remedy=_REMEDY)
    return (None,)


def filter_bank(site: Site) -> tuple[Shape | None, ...]:
    """One number for each channel."""
    channels = _number(site, "num_channels")
    for position in (3, 4, 5):
        if site.ranked(position, 1)[0] < channels + 1:
            site.fail_at(position, f"{channels + 1} values", site.shape(position))
    return ((channels,),)


def channels_twice(site: Site) -> tuple[Shape | None, ...]:
    """The channels, and the estimate of their noise."""
    shape = (_number(site, "num_channels"),)
    if site.shape(0) != shape:
        site.fail_at(0, shape, site.shape(0))
    return (shape, shape)


def frames(site: Site) -> tuple[Shape | None, ...]:
    """n samples → n / step frames of some size, and whether they are valid."""
    size, step = _number(site, "frame_size"), _number(site, "frame_step")
    *outer, samples_ = site.shape(0)
    if samples_ % step:
        site.fail_at(0, f"a multiple of {step} samples", samples_)
    return ((*outer, samples_ // step, size), ())


def overlapped(site: Site) -> tuple[Shape | None, ...]:
    """n frames → n · step samples."""
    step = _number(site, "frame_step")
    if len(site.shape(0)) < 2 or site.shape(0)[-1] < step:
        site.fail_at(0, f"frames of {step} samples or more", site.shape(0))
    *outer, count, _ = site.shape(0)
    return ((*outer, count * step),)


def stacked(site: Site) -> tuple[Shape | None, ...]:
    """Channels of several frames, and whether they are valid."""
    channels = _number(site, "num_channels")
    if site.shape(0) != (channels,):
        site.fail_at(0, (channels,), site.shape(0))
    return ((channels * custom_number(site.operator, "stacked_frames"),), ())


def detections(site: Site) -> tuple[Shape | None, ...]:
    """Boxes (1, n, 4), scores (1, n, classes [+ 1]), anchors (n, 4) → at most so many detections.

    The runtime writes that many whatever the file says of its outputs.
    """
    _, boxes, coordinates = site.ranked(0, 3)
    classes = _number(site, "num_classes")
    if coordinates != 4 or site.shape(2) != (boxes, 4):
        site.fail_at(2, (boxes, 4), site.shape(2))
    if site.ranked(1, 3)[1] != boxes or site.shape(1)[2] not in (classes, classes + 1):
        site.fail_at(1, f"{boxes} boxes with {classes} scores, or one more", site.shape(1))
    most = _number(site, "max_detections")
    options = custom_map(site.operator)
    per_box = options.get("max_classes_per_detection", 1)
    if not options.get("use_regular_nms") and isinstance(per_box, int):
        most *= max(1, min(per_box, classes))
    _has_room(site, (4 * most, most, most, 1))
    return (None,) * 4


def ring(site: Site) -> tuple[Shape | None, ...]:
    """(1, 1, 1, c) → the last n of them, (1, n, 1, c), kept in a variable.

    With another period than one, the runtime ends a call at this operator all but every so many
    times, and outputs of the model are what its memory held; without one it guesses a period.
    """
    period = custom_number(site.operator, "cycles_max")
    if period != 1:
        site.fail(
            "lets what stands behind it run in some of the calls only: of the others no outputs "
            "are known that a plan could be held against",
            "cycles_max 1",
            period,
            remedy="Export the model with a stride of one, and call it that often",
        )
    batch, _, width, channels = site.ranked(0, 4)
    output: Tensor = site.output
    if len(output.shape) != 4 or not output.is_variable:
        site.fail(f"cannot write {output.name}", "a variable of 4 dimensions", output.shape)
    return ((batch, output.shape[1], width, channels),)


def _has_room(site: Site, wanted: tuple[int, ...]) -> None:
    for index, elements in zip(site.operator.outputs, wanted, strict=True):
        tensor = site.graph.tensors[index]
        if tensor.elements < elements:
            site.fail(
                f"writes {tensor.name} past its end",
                f"{elements} values",
                tensor.shape,
                remedy="Give the outputs of the post-processing their shapes, or export the model "
                "with the raw boxes and scores as outputs",
            )


def _number(site: Site, name: str) -> int:
    value = custom_number(site.operator, name)
    if value < 1:
        site.fail(f"has a wrong {name}", "1 or more", value, remedy=_REMEDY)
    return value


_INT16, _COUNTS = "int16", ("int16",) * 5
CUSTOM_ROWS: tuple[tuple[str, Callable[[Site], tuple[Shape | None, ...]], Types, Types], ...] = (
    ("CIRCULAR_BUFFER", ring, ("int8",), ("int8",)),
    ("SignalDelay", like_input(), (_INT16,), (_INT16,)),
    ("SignalEnergy", energy, (_INT16,), ("uint32",)),
    ("SignalFftAutoScale", scaled, (_INT16,), (_INT16, "int32")),
    ("SignalFilterBank", filter_bank, ("uint32", *_COUNTS), ("uint64",)),
    ("SignalFilterBankLog", like_input(), ("uint32",), (_INT16,)),
    (
        "SignalFilterBankSpectralSubtraction",
        channels_twice,
        ("uint32",),
        ("uint32", "uint32"),
    ),
    ("SignalFilterBankSquareRoot", like_input(), ("uint64", "int32"), ("uint32",)),
    ("SignalFramer", frames, (_INT16,), (_INT16, "bool")),
    ("SignalIrfft", samples, ("float",), ("float",)),
    ("SignalOverlapAdd", overlapped, ("float",), ("float",)),
    ("SignalPCAN", like_input(), ("uint32", "uint32", _INT16), ("uint32",)),
    ("SignalRfft", spectrum, ("float",), ("float",)),
    ("SignalStacker", stacked, (_INT16,), (_INT16, "bool")),
    ("SignalWindow", window, (_INT16, _INT16), (_INT16,)),
    ("TFLite_Detection_PostProcess", detections, ("float",) * 3, ("float32",) * 4),
)
"""(code, shapes, types of the inputs, types of the outputs) of each custom operator."""
