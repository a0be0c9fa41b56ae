// The parser of GGUF headers (declared in formats/gguf_reader.h).
#include <fmt/format.h>

#include <limits>

#include "formats/core/checked.h"
#include "formats/core/hash.h"
#include "formats/duplicates.h"
#include "formats/gguf_reader.h"

namespace quern {
namespace {

// What ggml takes for the longest string and array.
constexpr uint64_t kMaxStringBytes = uint64_t{1} << 30;
constexpr uint64_t kMaxArrayElems = uint64_t{1} << 30;
// Claims are believed a piece at a time where the length of the stream is unknown.
constexpr uint64_t kReadStepBytes = uint64_t{1} << 20;
// What stands for the value of quern.trailer in the hash that this value is.
constexpr uint8_t kZeros[8] = {};

std::string Bytes(uint64_t n) { return fmt::format("{} bytes", n); }

bool HasControlBytes(std::string_view text) {
  return std::ranges::any_of(text,
                             [](char c) { return static_cast<uint8_t>(c) < 0x20 || c == 0x7F; });
}

class HeaderParser {
 public:
  explicit HeaderParser(ByteStream& stream) : stream_(stream) {}

  GgufHeader Parse() {
    ReadMagicAndVersion();
    ReadCounts();
    if (Remaining()) {
      header_.metadata.reserve(n_keys_);
      header_.tensors.reserve(n_tensors_);
      header_.offsets.reserve(n_tensors_);
      sizes_.reserve(n_tensors_);
      info_positions_.reserve(n_tensors_);
    }
    place_ = Place::kKey;
    for (index_ = 0; index_ < n_keys_; ++index_) ReadEntry();
    place_ = Place::kTensor;
    for (index_ = 0; index_ < n_tensors_; ++index_) ReadTensorInfo();
    place_ = Place::kWhole;
    header_.header_bytes = stream_.position();
    header_.header_hash = hash_.Digest();
    header_.seal = seal_.Digest();
    CheckNames();
    FindAlignment();
    CheckExtents();
    return std::move(header_);
  }

 private:
  // What is being read; kWhole: all was read and is checked as a whole.
  enum class Place : uint8_t { kHeader, kKey, kTensor, kWhole };

  // ---- Errors ----

  std::string Where() const {
    if (place_ == Place::kHeader) return "header";
    const std::string_view kind = place_ == Place::kKey ? "key" : "tensor";
    return name_.empty() ? fmt::format("{} {}", kind, index_)
                         : fmt::format("{} {}", kind, Quoted(name_));
  }
  Error Placed(Error error) const {
    error.File(Escaped(stream_.name(), 4096));
    return place_ == Place::kWhole ? error : error.Where(Where()).Offset(stream_.position());
  }
  Error Data(std::string_view id, std::string_view what) const {
    return Placed(DataError(id, what));
  }
  Error Unsupported(std::string_view id, std::string_view what) const {
    return Placed(UnsupportedError(id, what));
  }
  Error OverLimit(std::string_view what, uint64_t found, uint64_t limit) const {
    return Unsupported("gguf.limit", what)
        .Found(std::to_string(found))
        .Expected(fmt::format("at most {}", limit))
        .Hint(
            "quern limits what it takes from a header; no known model comes near (GGUF.md, "
            "Limits)");
  }

  // ---- Fields ----

  // Returns the bytes that follow, where that is known.
  std::optional<uint64_t> Remaining() const {
    const auto size = stream_.size_bytes();
    return size ? std::optional(*size - stream_.position()) : std::nullopt;
  }
  bool Exceeds(uint64_t n_bytes) const {
    const auto remaining = Remaining();
    return remaining && n_bytes > *remaining;
  }

  void ReadBytes(MutableByteView out, std::string_view what) {
    const uint64_t begin = stream_.position();
    const size_t got = stream_.Read(out);
    if (got == out.size()) {
      hash_.Update(out);
      seal_.Update(is_trailer_value_ ? ByteView(kZeros) : ByteView(out));
      return;
    }
    const bool is_file = stream_.size_bytes().has_value();
    throw Data("gguf.truncated",
               fmt::format("{} ends inside {}", is_file ? "file" : "stream", what))
        .Offset(begin)
        .Found(Bytes(got))
        .Expected(Bytes(out.size()))
        .Hint(is_file ? "the file is incomplete; fetch it again"
              : begin + got == 0
                  ? "nothing came: whatever writes into the pipe has failed, or read no input"
                  : "whatever writes into the pipe stopped before its end");
  }

