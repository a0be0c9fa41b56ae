// q5_0: 32 five-bit codes minus 16, times one scale.
//
// At effort fast, without importance, the rule is ggml's, byte for byte: it maps the element of
// largest magnitude to code 0, which is -16, and takes the inverse of the scale before the scale is
// rounded to binary16. Otherwise the encoder aims at the least squared error.
//
// Source: quant/BLOCKS.md, "q5_0".
#include "quant/block32_scalar.h"
#include "quant/codec.h"
#include "quant/codec_export.h"
#include "quant/codec_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/q5_0.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "quant/symmetric32-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace {

// Found by greedy search over four sets of weights.
constexpr Reaches kReaches = {{-16.0f, -16.2f, -15.1f, -15.8f, -16.6f, -14.1f, -14.9f, -13.1f,
                               -15.4f, -16.9f, -16.4f, -13.8f, -14.3f, -12.2f, -14.7f, -15.6f},
                              {-16.0f, -16.2f, 15.1f, -17.0f, -14.0f, -15.8f, -13.0f, -17.8f,
                               -16.5f, -14.7f, -12.1f, -19.1f, -15.4f, -14.3f, -17.4f, -13.7f}};

void EncodeQ5_0(const EncodeInput& in, uint8_t* out) { Symmetric32<5>::Encode(in, kReaches, out); }

void DecodeQ5_0(const uint8_t* blocks, uint64_t n_elems, float* out) {
  Symmetric32<5>::Decode(blocks, n_elems, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quern {
namespace {

QUERN_EXPORT_KERNELS(Q5_0);

void EncodeScalar(const EncodeInput& in, uint8_t* out) noexcept {
  IsPlain(in) ? EncodePlainSymmetricScalar<5>(in, out) : EncodeStatic(in, out);
}

}  // namespace

const BlockCodec kCodecQ5_0 = {DType::kQ5_0, 65504.0f * 16.0f, Encode,
                               Decode,       EncodeScalar,     DecodeSymmetricScalar<5>};

}  // namespace quern
#endif  // HWY_ONCE
