"""deploy: int8 TFLite models in, a proven memory plan for TensorFlow Lite Micro out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_fmc.lazy import export_lazily

_EXPORTS = {
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

__all__ = list(_EXPORTS)

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


export_lazily(__name__, _EXPORTS)
