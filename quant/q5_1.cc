// q5_1: 32 five-bit codes times one scale, plus one minimum.
//
// At effort fast, without importance, the rule is ggml's, byte for byte: it maps the least weight
// to code 0 and the largest to 31, and takes the inverse of the scale before the scale is rounded
// to binary16. Otherwise the encoder aims at the least squared error.
//
// Source: quant/BLOCKS.md, "q5_1".
#include "quant/block32_scalar.h"
#include "quant/codec.h"
#include "quant/codec_export.h"
#include "quant/codec_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/q5_1.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "quant/affine32-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace {

// Found by greedy search over four sets of weights, and over two of them with importance.
constexpr Cut kCuts[] = {{.1f, .1f},   {.2f, -.8f},  {-.1f, .4f},   {.4f, -.1f},  {-2, 0},
                         {-.2f, -.9f}, {-.7f, -.1f}, {-1.9f, -.8f}, {-.3f, -.3f}, {-2, -2}};
constexpr Cut kWeightedCuts[] = {
    {.1f, .1f},   {.2f, -.8f}, {.4f, -.2f},   {-.1f, .4f},   {.1f, -1.8f},   {-.2f, -.9f},
    {-.9f, -.2f}, {.2f, -.1f}, {-.8f, -1.7f}, {-1.8f, -.1f}, {-.2f, 0},      {-.3f, -2},
    {.2f, .4f},   {-.3f, .4f}, {-.6f, -1.9f}, {-.1f, -.3f},  {-1.1f, -.1f},  {.4f, .1f},
    {.3f, -1.3f}, {-2, -.5f},  {.4f, -.4f},   {-1.3f, .3f},  {-1.1f, -1.1f}, {.4f, -.9f}};

void EncodeQ5_1(const EncodeInput& in, uint8_t* out) {
  Affine32<5>::Encode(in, kCuts, kWeightedCuts, out);
}

void DecodeQ5_1(const uint8_t* blocks, uint64_t n_elems, float* out) {
  Affine32<5>::Decode(blocks, n_elems, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quern {
namespace {

QUERN_EXPORT_KERNELS(Q5_1);

void EncodeScalar(const EncodeInput& in, uint8_t* out) noexcept {
  IsPlain(in) ? EncodePlainAffineScalar<5>(in, out) : EncodeStatic(in, out);
}

}  // namespace

const BlockCodec kCodecQ5_1 = {DType::kQ5_1, 65504.0f,     Encode,
                               Decode,       EncodeScalar, DecodeAffineScalar<5>};

}  // namespace quern
#endif  // HWY_ONCE
