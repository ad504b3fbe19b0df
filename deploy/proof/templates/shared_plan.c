/*
 * Proof of the arena that several models share, for ${target}.
 *
 * If this file and the arena_plan.c of each model compile, the plan is right: each model's
 * tensors are inside its own head, every head is inside the shared head, and the head and all
 * tails fit the arena. It adds no code.
 */
#include "shared_plan.h"

${includes}

#if defined(__cplusplus) && __cplusplus >= 201103L
#define FMC_PROVE(condition, name, message) static_assert((condition), message);
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define FMC_PROVE(condition, name, message) _Static_assert((condition), message);
#else
/* C99 has no assertion with a message: the name of an array that is never defined carries it. */
#define FMC_PROVE(condition, name, message) extern const char name[(condition) ? 1 : -1];
#endif

${heads}
FMC_PROVE(${tails} == SHARED_TAIL_BYTES, shared_tails_add_up,
          "the tails of the models do not add up to the shared tail")
FMC_PROVE(SHARED_HEAD_BYTES + SHARED_TAIL_BYTES <= SHARED_ARENA_BYTES, shared_arena_holds_all,
          "the head and the tails are larger than the shared arena")
FMC_PROVE(SHARED_ARENA_BYTES >= ${arena}, shared_arena_is_as_planned,
          "the shared arena is smaller than planned")
FMC_PROVE(SHARED_ARENA_ALIGNMENT % ${alignment} == 0, shared_arena_is_aligned,
          "the arena must be aligned to ${alignment} bytes")
${region}
