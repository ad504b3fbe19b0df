"""Installs keras_fmc (training) and deploy (planning, proof, the ``fmc`` command)."""

from pathlib import Path

from setuptools import find_packages, setup

_HERE = Path(__file__).parent

# tflite-micro has wheels for x86-64 Linux only; elsewhere plans are made but not run in TFLM.
_HAS_TFLM_WHEEL = "platform_system == 'Linux' and platform_machine == 'x86_64'"

setup(
    name="keras-fmc",
    version="0.1.0",
    description="Feature-map compression, int8 conversion and proven memory plans for Keras CNNs "
    "on TensorFlow Lite Micro",
    long_description=(_HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="keras_fmc authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=[
        "keras",
        "tensorflow-lite-micro",
        "tflite",
        "tinyml",
        "microcontroller",
        "quantization",
        "memory-planning",
        "embedded",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Software Development :: Embedded Systems",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["keras_fmc", "keras_fmc.*", "deploy", "deploy.*"]),
    package_data={
        "keras_fmc": ["py.typed", "samples/*.tflite"],
        "deploy": [
            "py.typed",
            "targets/**/*.json",
            "backends/c/README.md",
            "backends/c/kernels/*",
            "backends/c/stand_in/*",
            "backends/c/templates/*",
            "emit/templates/**/*",
            "proof/templates/*",
            "report/templates/*",
        ],
    },
    # What `fmc plan` uses. Keras and TensorFlow come with the extra [keras].
    install_requires=[
        "absl-py>=1.2",
        "ai-edge-litert>=2.0",
        "flatbuffers>=24",
        "numba>=0.60",
        "numpy>=1.26",
        "shtab>=1.7",
        "tqdm>=4.60",
        f"tflite-micro; {_HAS_TFLM_WHEEL}",
    ],
    extras_require={
        "keras": ["joblib>=1.3", "keras>=3.10", "tensorflow>=2.18"],
        "tfmot": ["keras-fmc[keras]", "tensorflow-model-optimization>=0.8", "tf_keras>=2.18"],
        "dev": [
            "keras-fmc[keras]",
            "build>=1.2",
            "check-wheel-contents>=0.6",
            "hypothesis>=6.100",
            "jax>=0.4",
            "mypy==2.4.1",
            "pandas>=2",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff==0.17.6",
            "scikit-learn>=1.4",
            "twine>=6.1",
        ],
        # to_dataframe() of reports and profiles.
        "notebook": ["pandas>=2"],
        "demo": ["keras-fmc[keras]", "scikit-learn>=1.4"],
        # The site, its notebooks, and the libraries that its recipes use.
        "docs": [
            "keras-fmc[demo]",
            "furo>=2024.8",
            "ipykernel>=6",
            "mlflow-skinny>=3",
            "myst-parser>=4",
            "nbmake>=1.5",
            "optuna>=4",
            "sphinx>=8",
            "tensorboard>=2.18",
            "wandb>=0.19",
        ],
        # For boards that run Linux: TensorFlow is not needed to run an emitted model there.
        "edge": ["tflite-runtime>=2.14", "numpy<2"],
    },
    entry_points={"console_scripts": ["fmc = keras_fmc.command:main"]},
    # A folder named "build" would collide with BUILD on case-insensitive disks.
    options={"build": {"build_base": "_build"}},
)
