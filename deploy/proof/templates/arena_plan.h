/*
 * Memory plan of ${model}
 * for ${target}.
 *
 *   static uint8_t tensor_arena[${prefix}_ARENA_BYTES], aligned to ${alignment} bytes
 *
 * The head is reused from operator to operator, the tail stays for good. The planned
 * tensors need ${planned} bytes of the head; no plan of these operators in this order, with
 * these aliases, needs less than ${bound} bytes (${certificate}).
 *
 * arena_plan.c proves these numbers at compile time. A number changed here without
 * a new plan stops the compiler.
 */
#ifndef ${prefix}_ARENA_PLAN_H_
#define ${prefix}_ARENA_PLAN_H_

#include <stdint.h>

#define ${prefix}_ARENA_BYTES ${arena}
#define ${prefix}_HEAD_BYTES ${head}
#define ${prefix}_TAIL_BYTES ${tail}
#define ${prefix}_ARENA_ALIGNMENT ${alignment}

/* What MicroInterpreter::arena_used_bytes() returns when the plan is obeyed. */
#define ${prefix}_USED_BYTES (${prefix}_HEAD_BYTES + ${prefix}_TAIL_BYTES)
${limit}
/* Tensors of the model, constants included, and those that live in the arena. */
#define ${prefix}_TENSOR_COUNT ${count}
#define ${prefix}_PLANNED_COUNT ${in_arena}

/*
 * Where each tensor stands, counted from the start of the arena. T<n> is tensor n of
 * the model; ALIAS_OF names the tensor whose bytes it shares on purpose.
 */
${tensors}${same_block}
#ifdef __cplusplus
extern "C" {
#endif

#ifndef FMC_PLANNED_TENSOR
#define FMC_PLANNED_TENSOR
/* Bytes [offset, offset + bytes) during operators first to last; alias_of is -1 for none. */
typedef struct {
  const char *name;
  int32_t index;
  int32_t offset;
  int32_t bytes;
  int32_t first;
  int32_t last;
  int32_t alias_of;
} fmc_planned_tensor;
#endif

extern const fmc_planned_tensor ${symbol}_planned_tensors[${prefix}_PLANNED_COUNT];

/* By tensor index, as the model's metadata has them: -1 and 0 for what is not planned. */
extern const int32_t ${symbol}_tensor_offsets[${prefix}_TENSOR_COUNT];
extern const int32_t ${symbol}_tensor_bytes[${prefix}_TENSOR_COUNT];

#ifdef __cplusplus
}
#endif

#endif /* ${prefix}_ARENA_PLAN_H_ */
