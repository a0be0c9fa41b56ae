// A small model whose weights follow from a formula, so that another implementation
// (make_golden_logits.py) can have the same ones.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/core/stream.h"

namespace quern {

// What distinguishes one synthetic model from another.
struct SyntheticSpec {
  uint32_t n_layers = 2, n_heads = 4, n_kv_heads = 2, head_dim = 16;
  uint32_t d_model = 64, d_ff = 96;
  float rope_theta = 10000;
  float rope_linear_factor = 0;    // 0: none
  bool rope_divisors = false;      // with the tensor kRopeFreqs
  bool tied_embeddings = false;
  DType matrix_type = DType::kF32;
};

// A model in memory. Its vocabulary: <unk>, <s>, </s>, then the 256 byte tokens; no space prefix:
// byte b of a text is token 3 + b. The vectors are f32, the matrices of the type that is asked for.
class SyntheticStore final : public TensorStore {
 public:
  explicit SyntheticStore(const SyntheticSpec& spec);

  const Manifest& manifest() const override { return manifest_; }
  const std::string& name() const override { return name_; }
  void ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const override;

  // For tests that make it worse.
  Manifest& mutable_manifest() { return manifest_; }
  std::vector<uint8_t>& bytes(size_t tensor) { return bytes_[tensor]; }
  // Returns the index of the tensor with that role. Requires: it exists.
  size_t Find(TensorRole role, std::optional<uint32_t> layer = std::nullopt) const;

 private:
  void AddTensor(TensorRole role, std::optional<uint32_t> layer, std::vector<uint64_t> dims,
                 float scale, float offset);

  std::string name_ = "synthetic";
  DType matrix_type_;
  Manifest manifest_;
  std::vector<std::vector<uint8_t>> bytes_;
};

// Returns `n` bytes of text: 'a' + a hash of the position modulo 26.
std::string SyntheticText(size_t n);

}  // namespace quern
