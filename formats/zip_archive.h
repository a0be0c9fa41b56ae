// A strict reader of zip archives: what PyTorch writes, and nothing that two readers could
// understand differently.
//
// Only stored entries can be read. Refused: a prefix, bytes behind the end record, bytes between
// entries that belong to none, overlapping or duplicate entries, a local header that disagrees with
// the central directory, encryption, symbolic links, names that are paths out of the archive. Every
// extent is checked against the file before it is used. Alignment and timestamps are ignored.
// Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 to 4.5.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/error.h"
#include "formats/core/file.h"

namespace quern {

struct ZipEntry {
  std::string_view name;  // lives as long as the archive
  uint64_t data_offset = 0;
  uint64_t size_bytes = 0;  // in the archive
  uint32_t crc32 = 0;
  uint16_t method = 0;  // 0: stored; any other cannot be read
};

// Returns the warning about an archive without sums (ZipArchive::has_sums).
Error NoZipSums(const std::string& file);

class ZipArchive {
 public:
  // Reads and checks the directory and every local header, but no data.
  // Requires: `bytes` outlives the archive.
  // Throws: Error kData "zip.eocd", "zip.zip64", "zip.directory", "zip.name", "zip.flags",
  // "zip.duplicate-entry", "zip.local-mismatch", "zip.overlap", "zip.entry-past-eof",
  // "zip.hidden-bytes", "zip.file-type", "zip.multi-disk", "input.trailing-data".
  // Cost: one read for the directory and one per entry; memory of the order of the directory.
  static ZipArchive Open(const RandomAccessBytes& bytes);

  ZipArchive(ZipArchive&&) = default;
  ZipArchive& operator=(ZipArchive&&) = default;

  const RandomAccessBytes& bytes() const { return *bytes_; }
  // In the order of the central directory.
  std::span<const ZipEntry> entries() const { return entries_; }
  // Returns the entry of that name, or nullptr. Cost: logarithmic.
  const ZipEntry* Find(std::string_view name) const;

  // Returns false if every CRC-32 is 0: whoever wrote the archive left the sums out (PyTorch does
  // after torch.serialization.set_crc32_options(False)), and damage to its data goes unseen.
  bool has_sums() const;

  // Throws: Error kUnsupported "zip.method" that names the first entry that is not stored, if any.
  void RequireStored() const;
  // Returns the whole data of a small entry, its CRC-32 checked if `verify_crc`.
  // Requires: a stored entry, as VerifyCrc does.
  // Throws: Error kData "zip.crc".
  std::vector<uint8_t> Read(const ZipEntry& entry, bool verify_crc = true) const;
  // Reads the entry's data at full bandwidth in bounded memory and checks its CRC-32.
  // Throws: Error kData "zip.crc" that names the entry and both values.
  void VerifyCrc(const ZipEntry& entry) const;
  // Compares the entry's CRC-32 with one that was computed while its data was read.
  // Throws: Error kData "zip.crc".
  void CheckCrc(const ZipEntry& entry, uint32_t crc) const;

 private:
  explicit ZipArchive(const RandomAccessBytes& bytes) : bytes_(&bytes) {}

  const RandomAccessBytes* bytes_;
  std::vector<uint8_t> directory_;  // the names of entries_ point into it
  std::vector<ZipEntry> entries_;
  std::vector<uint32_t> by_name_;  // indices of entries_, sorted by name
};

}  // namespace quern
