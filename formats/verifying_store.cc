#include "formats/verifying_store.h"

#include "formats/core/hash.h"
#include "formats/integrity_trailer.h"

namespace quern {
// A walk that hashes what goes by.
class VerifyingStore::HashingWalk final : public TensorSource {
 public:
  explicit HashingWalk(const VerifyingStore& store) : store_(store), walk_(*store.store_) {}
  const Manifest& manifest() const override { return store_.manifest(); }
  const std::string& name() const override { return store_.name(); }
  uint64_t reading_bytes() const override { return store_.reading_bytes(); }

  std::optional<TensorBand> Next(MutableByteView out) override {
    const auto& hashes = store_.VerifiedHashes();
    const auto band = walk_.Next(out);
    if (!band || hashes.empty() || !hashes[band->tensor]) return band;
    if (band->row_begin == 0) hash_ = Xxh3Stream();
    hash_.Update(band->bytes);
    if (band->row_begin + band->row_count == manifest().tensors[band->tensor].rows()) {
      store_.Compare(band->tensor, hash_.Digest(), *hashes[band->tensor]);
    }
    return band;
  }
  // Each tensor has its own hash: those that nobody wants need not be read.
  void SkipTensors(size_t n, MutableByteView scratch) override { walk_.SkipTensors(n, scratch); }

 private:
  const VerifyingStore& store_;
  StoreWalk walk_;
  Xxh3Stream hash_;  // of the current tensor
};

VerifyingStore::VerifyingStore(std::unique_ptr<const TensorStore> store,
                               const VerifyOptions& options)
    : store_(std::move(store)),
      options_(options),
      tensor_once_(std::make_unique<std::once_flag[]>(store_->manifest().tensors.size())) {}

void VerifyingStore::VerifyFrame() const {
  try {
    store_->VerifyFrame();
  } catch (const Error& error) {
    if (!options_.trust_metadata || error.id() != "trailer.metadata") throw;
  }
}

const std::vector<std::optional<uint64_t>>& VerifyingStore::VerifiedHashes() const {
  std::call_once(frame_once_, [&] {
    VerifyFrame();
    hashes_ = store_->TensorHashes();
    // Tensors without bytes are never read.
    for (size_t i = 0; i < hashes_.size(); ++i) {
      if (hashes_[i] && manifest().tensors[i].size_bytes() == 0) Compare(i, Xxh3({}), *hashes_[i]);
    }
  });
  return hashes_;
}

void VerifyingStore::ReadRows(size_t tensor, uint64_t begin, uint64_t count,
                              MutableByteView out) const {
  const auto& hashes = VerifiedHashes();
  if (!hashes.empty() && hashes[tensor]) {
    std::call_once(tensor_once_[tensor], [&] {
      Compare(tensor, store_->HashTensor(tensor), *hashes[tensor]);
    });
  }
  store_->ReadRows(tensor, begin, count, out);
}

void VerifyingStore::Compare(size_t tensor, uint64_t found, uint64_t expected) const {
  if (found == expected) return;
  const TensorInfo& info = manifest().tensors[tensor];
  if (info.size_bytes() == 0) throw TensorHashError(name(), info.name, {}, found, expected);
  const StoredPlace place = PlaceOf(tensor, 0, 0);
  throw TensorHashError(place.file, info.name, place.byte_offset, found, expected);
}

std::unique_ptr<TensorSource> VerifyingStore::Walk() const {
  return std::make_unique<HashingWalk>(*this);
}

}  // namespace quern
