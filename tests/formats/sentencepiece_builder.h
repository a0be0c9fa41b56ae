// Builds SentencePiece models field by field in the wire format of Protocol Buffers.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace quern::testing {

inline std::string Varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7F) | 0x80);
  return out + static_cast<char>(value);
}
inline std::string Tag(uint32_t number, uint32_t wire_type) {
  return Varint(uint64_t{number} << 3 | wire_type);
}
inline std::string BytesField(uint32_t number, std::string_view bytes) {
  return Tag(number, 2) + Varint(bytes.size()) + std::string(bytes);
}
inline std::string VarintField(uint32_t number, uint64_t value) {
  return Tag(number, 0) + Varint(value);
}
inline std::string FloatField(uint32_t number, float value) {
  std::string out(4, '\0');
  std::memcpy(out.data(), &value, 4);
  return Tag(number, 5) + out;
}
inline std::string Piece(std::string_view text, float score = 0, uint64_t type = 1) {
  return BytesField(1, BytesField(1, text) + FloatField(2, score) + VarintField(3, type));
}

// The pieces of the smallest useful vocabulary.
inline std::string FivePieces() {
  return Piece("<unk>", 0, 2) + Piece("<s>", 0, 3) + Piece("</s>", 0, 3) +
         Piece(
             "\xE2\x96\x81"
             "a",
             -1) +
         Piece("a", -2);
}
// The pieces that stand for single bytes.
inline std::string BytePieces() {
  std::string out;
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", byte);
    out += Piece(text, 0, 6);
  }
  return out;
}
// Settings as Llama's own tokenizers have them.
inline std::string LlamaSettings() {
  return BytesField(2, VarintField(3, 2) + VarintField(35, 1)) +
         BytesField(3, BytesField(1, "identity") + VarintField(4, 0));
}

}  // namespace quern::testing
