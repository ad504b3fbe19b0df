/*
 * The arena that several models share, for ${target}.
 *
 *   static uint8_t tensor_arena[SHARED_ARENA_BYTES], aligned to ${alignment} bytes
 *
 * One MicroAllocator manages it and is given to the interpreter of each model. The models are
 * made ready in the order below. Their tails stay, one below the other; the head is reused by
 * all, so that one model at a time may run and the next one overwrites its outputs.
 *
 * shared_plan.c proves these numbers over those of the models' own arena_plan.h.
 */
#ifndef FMC_SHARED_PLAN_H_
#define FMC_SHARED_PLAN_H_

#define SHARED_ARENA_BYTES ${arena}
#define SHARED_HEAD_BYTES ${head}
#define SHARED_TAIL_BYTES ${tail}
#define SHARED_ARENA_ALIGNMENT ${alignment}
${limit}
/* What each model adds to the tail, and what arena_used_bytes() says once it is ready. */
${models}

#endif /* FMC_SHARED_PLAN_H_ */
