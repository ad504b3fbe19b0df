/* Numbers as text, on any core. */
#include "emulated.h"

void say_number(const char *name, uint64_t value) {
  char digits[24];
  int at = 23;
  digits[at] = 0;
  digits[--at] = '\n';
  do {
    digits[--at] = (char)('0' + value % 10);
    value /= 10;
  } while (value);
  digits[--at] = ' ';
  say(name);
  say(digits + at);
}
