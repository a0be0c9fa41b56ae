// What the harnesses of whole conversions share: an input that is cut into the files of a checkpoint,
// a mutator that changes one of them and keeps the frame, and the oracle for what converts.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "formats/core/error.h"
#include "formats/core/stream.h"
#include "formats/gguf_reader.h"
#include "formats/gguf_writer.h"
#include "tests/fuzz/fuzz_support.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace quern::fuzz {

// One byte of flags, then parts of a 32-bit length and as many bytes: first the side files, then the
// files of weights. A length beyond the end means the rest.
struct Input {
  uint8_t flags = 0;
  std::vector<Bytes> parts;
};

inline Input Split(const uint8_t* data, size_t size, size_t max_parts) {
  Input input;
  if (size == 0) return input;
  input.flags = data[0];
  size_t at = 1;
  while (size - at >= 4 && input.parts.size() < max_parts) {
    const size_t length = std::min<size_t>(LoadLE<uint32_t>(data + at), size - at - 4);
    at += 4;
    input.parts.emplace_back(data + at, data + at + length);
    at += length;
  }
  return input;
}

inline Bytes Join(const Input& input) {
  Bytes bytes = {input.flags};
  for (const Bytes& part : input.parts) {
    uint8_t length[4];
    StoreLE(length, static_cast<uint32_t>(part.size()));
    bytes.insert(bytes.end(), length, length + 4);
    bytes.insert(bytes.end(), part.begin(), part.end());
  }
  return bytes;
}

inline void RequireThat(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::abort();
}

inline Bytes ToGguf(const TensorStore& store) {
  uint64_t buffer_bytes = 4096;
  for (const TensorInfo& tensor : store.manifest().tensors) {
    buffer_bytes = std::max(buffer_bytes, tensor.row_bytes());
  }
  Bytes file, buffer(buffer_bytes);
  auto sink = MakeGgufWriter(std::make_unique<IntoVector>(file));
  StoreWalk walk(store);
  sink->Begin(store.manifest());
  while (const auto band = walk.Next(buffer)) sink->Put(*band);
  sink->Finish();
  return file;
}

// Requires that a model is written as GGUF of the size foretold, and read back as the same manifest
// and the same rows, one by one as well as many at once.
inline void RequireGguf(const TensorStore& store) {
  // A view with stride 0 makes much of little: leave it at what a fuzzer has time for.
  if (store.manifest().tensor_bytes() > 8u << 20) return;
  const Bytes file = ToGguf(store);
  RequireThat(file.size() == GgufFileBytes(store.manifest()), "the size is the one foretold");
  const auto again = OpenGguf(std::make_shared<MemoryBytes>(file, "converted"));
  RequireThat(store.manifest() == again->manifest(), "the manifest read back is the one written");
  for (size_t i = 0; i < store.manifest().tensors.size(); ++i) {
    const TensorInfo& info = store.manifest().tensors[i];
    Bytes row(info.row_bytes()), want(info.row_bytes());
    for (const uint64_t at : {uint64_t{0}, info.rows() / 2, info.rows() - 1}) {
      store.ReadRows(i, at, 1, row);
      again->ReadRows(i, at, 1, want);
      RequireThat(row == want, "a single row is the one in the file");
    }
  }
}

// Calls `convert`. Refusing is right; a failed check of quern's own is not.
template <typename Convert>
void RequireRefusalOrSuccess(Convert convert) {
  try {
    convert();
  } catch (const Error& error) {
    RequireThat(error.code() != ErrorCode::kBug, error.what());
    RequireThat(error.code() != ErrorCode::kSystem, error.what());
  }
}

// Changes one part at a time and keeps the frame whole. The first `n_side_files` parts are the small
// ones; half of the time a file of weights is changed, which is where the structure is.
inline size_t MutateOnePart(uint8_t* data, size_t size, size_t max_size, unsigned int seed,
                            size_t n_side_files, size_t max_parts) {
  Input input = Split(data, size, max_parts);
  if (input.parts.size() <= n_side_files || seed % 16 == 0) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  if (seed % 16 == 1) {
    input.flags = static_cast<uint8_t>(seed >> 8);
  } else if (seed % 16 == 2) {
    input.parts.push_back(input.parts.back());  // one file more
  } else {
    const size_t n_weights = input.parts.size() - n_side_files;
    const size_t which =
        seed % 4 < 2 ? n_side_files + seed / 16 % n_weights : seed / 16 % n_side_files;
    Bytes& part = input.parts[which];
    const size_t old_size = part.size();
    part.resize(old_size + 256);
    part.resize(LLVMFuzzerMutate(part.data(), old_size, part.size()));
  }
  const Bytes joined = Join(input);
  if (joined.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::copy(joined.begin(), joined.end(), data);
  return joined.size();
}

}  // namespace quern::fuzz
