r"""Training a model with bottlenecks, or a quantised one, towards the model that it was made from.

The loss is

    (1 - w) · task + w · T² · KL(p ‖ q),    p = softmax(teacher / T),  q = softmax(student / T)

of the outputs with classes, logits or probabilities alike, as log p is the logits up to a constant
(Hinton et al., arXiv 1503.02531). Outputs without classes are pulled to the teacher's by their mean
squared difference, over its variance.

`keras.distillation` is not used: it freezes its teacher, whose flags then travel into models that
are rewritten from it, and its default loss takes the divergence of raw outputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fmc.errors import BadInputError
from keras_fmc.layers.code_quantizer import CodeQuantizer
from keras_fmc.layers.fake_quant import FakeQuant
from keras_fmc.layers.gf2 import GF2Bottleneck
from keras_fmc.layers.projection import ProjectionBottleneck
from keras_fmc.model.operations import activation_name
from keras_fmc.model.surgery import sublayers
from keras_fmc.qat.weight_layers import FAKE_QUANT_LAYERS

_SMALL = 1e-7
_RATE, _NEAR_RATE = 1e-3, 3e-4
_NEAR = 0.1
_LEAST_UNIT = 0.1
"""Of a channel's weights, as a part of their size in all channels: small ones have to move, too."""
_SAMPLES = 256
"""Of the training set, by which the start is judged."""


