#include "formats/imatrix_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>

#include "formats/buffered_stream.h"
#include "formats/core/error.h"
#include "formats/duplicates.h"
#include "formats/formats.h"
#include "formats/gguf_reader.h"

namespace quern {
namespace {

constexpr std::string_view kTypeKey = "general.type";
constexpr std::string_view kTypeValue = "imatrix";

// An entry of the legacy layout takes at least this: three numbers, a name of one byte, a value.
constexpr uint64_t kMinEntryBytes = 4 + 1 + 4 + 4 + 4;

MutableByteView BytesOf(std::vector<float>& values) {
  return {reinterpret_cast<uint8_t*>(values.data()), values.size() * sizeof(float)};
}

// Sets all_zero. Throws: Error kData "imatrix.non-finite" naming entry and column.
void CheckValues(ImatrixEntry& entry, const std::string& file) {
  entry.all_zero = true;
  for (size_t i = 0; i < entry.values.size(); ++i) {
    const float value = entry.values[i];
    if (!std::isfinite(value) || value < 0) {
      throw DataError("imatrix.non-finite", "importance is no finite number of zero or more")
          .File(file)
          .Where(fmt::format("entry {}, column {}", Quoted(entry.name), i))
          .Found(fmt::format("{}", value));
    }
    if (value != 0) entry.all_zero = false;
  }
}

class LegacyParser {
 public:
  explicit LegacyParser(const RandomAccessBytes& bytes)
      : file_(Escaped(bytes.name(), 4096)),
        size_bytes_(bytes.size_bytes()),
        source_(bytes),
        stream_(source_) {}

  Imatrix Parse() {
    Imatrix imatrix;
    const uint64_t n_entries = ReadEntryCount();
    imatrix.entries.reserve(n_entries);
    for (uint64_t i = 0; i < n_entries; ++i) imatrix.entries.push_back(ReadEntry(i));
    const auto duplicate = FirstDuplicate(
        n_entries, [&](size_t i) { return std::string_view(imatrix.entries[i].name); });
    if (duplicate) {
      throw DataError("imatrix.name", "two entries have the same name")
          .File(file_)
          .Where(fmt::format("entry {}", *duplicate))
          .Found(Quoted(imatrix.entries[*duplicate].name));
    }
    ReadTrailer(imatrix);
    return imatrix;
  }

 private:
  uint64_t remaining() const { return size_bytes_ - stream_.position(); }

  // Throws: Error kData `id` if fewer bytes remain.
  void Fill(MutableByteView out, std::string_view id, std::string_view where) {
    const uint64_t offset = stream_.position();
    if (out.size() > remaining() || stream_.Read(out) != out.size()) {
      throw DataError(id, "file ends early")
          .File(file_)
          .Where(where)
          .Offset(offset)
          .Found(fmt::format("{} bytes", size_bytes_ - offset))
          .Expected(fmt::format("{} bytes", out.size()));
    }
  }
  int32_t ReadInt(std::string_view id, std::string_view where) {
    uint8_t bytes[4];
    Fill(bytes, id, where);
    return LoadLE<int32_t>(bytes);
  }

  uint64_t ReadEntryCount() {
    const int32_t n_entries = ReadInt("imatrix.count", "number of entries");
    const uint64_t most = std::min(kImatrixMaxEntries, remaining() / kMinEntryBytes);
    if (n_entries < 1 || static_cast<uint64_t>(n_entries) > most) {
      throw DataError("imatrix.count", "wrong number of entries")
          .File(file_)
          .Offset(0)
          .Found(fmt::format("{}", n_entries))
          .Expected(fmt::format("1 to {}, as many as fit the file", most));
    }
    return static_cast<uint64_t>(n_entries);
  }

  ImatrixEntry ReadEntry(uint64_t index) {
    ImatrixEntry entry;
    entry.name = ReadName(fmt::format("entry {}", index));
    const std::string where = fmt::format("entry {}", Quoted(entry.name));
    const int32_t n_calls = ReadInt("imatrix.count", where);
    if (n_calls < 0) {
      throw DataError("imatrix.count", "negative number of calls")
          .File(file_)
          .Where(where)
          .Offset(stream_.position() - 4)
          .Found(fmt::format("{}", n_calls));
    }
    entry.count = static_cast<uint64_t>(n_calls);
    entry.matrix_counts = {static_cast<float>(n_calls)};
    const int32_t n_values = ReadInt("imatrix.values", where);
    if (n_values < 1 || static_cast<uint64_t>(n_values) > remaining() / 4) {
      throw DataError("imatrix.values", "wrong number of values")
          .File(file_)
          .Where(where)
          .Offset(stream_.position() - 4)
          .Found(fmt::format("{}", n_values))
          .Expected(fmt::format("1 to {}, as many as the file still holds", remaining() / 4));
    }
    entry.values.resize(static_cast<size_t>(n_values));
    Fill(BytesOf(entry.values), "imatrix.values", where);
    // The file has sums over calls of mean squares; no call at all: the means themselves.
    if (n_calls > 1) {
      for (float& value : entry.values) value /= static_cast<float>(n_calls);
    }
    CheckValues(entry, file_);
    return entry;
  }

