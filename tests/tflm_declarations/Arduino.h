#ifndef TESTS_ARDUINO_H_
#define TESTS_ARDUINO_H_
#include <stddef.h>
#include <stdint.h>
unsigned long millis();
void delay(unsigned long ms);
struct SerialPort {
  void begin(unsigned long baud);
  explicit operator bool() const;
  size_t print(char value);
  size_t print(int value);
  size_t print(unsigned int value);
  size_t print(long value);
  size_t print(unsigned long value);
  size_t print(double value);
};
extern SerialPort Serial;
void setup();
void loop();
#endif
