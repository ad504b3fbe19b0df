"""Objects in a notebook: tables, data frames, flat dicts; the log; the Keras callback."""

from __future__ import annotations

import dataclasses
import html
import logging
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from planned import planned, striped_graph
from report_samples import full_report

import keras_fmc as fmc
from deploy import flatbuffer, pipeline
from deploy.profile import profile_graph
from deploy.report.report import Report
from keras_fmc.choose.plan import BottleneckKind, BottleneckSpec, CompressionPlan
from keras_fmc.notebook import data_frame, table_html
from tests.int8_graphs import Int8GraphMaker


class Cells(HTMLParser):
    """The texts of the cells; every tag has to be closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.said = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        elif self.open and self.open[-1] in ("p", "caption"):
            self.said += data + "\n"


def compression() -> CompressionPlan:
    spec = BottleneckSpec("conv", (8, 8, 16), 4, 4, BottleneckKind.PROJECTION)
    return CompressionPlan("net", 256, (spec,), (), 1024, 4096)


def chain() -> bytes:
    make = Int8GraphMaker(4)
    x = make.conv(make.input((1, 12, 12, 3)), channels=4, kernel=(3, 3))
    return flatbuffer.write(make.build(outputs=[make.mean(x)]))


def test_every_object_is_a_table_of_what_it_holds() -> None:
    profile = profile_graph(flatbuffer.read(chain()), name="<net>")
    plan = planned(striped_graph())
    report = full_report()
    result = pipeline.Result(report, None)
    for thing, count, some in (
        (profile, len(profile.maps.maps), f"{profile.maps.maps[0].size_bytes:,}"),
        (profile.maps, len(profile.maps.maps), f"{profile.maps.maps[0].size_bytes:,}"),
        (plan, min(len(plan.tensors), 40), plan.tensors[0].name),
        (compression(), 1, "8×8×16"),
        (report, None, f"{report.arena_bytes:,} B"),
        (result, None, f"{report.arena_bytes:,} B"),
    ):
        cells = Cells(thing._repr_html_())
        assert len(cells.rows) == (len(cells.rows) if count is None else count + 1)
        assert len(cells.rows) > 1
        assert len({len(row) for row in cells.rows}) == 1
        assert some in [cell for row in cells.rows[1:] for cell in row], type(thing)
        assert cells.said
    assert "<net>" not in profile._repr_html_()
    assert Cells(report._repr_html_()).said.startswith("Fits. ")


def test_a_table_escapes_names_and_styles_nothing_but_itself() -> None:
    page = table_html("<b>", ["<i>", "n"], [("</td>\x1b[1m", 12345)] * 50, says="a & b")
    cells = Cells(page)
    assert cells.rows[0] == ["<i>", "n"]
    assert cells.rows[1] == ["</td>\\x1b[1m", "12,345"]
    assert len(cells.rows) == 41
    assert "and 10 more rows" in cells.said
    style = page[page.index("<style>") + 7 : page.index("</style>")]
    for rule in style.split("}")[:-1]:
        assert all(s.startswith(".fmc-nb") for s in rule.split("{")[0].split(",")), rule
    assert "a &amp; b" in page


def test_metrics_are_flat_numbers_under_the_keys_of_the_report() -> None:
    report = full_report()
    found = report.metrics()
    assert found == pipeline.Result(report, None).metrics()
    assert found["arena_bytes"] == report.arena_bytes
    assert found["fits"] == int(report.fits)
    assert report.baseline is not None
    assert found["baseline_arena_bytes"] == report.baseline.arena_bytes
    assert all(type(value) in (int, float) for value in found.values())
    names = {field.name for field in dataclasses.fields(Report)}
    assert {name.removeprefix("baseline_") for name in found} <= names
    bare = dataclasses.replace(report, baseline=None, time_ms=None)
    assert not any(name.startswith("baseline_") for name in bare.metrics())
    assert "time_ms" not in bare.metrics()


def test_data_frames_hold_every_row() -> None:
    pytest.importorskip("pandas")
    report = full_report()
    frame = report.to_dataframe()
    assert list(frame["name"]) == [tensor.name for tensor in report.tensors]
    assert frame["size_bytes"].sum() == sum(tensor.size_bytes for tensor in report.tensors)
    profile = profile_graph(flatbuffer.read(chain()), name="net")
    assert list(profile.to_dataframe()["bytes"]) == [m.size_bytes for m in profile.maps.maps]
    assert list(compression().to_dataframe()["rank"]) == [4]
    plan = planned(striped_graph())
    assert plan.to_dataframe()["offset"].max() == max(t.offset for t in plan.tensors)


def test_without_pandas_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match="pip install pandas"):
        data_frame([{}])


def test_the_log_is_silent_until_a_program_asks(caplog: pytest.LogCaptureFixture) -> None:
    code = "import keras_fmc, logging; logging.getLogger('keras_fmc').warning('heard')"
    root = Path(fmc.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    with caplog.at_level(logging.DEBUG, logger="keras_fmc"):
        result = fmc.plan(chain(), board="nano33ble", strips=False)
    assert any(r.levelno == logging.DEBUG for r in caplog.records)
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.INFO]
    assert f"model: arena {result.report.arena_bytes} bytes for {result.report.target}" in told


@pytest.mark.long
def test_the_callback_logs_arena_and_accuracy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import keras
    from tensorflow.python.summary.summary_iterator import summary_iterator

    rng = np.random.default_rng(0)
    x = rng.random((64, 8, 8, 1), np.float32)
    y = (x.mean(axis=(1, 2, 3)) > 0.5).astype(int)
    image = keras.layers.Input((8, 8, 1), name="image")
    h = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(image)
    h = keras.layers.GlobalAveragePooling2D(name="mean")(h)
    model = keras.Model(image, keras.layers.Dense(2, name="scores")(h), name="small")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss=loss, metrics=["accuracy"])
    logger = fmc.ReportLogger(
        tmp_path, every=2, board="nano33ble", strips=False, calibration=x, data=(x, y)
    )
    model.fit(x, y, epochs=3, verbose=0, callbacks=[logger])
    # Every second epoch, and the last one.
    assert list(logger.results) == [2, 3]
    (file,) = tmp_path.glob("events*")
    written: dict[tuple[int, str], float] = {}
    for event in summary_iterator(str(file)):
        for item in event.summary.value:
            written[event.step, item.tag] = float(
                np.frombuffer(item.tensor.tensor_content, "f4")[0]
            )
    for epoch, result in logger.results.items():
        assert written[epoch, "device/arena_bytes"] == result.report.arena_bytes
        assert 0 < written[epoch, "training/loss"] < 10
        outputs = fmc.predict(result, x)
        wanted = np.mean(np.argmax(outputs, axis=-1) == y)
        assert written[epoch, "device/accuracy"] == pytest.approx(wanted)
    with caplog.at_level(logging.WARNING, logger="keras_fmc"):
        # Without calibration this model cannot be converted: the training goes on.
        model.fit(x, y, epochs=1, verbose=0, callbacks=[fmc.ReportLogger(tmp_path / "b")])
    assert any("epoch 1: no report:" in r.getMessage() for r in caplog.records)
    assert html.escape("small") in logger.results[3]._repr_html_()


def test_the_callback_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    with pytest.raises(fmc.BadInputError, match="every= counts epochs"):
        fmc.ReportLogger(tmp_path, every=0)
    with pytest.raises(fmc.BadInputError, match="unknown board 'nano34'"):
        fmc.ReportLogger(tmp_path, board="nano34")
    with pytest.raises(fmc.BadInputError, match=r"unknown setting.*boards"):
        fmc.ReportLogger(tmp_path, boards="nano33ble")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
