// Models of Gaussian weights as GGUF in memory, for the benchmarks of the containers.
#pragma once

#include <string>
#include <vector>

#include "formats/gguf_writer.h"
#include "quant/codec.h"
#include "tests/quant/vectors.h"

namespace quern {

class IntoVector final : public Output {
 public:
  explicit IntoVector(std::vector<uint8_t>& out) : out_(out) {}
  const std::string& name() const override { return name_; }
  void Write(ByteView bytes) override { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  void Commit() override {}

 private:
  std::string name_ = "(memory)";
  std::vector<uint8_t>& out_;
};

// Returns a GGUF file with one matrix of `rows` x 4096 weights of standard deviation 0.02, in
// `type`.
inline std::vector<uint8_t> GaussianModel(DType type, uint64_t rows) {
  constexpr uint64_t kCols = 4096;
  std::vector<float> weights(rows * kCols);
  for (uint64_t i = 0; i < weights.size(); ++i)
    weights[i] = static_cast<float>(0.02 * Gauss(17, i));
  Manifest manifest;
  TensorInfo tensor;
  tensor.name = "blk.0.ffn_up.weight";
  tensor.dtype = type;
  tensor.shape = Shape{rows, kCols};
  manifest.tensors.push_back(tensor);
  std::vector<uint8_t> bytes(tensor.size_bytes()), file;
  const BlockCodec& codec = *FindCodec(type);
  codec.encode({weights.data(), rows, kCols, nullptr, Effort::kFast}, bytes.data());
  const auto sink = MakeGgufWriter(std::make_unique<IntoVector>(file), {.trailer = true});
  sink->Begin(manifest);
  sink->Put({0, 0, rows, bytes});
  sink->Finish();
  return file;
}

}  // namespace quern
