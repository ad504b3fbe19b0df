"""Boards, runtimes and kernels: found by their usual names, refused where they are wrong."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import board_names
import pytest

from deploy import targets
from deploy.emit.worlds import ZEPHYR
from deploy.memory.problem import HEIGHT_ALIGNMENT_BYTES
from deploy.targets.expression import Expression
from deploy.targets.load import names_in, read_runtime
from deploy.targets.load_kernels import read_kernels
from keras_fmc.errors import BadInputError


@pytest.mark.parametrize(
    ("name", "board"),
    [
        ("Arduino Nano 33 BLE Sense", "nano33ble"),
        ("nano33ble", "nano33ble"),
        ("Portenta H7", "portentah7"),
        ("ESP32", "esp32"),
        ("ESP32-S3", "esp32s3"),
        ("esp32-c3", "esp32c3"),
        ("rp2040", "pico"),
        ("RP2350", "pico2"),
        ("NUCLEO-F446RE", "nucleof446re"),
        ("nucleo-f746zg", "nucleof746zg"),
        ("NUCLEO-H743ZI2", "nucleoh743zi"),
        ("B-L475E-IOT01A", "bl475eiot01a"),
        ("b-u585i-iot02a", "bu585iiot02a"),
        ("STM32F429I-DISC1", "stm32f429idisco"),
        ("nRF52840 DK", "nrf52840dk"),
        ("nRF5340", "nrf5340dk"),
        ("apollo3", "sparkfunedge"),
        ("Apollo4", "apollo4"),
        ("SAMD51", "metrom4"),
        ("MAX78000", "max78000fthr"),
        ("Teensy 4.0", "teensy40"),
        ("i.MX RT1060", "mimxrt1060evk"),
        ("Corstone-300", "corstone300"),
    ],
)
def test_boards_answer_to_their_usual_names(name: str, board: str) -> None:
    assert targets.board(name).name == board


def test_there_are_many_boards_and_each_is_whole() -> None:
    boards = targets.boards()
    assert len(boards) >= 50
    assert [board.name for board in boards] == sorted(board.name for board in boards)
    for board in boards:
        assert board.source, board.name
        goal = targets.target(board=board.name)
        assert goal.describe().startswith(board.title)
        spans = sorted(
            (m.address, m.address + m.size_bytes) for m in board.memories if m.address is not None
        )
        assert len(spans) == len(board.memories) or board.name == "host"
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert end <= start, f"two memories of {board.name} overlap"


def test_memories_of_a_board_with_several_regions() -> None:
    board = targets.board("portentah7")
    sizes = {memory.name: (memory.address, memory.size_bytes) for memory in board.memories}
    assert sizes["AXI SRAM"] == (0x24000000, 512 * 1024)
    assert sizes["DTCM"] == (0x20000000, 128 * 1024)
    assert board.core == "Cortex-M7"


def test_the_reserve_belongs_to_the_first_memory() -> None:
    goal = targets.target(board="nucleoh743zi", reserve_bytes=100_000)
    first, second = goal.board.memories[:2]
    assert goal.available_bytes(first) == 512 * 1024 - 100_000
    assert goal.available_bytes(second) == 288 * 1024
    assert goal.limit_bytes(1000) == 512 * 1024 - 100_000
    assert "AXI SRAM" in goal.limit_source(1000)
    assert "reserve of 100,000 B" in goal.limit_source(1000)
    small = targets.target(board="nucleoh743zi", reserve_bytes=400_000)
    assert small.limit_bytes(288 * 1024) == 288 * 1024
    assert small.limit_source(288 * 1024) == "SRAM1-3 of ST NUCLEO-H743ZI2, 294,912 B"
    # Nothing has room: the memory that lacks least is named.
    assert small.limit_bytes(288 * 1024 + 16) == 288 * 1024


def test_external_memory_comes_last() -> None:
    goal = targets.target(board="esp32")
    inside, outside = (160 - 48) * 1024, 4 * 1024**2
    assert goal.limit_bytes(inside) == inside
    assert goal.limit_source(inside).startswith("DRAM, static of ESP32")
    assert goal.limit_bytes(inside + 16) == outside
    assert goal.limit_source(inside + 16) == (
        "external PSRAM of ESP32, 4,194,304 B, as it is 16 B too large for the memory inside"
    )
    assert goal.limit_bytes(outside + 16) == outside
    assert [m.name for m in goal.board.memories if m.external] == ["PSRAM"]


def test_the_host_has_no_limit() -> None:
    assert targets.target(board="host").limit_bytes(2**40) is None


def test_an_unknown_board_names_close_ones() -> None:
    with pytest.raises(BadInputError, match=r"unknown board 'nucleo-f447re'.*nucleof446re"):
        targets.board("nucleo-f447re")
    with pytest.raises(BadInputError, match="fmc boards"):
        targets.board("zzzz")


@pytest.mark.parametrize(("kind", "find"), [("runtime", "tflm-1"), ("kernels", "neon")])
def test_unknown_runtimes_and_kernels_list_those_there_are(kind: str, find: str) -> None:
    with pytest.raises(BadInputError, match=f"unknown {kind}; expected .*; received '{find}'"):
        targets.target(board="nano33ble", **{kind: find})


def test_kernels_that_the_runtime_does_not_have_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"cmsis-nn-dsp .* not known for tflm-wheel.*lp64"):
        targets.target(board="host", kernels="cmsis-nn-dsp")


def test_a_reserve_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(BadInputError, match="the reserve leaves nothing of nano33ble"):
        targets.target(board="nano33ble", reserve_bytes=256 * 1024)
    with pytest.raises(BadInputError, match="negative"):
        targets.target(board="nano33ble", reserve_bytes=-1)


def test_every_name_of_a_board_is_from_one_published_list() -> None:
    used = set()
    for world, name in board_names.names():
        lists = [e for e in board_names.LISTS if e["names"] == world]
        mine = [e for e in lists if name.startswith(e.get("prefix", ""))]
        assert len(mine) == 1, (world, name)
        assert board_names.list_of(world, name) is mine[0]
        used.add(board_names.LISTS.index(mine[0]))
    assert used == set(range(len(board_names.LISTS)))
    (zephyr,) = (e["version"] for e in board_names.LISTS if e["names"] == "zephyr")
    assert zephyr == ZEPHYR


@pytest.mark.parametrize(
    ("world", "file", "text", "there", "not_there"),
    [
        ("platformio", "a.json", '{"frameworks": ["arduino"]}', "nrf:a", "nrf:b"),
        ("platformio", "b.json", '{"frameworks": ["mbed"]}', None, "nrf:b"),
        ("arduino", "boards.txt", "a.name=A\nba.menu.pnum.X=x\n", "p:c:a", "p:c:ba"),
        ("arduino", "boards.txt", "b.name=B\nb.menu.pnum.X=x\n", "p:c:b:pnum=X", "p:c:b:pnum=Y"),
        ("zephyr", "v/a/a_m7.dts", "", "a/soc/m7", "a/soc/m4"),
        ("zephyr", "v/a/a_soc_m7.dts", "", "a/soc/m7", "a"),
        ("zephyr", "v/a/a.dts", "", "a", "a@wifi"),
        ("esp_idf", "constants.py", "SUPPORTED_TARGETS = ['esp32', 'esp32s2']", "esp32", "esp3"),
        (
            *("stm32", "STM32F407V(E-G)Tx.xml", '<Mcu RefName="STM32F407V(E-G)Tx"'),
            *("STM32F407VGTx", "STM32F407VCTx"),
        ),
    ],
)
def test_lists_are_read_as_their_projects_write_them(
    world: str, file: str, text: str, there: str | None, not_there: str, tmp_path: Path
) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    files = path if world in ("arduino", "esp_idf") else tmp_path
    assert there is None or board_names.LOOK_UP[world](files, there)
    assert not board_names.LOOK_UP[world](files, not_there)


OWN = {
    "name": "mine",
    "title": "My board",
    "core": "Cortex-M4F",
    "kernels": "cmsis-nn-dsp",
    "runtime": "tflm-2026-08-arm32",
    "memories": [{"name": "SRAM", "address": "0x20000000", "size": "64KB"}],
    "flash": "512KB",
    "reserve": "8KB",
    "source": "its schematic",
}


def own_file(folder: Path, **changes: object) -> Path:
    entry = {key: value for key, value in {**OWN, **changes}.items() if value is not None}
    path = folder / "boards.json"
    path.write_text(json.dumps({"boards": [entry]}))
    return path


def test_a_board_of_ones_own(tmp_path: Path) -> None:
    path = own_file(tmp_path)
    goal = targets.target(board="mine", board_file=path)
    assert goal.limit_bytes(0) == (64 - 8) * 1024
    assert targets.boards(board_file=path)[0].name == "mine"
    assert "My board" in targets.boards_text(board_file=path)
    borrowed = own_file(tmp_path, aliases=["Portenta H7"])
    assert targets.board("portenta h7", board_file=borrowed).name == "mine"
    replaced = own_file(tmp_path, name="nano33ble")
    assert targets.board("nano33ble", board_file=replaced).title == "My board"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"core": None}, "mine has no 'core'"),
        ({"memories": []}, "mine has no memories"),
        ({"memories": [{"name": "SRAM", "size": "64KB", "address": "2000"}]}, None),
        ({"memories": [{"name": "SRAM", "size": "64KB", "address": "xyz"}]}, "not an address"),
        ({"memories": [{"name": "SRAM", "size": "lots"}]}, "mine, memory 0: 'size' is not a size"),
        ({"memories": [{"name": "SRAM", "size": "8GB"}]}, "'size' is not a size"),
        ({"memories": [{"name": " ", "size": "64KB"}]}, "mine, memory 0: wrong 'name'"),
        ({"memories": [{"name": "A", "size": "64KB"}] * 2}, "wrong 'memories'.*each name once"),
        (
            {"memories": [{"name": "A", "size": "64KB", "address": "0xfffffff0"}]},
            "wrong 'address'.*32 bits",
        ),
        ({"memories": [{"name": "A", "size": "64KB", "address": "-1"}]}, "not an address"),
        ({"memories": ["SRAM"]}, "mine, memory 0 is not an object"),
        ({"name": "..."}, "board 0: wrong 'name'"),
        ({"name": "a\x1b[31m"}, "wrong 'name'; expected printable text"),
        ({"title": "two\nlines"}, "mine: wrong 'title'"),
        ({"aliases": ["a", 3]}, "mine: wrong 'aliases'.*received 3"),
        ({"flash": "much"}, "mine: 'flash' is not a size"),
        ({"reserve": "-1"}, "mine: 'reserve' is not a size"),
        ({"memories": [{"name": "SRAM"}]}, "mine, memory 0 has no 'size'"),
        ({"reserve": "64KB"}, "the reserve leaves nothing of SRAM"),
        ({"kernels": "neon"}, "unknown kernels"),
        ({"runtime": "tflm"}, "unknown runtime"),
        ({"title": 3}, "'title' has the wrong type; expected str; received 3"),
        ({"fpu": "fpv4 sp"}, "mine: wrong 'fpu'; expected letters"),
        ({"names": {"zephyr": "a\nb"}}, "mine, names: wrong 'zephyr'"),
        ({"names": {"platformio": "nano33ble"}}, "wrong 'platformio'; expected platform:board"),
        ({"names": {"keil": "x"}}, "fields that nobody reads; received keil"),
        ({"colour": "red"}, "fields that nobody reads; received colour"),
    ],
)
def test_a_wrong_board_file_says_where(
    tmp_path: Path, changes: dict[str, object], message: str | None
) -> None:
    path = own_file(tmp_path, **changes)
    if message is None:
        assert targets.board("mine", board_file=path).memories[0].address == 0x2000
        return
    with pytest.raises(BadInputError, match=message):
        targets.boards(board_file=path)


def test_a_board_file_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "boards.json"
    for text in ("{", "[" * 100_000, '{"boards": [' + "9" * 5000 + "]}"):
        path.write_text(text)
        with pytest.raises(BadInputError, match="is not JSON"):
            targets.boards(board_file=path)
    with pytest.raises(BadInputError, match=r"cannot read .*missing.json"):
        targets.boards(board_file=tmp_path / "missing.json")


def test_every_data_file_is_named_like_itself() -> None:
    assert len(names_in("runtimes")) >= 4
    for name in names_in("runtimes"):
        assert targets.runtime(name).name == name
        # The planner knows no targets; what it aligns to is what every runtime does.
        assert targets.runtime(name).arena_alignment_bytes == HEIGHT_ALIGNMENT_BYTES
    for name in names_in("kernels"):
        assert targets.kernels(name).name == name


def test_cmsis_nn_extends_the_reference_kernels() -> None:
    reference, dsp = targets.kernels("reference"), targets.kernels("cmsis-nn-dsp")
    assert dsp.rules.keys() == reference.rules.keys()
    assert dsp.rules["CONV_2D"].data_bytes == {"ilp32": 60}
    assert dsp.rules["PAD"] == reference.rules["PAD"]
    assert "RELU" in dsp.in_place
    assert "CONV_2D" not in dsp.in_place


@pytest.mark.parametrize(
    ("text", "numbers", "value"),
    [
        ("4 * out_c", {"out_c": 5}, 20),
        ("align(in_c, 4) + 1", {"in_c": 5}, 9),
        ("max(0, in_h - 3) // 2", {"in_h": 8}, 2),
        ("1 if in_c > 16 and stride_h <= 2 else 0", {"in_c": 17, "stride_h": 2}, 1),
        ("1 if not per_channel or in_c == 1 else -7 % 4", {"per_channel": 1, "in_c": 2}, 1),
        ("twice + 1", {"out_c": 3}, 7),
    ],
)
def test_formulas(text: str, numbers: dict[str, int], value: int) -> None:
    assert Expression(text, {"twice": "2 * out_c"}).evaluate(numbers) == value


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "out_c.__class__",
        "[1, 2][0]",
        "lambda: 1",
        "open('x')",
        "2 ** 99999",
        "out_c if",
        "1.5 * out_c",
        "'a'",
        "volume",
        "again",
    ],
)
def test_formulas_that_are_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="formula"):
        Expression(text, {"again": "again + 1"})


def test_wrong_kernel_data_says_where() -> None:
    data = {"name": "x", "summary": "", "source": "", "in_place": [], "view_alignment_bytes": 1}
    data |= {"overlap": {}}
    for entry, message in (
        ({"prepare": ["borrow 3"]}, "x: ADD: not a step; expected temp SIDE INDEX"),
        ({"prepare": ["temp input one"]}, "x: ADD: not a temporary"),
        ({"data": {"ilp32": "60"}}, "x: ADD: sizes are bytes by ABI"),
        ({"size": 3}, "x: ADD has fields that nobody reads; received size"),
    ):
        with pytest.raises(BadInputError, match=message):
            read_kernels({**data, "operators": {"ADD": entry}}, where="x")
    with pytest.raises(BadInputError, match="x: not a rule of overlap for ADD; expected all ch"):
        read_kernels({**data, "overlap": {"ADD": "some"}, "operators": {}}, where="x")
    with pytest.raises(BadInputError, match="x: not an opcode"):
        read_kernels({**data, "operators": {"add": {}}}, where="x")


def test_wrong_runtime_data_says_where() -> None:
    with pytest.raises(BadInputError, match="x is not an object"):
        read_runtime([], where="x")
    with pytest.raises(BadInputError, match=r"x: subgraph is not a block; expected SIZE@ALIGNMENT"):
        read_runtime({"subgraph": "8 at 4"}, where="x")


def test_targets_load_without_tensorflow() -> None:
    code = (
        "import sys; from deploy import targets; targets.boards_text();"
        "print([m for m in ('tensorflow', 'keras', 'numba') if m in sys.modules])"
    )
    root = Path(__file__).parent.parent
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
