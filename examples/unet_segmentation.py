"""A U-Net fitted to a memory that it does not fit: mean IoU, arena and MACs of every way.

    python examples/unet_segmentation.py [--seeds 3] [--only float]

Stages, each kept under --out and taken from there when the script is started again:

    float       the network, trained from nothing
    longer      the same, trained on for as long as the fitted network is
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import keras
import tensorflow as tf
import unet_data
from unet_data import Split
from unet_model import Watch, unet

import keras_fmc as fmc

IMAGES = {"train": 3000, "validation": 300, "test": 1000}
BATCH = 16
FLOAT_EPOCHS, FLOAT_RATE = 20, 3e-3
FINE_EPOCHS, FINE_RATE = 12, 1e-3
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def load(folder: str | None) -> dict[str, Split]:
    found = unet_data.objects(folder)
    return {
        name: unet_data.compose(found[name], count, seed=seed)
        for seed, (name, count) in enumerate(IMAGES.items())
    }


def trained(
    path: Path, make, data: dict[str, Split], *, epochs: int, rate: float, seed: int
) -> keras.Model:
    """The model of a stage: from its file, or made and trained; a stopped training goes on."""
    if path.exists():
        return fmc.load_model(path)
    keras.utils.set_random_seed(seed)
    model = make()
    steps = epochs * -(-len(data["train"].x) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(keras.optimizers.Adam(schedule), LOSS)
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"training {path.stem}", flush=True)
    model.fit(
        data["train"].x,
        data["train"].y,
        epochs=epochs,
        batch_size=BATCH,
        verbose=0,
        callbacks=[
            keras.callbacks.BackupAndRestore(path.with_suffix(".backup")),
            Watch(data["validation"]),
        ],
    )
    model.save(path)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of Fashion-MNIST's IDX files")
    parser.add_argument("--out", default="out/unet", help="of what is trained")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=["float"], help="stop after a stage")
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    data = load(options.data)
    out = Path(options.out)
    for seed in range(options.seeds):
        trained(
            out / f"float-{seed}.keras", unet, data, epochs=FLOAT_EPOCHS, rate=FLOAT_RATE, seed=seed
        )


if __name__ == "__main__":
    main()
