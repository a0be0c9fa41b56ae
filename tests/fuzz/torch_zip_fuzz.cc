// Zip archives. Beyond "no crash": the extents of all entries, checked again in 128 bits, lie in
// the file and share no byte; names are distinct; what Read gives are the bytes at the extent.
#include <algorithm>
#include <cstdint>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/core/error.h"
#include "formats/zip_archive.h"
#include "tests/fuzz/require.h"

namespace {

using quern::fuzz::Require;

void CheckEntries(const quern::ZipArchive& archive, quern::ByteView file) {
  __extension__ typedef unsigned __int128 Wide;
  std::set<std::string_view> names;
  std::vector<std::pair<Wide, Wide>> extents;
  for (const quern::ZipEntry& entry : archive.entries()) {
    Require(names.insert(entry.name).second);
    Require(archive.Find(entry.name) == &entry);
    const Wide end = Wide{entry.data_offset} + entry.size_bytes;
    Require(entry.data_offset >= 30 && end <= file.size());
    extents.emplace_back(entry.data_offset, end);
    if (entry.method != 0) continue;
    const auto bytes = archive.Read(entry, false);
    Require(std::ranges::equal(bytes, file.subspan(entry.data_offset, entry.size_bytes)));
  }
  std::sort(extents.begin(), extents.end());
  for (size_t i = 1; i < extents.size(); ++i) {
    // At least a local header lies between the data of two entries.
    Require(extents[i - 1].second + 30 <= extents[i].first);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const quern::ByteView file(data, size);
  const quern::MemoryBytes bytes(file, "fuzz.pth");
  try {
    const quern::ZipArchive archive = quern::ZipArchive::Open(bytes);
    CheckEntries(archive, file);
    archive.RequireStored();
    for (const quern::ZipEntry& entry : archive.entries()) archive.VerifyCrc(entry);
  } catch (const quern::Error& error) {
    Require(error.code() == quern::ErrorCode::kData ||
            error.code() == quern::ErrorCode::kUnsupported);
    Require(error.has_file());
  }
  return 0;
}
