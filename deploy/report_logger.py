"""A Keras callback that says, while a model is trained, what it would be on the device."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from deploy.pipeline import Result, convert
from deploy.predict import predict
from deploy.settings import PlanSettings
from keras_fmc.errors import BadInputError, FmcError

_LOG = logging.getLogger("keras_fmc")


class ReportLogger(keras.callbacks.Callback):
    """Logs the arena and the accuracy of the device's model to TensorBoard.

    At the end of training, and every ``every`` epochs, the model is converted and planned, and the
    numbers of its report go to TensorBoard under ``device/``. With ``data`` the converted model is
    run, too: ``device/accuracy``. What Keras measured in that epoch stands beside it, under
    ``training/``.

        logger = fmc.ReportLogger("logs", board="nano33ble", calibration=x[:200], data=(x, y))
        model.fit(x, y, callbacks=[logger])
        logger.results[-1].report

    A model that cannot be converted does not stop the training: the reason is a warning of the
    logger ``keras_fmc``.

    Attributes:
        results: what `convert` returned, by epoch, from 1.

    Args:
        log_dir: folder of the event files, as of ``keras.callbacks.TensorBoard``.
        every: epochs between two reports; None: only at the end.
        calibration: samples for a model that is not quantised, as of `convert`.
        data: (x, y) with class numbers y, for the accuracy.
        **settings: of the plan, as of `convert`: ``board``, ``arena_bytes`` and others.

    Raises:
        BadInputError: ``every`` is below 1, or a setting is none.
    """

    def __init__(
        self,
        log_dir: str | Path,
        *,
        every: int | None = None,
        calibration: np.ndarray | None = None,
        data: tuple[Any, Any] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        if every is not None and every < 1:
            raise BadInputError("every= counts epochs", expected="1 or more", received=every)
        try:
            PlanSettings(**settings).target()
        except TypeError as error:
            raise BadInputError("an unknown setting", received=error) from error
        self.results: dict[int, Result] = {}
        self._log_dir = str(log_dir)
        self._every = every
        self._calibration = calibration
        self._data = data
        self._settings = settings
        self._last: tuple[int, Mapping[str, Any]] = (0, {})
        self._writer: Any = None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Reports where it is time to."""
        self._last = (epoch + 1, dict(logs or {}))
        if self._every is not None and (epoch + 1) % self._every == 0:
            self._report()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Reports on the trained model."""
        del logs
        if self._last[0] and self._last[0] not in self.results:
            self._report()
        if self._writer is not None:
            self._writer.close()

    def _report(self) -> None:
        epoch, logs = self._last
        try:
            result = convert(self.model, calibration=self._calibration, **self._settings)
        except FmcError as error:
            _LOG.warning("epoch %d: no report: %s", epoch, error)
            return
        self.results[epoch] = result
        values = {f"device/{name}": value for name, value in result.report.metrics().items()}
        values |= {f"training/{name}": value for name, value in logs.items()}
        if self._data is not None and result.content is not None:
            values["device/accuracy"] = self._accuracy(result)
        self._write(epoch, values)

    def _accuracy(self, result: Result) -> float:
        assert self._data is not None
        x, y = self._data
        outputs = predict(result, x)
        if not isinstance(outputs, np.ndarray):
            raise BadInputError(
                "accuracy is of a model of one output", received=f"{len(outputs)} outputs"
            )
        return float(np.mean(np.argmax(outputs, axis=-1) == np.asarray(y)))

    def _write(self, epoch: int, values: Mapping[str, Any]) -> None:
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self._log_dir)
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(name, float(value), step=epoch)
        self._writer.flush()
