#include "converters/shard_store.h"

#include <vector>

#include "converters/shard_merge.h"
#include "formats/core/file.h"
#include "formats/torch_checkpoint.h"

namespace quern {
namespace {

class ShardStore final : public TensorStore {
 public:
  explicit ShardStore(const std::string& path)
      : file_(path), shard_(TorchCheckpoint::Open(file_, {.verify_crc = false})) {
    for (const TorchTensor& tensor : shard_.tensors()) {
      if (!tensor.dtype || !IsFloat(*tensor.dtype) || tensor.shape.size() > 2) continue;
      const auto shape = Shape::Make(tensor.shape);
      if (!shape || shape->n_elems() == 0) continue;
      manifest_.tensors.push_back(
          {tensor.name, TensorRole::kOther, std::nullopt, *tensor.dtype, *shape});
      tensors_.push_back(&tensor);
    }
  }

  const Manifest& manifest() const override { return manifest_; }
  const std::string& name() const override { return file_.name(); }
  void ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const override {
    shard_.ReadRows(*tensors_.at(tensor), begin, count, out);
  }
  StoredPlace PlaceOf(size_t tensor, uint64_t row, uint64_t col) const override {
    return {name(), ByteOffsetOf(shard_, *tensors_.at(tensor), row, col)};
  }

 private:
  InputFile file_;  // shard_ refers to it
  TorchCheckpoint shard_;
  std::vector<const TorchTensor*> tensors_;  // into shard_, one per tensor of the manifest
  Manifest manifest_;
};

}  // namespace

std::unique_ptr<TensorStore> OpenShard(const std::string& path) {
  return std::make_unique<ShardStore>(path);
}

}  // namespace quern
