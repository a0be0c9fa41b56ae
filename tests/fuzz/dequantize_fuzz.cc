// Any bytes are valid blocks: every codec decodes them to the same bits on every instruction set.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "quant/codec.h"
#include "quant/isa.h"

// Byte 0: codec; the rest: blocks.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quern;
  if (size == 0) return 0;
  const BlockCodec& codec = *AllCodecs()[data[0] % AllCodecs().size()];
  const BlockLayout& layout = LayoutOf(codec.type);
  // Exact copies, so that a byte read past the end is seen.
  const uint64_t n_blocks = (size - 1) / layout.block_bytes;
  const std::vector<uint8_t> blocks(data + 1, data + 1 + n_blocks * layout.block_bytes);
  std::vector<float> expected(n_blocks * layout.block_elems), y(expected.size());
  codec.decode_scalar(blocks.data(), expected.size(), expected.data());
  for (const std::string_view isa : SupportedIsas()) {
    CapIsa(isa);
    codec.decode(blocks.data(), y.size(), y.data());
    for (size_t i = 0; i < y.size(); ++i) {
      // Which NaN comes out of a product is the CPU's choice.
      if (expected[i] != expected[i] && y[i] != y[i]) continue;
      if (std::memcmp(&y[i], &expected[i], sizeof(float)) == 0) continue;
      std::fprintf(stderr, "%s on %s: element %zu differs\n", std::string(layout.name).c_str(),
                   std::string(isa).c_str(), i);
      std::abort();
    }
  }
  CapIsa("best");
  return 0;
}
