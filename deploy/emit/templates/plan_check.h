/*
 * Confirms at start-up that the memory plan inside a .tflite model is the plan of
 * arena_plan.h: that the model in flash is the one the plan was proved for.
 * Plain C99; needs neither TFLM nor the flatbuffers library, no heap, no recursion.
 *
 *   uint32_t where;
 *   if (fmc_plan_check(model_data, model_data_len, vww_tensor_offsets,
 *                      vww_tensor_bytes, VWW_TENSOR_COUNT, &where) != FMC_PLAN_OK) ...
 */
#ifndef FMC_PLAN_CHECK_H_
#define FMC_PLAN_CHECK_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  FMC_PLAN_OK = 0,
  FMC_PLAN_NOT_A_MODEL,      /* the bytes do not begin like a TFLite flatbuffer */
  FMC_PLAN_CORRUPT,          /* an offset or a length points outside the bytes */
  FMC_PLAN_NO_SUBGRAPH,      /* TFLM runs the first subgraph, and there is none */
  FMC_PLAN_MISSING,          /* no metadata entry OfflineMemoryAllocation */
  FMC_PLAN_TWICE,            /* several such entries; TFLM would take the last */
  FMC_PLAN_OTHER_COUNT,      /* the model or its plan has another number of tensors */
  FMC_PLAN_OTHER_OFFSET,     /* tensor *where is planned at another offset */
  FMC_PLAN_OTHER_SIZE        /* tensor *where has another number of bytes */
} fmc_plan_status;

/*
 * model, model_bytes: the flatbuffer, as linked into flash.
 * offsets, bytes, count: <model>_tensor_offsets and <model>_tensor_bytes of arena_plan.c;
 *     a tensor that is not planned has offset -1 and its bytes are not compared.
 * where: receives the index of the tensor that differs, or 0; may be NULL.
 * Reads nothing outside [model, model + model_bytes), whatever the bytes hold.
 */
fmc_plan_status fmc_plan_check(const unsigned char *model, size_t model_bytes,
                               const int32_t *offsets, const int32_t *bytes,
                               uint32_t count, uint32_t *where);

/* One line for a log. */
const char *fmc_plan_status_text(fmc_plan_status status);

#ifdef __cplusplus
}
#endif

#endif /* FMC_PLAN_CHECK_H_ */
