// The three interfaces every pass is made of: random access to a model, a walk over it, a place to
// put it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/core/manifest.h"

namespace quern {

// Where an element is stored, for messages.
struct StoredPlace {
  std::string file;
  std::optional<uint64_t> byte_offset;  // of the element or of its block; absent if unknown
};

class TensorSource;

// An opened model: a container's reader or a converter over a checkpoint. Immutable after opening;
// ReadRows may be called from many threads at once.
class TensorStore {
 public:
  virtual ~TensorStore() = default;
  virtual const Manifest& manifest() const = 0;
  // The file or folder, for messages.
  virtual const std::string& name() const = 0;
  // Copies `count` rows of tensor `tensor`, from row `begin`, in the tensor's own type.
  // Requires: out.size() == count * row_bytes(); the rows exist.
  // Throws: Error kData if the input is shorter than it was; kSystem if the system cannot read it.
  virtual void ReadRows(size_t tensor, uint64_t begin, uint64_t count,
                        MutableByteView out) const = 0;
  // Returns a walk over the store in manifest order. Requires: the store outlives the walk.
  virtual std::unique_ptr<TensorSource> Walk() const;
  // Returns the XXH3-64 that the bytes of each tensor should have, where the container keeps it;
  // empty where it keeps none at all. ReadRows does not compare (formats/verifying_store.h does).
  // Throws: as ReadRows.
  virtual std::vector<std::optional<uint64_t>> TensorHashes() const { return {}; }
  // Returns the XXH3-64 of a tensor's bytes, read anew. Throws: as ReadRows.
  virtual uint64_t HashTensor(size_t tensor) const;
  // Throws: Error kData where the container keeps hashes and everything but the tensors' bytes does
  // not agree with them.
  virtual void VerifyFrame() const {}
  // Units: bytes that reading takes at most, beside the caller's buffers.
  virtual uint64_t reading_bytes() const { return 0; }
  // Returns the file and place of an element. Stores over several files override it.
  // Requires: the element exists.
  virtual StoredPlace PlaceOf(size_t /*tensor*/, uint64_t /*row*/, uint64_t /*col*/) const {
    return {name(), std::nullopt};
  }
};

// A model in motion: bands in manifest order, each tensor's rows in order, none missing.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual const Manifest& manifest() const = 0;
  virtual const std::string& name() const = 0;
  // Fills `out` with the next rows: as many whole rows of one tensor as fit, at least one.
  // Returns the band (its bytes point into `out`), or nothing after the last one.
  // Requires: out.size() >= row_bytes() of every tensor.
  // Throws: as ReadRows; a stream that ends early is kData and names the tensor.
  virtual std::optional<TensorBand> Next(MutableByteView out) = 0;
  // Goes on with the tensor behind the first `n`. This one reads over them; sources that need not
  // see all bytes override it.
  // Requires: Next was not called yet; scratch.size() as for Next. Throws: as Next.
  virtual void SkipTensors(size_t n, MutableByteView scratch);
  // Units: bytes that reading takes at most, beside the caller's buffers.
  virtual uint64_t reading_bytes() const { return 0; }
};

// Where a model goes. Begin once, Put every band in order, Finish once. A sink that is destroyed
// without Finish abandons: no file appears.
class TensorSink {
 public:
  virtual ~TensorSink() = default;
  virtual void Begin(const Manifest& manifest) = 0;
  // The number of tensors that the sink has already when Begin returns: their bands are not put.
  virtual size_t n_present() const { return 0; }
  virtual void Put(const TensorBand& band) = 0;
  virtual void Finish() = 0;
};

// A TensorSource that walks over a store in manifest order.
class StoreWalk final : public TensorSource {
 public:
  // Requires: `store` outlives the walk.
  explicit StoreWalk(const TensorStore& store) : store_(store) {}
  const Manifest& manifest() const override { return store_.manifest(); }
  const std::string& name() const override { return store_.name(); }
  std::optional<TensorBand> Next(MutableByteView out) override;
  void SkipTensors(size_t n, MutableByteView /*scratch*/) override { tensor_ = n; }
  uint64_t reading_bytes() const override { return store_.reading_bytes(); }

 private:
  const TensorStore& store_;
  size_t tensor_ = 0;
  uint64_t row_ = 0;
};

}  // namespace quern
