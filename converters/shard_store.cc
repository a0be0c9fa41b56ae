#include "converters/shard_store.h"

#include <vector>

#include "converters/weight_file.h"

namespace quern {
namespace {

class ShardStore final : public TensorStore {
 public:
  explicit ShardStore(const std::string& path)
      : shard_(OpenWeightFile(std::make_shared<InputFile>(path), /*verify_crc=*/false)) {
    for (size_t i = 0; i < shard_->tensors().size(); ++i) {
      const WeightTensor& tensor = shard_->tensors()[i];
      if (!tensor.dtype || !IsFloat(*tensor.dtype) || tensor.shape.size() > 2) continue;
      const auto shape = Shape::Make(tensor.shape);
      if (!shape || shape->n_elems() == 0) continue;
      manifest_.tensors.push_back(
          {std::string(tensor.name), TensorRole::kOther, std::nullopt, *tensor.dtype, *shape});
      tensors_.push_back(i);
    }
  }

  const Manifest& manifest() const override { return manifest_; }
  const std::string& name() const override { return shard_->name(); }
  void ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const override {
    shard_->ReadRows(tensors_.at(tensor), begin, count, out);
  }
  StoredPlace PlaceOf(size_t tensor, uint64_t row, uint64_t col) const override {
    return {name(), shard_->ByteOffsetOf(tensors_.at(tensor), row, col)};
  }

 private:
  std::unique_ptr<WeightFile> shard_;
  std::vector<size_t> tensors_;  // of shard_, one per tensor of the manifest
  Manifest manifest_;
};

}  // namespace

std::unique_ptr<TensorStore> OpenShard(const std::string& path) {
  return std::make_unique<ShardStore>(path);
}

}  // namespace quern
