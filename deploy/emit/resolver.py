"""Which Add… function of TFLM's MicroMutableOpResolver registers an operator."""

from __future__ import annotations

from deploy.graph import CUSTOM, Graph
from deploy.operators.custom import own_kernels
from keras_fmc.errors import UnsupportedModelError

# From micro_mutable_op_resolver.h of TFLM; the rest of the builtins has no kernel there.
ADD_FUNCTIONS = {
    "ABS": "AddAbs",
    "ADD": "AddAdd",
    "ADD_N": "AddAddN",
    "ARG_MAX": "AddArgMax",
    "ARG_MIN": "AddArgMin",
    "ASSIGN_VARIABLE": "AddAssignVariable",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "BATCH_MATMUL": "AddBatchMatMul",
    "BATCH_TO_SPACE_ND": "AddBatchToSpaceNd",
    "BROADCAST_ARGS": "AddBroadcastArgs",
    "BROADCAST_TO": "AddBroadcastTo",
    "CALL_ONCE": "AddCallOnce",
    "CAST": "AddCast",
    "CEIL": "AddCeil",
    "CONCATENATION": "AddConcatenation",
    "CONV_2D": "AddConv2D",
    "COS": "AddCos",
    "CUMSUM": "AddCumSum",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "DEPTH_TO_SPACE": "AddDepthToSpace",
    "DEQUANTIZE": "AddDequantize",
    "DIV": "AddDiv",
    "DYNAMIC_UPDATE_SLICE": "AddDynamicUpdateSlice",
    "ELU": "AddElu",
    "EMBEDDING_LOOKUP": "AddEmbeddingLookup",
    "EQUAL": "AddEqual",
    "EXP": "AddExp",
    "EXPAND_DIMS": "AddExpandDims",
    "FILL": "AddFill",
    "FLOOR": "AddFloor",
    "FLOOR_DIV": "AddFloorDiv",
    "FLOOR_MOD": "AddFloorMod",
    "FULLY_CONNECTED": "AddFullyConnected",
    "GATHER": "AddGather",
    "GATHER_ND": "AddGatherNd",
    "GREATER": "AddGreater",
    "GREATER_EQUAL": "AddGreaterEqual",
    "HARD_SWISH": "AddHardSwish",
    "IF": "AddIf",
    "L2_NORMALIZATION": "AddL2Normalization",
    "L2_POOL_2D": "AddL2Pool2D",
    "LEAKY_RELU": "AddLeakyRelu",
    "LESS": "AddLess",
    "LESS_EQUAL": "AddLessEqual",
    "LOG": "AddLog",
    "LOGICAL_AND": "AddLogicalAnd",
    "LOGICAL_NOT": "AddLogicalNot",
    "LOGICAL_OR": "AddLogicalOr",
    "LOGISTIC": "AddLogistic",
    "LOG_SOFTMAX": "AddLogSoftmax",
    "MAXIMUM": "AddMaximum",
    "MAX_POOL_2D": "AddMaxPool2D",
    "MEAN": "AddMean",
    "MINIMUM": "AddMinimum",
    "MIRROR_PAD": "AddMirrorPad",
    "MUL": "AddMul",
    "NEG": "AddNeg",
    "NOT_EQUAL": "AddNotEqual",
    "PACK": "AddPack",
    "PAD": "AddPad",
    "PADV2": "AddPadV2",
    "PRELU": "AddPrelu",
    "QUANTIZE": "AddQuantize",
    "READ_VARIABLE": "AddReadVariable",
    "REDUCE_ALL": "AddReduceAll",
    "REDUCE_MAX": "AddReduceMax",
    "REDUCE_MIN": "AddReduceMin",
    "RELU": "AddRelu",
    "RELU6": "AddRelu6",
    "RESHAPE": "AddReshape",
    "RESIZE_BILINEAR": "AddResizeBilinear",
    "RESIZE_NEAREST_NEIGHBOR": "AddResizeNearestNeighbor",
    "REVERSE_V2": "AddReverseV2",
    "ROUND": "AddRound",
    "RSQRT": "AddRsqrt",
    "SELECT_V2": "AddSelectV2",
    "SHAPE": "AddShape",
    "SIN": "AddSin",
    "SLICE": "AddSlice",
    "SOFTMAX": "AddSoftmax",
    "SPACE_TO_BATCH_ND": "AddSpaceToBatchNd",
    "SPACE_TO_DEPTH": "AddSpaceToDepth",
    "SPLIT": "AddSplit",
    "SPLIT_V": "AddSplitV",
    "SQRT": "AddSqrt",
    "SQUARE": "AddSquare",
    "SQUARED_DIFFERENCE": "AddSquaredDifference",
    "SQUEEZE": "AddSqueeze",
    "STRIDED_SLICE": "AddStridedSlice",
    "SUB": "AddSub",
    "SUM": "AddSum",
    "SVDF": "AddSvdf",
    "TANH": "AddTanh",
    "TRANSPOSE": "AddTranspose",
    "TRANSPOSE_CONV": "AddTransposeConv",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
    "UNPACK": "AddUnpack",
    "VAR_HANDLE": "AddVarHandle",
    "WHILE": "AddWhile",
    "ZEROS_LIKE": "AddZerosLike",
    "CUSTOM CIRCULAR_BUFFER": "AddCircularBuffer",
    "CUSTOM SignalDelay": "AddDelay",
    "CUSTOM SignalEnergy": "AddEnergy",
    "CUSTOM SignalFftAutoScale": "AddFftAutoScale",
    "CUSTOM SignalFilterBank": "AddFilterBank",
    "CUSTOM SignalFilterBankLog": "AddFilterBankLog",
    "CUSTOM SignalFilterBankSpectralSubtraction": "AddFilterBankSpectralSubtraction",
    "CUSTOM SignalFilterBankSquareRoot": "AddFilterBankSquareRoot",
    "CUSTOM SignalFramer": "AddFramer",
    "CUSTOM SignalIrfft": "AddIrfft",
    "CUSTOM SignalOverlapAdd": "AddOverlapAdd",
    "CUSTOM SignalPCAN": "AddPCAN",
    "CUSTOM SignalRfft": "AddRfft",
    "CUSTOM SignalStacker": "AddStacker",
    "CUSTOM SignalWindow": "AddWindow",
    "CUSTOM TFLite_Detection_PostProcess": "AddDetectionPostprocess",
}
"""Kind of operator -> function; custom operators of the user's own are not here."""


