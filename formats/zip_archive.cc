#include "formats/zip_archive.h"

#include <fmt/format.h>
#include <libdeflate.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>

#include "formats/core/check.h"
#include "formats/core/checked.h"
#include "formats/core/error.h"
#include "formats/zip_end_record.h"

namespace quern {
namespace {

constexpr uint32_t kLocalSignature = 0x04034b50;
constexpr uint32_t kCentralSignature = 0x02014b50;
constexpr uint32_t kDescriptorSignature = 0x08074b50;

constexpr uint16_t kFlagEncrypted = 0x1;
constexpr uint16_t kFlagDescriptor = 0x8;  // sizes and CRC-32 follow the data
constexpr uint16_t kFlagUtf8 = 0x800;
// A field of 32 bits that is too small says so with this value; zip64 has the real one.
constexpr uint32_t kIn64 = 0xFFFFFFFF;
constexpr uint16_t kZip64Extra = 0x0001;

constexpr size_t kCrcBufferBytes = size_t{1} << 20;

// What the directory says of an entry besides ZipEntry.
struct LocalPlace {
  uint64_t offset = 0;  // of the local header
  uint16_t flags = 0;
};

Error EntryError(std::string_view id, std::string_view what, const RandomAccessBytes& bytes,
                 std::string_view entry) {
  return ZipError(id, what, bytes).Where("entry " + Quoted(entry));
}

// The zip64 field among the extra fields of an entry: the values too large for their own fields.
class Zip64Field {
 public:
  // Throws: Error of `id` if the extra fields are malformed, here and in Next.
  Zip64Field(ByteView extra, std::string_view id, const RandomAccessBytes& bytes,
             std::string_view entry)
      : id_(id), bytes_(bytes), entry_(entry) {
    while (!extra.empty()) {
      if (extra.size() < 4) Refuse("extra fields of the entry end early");
      const uint16_t field_id = LoadLE<uint16_t>(extra.data());
      const uint16_t size = LoadLE<uint16_t>(extra.data() + 2);
      if (size > extra.size() - 4) Refuse("extra field of the entry is longer than all of them");
      if (field_id == kZip64Extra) {
        if (present_) Refuse("entry has two zip64 fields");
        present_ = true;
        values_ = extra.subspan(4, size);
      }
      extra = extra.subspan(4 + size_t{size});
    }
  }
  bool present() const { return present_; }
  bool used_up() const { return values_.empty(); }
  // Returns the next value, of type T.
  template <typename T>
  T Next() {
    if (values_.size() < sizeof(T)) Refuse("zip64 field of the entry lacks a value");
    const T value = LoadLE<T>(values_.data());
    values_ = values_.subspan(sizeof(T));
    return value;
  }

 private:
  [[noreturn]] void Refuse(std::string_view what) const {
    throw EntryError(id_, what, bytes_, entry_);
  }