  template <typename T>
  T Read(std::string_view what) {
    uint8_t bytes[sizeof(T)];
    ReadBytes(bytes, what);
    return LoadLE<T>(bytes);
  }

  // Counts, lengths and dimensions: 32 bits in version 1, 64 bits since.
  uint64_t ReadSize(std::string_view what) {
    return header_.version == 1 ? Read<uint32_t>(what) : Read<uint64_t>(what);
  }
  uint64_t size_field_bytes() const { return header_.version == 1 ? 4 : 8; }

  // Appends `n` bytes of the stream to `out`. Requires: n was checked against what remains, if
  // known.
  template <typename Container>
  void Append(Container& out, uint64_t n, std::string_view what) {
    if (n > kGgufMaxHeaderBytes - std::min(stream_.position(), kGgufMaxHeaderBytes)) {
      throw OverLimit("header is too long", n, kGgufMaxHeaderBytes);
    }
    if (Remaining()) out.reserve(out.size() + n);
    while (n != 0) {
      const uint64_t step = std::min(n, kReadStepBytes);
      out.resize(out.size() + step);
      ReadBytes({reinterpret_cast<uint8_t*>(out.data() + out.size() - step), step}, what);
      n -= step;
    }
  }

  std::string ReadString(std::string_view what) {
    const uint64_t length = ReadSize(what);
    if (length > kMaxStringBytes || Exceeds(length)) {
      Error error = Data("gguf.string-length", fmt::format("length of {} exceeds the file", what));
      error.Found(Bytes(length));
      const auto remaining = Remaining();
      throw error.Expected(remaining ? fmt::format("at most the {} bytes that remain", *remaining)
                                     : fmt::format("at most {} bytes", kMaxStringBytes));
    }
    std::string text;
    Append(text, length, what);
    return text;
  }

  // ---- Sections ----

  void ReadMagicAndVersion() {
    uint8_t magic[4];
    ReadBytes(magic, "the magic");
    if (LoadLE<uint32_t>(magic) != kGgufMagic) {
      throw Data("input.unknown-format", "not a GGUF file")
          .Offset(0)
          .Found(Quoted(AsText(magic)))
          .Expected("'GGUF'");
    }
    const uint32_t version = Read<uint32_t>("the version");
    if ((version & 0xFFFF) == 0 && version != 0) {
      throw Unsupported("gguf.endianness", "file is big-endian")
          .Hint("convert it to little-endian first (gguf_convert_endian.py of llama.cpp)");
    }
    if (version == 0) throw Data("gguf.version", "version 0 does not exist").Expected("1, 2 or 3");
    if (version > kGgufVersion) {
      throw Unsupported("gguf.version", fmt::format("version {} is unknown", version))
          .Expected("1, 2 or 3")
          .Hint("a newer quern may read it");
    }
    header_.version = version;
  }

  void ReadCounts() {
    // The smallest entry is a key of one byte with a value of one byte, the smallest tensor info
    // has a name of one byte and one dimension.
    n_tensors_ = ReadSize("tensor_count");
    CheckCount("tensor_count", n_tensors_, 2 * size_field_bytes() + 17, kGgufMaxTensors);
    n_keys_ = ReadSize("metadata_kv_count");
    CheckCount("metadata_kv_count", n_keys_, size_field_bytes() + 6, kGgufMaxKeys);
    if (header_.version == 1 && n_keys_ == 0) {
      // Every version 1 file has keys. Here stands the upper half of a 64-bit tensor_count.
      throw Unsupported("gguf.version", "file says version 1 but has not the layout of version 1")
          .Hint("its writer probably put a wrong number into the version field");
    }
  }

