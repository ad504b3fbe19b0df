"""TFLite flatbuffers to ``Graph`` and back. The only module that knows the schema."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from deploy.graph import (
    ITEM_BYTES,
    Graph,
    Operator,
    Options,
    Quantization,
    Signature,
    Tensor,
)
from deploy.implicit import restored, with_entry
from deploy.sparse import Compressed, Dense, Level, dense_values
from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.printable import printable

_IDENTIFIER = b"TFL3"
_COMPRESSION = "COMPRESSION_METADATA"
"""Metadata of a file whose weights TFLM's own tool compressed."""
_KERAS_FILES = (b"PK\x03\x04", b"\x89HDF")
"""How .keras (a zip archive) and .h5 files begin."""
_BUFFER_ALIGNMENT = 16
_LARGEST_FILE_BYTES = 256 * 2**20
"""More than the flash of any microcontroller."""
_MOST_TENSORS = 1 << 16
_MOST_SUBGRAPHS = 256
_OPCODES = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
_TYPES = {v: k.lower() for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
_OPTION_KINDS = {v: k for k, v in vars(schema.BuiltinOptions).items() if isinstance(v, int)}
# What the generated reader raises on bytes that are not what they claim to be.
_READ_ERRORS = (
    struct.error,
    IndexError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    OverflowError,
    MemoryError,
)


def read_file(path: str | Path) -> Graph:
    """Reads a .tflite file.

    Raises:
        BadInputError: no such file, or not a whole TFLite flatbuffer.
        UnsupportedModelError: elements that do not fill bytes, or subgraphs that call themselves.
    """
    return read(read_content(path), source=str(path))


def read_content(path: str | Path) -> bytes:
    """Reads a file, and no more of it than a microcontroller could hold.

    Raises:
        BadInputError: no such file, or too large a one.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadInputError(
            f"cannot read {path}", received=reason, remedy="Check the path"
        ) from error
    if len(content) > _LARGEST_FILE_BYTES:
        raise BadInputError(
            f"{path} is too large for any microcontroller",
            expected=f"{_LARGEST_FILE_BYTES} bytes at most",
        )
    return content


def read(content: bytes, *, source: str = "model") -> Graph:
    """Reads the bytes of a .tflite file; ``source`` names it in messages."""
    main, *others = _read(content, source, lenient=False)
    main = main.replace(others=tuple(graph.replace(metadata=()) for graph in others))
    _check_calls(main, source)
    return main


def read_subgraphs(content: bytes, *, source: str = "model") -> tuple[Graph, ...]:
    """Reads all subgraphs of a .tflite file, to be looked at and not to be planned.

    Variants and strings count as int32; types whose elements do not fill bytes are constants' alone
    and come without data.
    """
    return _read(content, source, lenient=True)


def _read(content: bytes, source: str, *, lenient: bool) -> tuple[Graph, ...]:
    if len(content) < 8 or content[4:8] != _IDENTIFIER:
        raise BadInputError(
            f"{source} is not a TFLite model",
            expected='a flatbuffer with identifier "TFL3"',
            received=f"{len(content)} bytes" + (f" beginning {content[:8]!r}" if content else ""),
            remedy="Keras models: fmc convert MODEL --calibration X.npy"
            if content.startswith(_KERAS_FILES)
            else "Convert the model again, or check that the download is complete",
        )
    try:
        table = schema.Model.GetRootAsModel(content, 0)
        count = table.SubgraphsLength()
        if not 0 < count <= _MOST_SUBGRAPHS:
            raise UnsupportedModelError(
                f"{source} has {count} subgraphs",
                expected=f"1 to {_MOST_SUBGRAPHS}",
                remedy="Convert the model again",
            )
        _check_volume(table, len(content))
        model = schema.ModelT.InitFromObj(table)
        if any(_text(entry.name) == _COMPRESSION for entry in model.metadata or ()):
            raise UnsupportedModelError(
                f"{source} has compressed weights ({_COMPRESSION}), whose memory is not known "
                "here; only a TensorFlow Lite Micro built for them runs it",
                remedy="Use the .tflite as it was before its weights were compressed",
            )
        graphs = tuple(_graph(model, number, lenient=lenient) for number in range(count))
        for graph in graphs:
            _check(graph, source)
        graphs = (restored(graphs[0]), *graphs[1:])
    except _READ_ERRORS as error:
        raise BadInputError(
            f"{source} is truncated or corrupted",
            received=f"{type(error).__name__}: {error}",
            remedy="Convert the model again, or check that the download is complete",
        ) from error
    return graphs


def write(graph: Graph) -> bytes:
    """Returns the flatbuffer. The same graph gives the same bytes; constants are 16-aligned."""
    graph = with_entry(graph)
    model = schema.ModelT()
    model.version = 3
    model.description = graph.description
    model.buffers = [_AlignedBuffer(b"")]
    pool: dict[bytes, int] = {}

    def buffer(data: bytes) -> int:
        if data not in pool:
            model.buffers.append(_AlignedBuffer(data))
            pool[data] = len(model.buffers) - 1
        return pool[data]

    codes: dict[tuple[str, int, str], int] = {}
    model.subgraphs = []
    for part in graph.subgraphs:
        subgraph = schema.SubGraphT()
        subgraph.name = part.name
        subgraph.inputs = np.array(part.inputs, np.int32)
        subgraph.outputs = np.array(part.outputs, np.int32)
        subgraph.tensors = [
            _tensor_table(t, 0 if t.data is None else buffer(t.data)) for t in part.tensors
        ]
        for operator in part.operators:
            codes.setdefault((operator.opcode, operator.version, operator.custom_code), len(codes))
        subgraph.operators = [
            _operator_table(op, codes[(op.opcode, op.version, op.custom_code)])
            for op in part.operators
        ]
        model.subgraphs.append(subgraph)
    model.operatorCodes = [_opcode_table(*code) for code in codes]
    model.signatureDefs = [_signature_table(s) for s in graph.signatures]
    model.metadata = []
    for name, data in graph.metadata:
        entry = schema.MetadataT()
        entry.name = name
        # Metadata never shares a buffer with a constant.
        model.buffers.append(_AlignedBuffer(data))
        entry.buffer = len(model.buffers) - 1
        model.metadata.append(entry)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


class _AlignedBuffer:
    """Packs like the schema's BufferT, but keeps its ``force_align: 16``, which that drops."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def Pack(self, builder: Any) -> int:
        if not self._data:
            schema.BufferStart(builder)
            return schema.BufferEnd(builder)
        size = len(self._data)
        builder.StartVector(1, size, _BUFFER_ALIGNMENT)
        builder.head -= size
        builder.Bytes[builder.head : builder.head + size] = self._data
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


def _check_volume(table: Any, size_bytes: int) -> None:
    """Refuses tables that refer to the same bytes so often that their sum would fill memory."""
    subgraphs = [table.Subgraphs(i) for i in range(table.SubgraphsLength())]
    counts = [
        sum(subgraph.TensorsLength() for subgraph in subgraphs),
        sum(subgraph.OperatorsLength() for subgraph in subgraphs),
        *(table.BuffersLength(), table.OperatorCodesLength()),
        *(table.MetadataLength(), table.SignatureDefsLength()),
    ]
    if max(counts) > min(_MOST_TENSORS, size_bytes):
        raise ValueError(f"it says it holds {max(counts)} tables of one kind")
    volume = sum(table.Buffers(i).DataLength() for i in range(table.BuffersLength()))
    for subgraph in subgraphs:
        tensors = (subgraph.Tensors(i) for i in range(subgraph.TensorsLength()))
        operators = (subgraph.Operators(i) for i in range(subgraph.OperatorsLength()))
        volume += sum(map(_tensor_volume, tensors)) + sum(map(_operator_volume, operators))
    if volume > 4 * size_bytes:
        raise ValueError(f"its tables refer to {volume} bytes")


def _tensor_volume(tensor: Any) -> int:
    volume = 4 * (tensor.ShapeLength() + tensor.ShapeSignatureLength()) + len(tensor.Name() or b"")
    quantization = tensor.Quantization()
    if quantization is not None:
        volume += 4 * quantization.ScaleLength() + 8 * quantization.ZeroPointLength()
        volume += 4 * (quantization.MinLength() + quantization.MaxLength())
    return int(volume)


def _operator_volume(operator: Any) -> int:
    counts = operator.InputsLength() + operator.OutputsLength()
    return int(4 * counts + operator.CustomOptionsLength())


def _graph(model: Any, number: int, *, lenient: bool) -> Graph:
    subgraph = model.subgraphs[number]
    buffers = [_buffer_bytes(b) for b in model.buffers or ()]
    return Graph(
        tensors=tuple(_tensor(t, buffers, lenient=lenient) for t in subgraph.tensors or ()),
        operators=tuple(_operator(op, model.operatorCodes) for op in subgraph.operators or ()),
        inputs=_integers(subgraph.inputs),
        outputs=_integers(subgraph.outputs),
        name=_text(subgraph.name) or "main",
        description=_text(model.description),
        metadata=tuple((_text(m.name), buffers[m.buffer] or b"") for m in model.metadata or ()),
        signatures=tuple(
            _signature(s)
            for s in model.signatureDefs or ()
            if number == s.subgraphIndex or len(model.subgraphs) == 1
        ),
    )


def _buffer_bytes(buffer: Any) -> bytes | None:
    if buffer.offset:
        raise UnsupportedModelError(
            "constants stand outside the flatbuffer",
            remedy="Models of 2 GB and more do not fit a microcontroller",
        )
    if buffer.data is None or len(buffer.data) == 0:
        return None
    return np.asarray(buffer.data, np.uint8).tobytes()


def _tensor(table: Any, buffers: list[bytes | None], *, lenient: bool) -> Tensor:
    name = _text(table.name)
    dtype = _TYPES[table.type]
    if dtype not in ITEM_BYTES and lenient:
        is_handle = dtype in ("variant", "string")
        packed = None if is_handle or buffers[table.buffer] is None else b""
        shape = _integers(table.shape) if packed is None else (0,)
        return Tensor(name, shape, "int32" if is_handle else "int8", data=packed)
    if dtype == "int4":
        raise UnsupportedModelError(
            f"tensor {name} is int4, two values a byte, and memory for such tensors is not planned "
            "here; TensorFlow Lite Micro unpacks them as weights of int8 convolutions and dense "
            "layers",
            remedy="Convert again with weights of 8 bits: full int8 quantisation",
        )
    if dtype not in ITEM_BYTES:
        raise UnsupportedModelError(
            f"tensor {name} has type {dtype}",
            expected=f"one of {', '.join(ITEM_BYTES)}",
            remedy="Convert with full int8 quantisation",
        )
    shape = _integers(table.shape)
    data = buffers[table.buffer]
    if table.sparsity is not None and data is not None:
        data = _dense(table.sparsity, data, shape, dtype)
    if data is None and table.buffer and 0 in shape:
        data = b""
    signature = None if table.shapeSignature is None else _integers(table.shapeSignature)
    return Tensor(
        name=name,
        shape=shape,
        dtype=dtype,
        quantization=_quantization(table.quantization),
        data=data,
        is_variable=bool(table.isVariable),
        shape_signature=signature or None,
        stored_sparse=table.sparsity is not None,
    )


def _dense(table: Any, data: bytes, shape: tuple[int, ...], dtype: str) -> bytes:
    """The values of a constant that is stored sparse."""
    if math.prod(shape) > _LARGEST_FILE_BYTES:
        raise ValueError(f"sparse values of {math.prod(shape)} elements")
    made = dense_values(
        np.frombuffer(data, dtype),
        shape,
        order=_integers(table.traversalOrder),
        blocked=_integers(table.blockMap),
        levels=[_level(level) for level in table.dimMetadata or ()],
    )
    return made.tobytes()


def _level(table: Any) -> Level:
    if table.format == schema.DimensionType.DENSE:
        return Dense(int(table.denseSize))
    segments, indices = table.arraySegments, table.arrayIndices
    return Compressed(np.asarray(segments.values, int), np.asarray(indices.values, int))


def _quantization(table: Any) -> Quantization | None:
    if table is None or table.scale is None or len(table.scale) == 0:
        return None
    scales = tuple(float(s) for s in table.scale)
    zeros = tuple(int(z) for z in table.zeroPoint) if table.zeroPoint is not None else ()
    return Quantization(scales, zeros, int(table.quantizedDimension))


def _operator(table: Any, codes: list[Any]) -> Operator:
    code = codes[table.opcodeIndex]
    opcode = _OPCODES[max(code.builtinCode, code.deprecatedBuiltinCode)]
    if table.builtinOptions2 is not None:
        raise UnsupportedModelError(
            f"operator {opcode} is not part of TensorFlow Lite Micro",
            remedy="Convert with TFLITE_BUILTINS only",
        )
    custom = table.customOptions
    return Operator(
        opcode=opcode,
        inputs=_integers(table.inputs),
        outputs=_integers(table.outputs),
        options=None if table.builtinOptions is None else _options(table.builtinOptions),
        version=int(code.version),
        custom_code=_text(code.customCode),
        custom_options=None if custom is None else np.asarray(custom, np.uint8).tobytes(),
    )


def _options(table: Any) -> Options:
    kind = type(table).__name__.removesuffix("T")
    return Options(kind, tuple((_snake(k), _plain(v)) for k, v in vars(table).items()))


def _plain(value: Any) -> object:
    if isinstance(value, np.ndarray):
        return tuple(value.tolist())
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, np.generic):
        return value.item()
    return value


