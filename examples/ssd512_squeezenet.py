"""The feature extractor of an SSD512 detector on SqueezeNet 1.1.

512×512 images; the detector reads the map after fire9 (32×32) and two that are made from it. Of the
maps up to fire3, fusion leaves the two squeezed ones:

    conv1 256²·64, pool1 128²·64, squeeze 128²·16, expand 128²·128, squeeze and expand again
    = (256 + 64 + 2 · (16 + 128)) · 128² = 608 · 128²  →  2 · 16 · 128²        19 times less

Source: Gudovskiy et al. 2018, §4.2; Liu et al., "SSD: Single shot multibox detector", arXiv
1512.02325.
"""

from __future__ import annotations

import keras
from squeezenet import Store, conv, fires

EXTRA = ((128, 256, "extra16"), (64, 128, "extra8"))
"""(channels of the 1×1, of the 3×3 with stride 2, name)."""


def ssd512_extractor(size: int = 512, *, store: Store | None = None) -> keras.Model:
    """Returns the extractor with random weights; its outputs are the maps that SSD reads."""
    image = keras.Input((size, size, 3), name="image")
    x = fires(image, store=store, padding="same")
    outputs = [x]
    for narrow, wide, name in EXTRA:
        x = conv(narrow, 1, name=f"{name}_reduce")(x)
        x = conv(wide, 3, strides=2, padding="same", name=name)(x)
        outputs.append(x)
    return keras.Model(image, outputs, name="ssd512_squeezenet")


def fusion_elements(size: int = 512) -> tuple[int, int]:
    """Returns the elements of all maps up to fire3, and of the two that fusion leaves stored."""
    half, quarter = size // 2, size // 4
    stored = 2 * 16 * quarter**2
    return half**2 * 64 + quarter**2 * (64 + 2 * 128) + stored, stored
