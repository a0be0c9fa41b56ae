// mxfp4: 32 four-bit floating-point codes (E2M1), times a power of two.
//
// At effort fast, without importance, the exponent is chosen by ggml's rule, byte for byte.
// Otherwise the neighbouring exponents are tried too.
// Source: quant/BLOCKS.md, "mxfp4".
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "formats/core/bytes.h"
#include "formats/core/half.h"
#include "quant/block32_scalar.h"
#include "quant/codec.h"
#include "quant/codec_export.h"
#include "quant/codec_rows.h"

#ifndef QUERN_QUANT_MXFP4_ONCE
#define QUERN_QUANT_MXFP4_ONCE
namespace quern {
namespace {

// Returns 2^(exponent - 128), which is subnormal for 0 and 1.
inline float HalfScale(uint8_t exponent) {
  return std::bit_cast<float>(exponent < 2 ? 0x00200000u << exponent : (exponent - 1u) << 23);
}

}  // namespace
}  // namespace quern
#endif  // QUERN_QUANT_MXFP4_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/mxfp4.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "quant/block32-inl.h"
#include "quant/codebook-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kElems = 32, kBytes = 17;

// The values of the codes, doubled.
HWY_ALIGN constexpr float kDoubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Returns 2^exponent. Requires: -126 <= exponent <= 127.
HWY_INLINE VFloat PowerOfTwo(VInt exponent) {
  const DInt di;
  return hn::BitCast(DFloat(), hn::ShiftLeft<23>(hn::Add(exponent, hn::Set(di, 127))));
}

// Multiplies by 2^exponent in two exact steps, since the power alone may not be a float.
struct Scaler {
  explicit Scaler(VInt exponent)
      : half(PowerOfTwo(hn::ShiftRight<1>(exponent))),
        rest(PowerOfTwo(hn::Sub(exponent, hn::ShiftRight<1>(exponent)))) {}
  VFloat operator()(VFloat x) const { return hn::Mul(hn::Mul(x, half), rest); }
  VFloat half, rest;
};

// Returns the code, 0..most, of the magnitude nearest to `a` >= 0 (doubled); of two, the smaller
// one.
HWY_INLINE VInt NearestCode(VFloat a, VInt most) {
  const DFloat d;
  const DInt di;
  // Up to 2 the values lie 1 apart. Beyond, they are the floats with one bit of mantissa, so that
  // code and bits differ by a constant; what is added rounds, but not halves.
  const auto small = hn::ConvertTo(di, hn::Ceil(hn::Sub(a, hn::Set(d, 0.5f))));
  const auto bits = hn::Add(hn::BitCast(di, a), hn::Set(di, 0x1FFFFF));
  const auto large = hn::Sub(hn::ShiftRight<22>(bits), hn::Set(di, 0xFE));
  const auto is_small = hn::RebindMask(di, hn::Lt(a, hn::Set(d, 2.0f)));
  return hn::Min(hn::IfThenElse(is_small, small, large), most);
}

// One of the exponents that a search compares, relative to the plain rule's: the values of the
// codes are 0, 1, 2, 3, 4, 6, 8, 12 times `unit`.
struct Candidate {
  explicit Candidate(VFloat unit)
      : least_power(hn::Mul(unit, hn::Set(DFloat(), 2.0f))),
        most(hn::Mul(unit, hn::Set(DFloat(), 12.0f))) {}
  // Returns the square of the distance from `a` >= 0 to the nearest value. `power` is the power of
  // two not above a, or less than the unit where that is smaller.
  HWY_INLINE VFloat SquaredError(VFloat a, VFloat power) const {
    const DFloat d;
    // From power to 2 power the values lie power / 2 apart; adding and subtracting 1.5 * 2^23 of
    // such steps rounds to them. Which of two equally near does not matter.
    const auto magic = hn::Mul(hn::Max(power, least_power), hn::Set(d, 6291456.0f));
    const auto value = hn::Min(hn::Sub(hn::Add(a, magic), magic), most);
    const auto difference = hn::Sub(a, value);
    return hn::Mul(difference, difference);
  }
  VFloat least_power, most;
};