def finetune(
    model: keras.Model,
    x: Any,
    y: Any,
    *,
    loss: Any,
    epochs: int,
    teacher: keras.Model | None = None,
    weight: float = 0.5,
    temperature: float = 4.0,
    augment: Callable[[Any], Any] | None = None,
    rate: float | None = None,
    ema_momentum: float | None = None,
    entering_share: float = 0.0,
    frozen_share: float = 0.25,
    batch_size: int = 32,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    validation_data: Any = None,
    verbose: int | str = 0,
) -> dict[str, list[float]]:
    """Trains a model in place by Adam with cosine decay, and returns the history of its losses.

    The teacher is left as it is, its flags included; none of its weights is in the model. The model
    comes back compiled as it was, or not at all.

    Args:
        model: with bottlenecks, or from `keras_fmc.quantize`; one or several outputs.
        x, y: samples and targets, as for `fit`.
        loss: of the task, as `compile` takes it.
        epochs: of the whole training, which is one decay of the rate.
        teacher: the model whose outputs are to be met; None trains on the task alone.
        weight: w, of the teacher's part of the loss.
        temperature: T.
        augment: called with the samples of each batch of training, such as Keras' layers
            `RandomFlip` and `RandomTranslation` in a `Sequential`. Student and teacher see what it
            returns; targets stay as they are.
        rate: at the start; of kernels that are rounded to int8 in units of their size
            (`kernel_units`), so that one rate does before and after `quantize`. None takes 1e-3,
            or 3e-4 after `quantize` and where the model is nearly its teacher already, as with
            codes of four bits, and would lose that by larger steps: where the teacher's part of
            the loss is at most a tenth of that of a model that always puts out the mean.
        ema_momentum: if set, the weights at the end are moving averages with that momentum.
        entering_share: of the steps, at the start, over which bottlenecks take the place of the
            maps as they are: (1 - a) x + a · bottleneck(x), a rising from 0 to 1 in equal steps.
        frozen_share: of the epochs, at the end, in which ranges of activations stand still.
        batch_size, callbacks, validation_data, verbose: as for `fit`. Callbacks see the model
            inside of what is trained, `callback.model.student`.

    Raises:
        BadInputError: a teacher of other outputs, or a number out of its range.
    """
    _check(model, teacher, epochs, weight, temperature, augment, rate, entering_share, frozen_share)
    units = kernel_units(model)
    if rate is None:
        near = bool(units) or (
            teacher is not None and _share(model, teacher, x, temperature) <= _NEAR
        )
        rate = _NEAR_RATE if near else _RATE
    epoch_steps = -(-len(keras.tree.flatten(x)[0]) // batch_size)
    steps = max(1, epochs * epoch_steps)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    average: dict[str, Any] = {}
    if ema_momentum is not None:
        average = {"use_ema": True, "ema_momentum": ema_momentum}
    learner = _Learner(model, teacher, weight, temperature, augment)
    learner.compile(_Adam(schedule, units, **average), loss)
    ranges = [
        layer
        for layer in sublayers(model)
        if isinstance(layer, FakeQuant) and layer.momentum is not None
    ]
    momenta = [layer.momentum for layer in ranges]
    ours = [_Freeze(ranges, epochs - round(epochs * frozen_share))]
    entering = round(steps * entering_share)
    if entering:
        ours.append(_Enter(learner.share, entering, epoch_steps))
    try:
        with _eased(_bottlenecks(model) if entering else (), learner.share):
            found = learner.fit(
                x,
                y,
                epochs=epochs,
                batch_size=batch_size,
                callbacks=[*callbacks, *ours],
                validation_data=validation_data,
                verbose=verbose,
            )
    finally:
        for layer, momentum in zip(ranges, momenta, strict=True):
            layer.momentum = momentum
    return {name: list(values) for name, values in found.history.items()}


class _Adam(keras.optimizers.Adam):
    """Adam, whose steps are counted in units of each weight."""

    def __init__(self, rate: Any, units: dict[int, np.ndarray], **options: Any) -> None:
        super().__init__(rate, name="adam", **options)
        self._unit_of = units
        self._units: list[Any] = []

    def build(self, variables: Any) -> None:
        super().build(variables)
        self._units = [self._unit_of.get(id(variable), 1.0) for variable in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        unit = self._units[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * unit)


def kernel_units(model: keras.Model) -> dict[int, np.ndarray]:
    """Returns id of variable → the unit of its steps, for the kernels that are rounded to int8.

    Adam moves every weight by about its rate, whatever the weight's size. Before `quantize`, batch
    normalisation makes good for the size of kernels; folded, they have that of what they read and
    put out, as small as 1/255 of the usual behind images of bytes. So the unit of a channel's
    weights is their root mean square over that of He's start, √(2 / products of a sum).
    """
    units = {}
    for layer in sublayers(model):
        if not isinstance(layer, FAKE_QUANT_LAYERS):
            continue
        kernel = ops.convert_to_numpy(layer.kernel)
        axes = layer._kernel_axes
        size = np.sqrt(np.mean(kernel**2, axis=axes, keepdims=True))
        least = _LEAST_UNIT * np.sqrt(np.mean(kernel**2))
        products = kernel.size // (kernel.shape[-1] if axes is None else size.size)
        units[id(layer.kernel)] = np.maximum(size, least) / np.sqrt(2 / products)
    return units


class _Freeze(keras.callbacks.Callback):
    """Holds ranges still from an epoch on."""

    def __init__(self, ranges: Sequence[FakeQuant], first: int) -> None:
        super().__init__()
        self._ranges, self._first = ranges, first

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        del logs
        if epoch < self._first or all(layer.momentum is None for layer in self._ranges):
            return
        for layer in self._ranges:
            layer.momentum = None
        self.model.make_train_function(force=True)


class _Enter(keras.callbacks.Callback):
    """Raises the share of bottlenecks from 0 to 1 over the first steps."""

    def __init__(self, share: keras.Variable, steps: int, epoch_steps: int) -> None:
        super().__init__()
        self._share, self._steps, self._epoch_steps = share, steps, epoch_steps
        self._first = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        del logs
        self._first = epoch * self._epoch_steps

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        del logs
        self._share.assign(min(1.0, (self._first + batch) / self._steps))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        # Models that are kept or looked at between epochs have their bottlenecks whole.
        del epoch, logs
        self._share.assign(1.0)


def _bottlenecks(model: keras.Model) -> list[keras.Layer]:
    kinds = (ProjectionBottleneck, GF2Bottleneck, CodeQuantizer)
    found = [layer for layer in sublayers(model) if isinstance(layer, kinds)]
    inside = {id(child) for layer in found for child in sublayers(layer)}
    return [layer for layer in found if id(layer) not in inside]


@contextlib.contextmanager
def _eased(bottlenecks: Sequence[keras.Layer], share: keras.Variable) -> Iterator[None]:
    """Lets through the part of a map that its bottleneck does not yet take."""

    def easing(whole: Callable[..., Any]) -> Callable[..., Any]:
        def call(x: Any, **options: Any) -> Any:
            part = ops.cast(share, x.dtype)
            return x + part * (ops.cast(whole(x, **options), x.dtype) - x)

        return call

    for layer in bottlenecks:
        layer.call = easing(layer.call)
    try:
        yield
    finally:
        for layer in bottlenecks:
            del layer.call


class _Learner(keras.Model):
    """The student, with a loss that knows the teacher. The teacher is no part of it."""

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.Model | None,
        weight: float,
        temperature: float,
        augment: Callable[[Any], Any] | None,
    ) -> None:
        super().__init__(name=f"{student.name}_learner")
        self.student = student
        # In functions, so that Keras does not track their weights.
        self._teacher_call = None if teacher is None else _untracked(teacher, training=False)
        self._augment = None if augment is None else _augmentation(augment)
        self._kinds = tuple(_kind(student, tensor) for tensor in student.outputs)
        self._weight, self._temperature = weight, temperature
        self.share = self.add_weight(
            name="share", shape=(), initializer="ones", trainable=False, autocast=False
        )
        # The student is built; `BackupAndRestore` asks before the first batch.
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.student(inputs, training=training)

    def train_step(self, *arguments: Any) -> Any:
        *state, data = arguments
        if self._augment is not None:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            data = self._augment(x), y, sample_weight
        return super().train_step(*state, data)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        task = super().compute_loss(x, y, y_pred, sample_weight, training)
        if self._teacher_call is None or not training:
            return task
        wanted = keras.tree.flatten(self._teacher_call(x))
        seen = keras.tree.flatten(y_pred)
        parts = [
            _distance(kind, ops.stop_gradient(want), got, self._temperature)
            for kind, want, got in zip(self._kinds, wanted, seen, strict=True)
        ]
        pull = sum(parts) / len(parts)
        return (1 - self._weight) * task + self._weight * pull


def _untracked(function: Callable[..., Any], **options: Any) -> Callable[[Any], Any]:
    return lambda x: function(x, **options)


def _augmentation(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    is_layer = isinstance(function, keras.Layer)
    return _untracked(function, **({"training": True} if is_layer else {}))


def _share(model: keras.Model, teacher: keras.Model, x: Any, temperature: float) -> float:
    """The distance of a model from its teacher over that of the teacher's mean output."""
    few = keras.tree.map_structure(lambda array: array[:_SAMPLES], x)
    wanted, seen = (
        keras.tree.flatten(one.predict(few, batch_size=32, verbose=0)) for one in (teacher, model)
    )
    ours = theirs = 0.0
    for tensor, want, got in zip(model.outputs, wanted, seen, strict=True):
        kind = _kind(model, tensor)
        mean = np.broadcast_to(want.mean(axis=0, keepdims=True), want.shape)
        ours += float(_distance(kind, want, got, temperature))
        theirs += float(_distance(kind, want, mean, temperature))
    return ours / max(theirs, _SMALL)


def _kind(model: keras.Model, tensor: Any) -> str:
    """How an output is compared: "probabilities", "logits", or "values" where there is one."""
    maker = tensor._keras_history.operation
    name = activation_name(maker)
    if name == "softmax":
        return "probabilities"
    return "logits" if name == "linear" and tensor.shape[-1] and tensor.shape[-1] > 1 else "values"


def _distance(kind: str, wanted: Any, seen: Any, temperature: float) -> Any:
    wanted, seen = ops.cast(wanted, "float32"), ops.cast(seen, "float32")
    if kind == "values":
        spread = ops.mean(ops.square(wanted - ops.mean(wanted))) + _SMALL
        return ops.mean(ops.square(wanted - seen)) / spread
    if kind == "probabilities":
        wanted, seen = ops.log(wanted + _SMALL), ops.log(seen + _SMALL)
    p, q = ops.log_softmax(wanted / temperature), ops.log_softmax(seen / temperature)
    return temperature**2 * ops.mean(ops.sum(ops.exp(p) * (p - q), axis=-1))


def _check(
    model: keras.Model,
    teacher: keras.Model | None,
    epochs: int,
    weight: float,
    temperature: float,
    augment: Callable[[Any], Any] | None,
    rate: float | None,
    entering_share: float,
    frozen_share: float,
) -> None:
    for what, value, fits, expected in (
        ("epochs", epochs, epochs >= 1, "at least 1"),
        ("weight of the teacher", weight, 0 <= weight <= 1, "0 to 1"),
        ("temperature", temperature, temperature > 0, "above 0"),
        ("augment", augment, augment is None or callable(augment), "a function or layer"),
        ("rate", rate, rate is None or rate > 0, "above 0"),
        ("entering_share", entering_share, 0 <= entering_share <= 1, "0 to 1"),
        ("frozen_share", frozen_share, 0 <= frozen_share < 1, "0 to below 1"),
    ):
        if not fits:
            raise BadInputError(what, expected, value)
    if teacher is None:
        return
    ours = [tuple(tensor.shape[1:]) for tensor in model.outputs]
    theirs = [tuple(tensor.shape[1:]) for tensor in teacher.outputs]
    if ours != theirs:
        raise BadInputError(
            f"teacher {teacher.name!r} has other outputs than model {model.name!r}",
            expected=f"shapes {ours}",
            received=f"shapes {theirs}",
            remedy="Pass the model that the bottlenecks were put into",
        )