  std::string_view id_;
  const RandomAccessBytes& bytes_;
  std::string_view entry_;
  bool present_ = false;
  ByteView values_;
};

// Returns the folder in which PyTorch puts every entry: what stands before the first "/".
std::string_view TopFolder(std::string_view name) {
  return name.substr(0, std::min(name.find('/'), name.size()));
}

// `top` is the top folder of the archive's first entry. PyTorch names it after the file that it
// saves to ("C:.pth", "..pth"), so that it may look like the beginning of a path.
void CheckName(std::string_view name, std::string_view top, const RandomAccessBytes& bytes) {
  const auto refuse = [&](std::string_view what) {
    throw EntryError("zip.name", what, bytes, name);
  };
  if (name.empty()) refuse("entry has an empty name");
  if (name.find('\0') != std::string_view::npos) refuse("name of an entry contains NUL");
  if (name.find('\\') != std::string_view::npos) refuse("name of an entry contains a backslash");
  if (!IsUtf8(name)) refuse("name of an entry is no valid UTF-8");
  if (name.front() == '/') refuse("name of an entry is an absolute path");
  const bool is_in_top = TopFolder(name) == top && name.size() > top.size();
  if (!is_in_top && name.size() > 1 && name[1] == ':') {
    refuse("name of an entry is a path with a drive");
  }
  for (size_t begin = is_in_top && top != ".." ? top.size() + 1 : 0; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    if (part == ".." || part == ".") refuse("name of an entry is a path out of the archive");
    begin = end + 1;
  }
}

void CheckFlags(uint16_t flags, const RandomAccessBytes& bytes, std::string_view entry) {
  if ((flags & kFlagEncrypted) != 0) {
    throw EntryError("zip.flags", "entry is encrypted", bytes, entry);
  }
  if ((flags & ~(kFlagDescriptor | kFlagUtf8)) != 0) {
    throw EntryError("zip.flags", "entry has flags that PyTorch never sets", bytes, entry)
        .Found(fmt::format("{:#x}", flags))
        .Expected("0, 0x8, 0x800 or 0x808");
  }
}

// Reads one record of the central directory: everything that can be checked without its data.
// `top` is the top folder of the first entry; nothing for that entry itself.
ZipEntry ReadCentralEntry(ByteReader& reader, const RandomAccessBytes& bytes,
                          std::optional<std::string_view> top, LocalPlace& local) {
  const uint64_t offset = reader.offset();
  if (reader.Read<uint32_t>("a central directory record") != kCentralSignature) {
    throw ZipError("zip.directory", "central directory record has a wrong signature", bytes)
        .Offset(offset);
  }
  const auto read16 = [&] { return reader.Read<uint16_t>("a central directory record"); };
  const auto read32 = [&] { return reader.Read<uint32_t>("a central directory record"); };
  const uint16_t made_by = read16();
  read16();  // version needed
  local.flags = read16();
  ZipEntry entry;
  entry.method = read16();
  read32();  // time and date
  entry.crc32 = read32();
  entry.size_bytes = read32();
  uint64_t unpacked_bytes = read32();
  const uint16_t name_bytes = read16(), extra_bytes = read16(), comment_bytes = read16();
  uint32_t disk = read16();
  read16();  // internal attributes
  const uint32_t attributes = read32();
  local.offset = read32();
  entry.name = AsText(reader.Take(name_bytes, "a name in the central directory"));
  const ByteView extra = reader.Take(extra_bytes, "extra fields in the central directory");
  reader.Take(comment_bytes, "a comment in the central directory");

  CheckName(entry.name, top.value_or(TopFolder(entry.name)), bytes);
  CheckFlags(local.flags, bytes, entry.name);
  Zip64Field wide(extra, "zip.directory", bytes, entry.name);
  if (unpacked_bytes == kIn64) unpacked_bytes = wide.Next<uint64_t>();
  if (entry.size_bytes == kIn64) entry.size_bytes = wide.Next<uint64_t>();
  if (local.offset == kIn64) local.offset = wide.Next<uint64_t>();
  if (disk == 0xFFFF) disk = wide.Next<uint32_t>();
  if (!wide.used_up()) {
    throw EntryError("zip.zip64", "zip64 field has values that no other field asks for", bytes,
                     entry.name);
  }
  if (disk != 0) {
    throw EntryError("zip.multi-disk", "entry is in another part of the archive", bytes,
                     entry.name);
  }
  constexpr uint32_t kUnix = 3, kTypeMask = 0170000, kSymbolicLink = 0120000;
  if (made_by >> 8 == kUnix && (attributes >> 16 & kTypeMask) == kSymbolicLink) {
    throw EntryError("zip.file-type", "entry is a symbolic link", bytes, entry.name);
  }
  if (entry.method == 0 && unpacked_bytes != entry.size_bytes) {
    throw EntryError("zip.directory", "stored entry has two sizes", bytes, entry.name)
        .Found(fmt::format("{} and {} bytes", unpacked_bytes, entry.size_bytes));
  }
  if (entry.name.back() == '/' && entry.size_bytes != 0) {
    throw EntryError("zip.name", "folder has data", bytes, entry.name);
  }
  return entry;
}

// Checks one local header against its entry and sets the entry's data_offset.
// `limit` is where the next entry or the directory begins.
void ReadLocalHeader(const RandomAccessBytes& bytes, const LocalPlace& local, uint64_t limit,
                     ZipEntry& entry) {
  const auto refuse = [&](std::string_view what) {
    throw EntryError("zip.local-mismatch", what, bytes, entry.name)
        .Offset(local.offset)
        .Expected("what the central directory says");
  };
  const uint64_t fixed_bytes = kZipLocalBytes + entry.name.size();
  constexpr uint64_t kUsualExtraBytes = 128;  // PyTorch pads with up to 67
  std::vector<uint8_t> header = bytes.ReadVector(
      local.offset, std::min(fixed_bytes + kUsualExtraBytes, limit - local.offset));
  const uint8_t* h = header.data();
  if (LoadLE<uint32_t>(h) != kLocalSignature) refuse("local header has a wrong signature");
  if (LoadLE<uint16_t>(h + 6) != local.flags) refuse("flags differ in the local header");
  if (LoadLE<uint16_t>(h + 8) != entry.method)
    refuse("compression method differs in the local header");
  const uint32_t crc = LoadLE<uint32_t>(h + 14);
  const uint32_t sizes[] = {LoadLE<uint32_t>(h + 22), LoadLE<uint32_t>(h + 18)};
  const uint64_t extra_bytes = LoadLE<uint16_t>(h + 28);
  if (LoadLE<uint16_t>(h + 26) != entry.name.size() ||
      AsText(ByteView(header).subspan(kZipLocalBytes, entry.name.size())) != entry.name) {
    refuse("name differs in the local header");
  }
  if (fixed_bytes + extra_bytes > limit - local.offset) {
    refuse("local header reaches beyond the entry");
  }
  if (fixed_bytes + extra_bytes > header.size()) {
    header = bytes.ReadVector(local.offset, fixed_bytes + extra_bytes);
  }
  Zip64Field wide(ByteView(header).subspan(fixed_bytes, extra_bytes), "zip.local-mismatch", bytes,
                  entry.name);
  // With a descriptor behind the data, the local header may leave CRC-32 and sizes at zero.
  const bool may_be_zero = (local.flags & kFlagDescriptor) != 0;
  for (const uint32_t size : sizes) {
    const uint64_t value = size == kIn64 && wide.present() ? wide.Next<uint64_t>() : size;
    const bool left_out = may_be_zero && (value == 0 || value == kIn64);
    const bool is_true = entry.method != 0 || value == entry.size_bytes;
    if (!is_true && !left_out) refuse("size differs in the local header");
  }
  if (crc != entry.crc32 && !(may_be_zero && crc == 0)) {
    refuse("CRC-32 differs in the local header");
  }
  entry.data_offset = local.offset + fixed_bytes + extra_bytes;
}

// Checks that a descriptor of `size` bytes says what the directory says.
// Source: APPNOTE.TXT, 4.3.9: signature (or none), CRC-32, two sizes of 32 or of 64 bits.
void CheckDescriptor(const RandomAccessBytes& bytes, const ZipEntry& entry, uint64_t offset,
                     uint64_t size) {
  const auto refuse = [&](std::string_view what) {
    throw EntryError("zip.local-mismatch", what, bytes, entry.name)
        .Offset(offset)
        .Expected("what the central directory says");
  };
  const std::vector<uint8_t> descriptor = bytes.ReadVector(offset, size);
  const uint8_t* d = descriptor.data();
  if (size % 8 == 0) {  // 16 or 24 bytes, with the signature
    if (LoadLE<uint32_t>(d) != kDescriptorSignature) refuse("descriptor has a wrong signature");
    d += 4;
  }
  if (LoadLE<uint32_t>(d) != entry.crc32) refuse("CRC-32 differs in the descriptor");
  d += 4;
  const bool is_wide = size >= 20;
  const uint64_t stored = is_wide ? LoadLE<uint64_t>(d) : LoadLE<uint32_t>(d);
  const uint64_t unpacked = is_wide ? LoadLE<uint64_t>(d + 8) : LoadLE<uint32_t>(d + 4);
  if (stored != entry.size_bytes || (entry.method == 0 && unpacked != stored)) {
    refuse("size differs in the descriptor");
  }
}

// Checks that the bytes between the data of one entry and the next are a descriptor or nothing.
void CheckGap(const RandomAccessBytes& bytes, const LocalPlace& local, const ZipEntry& entry,
              uint64_t next) {
  const uint64_t end = entry.data_offset + entry.size_bytes;
  const uint64_t gap = next - end;
  if (gap == 0) return;
  if ((local.flags & kFlagDescriptor) != 0 && (gap == 12 || gap == 16 || gap == 20 || gap == 24)) {
    return CheckDescriptor(bytes, entry, end, gap);
  }
  throw EntryError("zip.hidden-bytes", "bytes behind this entry belong to no entry", bytes,
                   entry.name)
      .Offset(end)
      .Found(fmt::format("{} bytes", gap))
      .Expected("none");
}

// Checks local headers and extents in the order of the file.
void ReadLocalHeaders(const RandomAccessBytes& bytes, const std::vector<LocalPlace>& locals,
                      uint64_t directory_offset, std::vector<ZipEntry>& entries) {
  std::vector<uint32_t> order(entries.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return locals[a].offset < locals[b].offset; });
  const auto next_of = [&](size_t k) {
    return k + 1 < order.size() ? locals[order[k + 1]].offset : directory_offset;
  };
  const auto overlap = [&](size_t k) {
    return EntryError("zip.overlap", "entries overlap in the file", bytes,
                      entries[std::max(order[k], order[k + 1])].name)
        .Offset(locals[order[k + 1]].offset)
        .Found("the bytes of entry " + Quoted(entries[std::min(order[k], order[k + 1])].name));
  };
  // First what needs no reading: an entry inside another may have any local header.
  for (size_t k = 0; k < order.size(); ++k) {
    const ZipEntry& entry = entries[order[k]];
    const uint64_t header_bytes = kZipLocalBytes + entry.name.size();
    const auto least = CheckedAdd(header_bytes, entry.size_bytes);
    if (!least || !FitsWithin(locals[order[k]].offset, *least, directory_offset)) {
      throw EntryError("zip.entry-past-eof", "entry reaches beyond the data of the archive", bytes,
                       entry.name)
          .Offset(locals[order[k]].offset)
          .Found(fmt::format("{} bytes", entry.size_bytes));
    }
  }
  for (size_t k = 0; k + 1 < order.size(); ++k) {
    const ZipEntry& entry = entries[order[k]];
    const uint64_t least = kZipLocalBytes + entry.name.size() + entry.size_bytes;
    if (next_of(k) - locals[order[k]].offset < least) throw overlap(k);
  }
  const uint64_t first = order.empty() ? directory_offset : locals[order[0]].offset;
  if (first != 0) {
    throw ZipError("zip.eocd", "bytes before the first entry of the archive", bytes)
        .Found(fmt::format("{} bytes", first))
        .Expected("none");
  }
  for (size_t k = 0; k < order.size(); ++k) {
    ZipEntry& entry = entries[order[k]];
    const uint64_t next = next_of(k);
    ReadLocalHeader(bytes, locals[order[k]], directory_offset, entry);
    if (!FitsWithin(entry.data_offset, entry.size_bytes, next)) {
      if (next != directory_offset) throw overlap(k);
      throw EntryError("zip.entry-past-eof", "entry reaches beyond the data of the archive", bytes,
                       entry.name)
          .Offset(entry.data_offset)
          .Found(fmt::format("{} bytes", entry.size_bytes));
    }
    CheckGap(bytes, locals[order[k]], entry, next);
  }
}

}  // namespace

