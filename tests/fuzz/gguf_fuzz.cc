// GGUF, from bytes to rows. Beyond "no crash": every extent is checked again in 128 bits, a stream
// read byte by byte equals the file read at once, write after read is a fixpoint, and what is
// allocated follows the input's size.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/buffered_stream.h"
#include "formats/gguf_metadata.h"
#include "formats/gguf_reader.h"
#include "formats/gguf_writer.h"
#include "formats/integrity_trailer.h"
#include "formats/verifying_store.h"
#include "tests/fuzz/allocations.h"
#include "tests/fuzz/fuzz_support.h"

namespace {

using quern::ByteView;
using quern::Error;
using quern::fuzz::g_largest_allocation;
using quern::fuzz::IntoVector;
using quern::fuzz::IsRefusal;
using quern::fuzz::Pipe;
using quern::fuzz::Require;

// The extents once more, in 128 bits and from the file's own numbers.
void CheckExtents(const quern::GgufFile& file, uint64_t file_bytes) {
  __extension__ typedef unsigned __int128 Wide;
  const auto& tensors = file.manifest().tensors;
  Wide end = file.layout().data_offset;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const quern::BlockLayout& layout = quern::LayoutOf(tensors[i].dtype);
    Wide n_elems = 1;
    for (size_t d = 0; d < tensors[i].shape.rank(); ++d) n_elems *= tensors[i].shape.dim(d);
    Require(n_elems % layout.block_elems == 0);
    const Wide n_bytes = n_elems / layout.block_elems * layout.block_bytes;
    Require(n_bytes == tensors[i].size_bytes());
    Require(Wide{file.tensor_offset(i)} == end);
    Require(n_bytes == 0 || end + n_bytes <= file_bytes);
    const Wide alignment = file.layout().alignment;
    end = (end + n_bytes + alignment - 1) / alignment * alignment;
  }
  Require(end == file.layout().data_end || tensors.empty());
}

// Returns what the writer makes of a source.
std::vector<uint8_t> Written(quern::TensorSource& source, size_t band_bytes, bool trailer = false) {
  std::vector<uint8_t> out;
  uint64_t widest = 1;
  for (const auto& tensor : source.manifest().tensors) {
    if (tensor.rows() != 0) widest = std::max(widest, tensor.row_bytes());
  }
  std::vector<uint8_t> buffer(std::max<uint64_t>(widest, band_bytes));
  const auto sink = quern::MakeGgufWriter(std::make_unique<IntoVector>(out), {.trailer = trailer});
  sink->Begin(source.manifest());
  while (const auto band = source.Next(buffer)) sink->Put(*band);
  sink->Finish();
  Require(out.size() == quern::GgufFileBytes(source.manifest(), {.trailer = trailer}));
  return out;
}

// Reads a source to its end. Returns the id of the error with which it ends, which can only be that
// it does not agree with its trailer.
std::string EndOf(quern::TensorSource& source) {
  std::vector<uint8_t> buffer(1 << 16);
  try {
    for (const auto& tensor : source.manifest().tensors) {
      if (tensor.rows() != 0) buffer.resize(std::max<uint64_t>(buffer.size(), tensor.row_bytes()));
    }
    while (source.Next(buffer)) {
    }
  } catch (const Error& error) {
    Require(IsRefusal(error) && error.id().starts_with("trailer."));
    return error.id();
  }
  return "";
}

// Returns the opened file, or null where it is refused.
std::unique_ptr<quern::GgufFile> Open(ByteView bytes) {
  try {
    return std::make_unique<quern::GgufFile>(std::make_shared<quern::MemoryBytes>(bytes, "file"));
  } catch (const Error& error) {
    Require(IsRefusal(error));
    return nullptr;
  }
}

// The same model with a trailer: it proves itself, and any flipped bit is found.
void CheckTrailer(const quern::GgufFile& file, uint64_t some_number) {
  quern::StoreWalk walk(file);
  auto sealed = Written(walk, 1 << 12, true);
  Require(quern::CheckGgufIntegrity(*Open(sealed)).empty());
  const uint64_t bit = some_number % (sealed.size() * 8);
  sealed[bit / 8] ^= static_cast<uint8_t>(1U << bit % 8);
  const auto damaged = Open(sealed);
  if (damaged == nullptr) return;
  const auto findings = quern::CheckGgufIntegrity(*damaged);
  Require(std::ranges::any_of(findings, [](const quern::Finding& finding) {
    return finding.severity == quern::Finding::Severity::kError;
  }));
}

// Nothing of this may throw: the file was found valid.
void CheckValidFile(const quern::GgufFile& file, ByteView bytes) {
  CheckExtents(file, bytes.size());
  quern::StoreWalk walk(file);
  const auto written = Written(walk, 64);
  // Through a pipe, one byte at a time: the same.
  const auto piped = quern::ReadGgufStream(std::make_unique<Pipe>(bytes));
  const auto piped_again = quern::ReadGgufStream(std::make_unique<Pipe>(bytes));
  const std::string end = EndOf(*piped_again);
  const quern::VerifyingStore verifying(Open(bytes));
  Require(EndOf(*verifying.Walk()) == end);
  if (end.empty()) Require(Written(*piped, 1) == written);
  // Written and read again: the same.
  const auto again = Open(written);
  Require(again != nullptr && again->trailing_bytes() == 0);
  CheckExtents(*again, written.size());
  quern::StoreWalk walk_again(*again);
  Require(Written(walk_again, 1 << 20) == written);
  CheckTrailer(file, quern::Xxh3(bytes));
}

// Reads a header; returns its bytes, or nothing where it is refused.
std::optional<uint64_t> HeaderBytes(quern::ByteStream& stream) {
  try {
    return quern::ReadGgufHeader(stream).header_bytes;
  } catch (const Error& error) {
    Require(IsRefusal(error));
    return std::nullopt;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteView bytes(data, size);
  const quern::MemoryBytes file(bytes, "file");
  quern::RandomAccessStream at_once(file);
  g_largest_allocation = 0;
  const auto from_file = HeaderBytes(at_once);
  Require(g_largest_allocation <= 16 * size + (size_t{1} << 20));
  Pipe pipe(bytes);
  quern::BufferedStream one_by_one(pipe, 1);
  const auto from_pipe = HeaderBytes(one_by_one);
  // The file's length only ever adds reasons to refuse.
  Require(!from_file || from_pipe == from_file);
  Require(!from_pipe || one_by_one.position() == *from_pipe);
  if (const auto opened = Open(bytes)) CheckValidFile(*opened, bytes);
  return 0;
}
