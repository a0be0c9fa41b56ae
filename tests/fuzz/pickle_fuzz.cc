// Pickles. Beyond "no crash": an accepted graph is no deeper than allowed, has no cycle (a walk
// along every path ends), and all its texts are valid UTF-8 inside the pickle.
#include <cstdint>
#include <vector>

#include "formats/core/error.h"
#include "formats/pickle.h"
#include "formats/torch_globals.h"
#include "tests/fuzz/require.h"

namespace {

using quern::Pickle;
using quern::PickleValue;

using quern::fuzz::Require;

// Walks along every path from `value`, as long as `budget` lasts: shared values make many paths.
void Walk(const Pickle& pickle, PickleValue value, unsigned depth, uint64_t size, int& budget) {
  Require(depth <= quern::kPickleMaxDepth + 1);
  Require(value.kind() != PickleValue::Kind::kUnset);
  if (value.kind() == PickleValue::Kind::kText) {
    Require(pickle.Text(value).size() < size && quern::IsUtf8(pickle.Text(value)));
  }
  Require(!pickle.Describe(value).empty());
  quern::PickleItems items = pickle.Items(value);
  while (const auto item = items.Next()) {
    if (--budget < 0) return;
    Walk(pickle, *item, depth + 1, size, budget);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const Pickle pickle = Pickle::Parse(std::vector<uint8_t>(data, data + size),
                                        quern::AllowedTorchGlobals(), "fuzz.pth", "a/data.pkl");
    int budget = 100000;
    Walk(pickle, pickle.root(), 0, size, budget);
  } catch (const quern::Error& error) {
    Require(error.code() == quern::ErrorCode::kData ||
            error.code() == quern::ErrorCode::kUnsupported);
    Require(error.has_file());
  }
  return 0;
}
