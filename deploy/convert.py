"""Keras models to int8 .tflite; the result is read back and checked (`deploy.int8_check`)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy import flatbuffer, other_backends
from deploy.codes.expected import check_codes, expected_codes
from deploy.end_types import with_types
from deploy.ends import input_keys, output_keys, output_names, with_ends
from deploy.float_left import in_int8
from deploy.graph import Graph
from deploy.input_scale import without_input_scales
from deploy.int8_check import Scale, check_int8
from deploy.look_up import by_code
from deploy.quiet import quiet
from keras_fmc.errors import BadInputError, UnsupportedModelError

if TYPE_CHECKING:
    import keras


def to_int8_tflite(
    model: keras.Model,
    *,
    calibration: Any = None,
    input_type: str = "int8",
    output_type: str = "int8",
) -> bytes:
    """Returns an int8 .tflite model with batch 1.

    A model from `keras_fmc.quantize` keeps the ranges that it was trained with. Any other is
    folded and quantised after training, with ranges from `calibration`. The outputs are those of
    the QAT model up to the rounding of the kernels' fixed-point multipliers, which
    `keras_fmc.device_rounding` adds to it; switched on or off, it gives the same bytes.

    Args:
        model: a Keras 3 model with float32 inputs of fixed size, or a tf_keras model made by
            `keras_fmc.quantize(..., backend="tfmot")`.
        calibration: some hundred samples as in training (`keras_fmc.model.calibration`); unused
            for a QAT model.
        input_type, output_type: "int8", "uint8" as cameras give it (code + 128, the same scale), or
            "float32"; other than int8 they cost an operator each.

    Raises:
        BadInputError: a model or calibration data that cannot be used, or no calibration for a
            model that needs it.
        UnsupportedModelError: no pure int8 model comes out; names operator and tensor.
    """
    if _is_tf_keras(model):
        graph = flatbuffer.read(_convert(model, _export_tf_keras))
        check_int8(graph)
        return _in_order(graph, model, input_type, output_type)
    from keras_fmc.qat.checks import check_deployable
    from keras_fmc.qat.device_rounding import device_rounding, rounds_as_device

    check_deployable(model)
    if not _is_quantised(model):
        if calibration is None:
            raise BadInputError(
                "the model is not quantised and there is no calibration data",
                expected="a model from keras_fmc.quantize, or calibration samples",
                remedy="Pass calibration= a few hundred training samples "
                "(fmc convert --calibration X.npy)",
            )
        from keras_fmc import quantize

        model = quantize(model, calibration=calibration)
    elif rounds_as_device(model):
        model = device_rounding(model, on=False)
    scales, complete = _scales(model)
    graph = _converted(model)
    check_int8(graph, scales=scales, complete=complete, requantised=_requantised(model))
    check_codes(graph, expected_codes(model))
    return _in_order(without_input_scales(graph), model, input_type, output_type)


def probe_tflite(probe: keras.Model) -> tuple[bytes, list[int]]:
    """Returns a quantised model that puts out its maps (`keras_fmc.qat.device_rounding.probes`) as
    an int8 .tflite, and the tensor of each of its outputs."""
    graph = _converted(probe)
    results = {name: index for signature in graph.signatures for name, index in signature.outputs}
    arguments = {name: index for signature in graph.signatures for name, index in signature.inputs}
    inputs = tuple(arguments[key] for key in input_keys(len(graph.inputs)))
    places = [results[key] for key in output_keys(len(probe.outputs))]
    return flatbuffer.write(graph.replace(inputs=inputs)), places


def convert_path(
    path: str | Path,
    *,
    calibration: str | Path | None = None,
    input_type: str = "int8",
    output_type: str = "int8",
) -> bytes:
    """Returns the int8 .tflite of a Keras model file.

    Args:
        path: .keras, or .h5 of Keras 2 or 3.
        calibration: .npy file of samples, or .npz with an array for each input by name; needed
            unless the model was saved quantised.
        input_type, output_type: as of `to_int8_tflite`.

    Raises:
        BadInputError, UnsupportedModelError: as `to_int8_tflite`, and for files that cannot be
            read.
    """
    from keras_fmc.model.loading import load_model

    # The data are the cheaper of the two to look at.
    samples = None if calibration is None else load_samples(Path(calibration))
    with quiet():
        model = load_model(path)
    return to_int8_tflite(
        model, calibration=samples, input_type=input_type, output_type=output_type
    )


def _converted(model: keras.Model) -> Graph:
    """What the converter makes of a quantised model, on int8 maps and codes throughout."""
    import keras

    from keras_fmc.qat.exported import exported

    here = keras.backend.backend() == "tensorflow"
    convert = tensorflow_tflite if here else other_backends.converted
    content = convert(exported(model))
    return by_code(in_int8(flatbuffer.read(content)))


def tensorflow_tflite(model: keras.Model) -> bytes:
    """Returns what TensorFlow's converter makes of an exported model, as it is."""
    return _convert(model, _export_keras)


