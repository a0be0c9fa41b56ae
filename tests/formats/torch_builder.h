// Builds torch zip files for tests, byte by byte, with every field open to falsification. It shares
// no code with the readers.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace quern::testing {

// --- bytes ---

// Returns `value` in `n` little-endian bytes, of which those beyond the eighth are 0.
inline std::string Le(uint64_t value, int n) {
  std::string bytes;
  for (int i = 0; i < n; ++i, value >>= 8) bytes += static_cast<char>(value & 0xFF);
  return bytes;
}
inline std::string Le16(uint64_t value) { return Le(value, 2); }
inline std::string Le32(uint64_t value) { return Le(value, 4); }
inline std::string Le64(uint64_t value) { return Le(value, 8); }
// Returns the CRC-32 of zip files, one bit at a time.
inline uint32_t Crc32(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char c : bytes) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320 : 0);
  }
  return ~crc;
}

// --- zip ---

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

inline std::string BuildZip(const std::vector<ZipPart>& parts, const ZipStyle& style = {}) {
  std::string out = style.prefix;
  std::string directory;
  uint64_t n = 0;
  for (const ZipPart& part : parts) {
    const uint64_t offset = part.local_offset.value_or(static_cast<uint32_t>(out.size()));
    const uint32_t crc = part.crc.value_or(Crc32(part.data));
    const uint16_t flags = part.flags.value_or(0);
    const uint64_t size = part.data.size();
    const std::string local_name = part.local_name.value_or(part.name);
    if (part.has_local) {
      out += part.local_signature + Le16(20) + Le16(part.local_flags.value_or(flags)) +
             Le16(part.local_method.value_or(part.method)) + Le32(0x210000) +
             Le32(part.local_crc.value_or(crc)) + Le32(part.local_stored_size.value_or(size)) +
             Le32(part.local_size.value_or(size)) + Le16(local_name.size()) +
             Le16(part.local_extra.size()) + local_name + part.local_extra + part.data +
             part.descriptor;
    }
    if (!part.in_directory) continue;
    ++n;
    directory += "PK\x01\x02" + Le16(0x0314) + Le16(20) + Le16(flags) + Le16(part.method) +
                 Le32(0x210000) + Le32(crc) + Le32(part.stored_size.value_or(size)) +
                 Le32(part.size.value_or(size)) + Le16(part.name.size()) + Le16(part.extra.size()) +
                 Le16(part.comment.size()) + Le16(part.disk) + Le16(0) + Le32(part.attributes) +
                 Le32(offset) + part.name + part.extra + part.comment;
  }
  const uint64_t directory_offset = out.size();
  out += directory;
  if (style.has_zip64) {
    const uint64_t record = out.size();
    const uint64_t n64 = style.zip64_n.value_or(n);
    out += "PK\x06\x06" + Le64(style.zip64_record_size.value_or(44)) + Le16(45) + Le16(45) +
           Le32(0) + Le32(0) + Le64(n64) + Le64(n64) +
           Le64(style.zip64_size.value_or(directory.size())) +
           Le64(style.zip64_offset.value_or(directory_offset));
    out += "PK\x06\x07" + Le32(0) + Le64(style.zip64_locator.value_or(record)) + Le32(1);
  }
  out += style.before_end;
  const uint64_t n_end = style.n_entries.value_or(n);
  out += "PK\x05\x06" + Le32(0) + Le16(n_end) + Le16(n_end) +
         Le32(style.directory_size.value_or(directory.size())) +
         Le32(style.directory_offset.value_or(directory_offset)) + Le16(style.comment.size()) +
         style.comment;
  return out + style.tail;
}

