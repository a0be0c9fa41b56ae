#include "formats/safetensors.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "formats/core/check.h"
#include "formats/core/checked.h"
#include "formats/core/error.h"
#include "formats/formats.h"
#include "formats/json_limits.h"

namespace quern {
namespace {

// Every type of the format; what quern has no element type for is still placed and shown.
struct TypeRow {
  std::string_view name;
  uint32_t bits;
  std::optional<DType> dtype;
};
constexpr TypeRow kTypes[] = {
    {"BOOL", 8, {}},
    {"F4", 4, {}},
    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},
    {"U8", 8, {}},
    {"I8", 8, DType::kI8},
    {"F8_E5M2", 8, {}},
    {"F8_E4M3", 8, {}},
    {"F8_E8M0", 8, {}},
    {"F8_E4M3FNUZ", 8, {}},
    {"F8_E5M2FNUZ", 8, {}},
    {"I16", 16, DType::kI16},
    {"U16", 16, {}},
    {"F16", 16, DType::kF16},
    {"BF16", 16, DType::kBF16},
    {"I32", 32, DType::kI32},
    {"U32", 32, {}},
    {"F32", 32, DType::kF32},
    {"C64", 64, {}},
    {"F64", 64, DType::kF64},
    {"I64", 64, DType::kI64},
    {"U64", 64, {}},
};

constexpr uint64_t kLengthBytes = 8;
// Returns the error for what no writer of the format makes.
Error Malformed(std::string_view id, std::string_view what) {
  return DataError(id, what)
      .Hint("the file is damaged, or its writer was wrong: fetch it again, or save it anew");
}

// Reads the members of one tensor. Everything it says of the file is checked here but for the place
// among the other tensors.
class EntryReader {
 public:
  // Requires: `dims`, to which the shape is appended, has room for it.
  EntryReader(std::string_view name, std::string_view file, uint64_t data_begin,
              uint64_t data_bytes, std::vector<uint64_t>& dims)
      : name_(name), file_(file), data_begin_(data_begin), data_bytes_(data_bytes), dims_(dims) {}

  SafetensorsTensor Read(const JsonValue& entry) {
    if (!entry.is_object()) {
      throw Bad("safetensors.header", "a tensor's entry is no object").Found(entry.ToString());
    }
    std::optional<JsonValue> dtype, shape, offsets;
    for (const auto& [key, value] : entry.items()) {
      if (key == "dtype") {
        dtype = value;
      } else if (key == "shape") {
        shape = value;
      } else if (key == "data_offsets") {
        offsets = value;
      } else {
        throw Bad("safetensors.header",
                  "a tensor's entry has a member that the format does not know")
            .Found(Quoted(key))
            .Expected("dtype, shape and data_offsets");
      }
    }
    if (!dtype || !shape || !offsets) {
      throw Bad("safetensors.header", "a tensor's entry is incomplete")
          .Found("no " + std::string(!dtype   ? "dtype"
                                     : !shape ? "shape"
                                              : "data_offsets"))
          .Expected("dtype, shape and data_offsets");
    }
    tensor_.name = name_;
    ReadType(*dtype);
    ReadShape(*shape);
    ReadOffsets(*offsets);
    return tensor_;
  }

 private:
  Error Bad(std::string_view id, std::string_view what) const {
    return Malformed(id, what).File(file_).Tensor(name_);
  }

  void ReadType(const JsonValue& dtype) {
    if (!dtype.is_string()) {
      throw Bad("safetensors.header", "dtype is no string").Found(dtype.ToString());
    }
    const auto row = std::ranges::find(kTypes, dtype.String(), &TypeRow::name);
    if (row == std::end(kTypes)) {
      throw UnsupportedError("safetensors.dtype", "tensor has an unknown type")
          .File(file_)
          .Tensor(name_)
          .Found(dtype.ToString())
          .Expected("F32, F16, BF16 or another type of the format")
          .Hint("a newer quern may know it, or save the tensor in another type");
    }
    tensor_.dtype = row->dtype;
    tensor_.dtype_name = row->name;
    tensor_.elem_bits = row->bits;
  }

  void ReadShape(const JsonValue& shape) {
    if (!shape.is_array()) {
      throw Bad("safetensors.shape", "shape is no array").Found(shape.ToString());
    }
    if (shape.size() > kSafetensorsMaxRank) {
      throw UnsupportedError("safetensors.rank", "tensor has too many dimensions")
          .File(file_)
          .Tensor(name_)
          .Found(std::to_string(shape.size()))
          .Expected("at most " + std::to_string(kSafetensorsMaxRank))
          .Hint("no weight of a Llama has more than two");
    }
    QUERN_CHECK(dims_.size() + shape.size() <= dims_.capacity());
    const size_t begin = dims_.size();
    for (const auto& item : shape.items()) {
      if (item.value.kind() != JsonValue::Kind::kUint) {
        throw Bad("safetensors.shape", "a dimension is no count").Found(item.value.ToString());
      }
      dims_.push_back(item.value.Uint());
    }
    tensor_.shape = std::span(dims_).subspan(begin);
  }

