// From the values of a checkpoint's pickle to its tensors: finding the state dict below wrappers,
// checking each tensor against its storage, and making names plain.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "formats/pickle.h"
#include "formats/torch_checkpoint.h"
#include "formats/zip_archive.h"

namespace quern {

inline constexpr size_t kTorchMaxRank = 8;

struct TorchStateDict {
  std::vector<TorchTensor> tensors;
  std::vector<TorchStorage> storages;
};

// Where the storages of a state dict are.
class StorageTable {
 public:
  virtual ~StorageTable() = default;
  virtual const RandomAccessBytes& file() const = 0;
  // Returns the storage in `entry`, of which the pickle says that it has `size_bytes`, or nothing
  // if there is none. One entry is one storage, whose TorchStorage::entry is always the same text.
  virtual std::optional<TorchStorage> Find(std::string_view entry, uint64_t size_bytes) = 0;
};

// Returns the tensors of the pickle's state dict, in its order, and the storages they use.
// `prefix` is the archive's top folder: storages are the entries "<prefix>/data/<key>".
// Throws: as TorchCheckpoint::Open, from "torch.root" on.
TorchStateDict ReadTorchStateDict(const Pickle& pickle, std::string_view prefix,
                                  StorageTable& storages);
// The same for an archive, to whose size the tensors together must be in proportion.
TorchStateDict ReadTorchStateDict(const Pickle& pickle, const ZipArchive& archive,
                                  std::string_view prefix);

// Removes from all names what wrappers put before them: "module." (DistributedDataParallel),
// "_orig_mod." (torch.compile), "_forward_module." (Lightning) where every name has it;
// "_fsdp_wrapped_module." anywhere; "model." where every name has it and Meta's names remain.
void StripWrapperPrefixes(std::span<TorchTensor> tensors);

}  // namespace quern
