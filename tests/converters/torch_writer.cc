#include "tests/converters/torch_writer.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace quern::testing {
namespace {

// Appends little-endian integers and text.
class ByteBuilder {
 public:
  template <typename T>
  ByteBuilder& Int(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) bytes_.push_back(static_cast<uint8_t>(value >> (8 * i)));
    return *this;
  }
  ByteBuilder& Text(std::string_view text) {
    bytes_.insert(bytes_.end(), text.begin(), text.end());
    return *this;
  }
  ByteBuilder& Bytes(const std::vector<uint8_t>& bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  size_t size() const { return bytes_.size(); }
  std::vector<uint8_t> Take() { return std::move(bytes_); }

 private:
  std::vector<uint8_t> bytes_;
};

// Source: ISO 3309, the CRC of zip.
uint32_t Crc32(const std::vector<uint8_t>& bytes) {
  static const std::array<uint32_t, 256> kTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value & 1 ? 0xedb88320u ^ value >> 1 : value >> 1;
      table[i] = value;
    }
    return table;
  }();
  uint32_t crc = 0xffffffffu;
  for (const uint8_t byte : bytes) crc = kTable[(crc ^ byte) & 0xff] ^ crc >> 8;
  return ~crc;
}

// A zip archive as torch's writer makes it: stored entries, sizes only in data descriptors and the
// directory, data aligned to 64 through an "FB" field, a zip64 end record always.
class ZipWriter {
 public:
  explicit ZipWriter(bool sums) : sums_(sums) {}
  void Add(const std::string& name, const std::vector<uint8_t>& data, uint64_t n_zeros = 0) {
    const uint32_t crc = sums_ ? Crc32(data) : 0;
    const auto size = static_cast<uint32_t>(data.size() + n_zeros);
    const auto name_bytes = static_cast<uint16_t>(name.size());
    const uint64_t offset = out_.size() + n_zeros_;
    const uint64_t unpadded = offset + 30 + name.size() + 4;
    const auto padding = static_cast<uint16_t>((64 - unpadded % 64) % 64);
    out_.Text("PK\3\4").Int<uint16_t>(0).Int<uint16_t>(0x0808).Int<uint16_t>(0);
    out_.Int<uint32_t>(0).Int<uint32_t>(0).Int<uint32_t>(0).Int<uint32_t>(0);
    out_.Int(name_bytes).Int(static_cast<uint16_t>(padding + 4)).Text(name);
    out_.Text("FB").Int(padding).Text(std::string(padding, 'Z')).Bytes(data);
    if (n_zeros > 0) holes_.push_back({out_.size(), n_zeros});
    n_zeros_ += n_zeros;
    out_.Text("PK\7\10").Int(crc).Int(size).Int(size);
    directory_.Text("PK\1\2").Int<uint16_t>(0).Int<uint16_t>(0).Int<uint16_t>(0x0808);
    directory_.Int<uint16_t>(0).Int<uint32_t>(0).Int(crc).Int(size).Int(size).Int(name_bytes);
    directory_.Int<uint16_t>(0).Int<uint16_t>(0).Int<uint16_t>(0).Int<uint16_t>(0).Int<uint32_t>(0);
    directory_.Int(static_cast<uint32_t>(offset)).Text(name);
    ++n_entries_;
  }

  SparseFile Finish() {
    const uint64_t directory_offset = out_.size() + n_zeros_, directory_size = directory_.size();
    out_.Bytes(directory_.Take());
    const uint64_t end64 = out_.size() + n_zeros_;
    out_.Text("PK\6\6").Int<uint64_t>(44).Int<uint16_t>(0x031e).Int<uint16_t>(45);
    out_.Int<uint32_t>(0).Int<uint32_t>(0).Int<uint64_t>(n_entries_).Int<uint64_t>(n_entries_);
    out_.Int(directory_size).Int(directory_offset);
    out_.Text("PK\6\7").Int<uint32_t>(0).Int(end64).Int<uint32_t>(1);
    out_.Text("PK\5\6").Int<uint32_t>(0).Int(n_entries_).Int(n_entries_);
    // All ones: the zip64 record has it.
    out_.Int(static_cast<uint32_t>(directory_size));
    out_.Int(static_cast<uint32_t>(std::min<uint64_t>(directory_offset, 0xffffffffu)));
    out_.Int<uint16_t>(0);
    return {out_.Take(), std::move(holes_)};
  }

