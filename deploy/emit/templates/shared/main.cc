// Models that share an arena of @{arena} bytes, planned for @{target}.
@{includes}

namespace {

@{functions}
}  // namespace

int main() {
  // Clocks, caches and the output of DebugLog() are your board's; set them up here.
  // The order is that of the plan: each model is made ready below those before it.
@{setups}
  for (;;) {
    // One at a time: what a model put out is overwritten when the next one gets its input.
@{runs}
  }
}
