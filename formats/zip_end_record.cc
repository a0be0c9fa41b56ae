#include "formats/zip_end_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>

#include "formats/core/checked.h"
#include "formats/core/error.h"

namespace quern {
namespace {

constexpr uint32_t kZip64EndSignature = 0x06064b50;
constexpr uint32_t kZip64LocatorSignature = 0x07064b50;
constexpr uint32_t kEndSignature = 0x06054b50;
constexpr uint64_t kEndBytes = 22, kZip64EndBytes = 56, kZip64LocatorBytes = 20;
constexpr uint64_t kMaxCommentBytes = 0xFFFF;
// A field of 32 bits that is too small says so with this value; zip64 has the real one.
constexpr uint32_t kIn64 = 0xFFFFFFFF;

// Returns the place of the end record, which must end where the file ends.
uint64_t FindEndRecord(const RandomAccessBytes& bytes) {
  const uint64_t size = bytes.size_bytes();
  const uint64_t tail_size = std::min(size, kEndBytes + kMaxCommentBytes);
  const uint64_t tail_offset = size - tail_size;
  const std::vector<uint8_t> tail = bytes.ReadVector(tail_offset, tail_size);
  std::optional<uint64_t> record, early;  // the record; the last one that ends before the file
  for (uint64_t i = 0; i + kEndBytes <= tail_size; ++i) {
    if (LoadLE<uint32_t>(&tail[i]) != kEndSignature) continue;
    const uint64_t end = i + kEndBytes + LoadLE<uint16_t>(&tail[i + 20]);
    if (end < tail_size) early = i;
    if (end != tail_size) continue;
    if (record) {
      throw ZipError("zip.eocd", "archive has a second end of central directory record", bytes)
          .Offset(tail_offset + i);
    }
    record = i;
  }
  if (record) return tail_offset + *record;
  if (!early) {
    throw ZipError("zip.eocd", "no end of central directory record in the zip archive", bytes)
        .Offset(size)
        .Found(fmt::format("{} bytes", size))
        .Hint("the file is cut off or damaged: compare its size with the original's");
  }
  const uint64_t end = tail_offset + *early + kEndBytes + LoadLE<uint16_t>(&tail[*early + 20]);
  throw ZipError("input.trailing-data", "bytes behind the end of the zip archive", bytes)
      .Offset(end)
      .Found(fmt::format("{} bytes", size - end))
      .Expected("none");
}

// Replaces what the end record says by the zip64 record, with which it must agree.
// Returns the place of the zip64 record.
uint64_t ReadZip64End(const RandomAccessBytes& bytes, uint64_t end_offset,
                      ZipDirectoryPlace& place) {
  const auto refuse = [&](std::string_view what, uint64_t found, uint64_t expected) {
    throw ZipError("zip.zip64", what, bytes)
        .Offset(end_offset - kZip64LocatorBytes)
        .Found(std::to_string(found))
        .Expected(std::to_string(expected));
  };
  const uint64_t locator_offset = end_offset - kZip64LocatorBytes;
  if (locator_offset < kZip64EndBytes) refuse("zip64 end record is missing", 0, kZip64EndBytes);
  const uint64_t record_offset = locator_offset - kZip64EndBytes;
  const std::vector<uint8_t> both = bytes.ReadVector(record_offset, end_offset - record_offset);
  ByteReader locator(ByteView(both).subspan(kZip64EndBytes + 4), bytes.name(), "zip.zip64");
  const uint32_t locator_disk = locator.Read<uint32_t>("locator");
  const uint64_t located = locator.Read<uint64_t>("locator");
  const uint32_t n_disks = locator.Read<uint32_t>("locator");
  if (located != record_offset) {
    refuse("zip64 locator points elsewhere than to a record before it", located, record_offset);
  }
  ByteReader record(both, bytes.name(), "zip.zip64");
  const uint32_t signature = record.Read<uint32_t>("zip64 end record");
  if (signature != kZip64EndSignature) {
    refuse("zip64 end record has a wrong signature", signature, kZip64EndSignature);
  }
  const uint64_t record_bytes = record.Read<uint64_t>("zip64 end record");
  if (record_bytes != kZip64EndBytes - 12) {
    refuse("zip64 end record has a wrong size", record_bytes, kZip64EndBytes - 12);
  }
  record.Take(4, "versions");
  const uint32_t disk = record.Read<uint32_t>("disk"), start_disk = record.Read<uint32_t>("disk");
  if (locator_disk != 0 || disk != 0 || start_disk != 0 || n_disks > 1) {
    throw ZipError("zip.multi-disk", "archive is one of several parts", bytes);
  }
  ZipDirectoryPlace wide;
  const uint64_t n_here = record.Read<uint64_t>("entries");
  wide.n_entries = record.Read<uint64_t>("entries");
  wide.size_bytes = record.Read<uint64_t>("size");
  wide.offset = record.Read<uint64_t>("offset");
  const auto agree = [&](std::string_view what, uint64_t narrow, uint64_t in_64, uint64_t marker) {
    if (narrow != marker && narrow != in_64) refuse(what, in_64, narrow);
  };
  agree("zip64 end record contradicts itself in the number of entries", n_here, wide.n_entries,
        UINT64_MAX);
  agree("zip64 end record disagrees with the end record in the number of entries", place.n_entries,
        wide.n_entries, 0xFFFF);
  agree("zip64 end record disagrees with the end record in the size of the directory",
        place.size_bytes, wide.size_bytes, kIn64);
  agree("zip64 end record disagrees with the end record in the offset of the directory",
        place.offset, wide.offset, kIn64);
  place = wide;
  return record_offset;
}

}  // namespace

Error ZipError(std::string_view id, std::string_view what, const RandomAccessBytes& bytes) {
  return DataError(id, what)
      .File(Escaped(bytes.name(), 4096))
      .Hint("the file is damaged or made to mislead: fetch it again from its publisher");
}

ZipDirectoryPlace FindZipDirectory(const RandomAccessBytes& bytes) {
  const uint64_t end_offset = FindEndRecord(bytes);
  const std::vector<uint8_t> record = bytes.ReadVector(end_offset, kEndBytes);
  ByteReader reader(record, bytes.name(), "zip.eocd", end_offset);
  reader.Take(4, "signature");
  const uint16_t disk = reader.Read<uint16_t>("disk"), start_disk = reader.Read<uint16_t>("disk");
  const uint16_t n_here = reader.Read<uint16_t>("entries");
  ZipDirectoryPlace place;
  place.n_entries = reader.Read<uint16_t>("entries");
  place.size_bytes = reader.Read<uint32_t>("size");
  place.offset = reader.Read<uint32_t>("offset");
  if (disk != 0 || start_disk != 0 || n_here != place.n_entries) {
    throw ZipError("zip.multi-disk", "archive is one of several parts", bytes).Offset(end_offset);
  }
  uint64_t directory_end = end_offset;
  if (end_offset >= kZip64LocatorBytes) {
    const auto signature = bytes.ReadVector(end_offset - kZip64LocatorBytes, 4);
    if (LoadLE<uint32_t>(signature.data()) == kZip64LocatorSignature) {
      directory_end = ReadZip64End(bytes, end_offset, place);
    }
  }
  if (CheckedAdd(place.offset, place.size_bytes) != directory_end) {
    throw ZipError("zip.eocd",
                   "end of central directory record does not fit the directory before it", bytes)
        .Offset(end_offset)
        .Found(fmt::format("offset {} and size {}", place.offset, place.size_bytes))
        .Expected(fmt::format("a directory that ends at {}", directory_end))
        .Hint("something was put before or behind the archive, or it was cut in two");
  }
  // Each entry has a local header too, and a name of at least one byte in both.
  const auto least_bytes = CheckedMul(place.n_entries, kZipCentralBytes + kZipLocalBytes + 2);
  if (!least_bytes || *least_bytes > directory_end) {
    throw ZipError("zip.directory", "central directory claims more entries than the file can hold",
                   bytes)
        .Offset(end_offset)
        .Found(fmt::format("{} entries", place.n_entries));
  }
  return place;
}

}  // namespace quern
