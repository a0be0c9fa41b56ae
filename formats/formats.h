// What a file is, told by its first bytes, and the table of containers that hold whole models.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/bytes.h"
#include "formats/core/error.h"
#include "formats/core/file.h"
#include "formats/core/finding.h"
#include "formats/core/log.h"
#include "formats/core/stream.h"

namespace quern {

enum class FileKind : uint8_t {
  kGguf,
  kQpack,
  kTorchZip,     // torch.save since 1.6
  kTorchLegacy,  // a bare pickle stream: torch.save before 1.6
  kTar,          // torch.save before 0.1.10, or any tar
  kSafetensors,
  kSentencePiece,
  kTiktoken,
  kJson,
  kImatrix,  // llama.cpp's legacy imatrix.dat
  kLogits,   // llama.cpp's base logits
  kGitLfsPointer,
  kHtml,
  kMangledQpack,  // QPACK whose line ends a transfer as text changed
  kOldGgml,  // ggml, ggmf, ggjt, ggla
  kForeign,  // something recognised that is nothing for quern: 7z, gzip, …
  kDirectory,
  kUnknown,
};

// Returns a phrase for messages: "a GGUF file", "a Git LFS pointer", …
std::string_view DescriptionOf(FileKind kind);

// Bytes that a caller of DetectKind should give, if the file has as many.
inline constexpr size_t kDetectBytes = 4096;

// Returns the kind of a file that begins with `head`. What the bytes leave open (an empty or
// damaged file) the extension of `path` decides.
FileKind DetectKind(ByteView head, std::string_view path);
// Returns the kind of the file or folder at `path`.
// Throws: Error kSystem if it cannot be opened.
FileKind DetectKind(const std::string& path);

// Returns true if the first line is that of a tiktoken vocabulary: base64, a space, a rank.
bool LooksLikeTiktoken(std::string_view text);

// Returns the error for a file of kind `kind` where `wanted` ("a model") was asked for, with what
// to do about it: "input.lfs-pointer", "input.html", "input.unknown-format", "input.kind".
Error WrongKind(FileKind kind, ByteView head, std::string_view path, std::string_view wanted);

struct ModelWriteOptions {
  bool trailer = true;  // formats/integrity_trailer.h
  // Where the container packs (formats/qpack_writer.h): its level, and memory for all buffers.
  int level = 1;
  uint64_t memory_bytes = uint64_t{512} << 20;
};

// A container of whole models. Adding one is a row in the table of formats.cc.
struct Container {
  FileKind kind;
  std::string_view name;  // "gguf", as for --format
  std::unique_ptr<TensorStore> (*open)(std::shared_ptr<const RandomAccessBytes> bytes);
  std::unique_ptr<TensorSource> (*read_stream)(std::unique_ptr<ByteStream> stream);
  std::unique_ptr<TensorSink> (*make_writer)(std::unique_ptr<Output> output,
                                             const ModelWriteOptions& options);
  // Returns every fault of one file that can be told without knowing what weights mean; without
  // `hash_tensors`, and without reading the tensors.
  std::vector<Finding> (*check)(std::shared_ptr<const RandomAccessBytes> bytes, bool hash_tensors,
                                Progress* progress);
};

std::span<const Container> AllContainers();
// Returns the row with that kind or name, or null.
const Container* FindContainer(FileKind kind);
const Container* FindContainer(std::string_view name);

}  // namespace quern
