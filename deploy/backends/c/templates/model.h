/*
 * ${model}, as C without an interpreter. Generated.
 *
 * Static memory: ${static_bytes} bytes, all of it: ${NAME}_ARENA_BYTES for maps and
 * ${state_bytes} for counters. No heap. The functions are not reentrant; a run that was broken off
 * leaves nothing behind that the next one could trip over.
 *
${usage}
 *
 * With ${NAME}_EXTERNAL_ARENA defined, the arena is memory of yours: hand it over once with
 * ${name}_set_arena. It may serve other purposes between runs.
 */
#ifndef ${NAME}_H_
#define ${NAME}_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ${NAME}_STATIC_BYTES ${static_bytes}
#define ${NAME}_ARENA_ALIGNMENT 4

${ports}
typedef enum {
  ${NAME}_OK = 0,
  ${NAME}_NULL_POINTER,     /* an argument is NULL, or no arena was set */
  ${NAME}_ARENA_MISALIGNED, /* its address is no multiple of ${NAME}_ARENA_ALIGNMENT */
  ${NAME}_ARENA_TOO_SMALL,  /* it has less than ${NAME}_ARENA_BYTES bytes */
  ${NAME}_NOT_BEGUN,        /* a row or the end of a run without its beginning */
  ${NAME}_TOO_MANY_ROWS,    /* the image has no more rows */
  ${NAME}_ROWS_MISSING${library_statuses}
} ${name}_status;

#ifdef ${NAME}_EXTERNAL_ARENA
${name}_status ${name}_set_arena(void *memory, uint32_t size);
#endif

${check}${functions}
#ifdef __cplusplus
}
#endif

#endif
