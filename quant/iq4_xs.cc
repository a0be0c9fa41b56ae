// iq4_xs: 256 four-bit codes for values of a fixed codebook, with six-bit scales of 32.
//
// The encoder aims at the least squared error, weighted by importance where there is any.
// Source: quant/BLOCKS.md, "iq4_xs".
#include "formats/core/bytes.h"
#include "formats/core/half.h"
#include "quant/codec.h"
#include "quant/codec_export.h"
#include "quant/codec_rows.h"

#ifndef QUERN_QUANT_IQ4_XS_ONCE
#define QUERN_QUANT_IQ4_XS_ONCE
namespace quern {
namespace {

// Returns the scale of sub-block s, -32..31.
inline int ScaleOf(const uint8_t* block, size_t s) {
  const int low = block[4 + s / 2] >> 4 * (s % 2) & 15;
  const int high = LoadLE<uint16_t>(block + 2) >> 2 * s & 3;
  return (low | high << 4) - 32;
}

}  // namespace
}  // namespace quern
#endif  // QUERN_QUANT_IQ4_XS_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/iq4_xs.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "quant/codebook-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kElems = 256, kBytes = 136, kSubs = 8;

// One super-block per lane.
struct Super {
  VFloat d;             // storable as binary16
  VFloat codes[kSubs];  // integers, -32..31: scales are d * codes
  VFloat error;         // relative to the sum of w x^2
};

// Chooses the integer scales for a given d, each by its true error: those next to the real scales
// `wanted`, up to `reach` steps away. Then fits d to the codes, which `refit` is.
template <bool kWeighted>
void ChooseScales(const float* HWY_RESTRICT x, const float* HWY_RESTRICT w,
                  const VFloat* HWY_RESTRICT wanted, size_t reach, Super& super, VFloat& refit) {
  const DFloat d;
  const auto inverse_d = SafeInverse(super.d);
  auto vx = hn::Zero(d), v2 = hn::Zero(d);
  super.error = hn::Zero(d);
  for (size_t s = 0; s < kSubs; ++s) {
    const size_t at = s * 32 * LaneCount();
    const SubTile tile{x + at, w + (kWeighted ? at : 0)};
    const auto nearest = RoundedCode(hn::Mul(wanted[s], inverse_d), -32, 31);
    // A scale of 0 has error 0.
    auto best_code = hn::Zero(d), best_error = hn::Zero(d), best_vx = hn::Zero(d),
         best_v2 = hn::Zero(d);
    for (size_t n = 0; n < 2 * reach + 1; ++n) {
      const float step = static_cast<float>((n + 1) / 2) * (n % 2 == 0 ? 1.0f : -1.0f);
      const auto code = RoundedCode(hn::Add(nearest, hn::Set(d, step)), -32, 31);
      const auto scale = hn::Mul(super.d, code);
      const auto inverse = SafeInverse(scale);
      CodebookSums sums;
      CodebookSumsAt<kWeighted, 1>(tile, &inverse, &sums);
      const auto error = ScaleError(scale, sums.v2, sums.vx);
      const auto better = hn::Lt(error, best_error);
      best_code = hn::IfThenElse(better, code, best_code);
      best_error = hn::IfThenElse(better, error, best_error);
      best_vx = hn::IfThenElse(better, sums.vx, best_vx);
      best_v2 = hn::IfThenElse(better, sums.v2, best_v2);
    }
    super.codes[s] = best_code;
    super.error = hn::Add(super.error, best_error);
    vx = hn::Add(vx, hn::Mul(best_code, best_vx));
    v2 = hn::Add(v2, hn::Mul(hn::Mul(best_code, best_code), best_v2));
  }
  refit = StorableScale(SafeRatio(vx, v2));
  const auto better = hn::Lt(ScaleError(refit, v2, vx), super.error);
  refit = hn::IfThenElse(better, refit, super.d);
}

template <bool kWeighted>
Super SearchSuper(const float* HWY_RESTRICT x, const float* HWY_RESTRICT w, Effort effort) {
  const DFloat d;
  const size_t n_reaches = effort == Effort::kFast ? 4 : 8;
  const size_t reach = effort == Effort::kFast ? 0 : effort == Effort::kNormal ? 1 : 3;
  const size_t n_rounds = effort == Effort::kFast ? 0 : effort == Effort::kNormal ? 1 : 3;
  VFloat wanted[kSubs];
  auto largest = hn::Zero(d);
  for (size_t s = 0; s < kSubs; ++s) {
    const size_t at = s * 32 * LaneCount();
    wanted[s] = FitCodebook<kWeighted>({x + at, w + (kWeighted ? at : 0)}, n_reaches);
    const auto larger = hn::Gt(hn::Abs(wanted[s]), hn::Abs(largest));
    largest = hn::IfThenElse(larger, wanted[s], largest);
  }
  Super best;
  best.d = StorableScale(hn::Mul(largest, hn::Set(d, -1.0f / 32.0f)));
  VFloat refit;
  ChooseScales<kWeighted>(x, w, wanted, reach, best, refit);
  for (size_t round = 0; round < n_rounds; ++round) {
    Super next;
    next.d = refit;
    ChooseScales<kWeighted>(x, w, wanted, reach, next, refit);
    const auto better = hn::Lt(next.error, best.error);
    best.d = hn::IfThenElse(better, next.d, best.d);
    best.error = hn::IfThenElse(better, next.error, best.error);
    for (size_t s = 0; s < kSubs; ++s) {
      best.codes[s] = hn::IfThenElse(better, next.codes[s], best.codes[s]);
    }
  }
  const auto magnitude = CommonMagnitude(x, kElems);
  if (!hn::AllFalse(d, hn::Gt(magnitude, hn::Zero(d)))) {
    const CodebookMagnitude common = FitCodebookMagnitude<kWeighted>(x, w, kSubs, 32, magnitude);
    const auto fits = hn::Gt(common.fits, hn::Zero(d));
    best.d = hn::IfThenElse(fits, common.storable, best.d);
    for (size_t s = 0; s < kSubs; ++s) {
      const auto code = hn::IfThenElseZero(hn::Ne(wanted[s], hn::Zero(d)), common.code);
      best.codes[s] = hn::IfThenElse(fits, code, best.codes[s]);
    }
  }
  return best;
}

