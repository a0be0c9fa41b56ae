#include "quant/codec.h"
#include "quant/codec_rows.h"

namespace quern {
namespace {

constexpr const BlockCodec* kCodecs[] = {
    &kCodecF32,  &kCodecF16, &kCodecBF16, &kCodecQ4_0, &kCodecQ4_1,  &kCodecQ5_0,
    &kCodecQ5_1, &kCodecQ8_0, &kCodecQ2K,  &kCodecQ3K,  &kCodecQ4K,   &kCodecQ5K,
    &kCodecQ6K,  &kCodecIQ4NL, &kCodecIQ4XS, &kCodecMXFP4,
};

}  // namespace

std::span<const BlockCodec* const> AllCodecs() { return kCodecs; }

const BlockCodec* FindCodec(DType type) {
  for (const BlockCodec* codec : kCodecs) {
    if (codec->type == type) return codec;
  }
  return nullptr;
}

std::string CodecNames() {
  std::string names;
  for (const BlockCodec* codec : kCodecs) {
    names += (names.empty() ? "" : ", ") + std::string(NameOf(codec->type));
  }
  return names;
}

}  // namespace quern
