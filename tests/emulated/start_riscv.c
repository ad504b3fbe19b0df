/* Bare start of a 32-bit RISC-V under QEMU (virt), semihosting, and the core's count of
 * instructions. */
#include <stdint.h>

#include "emulated.h"

extern uint32_t data_begin, data_end, data_origin, bss_begin, bss_end, stack_top;
int main(void);

enum { WRITE0 = 0x04, EXIT_EXTENDED = 0x20, STOPPED = 0x20026 };

/* Without compressed forms, as the three instructions are what the emulator knows. */
static void semihosting(uint32_t operation, uint32_t argument) {
  register uint32_t a0 __asm__("a0") = operation;
  register uint32_t a1 __asm__("a1") = argument;
  __asm__ volatile(
      ".option push\n.option norvc\nslli x0, x0, 0x1f\nebreak\nsrai x0, x0, 7\n"
      ".option pop"
      : "+r"(a0)
      : "r"(a1)
      : "memory");
}

void say(const char *text) { semihosting(WRITE0, (uint32_t)(uintptr_t)text); }

static void leave(uint32_t status) {
  uint32_t block[2] = {STOPPED, status};
  semihosting(EXIT_EXTENDED, (uint32_t)(uintptr_t)block);
  for (;;) {
  }
}

__attribute__((aligned(4), used)) void fault(void) {
  say("fault\n");
  leave(1);
}

__attribute__((used)) void start(void) {
  uint32_t *from = &data_origin;
  for (uint32_t *to = &data_begin; to < &data_end;) {
    *to++ = *from++;
  }
  for (uint32_t *to = &bss_begin; to < &bss_end;) {
    *to++ = 0;
  }
  leave(main() == 0 ? 0 : 1);
}

/* csrw mtvec, t0, as a number: what the assembler is told of the core leaves registers out. */
__attribute__((naked, section(".vectors"), used)) void reset(void) {
  __asm__ volatile("la sp, stack_top\nla t0, fault\n.4byte 0x30529073\ncall start");
}

static uint64_t begun;

/* minstret and minstreth, in a0. */
static uint64_t instructions(void) {
  register uint32_t low __asm__("a0");
  uint32_t high, again, value;
  do {
    __asm__ volatile(".4byte 0xB8202573" : "=r"(low));
    high = low;
    __asm__ volatile(".4byte 0xB0202573" : "=r"(low));
    value = low;
    __asm__ volatile(".4byte 0xB8202573" : "=r"(low));
    again = low;
  } while (high != again);
  return (uint64_t)high << 32 | value;
}

void clock_start(void) { begun = instructions(); }

uint64_t clock_ticks(void) { return instructions() - begun; }

uint64_t clock_instructions_per_tick(void) { return 1; }
