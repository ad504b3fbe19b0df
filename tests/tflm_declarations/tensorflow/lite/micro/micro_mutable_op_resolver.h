#ifndef TESTS_TFLM_MICRO_MUTABLE_OP_RESOLVER_H_
#define TESTS_TFLM_MICRO_MUTABLE_OP_RESOLVER_H_
#include "tensorflow/lite/c/common.h"
#include "tflm_namespace.h"
struct TFLMRegistration {};
FMC_TFLM_BEGIN
// What an Add... function takes where a kernel has variants.
inline TFLMRegistration Register_ADD() { return {}; }
inline TFLMRegistration Register_ADD_INT8() { return {}; }
inline TFLMRegistration Register_AVERAGE_POOL_2D() { return {}; }
inline TFLMRegistration Register_AVERAGE_POOL_2D_INT8() { return {}; }
inline TFLMRegistration Register_CONV_2D() { return {}; }
inline TFLMRegistration Register_CONV_2D_INT8() { return {}; }
inline TFLMRegistration Register_DEPTHWISE_CONV_2D() { return {}; }
inline TFLMRegistration Register_DEPTHWISE_CONV_2D_INT8() { return {}; }
inline TFLMRegistration Register_FULLY_CONNECTED() { return {}; }
inline TFLMRegistration Register_FULLY_CONNECTED_INT8() { return {}; }
inline TFLMRegistration Register_MAX_POOL_2D() { return {}; }
inline TFLMRegistration Register_MAX_POOL_2D_INT8() { return {}; }
inline TFLMRegistration Register_SOFTMAX() { return {}; }
inline TFLMRegistration Register_SOFTMAX_INT8() { return {}; }
class MicroOpResolver {};
// Like the real one, refuses more kinds of operators than it was made for.
template <unsigned int kKinds>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
  TfLiteStatus AddCustom(const char* name, const TFLMRegistration* registration) {
    return name != nullptr && registration != nullptr ? Register() : kTfLiteError;
  }
  TfLiteStatus AddAbs() { return Register(); }
  TfLiteStatus AddAdd(const TFLMRegistration& = Register_ADD()) { return Register(); }
  TfLiteStatus AddAddN() { return Register(); }
  TfLiteStatus AddArgMax() { return Register(); }
  TfLiteStatus AddArgMin() { return Register(); }
  TfLiteStatus AddAssignVariable() { return Register(); }
  TfLiteStatus AddAveragePool2D(const TFLMRegistration& = Register_AVERAGE_POOL_2D()) { return Register(); }
  TfLiteStatus AddBatchMatMul() { return Register(); }
  TfLiteStatus AddBatchToSpaceNd() { return Register(); }
  TfLiteStatus AddBroadcastArgs() { return Register(); }
  TfLiteStatus AddBroadcastTo() { return Register(); }
  TfLiteStatus AddCallOnce() { return Register(); }
  TfLiteStatus AddCast() { return Register(); }
  TfLiteStatus AddCeil() { return Register(); }
  TfLiteStatus AddCircularBuffer() { return Register(); }
  TfLiteStatus AddConcatenation() { return Register(); }
  TfLiteStatus AddConv2D(const TFLMRegistration& = Register_CONV_2D()) { return Register(); }
  TfLiteStatus AddCos() { return Register(); }
  TfLiteStatus AddDelay() { return Register(); }
  TfLiteStatus AddDetectionPostprocess() { return Register(); }
  TfLiteStatus AddEnergy() { return Register(); }
  TfLiteStatus AddFftAutoScale() { return Register(); }
  TfLiteStatus AddFilterBank() { return Register(); }
  TfLiteStatus AddFilterBankLog() { return Register(); }
  TfLiteStatus AddFilterBankSpectralSubtraction() { return Register(); }
  TfLiteStatus AddFilterBankSquareRoot() { return Register(); }
  TfLiteStatus AddFramer() { return Register(); }
  TfLiteStatus AddIrfft() { return Register(); }
  TfLiteStatus AddOverlapAdd() { return Register(); }
  TfLiteStatus AddPCAN() { return Register(); }
  TfLiteStatus AddReduceAll() { return Register(); }
  TfLiteStatus AddRfft() { return Register(); }
  TfLiteStatus AddStacker() { return Register(); }
  TfLiteStatus AddWindow() { return Register(); }
  TfLiteStatus AddCumSum() { return Register(); }
  TfLiteStatus AddDepthToSpace() { return Register(); }
  TfLiteStatus AddDepthwiseConv2D(const TFLMRegistration& = Register_DEPTHWISE_CONV_2D()) { return Register(); }
  TfLiteStatus AddDequantize() { return Register(); }
  TfLiteStatus AddDiv() { return Register(); }
  TfLiteStatus AddDynamicUpdateSlice() { return Register(); }
  TfLiteStatus AddElu() { return Register(); }
  TfLiteStatus AddEmbeddingLookup() { return Register(); }
  TfLiteStatus AddEqual() { return Register(); }
  TfLiteStatus AddEthosU() { return Register(); }
  TfLiteStatus AddExp() { return Register(); }
  TfLiteStatus AddExpandDims() { return Register(); }
  TfLiteStatus AddFill() { return Register(); }
  TfLiteStatus AddFloor() { return Register(); }
  TfLiteStatus AddFloorDiv() { return Register(); }
  TfLiteStatus AddFloorMod() { return Register(); }
  TfLiteStatus AddFullyConnected(const TFLMRegistration& = Register_FULLY_CONNECTED()) { return Register(); }
  TfLiteStatus AddGather() { return Register(); }
  TfLiteStatus AddGatherNd() { return Register(); }
  TfLiteStatus AddGreater() { return Register(); }
  TfLiteStatus AddGreaterEqual() { return Register(); }
  TfLiteStatus AddHardSwish() { return Register(); }
  TfLiteStatus AddIf() { return Register(); }
  TfLiteStatus AddL2Normalization() { return Register(); }
  TfLiteStatus AddL2Pool2D() { return Register(); }
  TfLiteStatus AddLeakyRelu() { return Register(); }
  TfLiteStatus AddLess() { return Register(); }
  TfLiteStatus AddLessEqual() { return Register(); }
  TfLiteStatus AddLog() { return Register(); }
  TfLiteStatus AddLogSoftmax() { return Register(); }
  TfLiteStatus AddLogicalAnd() { return Register(); }
  TfLiteStatus AddLogicalNot() { return Register(); }
  TfLiteStatus AddLogicalOr() { return Register(); }
  TfLiteStatus AddLogistic() { return Register(); }
  TfLiteStatus AddMaxPool2D(const TFLMRegistration& = Register_MAX_POOL_2D()) { return Register(); }
  TfLiteStatus AddMaximum() { return Register(); }
  TfLiteStatus AddMean() { return Register(); }
  TfLiteStatus AddMinimum() { return Register(); }
  TfLiteStatus AddMirrorPad() { return Register(); }
  TfLiteStatus AddMul() { return Register(); }
  TfLiteStatus AddNeg() { return Register(); }
  TfLiteStatus AddNotEqual() { return Register(); }
  TfLiteStatus AddPack() { return Register(); }
  TfLiteStatus AddPad() { return Register(); }
  TfLiteStatus AddPadV2() { return Register(); }
  TfLiteStatus AddPrelu() { return Register(); }
  TfLiteStatus AddQuantize() { return Register(); }
  TfLiteStatus AddReadVariable() { return Register(); }
  TfLiteStatus AddReduceMax() { return Register(); }
  TfLiteStatus AddReduceMin() { return Register(); }
  TfLiteStatus AddRelu() { return Register(); }
  TfLiteStatus AddRelu6() { return Register(); }
  TfLiteStatus AddReshape() { return Register(); }
  TfLiteStatus AddResizeBilinear() { return Register(); }
  TfLiteStatus AddResizeNearestNeighbor() { return Register(); }
  TfLiteStatus AddReverseV2() { return Register(); }
  TfLiteStatus AddRound() { return Register(); }
  TfLiteStatus AddRsqrt() { return Register(); }
  TfLiteStatus AddSelectV2() { return Register(); }
  TfLiteStatus AddShape() { return Register(); }
  TfLiteStatus AddSin() { return Register(); }
  TfLiteStatus AddSlice() { return Register(); }
  TfLiteStatus AddSoftmax(const TFLMRegistration& = Register_SOFTMAX()) { return Register(); }
  TfLiteStatus AddSpaceToBatchNd() { return Register(); }
  TfLiteStatus AddSpaceToDepth() { return Register(); }
  TfLiteStatus AddSplit() { return Register(); }
  TfLiteStatus AddSplitV() { return Register(); }
  TfLiteStatus AddSqrt() { return Register(); }
  TfLiteStatus AddSquare() { return Register(); }
  TfLiteStatus AddSquaredDifference() { return Register(); }
  TfLiteStatus AddSqueeze() { return Register(); }
  TfLiteStatus AddStridedSlice() { return Register(); }
  TfLiteStatus AddSub() { return Register(); }
  TfLiteStatus AddSum() { return Register(); }
  TfLiteStatus AddSvdf() { return Register(); }
  TfLiteStatus AddTanh() { return Register(); }
  TfLiteStatus AddTranspose() { return Register(); }
  TfLiteStatus AddTransposeConv() { return Register(); }
  TfLiteStatus AddUnidirectionalSequenceLSTM() { return Register(); }
  TfLiteStatus AddUnpack() { return Register(); }
  TfLiteStatus AddVarHandle() { return Register(); }
  TfLiteStatus AddWhile() { return Register(); }
  TfLiteStatus AddZerosLike() { return Register(); }

 private:
  TfLiteStatus Register() { return used_++ < kKinds ? kTfLiteOk : kTfLiteError; }
  unsigned int used_ = 0;
};
FMC_TFLM_END
#endif