def _is_quantised(model: keras.Model) -> bool:
    from keras_fmc.model.layer_graph import trace
    from keras_fmc.qat.weight_layers import FAKE_QUANT_LAYERS

    return any(isinstance(node.operation, FAKE_QUANT_LAYERS) for node in trace(model).nodes)


def _requantised(model: keras.Model) -> int:
    """How many QUANTIZE there may be: one for each change of scale."""
    from keras_fmc.layers.other_scale import OtherScale
    from keras_fmc.model.layer_graph import trace

    return sum(isinstance(node.operation, OtherScale) for node in trace(model).nodes)


def _scales(model: keras.Model) -> tuple[dict[str, Scale], bool]:
    """Returns the scale of each rounding layer that is in use, and whether these are all.

    Codes of fewer than 8 bits take several tensors to clip; `check_codes` looks at them.
    """
    from keras_fmc.layers.fake_quant import FakeQuant
    from keras_fmc.model.layer_graph import trace
    from keras_fmc.model.operations import fixed_range

    scales: dict[str, Scale] = {}
    complete = True
    for node in trace(model).nodes:
        layer = node.operation
        if isinstance(layer, FakeQuant):
            if not layer.calibrated:
                raise BadInputError(
                    f"rounding layer {layer.name!r} has no range yet",
                    remedy="Make the model with keras_fmc.quantize(model, calibration=samples)",
                )
            if type(layer) is FakeQuant:
                scales[layer.name] = (layer.scale, layer.zero_point)
            else:
                complete = False
        elif (fixed := fixed_range(layer)) is not None:
            low, high = fixed
            scale = (high - low) / 255
            scales[node.name] = (scale, round(-128 - low / scale))
    return scales, complete


def _is_tf_keras(model: object) -> bool:
    """Whether a class that the model inherits from is tf_keras', without importing it."""
    return any(cls.__module__.split(".")[0] == "tf_keras" for cls in type(model).__mro__)


def _convert(model: Any, export: Callable[[Any, str], None]) -> bytes:
    """Runs the converter on a SavedModel, in which it finds the ranges as constants."""
    import tensorflow as tf

    with quiet(), tempfile.TemporaryDirectory() as folder:
        export(model, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        # Older kernels of dense layers know one scale for the whole kernel.
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        try:
            return converter.convert()
        except (ValueError, RuntimeError, SystemError, tf.errors.OpError) as error:
            raise UnsupportedModelError(
                f"TensorFlow's converter refuses the model: {_first_line(error)}",
                remedy="Replace the layer that it names, or report the model",
            ) from error


def _export_keras(model: keras.Model, folder: str) -> None:
    import keras

    from keras_fmc.qat.weight_layers import for_converter

    def call(*inputs: Any) -> dict[str, Any]:
        given = keras.tree.pack_sequence_as(model.input, list(inputs))
        with for_converter():
            outputs = keras.tree.flatten(model(given, training=False))
        return dict(zip(output_keys(len(outputs)), outputs, strict=True))

    specs = [
        keras.InputSpec(shape=(1, *tensor.shape[1:]), dtype="float32", name=name)
        for tensor, name in zip(model.inputs, input_keys(len(model.inputs)), strict=True)
    ]
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", call, input_signature=specs)
    archive.write_out(folder, verbose=False)


def _export_tf_keras(model: Any, folder: str) -> None:
    import tensorflow as tf

    specs = [
        tf.TensorSpec((1, *tensor.shape[1:]), tf.float32, name=name)
        for tensor, name in zip(model.inputs, input_keys(len(model.inputs)), strict=True)
    ]

    @tf.function(autograph=False)
    def call(*inputs: Any) -> Any:
        given = tf.nest.pack_sequence_as(model.input, list(inputs))
        outputs = tf.nest.flatten(model(given, training=False))
        return dict(zip(output_keys(len(outputs)), outputs, strict=True))

    tf.saved_model.save(model, folder, signatures=call.get_concrete_function(*specs))


def _in_order(graph: Graph, model: Any, input_type: str, output_type: str) -> bytes:
    """Returns the file with inputs and outputs in the order and with the names of the model, and of
    the types wanted."""
    names = [tensor.name.split(":")[0] for tensor in model.inputs]
    graph = with_ends(graph, names, output_names(model))
    return flatbuffer.write(with_types(graph, input_type=input_type, output_type=output_type))


def load_samples(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    """The array of a .npy file, or the arrays of a .npz file by the names of inputs."""
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInputError(
            f"{path} cannot be read as calibration data",
            expected="a .npy file of samples, or .npz for several inputs",
            received=_first_line(error),
            remedy="Write it with numpy.save(path, samples), or numpy.savez(path, name=samples, …)",
        ) from error
    if isinstance(loaded, np.ndarray):
        return loaded
    try:
        arrays = {name: loaded[name] for name in loaded.files}
    except ValueError as error:
        raise BadInputError(
            f"{path} holds something else than arrays", received=_first_line(error)
        ) from error
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def _first_line(error: BaseException) -> str:
    """The first line of a message that says something, without the place in the compiler."""
    for line in str(error).splitlines():
        if "error:" in line:
            return line.split("error:", 1)[1].strip()
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