  void CheckCount(std::string_view what, uint64_t count, uint64_t min_bytes_each, uint64_t limit) {
    const auto n_bytes = CheckedMul(count, min_bytes_each);
    if (!n_bytes || *n_bytes > uint64_t{std::numeric_limits<int64_t>::max()} ||
        Exceeds(claimed_bytes_ + *n_bytes)) {
      throw Data("gguf.count", fmt::format("{} exceeds what the file can hold", what))
          .Found(std::to_string(count));
    }
    if (count > limit) throw OverLimit(fmt::format("{} is too large", what), count, limit);
    claimed_bytes_ += *n_bytes;
  }

  void ReadEntry() {
    name_.clear();
    MetadataEntry entry;
    entry.key = ReadString("the key");
    if (entry.key.empty()) throw Data("gguf.key", "empty key");
    if (entry.key.size() > kGgufMaxKeyBytes) {
      throw Data("gguf.key", "key is too long")
          .Found(Bytes(entry.key.size()))
          .Expected(fmt::format("at most {}", Bytes(kGgufMaxKeyBytes)));
    }
    name_ = entry.key;
    if (HasControlBytes(name_)) throw Data("gguf.key", "key holds control characters");
    if (!IsUtf8(name_)) throw Data("gguf.key", "key is not UTF-8");
    entry.value = ReadValue();
    header_.metadata.push_back(std::move(entry));
  }

  MetadataType ReadType() {
    const uint32_t type = Read<uint32_t>("the value type");
    // Version 1 had no 64-bit types, but nothing else can be meant by these numbers.
    if (type > static_cast<uint32_t>(MetadataType::kFloat64)) {
      throw Data("gguf.value-type", "unknown value type")
          .Found(std::to_string(type))
          .Expected("0 to 12");
    }
    return static_cast<MetadataType>(type);
  }

  MetadataValue ReadValue() {
    const MetadataType type = ReadType();
    if (type == MetadataType::kString) return {type, ReadString("the value")};
    if (type == MetadataType::kArray) return {type, ReadArray()};
    if (type != MetadataType::kUint64 || name_ != kGgufTrailerKey) return {type, ReadScalar(type)};
    is_trailer_value_ = true;
    header_.trailer_key = ReadScalar(type);
    is_trailer_value_ = false;
    return {type, *header_.trailer_key};
  }

  // Returns the bits of a scalar as MetadataValue keeps them.
  uint64_t ReadScalar(MetadataType type) {
    switch (type) {
      case MetadataType::kBool: {
        const uint8_t value = Read<uint8_t>("the value");
        CheckBool(value);
        return value;
      }
      case MetadataType::kUint8:
        return Read<uint8_t>("the value");
      case MetadataType::kInt8:
        return static_cast<uint64_t>(Read<int8_t>("the value"));
      case MetadataType::kUint16:
        return Read<uint16_t>("the value");
      case MetadataType::kInt16:
        return static_cast<uint64_t>(Read<int16_t>("the value"));
      case MetadataType::kUint32:
      case MetadataType::kFloat32:
        return Read<uint32_t>("the value");
      case MetadataType::kInt32:
        return static_cast<uint64_t>(Read<int32_t>("the value"));
      default:
        return Read<uint64_t>("the value");
    }
  }

  void CheckBool(uint8_t value) const {
    if (value > 1) {
      throw Data("gguf.bool", "boolean is neither 0 nor 1").Found(std::to_string(value));
    }
  }

  MetadataArray ReadArray() {
    MetadataArray array;
    array.elem_type = ReadType();
    if (array.elem_type == MetadataType::kArray) {
      throw Unsupported("gguf.nested-array", "array of arrays")
          .Hint("no known model has one, and llama.cpp refuses them too");
    }
    const uint64_t count = ReadSize("the array length");
    const bool is_strings = array.elem_type == MetadataType::kString;
    // The shortest string is its length field.
    const uint64_t elem_bytes = is_strings ? size_field_bytes() : ScalarBytes(array.elem_type);
    if (count > kMaxArrayElems || Exceeds(count * elem_bytes)) {
      throw Data("gguf.array-length", "array length exceeds the file")
          .Found(fmt::format("{} elements of at least {}", count, Bytes(elem_bytes)));
    }
    if (!is_strings) {
      Append(array.scalars, count * elem_bytes, "the array");
      if (array.elem_type == MetadataType::kBool) {
        for (const uint8_t value : array.scalars) CheckBool(value);
      }
      return array;
    }
    if (Remaining()) array.strings.reserve(std::min(count, kGgufMaxHeaderBytes / elem_bytes), 0);
    for (uint64_t i = 0; i < count; ++i)
      array.strings.push_back(ReadString("a string of the array"));
    return array;
  }

