#include "verify/gemm.h"

#include "formats/core/check.h"
#include "verify/gemm_kernel.h"
#include "verify/gemm_onednn.h"

namespace quern {
namespace {

class PortableKernel final : public WeightTile::Kernel {
 public:
  void Fill(const float* w, size_t n, size_t k) override { matrix_.PackTransposed(w, k, n, k); }
  void Multiply(ProductRows a, size_t m, float* c, size_t c_stride) override {
    matrix_.Multiply(a.f32, a.stride, m, c, c_stride);
  }

 private:
  PackedMatrix matrix_;
};

std::unique_ptr<WeightTile::Kernel> MakeKernel(Product product) {
  if constexpr (kHaveOneDnn) {
    if (product != Product::kPortable) return MakeOneDnnKernel(product);
  }
  QUERN_CHECK(product == Product::kPortable);
  return std::make_unique<PortableKernel>();
}

}  // namespace

Product ChooseProduct(const ForwardOptions& options) {
  bool one_dnn = false, one_dnn_bf16 = false;
  if constexpr (kHaveOneDnn) {
    one_dnn = !options.portable_product && OneDnnKeepsToIsa();
    one_dnn_bf16 = one_dnn && OneDnnHasBF16();
  }
  if (options.compute == Compute::kF32) return one_dnn ? Product::kOneDnnF32 : Product::kPortable;
  if (!one_dnn_bf16) {
    throw UnsupportedError("compute.bf16", "products in bf16 need oneDNN and AVX-512")
        .Hint("use --compute f32");
  }
  return Product::kOneDnnBF16;
}

bool HasFastBF16() {
  if constexpr (kHaveOneDnn) return OneDnnHasFastBF16();
  return false;
}

WeightTile::WeightTile(Product product) : kernel_(MakeKernel(product)) {}
WeightTile::~WeightTile() = default;
WeightTile::WeightTile(WeightTile&&) noexcept = default;

void WeightTile::Fill(const float* w, size_t n, size_t k) { kernel_->Fill(w, n, k); }
void WeightTile::Multiply(ProductRows a, size_t m, float* c, size_t c_stride) {
  kernel_->Multiply(a, m, c, c_stride);
}

}  // namespace quern
