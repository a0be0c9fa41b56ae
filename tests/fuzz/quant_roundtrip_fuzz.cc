// Any floats, any importance: every codec terminates, stays in its buffers, gives the same bytes on
// every instruction set, and blocks that decode to finite numbers.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "quant/codec.h"
#include "quant/isa.h"

namespace quern {
namespace {

void Require(bool condition, const char* what, const BlockCodec& codec) {
  if (condition) return;
  std::fprintf(stderr, "%s: %s\n", std::string(NameOf(codec.type)).c_str(), what);
  std::abort();
}

// Floats from any bytes: what is no finite number, or too large, or (for importance) negative, is
// brought into range, as callers must.
std::vector<float> FloatsFrom(const uint8_t* data, size_t size, uint64_t n, float least, float most) {
  std::vector<float> x(n);
  for (uint64_t i = 0; i < n && size >= sizeof(float); ++i) {
    std::memcpy(&x[i], data + i * sizeof(float) % (size - size % sizeof(float)), sizeof(float));
    if (!(x[i] >= least && x[i] <= most)) x[i] = std::isnan(x[i]) ? 0.0f : x[i] < least ? least : most;
  }
  return x;
}

void RoundTrip(const BlockCodec& codec, const EncodeInput& in) {
  const uint64_t n = in.n_rows * in.n_cols;
  std::vector<uint8_t> expected(*RowBytes(codec.type, n)), blocks(expected.size());
  codec.encode_scalar(in, expected.data());
  for (const std::string_view isa : SupportedIsas()) {
    CapIsa(isa);
    codec.encode(in, blocks.data());
    Require(blocks == expected, "bytes differ between instruction sets", codec);
  }
  CapIsa("best");
  std::vector<float> y(n);
  codec.decode(blocks.data(), n, y.data());
  Require(AllFinite(y.data(), n), "a block is not finite", codec);
}

}  // namespace
}  // namespace quern

// Byte 0: codec; byte 1: effort and whether there is importance; byte 2: rows; then floats.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quern;
  if (size < 3 + sizeof(float) || size > 1 << 16) return 0;
  const BlockCodec& codec = *AllCodecs()[data[0] % AllCodecs().size()];
  EncodeInput in{};
  in.effort = static_cast<Effort>(data[1] % 3);
  // Up to as many rows as there are lanes, so that small inputs fill whole batches too.
  in.n_rows = 1 + data[2] % 17;
  const uint64_t block = LayoutOf(codec.type).block_elems;
  in.n_cols = (size / sizeof(float) / in.n_rows + block - 1) / block * block;
  if (in.n_cols == 0) in.n_cols = block;
  const std::vector<float> x =
      FloatsFrom(data + 3, size - 3, in.n_rows * in.n_cols, -codec.max_abs, codec.max_abs);
  // Importance comes from the other end of the input.
  std::vector<float> importance =
      FloatsFrom(data + 3 + (size - 3) / 2, (size - 3) / 2, in.n_cols, 0.0f, 3e38f);
  in.x = x.data();
  if ((data[1] & 0x80) != 0) in.importance = importance.data();
  RoundTrip(codec, in);
  return 0;
}
