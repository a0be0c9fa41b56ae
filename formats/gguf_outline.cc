#include "formats/gguf_outline.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <string>

#include "formats/core/checked.h"
#include "formats/core/metadata.h"
#include "formats/gguf_format.h"

namespace quern {
namespace {

constexpr size_t kMaxNameBytes = 120;
constexpr int kMaxArrayDepth = 8;  // of arrays of arrays
constexpr uint64_t kMaxAlignment = uint64_t{1} << 32;

class OutlineReader {
 public:
  explicit OutlineReader(ByteStream& stream) : stream_(stream) {}

  std::optional<GgufOutline> Read() {
    if (Get<uint32_t>() != kGgufMagic) return std::nullopt;
    version_ = Get<uint32_t>();
    if (version_ < 1 || version_ > kGgufVersion) return std::nullopt;
    const uint64_t n_tensors = Size(), n_keys = Size();
    if (n_tensors > kGgufMaxTensors || n_keys > kGgufMaxKeys) return std::nullopt;
    // A later layout under a wrong number (GGUF.md, "Prologue").
    if (version_ == 1 && n_keys == 0) return std::nullopt;
    for (uint64_t i = 0; i < n_keys && is_understood_; ++i) ReadKey();
    for (uint64_t i = 0; i < n_tensors && is_understood_; ++i) {
      ReadTensor(static_cast<uint32_t>(i));
    }
    if (!is_understood_) return std::nullopt;
    outline_.header_bytes = at_;
    PlaceExtents();
    return std::move(outline_);
  }

 private:
  // Reads `n` bytes, or, where the header would be too long, none: nothing is understood then.
  bool Take(MutableByteView out) {
    if (!CanTake(out.size())) return false;
    if (stream_.Read(out) != out.size()) {
      throw DataError("gguf.truncated", "file ends inside the GGUF header")
          .File(Escaped(stream_.name(), 4096))
          .Offset(at_)
          .Hint("the file is incomplete, or whatever writes into the pipe stopped before its end");
    }
    at_ += out.size();
    return true;
  }
  bool CanTake(uint64_t n) {
    is_understood_ = is_understood_ && n <= kGgufMaxHeaderBytes - at_;
    return is_understood_;
  }
  void Skip(std::optional<uint64_t> n) {
    if (!n || !CanTake(*n)) {
      is_understood_ = false;
      return;
    }
    uint8_t skipped[4096];
    for (uint64_t rest = *n; rest != 0;) {
      const uint64_t step = std::min<uint64_t>(rest, sizeof skipped);
      Take({skipped, step});
      rest -= step;
    }
  }
  template <typename T>
  T Get() {
    uint8_t bytes[sizeof(T)] = {};
    Take(bytes);
    return LoadLE<T>(bytes);
  }
  // Counts, lengths and dimensions: 32 bits in version 1, 64 bits since.
  uint64_t Size() { return version_ == 1 ? Get<uint32_t>() : Get<uint64_t>(); }

  // Returns the beginning of a string.
  std::string Text() {
    const uint64_t n = Size();
    if (!CanTake(n)) return {};
    std::string text(std::min<uint64_t>(n, kMaxNameBytes), '\0');
    Take({reinterpret_cast<uint8_t*>(text.data()), text.size()});
    Skip(n - text.size());
    return text;
  }

  void ReadKey() {
    const std::string key = Text();
    const auto type = static_cast<MetadataType>(Get<uint32_t>());
    if (key != kGgufAlignmentKey) return SkipValue(type, 0);
    switch (type) {
      case MetadataType::kUint8:
        return SetAlignment(Get<uint8_t>());
      case MetadataType::kUint16:
        return SetAlignment(Get<uint16_t>());
      case MetadataType::kUint32:
        return SetAlignment(Get<uint32_t>());
      case MetadataType::kUint64:
        return SetAlignment(Get<uint64_t>());
      default:
        is_understood_ = false;
    }
  }
  void SetAlignment(uint64_t alignment) {
    alignment_ = alignment;
    if (!std::has_single_bit(alignment) || alignment > kMaxAlignment) is_understood_ = false;
  }

  void SkipValue(MetadataType type, int depth) {
    if (type > MetadataType::kFloat64) {
      is_understood_ = false;
    } else if (type == MetadataType::kString) {
      Skip(Size());
    } else if (type != MetadataType::kArray) {
      Skip(ScalarBytes(type));
    } else {
      const auto elem_type = static_cast<MetadataType>(Get<uint32_t>());
      const uint64_t n = Size();
      if (elem_type > MetadataType::kFloat64 || depth == kMaxArrayDepth) {
        is_understood_ = false;
      } else if (const uint32_t elem_bytes = ScalarBytes(elem_type); elem_bytes != 0) {
        Skip(CheckedMul(n, elem_bytes));
      } else {
        // Each takes bytes of the header, which are limited.
        for (uint64_t i = 0; i < n && is_understood_; ++i) SkipValue(elem_type, depth + 1);
      }
    }
  }

  void ReadTensor(uint32_t index) {
    outline_.names.push_back(Text());
    const auto n_dims = Get<uint32_t>();
    std::optional<uint64_t> n_elems = 1;
    for (uint32_t i = 0; i < n_dims && is_understood_; ++i) {
      const uint64_t dim = Size();
      if (n_elems) n_elems = CheckedMul(*n_elems, dim);
    }
    const auto type = DTypeFromGgufId(Get<uint32_t>());
    const auto offset = Get<uint64_t>();
    if (!type || !n_elems) return;
    // Rows that are no whole blocks are not looked for: only the sum is needed.
    const auto n_bytes = RowBytes(*type, *n_elems);
    if (n_bytes && *n_bytes != 0) outline_.extents.push_back({offset, *n_bytes, index, *type});
  }

  // Turns offsets into places, and leaves out what overlaps or is beyond all files.
  void PlaceExtents() {
    const auto data = CheckedAlignUp(at_, alignment_);
    std::vector<GgufExtent> placed;
    placed.reserve(outline_.extents.size());
    for (GgufExtent extent : outline_.extents) {
      const auto begin = CheckedAdd(*data, extent.begin);
      const auto end = begin ? CheckedAdd(*begin, extent.bytes) : std::nullopt;
      if (!end || *end > uint64_t{INT64_MAX}) continue;
      extent.begin = *begin;
      placed.push_back(extent);
    }
    std::ranges::sort(placed, [](const GgufExtent& a, const GgufExtent& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.tensor < b.tensor;
    });
    outline_.extents.clear();
    for (const GgufExtent& extent : placed) {
      if (extent.begin >= outline_.data_end()) outline_.extents.push_back(extent);
    }
  }

  ByteStream& stream_;
  GgufOutline outline_;
  uint64_t at_ = 0;
  uint32_t version_ = 0;
  uint64_t alignment_ = kGgufAlignment;
  bool is_understood_ = true;
};

}  // namespace

std::optional<GgufOutline> ReadGgufOutline(ByteStream& stream) {
  return OutlineReader(stream).Read();
}

}  // namespace quern
