// GGUF files with an integrity trailer. The mutator repairs what a forger would: the key in the
// header, the header's hashes, tensors' hashes, the trailer's own. Oracles: a walk over the file, one
// row after the other, a stream and `check` say the same of it; where all say nothing, all hashes
// really agree.
#include <memory>
#include <optional>

#include "formats/core/hash.h"
#include "formats/gguf_reader.h"
#include "formats/integrity_trailer.h"
#include "formats/verifying_store.h"
#include "tests/fuzz/fuzz_support.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

using namespace quern;
using fuzz::Bytes;
using fuzz::Require;

std::unique_ptr<GgufFile> Open(ByteView bytes) {
  try {
    return std::make_unique<GgufFile>(std::make_shared<MemoryBytes>(bytes, "file"));
  } catch (const Error& error) {
    Require(fuzz::IsRefusal(error));
    return nullptr;
  }
}

// Reads a source to its end; returns the id of the error with which it ends.
std::string EndOf(TensorSource& source) {
  Bytes buffer(1 << 16);
  try {
    for (const TensorInfo& tensor : source.manifest().tensors) {
      if (tensor.size_bytes() != 0)
        buffer.resize(std::max<uint64_t>(buffer.size(), tensor.row_bytes()));
    }
    while (source.Next(buffer)) {
    }
  } catch (const Error& error) {
    Require(fuzz::IsRefusal(error) && error.id().starts_with("trailer."));
    return error.id();
  }
  return "";
}

// The same by rows, the last tensor first; nothing where there are no rows to read.
std::optional<std::string> EndOfReading(const TensorStore& store) {
  const auto& tensors = store.manifest().tensors;
  std::optional<std::string> id;
  for (size_t i = tensors.size(); i-- > 0;) {
    if (tensors[i].size_bytes() == 0) continue;
    if (!id) id = "";
    Bytes row(tensors[i].row_bytes());
    try {
      store.ReadRows(i, tensors[i].rows() - 1, 1, row);
    } catch (const Error& error) {
      Require(fuzz::IsRefusal(error) && error.id().starts_with("trailer."));
      id = error.id();
    }
  }
  return id;
}

ByteView DataOf(const GgufFile& file, ByteView bytes, size_t tensor) {
  const uint64_t n_bytes = file.manifest().tensors[tensor].size_bytes();
  return n_bytes == 0 ? ByteView() : bytes.subspan(file.tensor_offset(tensor), n_bytes);
}

// Repairs what `which` names, bit by bit, where the bytes are a model.
void Repair(Bytes& bytes, unsigned which) {
  const auto file = Open(bytes);
  if (file == nullptr) return;
  const GgufHeader layout = file->layout();
  if ((which & 1) != 0 && layout.trailer_key) {
    const size_t key = AsText(bytes).find(kGgufTrailerKey);
    const size_t value = key + kGgufTrailerKey.size() + 4;
    if (value + 8 <= layout.header_bytes) StoreLE(&bytes[value], layout.seal);
  }
  const size_t n_tensors = file->manifest().tensors.size();
  const uint64_t n_bytes = TrailerBytes(n_tensors);
  if (bytes.size() < layout.data_end + n_bytes) return;
  uint8_t* trailer = bytes.data() + bytes.size() - n_bytes;
  if ((which & 2) != 0) StoreLE(trailer + 12, static_cast<uint32_t>(n_tensors));
  if ((which & 4) != 0) StoreLE(trailer + 16, Xxh3(ByteView(bytes).first(layout.header_bytes)));
  if ((which & 32) != 0) StoreLE(trailer + 24, layout.infos_hash);
  if ((which & 8) != 0) {
    for (size_t i = 0; i < n_tensors; ++i) {
      StoreLE(trailer + 32 + 8 * i, Xxh3(DataOf(*file, bytes, i)));
    }
  }
  if ((which & 16) != 0) StoreLE(trailer + n_bytes - 16, n_bytes);
  StoreLE(trailer + n_bytes - 8, Xxh3({trailer, n_bytes - 8}));
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  size = LLVMFuzzerMutate(data, size, max_size);
  Bytes bytes(data, data + size);
  Repair(bytes, seed);
  std::copy(bytes.begin(), bytes.end(), data);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteView bytes(data, size);
  FindTrailer(bytes);
  const auto file = Open(bytes);
  if (file == nullptr) return 0;
  const VerifyingStore verifying(Open(bytes));
  const std::string walked = EndOf(*verifying.Walk());
  Require(EndOfReading(verifying).value_or(walked) == walked);
  try {
    Require(EndOf(*ReadGgufStream(std::make_unique<fuzz::Pipe>(bytes))) == walked);
  } catch (const Error& error) {
    Require(error.id() == "gguf.split");
  }
  std::string found;
  for (const Finding& finding : CheckGgufIntegrity(*file)) {
    // A trailer of a newer version is no damage: passes go without.
    if (finding.severity == Finding::Severity::kError && finding.code == ErrorCode::kData &&
        finding.id.starts_with("trailer.") && found.empty())
      found = finding.id;
  }
  Require(found == walked);
  const auto trailer =
      FindTrailer(bytes.subspan(std::min<uint64_t>(size, file->layout().data_end)));
  if (!walked.empty() || !trailer) return 0;
  const auto& tensors = file->manifest().tensors;
  Require(trailer->header_hash == Xxh3(bytes.first(file->layout().header_bytes)));
  Require(trailer->infos_hash == file->layout().infos_hash);
  Require(trailer->tensor_hashes.size() == tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    Require(trailer->tensor_hashes[i] == Xxh3(DataOf(*file, bytes, i)));
  }
  return 0;
}
