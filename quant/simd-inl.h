// What the kernels of several block types share. Lane-wise code only: no result may depend on the
// number of lanes.

// Per-target include guard.
#if defined(QUERN_QUANT_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QUERN_QUANT_SIMD_INL_H_
#undef QUERN_QUANT_SIMD_INL_H_
#else
#define QUERN_QUANT_SIMD_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cstring>

#include "quant/codec.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// At most sixteen lanes, so that half a block of 32 is a whole number of vectors on every target.
using DFloat = hn::CappedTag<float, 16>;
using DInt = hn::RebindToSigned<DFloat>;
using DUint = hn::RebindToUnsigned<DFloat>;
using VFloat = hn::Vec<DFloat>;
using VInt = hn::Vec<DInt>;
using VUint = hn::Vec<DUint>;

// Lanes of a vector. Encoders that search work on this many blocks at once, one block per lane.
HWY_INLINE constexpr size_t LaneCount() { return hn::MaxLanes(DFloat()); }

// The most lanes of any target, for the sizes of buffers.
inline constexpr size_t kMostLanes = 16;

// Four vectors that are transposed within each 128 bits.
struct Quad {
  VFloat v0, v1, v2, v3;
};

#if HWY_TARGET != HWY_SCALAR
HWY_INLINE Quad TransposedBlocks(const Quad& a) {
  const DFloat d;
  const hn::RepartitionToWide<DFloat> dw;
  const auto lo01 = hn::BitCast(dw, hn::InterleaveLower(d, a.v0, a.v1));
  const auto lo23 = hn::BitCast(dw, hn::InterleaveLower(d, a.v2, a.v3));
  const auto hi01 = hn::BitCast(dw, hn::InterleaveUpper(d, a.v0, a.v1));
  const auto hi23 = hn::BitCast(dw, hn::InterleaveUpper(d, a.v2, a.v3));
  return {hn::BitCast(d, hn::InterleaveLower(dw, lo01, lo23)),
          hn::BitCast(d, hn::InterleaveUpper(dw, lo01, lo23)),
          hn::BitCast(d, hn::InterleaveLower(dw, hi01, hi23)),
          hn::BitCast(d, hn::InterleaveUpper(dw, hi01, hi23))};
}

// Returns 128 bits each from rows j, j + 4, … of `p`.
template <class D>
HWY_INLINE hn::Vec<D> LoadPieces(D d, const float* HWY_RESTRICT p, size_t stride) {
  constexpr size_t kN = hn::MaxLanes(D());
  if constexpr (kN == 4) {
    return hn::LoadU(d, p);
  } else {
    const hn::Half<D> dh;
    return hn::Combine(d, LoadPieces(dh, p + kN / 2 * stride, stride), LoadPieces(dh, p, stride));
  }
}

// The inverse: stores the 128-bit pieces of `v` to rows j, j + 4, … of `out`.
template <class D>
HWY_INLINE void StorePieces([[maybe_unused]] D d, hn::Vec<D> v, uint8_t* HWY_RESTRICT out,
                            size_t stride_bytes) {
  constexpr size_t kN = hn::MaxLanes(D());
  if constexpr (kN == 4) {
    const hn::Repartition<uint8_t, D> d8;
    hn::StoreU(hn::BitCast(d8, v), d8, out);
  } else {
    const hn::Half<D> dh;
    StorePieces(dh, hn::LowerHalf(dh, v), out, stride_bytes);
    StorePieces(dh, hn::UpperHalf(dh, v), out + kN / 2 * stride_bytes, stride_bytes);
  }
}
#endif

// Transposes blocks into lanes: tile[i * lanes + r] = x[r * elems + i].
// Requires: elems is a multiple of 4; `tile` is aligned.
HWY_INLINE void LoadTile(const float* HWY_RESTRICT x, size_t elems, float* HWY_RESTRICT tile) {
#if HWY_TARGET == HWY_SCALAR
  std::memcpy(tile, x, elems * sizeof(float));
#else
  const DFloat d;
  constexpr size_t kN = LaneCount();
  for (size_t i = 0; i < elems; i += 4) {
    const float* p = x + i;
    const Quad columns = TransposedBlocks({LoadPieces(d, p, elems), LoadPieces(d, p + elems, elems),
                                           LoadPieces(d, p + 2 * elems, elems),
                                           LoadPieces(d, p + 3 * elems, elems)});
    hn::Store(columns.v0, d, tile + (i + 0) * kN);
    hn::Store(columns.v1, d, tile + (i + 1) * kN);
    hn::Store(columns.v2, d, tile + (i + 2) * kN);
    hn::Store(columns.v3, d, tile + (i + 3) * kN);
  }
#endif
}

