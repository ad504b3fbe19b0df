/* The model @{model}: the bytes of @{model_file}, which the assembler finds in the include paths. */
    .section .rodata.@{model_symbol}, "a"
    .balign 16
    .global @{model_symbol}
    .type @{model_symbol}, %object
@{model_symbol}:
    .incbin "@{model_file}"
    .size @{model_symbol}, . - @{model_symbol}

    .balign 4
    .global @{model_symbol}_len
    .type @{model_symbol}_len, %object
@{model_symbol}_len:
    .4byte @{model_bytes}
    .size @{model_symbol}_len, 4