Error NoZipSums(const std::string& file) {
  return DataError("zip.no-sums", "file has no sums, so damage to its data cannot be told")
      .File(Escaped(file, 4096))
      .Found("CRC-32 0 for every entry")
      .Hint("whoever saved it had called torch.serialization.set_crc32_options(False)");
}

ZipArchive ZipArchive::Open(const RandomAccessBytes& bytes) {
  ZipArchive archive(bytes);
  const ZipDirectoryPlace place = FindZipDirectory(bytes);
  archive.directory_ = bytes.ReadVector(place.offset, place.size_bytes);
  ByteReader reader(archive.directory_, Escaped(bytes.name(), 4096), "zip.directory", place.offset);
  std::vector<LocalPlace> locals(place.n_entries);
  archive.entries_.reserve(place.n_entries);
  std::optional<std::string_view> top;
  for (LocalPlace& local : locals) {
    archive.entries_.push_back(ReadCentralEntry(reader, bytes, top, local));
    if (!top) top = TopFolder(archive.entries_.front().name);
  }
  if (reader.remaining() != 0) {
    throw ZipError("zip.directory", "central directory is larger than its entries", bytes)
        .Offset(reader.offset())
        .Found(fmt::format("{} bytes", reader.remaining()));
  }
  const auto& entries = archive.entries_;
  auto& by_name = archive.by_name_;
  by_name.resize(entries.size());
  std::iota(by_name.begin(), by_name.end(), 0u);
  const auto less = [&](uint32_t a, uint32_t b) { return entries[a].name < entries[b].name; };
  std::sort(by_name.begin(), by_name.end(), less);
  const auto equal = [&](uint32_t a, uint32_t b) { return entries[a].name == entries[b].name; };
  const auto twice = std::adjacent_find(by_name.begin(), by_name.end(), equal);
  if (twice != by_name.end()) {
    throw EntryError("zip.duplicate-entry", "archive has the same entry twice", bytes,
                     entries[*twice].name);
  }
  ReadLocalHeaders(bytes, locals, place.offset, archive.entries_);
  return archive;
}

