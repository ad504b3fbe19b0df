/* The model @{model}: the bytes of @{model_file}, which the compiler takes as they are. */
#include "model_data.h"

#if !defined(__has_embed)
#error "this compiler has no #embed: GCC has it from 15 on, Clang from 19; or fmc emit --data=incbin"
#endif

__attribute__((aligned(16))) const unsigned char @{model_symbol}[MODEL_DATA_BYTES] = {
#embed "@{model_file}"
};

const unsigned int @{model_symbol}_len = MODEL_DATA_BYTES;
