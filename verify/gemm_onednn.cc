#include "verify/gemm_onednn.h"

#include <algorithm>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "formats/core/check.h"
#include "formats/core/half.h"

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

  void Multiply(const float* a, size_t a_stride, size_t m, float* c, size_t c_stride) override {
    const OneOpenMpThread one_thread;
    CheckStatus(dnnl_sgemm('N', 'N', Dim(m), Dim(n_), Dim(k_), 1.0f, a, Dim(a_stride),
                           transposed_.data(), Dim(n_), 0.0f, c, Dim(c_stride)));
  }

 private:
  AlignedFloats transposed_;  // [k, n]
  size_t n_ = 0;
  size_t k_ = 0;
};

}  // namespace

std::unique_ptr<WeightTile::Kernel> MakeOneDnnKernel(Product product) {
  QUERN_CHECK(product == Product::kOneDnnF32);
  return std::make_unique<F32Kernel>();
}

}  // namespace quern
