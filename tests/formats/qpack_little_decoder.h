// A second reader of QPACK, written from formats/QPACK.md and from nothing of quern's: slow, short,
// trusting. It tests the document and the writer; the table of types it reads out of the document.
#pragma once

#include <xxhash.h>
#include <zstd.h>

#include <algorithm>
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

// A type as the table of "Groups and planes" of QPACK.md has it.
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

// The data of a tensor in a GGUF file.
struct Extent {
  uint64_t begin, bytes;
  uint32_t type;
};

constexpr uint64_t kScalarBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

// Finds the extents ("Outline"). The sums of this reader may wrap where the header lies: it trusts.
class Outline {
 public:
  Outline(const Bytes& header, const std::map<uint32_t, Type>& types) : in_(header) {
    in_.Take(4);
    version_ = in_.Get<uint32_t>();
    const uint64_t n_tensors = Size(), n_keys = Size();
    uint64_t alignment = 32;
    for (uint64_t i = 0; i < n_keys; ++i) {
      const std::string key = Text();
      const auto type = in_.Get<uint32_t>();
      if (key == "general.alignment") {
        alignment = 0;
        std::memcpy(&alignment, in_.Take(kScalarBytes[type]), kScalarBytes[type]);
      } else {
        SkipValue(type);
      }
    }
    for (uint64_t i = 0; i < n_tensors; ++i) {
      Text();
      uint64_t n_elems = 1;
      for (uint32_t n_dims = in_.Get<uint32_t>(); n_dims > 0; --n_dims) n_elems *= Size();
      const auto id = in_.Get<uint32_t>();
      const auto offset = in_.Get<uint64_t>();
      const auto type = types.find(id);
      if (type == types.end() || n_elems % type->second.elems != 0 || n_elems == 0) continue;
      extents.push_back({offset, n_elems / type->second.elems * type->second.bytes, id});
    }
    Expect(in_.at() == header.size(), "header_bytes");
    const uint64_t data = (in_.at() + alignment - 1) / alignment * alignment;
    for (Extent& extent : extents) extent.begin += data;
    std::stable_sort(extents.begin(), extents.end(),
                     [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
    std::vector<Extent> kept;
    for (const Extent& extent : extents) {
      if (kept.empty() || extent.begin >= kept.back().begin + kept.back().bytes) {
        kept.push_back(extent);
      }
    }
    extents = kept;
  }

  std::vector<Extent> extents;

 private:
  uint64_t Size() { return version_ == 1 ? in_.Get<uint32_t>() : in_.Get<uint64_t>(); }
  std::string Text() {
    const uint64_t n = Size();
    return std::string(reinterpret_cast<const char*>(in_.Take(n)), n);
  }
  void SkipValue(uint32_t type) {
    if (type == 8) {
      Text();
    } else if (type == 9) {
      const auto elem_type = in_.Get<uint32_t>();
      for (uint64_t n = Size(); n > 0; --n) SkipValue(elem_type);
    } else {
      in_.Take(kScalarBytes[type]);
    }
  }

  Reader in_;
  uint32_t version_ = 0;
};

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

// Decodes the planes of a group of `n` blocks from the entries of the table and what follows it.
inline Bytes ReadGroup(const Type& type, uint64_t n, Reader& table, Reader& coded_planes) {
  Bytes planes;
  for (const std::string& field : type.fields) {
    const bool is_number = field[0] == 'r' || field[0] == 'i';
    const uint64_t width = std::stoul(is_number ? field.substr(1) : field);
    for (uint64_t k = 0; k < (is_number ? width : 1); ++k) {
      const auto entry = table.Get<uint32_t>();
      const uint32_t coded_bytes = entry & 0x7FFFFFFF;
      const uint8_t* coded = coded_planes.Take(coded_bytes);
      Bytes plane(is_number ? n : n * width);
      if ((entry >> 31) != 0) {
        Expect(ZSTD_decompress(plane.data(), plane.size(), coded, coded_bytes) == plane.size(),
               "zstd");
      } else {
        Expect(coded_bytes == plane.size(), "stored plane");
        std::memcpy(plane.data(), coded, coded_bytes);
      }
      planes.insert(planes.end(), plane.begin(), plane.end());
    }
  }
  Bytes out(n * type.bytes);
  uint64_t offset = 0, done = 0;
  for (const std::string& field : type.fields) {
    const bool is_number = field[0] == 'r' || field[0] == 'i';
    const uint64_t width = std::stoul(is_number ? field.substr(1) : field);
    JoinField(field, offset, type.bytes, n, planes.data() + done, out);
    offset += width;
    done += n * width;
  }
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
  std::vector<Extent> extents;
  while (true) {
    const uint64_t begin = in.at();
    uint64_t mark = 0;
    Expect(begin + 8 <= file.size(), "no end mark");
    std::memcpy(&mark, &file[begin], 8);
    if (mark == 0) break;
    const auto raw_bytes = in.Get<uint32_t>();
    const auto packed_bytes = in.Get<uint32_t>();
    const auto raw_hash = in.Get<uint64_t>();
    const uint32_t payload_bytes = packed_bytes & 0x7FFFFFFF;
    const uint8_t* start = in.Take(payload_bytes);
    const Bytes payload(start, start + payload_bytes);
    Bytes hashed(&file[begin], &file[begin] + (in.at() - begin));
    for (int i = 0; i < 8; ++i) hashed.push_back(static_cast<uint8_t>(directory.size() >> 8 * i));
    Expect(in.Get<uint64_t>() == XXH3_64bits(hashed.data(), hashed.size()), "hash");

    // The piece: where it must end, unless the file ends before.
    if (out.size() == header_bytes && header_bytes != 0) extents = Outline(out, types).extents;
    uint64_t end = out.size() + segment_bytes;
    if (out.size() < header_bytes) end = std::min(end, header_bytes);
    for (const Extent& extent : extents) {
      if (extent.begin < end && end < extent.begin + extent.bytes) {
        end -= (end - extent.begin) % types.at(extent.type).bytes;
      }
    }
    const uint64_t piece_begin = out.size();
    Expect(piece_begin + raw_bytes <= end, "raw_bytes");
    const bool is_last = piece_begin + raw_bytes < end;
    end = piece_begin + raw_bytes;

    Bytes piece(raw_bytes);
    if ((packed_bytes >> 31) != 0) {
      Expect(payload.size() == raw_bytes, "stored piece");
      piece = payload;
    } else {
      // What each byte is: 0, or one more than the id of its block's type.
      std::vector<uint32_t> kinds(raw_bytes);
      for (const Extent& extent : extents) {
        for (uint64_t at = std::max(extent.begin, piece_begin);
             at < std::min(extent.begin + extent.bytes, end); ++at) {
          kinds[at - piece_begin] = extent.type + 1;
        }
      }
      std::map<uint32_t, std::vector<uint64_t>> groups;  // places of their bytes
      for (uint64_t i = 0; i < raw_bytes; ++i) groups[kinds[i]].push_back(i);
      uint64_t n_planes = 0;
      for (const auto& [kind, places] : groups) {
        for (const std::string& field : (kind == 0 ? plain : types.at(kind - 1)).fields) {
          n_planes += field[0] == 'r' || field[0] == 'i' ? std::stoul(field.substr(1)) : 1;
        }
      }
      Reader table(payload), coded(payload);
      coded.Take(4 * n_planes);
      for (const auto& [kind, places] : groups) {
        const Type& type = kind == 0 ? plain : types.at(kind - 1);
        const Bytes blocks = ReadGroup(type, places.size() / type.bytes, table, coded);
        Expect(blocks.size() == places.size(), "whole blocks");
        for (uint64_t i = 0; i < places.size(); ++i) piece[places[i]] = blocks[i];
      }
      Expect(coded.at() == payload.size(), "packed_bytes");
      Expect(payload.size() < raw_bytes, "a payload that is no shorter");
    }
    Expect(XXH3_64bits(piece.data(), piece.size()) == raw_hash, "raw_hash");
    out.insert(out.end(), piece.begin(), piece.end());
    directory.push_back(static_cast<uint32_t>(in.at() - begin));
    if (!is_last) continue;
    std::memcpy(&mark, &file[in.at()], 8);
    Expect(mark == 0, "a short piece that is not the last one");
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
