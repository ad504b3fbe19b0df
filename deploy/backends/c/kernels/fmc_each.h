/* Loops over values, with broadcasting over columns and channels. */
#ifndef FMC_EACH_H_
#define FMC_EACH_H_

/* Runs an expression of x = a[..] and y = b[..] over columns and channels. */
#define FMC_EACH(expression)                                                            \
  for (int32_t i = 0; i < p->columns; i++, a += p->a_column, b += p->b_column) {        \
    const int8_t *a_value = a, *b_value = b;                                            \
    for (int32_t c = 0; c < p->channels; c++) {                                         \
      const int32_t x = *a_value, y = *b_value;                                         \
      *out++ = (expression);                                                            \
      a_value += p->a_channel;                                                          \
      b_value += p->b_channel;                                                          \
    }                                                                                   \
  }

#endif