const ZipEntry* ZipArchive::Find(std::string_view name) const {
  const auto it =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [&](uint32_t i, std::string_view key) { return entries_[i].name < key; });
  return it != by_name_.end() && entries_[*it].name == name ? &entries_[*it] : nullptr;
}

bool ZipArchive::has_sums() const {
  return std::ranges::any_of(entries_, [](const ZipEntry& entry) { return entry.crc32 != 0; });
}

void ZipArchive::RequireStored() const {
  for (const ZipEntry& entry : entries_) {
    if (entry.method == 0) continue;
    throw UnsupportedError("zip.method", "entry is compressed")
        .File(Escaped(bytes_->name(), 4096))
        .Where("entry " + Quoted(entry.name))
        .Found(fmt::format("method {}{}", entry.method, entry.method == 8 ? " (deflate)" : ""))
        .Expected("method 0 (stored)")
        .Hint(
            "another program packed this file anew: unpack it and store it without compression "
            "(zip -0 -r), or save it again with torch.save");
  }
}

std::vector<uint8_t> ZipArchive::Read(const ZipEntry& entry, bool verify_crc) const {
  QUERN_CHECK(entry.method == 0);
  std::vector<uint8_t> data = bytes_->ReadVector(entry.data_offset, entry.size_bytes);
  if (verify_crc) CheckCrc(entry, libdeflate_crc32(0, data.data(), data.size()));
  return data;
}

void ZipArchive::CheckCrc(const ZipEntry& entry, uint32_t crc) const {
  if (crc == entry.crc32) return;
  throw EntryError("zip.crc", "data does not match its CRC-32", *bytes_, entry.name)
      .Offset(entry.data_offset)
      .Found(fmt::format("{:08x}", crc))
      .Expected(fmt::format("{:08x}", entry.crc32))
      .Hint("the file is damaged: fetch it again");
}

void ZipArchive::VerifyCrc(const ZipEntry& entry) const {
  QUERN_CHECK(entry.method == 0);
  std::vector<uint8_t> buffer(std::min<uint64_t>(entry.size_bytes, kCrcBufferBytes));
  uint32_t crc = 0;
  for (uint64_t done = 0; done < entry.size_bytes;) {
    const uint64_t n = std::min<uint64_t>(buffer.size(), entry.size_bytes - done);
    bytes_->ReadAt(entry.data_offset + done, MutableByteView(buffer).first(n));
    crc = libdeflate_crc32(crc, buffer.data(), n);
    done += n;
  }
  CheckCrc(entry, crc);
}

}  // namespace quern
