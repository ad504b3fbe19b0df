/* The model @{model}: the bytes of @{model_file}, which the assembler finds in the include paths. */
    .section .rodata.model_data, "a"
    .balign 16
    .global model_data
    .type model_data, %object
model_data:
    .incbin "@{model_file}"
    .size model_data, . - model_data

    .balign 4
    .global model_data_len
    .type model_data_len, %object
model_data_len:
    .4byte @{model_bytes}
    .size model_data_len, 4
