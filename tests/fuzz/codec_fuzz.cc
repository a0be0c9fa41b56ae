// One type's codec; CMakeLists.txt makes a program of this for each. Any floats, any importance:
// encoding terminates, stays in its buffers, gives the same bytes on every instruction set, and
// blocks that decode to finite numbers. Any bytes are valid blocks: they decode to the same bits on
// every instruction set.
#include "quant/codec.h"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "quant/isa.h"

namespace quern {
namespace {

const BlockCodec& Codec() {
  static const BlockCodec& codec = *FindCodec(*DTypeFromName(QUERN_FUZZ_TYPE));
  return codec;
}

void Require(bool condition, const char* what, std::string_view isa) {
  if (condition) return;
  std::fprintf(stderr, "%s on %.*s: %s\n", QUERN_FUZZ_TYPE, static_cast<int>(isa.size()),
               isa.data(), what);
  std::abort();
}

// Floats from any bytes: what is no finite number, or too large, or (for importance) negative, is
// brought into range, as callers must.
std::vector<float> FloatsFrom(const uint8_t* data, size_t size, uint64_t n, float least,
                              float most) {
  std::vector<float> x(n);
  for (uint64_t i = 0; i < n && size >= sizeof(float); ++i) {
    std::memcpy(&x[i], data + i * sizeof(float) % (size - size % sizeof(float)), sizeof(float));
    if (!(x[i] >= least && x[i] <= most))
      x[i] = std::isnan(x[i]) ? 0.0f : x[i] < least ? least : most;
  }
  return x;
}

// Byte 0: effort and whether there is importance; byte 1: rows; then floats.
void Encode(const uint8_t* data, size_t size) {
  const BlockCodec& codec = Codec();
  if (size < 2 + sizeof(float)) return;
  EncodeInput in{};
  in.effort = static_cast<Effort>(data[0] % 3);
  // Up to as many rows as there are lanes, so that small inputs fill whole batches too.
  in.n_rows = 1 + data[1] % 17;
  const uint64_t block = LayoutOf(codec.type).block_elems;
  in.n_cols = (size / sizeof(float) / in.n_rows + block - 1) / block * block;
  if (in.n_cols == 0) in.n_cols = block;
  const uint64_t n = in.n_rows * in.n_cols;
  const std::vector<float> x = FloatsFrom(data + 2, size - 2, n, -codec.max_abs, codec.max_abs);
  in.x = x.data();
  // Importance comes from the other end of the input.
  const std::vector<float> importance =
      FloatsFrom(data + 2 + (size - 2) / 2, (size - 2) / 2, in.n_cols, 0.0f, 3e38f);
  if ((data[0] & 0x80) != 0) in.importance = importance.data();

  std::vector<uint8_t> expected(*RowBytes(codec.type, n)), blocks(expected.size());
  codec.encode_scalar(in, expected.data());
  for (const std::string_view isa : SupportedIsas()) {
    CapIsa(isa);
    codec.encode(in, blocks.data());
    Require(blocks == expected, "other bytes than scalar code's", isa);
  }
  CapIsa("best");
  std::vector<float> y(n);
  codec.decode(blocks.data(), n, y.data());
  Require(AllFinite(y.data(), n), "a block is not finite", "best");
}

void Decode(const uint8_t* data, size_t size) {
  const BlockCodec& codec = Codec();
  const BlockLayout& layout = LayoutOf(codec.type);
  // Exact copies, so that a byte read past the end is seen.
  const uint64_t n_blocks = size / layout.block_bytes;
  const std::vector<uint8_t> blocks(data, data + n_blocks * layout.block_bytes);
  std::vector<float> expected(n_blocks * layout.block_elems), y(expected.size());
  codec.decode_scalar(blocks.data(), expected.size(), expected.data());
  for (const std::string_view isa : SupportedIsas()) {
    CapIsa(isa);
    codec.decode(blocks.data(), y.size(), y.data());
    for (size_t i = 0; i < y.size(); ++i) {
      // Which NaN comes out of a product is the CPU's choice.
      if (std::isnan(expected[i]) && std::isnan(y[i])) continue;
      Require(std::memcmp(&y[i], &expected[i], sizeof(float)) == 0, "other bits than scalar code's",
              isa);
    }
  }
  CapIsa("best");
}

}  // namespace
}  // namespace quern

// Byte 0: whether the rest is blocks to decode (odd) or what Encode takes.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  if (data[0] % 2 == 1) {
    quern::Decode(data + 1, size - 1);
  } else {
    quern::Encode(data + 1, size - 1);
  }
  return 0;
}
