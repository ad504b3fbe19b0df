/* Bytes one by one. The compiler has to leave the loops: it would make calls of these of them. */
#include <string.h>

#pragma GCC optimize("no-tree-loop-distribute-patterns")

void *memcpy(void *to, const void *from, size_t count) { return memmove(to, from, count); }

void *memmove(void *to, const void *from, size_t count) {
  char *target = to;
  const char *source = from;
  if (target < source) {
    for (size_t i = 0; i < count; i++) {
      target[i] = source[i];
    }
  } else {
    while (count-- > 0) {
      target[count] = source[count];
    }
  }
  return to;
}

void *memset(void *to, int value, size_t count) {
  for (char *target = to; count > 0; count--) {
    *target++ = (char)value;
  }
  return to;
}

int memcmp(const void *a, const void *b, size_t count) {
  const unsigned char *one = a, *other = b;
  for (; count > 0; count--, one++, other++) {
    if (*one != *other) {
      return *one - *other;
    }
  }
  return 0;
}
