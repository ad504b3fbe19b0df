"""Installs keras_fmc (training) and deploy (planning, proof, the ``fmc`` command)."""

from pathlib import Path

from setuptools import find_packages, setup

_HERE = Path(__file__).parent

# tflite-micro has wheels for x86-64 Linux only; elsewhere plans are made but not run in TFLM.
_HAS_TFLM_WHEEL = "platform_system == 'Linux' and platform_machine == 'x86_64'"

setup(
    name="keras_fmc",
    version="0.1.0",
    description="Feature-map compression, int8 conversion and proven memory plans for Keras CNNs "
    "on TensorFlow Lite Micro",
    long_description=(_HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=find_packages(include=["keras_fmc", "keras_fmc.*", "deploy", "deploy.*"]),
    package_data={
        "keras_fmc": ["py.typed"],
        "deploy": [
            "py.typed",
            "targets/**/*.json",
            "emit/templates/**/*",
            "proof/templates/*",
            "report/templates/*",
        ],
    },
    install_requires=[
        "absl-py>=1.2",
        "ai-edge-litert>=2.0",
        "flatbuffers>=24",
        "keras>=3.10",
        "numba>=0.60",
        "numpy>=1.26",
        "tensorflow>=2.18",
        "tqdm>=4.60",
        f"tflite-micro; {_HAS_TFLM_WHEEL}",
    ],
    extras_require={
        "tfmot": ["tensorflow-model-optimization>=0.8", "tf_keras>=2.18"],
        "dev": [
            "hypothesis>=6.100",
            "mypy==2.4.1",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff==0.17.6",
            "scikit-learn>=1.4",
        ],
        "demo": ["scikit-learn>=1.4"],
        # For boards that run Linux: TensorFlow is not needed to run an emitted model there.
        "edge": ["tflite-runtime>=2.14", "numpy<2"],
    },
    entry_points={"console_scripts": ["fmc = deploy.cli:main"]},
    # A folder named "build" would collide with BUILD on case-insensitive disks.
    options={"build": {"build_base": "_build"}},
)
