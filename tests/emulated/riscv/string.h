/* What generated C takes of <string.h>, for a compiler that comes without a library. */
#ifndef EMULATED_STRING_H_
#define EMULATED_STRING_H_

#include <stddef.h>

void *memcpy(void *to, const void *from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);
int memcmp(const void *a, const void *b, size_t count);

#endif