// Returns the exponent byte of ggml's rule, floor(log2f(most)) + 125, at least 0.
//
// ggml's log2f rounds: just below 2^k it returns k. `near` counts the floats for which it does:
// log2(2^k (1 - j 2^-24)) = k - 1.4427 j 2^-24 rounds to k while that is under half a unit of the
// result, 2^-24 times the power of two below |result|.
HWY_INLINE VInt PlainExponent(VFloat most) {
  const DFloat d;
  const DInt di;
  const auto bits = hn::BitCast(di, most);
  const auto next = hn::Sub(hn::ShiftRight<23>(bits), hn::Set(di, 126));  // the k above
  const auto below = hn::Sub(hn::Set(di, 0x800000), hn::And(bits, hn::Set(di, 0x7FFFFF)));
  const auto k = hn::ConvertTo(d, next);
  // Positive results lie below k, negative ones beyond it.
  const auto result = hn::IfThenElse(hn::Gt(k, hn::Zero(d)), hn::Sub(k, hn::Set(d, 0.5f)), k);
  const auto power =
      hn::BitCast(d, hn::And(hn::BitCast(di, hn::Abs(result)), hn::Set(di, 0x7F800000)));
  const auto near = hn::Lt(hn::ConvertTo(d, below), hn::Mul(power, hn::Set(d, 0.69314718f)));
  const auto up = hn::IfThenElseZero(hn::RebindMask(di, near), hn::Set(di, 1));
  const auto exponent = hn::Add(hn::Add(next, up), hn::Set(di, 124));
  return hn::Max(exponent, hn::Zero(di));
}

HWY_INLINE void StoreBlocks(Tile32& tile, VInt exponent, uint8_t* HWY_RESTRICT out) {
  const DInt di;
  const Scaler scaled(hn::Sub(hn::Set(di, 128), exponent));
  // Above 252 (the plain rule gives 253 just below 2^128) codes 6 and 7 would be infinite.
  const auto overflows = hn::Gt(exponent, hn::Set(di, 252));
  const auto most_code = hn::IfThenElse(overflows, hn::Set(di, 5), hn::Set(di, 7));
  for (size_t i = 0; i < kElems; ++i) {
    const auto x = tile.At(i);
    const auto index = NearestCode(hn::Abs(scaled(x)), most_code);
    const auto negative =
        hn::And(hn::Lt(hn::BitCast(di, x), hn::Zero(di)), hn::Gt(index, hn::Zero(di)));
    const auto sign = hn::IfThenElseZero(negative, hn::Set(di, 8));
    tile.SetCode(i, hn::Or(index, sign));
  }
  StoreLanes<1>(hn::BitCast(DUint(), exponent), out, kBytes);
  StoreNibbles(tile, out + 1, kBytes);
}

HWY_INLINE VFloat MostMagnitude(const Tile32& tile) {
  auto most = hn::Abs(tile.At(0));
  for (size_t i = 1; i < kElems; ++i) most = hn::Max(most, hn::Abs(tile.At(i)));
  return most;
}

void EncodePlain(const float* HWY_RESTRICT blocks, uint8_t* HWY_RESTRICT out) {
  Tile32 tile;
  LoadTile32<false>(blocks, nullptr, tile);
  StoreBlocks(tile, PlainExponent(MostMagnitude(tile)), out);
}

// Tries the exponents around ggml's and keeps the one of least error: the first kSteps of +1, 0,
// -1, -2.
template <bool kWeighted, size_t kSteps>
void EncodeSearched(const float* HWY_RESTRICT blocks, const float* HWY_RESTRICT importance,
                    uint8_t* HWY_RESTRICT out) {
  const DFloat d;
  const DInt di;
  Tile32 tile;
  LoadTile32<kWeighted>(blocks, importance, tile);
  const auto plain = PlainExponent(MostMagnitude(tile));
  // Errors are relative to ggml's scale, so that none overflows.
  const Scaler scaled(hn::Sub(hn::Set(di, 128), plain));
  const auto exponent_of = [&](size_t k) HWY_ATTR {
    const auto wanted = hn::Add(plain, hn::Set(di, 1 - static_cast<int32_t>(k)));
    return hn::Min(hn::Max(wanted, hn::Zero(di)), hn::Set(di, 252));
  };
  VFloat unit[kSteps], error[kSteps];
  for (size_t k = 0; k < kSteps; ++k) {
    unit[k] = PowerOfTwo(hn::Sub(exponent_of(k), plain));
    error[k] = hn::Zero(d);
  }
  const auto power_bits = hn::Set(di, 0x7F800000);
  for (size_t i = 0; i < kElems; ++i) {
    const auto a = hn::Abs(scaled(tile.At(i)));
    const auto power = hn::BitCast(d, hn::And(hn::BitCast(di, a), power_bits));
    for (size_t k = 0; k < kSteps; ++k) {
      const auto square = Candidate(unit[k]).SquaredError(a, power);
      error[k] = hn::Add(error[k], kWeighted ? hn::Mul(tile.WeightAt(i), square) : square);
    }
  }
  auto best = exponent_of(0);
  auto least = error[0];
  for (size_t k = 1; k < kSteps; ++k) {
    const auto better = hn::Lt(error[k], least);
    least = hn::IfThenElse(better, error[k], least);
    best = hn::IfThenElse(hn::RebindMask(di, better), exponent_of(k), best);
  }
  StoreBlocks(tile, best, out);
}