  void ReadTensorInfo() {
    name_.clear();
    const uint64_t position = stream_.position();
    TensorInfo info;
    info.name = ReadString("the tensor's name");
    if (info.name.size() > kGgufMaxTensorNameBytes || info.name.empty()) {
      throw Data("gguf.tensor-name", "length of the tensor's name is out of range")
          .Found(Bytes(info.name.size()))
          .Expected(fmt::format("1 to {} bytes", kGgufMaxTensorNameBytes));
    }
    name_ = info.name;
    if (name_.find('\0') != std::string::npos) {
      throw Data("gguf.tensor-name", "tensor's name holds a NUL byte");
    }
    if (HasControlBytes(name_))
      throw Data("gguf.tensor-name", "tensor's name holds control characters");
    if (!IsUtf8(name_)) throw Data("gguf.tensor-name", "tensor's name is not UTF-8");
    info.shape = ReadShape();
    const uint32_t type = Read<uint32_t>("the tensor's type");
    const auto dtype = DTypeFromGgufId(type);
    if (!dtype) {
      throw Unsupported("gguf.tensor-type", "unknown or retired tensor type")
          .Found(std::to_string(type));
    }
    info.dtype = *dtype;
    const uint64_t size_bytes = CheckedSize(info);
    const uint64_t offset = Read<uint64_t>("the tensor's offset");
    header_.tensors.push_back(std::move(info));
    header_.offsets.push_back(offset);
    sizes_.push_back(size_bytes);
    info_positions_.push_back(position);
  }

  Shape ReadShape() {
    const uint32_t n_dims = Read<uint32_t>("the number of dimensions");
    if (n_dims == 0 || n_dims > Shape::kMaxRank) {
      throw Data("gguf.n-dims", "number of dimensions is out of range")
          .Found(std::to_string(n_dims))
          .Expected(fmt::format("1 to {}", Shape::kMaxRank));
    }
    uint64_t dims[Shape::kMaxRank];
    // On disk the contiguous dimension comes first.
    for (uint32_t i = 0; i < n_dims; ++i) dims[n_dims - 1 - i] = ReadSize("the dimensions");
    const auto shape = Shape::Make({dims, n_dims});
    if (!shape) throw SizeOverflow(fmt::format("{}", fmt::join(dims, dims + n_dims, " x ")));
    return *shape;
  }

  Error SizeOverflow(std::string_view found) const {
    return Data("gguf.tensor-size-overflow", "size of the tensor overflows").Found(found);
  }
  Error SizeOverflow(const TensorInfo& info) const {
    return SizeOverflow(fmt::format("{} of type {}", info.shape.ToString(), NameOf(info.dtype)));
  }

  uint64_t CheckedSize(const TensorInfo& info) const {
    const uint32_t block_elems = LayoutOf(info.dtype).block_elems;
    if (info.cols() % block_elems != 0) {
      throw Data("gguf.tensor-shape", "rows are not whole blocks")
          .Found(fmt::format("{} columns of type {}", info.cols(), NameOf(info.dtype)))
          .Expected(fmt::format("a multiple of {}", block_elems));
    }
    const auto row_bytes = RowBytes(info.dtype, info.cols());
    const auto size = row_bytes ? CheckedMul(*row_bytes, info.rows()) : std::nullopt;
    if (!size || *size > uint64_t{std::numeric_limits<int64_t>::max()}) {
      throw SizeOverflow(info);
    }
    return *size;
  }

  // ---- Checks over the whole header ----

