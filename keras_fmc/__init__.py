"""keras_fmc: feature-map compression for Keras models that run on microcontrollers.

The names below are imported on first use, so that ``import keras_fmc`` costs nothing and
``deploy`` can use the errors without Keras.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from keras_fmc.errors import (
    BadInputError,
    DoesNotFitError,
    FmcError,
    UnsupportedModelError,
    VerificationError,
)
from keras_fmc.lazy import export_lazily
from keras_fmc.model.registration import register_with_keras

__version__ = "0.1.0"

# Silent unless a program asks for the logger: what the command line says, it prints.
logging.getLogger(__name__).addHandler(logging.NullHandler())

_EXPORTS = {
    "profile": "keras_fmc.maps.feature_maps",
    "FeatureMap": "keras_fmc.maps.feature_maps",
    "FeatureMaps": "keras_fmc.maps.feature_maps",
    "choose_bottlenecks": "keras_fmc.choose.ceiling",
    "CompressionPlan": "keras_fmc.choose.ceiling",
    "insert_bottlenecks": "keras_fmc.rewrite",
    "freeze_base": "keras_fmc.rewrite",
    "finetune": "keras_fmc.training.finetune",
    "RewriteResult": "keras_fmc.rewrite",
    "fold": "keras_fmc.fold.fold",
    "FoldResult": "keras_fmc.fold.fold",
    "check": "keras_fmc.qat.checks",
    "supported": "keras_fmc.qat.supported",
    "register_layer": "keras_fmc.model.custom_layers",
    "quantize": "keras_fmc.qat",
    "device_rounding": "keras_fmc.qat.device_rounding",
    "load_model": "keras_fmc.model.loading",
    "BottleneckKind": "keras_fmc.choose.plan",
    "BottleneckSpec": "keras_fmc.choose.plan",
    "ProjectionBottleneck": "keras_fmc.layers.projection",
    "GF2Bottleneck": "keras_fmc.layers.gf2",
    "CodeQuantizer": "keras_fmc.layers.code_quantizer",
    "FakeQuant": "keras_fmc.layers.fake_quant",
    "sample_model": "keras_fmc.samples",
    # What runs without Keras stands in the package deploy; here it is for a single import.
    "convert": "deploy.pipeline",
    "fit_to": "deploy.fit.fit",
    "Fit": "deploy.fit.outcome",
    "plan": "deploy.pipeline",
    "verify": "deploy.pipeline",
    "predict": "deploy.predict",
    "evaluate": "deploy.evaluate",
    "compare": "deploy.compare",
    "ReportLogger": "deploy.report_logger",
    "Result": "deploy.pipeline",
    "PlanSettings": "deploy.settings",
    "Report": "deploy.report.report",
    "Graph": "deploy.graph",
}

__all__ = [
    "BadInputError",
    "DoesNotFitError",
    "FmcError",
    "UnsupportedModelError",
    "VerificationError",
    *_EXPORTS,
]

if TYPE_CHECKING:
    from deploy.compare import compare
    from deploy.evaluate import evaluate
    from deploy.fit.fit import fit_to
    from deploy.fit.outcome import Fit
    from deploy.graph import Graph
    from deploy.pipeline import Result, convert, plan, verify
    from deploy.predict import predict
    from deploy.report.report import Report
    from deploy.report_logger import ReportLogger
    from deploy.settings import PlanSettings
    from keras_fmc.choose.ceiling import CompressionPlan, choose_bottlenecks
    from keras_fmc.choose.plan import BottleneckKind, BottleneckSpec
    from keras_fmc.fold.fold import FoldResult, fold
    from keras_fmc.layers.code_quantizer import CodeQuantizer
    from keras_fmc.layers.fake_quant import FakeQuant
    from keras_fmc.layers.gf2 import GF2Bottleneck
    from keras_fmc.layers.projection import ProjectionBottleneck
    from keras_fmc.maps.feature_maps import FeatureMap, FeatureMaps, profile
    from keras_fmc.model.custom_layers import register_layer
    from keras_fmc.model.loading import load_model
    from keras_fmc.qat import quantize
    from keras_fmc.qat.checks import check
    from keras_fmc.qat.device_rounding import device_rounding
    from keras_fmc.qat.supported import supported
    from keras_fmc.rewrite import RewriteResult, freeze_base, insert_bottlenecks
    from keras_fmc.samples import sample_model
    from keras_fmc.training.finetune import finetune


export_lazily(__name__, _EXPORTS)

register_with_keras()
