"""The model as an aligned array in C or C++, to be linked into flash."""

from __future__ import annotations

from deploy.proof.names import c_comment, c_prefix

_BYTES_A_LINE = 16
_HEX = tuple(f"0x{byte:02x}" for byte in range(256))


def model_data_files(
    model: bytes, *, model_name: str, language: str = "c++", symbol: str = "model_data"
) -> dict[str, str]:
    """Returns ``model_data.h`` and ``model_data.cc`` (``model_data.c`` for ``language="c"``).

    The text of the source is the same in both languages and compiles as C99, C11 and C++.
    TFLM reads constants in place, so the array is aligned to 16 bytes and is const; ``symbol`` is
    its name.
    """
    source = {"c": "model_data.c", "c++": "model_data.cc"}[language]
    return {"model_data.h": _header(model, model_name, symbol), source: _source(model, symbol)}


def _header(model: bytes, model_name: str, symbol: str) -> str:
    prefix = c_prefix(model_name)
    return f"""\
/* The model {c_comment(model_name)}: {len(model)} bytes of flash. */
#ifndef {prefix}_MODEL_DATA_H_
#define {prefix}_MODEL_DATA_H_

#define MODEL_DATA_BYTES {len(model)}

#ifdef __cplusplus
extern "C" {{
#endif

/* A TFLite flatbuffer, 16-byte aligned: TFLM reads its constants in place. */
extern const unsigned char {symbol}[MODEL_DATA_BYTES];
extern const unsigned int {symbol}_len;

#ifdef __cplusplus
}}
#endif

#endif /* {prefix}_MODEL_DATA_H_ */
"""


def _source(model: bytes, symbol: str) -> str:
    rows = [
        "    " + ", ".join([_HEX[b] for b in model[start : start + _BYTES_A_LINE]]) + ",\n"
        for start in range(0, len(model), _BYTES_A_LINE)
    ]
    return f"""\
#include "model_data.h"

#if defined(__cplusplus) && __cplusplus >= 201103L
#define MODEL_DATA_ALIGNED alignas(16)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define MODEL_DATA_ALIGNED _Alignas(16)
#else
#define MODEL_DATA_ALIGNED __attribute__((aligned(16)))
#endif

MODEL_DATA_ALIGNED const unsigned char {symbol}[MODEL_DATA_BYTES] = {{
{"".join(rows)}}};

const unsigned int {symbol}_len = MODEL_DATA_BYTES;
"""