  void CheckNames() {
    const auto& metadata = header_.metadata;
    const auto& tensors = header_.tensors;
    const auto key = [&](size_t i) -> std::string_view { return metadata[i].key; };
    const auto name = [&](size_t i) -> std::string_view { return tensors[i].name; };
    if (const auto i = FirstDuplicate(metadata.size(), key)) {
      throw Data("gguf.duplicate-key", "key appears twice")
          .Where("key " + Quoted(metadata[*i].key));
    }
    if (const auto i = FirstDuplicate(tensors.size(), name)) {
      throw Data("gguf.duplicate-tensor", "tensor appears twice")
          .Where(WhereTensor(*i))
          .Offset(info_positions_[*i]);
    }
  }

  void FindAlignment() {
    for (const auto& [key, value] : header_.metadata) {
      if (key != kGgufAlignmentKey) continue;
      const auto Bad = [&] {
        return Data("gguf.alignment", "impossible alignment")
            .Where("key " + Quoted(kGgufAlignmentKey))
            .Expected("a power of two of type UINT32");
      };
      if (value.type != MetadataType::kUint32) throw Bad().Found(NameOf(value.type));
      if (!std::has_single_bit(value.bits())) throw Bad().Found(std::to_string(value.bits()));
      header_.alignment = value.bits();
    }
  }

  // Tensors follow each other without gaps, each padded to the alignment, and lie inside the file.
  void CheckExtents() {
    const auto& tensors = header_.tensors;
    header_.data_offset = header_.data_end = header_.header_bytes;
    if (tensors.empty()) return;
    header_.data_offset = *CheckedAlignUp(header_.header_bytes, header_.alignment);
    uint64_t expected_offset = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
      const auto padded = CheckedAlignUp(sizes_[i], header_.alignment);
      const auto next = padded ? CheckedAdd(expected_offset, *padded) : std::nullopt;
      const auto end = next ? CheckedAdd(header_.data_offset, *next) : std::nullopt;
      if (!end || *end > uint64_t{std::numeric_limits<int64_t>::max()}) {
        throw SizeOverflow(tensors[i]).Where(WhereTensor(i)).Offset(info_positions_[i]);
      }
      CheckOffset(i, expected_offset);
      CheckInsideFile(i, header_.data_offset + expected_offset);
      expected_offset = *next;
      header_.data_end = *end;
    }
  }

  std::string WhereTensor(size_t i) const { return "tensor " + Quoted(header_.tensors[i].name); }

  void CheckOffset(size_t i, uint64_t expected) const {
    const uint64_t offset = header_.offsets[i];
    if (offset == expected) return;
    throw Data("gguf.tensor-offset",
               offset % header_.alignment != 0
                   ? fmt::format("offset is not a multiple of the alignment {}", header_.alignment)
                   : std::string("tensor does not follow the one before it"))
        .Where(WhereTensor(i))
        .Offset(info_positions_[i])
        .Found(std::to_string(offset))
        .Expected(std::to_string(expected));
  }

  void CheckInsideFile(size_t i, uint64_t begin) const {
    const auto file_bytes = stream_.size_bytes();
    if (!file_bytes || sizes_[i] == 0 || FitsWithin(begin, sizes_[i], *file_bytes)) return;
    throw Data("gguf.tensor-past-eof", "tensor's data ends behind the end of the file")
        .Where(WhereTensor(i))
        .Offset(begin)
        .Found(fmt::format("a file of {} bytes", *file_bytes))
        .Expected(fmt::format("at least {}", begin + sizes_[i]))
        .Hint("the file is incomplete; fetch it again");
  }

  ByteStream& stream_;
  GgufHeader header_;
  Xxh3Stream hash_, seal_;  // of what was read; of the same without the value of quern.trailer
  bool is_trailer_value_ = false;
  uint64_t n_tensors_ = 0, n_keys_ = 0;
  uint64_t claimed_bytes_ = 0;            // the least that the counts ask for
  std::vector<uint64_t> sizes_;           // bytes of each tensor, without padding
  std::vector<uint64_t> info_positions_;  // where each tensor info begins
  Place place_ = Place::kHeader;
  uint64_t index_ = 0;
  std::string name_;  // of the key or tensor being read, once known
};

}  // namespace

GgufHeader ReadGgufHeader(ByteStream& stream) { return HeaderParser(stream).Parse(); }

}  // namespace quern
