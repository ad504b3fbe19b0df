// @{model}: @{size}, planned for @{target}.
#include <Arduino.h>
@{library_lines}#include "model_runner.h"

void setup() {
  Serial.begin(115200);
  // A board with native USB has no port until a computer opens it.
  while (!Serial && millis() < 5000) {
  }
  while (!@{symbol}::Setup()) {
    delay(5000);
  }
}

void loop() {
  @{fill}
  if (!@{symbol}::Run()) {
    return;
  }
  for (size_t i = 0; i < @{symbol}::k@{out}Elements; ++i) {
    Serial.print(@{result});
    Serial.print(i + 1 < @{symbol}::k@{out}Elements ? ' ' : '\n');
  }
  delay(1000);
}
