// The encoder of zstd frames of literals. Oracle: the zstd library gives back the content, and the
// frame is no longer than is promised.
//
// Input: content as it is; or, where the first byte is odd, a row of runs (value, length) of which
// content of several blocks is made, so that few bytes of input reach codes of every shape.
#include <zstd.h>

#include "formats/zstd_literals.h"
#include "tests/fuzz/fuzz_support.h"

namespace {

using namespace quern;
using fuzz::Bytes;
using fuzz::Require;

Bytes ContentFrom(ByteView data) {
  if (data.empty() || data[0] % 2 == 0) return Bytes(data.begin(), data.end());
  // How far lengths are stretched. Two blocks take their time; so only where it is far.
  const unsigned shift = data[0] / 2 % 11;
  const size_t max_bytes = shift == 10 ? 140000 : 4000;
  Bytes out;
  for (size_t i = 1; i + 1 < data.size() && out.size() < max_bytes; i += 2) {
    const size_t n = std::min<size_t>(size_t{data[i + 1]} << shift, max_bytes - out.size());
    out.insert(out.end(), n, data[i]);
  }
  // Runs are mixed, so that all blocks have a part of them: a stride that visits every place.
  Bytes mixed(out.size());
  size_t at = 0;
  for (const uint8_t byte : out) {
    mixed[at] = byte;
    at += 7919;
    while (at >= out.size()) at -= out.size();
  }
  return out.size() % 7919 == 0 || data[0] >= 128 ? out : mixed;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Bytes content = ContentFrom({data, size});
  Bytes frame(ZstdLiteralsBound(content.size()));
  frame.resize(EncodeZstdLiterals(content, frame));
  Require(frame.size() + 8 <= ZstdLiteralsBound(content.size()));
  Require(ZSTD_getFrameContentSize(frame.data(), frame.size()) == content.size());
  Require(ZSTD_findFrameCompressedSize(frame.data(), frame.size()) == frame.size());
  Bytes back(content.size() + 1);
  Require(ZSTD_decompress(back.data(), back.size(), frame.data(), frame.size()) == content.size());
  back.pop_back();
  Require(back == content);
  return 0;
}