def _signature(table: Any) -> Signature:
    def pairs(maps: Any) -> tuple[tuple[str, int], ...]:
        return tuple((_text(m.name), int(m.tensorIndex)) for m in maps or ())

    return Signature(_text(table.signatureKey), pairs(table.inputs), pairs(table.outputs))


def _tensor_table(tensor: Tensor, buffer: int) -> Any:
    table = schema.TensorT()
    table.name = tensor.name
    table.shape = np.array(tensor.shape, np.int32)
    table.type = getattr(schema.TensorType, tensor.dtype.upper())
    table.buffer = buffer
    table.isVariable = tensor.is_variable
    table.hasRank = True
    if tensor.shape_signature is not None:
        table.shapeSignature = np.array(tensor.shape_signature, np.int32)
    if tensor.quantization is not None:
        quantization = schema.QuantizationParametersT()
        quantization.scale = np.array(tensor.quantization.scales, np.float32)
        quantization.zeroPoint = np.array(tensor.quantization.zero_points, np.int64)
        quantization.quantizedDimension = tensor.quantization.axis
        table.quantization = quantization
    return table


def _opcode_table(opcode: str, version: int, custom_code: str) -> Any:
    table = schema.OperatorCodeT()
    table.builtinCode = getattr(schema.BuiltinOperator, opcode)
    table.deprecatedBuiltinCode = min(table.builtinCode, 127)
    table.version = version
    table.customCode = custom_code or None
    return table


