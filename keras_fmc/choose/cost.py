r"""What a code costs: how far it moves the model's own output, measured before any training.

With x the output of the model as it is and x' that with one code in place, started from the data as
`keras_fmc.insert_bottlenecks` starts it,

    change = E‖x' - x‖² / E‖x - E x‖²

over all samples, the mean over several outputs. Outputs behind a softmax are taken as
log-probabilities, behind a sigmoid as logits, since the values themselves saturate. Where labels
are given, the rise of the task's loss is measured as well.

Errors of different codes are taken for independent, so the change of a plan is the sum of those of
its codes. Every other part of the model is held in float.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_fmc.choose.plan import BottleneckSpec
from keras_fmc.errors import BadInputError
from keras_fmc.model.layer_graph import LayerGraph
from keras_fmc.model.operations import activation_name
from keras_fmc.start.bottleneck_start import make_bottleneck, start_bottleneck

_HELD_BYTES = 160 * 1024**2
_LEAST_SAMPLES, _MOST_SAMPLES = 8, 64
_START_ROWS = 40_000
_SMALL = 1e-7


@dataclass(frozen=True, slots=True)
class CodeCost:
    """What one code does to the model before any training.

    Attributes:
        change: of the output, relative to its variance; see the head of this file.
        energy_kept: of the map's energy.
        loss_rise: of the task's loss, None without labels.
    """

    change: float
    energy_kept: float
    loss_rise: float | None = None


class CodeCosts:
    """Costs of codes in one model, each measured once.

    Args:
        graph: the float model in canonical form (`keras_fmc.qat.float_model.trace_float`).
        arrays: calibration samples, one array for each input.
        labels: targets of these samples for `loss`, or None.
        loss: what `compile` takes for it.

    Raises:
        BadInputError: labels without a loss, or that do not fit samples and loss.
    """

    def __init__(
        self,
        graph: LayerGraph,
        arrays: Sequence[np.ndarray],
        *,
        labels: Any = None,
        loss: Any = None,
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self._seed = seed
        self._known: dict[BottleneckSpec, CodeCost] = {}
        self._ids = {value.name: id_ for id_, value in enumerate(graph.values)}
        a_sample = sum(4 * math.prod(s or 1 for s in value.shape[1:]) for value in graph.values)
        count = min(_MOST_SAMPLES, max(_LEAST_SAMPLES, _HELD_BYTES // max(a_sample, 1)))
        chosen = np.linspace(0, len(arrays[0]) - 1, min(count, len(arrays[0]))).astype(int)
        self.samples = len(chosen)
        self._values: dict[int, Any] = {
            id_: keras.ops.convert_to_tensor(array[chosen])
            for id_, array in zip(graph.inputs, arrays, strict=True)
        }
        self._run(self._values, graph.nodes)
        self._outputs = [self._seen(id_, self._values[id_]) for id_ in graph.outputs]
        self._spread = [
            max(float(((out - out.mean(axis=0)) ** 2).mean()), _SMALL) for out in self._outputs
        ]
        self._labels = None if labels is None else _chosen_labels(labels, len(arrays[0]), chosen)
        self._loss = None if labels is None else _loss(loss)
        self._base_loss = self._task_loss(self._values)

    def inputs(self, count: int) -> list[np.ndarray]:
        """Returns the first of the samples that are held, one array for each input."""
        return [
            np.asarray(keras.ops.convert_to_numpy(self._values[id_]))[:count]
            for id_ in self.graph.inputs
        ]

    def value(self, name: str) -> np.ndarray:
        """Returns a map of the model as it is, for the samples that are held."""
        return np.asarray(keras.ops.convert_to_numpy(self._values[self._ids[name]]))

    def cost(self, spec: BottleneckSpec) -> CodeCost:
        """Returns the cost of one code.

        Raises:
            BadInputError: no such map.
        """
        if spec not in self._known:
            self._known[spec] = self._measured(spec)
        return self._known[spec]

    def _measured(self, spec: BottleneckSpec) -> CodeCost:
        id_ = self._ids.get(spec.name)
        if id_ is None:
            raise BadInputError("no such map", received=repr(spec.name))
        x = self._values[id_]
        layer = make_bottleneck(spec, name=f"{spec.name.replace(':', '_')}_what_if", seed=0)
        layer.build(x.shape)
        rows = self.value(spec.name)
        rng = np.random.default_rng(self._seed)
        flat = rows.reshape(-1, rows.shape[-1])
        if spec.strides == 1 and len(flat) > _START_ROWS:
            step = -(-len(flat) // _START_ROWS)
            # A stride that shares no factor with the width of the map sees all its columns.
            while math.gcd(step, rows.shape[-2]) > 1:
                step += 1
            batches = [flat[::step]]
        else:
            batches = [rows]
        kept = start_bottleneck(layer, "pca", lambda: batches, channels=spec.shape[-1], rng=rng)
        coded = layer(x, training=False)
        values = dict(self._values)
        values[id_] = coded
        self._run(values, self._behind(id_))
        change = 0.0
        for output, before, spread in zip(
            self.graph.outputs, self._outputs, self._spread, strict=True
        ):
            after = self._seen(output, values[output])
            change += float(((after - before) ** 2).mean()) / spread / len(self._outputs)
        rise = None
        if self._base_loss is not None:
            rise = (self._task_loss(values) or 0.0) - self._base_loss
        return CodeCost(change, float(kept if kept is not None else 1.0), rise)

    def _behind(self, id_: int) -> list[Any]:
        """The calls that depend on a value, in order."""
        changed = {id_}
        behind = []
        for node in self.graph.nodes:
            if changed.intersection(node.inputs):
                behind.append(node)
                changed.update(node.outputs)
        return behind

    def _run(self, values: dict[int, Any], nodes: Sequence[Any]) -> None:
        for node in nodes:
            outputs = node.replay(node.operation, [values[i] for i in node.inputs])
            values.update(zip(node.outputs, keras.tree.flatten(outputs), strict=True))

    def _seen(self, id_: int, value: Any) -> np.ndarray:
        """An output as it is compared."""
        array = np.asarray(keras.ops.convert_to_numpy(value)).astype(np.float64)
        maker = next((n for n in self.graph.nodes if id_ in n.outputs), None)
        name = "linear" if maker is None else activation_name(maker.operation)
        if name == "softmax":
            logs = np.log(array + _SMALL)
            return logs - logs.mean(axis=-1, keepdims=True)
        if name == "sigmoid":
            clipped = np.clip(array, _SMALL, 1 - _SMALL)
            return np.log(clipped) - np.log1p(-clipped)
        return array

    def _task_loss(self, values: dict[int, Any]) -> float | None:
        if self._labels is None or self._loss is None:
            return None
        losses = [self._loss] * len(self.graph.outputs)
        try:
            parts = [
                float(keras.ops.mean(loss(labels, values[id_])))
                for loss, labels, id_ in zip(losses, self._labels, self.graph.outputs, strict=True)
            ]
        except (ValueError, TypeError, IndexError, ArithmeticError) as error:
            raise _wrong_labels(error) from error
        except Exception as error:  # The backend's own errors have no common class.
            if type(error).__module__.split(".")[0] not in ("tensorflow", "jax", "torch"):
                raise
            raise _wrong_labels(error) from error
        return float(np.mean(parts))


def _wrong_labels(error: Exception) -> BadInputError:
    return BadInputError(
        "labels do not fit the outputs and the loss",
        expected="labels as fit() takes them for this loss",
        received=next(iter(str(error).splitlines()), type(error).__name__),
        remedy="Pass labels= of the calibration samples, and loss= as for compile()",
    )


def _chosen_labels(labels: Any, samples: int, chosen: np.ndarray) -> list[np.ndarray]:
    arrays = list(labels) if isinstance(labels, (list, tuple)) else [labels]
    arrays = [np.asarray(part) for part in arrays]
    for part in arrays:
        if part.ndim == 0 or len(part) != samples:
            raise BadInputError(
                "labels of the wrong shape",
                expected=f"one for each of the {samples} calibration samples",
                received=f"shape {part.shape}",
            )
    return [part[chosen] for part in arrays]


def _loss(loss: Any) -> Any:
    if loss is None:
        raise BadInputError(
            "labels without a loss",
            expected='loss= as compile() takes it, such as "sparse_categorical_crossentropy"',
            remedy="Pass loss=, compile the model, or leave labels out",
        )
    return keras.losses.get(loss)
