// Importance matrices of both layouts. Beyond "no crash": what was accepted is finite and not
// negative, its names are unique, and its flags and sizes say the truth; what is written of it in
// either layout, alone or merged with itself, can be read again and has the same entries; its
// statistics are numbers.
#include <cmath>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "formats/core/error.h"
#include "formats/imatrix_file.h"
#include "formats/imatrix_writer.h"
#include "tests/fuzz/fuzz_support.h"
#include "verify/imatrix_statistics.h"

namespace {

using quern::fuzz::IntoVector;
using quern::fuzz::Require;

// Writes and reads `imatrix`. Names that GGUF has no room for are refused.
void CheckWriter(const quern::Imatrix& imatrix, bool legacy) {
  std::vector<uint8_t> bytes;
  bool long_name = false;
  for (const quern::ImatrixEntry& entry : imatrix.entries) long_name |= entry.name.size() > 55;
  try {
    const auto write = legacy ? quern::WriteImatrixLegacy : quern::WriteImatrixGguf;
    write(imatrix, std::make_unique<IntoVector>(bytes));
  } catch (const quern::Error& error) {
    Require(!legacy && long_name && error.id() == "imatrix.name");
    return;
  }
  Require(legacy || !long_name);
  const quern::Imatrix again = quern::ReadImatrix(quern::MemoryBytes(bytes, "again"));
  Require(again.is_gguf != legacy && again.entries.size() == imatrix.entries.size());
  std::set<std::pair<std::string, size_t>> before, after;
  for (const auto& entry : imatrix.entries) before.emplace(entry.name, entry.values.size());
  for (const auto& entry : again.entries) after.emplace(entry.name, entry.values.size());
  Require(before == after);
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
    const quern::Imatrix twice = quern::MergeImatrices({imatrix, imatrix}, {"fuzz", "fuzz"});
    for (const bool legacy : {false, true}) {
      CheckWriter(imatrix, legacy);
      CheckWriter(twice, legacy);
    }
    for (const quern::ImatrixStatistics& s : quern::StatisticsOf(imatrix)) {
      Require(std::isfinite(s.sum) && s.minimum <= s.maximum && s.active >= 0 && s.active < 1.001);
      Require(s.entropy_bits >= 0 && s.relative_entropy < 1.001 && s.outliers < 1.001);
    }
  } catch (const quern::Error& error) {
    Require(error.code() == quern::ErrorCode::kData ||
            error.code() == quern::ErrorCode::kUnsupported);
    Require(error.has_file());
  }
  return 0;
}
