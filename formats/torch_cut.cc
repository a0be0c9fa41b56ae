#include "formats/torch_cut.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <vector>

#include "formats/core/checked.h"
#include "formats/core/error.h"
#include "formats/pickle.h"
#include "formats/torch_globals.h"
#include "formats/torch_state_dict.h"
#include "formats/zip_end_record.h"

namespace quern {
namespace {

constexpr std::string_view kLocalSignature = "PK\x03\x04", kDescriptorSignature = "PK\x07\x08";
// A descriptor as PyTorch writes it: signature, CRC-32, two sizes, which are wide in entries with
// an extra field of zip64.
constexpr uint64_t kDescriptorBytes = 16, kWideDescriptorBytes = 24;
// A pickle has about 100 bytes per tensor: this is more than any model needs.
constexpr uint64_t kMaxPickleBytes = uint64_t{64} << 20;
// The other records ("version", "byteorder") have a few bytes.
constexpr uint64_t kMaxRecordBytes = 4096;

// A local header, of which PyTorch leaves the sizes to the descriptor behind the data.
struct LocalHeader {
  std::string name;
  uint64_t data_offset = 0;
  bool is_wide = false;
  uint64_t descriptor_bytes() const { return is_wide ? kWideDescriptorBytes : kDescriptorBytes; }
};

// Returns nothing if there is no whole local header at `offset`.
std::optional<LocalHeader> ReadHeader(const RandomAccessBytes& bytes, uint64_t offset) {
  if (!FitsWithin(offset, kZipLocalBytes, bytes.size_bytes())) return std::nullopt;
  const std::vector<uint8_t> fixed = bytes.ReadVector(offset, kZipLocalBytes);
  if (!AsText(fixed).starts_with(kLocalSignature)) return std::nullopt;
  const uint64_t name_bytes = LoadLE<uint16_t>(&fixed[26]), extra_bytes = LoadLE<uint16_t>(&fixed[28]);
  if (!FitsWithin(offset + kZipLocalBytes, name_bytes + extra_bytes, bytes.size_bytes())) {
    return std::nullopt;
  }
  const auto rest = bytes.ReadVector(offset + kZipLocalBytes, name_bytes + extra_bytes);
  LocalHeader header;
  header.name = AsText(rest).substr(0, name_bytes);
  header.data_offset = offset + kZipLocalBytes + name_bytes + extra_bytes;
  // PyTorch puts zip64's field, if there is one, before the padding.
  header.is_wide = extra_bytes >= 4 && LoadLE<uint16_t>(&rest[name_bytes]) == 1;
  return header;
}

// Returns the size of the record whose data begins at `offset`, as its descriptor tells: it is
// where it says that it is. Returns nothing if there is none within `max_bytes`.
// Cost: twice the record's bytes, or `max_bytes`.
std::optional<uint64_t> RecordBytes(const RandomAccessBytes& bytes, const LocalHeader& header,
                                    uint64_t max_bytes) {
  max_bytes = std::min(bytes.size_bytes() - header.data_offset, max_bytes);
  for (uint64_t n = std::min<uint64_t>(max_bytes, 4096);; n = std::min(max_bytes, 4 * n)) {
    const std::vector<uint8_t> window = bytes.ReadVector(header.data_offset, n);
    const std::string_view text = AsText(window);
    for (size_t at = text.find(kDescriptorSignature); at != text.npos;
         at = text.find(kDescriptorSignature, at + 1)) {
      if (n - at >= kDescriptorBytes && LoadLE<uint32_t>(&window[at + 8]) == at) return at;
    }
    if (n == max_bytes) return std::nullopt;
  }
}

// Storages of which only the pickle tells.
class DeclaredStorages final : public StorageTable {
 public:
  explicit DeclaredStorages(const RandomAccessBytes& file) : file_(file) {}
  const RandomAccessBytes& file() const override { return file_; }
  std::optional<TorchStorage> Find(std::string_view entry, uint64_t size_bytes) override {
    const auto [it, is_new] = storages_.emplace(entry, TorchStorage{});
    if (is_new) it->second = {it->first, 0, size_bytes, 0};
    return it->second;
  }
  size_t size() const { return storages_.size(); }
  // Returns the size of a storage, or nothing if the pickle has none of that name.
  std::optional<uint64_t> SizeOf(const std::string& entry) const {
    const auto it = storages_.find(entry);
    return it == storages_.end() ? std::nullopt : std::optional(it->second.size_bytes);
  }

 private:
  const RandomAccessBytes& file_;
  std::map<std::string, TorchStorage> storages_;
};

// Follows the entries from `offset` on and returns the storage that reaches beyond the end of the
// file, or "" if it is not to be found.
std::string FindCutStorage(const RandomAccessBytes& bytes, uint64_t offset,
                           const DeclaredStorages& storages) {
  constexpr size_t kMaxRecords = 64;  // beside the storages
  for (size_t i = 0; i < storages.size() + kMaxRecords; ++i) {
    const auto header = ReadHeader(bytes, offset);
    if (!header) return "";
    auto size = storages.SizeOf(header->name);
    if (size && !FitsWithin(header->data_offset, *size, bytes.size_bytes())) return header->name;
    if (!size) size = RecordBytes(bytes, *header, kMaxRecordBytes);
    if (!size) return "";
    // Inside the file, so that nothing overflows. (An empty entry has no descriptor.)
    offset = header->data_offset + *size + (*size == 0 ? 0 : header->descriptor_bytes());
  }
  return "";
}

std::optional<TorchCut> Find(const RandomAccessBytes& bytes) {
  constexpr std::string_view kPickleName = "/data.pkl";
  const auto first = ReadHeader(bytes, 0);
  if (!first || !first->name.ends_with(kPickleName)) return std::nullopt;
  const auto pickle_bytes = RecordBytes(bytes, *first, kMaxPickleBytes);
  if (!pickle_bytes) return std::nullopt;
  const Pickle pickle = Pickle::Parse(bytes.ReadVector(first->data_offset, *pickle_bytes),
                                      AllowedTorchGlobals(), bytes.name(), first->name);
  const std::string prefix = first->name.substr(0, first->name.size() - kPickleName.size());
  DeclaredStorages storages(bytes);
  const TorchStateDict state = ReadTorchStateDict(pickle, prefix, storages);

  const uint64_t pickle_end = first->data_offset + *pickle_bytes + first->descriptor_bytes();
  std::optional<uint64_t> expected = pickle_end;
  for (const TorchStorage& storage : state.storages) {
    if (expected) expected = CheckedAdd(*expected, storage.size_bytes);
  }
  if (!expected || *expected <= bytes.size_bytes()) return std::nullopt;
  TorchCut cut{*expected, FindCutStorage(bytes, pickle_end, storages), ""};
  const auto tensor = std::ranges::find_if(state.tensors, [&](const TorchTensor& t) {
    return state.storages[t.storage].entry == cut.entry;
  });
  if (tensor != state.tensors.end()) cut.tensor = tensor->name;
  return cut;
}

}  // namespace

std::optional<TorchCut> FindTorchCut(const RandomAccessBytes& bytes) {
  try {
    return Find(bytes);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kSystem) throw;
    return std::nullopt;  // its beginning is damaged too
  }
}

}  // namespace quern
