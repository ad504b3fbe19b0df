"""Names that nobody has yet."""

from __future__ import annotations

import re


def free_name(wanted: str, taken: set[str], form: str = "{}_{}", *, first: int = 1) -> str:
    """Returns a name that is not taken, and takes it: the wanted one, or that with a number.

    Args:
        form: how the name and a number make another name.
        first: the first number that is tried.
    """
    name, number = wanted, first
    while name in taken:
        name, number = form.format(wanted, number), number + 1
    taken.add(name)
    return name


def layer_name(wanted: str, taken: set[str]) -> str:
    """`free_name` for a layer that is made of a map: inputs may be called what no layer may.

    Layers are scopes of TensorFlow: letters from a to z, digits and any of `_ . > -`, one of the
    first two or a dot in front. Source: tensorflow/python/framework/ops.py, `Graph.name_scope`.
    """
    plain = re.sub("[^A-Za-z0-9_.>-]", "_", wanted)
    return free_name(plain.lstrip("_>-") or "layer", taken)