void EncodeMXFP4(const EncodeInput& in, uint8_t* out) {
  EncodeBlocks32<kBytes>(
      in, EncodePlain,
      [&](auto weighted, const float* x, const float* w, uint8_t* blocks) HWY_ATTR {
        if (in.effort == Effort::kBest) {
          EncodeSearched<weighted, 4>(x, w, blocks);
        } else {
          EncodeSearched<weighted, weighted ? 3 : 2>(x, w, blocks);
        }
      },
      out);
}

void DecodeMXFP4(const uint8_t* blocks, uint64_t n_elems, float* out) {
  for (const float* end = out + n_elems; out != end; out += kElems, blocks += kBytes) {
    const auto scale = hn::Set(DFloat(), HalfScale(blocks[0]));
    const auto value_of = [&](VInt code)
                              HWY_ATTR { return hn::Mul(Lookup16(kDoubled, code), scale); };
    DecodeCodes<4>(blocks + 1, value_of, out);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quern {
namespace {

constexpr size_t kElems = 32, kBytes = 17;
constexpr float kValues[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

QUERN_EXPORT_KERNELS(MXFP4);

// Returns ggml's exponent byte; see PlainExponent.
int PlainExponentScalar(float most) {
  const int32_t bits = std::bit_cast<int32_t>(most);
  const int k = (bits >> 23) - 126;
  const int below = 0x800000 - (bits & 0x7FFFFF);
  const double result = k > 0 ? k - 0.5 : -k;
  const double power = k == 0 ? 0 : std::exp2(std::floor(std::log2(result)));
  return std::max(0, k + (below < power * 0.6931471805599453 ? 1 : 0) + 124);
}

void EncodePlainScalar(const EncodeInput& in, uint8_t* out) {
  const float* x = in.x;
  for (const float* end = x + in.n_rows * in.n_cols; x != end; x += kElems, out += kBytes) {
    float most = 0;
    for (size_t i = 0; i < kElems; ++i) most = std::max(most, std::fabs(x[i]));
    const int exponent = PlainExponentScalar(most);
    const float scale = HalfScale(static_cast<uint8_t>(exponent));
    const auto code = [&](float v) {
      unsigned best = 0;
      for (unsigned c = 1; c < 16; ++c) {
        if (std::fabs(kValues[c] * scale - v) < std::fabs(kValues[best] * scale - v)) best = c;
      }
      return best;
    };
    out[0] = static_cast<uint8_t>(exponent);
    PackCodesScalar<4>(x, code, out + 1);
  }
}

void EncodeScalar(const EncodeInput& in, uint8_t* out) noexcept {
  IsPlain(in) ? EncodePlainScalar(in, out) : EncodeStatic(in, out);
}

void DecodeScalar(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  for (uint64_t k = 0; k < n_elems; ++k) {
    const uint8_t* block = blocks + k / kElems * kBytes;
    out[k] = kValues[CodeScalar<4>(block + 1, k % kElems)] * HalfScale(block[0]);
  }
}

}  // namespace

const BlockCodec kCodecMXFP4 = {
    DType::kMXFP4, std::numeric_limits<float>::max(), Encode, Decode, EncodeScalar, DecodeScalar};

}  // namespace quern
#endif  // HWY_ONCE