def _operator_table(operator: Operator, opcode_index: int) -> Any:
    table = schema.OperatorT()
    table.opcodeIndex = opcode_index
    table.inputs = np.array(operator.inputs, np.int32)
    table.outputs = np.array(operator.outputs, np.int32)
    if operator.custom_options is not None:
        table.customOptions = np.frombuffer(operator.custom_options, np.uint8)
    if operator.options is not None:
        kind = operator.options.kind
        options = getattr(schema, kind + "T")()
        names = {_snake(name): name for name in vars(options)}
        for key, value in operator.options.fields:
            array = np.array(value, np.int32) if isinstance(value, tuple) else value
            setattr(options, names[key], array)
        table.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        table.builtinOptions = options
    return table


def _signature_table(signature: Signature) -> Any:
    def maps(pairs: tuple[tuple[str, int], ...]) -> list[Any]:
        tables = []
        for name, index in pairs:
            table = schema.TensorMapT()
            table.name = name
            table.tensorIndex = index
            tables.append(table)
        return tables

    table = schema.SignatureDefT()
    table.signatureKey = signature.key
    table.inputs = maps(signature.inputs)
    table.outputs = maps(signature.outputs)
    return table


def _check(graph: Graph, source: str) -> None:
    """Refuses indices and constants that do not agree with each other."""
    count = len(graph.tensors)
    for step, operator in enumerate(graph.operators):
        for index in operator.inputs:
            if not -1 <= index < count:
                raise ValueError(f"{operator.opcode} #{step} reads tensor {index} of {count}")
        for index in operator.outputs:
            if not 0 <= index < count:
                raise ValueError(f"{operator.opcode} #{step} writes tensor {index} of {count}")
    ends = [*graph.inputs, *graph.outputs]
    for signature in graph.signatures:
        ends += [index for _, index in (*signature.inputs, *signature.outputs)]
    for index in ends:
        if not 0 <= index < count:
            raise ValueError(f"an input, output or signature is tensor {index} of {count}")
    for tensor in graph.tensors:
        if any(d < 0 for d in tensor.shape):
            raise UnsupportedModelError(
                f"tensor {tensor.name} of {source} has a dynamic shape",
                expected="static dimensions",
                received=tensor.shape,
                remedy="Export the model with batch 1 and fixed sizes",
            )
        if tensor.data is not None and len(tensor.data) != tensor.size_bytes:
            raise ValueError(
                f"constant {tensor.name} holds {len(tensor.data)} bytes, "
                f"its shape needs {tensor.size_bytes}"
            )


def _check_calls(graph: Graph, source: str) -> None:
    """Refuses calls of subgraphs that are not there, or of those that are under way."""

    def walk(number: int, under_way: tuple[int, ...]) -> None:
        for index, operator in enumerate(graph.subgraphs[number].operators):
            for called in operator.called:
                if not 0 <= called < len(graph.subgraphs):
                    raise BadInputError(
                        f"{graph.subgraphs[number].label(index)} in {source} calls a subgraph that "
                        "the file lacks",
                        expected=f"1 to {len(graph.others)}",
                        received=called,
                        remedy="The file is damaged: convert the model again",
                    )
                if called in under_way:
                    raise UnsupportedModelError(
                        f"{graph.subgraphs[number].label(index)} in {source} calls the subgraph "
                        "that it is part of",
                        remedy="TensorFlow Lite Micro has no recursion: export the model without",
                    )
                walk(called, (*under_way, called))

    walk(0, (0,))


def _integers(values: Any) -> tuple[int, ...]:
    return () if values is None else tuple(int(v) for v in values)


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return printable(text)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])|(?<=[A-Z])([A-Z])(?=[a-z])", r"_\1\2", name).lower()