 private:
  bool sums_;
  ByteBuilder out_, directory_;
  std::vector<SparseFile::Hole> holes_;
  uint64_t n_zeros_ = 0;  // in all holes
  uint16_t n_entries_ = 0;
};

// Pickle, protocol 2, without memo.
class PickleWriter {
 public:
  PickleWriter() { out_.Text("\x80\x02"); }
  PickleWriter& Op(std::string_view op) { return out_.Text(op), *this; }
  PickleWriter& Unicode(std::string_view text) {
    out_.Text("X").Int(static_cast<uint32_t>(text.size())).Text(text);
    return *this;
  }
  PickleWriter& Global(std::string_view module, std::string_view name) {
    out_.Text("c").Text(module).Text("\n").Text(name).Text("\n");
    return *this;
  }
  PickleWriter& Int(uint64_t value) {
    if (value < 256) {
      out_.Text("K").Int(static_cast<uint8_t>(value));
    } else if (value < 65536) {
      out_.Text("M").Int(static_cast<uint16_t>(value));
    } else if (value < 1u << 31) {
      out_.Text("J").Int(static_cast<uint32_t>(value));
    } else {
      out_.Text("\x8a\x09").Int(value).Text(std::string_view("\0", 1));
    }
    return *this;
  }
  PickleWriter& Tuple(const std::vector<uint64_t>& values) {
    Op("(");
    for (const uint64_t value : values) Int(value);
    return Op("t");
  }
  std::vector<uint8_t> Finish() { return out_.Text(".").Take(); }

 private:
  ByteBuilder out_;
};

void WriteTensor(PickleWriter& pickle, const WrittenTensor& tensor, const WrittenStorage& storage) {
  pickle.Global("torch._utils", "_rebuild_tensor_v2").Op("(");
  pickle.Op("(").Unicode("storage").Global("torch", storage.torch_class);
  pickle.Unicode(std::to_string(tensor.storage)).Unicode("cpu");
  pickle.Int(storage.size_bytes() / storage.elem_bytes).Op("tQ");
  pickle.Int(tensor.offset_elems).Tuple(tensor.shape).Tuple(tensor.strides).Op("\x89");
  pickle.Global("collections", "OrderedDict").Op(")R").Op("tR");
}

}  // namespace

SparseFile WriteSparseTorchFile(const std::vector<WrittenStorage>& storages,
                                const std::vector<WrittenTensor>& tensors,
                                const TorchFileStyle& style) {
  PickleWriter pickle;
  if (!style.wrapper.empty()) pickle.Op("}(").Unicode(style.wrapper);
  if (style.ordered_dict) {
    pickle.Global("collections", "OrderedDict").Op(")R(");
  } else {
    pickle.Op("}(");
  }
  for (const WrittenTensor& tensor : tensors) {
    pickle.Unicode(style.prefix + tensor.name);
    WriteTensor(pickle, tensor, storages[tensor.storage]);
  }
  pickle.Op("u");
  if (!style.wrapper.empty()) pickle.Unicode("iter_num").Int(7).Op("u");

  ZipWriter zip(style.sums);
  zip.Add(style.archive + "/data.pkl", pickle.Finish());
  const std::string little = "little", version = "3\n";
  zip.Add(style.archive + "/byteorder", {little.begin(), little.end()});
  zip.Add(style.archive + "/version", {version.begin(), version.end()});
  for (size_t i = 0; i < storages.size(); ++i) {
    zip.Add(style.archive + "/data/" + std::to_string(i), storages[i].bytes,
            storages[i].n_zeros);
  }
  return zip.Finish();
}

std::vector<uint8_t> WriteTorchFile(const std::vector<WrittenStorage>& storages,
                                    const std::vector<WrittenTensor>& tensors,
                                    const TorchFileStyle& style) {
  return WriteSparseTorchFile(storages, tensors, style).bytes;
}

}  // namespace quern::testing
