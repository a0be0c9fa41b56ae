// PyTorch checkpoints (.pth, .pt, .bin): a zip archive with a pickle that describes tensors and one
// entry of raw bytes per storage. Nothing in the pickle is ever executed (formats/pickle.h).
// Source: facts of PyTorch's serialization.py, inline_container.cc and _weights_only_unpickler.py.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/bytes.h"
#include "formats/core/dtype.h"
#include "formats/core/file.h"
#include "formats/zip_archive.h"

namespace quern {

// One tensor of the state dict: a strided view of a storage, all extents checked.
struct TorchTensor {
  std::string name;            // as in the state dict, common wrapper prefixes stripped
  std::optional<DType> dtype;  // nothing where quern has no such type (uint8, bool, complex64, …)
  std::string_view dtype_name;    // torch's: "float16", "bfloat16", "uint8", …
  std::vector<uint64_t> shape;    // rank 0 to 8
  std::vector<uint64_t> strides;  // Units: elements; as many as dimensions
  uint64_t storage_offset_elems = 0;
  uint32_t elem_bytes = 0;
  uint32_t storage = 0;  // index into TorchCheckpoint::storages()

  // The product of all dimensions but the last; 1 for vectors and scalars.
  uint64_t rows() const;
  // The last dimension; 1 for a scalar.
  uint64_t cols() const { return shape.empty() ? 1 : shape.back(); }
  uint64_t n_elems() const { return rows() * cols(); }
  uint64_t row_bytes() const { return cols() * elem_bytes; }
  uint64_t size_bytes() const { return n_elems() * elem_bytes; }
  // Returns true if the elements lie one after the other, in row-major order.
  bool is_contiguous() const;
};

// Raw bytes that one or several tensors are views of.
struct TorchStorage {
  std::string_view entry;  // the zip entry, e.g. "consolidated.00/data/17"
  uint64_t file_offset = 0;
  uint64_t size_bytes = 0;
  uint32_t crc32 = 0;
};

struct TorchOpenOptions {
  // Check the CRC-32 of the pickle, and of each storage as its rows are read, unless the file has
  // none (ZipArchive::has_sums).
  bool verify_crc = true;
};

class TorchCheckpoint {
 public:
  // Recognizes the container, reads the description and checks every extent; reads no weights.
  // The state dict is found below wrappers such as {'model': …, 'optimizer': …}, whose other
  // members are ignored. Requires: `bytes` outlives the checkpoint.
  // Throws: Error kData or kUnsupported: "input.*", "zip.*", "pickle.*", "text.utf8" and
  //   kUnsupported "torch.legacy-format", "torch.tar-format", "torch.preview-format",
  //     "torch.torchscript", "torch.version", "torch.byteorder", "torch.root", "torch.dtype",
  //     "torch.unsupported-tensor";
  //   kData "torch.no-data-pkl", "torch.ambiguous", "torch.version", "torch.byteorder",
  //     "torch.persistent-id", "torch.no-tensors", "torch.tensor-name", "torch.tensor-args",
  //     "torch.too-many-tensors", "torch.duplicate-tensor", "torch.rank", "torch.shape",
  //     "torch.stride", "torch.bounds", "torch.tensor-too-large", "torch.storage-missing",
  //     "torch.storage-size".
  // Cost: memory of the order of the archive's directory and the pickle.
  static TorchCheckpoint Open(const RandomAccessBytes& bytes, const TorchOpenOptions& options = {});

  TorchCheckpoint(TorchCheckpoint&&) = default;
  TorchCheckpoint& operator=(TorchCheckpoint&&) = default;

  const std::string& name() const { return archive_.bytes().name(); }
  const ZipArchive& archive() const { return archive_; }
  // Returns false if the file has no sums to compare (ZipArchive::has_sums).
  bool has_sums() const { return archive_.has_sums(); }
  // In the order of the state dict.
  std::span<const TorchTensor> tensors() const { return tensors_; }
  // Returns the tensor of that name, or nullptr. Cost: logarithmic.
  const TorchTensor* Find(std::string_view tensor_name) const;
  // The storages that the tensors use, in the order of first use.
  std::span<const TorchStorage> storages() const { return storages_; }

  // Copies rows [row_begin, row_begin + row_count) in row-major order, whatever the strides.
  // Contiguous rows are one read. May be called from many threads at once.
  // With TorchOpenOptions::verify_crc, a storage that is read from its first row to its last is
  // summed on the way, and its last row is not given out if the sum is wrong; one that is read in
  // another order is summed as a whole before.
  // Requires: `tensor` is of tensors(); the rows exist; `out` has exactly their bytes.
  // Throws: Error kData "zip.crc" (TorchOpenOptions::verify_crc), "input.truncated"; kSystem.
  // Cost: besides `out`, at most 1 MiB.
  void ReadRows(const TorchTensor& tensor, uint64_t row_begin, uint64_t row_count,
                MutableByteView out) const;

  // Checks the CRC-32 of one storage, unless that was done before or the file has no sums.
  // Throws: Error kData "zip.crc" that names the entry and a tensor in it.
  void VerifyStorageCrc(size_t storage) const;
  // The same for any entry of archive(), whether or not the file has sums.
  void VerifyCrc(const ZipEntry& entry) const;
  // Checks every entry of the archive, in the order of the file, at the speed of the disk; nothing
  // if the file has no sums.
  void VerifyAllCrcs() const;

 private:
  // How far a storage was summed. Guarded by its mutex.
  struct Sum {
    std::mutex mutex;
    bool verified = false;
    uint64_t n_bytes = 0;  // from the storage's beginning
    uint32_t crc32 = 0;
  };

  TorchCheckpoint(ZipArchive archive, bool verify_crc)
      : archive_(std::move(archive)), verify_crc_(verify_crc && archive_.has_sums()) {}

  // Returns whether rows from byte `begin` on of the tensor's storage continue its sum.
  bool ContinuesSum(const TorchTensor& tensor, uint64_t begin) const;
  // Adds what was read from byte `begin` on, and checks the sum when it is complete.
  void AddToSum(size_t storage, uint64_t begin, ByteView bytes) const;
  // Calls `check`; a "zip.crc" about the entry that it throws names the first tensor in it too.
  template <typename Check>
  void NamingTensor(const ZipEntry& entry, const Check& check) const;

  ZipArchive archive_;
  bool verify_crc_;
  std::vector<TorchStorage> storages_;
  std::vector<TorchTensor> tensors_;
  std::vector<uint32_t> by_name_;  // indices of tensors_, sorted by name
  std::unique_ptr<Sum[]> sums_;    // one per storage
};

}  // namespace quern
