"""How many bits the weights of each layer have."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from keras import layers

from keras_fmc.errors import BadInputError
from keras_fmc.model.layer_graph import LayerGraph
from keras_fmc.qat.weight_layers import QUANTIZED

FEWEST, MOST = 2, 8


def bits_of_layers(graph: LayerGraph, wanted: int | Mapping[str, int]) -> dict[str, int]:
    """Returns layer name → bits, of all layers with weights; 8 where nothing else is said.

    Args:
        graph: what is quantised.
        wanted: bits of all layers, or layer name or pattern (`"block*"`) → bits; of several
            patterns that a name fits, the last counts. Transposed convolutions keep 8: the
            converter takes their step from the largest weight.

    Raises:
        BadInputError: a name that no layer with weights has, or a number of bits out of range.
    """
    whole = {
        node.layer_name for node in graph.nodes if type(node.operation) is layers.Conv2DTranspose
    }
    names = [node.layer_name for node in graph.nodes if type(node.operation) in QUANTIZED]
    pairs = list(wanted.items()) if isinstance(wanted, Mapping) else [("*", wanted)]
    found = dict.fromkeys(names, MOST)
    for pattern, bits in pairs:
        _check_bits(bits)
        fits = [name for name in names if name == pattern or fnmatchcase(name, pattern)]
        if not fits and isinstance(wanted, Mapping):
            near = get_close_matches(pattern, names, n=3) or names[:8]
            raise BadInputError(
                f"weight_bits for {pattern!r}, which no layer with weights is called",
                expected=f"names or patterns such as {', '.join(map(repr, near))}",
                received=repr(pattern),
            )
        if pattern in whole and bits != MOST:
            raise BadInputError(
                f"weight_bits for the transposed convolution {pattern!r}",
                expected=f"{MOST}",
                received=bits,
                remedy="Leave it out, or write UpSampling2D and Conv2D",
            )
        found |= {name: int(bits) for name in fits if name not in whole}
    return found


def _check_bits(bits: Any) -> None:
    whole = isinstance(bits, int) and not isinstance(bits, bool)
    if not whole or not FEWEST <= bits <= MOST:
        raise BadInputError(
            "bits of weights", expected=f"a whole number from {FEWEST} to {MOST}", received=bits
        )