template <bool kWeighted>
void EncodeBatch(const float* HWY_RESTRICT blocks, const float* HWY_RESTRICT importance,
                 Effort effort, uint8_t* HWY_RESTRICT out) {
  const DFloat d;
  const DInt di;
  const DUint du;
  constexpr size_t kN = LaneCount();
  HWY_ALIGN float x[kElems * kN];
  HWY_ALIGN float w[kWeighted ? kElems * kN : 1];
  LoadTile(blocks, kElems, x);
  if constexpr (kWeighted) {
    LoadTile(importance, kElems, w);
    NormalizeWeights(w, kElems);
  }
  const Super super = SearchSuper<kWeighted>(x, kWeighted ? w : nullptr, effort);
  auto low_scales = hn::Zero(du), high_scales = hn::Zero(du);
  for (size_t s = kSubs; s-- > 0;) {
    const auto scale = hn::BitCast(du, hn::Add(hn::ConvertTo(di, super.codes[s]), hn::Set(di, 32)));
    low_scales = hn::Or(hn::ShiftLeft<4>(low_scales), hn::And(scale, hn::Set(du, 15)));
    high_scales = hn::Or(hn::ShiftLeft<2>(high_scales), hn::ShiftRight<4>(scale));
    const auto inverse = SafeInverse(hn::Mul(super.d, super.codes[s]));
    // Byte j of a sub-block holds elements j and j + 16.
    VUint words[4];
    for (size_t j = 0; j < 4; ++j) {
      words[j] = hn::Zero(du);
      for (size_t k = 4; k-- > 0;) {
        const size_t i = 32 * s + 4 * j + k;
        const auto low = NearestIndex(hn::Mul(hn::Load(d, x + i * kN), inverse));
        const auto high = NearestIndex(hn::Mul(hn::Load(d, x + (i + 16) * kN), inverse));
        const auto byte = hn::BitCast(du, hn::Or(low, hn::ShiftLeft<4>(high)));
        words[j] = hn::Or(hn::ShiftLeft<8>(words[j]), byte);
      }
    }
    StoreWords(words[0], words[1], words[2], words[3], out + 8 + 16 * s, kBytes);
  }
  const auto first = hn::Or(F16BitsFromF32(d, super.d), hn::ShiftLeft<16>(high_scales));
  StoreLanes<4>(first, out, kBytes);
  StoreLanes<4>(low_scales, out + 4, kBytes);
}

void EncodeIQ4XS(const EncodeInput& in, uint8_t* out) {
  ForEachBatch<kElems, kBytes>(
      in, out, [&](const float* x, const float* w, uint8_t* blocks) HWY_ATTR {
        w != nullptr ? EncodeBatch<true>(x, w, in.effort, blocks)
                     : EncodeBatch<false>(x, nullptr, in.effort, blocks);
      });
}

void DecodeIQ4XS(const uint8_t* blocks, uint64_t n_elems, float* out) {
  const DFloat d;
  const DInt di;
  const hn::Rebind<uint8_t, DFloat> d8;
  const auto low_bits = hn::Set(di, 15);
  for (const float* end = out + n_elems; out != end; out += kElems, blocks += kBytes) {
    const float super = F16ToF32(LoadLE<uint16_t>(blocks));
    for (size_t s = 0; s < kSubs; ++s) {
      const auto scale = hn::Set(d, super * static_cast<float>(ScaleOf(blocks, s)));
      for (size_t i = 0; i < 16; i += hn::Lanes(d)) {
        const auto packed = hn::PromoteTo(di, hn::LoadU(d8, blocks + 8 + 16 * s + i));
        const auto low = Lookup16(kCodebook, hn::And(packed, low_bits));
        const auto high = Lookup16(kCodebook, hn::ShiftRight<4>(packed));
        hn::StoreU(hn::Mul(scale, low), d, out + 32 * s + i);
        hn::StoreU(hn::Mul(scale, high), d, out + 32 * s + 16 + i);
      }
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quern {
namespace {

constexpr size_t kElems = 256, kBytes = 136;
constexpr float kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                               1,    13,   25,  38,  53,  69,  89,  113};

QUERN_EXPORT_KERNELS(IQ4XS);

void DecodeScalar(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  for (uint64_t k = 0; k < n_elems; ++k) {
    const uint8_t* block = blocks + k / kElems * kBytes;
    const size_t s = k % kElems / 32, i = k % 32;
    const int packed = block[8 + 16 * s + i % 16];
    const int q = i < 16 ? packed & 15 : packed >> 4;
    const float scale =
        F16ToF32(LoadLE<uint16_t>(block)) * static_cast<float>(ScaleOf(block, s));
    out[k] = scale * kValues[q];
  }
}

}  // namespace

const BlockCodec kCodecIQ4XS = {DType::kIQ4_XS, 65504.0f * 1024.0f, Encode, Decode, EncodeStatic,
                                DecodeScalar};

}  // namespace quern
#endif  // HWY_ONCE
