"""The names of the files that a run writes into its folder."""

from __future__ import annotations

MODEL_FILE = "model.tflite"
REPORT_FILE = "report.json"
FIRMWARE_FILES = (
    MODEL_FILE,
    "model_data.h",
    "model_data.cc",
    "arena_plan.h",
    "arena_plan.c",
    "plan_check.h",
    "plan_check.c",
)
REPORT_FILES = ("report.txt", REPORT_FILE, "report.html")
ALL_FILES = (*FIRMWARE_FILES, *REPORT_FILES)
