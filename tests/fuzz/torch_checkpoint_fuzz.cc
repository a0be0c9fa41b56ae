// Whole checkpoints. An input that begins with "PK" is a file; any other is the pickle of a file
// that is built around it, with three storages. Beyond "no crash": every element of every tensor,
// its place computed again in 128 bits, lies in its storage, and rows read in two ways are equal.
//
// The mutator repairs the CRC-32s of files, so that damage gets past them.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "formats/core/error.h"
#include "formats/torch_checkpoint.h"
#include "tests/formats/torch_builder.h"
#include "tests/fuzz/require.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

using quern::TorchCheckpoint;
using quern::TorchTensor;

using quern::fuzz::Require;

std::string FileAround(std::string_view pickle) {
  std::vector<quern::testing::ZipPart> parts(4);
  parts[0].name = "archive/data.pkl";
  parts[0].data = pickle;
  for (size_t i = 0; i < 3; ++i) {
    parts[i + 1].name = "archive/data/" + std::to_string(i);
    parts[i + 1].data.assign(size_t{16} << 3 * i, static_cast<char>(i));
  }
  return quern::testing::BuildZip(parts);
}

void CheckExtent(const TorchCheckpoint& checkpoint, const TorchTensor& tensor, size_t file_bytes) {
  __extension__ typedef unsigned __int128 Wide;
  const quern::TorchStorage& storage = checkpoint.storages()[tensor.storage];
  Require(Wide{storage.file_offset} + storage.size_bytes <= file_bytes);
  Wide last = tensor.storage_offset_elems, n_elems = 1;
  for (size_t k = 0; k < tensor.shape.size(); ++k) {
    n_elems *= tensor.shape[k];
    if (tensor.shape[k] != 0) last += Wide{tensor.shape[k] - 1} * tensor.strides[k];
  }
  Require(n_elems == tensor.n_elems());
  if (n_elems != 0) Require((last + 1) * tensor.elem_bytes <= storage.size_bytes);
}

void ReadTwice(const TorchCheckpoint& checkpoint, const TorchTensor& tensor) {
  constexpr uint64_t kMaxBytes = 1 << 16;
  if (tensor.size_bytes() > kMaxBytes || tensor.rows() > 4096) return;
  std::vector<uint8_t> all(tensor.size_bytes()), by_row(tensor.size_bytes());
  checkpoint.ReadRows(tensor, 0, tensor.rows(), all);
  for (uint64_t row = 0; row < tensor.rows(); ++row) {
    const quern::MutableByteView out(by_row);
    checkpoint.ReadRows(tensor, row, 1, out.subspan(row * tensor.row_bytes(), tensor.row_bytes()));
  }
  Require(all == by_row);
}

// Sets the CRC-32 of every directory record whose entry lies in the file.
void RepairCrcs(uint8_t* data, size_t size) {
  for (size_t i = 0; i + 46 <= size; ++i) {
    if (std::memcmp(data + i, "PK\x01\x02", 4) != 0) continue;
    const uint64_t n = quern::LoadLE<uint32_t>(data + i + 24);
    const uint64_t local = quern::LoadLE<uint32_t>(data + i + 42);
    if (local + 30 > size) continue;
    const uint64_t begin = local + 30 + quern::LoadLE<uint16_t>(data + local + 26) +
                           quern::LoadLE<uint16_t>(data + local + 28);
    if (begin + n > size) continue;
    const std::string_view bytes(reinterpret_cast<const char*>(data) + begin, n);
    quern::StoreLE<uint32_t>(data + i + 16, quern::testing::Crc32(bytes));
    if (quern::LoadLE<uint32_t>(data + local + 14) != 0) {
      quern::StoreLE<uint32_t>(data + local + 14, quern::testing::Crc32(bytes));
    }
  }
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  size = LLVMFuzzerMutate(data, size, max_size);
  if (seed % 8 != 0) RepairCrcs(data, size);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::string file = input.starts_with("PK") ? std::string(input) : FileAround(input);
  const quern::MemoryBytes bytes(quern::AsBytes(file), "fuzz.pth");
  try {
    const TorchCheckpoint checkpoint = TorchCheckpoint::Open(bytes);
    Require(!checkpoint.tensors().empty());
    for (const TorchTensor& tensor : checkpoint.tensors()) {
      Require(checkpoint.Find(tensor.name) == &tensor);
      CheckExtent(checkpoint, tensor, file.size());
      ReadTwice(checkpoint, tensor);
    }
    checkpoint.VerifyAllCrcs();
  } catch (const quern::Error& error) {
    Require(error.code() == quern::ErrorCode::kData ||
            error.code() == quern::ErrorCode::kUnsupported);
    Require(error.has_file());
  }
  return 0;
}
