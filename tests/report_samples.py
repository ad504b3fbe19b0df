"""A report that has something of everything, and what all reports must be."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

from deploy.outcome import Decision, FrontierPoint, Region, StoredCode
from deploy.report.report import (
    Baseline,
    FeatureMapEntry,
    Port,
    Report,
    ReportMemory,
    ReportOperator,
    ReportPiece,
    ReportTensor,
)

CONTRACT = {
    "model",
    "board",
    "runtime",
    "kernels",
    "arena_bytes",
    "head_bytes",
    "tail_bytes",
    "scratch_bytes",
    "lower_bound_bytes",
    "proven_optimal",
    "fits",
    "macs",
    "macs_ratio",
    "flash_bytes",
    "bit_exact",
    "verified_arena_bytes",
    "predicted_arena_bytes_wheel",
    "baseline",
    "tensors",
    "regions",
}

CODE = StoredCode(
    name="block/code",
    packed="block/code_packed",
    bits=4,
    channels=6,
    unpacked_bytes=9600,
    packed_bytes=4800,
    stored_bytes=4800,
    p_macs=76801,
    pack_macs=28802,
    unpack_macs=3,
    r_macs=153604,
    merged=False,
    table_bytes=512,
    operators=17,
    tail_bytes=2205,
)


def full_report(**changes: object) -> Report:
    tensors = (
        ReportTensor("input", 0, 64, 0, 0, shape=(1, 4, 4, 4)),
        ReportTensor("conv/Relu", 64, 128, 0, 1, shape=(1, 4, 4, 8)),
        ReportTensor("out", 64, 128, 1, 1, "conv/Relu", "in place: may", (1, 4, 4, 8)),
    )
    report = Report(
        model="dir/model.tflite",
        board="nano33ble",
        core="Cortex-M4F",
        runtime="tflm-2026-08",
        kernels="cmsis-nn",
        arena_bytes=1000,
        head_bytes=192,
        tail_bytes=800,
        scratch_bytes=16,
        lower_bound_bytes=176,
        proven_optimal=False,
        fits=True,
        macs=4608,
        macs_ratio=1.0625,
        flash_bytes=3000,
        limit_bytes=1024,
        limit_source="--arena",
        engine="first fit",
        bit_exact=True,
        verified=True,
        verified_reason="ran in an arena of 1,200 bytes",
        verified_arena_bytes=1200,
        predicted_arena_bytes_wheel=1200,
        peak_operator=1,
        peak_tensors=("conv/Relu", "out"),
        baseline=Baseline(1128, 320, 800, 16, 4336, 2900, 1328, 1328, False, 2, tensors[:2]),
        inputs=(Port("input", (1, 4, 4, 4), "int8", 0.003921568859368563, -128),),
        outputs=(Port("out", (1, 4, 4, 8), "int32"),),
        memories=(
            ReportMemory("SRAM", 262144, 0x20000000, 65536, True),
            ReportMemory("RAM2", 4096),
        ),
        regions=(Region(("conv #0", "relu #1"), 4, 2, "kept", 1.0625),),
        codes=(CODE,),
        frontier=(FrontierPoint(1000, 192, 1.0625, 9, True), FrontierPoint(1128, 320, 1.0, 2)),
        decisions=(Decision("SOFTMAX #3", "one row"),),
        warnings=("the prediction may be off",),
        feature_maps_before=(FeatureMapEntry("conv/Relu", (1, 4, 4, 8), 128, 0, 1),),
        feature_maps_after=(FeatureMapEntry("conv/Relu", (1, 4, 4, 8), 128, 0, 1),),
        operators=(
            ReportOperator(0, "CONV_2D", "conv/Relu", 4608),
            ReportOperator(1, "RELU", "out"),
        ),
        tensors=tensors,
        pieces=(
            ReportPiece("input", "input", 0, 64, 0, 1),
            ReportPiece("conv/Relu", "conv/Relu", 64, 128, 0, 1),
            ReportPiece("conv/Relu", "out", 64, 128, 1, 2),
        ),
    )
    return dataclasses.replace(report, **changes)


class _Checker(HTMLParser):
    """Every tag is closed in its place; collects what could reach the network."""

    _VOID = {"meta", "br", "img", "link", "input", "hr"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "data", "action")]
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(page: str) -> _Checker:
    checker = _Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert checker.links == []
    assert not re.search(r"https?:|//cdn|@import|url\(", page)
    return checker