// Returns an entry as PyTorch writes it: flags 0x808, sizes and CRC-32 in the descriptor, data
// aligned to 64 bytes by an "FB" field when the entry begins at `offset`.
inline ZipPart TorchPart(std::string name, std::string data, uint64_t offset) {
  ZipPart part;
  part.flags = 0x808;
  part.local_crc = part.local_size = part.local_stored_size = 0;
  const uint64_t unpadded = offset + 30 + name.size() + 4;
  part.local_extra = "FB" + Le16((64 - unpadded % 64) % 64);
  part.local_extra += std::string((64 - unpadded % 64) % 64, 'Z');
  part.descriptor = "PK\x07\x08" + Le32(Crc32(data)) + Le32(data.size()) + Le32(data.size());
  part.name = std::move(name);
  part.data = std::move(data);
  return part;
}

// --- pickle ---

inline const std::string kProto2 = "\x80\x02";

// Returns the text as BINUNICODE.
inline std::string PkText(std::string_view text) {
  return "X" + Le32(text.size()) + std::string(text);
}
// Returns the integer as BININT1, BININT or LONG1.
inline std::string PkInt(int64_t value) {
  if (value >= 0 && value < 256) return "K" + Le(static_cast<uint64_t>(value), 1);
  if (value >= INT32_MIN && value <= INT32_MAX) return "J" + Le32(static_cast<uint64_t>(value));
  return "\x8a\x08" + Le64(static_cast<uint64_t>(value));
}
inline std::string PkTuple(const std::vector<std::string>& items) {
  std::string out = "(";
  for (const std::string& item : items) out += item;
  return out + "t";
}
inline std::string PkGlobal(std::string_view module, std::string_view name) {
  return "c" + std::string(module) + "\n" + std::string(name) + "\n";
}
// Returns a tuple of integers.
inline std::string PkInts(const std::vector<int64_t>& values) {
  std::vector<std::string> items;
  for (const int64_t value : values) items.push_back(PkInt(value));
  return PkTuple(items);
}

struct PkStorage {
  std::string torch_class = "FloatStorage";
  std::string key = "0";
  int64_t n_elems = 4;
};
inline std::string PkPersistentId(const PkStorage& storage) {
  return PkTuple({PkText("storage"), PkGlobal("torch", storage.torch_class), PkText(storage.key),
                  PkText("cpu"), PkInt(storage.n_elems)}) +
         "Q";
}
// Returns a call of _rebuild_tensor_v2.
inline std::string PkTensor(const PkStorage& storage = {}, int64_t offset = 0,
                            const std::vector<int64_t>& shape = {2, 2},
                            const std::vector<int64_t>& strides = {2, 1}) {
  return PkGlobal("torch._utils", "_rebuild_tensor_v2") +
         PkTuple({PkPersistentId(storage), PkInt(offset), PkInts(shape), PkInts(strides), "\x89",
                  PkGlobal("collections", "OrderedDict") + ")R"}) +
         "R";
}
struct PkItem {
  std::string name, value;
};
// Returns a dict as MARK … SETITEMS.
inline std::string PkDict(const std::vector<PkItem>& items) {
  std::string out = "}(";
  for (const PkItem& item : items) out += PkText(item.name) + item.value;
  return out + "u";
}
// Returns a whole pickle whose object is that dict.
inline std::string PkStateDict(const std::vector<PkItem>& items) {
  return kProto2 + PkDict(items) + ".";
}

// --- checkpoints ---

// Returns "archive/data.pkl", one storage of 16 bytes "archive/data/0" (1, 2, 3, 4 as f32), and
// "archive/version".
inline std::vector<ZipPart> CheckpointParts(std::string_view pickle) {
  std::string storage;
  for (const float value : {1.f, 2.f, 3.f, 4.f}) storage += Le32(std::bit_cast<uint32_t>(value));
  std::vector<ZipPart> parts(3);
  parts[0].name = "archive/data.pkl";
  parts[0].data = pickle;
  parts[1].name = "archive/data/0";
  parts[1].data = storage;
  parts[2].name = "archive/version";
  parts[2].data = "3\n";
  return parts;
}
inline std::string BuildCheckpoint(std::string_view pickle, const ZipStyle& style = {}) {
  return BuildZip(CheckpointParts(pickle), style);
}

}  // namespace quern::testing
