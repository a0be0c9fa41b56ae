// The table of codecs: one per block type, each turning floats into blocks and back.
//
// Codecs are pure: no allocation, no state, no exceptions, no threads. The bytes that an encoder
// makes depend on its input only, never on the instruction set (quant/isa.h), and decode gives
// ggml's values bit for bit.
// Source: quant/BLOCKS.md, which is normative for the layouts.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "formats/core/dtype.h"

namespace quern {

// How hard an encoder searches. With kFast and no importance the types that have a plain rounding
// rule (q8_0, q4_0, f16, bf16, …) give the very bytes of ggml's reference.
enum class Effort : uint8_t { kFast, kNormal, kBest };

// Whole rows for an encoder, contiguous.
struct EncodeInput {
  const float* x;  // n_rows * n_cols, none above BlockCodec::max_abs
  uint64_t n_rows;
  uint64_t n_cols;                    // a multiple of the type's block_elems
  const float* importance = nullptr;  // n_cols weights, finite and not negative; or null
  Effort effort = Effort::kNormal;
};

// Writes n_rows * RowBytes(type, n_cols) bytes.
using EncodeFn = void (*)(const EncodeInput& in, uint8_t* out) noexcept;
// Reads n_elems (a multiple of block_elems) elements from blocks and writes them to `out`. Every
// byte pattern is valid; values may be infinite or NaN where a scale is.
using DecodeFn = void (*)(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept;

struct BlockCodec {
  DType type;
  // Encoders take |x| <= max_abs: beyond it a scale would overflow to infinity.
  float max_abs;
  EncodeFn encode;
  DecodeFn decode;
  // What the two above are tested against, with the same bytes and bits. Decoding and the plain rules
  // are written out after quant/BLOCKS.md, one element at a time; an encoder that searches is the same
  // source on the least instruction set.
  EncodeFn encode_scalar;
  DecodeFn decode_scalar;
};

// Returns every codec.
std::span<const BlockCodec* const> AllCodecs();
// Returns the codec of `type`, or null if quern neither encodes nor decodes it.
const BlockCodec* FindCodec(DType type);

// Returns the names of all codecs' types, for messages: "f32, f16, …".
std::string CodecNames();

// Returns the index of the first of x[0..n) that is NaN or whose magnitude is above `limit`, or n.
uint64_t FirstAbove(const float* x, uint64_t n, float limit) noexcept;
// Returns the index of the first NaN or infinity among x[0..n), or n if all are finite.
inline uint64_t FirstNonFinite(const float* x, uint64_t n) noexcept {
  return FirstAbove(x, n, std::numeric_limits<float>::max());
}
inline bool AllFinite(const float* x, uint64_t n) noexcept { return FirstNonFinite(x, n) == n; }

}  // namespace quern
