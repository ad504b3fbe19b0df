#include "shared_arena.h"

#include <cstdint>

#include "shared_plan.h"

namespace shared_arena {
namespace {

// @{placement}
// A linker script that collects .bss* takes it as it is.
#ifndef MODEL_ARENA_SECTION
#define MODEL_ARENA_SECTION ".bss.tensor_arena"
#endif
alignas(SHARED_ARENA_ALIGNMENT)
    __attribute__((section(MODEL_ARENA_SECTION))) uint8_t tensor_arena[SHARED_ARENA_BYTES];

}  // namespace

MicroAllocator* Allocator() {
  static MicroAllocator* allocator = MicroAllocator::Create(tensor_arena, SHARED_ARENA_BYTES);
  return allocator;
}

}  // namespace shared_arena
