// A model whose tensors are compared with the hashes that its container keeps, before anybody acts
// on them: every pass that reads rows is given one.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "formats/core/stream.h"

namespace quern {

struct VerifyOptions {
  // Take the metadata as they are where only they differ from what was written: a tool edited them
  // in place, which damage of theirs cannot be told from.
  bool trust_metadata = false;
};

// A tensor is hashed as a whole when its first rows are asked for, which takes one more read of
// it, mostly from the page cache; a walk hashes it as it goes by, and does not give its last rows
// where it differs. What has no hashes is read as it is.
class VerifyingStore final : public TensorStore {
 public:
  explicit VerifyingStore(std::unique_ptr<const TensorStore> store,
                          const VerifyOptions& options = {});

  const Manifest& manifest() const override { return store_->manifest(); }
  const std::string& name() const override { return store_->name(); }
  // Throws: as the store; Error kData "trailer.*" where tensor or header are not what was written.
  void ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const override;
  // Its Next throws as ReadRows.
  std::unique_ptr<TensorSource> Walk() const override;
  StoredPlace PlaceOf(size_t tensor, uint64_t row, uint64_t col) const override {
    return store_->PlaceOf(tensor, row, col);
  }
  std::vector<std::optional<uint64_t>> TensorHashes() const override {
    return store_->TensorHashes();
  }
  uint64_t HashTensor(size_t tensor) const override { return store_->HashTensor(tensor); }
  void VerifyFrame() const override;
  uint64_t reading_bytes() const override { return store_->reading_bytes(); }

 private:
  class HashingWalk;

  // Verifies everything but the tensors, once, and returns their hashes.
  const std::vector<std::optional<uint64_t>>& VerifiedHashes() const;
  void Compare(size_t tensor, uint64_t found, uint64_t expected) const;

  std::unique_ptr<const TensorStore> store_;
  VerifyOptions options_;
  mutable std::once_flag frame_once_;
  mutable std::vector<std::optional<uint64_t>> hashes_;
  std::unique_ptr<std::once_flag[]> tensor_once_;
};

}  // namespace quern