  // Units: bits of the whole tensor. A dimension of zero hides no overflow of the others.
  uint64_t CountBits() const {
    std::optional<uint64_t> bits = tensor_.elem_bits;
    bool is_empty = false;
    for (const uint64_t dim : tensor_.shape) {
      is_empty |= dim == 0;
      if (bits) bits = CheckedMul(*bits, std::max<uint64_t>(dim, 1));
    }
    if (!bits || *bits > uint64_t{1} << 62) {
      throw Bad("safetensors.shape-overflow", "tensor is larger than 64 bits can say")
          .Found(ShapeText(tensor_.shape));
    }
    return is_empty ? 0 : *bits;
  }

  void ReadOffsets(const JsonValue& offsets) {
    std::vector<uint64_t> ends;
    if (offsets.is_array()) {
      for (const auto& item : offsets.items()) {
        if (item.value.kind() == JsonValue::Kind::kUint) ends.push_back(item.value.Uint());
      }
    }
    if (ends.size() != 2 || offsets.size() != 2) {
      throw Bad("safetensors.offsets", "data_offsets are no two counts")
          .Found(offsets.is_array() ? "[" + ItemsText(offsets) + "]" : offsets.ToString())
          .Expected("[begin, end], counted from the end of the header");
    }
    const uint64_t begin = ends[0], end = ends[1];
    const std::string found = "[" + std::to_string(begin) + ", " + std::to_string(end) + ")";
    if (end < begin) throw Bad("safetensors.offsets", "tensor ends before it begins").Found(found);
    const uint64_t bits = CountBits();
    if (bits % 8 != 0) {
      throw Bad("safetensors.shape", "elements fill no whole number of bytes").Found(ShapeText(tensor_.shape));
    }
    if (bits / 8 != end - begin) {
      throw Bad("safetensors.offsets", "extent does not fit type and shape")
          .Found(found + ", " + std::to_string(end - begin) + " bytes")
          .Expected(std::to_string(bits / 8) + " bytes for " + std::string(tensor_.dtype_name) +
                    " " + ShapeText(tensor_.shape));
    }
    if (end > data_bytes_) {
      throw Bad("safetensors.truncated", "tensor ends behind the end of the file")
          .Found(std::to_string(data_bytes_) + " bytes of data")
          .Expected("at least " + std::to_string(end))
          .Hint("the file is cut off: fetch it again");
    }
    tensor_.file_offset = data_begin_ + begin;
    tensor_.size_bytes = end - begin;
  }

  // Returns the first elements of an array.
  static std::string ItemsText(const JsonValue& array) {
    constexpr size_t kShown = 4;
    std::string text;
    size_t n = 0;
    for (const auto& item : array.items()) {
      if (n == kShown) return text + ", …";
      text += (n++ > 0 ? ", " : "") + item.value.ToString();
    }
    return text;
  }

  std::string_view name_, file_;
  uint64_t data_begin_, data_bytes_;
  std::vector<uint64_t>& dims_;
  SafetensorsTensor tensor_;
};

void CheckMetadata(const JsonValue& metadata, std::string_view file) {
  const auto bad = [&](const JsonValue& found) {
    return Malformed("safetensors.header", "__metadata__ is no map of texts")
        .File(file)
        .Where("key '__metadata__'")
        .Found(found.ToString());
  };
  if (!metadata.is_object()) throw bad(metadata);
  for (const auto& item : metadata.items()) {
    if (!item.value.is_string()) throw bad(item.value);
  }
}

// Returns the length of the header.
uint64_t ReadHeaderLength(const RandomAccessBytes& bytes) {
  const auto head = bytes.ReadVector(0, std::min<uint64_t>(bytes.size_bytes(), kDetectBytes));
  switch (const FileKind kind = DetectKind(head, bytes.name())) {
    case FileKind::kGitLfsPointer:
    case FileKind::kHtml:
    case FileKind::kTorchZip:
    case FileKind::kGguf:
      if (!head.empty()) throw WrongKind(kind, head, bytes.name(), "a safetensors file");
      break;
    default:
      break;
  }
  if (head.size() < kLengthBytes) {
    throw Malformed("safetensors.truncated", "file is too short for a header")
        .File(bytes.name())
        .Found(std::to_string(head.size()) + " bytes")
        .Expected("at least 8")
        .Hint("the file is cut off: fetch it again");
  }
  const auto length = LoadLE<uint64_t>(head.data());
  const uint64_t room = bytes.size_bytes() - kLengthBytes;
  if (length == 0 || length > kSafetensorsMaxHeaderBytes || length > room) {
    throw Malformed("safetensors.header-length", "length of the header is impossible")
        .File(bytes.name())
        .Offset(0)
        .Found(std::to_string(length))
        .Expected("1 to 100000000, and at most the " + std::to_string(room) + " bytes that follow")
        .Hint("the file is damaged, cut off, or no safetensors file");
  }
  return length;
}

JsonValue ParseHeader(const RandomAccessBytes& bytes, uint64_t header_bytes) {
  const auto header = bytes.ReadVector(kLengthBytes, header_bytes);
  JsonValue root = ParseJson(AsText(header), bytes.name(), kLengthBytes);
  if (header[0] != '{' || !root.is_object()) {
    throw Malformed("safetensors.header", "header is no JSON object")
        .File(bytes.name())
        .Offset(kLengthBytes)
        .Found(root.is_object() ? Quoted(AsText(header).substr(0, 1)) + " before it"
                                : root.ToString())
        .Expected("'{'");
  }
  return root;
}

}  // namespace

