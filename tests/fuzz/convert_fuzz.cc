// Conversion from end to end in memory: params.json, vocabulary and shards cut out of one input, to
// GGUF bytes. Whatever converts must be readable again, as the same manifest and the same rows, and
// merging must not depend on how many rows are asked for at once.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "converters/meta_checkpoint.h"
#include "formats/core/error.h"
#include "formats/core/file.h"
#include "formats/gguf_reader.h"
#include "formats/gguf_writer.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

using namespace quern;

// The input: one byte of flags, then parts of a 32-bit length and as many bytes: params.json,
// tokenizer.model, then shards. A length beyond the end means the rest.
constexpr size_t kMaxParts = 2 + 4;
constexpr uint8_t kIgnoreUnknown = 1, kVerifyCrc = 2;

struct Input {
  uint8_t flags = 0;
  std::vector<std::vector<uint8_t>> parts;
};

Input Split(const uint8_t* data, size_t size) {
  Input input;
  if (size == 0) return input;
  input.flags = data[0];
  size_t at = 1;
  while (size - at >= 4 && input.parts.size() < kMaxParts) {
    const size_t length = std::min<size_t>(LoadLE<uint32_t>(data + at), size - at - 4);
    at += 4;
    input.parts.emplace_back(data + at, data + at + length);
    at += length;
  }
  return input;
}

std::vector<uint8_t> Join(const Input& input) {
  std::vector<uint8_t> bytes = {input.flags};
  for (const auto& part : input.parts) {
    uint8_t length[4];
    StoreLE(length, static_cast<uint32_t>(part.size()));
    bytes.insert(bytes.end(), length, length + 4);
    bytes.insert(bytes.end(), part.begin(), part.end());
  }
  return bytes;
}

// Hands what is written to a vector that outlives the sink.
class VectorOutput final : public Output {
 public:
  explicit VectorOutput(std::vector<uint8_t>& bytes) : bytes_(bytes) {}
  const std::string& name() const override { return name_; }
  void Write(ByteView bytes) override { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  void Commit() override {}

 private:
  std::string name_ = "(memory)";
  std::vector<uint8_t>& bytes_;
};

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::abort();
}

std::vector<uint8_t> ToGguf(const TensorStore& store) {
  uint64_t buffer_bytes = 4096;
  for (const TensorInfo& tensor : store.manifest().tensors) {
    buffer_bytes = std::max(buffer_bytes, tensor.row_bytes());
  }
  std::vector<uint8_t> file, buffer(buffer_bytes);
  auto sink = MakeGgufWriter(std::make_unique<VectorOutput>(file));
  StoreWalk walk(store);
  sink->Begin(store.manifest());
  while (const auto band = walk.Next(buffer)) sink->Put(*band);
  sink->Finish();
  return file;
}

void ExpectSameModel(const TensorStore& store, const TensorStore& again) {
  Require(store.manifest() == again.manifest(), "the manifest read back is the one written");
  for (size_t i = 0; i < store.manifest().tensors.size(); ++i) {
    const TensorInfo& info = store.manifest().tensors[i];
    std::vector<uint8_t> row(info.row_bytes()), want(info.row_bytes());
    for (const uint64_t at : {uint64_t{0}, info.rows() / 2, info.rows() - 1}) {
      store.ReadRows(i, at, 1, row);
      again.ReadRows(i, at, 1, want);
      Require(row == want, "a single row is the one in the file");
    }
  }
}

void Convert(const Input& input) {
  MetaFiles files;
  files.name = "input";
  files.params_file = "params.json";
  files.params_text = std::string(input.parts[0].begin(), input.parts[0].end());
  files.tokenizer_file = "tokenizer.model";
  files.tokenizer_bytes = std::string(input.parts[1].begin(), input.parts[1].end());
  for (size_t i = 2; i < input.parts.size(); ++i) {
    files.shards.push_back(std::make_shared<MemoryBytes>(input.parts[i], "shard " + std::to_string(i)));
  }
  CheckpointOptions options;
  options.ignore_unknown_tensors = (input.flags & kIgnoreUnknown) != 0;
  options.verify_crc = (input.flags & kVerifyCrc) != 0;
  const auto store = OpenMetaFiles(std::move(files), options);
  // A view with stride 0 makes much of little: leave it at what a fuzzer has time for.
  if (store->manifest().tensor_bytes() > 8u << 20) return;
  const std::vector<uint8_t> file = ToGguf(*store);
  Require(file.size() == GgufFileBytes(store->manifest()), "the size is the one foretold");
  const auto again = OpenGguf(std::make_shared<MemoryBytes>(file, "converted"));
  ExpectSameModel(*store, *again);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Input input = Split(data, size);
  if (input.parts.size() < 2) return 0;
  try {
    Convert(input);
  } catch (const Error& error) {
    // Refusing is right; a failed check of quern's own is not.
    Require(error.code() != ErrorCode::kBug, error.what());
    Require(error.code() != ErrorCode::kSystem, error.what());
  }
  return 0;
}

// Changes one part at a time and keeps the frame whole.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  Input input = Split(data, size);
  if (input.parts.size() < 3 || seed % 16 == 0) return LLVMFuzzerMutate(data, size, max_size);
  if (seed % 16 == 1) {
    input.flags = static_cast<uint8_t>(seed >> 8);
  } else if (seed % 16 == 2) {
    input.parts.push_back(input.parts.back());  // one shard more
  } else {
    // Half of the time a shard: that is where the structure is.
    const size_t which = seed % 4 < 2 ? 2 + seed / 16 % (input.parts.size() - 2) : seed % 4 - 2;
    std::vector<uint8_t>& part = input.parts[which];
    const size_t old_size = part.size();
    part.resize(old_size + 256);
    part.resize(LLVMFuzzerMutate(part.data(), old_size, part.size()));
  }
  const std::vector<uint8_t> joined = Join(input);
  if (joined.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::copy(joined.begin(), joined.end(), data);
  return joined.size();
}
