// safetensors. Beyond "no crash": the tensors of whatever opens fill the data part without holes or
// overlap, by arithmetic in 128 bits, and every one can be read.
#include <cstdint>
#include <vector>

#include "formats/core/error.h"
#include "formats/safetensors.h"
#include "tests/fuzz/require.h"

namespace {
__extension__ using Uint128 = unsigned __int128;
using quern::fuzz::Require;
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quern;
  const MemoryBytes bytes({data, size}, "fuzz.safetensors");
  try {
    const SafetensorsFile file = SafetensorsFile::Open(bytes);
    Uint128 end = 8 + static_cast<Uint128>(LoadLE<uint64_t>(data));
    for (const SafetensorsTensor& tensor : file.tensors()) {
      Require(tensor.file_offset == end);
      Uint128 bits = tensor.elem_bits;
      for (const uint64_t dim : tensor.shape) bits *= dim;
      Require(bits == static_cast<Uint128>(tensor.size_bytes) * 8);
      end += tensor.size_bytes;
      Require(file.Find(tensor.name) == &tensor);
      std::vector<uint8_t> out(tensor.size_bytes);
      file.Read(tensor, 0, out);
    }
    Require(end == size);
  } catch (const Error& error) {
    Require(error.code() == ErrorCode::kData || error.code() == ErrorCode::kUnsupported);
    Require(error.has_file());
  }
  return 0;
}
