"""Which types of inputs and outputs go together."""

from __future__ import annotations

from deploy.operators.row import Site, TypeRule

_BIASES = {
    "int8": ("int32",),
    "int16": ("int32", "int64"),
    "uint8": ("int32",),
    "float32": ("float32",),
}
"""Type of data -> types of the bias."""
_WEIGHTS = {
    **dict.fromkeys(("int8", "int16", "uint8"), ("int8", "uint8")),
    "float32": ("float32",),
}
"""Type of data -> types of the weights."""


def anything(site: Site) -> None:
    """Any type to any other: conversions."""


def alike(*positions: int) -> TypeRule:
    """These inputs and every output have one type."""

    def rule(site: Site) -> None:
        dtype = site.tensor(positions[0]).dtype
        for position in positions[1:]:
            if site.has(position) and site.tensor(position).dtype != dtype:
                site.fail_at(position, dtype, site.tensor(position).dtype)
        _outputs_are(site, (dtype,))

    return rule


def all_alike(site: Site) -> None:
    """All inputs and outputs have one type."""
    alike(*range(len(site.operator.inputs)))(site)


def weighted(data: int, weights: int, bias: int) -> TypeRule:
    """Quantised data, int8 weights, a bias of int32 (or int64 for int16 data); or all float32."""

    def rule(site: Site) -> None:
        dtype = site.tensor(data).dtype
        if dtype not in _BIASES:
            site.fail_at(data, " or ".join(_BIASES), dtype)
        if dtype == "uint8":
            site.fail(
                "computes with uint8, the 8-bit format before int8, and TensorFlow Lite Micro has "
                "no kernel for that",
                remedy="Convert the model that the file was made from with int8 quantisation; "
                "inputs and outputs may stay uint8",
            )
        kind = site.tensor(weights).dtype
        if dtype == "float32" and kind in ("int8", "uint8", "float16"):
            name = site.tensor(weights).name
            site.fail(
                f"is hybrid: {kind} weights, {name}, for float32 maps, and TensorFlow Lite Micro "
                "has no kernel for that",
                remedy="Convert again with full int8 quantisation, or without any",
            )
        if kind not in _WEIGHTS[dtype]:
            site.fail_at(weights, " or ".join(_WEIGHTS[dtype]), kind)
        if site.has(bias) and site.tensor(bias).dtype not in _BIASES[dtype]:
            site.fail_at(bias, " or ".join(_BIASES[dtype]), site.tensor(bias).dtype)
        _outputs_are(site, (dtype,))

    return rule


def compared(site: Site) -> None:
    """Two of one type to bool."""
    if site.tensor(0).dtype != site.tensor(1).dtype:
        site.fail_at(1, site.tensor(0).dtype, site.tensor(1).dtype)
    _outputs_are(site, ("bool",))


def logical(site: Site) -> None:
    """bool to bool."""
    for position in range(len(site.operator.inputs)):
        if site.tensor(position).dtype != "bool":
            site.fail_at(position, "bool", site.tensor(position).dtype)
    _outputs_are(site, ("bool",))


def selected(site: Site) -> None:
    """A bool and two of one type, which is the output's."""
    if site.tensor(0).dtype != "bool":
        site.fail_at(0, "bool", site.tensor(0).dtype)
    alike(1, 2)(site)


def indices(site: Site) -> None:
    """Anything to int32 or int64."""
    _outputs_are(site, ("int32", "int64"))


def _outputs_are(site: Site, dtypes: tuple[str, ...]) -> None:
    for output in site.operator.outputs:
        tensor = site.graph.tensors[output]
        if tensor.dtype not in dtypes:
            site.fail(f"cannot write {tensor.name}", " or ".join(dtypes), tensor.dtype)
