#include "verify/gemm_onednn.h"

#include <algorithm>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "formats/core/check.h"
#include "quant/isa.h"
#include "verify/ops.h"

// Of g++'s OpenMP runtime, which Debian's oneDNN runs on; clang has no <omp.h> for it.
extern "C" void omp_set_num_threads(int n);
extern "C" int omp_get_max_threads();

namespace quern {
namespace {

// Debian's oneDNN runs on OpenMP. Within the scope, products on this thread use this thread alone:
// oneTBB already has one task per core.
class OneOpenMpThread {
 public:
  OneOpenMpThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneOpenMpThread() { omp_set_num_threads(before_); }
  OneOpenMpThread(const OneOpenMpThread&) = delete;
  OneOpenMpThread& operator=(const OneOpenMpThread&) = delete;

 private:
  int before_;
};

dnnl_dim_t Dim(size_t n) { return static_cast<dnnl_dim_t>(n); }

void CheckStatus(dnnl_status_t status) { QUERN_CHECK(status == dnnl_success); }

class F32Kernel final : public WeightTile::Kernel {
 public:
  // Keeps the transpose: the product with a plain [k, n] matrix is the fastest that oneDNN has.
  void Fill(const float* w, size_t n, size_t k) override {
    n_ = n;
    k_ = k;
    transposed_.Reserve(n * k);
    constexpr size_t kBlock = 16;  // A block of both matrices stays in the first-level cache.
    float* out = transposed_.data();
    for (size_t k0 = 0; k0 < k; k0 += kBlock) {
      const size_t k1 = std::min(k, k0 + kBlock);
      for (size_t j = 0; j < n; ++j) {
        for (size_t i = k0; i < k1; ++i) out[i * n + j] = w[j * k + i];
      }
    }
  }

  void Multiply(ProductRows a, size_t m, float* c, size_t c_stride) override {
    const OneOpenMpThread one_thread;
    CheckStatus(dnnl_sgemm('N', 'N', Dim(m), Dim(n_), Dim(k_), 1.0f, a.f32, Dim(a.stride),
                           transposed_.data(), Dim(n_), 0.0f, c, Dim(c_stride)));
  }

 private:
  AlignedFloats transposed_;  // [k, n]
  size_t n_ = 0;
  size_t k_ = 0;
};

// One product of kRows rows: what oneDNN compiles, and the order in which it wants the weights.
class BF16Product {
 public:
  static constexpr size_t kRows = 512;

  BF16Product(const dnnl::engine& engine, size_t n, size_t k) : n_(n), k_(k) {
    using dnnl::memory;
    const auto bf16 = memory::data_type::bf16;
    const memory::desc a({Dim(kRows), Dim(k)}, bf16, memory::format_tag::ab);
    const memory::desc w({Dim(k), Dim(n)}, bf16, memory::format_tag::any);
    const memory::desc c({Dim(kRows), Dim(n)}, memory::data_type::f32, memory::format_tag::ab);
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, w, c), engine);
    matmul_ = dnnl::matmul(description);
    const memory::desc stored({Dim(k), Dim(n)}, bf16, memory::format_tag::ba);  // [n, k] in memory
    stored_ = memory(stored, engine, DNNL_MEMORY_NONE);
    weights_ = memory(description.weights_desc(), engine);
    reorder_ = dnnl::reorder(stored_, weights_);
    a_ = memory(a, engine, DNNL_MEMORY_NONE);
    c_ = memory(c, engine, DNNL_MEMORY_NONE);
  }

  bool Fits(size_t n, size_t k) const { return n == n_ && k == k_; }
  // oneDNN takes pointers to what it only reads as pointers to what it may write.
  void SetWeights(dnnl::stream& stream, uint16_t* w) {
    stored_.set_data_handle(w);
    reorder_.execute(stream, stored_, weights_);
  }
  void Execute(dnnl::stream& stream, uint16_t* a, float* c) {
    a_.set_data_handle(a);
    c_.set_data_handle(c);
    matmul_.execute(stream,
                    {{DNNL_ARG_SRC, a_}, {DNNL_ARG_WEIGHTS, weights_}, {DNNL_ARG_DST, c_}});
  }

 private:
  size_t n_, k_;
  dnnl::matmul matmul_;
  dnnl::reorder reorder_;
  dnnl::memory stored_, weights_, a_, c_;
};

class BF16Kernel final : public WeightTile::Kernel {
 public:
  void Fill(const float* w, size_t n, size_t k) override {
    const OneOpenMpThread one_thread;
    rounded_.resize(n * k);
    RoundToBF16(w, n * k, rounded_.data());
    product_ = nullptr;
    for (const auto& known : products_) {
      if (known->Fits(n, k)) product_ = known.get();
    }
    if (product_ == nullptr) {
      products_.push_back(std::make_unique<BF16Product>(engine_, n, k));
      product_ = products_.back().get();
    }
    product_->SetWeights(stream_, rounded_.data());
    n_ = n;
    k_ = k;
  }

  void Multiply(ProductRows a, size_t m, float* c, size_t c_stride) override {
    const OneOpenMpThread one_thread;
    constexpr size_t kRows = BF16Product::kRows;
    rows_.resize(std::max(rows_.size(), kRows * k_));
    result_.Reserve(kRows * n_);
    for (size_t first = 0; first < m; first += kRows) {
      const size_t n_rows = std::min(kRows, m - first);
      const ProductRows block = a.From(first);
      // Whole contiguous blocks are read where they are; others are copied, with rows behind the
      // last that keep what is there: their products are thrown away.
      auto* rows = const_cast<uint16_t*>(block.bf16);
      if (n_rows < kRows || a.stride != k_) {
        for (size_t r = 0; r < n_rows; ++r) {
          std::copy_n(block.bf16 + r * a.stride, k_, rows_.data() + r * k_);
        }
        rows = rows_.data();
      }
      if (n_rows == kRows && c_stride == n_) {
        product_->Execute(stream_, rows, c + first * c_stride);
        continue;
      }
      product_->Execute(stream_, rows, result_.data());
      for (size_t r = 0; r < n_rows; ++r) {
        std::copy_n(result_.data() + r * n_, n_, c + (first + r) * c_stride);
      }
    }
  }

 private:
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::vector<std::unique_ptr<BF16Product>> products_;  // one per shape: a model has a handful
  BF16Product* product_ = nullptr;                      // of the last Fill
  std::vector<uint16_t> rounded_;                       // [n, k]
  std::vector<uint16_t> rows_;                          // [kRows, k]
  AlignedFloats result_;                                // [kRows, n]
  size_t n_ = 0;
  size_t k_ = 0;
};

}  // namespace

bool OneDnnKeepsToIsa() {
  if (CurrentIsa() == SupportedIsas().front()) return true;
  if (CurrentIsa() != "avx2") return false;
  // Refused once oneDNN has compiled its first product.
  static const bool capped = dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2) == dnnl_success;
  return capped;
}

bool OneDnnHasBF16() {
  return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core;
}

bool OneDnnHasFastBF16() {
  return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) ==
         dnnl_cpu_isa_avx512_core_bf16;
}

std::unique_ptr<WeightTile::Kernel> MakeOneDnnKernel(Product product) {
  if (product == Product::kOneDnnBF16) return std::make_unique<BF16Kernel>();
  QUERN_CHECK(product == Product::kOneDnnF32);
  return std::make_unique<F32Kernel>();
}

}  // namespace quern
