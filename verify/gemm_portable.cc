#include "verify/gemm_portable.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "verify/gemm_portable.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "formats/core/check.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

const hn::ScalableTag<float> kFloats;
using Vec = hn::Vec<decltype(kFloats)>;

// The kernel computes kRows x (kVectors vectors) of C at a time, all of it in registers: 24 sums of
// the 32 registers of AVX-512 and NEON, 12 of the 16 of AVX2 and SSE.
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr size_t kRows = 12;
#elif HWY_TARGET == HWY_SCALAR
constexpr size_t kRows = 2;
#else
constexpr size_t kRows = 6;
#endif
constexpr size_t kVectors = 2;
// Depth of a block of k: one panel of B and one strip of A stay in the first-level cache.
constexpr size_t kDepth = 384;

size_t PanelWidth() { return kVectors * hn::Lanes(kFloats); }

// Packed B: blocks of kDepth in k; in a block, panels of PanelWidth() columns; in a panel, one
// vector pair per k. Columns behind the last are zero.
template <bool kTransposed>
void PackPanels(const float* b, size_t stride, size_t k, size_t n, float* out) {
  const size_t width = PanelWidth();
  for (size_t k0 = 0; k0 < k; k0 += kDepth) {
    const size_t depth = std::min(kDepth, k - k0);
    for (size_t n0 = 0; n0 < n; n0 += width) {
      const size_t columns = std::min(width, n - n0);
      if (columns < width) std::fill_n(out, depth * width, 0.0f);
      if constexpr (kTransposed) {
        for (size_t j = 0; j < columns; ++j) {
          const float* row = b + (n0 + j) * stride + k0;
          for (size_t i = 0; i < depth; ++i) out[i * width + j] = row[i];
        }
      } else {
        for (size_t i = 0; i < depth; ++i) {
          std::memcpy(out + i * width, b + (k0 + i) * stride + n0, columns * sizeof(float));
        }
      }
      out += depth * width;
    }
  }
}

// C [kRows, width] = (first ? 0 : C) + strip [kRows, kDepth] x panel [depth, width].
HWY_INLINE void MultiplyTile(const float* HWY_RESTRICT strip, const float* HWY_RESTRICT panel,
                             size_t depth, bool first, float* HWY_RESTRICT c, size_t c_stride) {
  const size_t lanes = hn::Lanes(kFloats);
  // Arrays of vectors are no C++ for every target, so the rows are spelled out by a macro.
#define QUERN_ROWS_6(X) X(0) X(1) X(2) X(3) X(4) X(5)
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
#define QUERN_ROWS(X) QUERN_ROWS_6(X) X(6) X(7) X(8) X(9) X(10) X(11)
#elif HWY_TARGET == HWY_SCALAR
#define QUERN_ROWS(X) X(0) X(1)
#else
#define QUERN_ROWS(X) QUERN_ROWS_6(X)
#endif
#define QUERN_ZERO(r) Vec sum##r##a = hn::Zero(kFloats), sum##r##b = hn::Zero(kFloats);
  QUERN_ROWS(QUERN_ZERO)
  for (size_t i = 0; i < depth; ++i) {
    const Vec b0 = hn::Load(kFloats, panel);
    const Vec b1 = hn::Load(kFloats, panel + lanes);
    panel += kVectors * lanes;
#define QUERN_STEP(r)                                           \
  {                                                             \
    const Vec a = hn::Set(kFloats, strip[(r) * kDepth + i]);    \
    sum##r##a = hn::MulAdd(a, b0, sum##r##a);                   \
    sum##r##b = hn::MulAdd(a, b1, sum##r##b);                   \
  }
    QUERN_ROWS(QUERN_STEP)
  }
#define QUERN_STORE(r)                                                            \
  {                                                                               \
    float* row = c + (r) * c_stride;                                              \
    if (!first) {                                                                 \
      sum##r##a = hn::Add(sum##r##a, hn::LoadU(kFloats, row));                    \
      sum##r##b = hn::Add(sum##r##b, hn::LoadU(kFloats, row + lanes));            \
    }                                                                             \
    hn::StoreU(sum##r##a, kFloats, row);                                          \
    hn::StoreU(sum##r##b, kFloats, row + lanes);                                  \
  }
  QUERN_ROWS(QUERN_STORE)
#undef QUERN_STORE
#undef QUERN_STEP
#undef QUERN_ZERO
#undef QUERN_ROWS
#undef QUERN_ROWS_6
}

// The same at the edges of C, where fewer rows or columns exist than the kernel computes.
void MultiplyEdge(const float* strip, const float* panel, size_t depth, bool first, float* c,
                  size_t c_stride, size_t rows, size_t columns) {
  HWY_ALIGN float tile[kRows * kVectors * HWY_MAX_BYTES / sizeof(float)];
  const size_t width = PanelWidth();
  MultiplyTile(strip, panel, depth, true, tile, width);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t j = 0; j < columns; ++j) {
      float& out = c[r * c_stride + j];
      out = first ? tile[r * width + j] : tile[r * width + j] + out;
    }
  }
}

