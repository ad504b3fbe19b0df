/*
 * Proof of the memory of ${model}. Generated.
 *
 * Every line below is a static assertion over the constants of arena_plan.h, which are the ones
 * that the code uses. If this file compiles, they are right: every map is inside the arena, line
 * buffers have room for the rows that are needed at once, maps that hold something at the same
 * time share no byte, and an output never grows over rows of its input that are still read.
 * It adds no code.
 */
#include "arena_plan.h"

#define FMC_JOIN_(a, b) a##b
#define FMC_JOIN(a, b) FMC_JOIN_(a, b)

#if defined(__cplusplus) && __cplusplus >= 201103L
#define FMC_PROVE(condition, message) static_assert((condition), message);
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define FMC_PROVE(condition, message) _Static_assert((condition), message);
#else
/* C99 has no assertion: an array that is never defined would have a negative size. */
#define FMC_PROVE(condition, message) \
  extern const char FMC_JOIN(fmc_proof_, __LINE__)[(condition) ? 1 : -1];
#endif

#define FMC_IS(name, value) FMC_PROVE((name) == (value), #name " was changed")
#define FMC_AT_LEAST(name, value) FMC_PROVE((name) >= (value), #name " is too small")
#define FMC_SAME(a, b) FMC_PROVE((a) == (b), #a " differs from " #b)
#define FMC_SIZE(bytes, rows, row_bytes) \
  FMC_PROVE((bytes) == (rows) * (row_bytes), #bytes " is not rows times bytes")
#define FMC_INSIDE(offset, bytes, prefix)                                                    \
  FMC_PROVE((offset) >= 0 && (offset) % 4 == 0 && (offset) + (bytes) <= prefix##_ARENA_BYTES, \
            #offset " is misaligned or ends outside the arena")
#define FMC_APART(a, a_bytes, b, b_bytes) \
  FMC_PROVE((a) + (a_bytes) <= (b) || (b) + (b_bytes) <= (a), #a " overlaps " #b)
/* Row `row` of a ends before row `needed` of b, the first that is still read, or is behind b. */
#define FMC_GROWS(a, row, a_row_bytes, b, needed, b_row_bytes, b_bytes)               \
  FMC_PROVE((a) + ((row) + 1) * (a_row_bytes) <= (b) + (needed) * (b_row_bytes) ||    \
                (a) + (row) * (a_row_bytes) >= (b) + (b_bytes),                       \
            "row " #row " of " #a " overwrites row " #needed " of " #b)
/* Row `row` of a is written `lead` bytes or more behind row `first` of b, from which it is read. */
#define FMC_BEHIND(a, row, a_row_bytes, lead, b, first, b_row_bytes, b_bytes)                      \
  FMC_PROVE((a) + (row) * (a_row_bytes) + (lead) <= (b) + (first) * (b_row_bytes) ||               \
                (a) + (row) * (a_row_bytes) >= (b) + (b_bytes),                                    \
            "row " #row " of " #a " overwrites what it is made from in " #b)
/* What a and b hold at the same time would meet at distances of b less a between the two. */
#define FMC_CLEAR(a, b, low, high) \
  FMC_PROVE((b) - (a) <= (low) || (b) - (a) >= (high), #a " overlaps " #b)

${statements}
