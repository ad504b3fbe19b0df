/* ${model}: generated; see ${name}.h for its use and arena_plan.c for the proof of its memory. */
#include "${name}.h"

#include <string.h>

#include "${name}_constants.h"
#include "arena_plan.h"
#include "fmc_fixed_point.h"
#include "fmc_kernels.h"

${state}#ifdef ${NAME}_EXTERNAL_ARENA
static int8_t *arena;
${state_beside}#define FMC_ARENA arena
#else
/* One object, so that no compiler leaves a gap between two. */
static struct {
  int32_t arena[${NAME}_ARENA_BYTES / 4];
${state_within}} memory;
#define FMC_ARENA ((int8_t *)memory.arena)
${state_name}#endif

${functions}
#ifdef ${NAME}_EXTERNAL_ARENA
${name}_status ${name}_set_arena(void *memory, uint32_t size) {
  if (!memory) {
    return ${NAME}_NULL_POINTER;
  }
  if ((uintptr_t)memory % ${NAME}_ARENA_ALIGNMENT != 0) {
    return ${NAME}_ARENA_MISALIGNED;
  }
  if (size < ${NAME}_ARENA_BYTES) {
    return ${NAME}_ARENA_TOO_SMALL;
  }
  arena = (int8_t *)memory;
  return ${NAME}_OK;
}

#define FMC_NO_ARENA (!arena)
#else
#define FMC_NO_ARENA 0
#endif

${check}${accessors}