INT8_VARIANTS = {
    "ADD": "Register_ADD_INT8",
    "AVERAGE_POOL_2D": "Register_AVERAGE_POOL_2D_INT8",
    "CONV_2D": "Register_CONV_2D_INT8",
    "DEPTHWISE_CONV_2D": "Register_DEPTHWISE_CONV_2D_INT8",
    "FULLY_CONNECTED": "Register_FULLY_CONNECTED_INT8",
    "MAX_POOL_2D": "Register_MAX_POOL_2D_INT8",
    "SOFTMAX": "Register_SOFTMAX_INT8",
}
"""Kernels that take int8 alone; the others bring those of int4, int16 and floats along, 32 KB of
flash with CMSIS-NN for a model of convolutions. They are those whose headers the resolver includes
and whose Add... functions take one in every TFLM since February 2023."""


def registrations(graph: Graph) -> tuple[str, ...]:
    """Returns the calls that register exactly the operators of a graph, sorted; custom
    operators of the user's own are those of ``own_functions``.

    Raises:
        UnsupportedModelError: TFLM has no kernel for an operator; names it.
    """
    calls = []
    for kind, function in sorted(functions_of(graph).items(), key=lambda item: item[1]):
        variant = INT8_VARIANTS.get(kind)
        whole = variant is not None and _is_int8(graph, kind)
        calls.append(f"{function}({variant}())" if whole else f"{function}()")
    return tuple(calls)


def _is_int8(graph: Graph, kind: str) -> bool:
    """Whether all maps and weights of all operators of a kind are int8; biases are wider."""
    return all(
        part.tensors[index].dtype == "int8"
        for part in graph.subgraphs
        for operator in part.operators
        if operator.kind == kind
        for index in (*operator.inputs[:2], *operator.outputs)
        if index >= 0
    )


def functions_of(graph: Graph) -> dict[str, str]:
    """Returns kind -> function of the operators of a graph and the subgraphs that it calls.

    Raises:
        UnsupportedModelError: TFLM has no kernel for an operator; names it.
    """
    functions = {}
    for part in graph.subgraphs:
        for step, operator in enumerate(part.operators):
            if operator.implicit:
                continue
            if operator.kind in ADD_FUNCTIONS:
                functions[operator.kind] = ADD_FUNCTIONS[operator.kind]
            elif operator.opcode != CUSTOM:
                raise UnsupportedModelError(
                    f"TensorFlow Lite Micro has no kernel for {part.label(step)}",
                    remedy="Export the model with other operators",
                )
    return functions


def own_functions(graph: Graph) -> dict[str, str]:
    """Returns the code of each custom operator that TFLM lacks -> the function, to be written by
    the user, that gives its kernel."""
    return {
        code: "Register_" + "".join(c if c.isalnum() else "_" for c in code)
        for code in own_kernels(graph)
    }