SafetensorsFile SafetensorsFile::Open(const RandomAccessBytes& bytes) {
  SafetensorsFile result(bytes);
  const std::string& file = bytes.name();
  const uint64_t header_bytes = ReadHeaderLength(bytes);
  const uint64_t data_begin = kLengthBytes + header_bytes;
  const uint64_t data_bytes = bytes.size_bytes() - data_begin;
  {
    const JsonValue root = ParseHeader(bytes, header_bytes);
    // Room for all names and shapes, so that views of them stay where they are.
    uint64_t n_name_bytes = 0, n_dims = 0;
    for (const auto& [key, value] : root.items()) {
      n_name_bytes += key.size();
      const auto shape = value.is_object() ? value.Find("shape") : std::nullopt;
      if (shape && shape->is_array()) n_dims += std::min(shape->size(), kSafetensorsMaxRank);
    }
    Texts& texts = *result.texts_;
    texts.names.reserve(n_name_bytes);
    texts.dims.reserve(n_dims);
    result.tensors_.reserve(root.size());
    for (const auto& [key, value] : root.items()) {
      if (key == "__metadata__") {
        CheckMetadata(value, file);
        continue;
      }
      const size_t begin = texts.names.size();
      texts.names += key;
      const auto name = std::string_view(texts.names).substr(begin);
      result.tensors_.push_back(
          EntryReader(name, file, data_begin, data_bytes, texts.dims).Read(value));
    }
  }
  auto& tensors = result.tensors_;
  std::ranges::sort(tensors, [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
    return std::tuple(a.file_offset, a.size_bytes) < std::tuple(b.file_offset, b.size_bytes);
  });
  uint64_t end = data_begin;
  for (const SafetensorsTensor& tensor : tensors) {
    if (tensor.file_offset != end) {
      throw Malformed("safetensors.offsets", tensor.file_offset < end
                                                 ? "tensors overlap"
                                                 : "there is a hole between tensors")
          .File(file)
          .Tensor(tensor.name)
          .Found("data offset " + std::to_string(tensor.file_offset - data_begin))
          .Expected(std::to_string(end - data_begin));
    }
    end += tensor.size_bytes;
  }
  if (end != bytes.size_bytes()) {
    throw Malformed("safetensors.trailing-bytes", "bytes follow the last tensor")
        .File(file)
        .Offset(end)
        .Found(std::to_string(bytes.size_bytes() - end) + " bytes")
        .Expected("the end of the file");
  }
  auto& order = result.by_name_;
  order.resize(tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  std::ranges::sort(order, {}, [&](uint32_t i) -> std::string_view { return tensors[i].name; });
  return result;
}

const SafetensorsTensor* SafetensorsFile::Find(std::string_view tensor_name) const {
  const auto it = std::ranges::lower_bound(
      by_name_, tensor_name, {}, [&](uint32_t i) -> std::string_view { return tensors_[i].name; });
  return it != by_name_.end() && tensors_[*it].name == tensor_name ? &tensors_[*it] : nullptr;
}

void SafetensorsFile::Read(const SafetensorsTensor& tensor, uint64_t begin,
                           MutableByteView out) const {
  QUERN_CHECK(FitsWithin(begin, out.size(), tensor.size_bytes));
  bytes_->ReadAt(tensor.file_offset + begin, out);
}

}  // namespace quern
