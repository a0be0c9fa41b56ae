// Importance matrices of both layouts. Beyond "no crash": what was accepted is finite and not
// negative, its names are unique, and its flags and sizes say the truth.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>

#include "formats/core/error.h"
#include "formats/imatrix_file.h"

namespace {

void Require(bool condition) {
  if (!condition) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const quern::Imatrix imatrix = quern::ReadImatrix(quern::MemoryBytes({data, size}, "fuzz"));
    Require(!imatrix.entries.empty());
    std::set<std::string> names;
    uint64_t n_values = 0;
    for (const quern::ImatrixEntry& entry : imatrix.entries) {
      Require(!entry.values.empty());
      Require(names.insert(entry.name).second);
      n_values += entry.values.size();
      bool all_zero = true;
      for (const float value : entry.values) {
        Require(std::isfinite(value) && value >= 0);
        if (value != 0) all_zero = false;
      }
      Require(entry.all_zero == all_zero);
    }
    if (!imatrix.is_gguf) Require(n_values <= size / 4);
  } catch (const quern::Error& error) {
    Require(error.code() == quern::ErrorCode::kData ||
            error.code() == quern::ErrorCode::kUnsupported);
    Require(error.has_file());
  }
  return 0;
}
