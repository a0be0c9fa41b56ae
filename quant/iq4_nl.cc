// iq4_nl: 32 four-bit codes for values of a fixed codebook, times one scale.
//
// The encoder aims at the least squared error, weighted by importance where there is any.
// Source: quant/BLOCKS.md, "iq4_nl".
#include "formats/core/bytes.h"
#include "formats/core/half.h"
#include "quant/block32_scalar.h"
#include "quant/codec.h"
#include "quant/codec_export.h"
#include "quant/codec_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/iq4_nl.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "quant/block32-inl.h"
#include "quant/codebook-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kElems = 32, kBytes = 18;

template <bool kWeighted>
void EncodeBatch(const float* HWY_RESTRICT blocks, const float* HWY_RESTRICT importance,
                 Effort effort, uint8_t* HWY_RESTRICT out) {
  Tile32 tile;
  LoadTile32<kWeighted>(blocks, importance, tile);
  const size_t n_reaches = effort == Effort::kFast                   ? 4
                           : effort == Effort::kNormal && !kWeighted ? 8
                                                                     : 16;
  const DFloat d;
  auto scale = StorableScale(FitCodebook<kWeighted>({tile.x, tile.w}, n_reaches));
  const auto magnitude = CommonMagnitude(tile.x, kElems);
  if (!hn::AllFalse(d, hn::Gt(magnitude, hn::Zero(d)))) {
    const CodebookMagnitude common =
        FitCodebookMagnitude<kWeighted>(tile.x, kWeighted ? tile.w : nullptr, 1, 1, magnitude);
    scale = hn::IfThenElse(hn::Gt(common.fits, hn::Zero(d)), hn::Neg(common.storable), scale);
  }
  const auto inverse = SafeInverse(scale);
  for (size_t i = 0; i < kElems; ++i) {
    tile.SetCode(i, NearestIndex(hn::Mul(tile.At(i), inverse)));
  }
  StoreLanes<2>(F16BitsFromF32(DFloat(), scale), out, kBytes);
  StoreNibbles(tile, out + 2, kBytes);
}

void EncodeIQ4NL(const EncodeInput& in, uint8_t* out) {
  ForEachBatch<kElems, kBytes>(in, out,
                               [&](const float* x, const float* w, uint8_t* blocks) HWY_ATTR {
                                 w != nullptr ? EncodeBatch<true>(x, w, in.effort, blocks)
                                              : EncodeBatch<false>(x, nullptr, in.effort, blocks);
                               });
}

void DecodeIQ4NL(const uint8_t* blocks, uint64_t n_elems, float* out) {
  for (const float* end = out + n_elems; out != end; out += kElems, blocks += kBytes) {
    const auto scale = hn::Set(DFloat(), F16ToF32(LoadLE<uint16_t>(blocks)));
    const auto value_of = [&](VInt code)
                              HWY_ATTR { return hn::Mul(scale, Lookup16(kCodebook, code)); };
    DecodeCodes<4>(blocks + 2, value_of, out);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quern {
namespace {

constexpr size_t kElems = 32, kBytes = 18;
constexpr float kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                               1,    13,   25,  38,  53,  69,  89,  113};

QUERN_EXPORT_KERNELS(IQ4NL);

void DecodeScalar(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  for (uint64_t k = 0; k < n_elems; ++k) {
    const uint8_t* block = blocks + k / kElems * kBytes;
    out[k] = F16ToF32(LoadLE<uint16_t>(block)) * kValues[CodeScalar<4>(block + 2, k % kElems)];
  }
}

}  // namespace

const BlockCodec kCodecIQ4NL = {DType::kIQ4_NL, 65504.0f * 127.0f, Encode,
                                Decode,         EncodeStatic,      DecodeScalar};

}  // namespace quern
#endif  // HWY_ONCE