  std::string ReadName(const std::string& where) {
    const int32_t n_bytes = ReadInt("imatrix.name", where);
    const uint64_t most = std::min(kImatrixMaxNameBytes, remaining());
    if (n_bytes < 1 || static_cast<uint64_t>(n_bytes) > most) {
      throw DataError("imatrix.name", "wrong length of a name")
          .File(file_)
          .Where(where)
          .Offset(stream_.position() - 4)
          .Found(fmt::format("{} bytes", n_bytes))
          .Expected(fmt::format("1 to {}", most));
    }
    std::vector<uint8_t> name(static_cast<size_t>(n_bytes));
    Fill(name, "imatrix.name", where);
    const std::string_view text = AsText(name);
    if (text.find('\0') != std::string_view::npos) {
      throw DataError("imatrix.name", "a name holds a NUL byte")
          .File(file_)
          .Where(where)
          .Found(Quoted(text));
    }
    return std::string(text);
  }

  // Files of before February 2024 end with the last entry.
  void ReadTrailer(Imatrix& imatrix) {
    if (remaining() == 0) return;
    const int32_t n_chunks = ReadInt("imatrix.trailer", "number of chunks");
    if (n_chunks < 0) ThrowTrailer("negative number of chunks", n_chunks);
    imatrix.n_chunks = static_cast<uint32_t>(n_chunks);
    if (remaining() == 0) return;
    const int32_t n_bytes = ReadInt("imatrix.trailer", "length of the dataset's name");
    if (n_bytes < 0 || static_cast<uint64_t>(n_bytes) != remaining()) {
      ThrowTrailer("the dataset's name does not end with the file", n_bytes);
    }
    std::vector<uint8_t> name(static_cast<size_t>(n_bytes));
    Fill(name, "imatrix.trailer", "the dataset's name");
    if (!name.empty()) imatrix.datasets.push_back(AsText(name));
  }

  [[noreturn]] void ThrowTrailer(std::string_view what, int32_t found) const {
    throw DataError("imatrix.trailer", what)
        .File(file_)
        .Where("behind the last entry")
        .Offset(stream_.position() - 4)
        .Found(fmt::format("{}", found));
  }

  std::string file_;
  uint64_t size_bytes_;
  RandomAccessStream source_;
  BufferedStream stream_;
};

const MetadataValue* FindKey(const GgufHeader& header, std::string_view key) {
  const auto found = std::ranges::find(header.metadata, key, &MetadataEntry::key);
  return found == header.metadata.end() ? nullptr : &found->value;
}

bool SaysImatrix(const GgufHeader& header) {
  const MetadataValue* type = FindKey(header, kTypeKey);
  return type != nullptr && type->type == MetadataType::kString && type->text() == kTypeValue;
}

// The GGUF layout, its header read and found sound.
class GgufParser {
 public:
  GgufParser(const RandomAccessBytes& bytes, const GgufHeader& header)
      : bytes_(bytes), header_(header), file_(Escaped(bytes.name(), 4096)) {}

  Imatrix Parse() const {
    Imatrix imatrix;
    imatrix.is_gguf = true;
    imatrix.n_chunks = OptionalU32("imatrix.chunk_count");
    imatrix.chunk_size = OptionalU32("imatrix.chunk_size");
    ReadDatasets(imatrix);
    std::map<std::string_view, size_t> counts;
    for (size_t i = 0; i < header_.tensors.size(); ++i) {
      if (const auto weight = WithoutSuffix(i, ".counts")) counts.emplace(*weight, i);
    }
    for (size_t i = 0; i < header_.tensors.size(); ++i) {
      const auto weight = WithoutSuffix(i, ".in_sum2");
      if (!weight) continue;
      const auto found = counts.find(*weight);
      if (found == counts.end()) ThrowUnpaired(*weight, "sums without counts");
      imatrix.entries.push_back(ReadEntry(*weight, i, found->second));
      counts.erase(found);
    }
    if (!counts.empty()) ThrowUnpaired(counts.begin()->first, "counts without sums");
    if (imatrix.entries.empty()) {
      throw DataError("imatrix.count", "no entries").File(file_).Expected("at least one");
    }
    return imatrix;
  }

 private:
  std::optional<std::string_view> WithoutSuffix(size_t tensor, std::string_view suffix) const {
    const std::string_view name = header_.tensors[tensor].name;
    if (!name.ends_with(suffix) || name.size() == suffix.size()) return std::nullopt;
    return name.substr(0, name.size() - suffix.size());
  }

  [[noreturn]] void ThrowUnpaired(std::string_view weight, std::string_view what) const {
    throw DataError("imatrix.count", what).File(file_).Where("entry " + Quoted(weight));
  }