// Stores 16 bytes of each lane: word j of lane r goes to out + r * stride_bytes + 4 * j.
HWY_INLINE void StoreWords(VUint w0, VUint w1, VUint w2, VUint w3, uint8_t* HWY_RESTRICT out,
                           size_t stride_bytes) {
#if HWY_TARGET == HWY_SCALAR
  (void)stride_bytes;
  const uint32_t words[4] = {hn::GetLane(w0), hn::GetLane(w1), hn::GetLane(w2), hn::GetLane(w3)};
  std::memcpy(out, words, sizeof(words));
#else
  const DFloat d;
  const Quad rows = TransposedBlocks(
      {hn::BitCast(d, w0), hn::BitCast(d, w1), hn::BitCast(d, w2), hn::BitCast(d, w3)});
  StorePieces(d, rows.v0, out, stride_bytes);
  StorePieces(d, rows.v1, out + stride_bytes, stride_bytes);
  StorePieces(d, rows.v2, out + 2 * stride_bytes, stride_bytes);
  StorePieces(d, rows.v3, out + 3 * stride_bytes, stride_bytes);
#endif
}

// Stores the lowest `kBytes` of each lane to out + r * stride_bytes.
template <size_t kBytes>
HWY_INLINE void StoreLanes(VUint v, uint8_t* HWY_RESTRICT out, size_t stride_bytes) {
  const DUint d;
  HWY_ALIGN uint32_t lanes[kMostLanes];
  hn::Store(v, d, lanes);
  for (size_t r = 0; r < LaneCount(); ++r) std::memcpy(out + r * stride_bytes, &lanes[r], kBytes);
}

// Calls encode_batch(x, w, out) for runs of LaneCount() blocks. `w` holds the importance of each
// element of those blocks, or is null. The last run is padded with zeros.
template <size_t kElems, size_t kBytes, class EncodeBatch>
HWY_INLINE void ForEachBatch(const EncodeInput& in, uint8_t* HWY_RESTRICT out,
                             const EncodeBatch& encode_batch) {
  constexpr size_t kN = LaneCount();
  // By so many batches memory is asked ahead.
  constexpr uint64_t kAhead = kElems <= 32 ? 4 : 1;
  const uint64_t n_blocks = in.n_rows * in.n_cols / kElems;
  HWY_ALIGN float padded[kN * kElems];
  HWY_ALIGN float weights[kN * kElems];
  HWY_ALIGN uint8_t blocks[kN * kBytes];
  for (uint64_t b = 0; b < n_blocks; b += kN) {
    const uint64_t n = HWY_MIN(kN, n_blocks - b);
    if (in.importance != nullptr) {
      for (size_t r = 0; r < kN; ++r) {
        const float* row = in.importance + (b + r) * kElems % in.n_cols;
        std::memcpy(weights + r * kElems, row, kElems * sizeof(float));
      }
    }
    const float* w = in.importance != nullptr ? weights : nullptr;
    const float* x = in.x + b * kElems;
    if (n == kN) {
      // Tiles are loaded a few bytes of every block at a time, which no hardware foresees.
      if (b + (kAhead + 1) * kN <= n_blocks) {
        for (size_t i = 0; i < kN * kElems; i += 16) hwy::Prefetch(x + kAhead * kN * kElems + i);
      }
      encode_batch(x, w, out + b * kBytes);
      continue;
    }
    std::memset(padded, 0, sizeof(padded));
    std::memcpy(padded, x, n * kElems * sizeof(float));
    encode_batch(padded, w, blocks);
    std::memcpy(out + b * kBytes, blocks, n * kBytes);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
