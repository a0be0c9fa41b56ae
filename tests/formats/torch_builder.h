// Builds torch zip files for tests, byte by byte, with every field open to falsification. It shares
// no code with the readers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace quern::testing {

// --- bytes ----------------------------------------------------------------------------------------

// Returns the little-endian bytes of the low `n` bytes of `value`.
std::string Le(uint64_t value, int n);
inline std::string Le16(uint64_t value) { return Le(value, 2); }
inline std::string Le32(uint64_t value) { return Le(value, 4); }
inline std::string Le64(uint64_t value) { return Le(value, 8); }
// Returns the CRC-32 of zip files, one bit at a time.
uint32_t Crc32(std::string_view bytes);

// --- zip ------------------------------------------------------------------------------------------

// One entry. Whatever is set replaces what an honest writer would write.
struct ZipPart {
  std::string name;
  std::string data;
  std::optional<uint16_t> flags, local_flags;
  uint16_t method = 0;
  std::optional<uint16_t> local_method;
  std::optional<uint32_t> crc, local_crc, stored_size, size, local_stored_size, local_size;
  std::optional<uint32_t> local_offset;
  std::optional<std::string> local_name;
  std::string local_extra, extra, descriptor, comment;
  std::string local_signature = "PK\x03\x04";
  uint16_t disk = 0;
  uint32_t attributes = 0;
  bool in_directory = true, has_local = true;
};

struct ZipStyle {
  std::string prefix = {}, comment = {}, tail = {}, before_end = {};
  bool has_zip64 = false;
  // In the end record, and in the zip64 records.
  std::optional<uint64_t> n_entries = {}, directory_size = {}, directory_offset = {};
  std::optional<uint64_t> zip64_n = {}, zip64_size = {}, zip64_offset = {};
  std::optional<uint64_t> zip64_locator = {}, zip64_record_size = {};
};

std::string BuildZip(const std::vector<ZipPart>& parts, const ZipStyle& style = {});

// Returns an entry as PyTorch writes it: flags 0x808, sizes and CRC-32 in the descriptor, data
// aligned to 64 bytes by an "FB" field when the entry begins at `offset`.
ZipPart TorchPart(std::string name, std::string data, uint64_t offset);

// --- pickle ---------------------------------------------------------------------------------------

inline const std::string kProto2 = "\x80\x02";

std::string PkText(std::string_view text);       // BINUNICODE
std::string PkInt(int64_t value);                // BININT1, BININT or LONG1
std::string PkTuple(const std::vector<std::string>& items);
std::string PkGlobal(std::string_view module, std::string_view name);
std::string PkInts(const std::vector<int64_t>& values);  // a tuple

struct PkStorage {
  std::string torch_class = "FloatStorage";
  std::string key = "0";
  int64_t n_elems = 4;
};
std::string PkPersistentId(const PkStorage& storage);
// Returns a call of _rebuild_tensor_v2.
std::string PkTensor(const PkStorage& storage = {}, int64_t offset = 0,
                     const std::vector<int64_t>& shape = {2, 2},
                     const std::vector<int64_t>& strides = {2, 1});
struct PkItem {
  std::string name, value;
};
// Returns a dict as MARK … SETITEMS.
std::string PkDict(const std::vector<PkItem>& items);
// Returns a whole pickle whose object is that dict.
std::string PkStateDict(const std::vector<PkItem>& items);

// --- checkpoints ------------------------------------------------------------------------------------

// Returns "archive/data.pkl", one storage of 16 bytes "archive/data/0" (1, 2, 3, 4 as f32), and
// "archive/version".
std::vector<ZipPart> CheckpointParts(std::string_view pickle);
std::string BuildCheckpoint(std::string_view pickle, const ZipStyle& style = {});

}  // namespace quern::testing