  [[noreturn]] void ThrowMetadata(std::string_view key, std::string_view expected) const {
    throw DataError("imatrix.metadata", "value of another type")
        .File(file_)
        .Where("key " + Quoted(key))
        .Found(FindKey(header_, key)->ToString())
        .Expected(expected);
  }
  std::optional<uint32_t> OptionalU32(std::string_view key) const {
    const MetadataValue* value = FindKey(header_, key);
    if (value == nullptr) return std::nullopt;
    if (value->type != MetadataType::kUint32) ThrowMetadata(key, "UINT32");
    return static_cast<uint32_t>(value->bits());
  }
  void ReadDatasets(Imatrix& imatrix) const {
    constexpr std::string_view kKey = "imatrix.datasets";
    const MetadataValue* value = FindKey(header_, kKey);
    if (value == nullptr) return;
    if (value->type != MetadataType::kArray || value->array().elem_type != MetadataType::kString) {
      ThrowMetadata(kKey, "an array of strings");
    }
    imatrix.datasets = value->array().strings;
  }

  // Requires: the extent of the tensor was checked against the file, as ReadGgufHeader does.
  std::vector<float> ReadFloats(size_t tensor, const std::string& where) const {
    const TensorInfo& info = header_.tensors[tensor];
    if (info.dtype != DType::kF32) {
      throw DataError("imatrix.values", "values of another type")
          .File(file_)
          .Where(where)
          .Found(NameOf(info.dtype))
          .Expected("f32");
    }
    std::vector<float> values(info.shape.n_elems());
    bytes_.ReadAt(header_.data_offset + header_.offsets[tensor], BytesOf(values));
    return values;
  }

  ImatrixEntry ReadEntry(std::string_view weight, size_t sums, size_t counts) const {
    const std::string where = "entry " + Quoted(weight);
    ImatrixEntry entry;
    entry.name = weight;
    entry.values = ReadFloats(sums, where);
    entry.matrix_counts = ReadFloats(counts, where);
    const std::vector<float>& rows_seen = entry.matrix_counts;
    const uint64_t n_matrices = header_.tensors[sums].rows();
    if (entry.values.empty() || rows_seen.size() != n_matrices) {
      throw DataError("imatrix.values", "sums and counts do not agree")
          .File(file_)
          .Where(where)
          .Found(fmt::format("{} counts, sums of shape {}", rows_seen.size(),
                             header_.tensors[sums].shape.ToString()))
          .Expected("a count for each matrix");
    }
    CheckValues(entry, file_);
    const uint64_t cols = header_.tensors[sums].cols();
    for (uint64_t m = 0; m < n_matrices; ++m) {
      const float n_rows = rows_seen[m];
      // Beyond 2^53 a count is no count. Not `<`: a NaN must not pass.
      if (!(n_rows >= 0 && n_rows <= 9007199254740992.0f)) {
        throw DataError("imatrix.count", "a count is no number of rows")
            .File(file_)
            .Where(fmt::format("{}, matrix {}", where, m))
            .Found(fmt::format("{}", n_rows));
      }
      entry.count = std::max(entry.count, static_cast<uint64_t>(n_rows));
      for (uint64_t c = m * cols; c < (m + 1) * cols; ++c) {
        entry.values[c] = n_rows == 0 ? 1.0f : entry.values[c] / n_rows;
      }
    }
    CheckValues(entry, file_);  // A count below one may have made an infinity.
    return entry;
  }

  const RandomAccessBytes& bytes_;
  const GgufHeader& header_;
  std::string file_;
};

bool BeginsAsGguf(const RandomAccessBytes& bytes) {
  return bytes.size_bytes() >= 4 && LoadLE<uint32_t>(bytes.ReadVector(0, 4).data()) == kGgufMagic;
}

}  // namespace

Imatrix ReadImatrix(const RandomAccessBytes& bytes) {
  if (!BeginsAsGguf(bytes)) return LegacyParser(bytes).Parse();
  const GgufHeader header = ReadGgufHeader(bytes);
  if (!SaysImatrix(header)) {
    const MetadataValue* type = FindKey(header, kTypeKey);
    throw UnsupportedError("input.kind", "input is of another kind")
        .File(Escaped(bytes.name(), 4096))
        .Found(type == nullptr ? std::string("a GGUF file without general.type")
                               : "a GGUF file of general.type " + type->ToString())
        .Expected("an importance matrix")
        .Hint("give a file that quern imatrix or llama-imatrix wrote");
  }
  return GgufParser(bytes, header).Parse();
}

Imatrix ReadImatrix(const std::string& path) {
  switch (const FileKind kind = DetectKind(path)) {
    case FileKind::kGguf:
    case FileKind::kImatrix:
    case FileKind::kUnknown:
      return ReadImatrix(InputFile(path));
    default:
      throw WrongKind(kind, {}, path, "an importance matrix");
  }
}

bool IsImatrix(const std::string& path) {
  const FileKind kind = DetectKind(path);
  if (kind != FileKind::kGguf) return kind == FileKind::kImatrix;
  const InputFile file(path);
  return BeginsAsGguf(file) && SaysImatrix(ReadGgufHeader(file));
}

}  // namespace quern
