"""Makes the repository importable without installation and keeps TensorFlow quiet."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

_ROOT = Path(__file__).resolve().parent.parent
for folder in (_ROOT, _ROOT / "tests"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

LONG = frozenset(
    {
        "arena_test",
        "backends_test",
        "bottleneck_kinds_test",
        "c_again_test",
        "c_codes_test",
        "c_emulated_test",
        "c_keras_test",
        "c_library_test",
        "c_operators_test",
        "c_plan_test",
        "c_proof_test",
        "c_rows_test",
        "check_folder_test",
        "cli_keras_test",
        "cli_test",
        "code_costs_test",
        "code_expected_test",
        "code_plan_test",
        "code_quantizer_test",
        "code_strips_test",
        "compare_test",
        "convert_test",
        "custom_layers_test",
        "device_rounding_test",
        "docs_test",
        "end_types_test",
        "finetune_test",
        "fit_test",
        "gf2_device_test",
        "gf2_test",
        "implicit_test",
        "keras_coverage_test",
        "keras_ends_test",
        "mutants_test",
        "pipeline_test",
        "place_test",
        "qat_codes_test",
        "qat_placement_test",
        "qat_test",
        "qat_training_test",
        "random_plans_test",
        "report_figures_test",
        "requantize_test",
        "resnet8_tables_test",
        "rewrite_test",
        "several_test",
        "skeleton_test",
        "strips_arena_test",
        "strips_choose_test",
        "strips_exact_test",
        "strips_plan_test",
        "strips_walks_test",
        "strips_workers_test",
        "subgraphs_test",
        "tflm_operators_test",
        "tflm_runtime_test",
        "tfmot_test",
        "training_test",
        "ways_test",
        "weight_bits_test",
        "what_if_test",
    }
)
"""Files of many tests that take more than about 9 s of processor time together.

Elsewhere a single test of more than about 2 s has the mark where it stands.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test by its file: what it needs is what the file imports.

    Long files come first: processes that take file by file then end at about the same time.
    """
    for item in items:
        module = item.getparent(pytest.Module)
        assert module is not None
        if item.path.stem in LONG:
            item.add_marker(pytest.mark.long)
        for name in needs(module.obj):
            item.add_marker(name)
    items.sort(key=lambda item: item.path.stem not in LONG)


def needs(module: ModuleType) -> set[str]:
    """Returns the names of markers for what a module imports."""
    found = set()
    for value in vars(module).values():
        origin = (
            value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
        )
        match str(origin).split("."):
            case ["deploy", "runtime", "tflm", *_] | ["tests", "random_plans" | "mutants"]:
                found.add("tflm")
            case ["c_compilers"] | ["tests", "c_compilers"]:
                found.add("compilers")
            case ["keras" | "tensorflow" | "keras_fmc" as package, *rest] if (
                package != "keras_fmc" or rest[:1] not in ([], ["errors"], ["printable"], ["sizes"])
            ):
                found.add("keras")
    return found


@pytest.fixture
def float64() -> Iterator[None]:
    """Keras computes in double precision."""
    import keras

    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
