// q4_1: 32 four-bit codes times one scale, plus one minimum.
//
// At effort fast, without importance, the rule is ggml's, byte for byte: it maps the least weight
// to code 0 and the largest to 15, and takes the inverse of the scale before the scale is rounded
// to binary16. Otherwise the encoder aims at the least squared error.
//
// Source: quant/BLOCKS.md, "q4_1".
#include "quant/block32_scalar.h"
#include "quant/codec.h"
#include "quant/codec_export.h"
#include "quant/codec_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/q4_1.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "quant/affine32-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace {

// Found by greedy search over four sets of weights, and over two of them with importance.
constexpr Cut kCuts[] = {{.2f, .1f},   {-.2f, .4f}, {.4f, -.2f},  {-.9f, 0}, {0, .3f},
                         {-.9f, -.9f}, {0, -.6f},   {-.4f, -.4f}, {.3f, 0},  {-.8f, -.2f}};
constexpr Cut kWeightedCuts[] = {
    {.2f, .2f},   {.4f, -.3f},  {-.1f, .4f},   {.1f, -.9f},   {.4f, 0},      {-.1f, -.1f},
    {-1.8f, .1f}, {-.8f, -.1f}, {.1f, .4f},    {-1.1f, .2f},  {-.3f, .4f},   {.4f, .4f},
    {-.2f, .1f},  {.1f, -.2f},  {-2, .2f},     {.4f, .2f},    {-.7f, -1.1f}, {.4f, -.2f},
    {.3f, -1.3f}, {-.5f, .4f},  {-1.2f, -.2f}, {-1.7f, -.8f}, {-.7f, .3f},   {-.2f, -.7f}};

void EncodeQ4_1(const EncodeInput& in, uint8_t* out) {
  Affine32<4>::Encode(in, kCuts, kWeightedCuts, out);
}

void DecodeQ4_1(const uint8_t* blocks, uint64_t n_elems, float* out) {
  Affine32<4>::Decode(blocks, n_elems, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quern {
namespace {

QUERN_EXPORT_KERNELS(Q4_1);

void EncodeScalar(const EncodeInput& in, uint8_t* out) noexcept {
  IsPlain(in) ? EncodePlainAffineScalar<4>(in, out) : EncodeStatic(in, out);
}

}  // namespace

const BlockCodec kCodecQ4_1 = {DType::kQ4_1, 65504.0f,     Encode,
                               Decode,       EncodeScalar, DecodeAffineScalar<4>};

}  // namespace quern
#endif  // HWY_ONCE