// `k` and `n` are the packed sizes, `used_k` and `used_n` how much of them counts.
void Multiply(const float* a, size_t a_stride, size_t m, const float* panels, size_t k, size_t n,
              size_t used_k, size_t used_n, float* c, size_t c_stride) {
  const size_t width = PanelWidth();
  const size_t padded_n = (n + width - 1) / width * width;
  // Rows of A are copied before use: at strides that are powers of two they would push each other
  // out of the cache. Rows behind the last keep what is there: their sums are thrown away.
  HWY_ALIGN float strip[kRows * kDepth] = {};
  for (size_t k0 = 0; k0 < used_k; k0 += kDepth) {
    const size_t packed_depth = std::min(kDepth, k - k0);
    const size_t depth = std::min(kDepth, used_k - k0);
    for (size_t m0 = 0; m0 < m; m0 += kRows) {
      const size_t rows = std::min(kRows, m - m0);
      for (size_t r = 0; r < rows; ++r) {
        std::memcpy(strip + r * kDepth, a + (m0 + r) * a_stride + k0, depth * sizeof(float));
      }
      for (size_t n0 = 0; n0 < used_n; n0 += width) {
        const float* panel = panels + padded_n * k0 + n0 * packed_depth;
        float* out = c + m0 * c_stride + n0;
        if (rows == kRows && used_n - n0 >= width) {
          MultiplyTile(strip, panel, depth, k0 == 0, out, c_stride);
        } else {
          MultiplyEdge(strip, panel, depth, k0 == 0, out, c_stride, rows, std::min(width, used_n - n0));
        }
      }
    }
  }
}

void PackPlain(const float* b, size_t stride, size_t k, size_t n, float* out) {
  PackPanels<false>(b, stride, k, n, out);
}
void PackTransposed(const float* b, size_t stride, size_t k, size_t n, float* out) {
  PackPanels<true>(b, stride, k, n, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quern {
namespace {

HWY_EXPORT(PanelWidth);
HWY_EXPORT(PackPlain);
HWY_EXPORT(PackTransposed);
HWY_EXPORT(Multiply);

size_t PackedFloats(size_t k, size_t n) {
  const size_t width = HWY_DYNAMIC_DISPATCH(PanelWidth)();
  return (n + width - 1) / width * width * k;
}

}  // namespace

void AlignedFloats::Free::operator()(float* p) const { std::free(p); }

void AlignedFloats::Reserve(size_t n) {
  if (n <= size_) return;
  constexpr size_t kAlignment = 128;  // The largest vector, HWY_ALIGNMENT.
  const size_t bytes = (n * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
  data_.reset(static_cast<float*>(std::aligned_alloc(kAlignment, bytes)));
  size_ = 0;
  if (!data_) throw std::bad_alloc();
  size_ = n;
}

void PackedMatrix::PackTransposed(const float* w, size_t stride, size_t n, size_t k) {
  n_ = n;
  k_ = k;
  panels_.Reserve(PackedFloats(k, n));
  HWY_DYNAMIC_DISPATCH(PackTransposed)(w, stride, k, n, panels_.data());
}

void PackedMatrix::Pack(const float* b, size_t stride, size_t k, size_t n) {
  n_ = n;
  k_ = k;
  panels_.Reserve(PackedFloats(k, n));
  HWY_DYNAMIC_DISPATCH(PackPlain)(b, stride, k, n, panels_.data());
}

void PackedMatrix::Multiply(const float* a, size_t a_stride, size_t m, float* c,
                            size_t c_stride) const {
  MultiplyPart(a, a_stride, m, k_, n_, c, c_stride);
}

void PackedMatrix::MultiplyPart(const float* a, size_t a_stride, size_t m, size_t used_k,
                                size_t used_n, float* c, size_t c_stride) const {
  QUERN_CHECK(used_k > 0 && used_k <= k_ && used_n <= n_);
  HWY_DYNAMIC_DISPATCH(Multiply)
  (a, a_stride, m, panels_.data(), k_, n_, used_k, used_n, c, c_stride);
}

}  // namespace quern
#endif  // HWY_ONCE
