"""The worlds of firmware: what each needs of a board, and the TensorFlow Lite Micro it builds.

Names of boards are those of the lists that the projects publish, of PlatformIO's boards those that
have the framework Arduino. ``deploy/targets/lists.json`` says which lists, at which versions, and
``tests/board_names.py`` holds the boards against clones of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deploy.targets import HOST, Board
from keras_fmc.errors import BadInputError


@dataclass(frozen=True, slots=True)
class World:
    """A kind of project.

    Attributes:
        kind: what ``fmc emit --as`` takes.
        title: what its users call it.
        suits: whether it can build for a board.
        needs: what a board has to have for that.
    """

    kind: str
    title: str
    suits: Callable[[Board], bool]
    needs: str


def _is_arm(board: Board) -> bool:
    return board.core.startswith("Cortex")


WORLDS = (
    World(
        "cmake", "CMake", lambda b: _is_arm(b) or b.name == HOST, "an Arm core, for arm-none-eabi"
    ),
    World("arduino", "Arduino", lambda b: bool(b.names.arduino), "an Arduino core (names.arduino)"),
    World("esp-idf", "ESP-IDF", lambda b: bool(b.names.esp_idf), "a chip of Espressif"),
    World(
        *("platformio", "PlatformIO", lambda b: bool(b.names.platformio)),
        "a board of PlatformIO with the framework Arduino (names.platformio)",
    ),
    World("zephyr", "Zephyr", lambda b: bool(b.names.zephyr), "a board of Zephyr (names.zephyr)"),
    World("stm32cube", "STM32Cube", lambda b: bool(b.names.stm32), "an STM32 (names.stm32)"),
)


def check_suits(kind: str, board: Board) -> None:
    """Refuses a kind of project that cannot build for a board.

    Raises:
        BadInputError: names the kinds that can.
    """
    world = next(world for world in WORLDS if world.kind == kind)
    if world.suits(board):
        return
    suitable = [world.kind for world in WORLDS if world.suits(board)]
    raise BadInputError(
        f"no project for {world.title} suits {board.name}: it needs {world.needs}",
        expected=f"one of {', '.join(suitable)}" if suitable else None,
        received=kind,
        remedy="Give another --as; boards of your own get names in their --board-file",
    )


@dataclass(frozen=True, slots=True)
class Library:
    """A library that brings TFLM into a world, at the version that a project pins.

    Attributes:
        source: of PlatformIO's lib_deps.
        header: what a sketch includes, so that the Arduino IDE finds the library.
        title: its name in the Arduino IDE.
        where: the repository.
        of: the month of the TFLM inside.
    """

    source: str
    header: str
    title: str
    where: str
    of: str


_EXAMPLES = Library(
    "https://github.com/tensorflow/tflite-micro-arduino-examples.git"
    "#7948b85e020470a30a83bf00e10fc43b486bfcba",
    "TensorFlowLite.h",
    "Arduino_TensorFlowLite",
    "github.com/tensorflow/tflite-micro-arduino-examples",
    "February 2023",
)
_CHIRALE = Library(
    "spaziochirale/Chirale_TensorFLowLite @ 2.0.0",
    "Chirale_TensorFlowLite.h",
    "Chirale_TensorFLowLite",
    "github.com/spaziochirale/Chirale_TensorFlowLite",
    "2024",
)
_CHIRALE_CORES = ("esp32:", "arduino:mbed_portenta", "arduino:mbed_giga", "arduino:mbed_nicla")
"""Cores of the Arduino IDE that this library states itself; the other one is for Arm."""

ESP_TFLITE_MICRO = "1.4.0"
"""Version of espressif/esp-tflite-micro, of August 2026, that the kernels of ESP-NN hold for."""
ESP_NN = "1.2.3"
ZEPHYR = "v4.4.0"
ZEPHYR_TFLM = "fcc760af130f3a595b5802cdebcc77461e54f382"
"""Of zephyrproject-rtos/tflite-micro: the revision that Zephyr's manifest names."""
ZEPHYR_TFLM_OF = "February 2026"


def library_of(board: Board) -> Library:
    """Returns the Arduino library for a board."""
    return _CHIRALE if board.names.arduino.startswith(_CHIRALE_CORES) else _EXAMPLES


def cpu_flags(board: Board) -> str:
    """Returns GCC's options for the core and floating point unit of an Arm board; else none."""
    if not _is_arm(board):
        return ""
    core = board.core.lower().replace("+", "plus").removesuffix("f")
    flags = f"-mcpu={core} -mthumb"
    if not board.fpu:
        return flags
    fpu = "" if board.fpu == "auto" else f" -mfpu={board.fpu}"
    return f"{flags}{fpu} -mfloat-abi={board.float_abi}"
