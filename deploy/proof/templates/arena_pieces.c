
/*
 * Tensors of different blocks may overlap as long as no byte holds two values at once:
 * one grows into rows that the other has given up. The pieces say which bytes hold a
 * value when; pieces that live together share no byte.
 */
#define FMC_PIECES(p, a, q, b)                                                \
  FMC_PROVE(p##_END <= q##_BEGIN || q##_END <= p##_BEGIN, p##_overlaps_##q##_##a##_##b, \
            "values of " #a " and " #b " overlap while both live")

