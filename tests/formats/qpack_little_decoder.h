// A second reader of QPACK, written from formats/QPACK.md and from nothing of quern's: slow, short,
// trusting. It tests the document and the writer; the table of types it reads out of the document.
#pragma once

#include <xxhash.h>
#include <zstd.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace little {

using Bytes = std::vector<uint8_t>;

inline void Expect(bool condition, const char* what) {
  if (!condition) throw std::runtime_error(what);
}

// A type as the table "Planes" of QPACK.md has it.
struct Type {
  uint64_t elems = 1, bytes = 1;
  std::vector<std::string> fields;
};

inline std::map<uint32_t, Type> TypesOf(const std::string& document) {
  std::map<uint32_t, Type> types;
  std::ifstream lines(document);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("| `") || line.ends_with("fields |")) continue;
    for (char& c : line) {
      if (c == '|' || c == '`') c = ' ';
    }
    std::istringstream words(line);
    std::string name, field;
    uint32_t id = 0;
    Type type;
    if (!(words >> name >> id >> type.elems >> type.bytes)) continue;
    while (words >> field) type.fields.push_back(field);
    types[id] = type;
  }
  return types;
}

class Reader {
 public:
  explicit Reader(const Bytes& bytes) : bytes_(bytes) {}
  template <typename T>
  T Get() {
    T value;
    std::memcpy(&value, Take(sizeof value), sizeof value);
    return value;
  }
  const uint8_t* Take(uint64_t n) {
    Expect(n <= bytes_.size() - at_, "the bytes end");
    at_ += n;
    return bytes_.data() + at_ - n;
  }
  uint64_t at() const { return at_; }

 private:
  const Bytes& bytes_;
  uint64_t at_ = 0;
};

// Where the data of each tensor lies in a GGUF file, and of which type it is.
struct Extent {
  uint64_t begin, bytes;
  uint32_t type;
};

inline std::vector<Extent> ExtentsOf(const Bytes& header, const std::map<uint32_t, Type>& types) {
  Reader in(header);
  in.Take(4);
  const auto version = in.Get<uint32_t>();
  const auto Size = [&]() -> uint64_t {
    return version == 1 ? in.Get<uint32_t>() : in.Get<uint64_t>();
  };
  const auto Text = [&] {
    const uint64_t n = Size();
    return std::string(reinterpret_cast<const char*>(in.Take(n)), n);
  };
  constexpr uint64_t kScalarBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  const uint64_t n_tensors = Size(), n_keys = Size();
  uint64_t alignment = 32;
  for (uint64_t i = 0; i < n_keys; ++i) {
    const std::string key = Text();
    uint32_t type = in.Get<uint32_t>();
    uint64_t count = 1;
    if (type == 9) {
      type = in.Get<uint32_t>();
      count = Size();
    }
    if (key == "general.alignment") {
      alignment = in.Get<uint32_t>();
    } else if (type == 8) {
      for (uint64_t k = 0; k < count; ++k) Text();
    } else {
      in.Take(count * kScalarBytes[type]);
    }
  }
  std::vector<Extent> extents;
  for (uint64_t i = 0; i < n_tensors; ++i) {
    Text();
    uint64_t n_elems = 1;
    for (uint32_t n_dims = in.Get<uint32_t>(); n_dims > 0; --n_dims) n_elems *= Size();
    const auto id = in.Get<uint32_t>();
    const Type& type = types.at(id);
    const auto offset = in.Get<uint64_t>();
    extents.push_back({offset, n_elems / type.elems * type.bytes, id});
  }
  const uint64_t data = (in.at() + alignment - 1) / alignment * alignment;
  for (Extent& extent : extents) extent.begin += data;
  return extents;
}

// Puts one field of `n` blocks in its place, from the planes that begin at `from`.
inline void JoinField(const std::string& field, uint64_t offset, uint64_t block_bytes, uint64_t n,
                      const uint8_t* from, Bytes& out) {
  const bool is_number = field[0] == 'r' || field[0] == 'i';
  const uint64_t width = std::stoul(is_number ? field.substr(1) : field);
  for (uint64_t i = 0; i < n; ++i) {
    uint8_t* to = &out[i * block_bytes + offset];
    if (!is_number) {
      std::memcpy(to, from + i * width, width);
      continue;
    }
    uint64_t x = 0;
    for (uint64_t k = 0; k < width; ++k) x |= uint64_t{from[k * n + i]} << 8 * k;
    if (field[0] == 'r') x = x >> 1 | (x & 1) << (8 * width - 1);
    std::memcpy(to, &x, width);
  }
}

