"""Attention as convolutions, matrix products and a softmax.

    Q, K, V   =  1×1 convolutions of the tokens, Q with 1/√d in its weights
    head h    =  softmax(Q_h K_hᵀ) V_h
    output    =  1×1 convolution of all heads

Tokens are held as a map (tokens, 1, channels), heads as (heads, tokens, channels). A query of
several axes attends to all positions, as Keras' layer does by default.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_fmc.canonical.editor import Editor
from keras_fmc.layers.matrix_product import MatrixProduct
from keras_fmc.layers.unit_length import UnitLength
from keras_fmc.model.layer_graph import LayerGraph, LayerNode, ValueRef, consumers, producers

_PLAIN = "Call it on query, value and key alone, without masks or scores"


def attention(editor: Editor) -> LayerGraph:
    """Replaces attention layers and products of two maps."""
    for node in editor.graph.nodes:
        write = _TWINS.get(type(node.operation))
        if write is None:
            editor.keep(node)
            continue
        reason = write(editor, node)
        if reason is not None:
            kind = type(node.operation).__name__
            editor.refuse(node, f"{kind} {reason} has no int8 form here", _PLAIN)
    return editor.done()


def products(editor: Editor) -> LayerGraph:
    """Lets a matrix product swap the axes of what it reads, as the converter does."""
    graph = editor.graph
    makers, readers = producers(graph), consumers(graph)
    merged: dict[int, int] = {}
    for node in graph.nodes:
        if not isinstance(node.operation, MatrixProduct):
            continue
        for value in node.inputs:
            maker = graph.nodes[makers[value]] if value in makers else None
            alone = len(readers[value]) == 1 and node.inputs.count(value) == 1
            if maker is not None and alone and value not in graph.outputs and _swaps(maker):
                merged[value] = maker.inputs[0]
    for node in graph.nodes:
        if node.outputs[0] in merged:
            continue
        swapped = [value in merged for value in node.inputs]
        if not isinstance(node.operation, MatrixProduct) or not any(swapped):
            editor.keep(node)
            continue
        layer = node.operation
        flags = [
            flag != swap
            for flag, swap in zip((layer.transpose_a, layer.transpose_b), swapped, strict=True)
        ]
        make = functools.partial(_product, flags[0], flags[1])
        sources = [editor.at(merged.get(value, value)) for value in node.inputs]
        editor.last(node, make, sources)
    return editor.done()


def _product(transpose_a: bool, transpose_b: bool, name: str) -> MatrixProduct:
    return MatrixProduct(transpose_a=transpose_a, transpose_b=transpose_b, name=name)


def _swaps(node: LayerNode) -> bool:
    layer = node.operation
    if not isinstance(layer, layers.Permute):
        return False
    rank = len(layer.dims)
    return tuple(layer.dims) == (*range(1, rank - 1), rank, rank - 1)


def _multi_head(editor: Editor, node: LayerNode) -> str | None:
    layer = node.operation
    named = {**dict(zip(("query", "value", "key"), node.args, strict=False)), **node.kwargs}
    for option in ("attention_mask", "query_mask", "value_mask", "key_mask"):
        if named.get(option) is not None:
            return "with a mask"
    if named.get("use_causal_mask"):
        return "with a causal mask"
    if named.get("return_attention_scores"):
        return "that returns its scores"
    query = named["query"]
    value = named["value"]
    key = named.get("key") or value
    sources = [editor.at(item.id) for item in (query, key, value)]
    if any(None in editor.shape(source)[1:] for source in sources):
        return "of no fixed size"
    rank = len(editor.shape(sources[0]))
    if list(layer._attention_axes) != list(range(1, rank - 1)):
        return "over some of its axes"
    heads = layer.num_heads

    def projected(name: str, source: int, dense: Any, factor: float, order: Any) -> int:
        tokens = math.prod(size or 1 for size in editor.shape(source)[1:-1])
        channels = editor.shape(source)[-1] or 1
        made = source
        if editor.shape(source) != (None, tokens, 1, channels):
            made = editor.part(node, f"{name}_tokens", _reshape(tokens, 1, channels), [source])
        kernel = _array(dense.kernel)
        width = kernel.shape[-1]
        weights = (kernel.reshape(channels, heads * width) * factor, _bias(dense, factor))
        made = editor.part(node, name, _convolution(layer, channels, *weights), [made])
        made = editor.part(node, f"{name}_split", _reshape(tokens, heads, width), [made])
        return editor.part(node, f"{name}_heads", _permute(order), [made])

    # In the order in which TensorFlow's converter writes them.
    keys = projected("key", sources[1], layer.key_dense, 1.0, (2, 3, 1))
    queries = projected(
        "query", sources[0], layer.query_dense, 1 / math.sqrt(layer.key_dim), (2, 1, 3)
    )
    scores = editor.part(node, "scores", lambda name: MatrixProduct(name=name), [queries, keys])
    make_shares = lambda name: layers.Activation("softmax", name=name)  # noqa: E731
    shares = editor.part(node, "shares", make_shares, [scores])
    values = projected("value", sources[2], layer.value_dense, 1.0, (2, 1, 3))
    context = editor.part(node, "heads", lambda name: MatrixProduct(name=name), [shares, values])
    length, width = editor.shape(context)[2:]
    value_id = editor.part(node, "joined", _permute((2, 1, 3)), [context])
    size = heads * (width or 1)
    value_id = editor.part(node, "context", _reshape(length, 1, size), [value_id])
    dense = layer.output_dense
    shape = editor.graph.values[node.outputs[0]].shape
    kernel = _array(dense.kernel).reshape(size, -1)
    make = _convolution(layer, size, kernel, _bias(dense, 1.0))
    value_id = editor.part(node, "mixed", make, [value_id])
    editor.last(node, _reshape(*shape[1:]), [value_id])
    return None


def _dot_attention(editor: Editor, node: LayerNode) -> str | None:
    layer = node.operation
    references = [leaf for leaf in keras.tree.flatten(node.args) if isinstance(leaf, ValueRef)]
    if layer.use_scale or layer.score_mode != "dot":
        return "with a scale or another score than 'dot'"
    if node.kwargs.get("use_causal_mask") or node.kwargs.get("return_attention_scores"):
        return "with a causal mask, or that returns its scores"
    if any(item is not None for item in keras.tree.flatten(node.kwargs.get("mask"))):
        return "with a mask"
    query, value, *rest = [editor.at(item.id) for item in references]
    key = rest[0] if rest else value
    if any(len(editor.shape(source)) != 3 for source in (query, key, value)):
        return "of other than sequences"
    key = editor.part(node, "key_heads", _permute((2, 1)), [key])
    scores = editor.part(node, "scores", lambda name: MatrixProduct(name=name), [query, key])
    make = lambda name: layers.Activation("softmax", name=name)  # noqa: E731
    shares = editor.part(node, "shares", make, [scores])
    editor.last(node, lambda name: MatrixProduct(name=name), [shares, value])
    return None


def _dot(editor: Editor, node: LayerNode) -> str | None:
    """Of two vectors: a product and a sum; of two sequences along one axis: a matrix product."""
    layer = node.operation
    one, other = (editor.at(value) for value in node.inputs)
    ranks = {len(editor.shape(value)) for value in (one, other)}
    if len(ranks) != 1:
        return "of different ranks"
    (rank,) = ranks
    axes = layer.axes if isinstance(layer.axes, (list, tuple)) else (layer.axes, layer.axes)
    axes = [axis % rank for axis in axes]
    if rank == 2:
        if layer.normalize:
            one, other = (
                editor.part(node, f"unit{index}", lambda name: UnitLength(name=name), [value])
                for index, value in enumerate((one, other))
            )
        channels = editor.shape(one)[-1] or 1
        product = editor.part(
            node, "product", lambda name: layers.Multiply(name=name), [one, other]
        )
        editor.last(node, _sum(channels), [product])
        return None
    if rank != 3 or layer.normalize:
        return "of this shape"
    if axes[0] == 1:
        one = editor.part(node, "first", _permute((2, 1)), [one])
    if axes[1] == 2:
        other = editor.part(node, "second", _permute((2, 1)), [other])
    editor.last(node, lambda name: MatrixProduct(name=name), [one, other])
    return None


def _sum(channels: int) -> Callable[[str], keras.Layer]:
    def make(name: str) -> keras.Layer:
        layer = layers.Dense(1, use_bias=False, trainable=False, name=name)
        layer.build((None, channels))
        layer.kernel.assign(np.ones((channels, 1)))
        return layer

    return make


def _convolution(
    source: keras.Layer, channels: int, kernel: np.ndarray, bias: np.ndarray | None
) -> Callable[[str], keras.Layer]:
    def make(name: str) -> keras.Layer:
        layer = layers.Conv2D(kernel.shape[1], 1, use_bias=bias is not None, name=name)
        layer.build((None, None, None, channels))
        layer.kernel.assign(kernel[None, None])
        if bias is not None:
            layer.bias.assign(bias)
        layer.trainable = source.trainable
        return layer

    return make


def _bias(dense: Any, factor: float) -> np.ndarray | None:
    return None if dense.bias is None else _array(dense.bias).reshape(-1) * factor


def _array(weight: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(weight), np.float64)


def _reshape(*shape: int | None) -> Callable[[str], keras.Layer]:
    return lambda name: layers.Reshape(shape, name=name)


def _permute(order: tuple[int, ...]) -> Callable[[str], keras.Layer]:
    return lambda name: layers.Permute(order, name=name)


_TWINS: dict[type, Callable[[Editor, LayerNode], str | None]] = {
    layers.Attention: _dot_attention,
    layers.Dot: _dot,
    layers.MultiHeadAttention: _multi_head,
}

LAYERS = tuple(_TWINS)
"""The layers that are taken apart."""
