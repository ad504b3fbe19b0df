"""What ResNet-8's tables compare: codes of the maps, and the recipes of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_fmc.choose.plan import BottleneckKind, BottleneckSpec

Maps = dict[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Code:
    """How a map is stored.

    Attributes:
        share: of a projection, k as a multiple of C; None for a plain code of all channels.
        gf2: whether k is of bits over GF(2), learned from codes of four bits.
    """

    bits: int | None
    share: float | None = None
    strides: int = 1
    gf2: bool = False

    def spec(self, name: str, shape: tuple[int, ...]) -> BottleneckSpec:
        kind = BottleneckKind.PLAIN if self.share is None else BottleneckKind.PROJECTION
        return BottleneckSpec(
            name,
            shape,
            round(shape[-1] * (self.share or 1)),
            self.bits,
            BottleneckKind.GF2 if self.gf2 else kind,
            strides=self.strides,
            kernel_size=self.strides,
            signed=kind is BottleneckKind.PLAIN and not rectified(name),
        )


def rectified(name: str) -> bool:
    return name.startswith(("activation", "re_lu"))


def stored(maps: Maps, codes: Sequence[Code | None]) -> list[BottleneckSpec]:
    """The maps of the largest size get the first code, those of the next one the second, …"""
    sizes = sorted({int(np.prod(shape)) for shape in maps.values()}, reverse=True)
    by_size = dict(zip(sizes, codes, strict=False))
    found = ((name, shape, by_size.get(int(np.prod(shape)))) for name, shape in maps.items())
    return [code.spec(name, shape) for name, shape, code in found if code is not None]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The ingredients that an arm is trained with."""

    teacher: bool = True
    augment: bool = True
    rate: float | None = None
    ema_momentum: float | None = None
    start: str = "pca"


@dataclasses.dataclass(frozen=True)
class Arm:
    """A way of storing maps, or of training.

    Attributes:
        group: of arms that are compared; "" for those without codes.
        codes: of the maps of each size, the largest first; see `stored`.
        rectified_only: leave out maps that can be negative, of which plain codes of one bit cannot
            be made.
        quantised: whether the last epochs are of QAT; else they are like the others.
        device: whether the test set is also run with the device's rounding, `device_rounding`.
        published: train as Price & Tanner do.
    """

    name: str
    group: str
    codes: tuple[Code | None, ...] = ()
    recipe: Recipe = Recipe()
    rectified_only: bool = False
    quantised: bool = True
    device: bool = False
    published: bool = False

    def specs(self, maps: Maps) -> list[BottleneckSpec]:
        if self.rectified_only:
            maps = {name: shape for name, shape in maps.items() if rectified(name)}
        return stored(maps, self.codes)


HALF, QUARTER, LOW, BIT = "half", "quarter", "2.5 bits", "1 bit"
P8, P4, P2 = Code(8, 1 / 2), Code(4, 1 / 2), Code(2, 1 / 2)
NONE = ""
CONTROL = "float, trained as long"
ARMS = (
    Arm(CONTROL, NONE, quantised=False),
    Arm("int8", NONE, device=True),
    Arm("plain, 4 bits", HALF, (Code(4),), device=True),
    Arm("projection, 1/2 of C, 8 bits", HALF, (P8,)),
    Arm("projection 2x2, 2C of 4 bits; plain, 4 bits", QUARTER, (Code(4, 2, 2), Code(4))),
    Arm("projection, C, 4 bits", HALF, (Code(4, 1),), device=True),
    Arm("projection 2x2, 2C of 8 bits", HALF, (Code(8, 2, 2),)),
    Arm("plain, 2 and 4 bits", QUARTER, (Code(2), Code(4))),
    Arm("plain, 1 bit", BIT, (Code(1),), rectified_only=True),
    Arm("projection 2x2, C of 4 bits", BIT, (Code(4, 1, 2),), rectified_only=True),
    Arm(
        "projection 2x2, 2C and 5/2 C of 4 bits; plain, 4 bits",
        LOW,
        (Code(4, 2, 2), Code(4, 5 / 2, 2), Code(4)),
    ),
    Arm("projection 2x2, C and 2C of 8 bits", QUARTER, (Code(8, 1, 2), Code(8, 2, 2))),
    Arm("published", HALF, (Code(None, 1 / 2),), published=True, quantised=False),
    Arm(
        "published",
        QUARTER,
        (Code(None, 1 / 4), Code(None, 1 / 2)),
        published=True,
        quantised=False,
    ),
    Arm("projection, 1/4 and 1/2 of C, 8 bits", QUARTER, (Code(8, 1 / 4), P8)),
    Arm("projection 2x2, 21/8 C of 6 bits", HALF, (Code(6, 21 / 8, 2),), device=True),
    Arm("plain, 2, 2 and 4 bits", LOW, (Code(2), Code(2), Code(4))),
    Arm("projection, 1/2 of C, 2 bits", BIT, (P2,), rectified_only=True),
    Arm("projection, 1/2 of C of 4 bits and C of 4 bits", QUARTER, (P4, Code(4, 1))),
    Arm(
        "GF(2), 1 of 4 bits",
        BIT,
        (Code(4, 1, gf2=True),),
        Recipe(start="identity"),
        rectified_only=True,
    ),
)

BARE = Recipe(teacher=False, augment=False, rate=1e-3)
INGREDIENTS = {
    "nothing but cosine decay and a start by PCA": BARE,
    "random start": dataclasses.replace(BARE, start="random"),
    "teacher": dataclasses.replace(BARE, teacher=True),
    "augmentation": dataclasses.replace(BARE, augment=True),
    "rate by the start": dataclasses.replace(BARE, rate=None),
    "moving average of weights": dataclasses.replace(BARE, ema_momentum=0.999),
    "teacher, augmentation, rate by the start": Recipe(),
    "all": Recipe(ema_momentum=0.999),
}
INGREDIENT_ARMS = tuple(
    Arm(name, "ingredients", (Code(8, 1 / 4), P8), recipe, quantised=False)
    for name, recipe in INGREDIENTS.items()
)
