// q4_0: 32 four-bit codes minus 8, times one scale.
//
// At effort fast, without importance, the rule is ggml's, byte for byte: it maps the element of
// largest magnitude to code 0, which is -8, and takes the inverse of the scale before the scale is
// rounded to binary16. Otherwise the encoder aims at the least squared error.
//
// Source: quant/BLOCKS.md, "q4_0".
#include "quant/block32_scalar.h"
#include "quant/codec.h"
#include "quant/codec_export.h"
#include "quant/codec_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/q4_0.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "quant/symmetric32-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace {

// Found by greedy search over four sets of weights.
constexpr Reaches kReaches = {{-8.0f, -8.2f, -8.6f, -7.8f, -7.2f, -8.9f, -6.9f, -8.4f, -6.2f, -7.6f,
                               -7.4f, -9.1f, -6.6f, -8.7f, -8.1f, -6.0f},
                              {-8.0f, -8.2f, -9.1f, -7.2f, -10.2f, -7.8f, -8.6f, -6.2f, 8.5f,
                               -11.2f, -6.9f, -9.6f, -8.4f, 9.3f, -12.0f, -8.8f}};

void EncodeQ4_0(const EncodeInput& in, uint8_t* out) { Symmetric32<4>::Encode(in, kReaches, out); }

void DecodeQ4_0(const uint8_t* blocks, uint64_t n_elems, float* out) {
  Symmetric32<4>::Decode(blocks, n_elems, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quern {
namespace {

QUERN_EXPORT_KERNELS(Q4_0);

void EncodeScalar(const EncodeInput& in, uint8_t* out) noexcept {
  IsPlain(in) ? EncodePlainSymmetricScalar<4>(in, out) : EncodeStatic(in, out);
}

}  // namespace

const BlockCodec kCodecQ4_0 = {DType::kQ4_0, 65504.0f * 8.0f, Encode,
                               Decode,       EncodeScalar,    DecodeSymmetricScalar<4>};

}  // namespace quern
#endif  // HWY_ONCE
