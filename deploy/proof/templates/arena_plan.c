/*
 * Proof of the memory plan of ${model}
 * for ${target}.
 *
 * Every line below is a static assertion over the constants of arena_plan.h. If this
 * file compiles, the plan is right: each tensor is aligned and inside the head, and
 * tensors that are alive together share no byte unless one is declared an alias of
 * the other. It adds no code, and of the tables at the end only what is used.
 */
#include "arena_plan.h"

/* FMC_PROVE(condition, name, message): the compiler stops unless the condition holds. */
#if defined(__cplusplus) && __cplusplus >= 201103L
#define FMC_PROVE(condition, name, message) static_assert((condition), message);
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define FMC_PROVE(condition, name, message) _Static_assert((condition), message);
#else
/* C99 has no assertion with a message: the name of an array that is never defined carries it. */
#define FMC_PROVE(condition, name, message) extern const char name[(condition) ? 1 : -1];
#endif

/* An alias whose declaration was removed from the header counts as undeclared. */
${alias_defaults}
/* The whole arena. */
${totals}
/* Each tensor stands where the model's metadata puts it, aligned and inside the head. */
#define FMC_TENSOR(t, offset, bytes, alignment)                                         \
  FMC_PROVE(t##_OFFSET == (offset) && t##_BYTES == (bytes), t##_is_as_in_the_model,      \
            #t " does not stand where the model puts it")                               \
  FMC_PROVE(t##_OFFSET >= 0 && t##_OFFSET % (alignment) == 0, t##_is_aligned,           \
            #t " is misaligned")                                                        \
  FMC_PROVE(t##_OFFSET + t##_BYTES <= ${prefix}_HEAD_BYTES &&                           \
                t##_OFFSET + t##_BYTES + ${prefix}_TAIL_BYTES <= ${prefix}_ARENA_BYTES, \
            t##_is_inside_the_head, #t " ends outside the head")

${tensors}
/* An alias stands at its fixed distance from the tensor whose bytes it shares. */
#define FMC_VIEW(a, b, distance)                                        \
  FMC_PROVE(a##_OFFSET == b##_OFFSET + (distance), a##_moved_from_##b, \
            #a " does not stand where it shares the bytes of " #b)
/* Diagonal overlap: the output stays at least as far before its input as the kernel needs. */
#define FMC_OVERLAPS(a, b, distance)                                    \
  FMC_PROVE(a##_OFFSET <= b##_OFFSET + (distance), a##_too_close_to_##b, \
            #a " overwrites " #b " before it is read")
/* Two tensors that share bytes while both live have to be declared aliases. */
#define FMC_DECLARED(a, b, declared)                                                 \
  FMC_PROVE(a##_OFFSET + a##_BYTES <= b##_OFFSET || b##_OFFSET + b##_BYTES <= a##_OFFSET || \
                (declared),                                                          \
            a##_overlaps_##b, #a " and " #b " overlap and no alias is declared")

${aliases}
/* Tensors that live together stand apart. */
#define FMC_APART(a, b)                                                                    \
  FMC_PROVE(a##_OFFSET + a##_BYTES <= b##_OFFSET || b##_OFFSET + b##_BYTES <= a##_OFFSET, \
            a##_overlaps_##b, #a " and " #b " overlap while both live")

${apart}${pieces}
const fmc_planned_tensor ${symbol}_planned_tensors[${prefix}_PLANNED_COUNT] = {
${table}};

const int32_t ${symbol}_tensor_offsets[${prefix}_TENSOR_COUNT] = {
${offsets}};

const int32_t ${symbol}_tensor_bytes[${prefix}_TENSOR_COUNT] = {
${sizes}};
