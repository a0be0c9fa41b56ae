#include "formats/qpack_parts.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "formats/core/check.h"
#include "formats/core/hash.h"
#include "formats/gguf_format.h"

namespace quern {

Error QpackError(std::string_view id, std::string_view what, const std::string& file) {
  Error error = DataError(id, what);
  error.File(Escaped(file, 4096));
  error.Hint("the file is damaged or incomplete; fetch it again, or pack the model again");
  return error;
}

std::vector<uint8_t> EncodeQpackPrologue(const QpackPrologue& prologue) {
  std::vector<uint8_t> out(kQpackPrologueBytes);
  std::memcpy(out.data(), kQpackMagic.data(), kQpackMagic.size());
  StoreLE(&out[8], kQpackVersion);
  StoreLE(&out[12], prologue.segment_bytes);
  StoreLE(&out[16], prologue.header_bytes);
  StoreLE(&out[24], Xxh3(ByteView(out).first(24)));
  return out;
}

QpackPrologue ParseQpackPrologue(ByteView bytes, const std::string& file) {
  QUERN_CHECK(bytes.size() == kQpackPrologueBytes);
  if (!AsText(bytes).starts_with(kQpackMagic)) {
    throw QpackError("input.unknown-format", "file does not begin as QPACK", file)
        .Found("first bytes " + Quoted(AsText(bytes.first(8))));
  }
  // These 32 bytes have this shape in every version.
  if (LoadLE<uint64_t>(&bytes[24]) != Xxh3(bytes.first(24))) {
    throw QpackError("qpack.prologue", "first 32 bytes are damaged", file);
  }
  const uint32_t version = LoadLE<uint32_t>(&bytes[8]);
  if (version == 0) {
    throw QpackError("qpack.version", "version of QPACK is impossible", file).Found("0");
  }
  if (version != kQpackVersion) {
    throw UnsupportedError("qpack.version", "version of QPACK is newer than this quern")
        .File(Escaped(file, 4096))
        .Found(std::to_string(version))
        .Expected(std::to_string(kQpackVersion))
        .Hint("get a newer quern, or the model as GGUF");
  }
  const QpackPrologue prologue{LoadLE<uint32_t>(&bytes[12]), LoadLE<uint64_t>(&bytes[16])};
  if (!std::has_single_bit(prologue.segment_bytes) ||
      prologue.segment_bytes < kQpackMinSegmentBytes ||
      prologue.segment_bytes > kQpackMaxSegmentBytes) {
    throw QpackError("qpack.prologue", "size of segments is out of range", file)
        .Found(std::to_string(prologue.segment_bytes))
        .Expected(fmt::format("a power of two from {} to {}", kQpackMinSegmentBytes,
                              kQpackMaxSegmentBytes));
  }
  if (prologue.header_bytes > kGgufMaxHeaderBytes) {
    throw QpackError("qpack.prologue", "length of the GGUF header is out of range", file)
        .Found(std::to_string(prologue.header_bytes))
        .Expected(fmt::format("at most {}", kGgufMaxHeaderBytes));
  }
  return prologue;
}

std::vector<uint8_t> EncodeQpackEnd(uint64_t gguf_bytes, const std::vector<uint32_t>& directory) {
  std::vector<uint8_t> out(kQpackEndMarkBytes + 4 * directory.size() + kQpackFooterBytes);
  uint8_t* at = out.data() + kQpackEndMarkBytes;
  for (const uint32_t bytes : directory) {
    StoreLE(at, bytes);
    at += 4;
  }
  StoreLE(at, gguf_bytes);
  StoreLE(at + 8, uint64_t{directory.size()});
  StoreLE(at + 16, Xxh3(ByteView(out).subspan(kQpackEndMarkBytes, 4 * directory.size() + 16)));
  std::memcpy(at + 24, kQpackEndMagic.data(), kQpackEndMagic.size());
  return out;
}

QpackFooter ParseQpackFooter(ByteView bytes, const std::string& file) {
  QUERN_CHECK(bytes.size() == kQpackFooterBytes);
  if (!AsText(bytes).ends_with(kQpackEndMagic)) {
    throw QpackError("qpack.truncated", "file does not end as QPACK", file)
        .Expected("the letters " + Quoted(kQpackEndMagic));
  }
  return {LoadLE<uint64_t>(&bytes[0]), LoadLE<uint64_t>(&bytes[8]), LoadLE<uint64_t>(&bytes[16])};
}

void CheckQpackHash(const QpackFooter& footer, ByteView directory, const std::string& file) {
  Xxh3Stream hash;
  hash.Update(directory);
  uint8_t numbers[16];
  StoreLE(numbers, footer.gguf_bytes);
  StoreLE(numbers + 8, footer.n_segments);
  hash.Update(numbers);
  if (hash.Digest() == footer.hash) return;
  throw QpackError("qpack.directory", "directory at the file's end is damaged", file)
      .Found(HexOf(hash.Digest()))
      .Expected(HexOf(footer.hash));
}

}  // namespace quern