// Reads the next segment: `raw_bytes` bytes of GGUF of the given type.
inline Bytes ReadSegment(Reader& in, const Bytes& file, uint64_t index, uint64_t raw_bytes,
                         const Type& type) {
  const uint64_t begin = in.at();
  Expect(in.Get<uint32_t>() == raw_bytes, "raw_bytes");
  const auto packed_bytes = in.Get<uint32_t>();
  const auto raw_hash = in.Get<uint64_t>();
  const uint64_t payload_end = in.at() + packed_bytes;
  const uint64_t n = raw_bytes / type.bytes;
  // The bytes of each plane.
  std::vector<uint64_t> plane_bytes;
  for (const std::string& field : type.fields) {
    if (field[0] == 'r' || field[0] == 'i') {
      plane_bytes.insert(plane_bytes.end(), std::stoul(field.substr(1)), n);
    } else {
      plane_bytes.push_back(n * std::stoul(field));
    }
  }
  std::vector<uint32_t> table;
  for (size_t i = 0; i < plane_bytes.size(); ++i) table.push_back(in.Get<uint32_t>());
  Bytes planes;
  for (size_t i = 0; i < plane_bytes.size(); ++i) {
    const uint32_t coded_bytes = table[i] & 0x7FFFFFFF;
    const uint8_t* coded = in.Take(coded_bytes);
    Bytes plane(plane_bytes[i]);
    if ((table[i] >> 31) != 0) {
      Expect(ZSTD_decompress(plane.data(), plane.size(), coded, coded_bytes) == plane.size(),
             "zstd");
    } else {
      Expect(coded_bytes == plane.size(), "stored plane");
      std::memcpy(plane.data(), coded, coded_bytes);
    }
    planes.insert(planes.end(), plane.begin(), plane.end());
  }
  Expect(in.at() == payload_end, "packed_bytes");
  Bytes hashed(&file[begin], &file[payload_end]);
  for (int i = 0; i < 8; ++i) hashed.push_back(static_cast<uint8_t>(index >> 8 * i));
  Expect(in.Get<uint64_t>() == XXH3_64bits(hashed.data(), hashed.size()), "hash");
  Bytes out(raw_bytes);
  uint64_t offset = 0, done = 0;
  for (const std::string& field : type.fields) {
    const bool is_number = field[0] == 'r' || field[0] == 'i';
    const uint64_t width = std::stoul(is_number ? field.substr(1) : field);
    JoinField(field, offset, type.bytes, n, planes.data() + done, out);
    offset += width;
    done += n * width;
  }
  Expect(XXH3_64bits(out.data(), out.size()) == raw_hash, "raw_hash");
  return out;
}

// Returns the GGUF file inside. Throws: std::runtime_error.
inline Bytes Unpack(const Bytes& file, const std::map<uint32_t, Type>& types) {
  Reader in(file);
  Expect(std::memcmp(in.Take(8), "QPACK\r\n\x1A", 8) == 0, "magic");
  Expect(in.Get<uint32_t>() == 1, "version");
  const uint64_t segment_bytes = in.Get<uint32_t>();
  const auto header_bytes = in.Get<uint64_t>();
  Expect(in.Get<uint64_t>() == XXH3_64bits(file.data(), 24), "hash of the prologue");
  const Type plain{1, 1, {"1"}};
  Bytes out;
  std::vector<uint32_t> directory;
  const auto Region = [&](uint64_t end, const Type& type) {
    const uint64_t piece = segment_bytes / type.bytes * type.bytes;
    while (out.size() < end) {
      const uint64_t begin = in.at();
      const Bytes raw =
          ReadSegment(in, file, directory.size(), std::min(piece, end - out.size()), type);
      out.insert(out.end(), raw.begin(), raw.end());
      directory.push_back(static_cast<uint32_t>(in.at() - begin));
    }
  };
  Region(header_bytes, plain);
  for (const Extent& extent : ExtentsOf(out, types)) {
    if (extent.bytes == 0) continue;
    Region(extent.begin, plain);
    Region(extent.begin + extent.bytes, types.at(extent.type));
  }
  while (true) {
    uint64_t mark = 0;
    uint32_t raw_bytes = 0;
    Expect(in.at() + 8 <= file.size(), "no end mark");
    std::memcpy(&mark, &file[in.at()], 8);
    std::memcpy(&raw_bytes, &file[in.at()], 4);
    if (mark == 0) break;
    Region(out.size() + raw_bytes, plain);
  }
  in.Take(8);
  const uint64_t begin = in.at();
  for (const uint32_t bytes : directory) Expect(in.Get<uint32_t>() == bytes, "directory");
  Expect(in.Get<uint64_t>() == out.size(), "gguf_bytes");
  Expect(in.Get<uint64_t>() == directory.size(), "n_segments");
  const uint64_t hash = XXH3_64bits(&file[begin], in.at() - begin);
  Expect(in.Get<uint64_t>() == hash, "hash of the directory");
  Expect(std::memcmp(in.Take(8), "QPACKEND", 8) == 0, "end magic");
  Expect(in.at() == file.size(), "bytes follow");
  return out;
}

}  // namespace little
