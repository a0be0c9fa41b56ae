#include "tests/converters/test_support.h"

#include <cstdlib>
#include <filesystem>

#include "formats/gguf_writer.h"

namespace quern::testing {
namespace {

// Hands out a MemoryOutput that outlives the sink which owns the handle.
class SharedOutput final : public Output {
 public:
  explicit SharedOutput(MemoryOutput& memory) : memory_(memory) {}
  const std::string& name() const override { return memory_.name(); }
  void Write(ByteView bytes) override { memory_.Write(bytes); }
  void Commit() override { memory_.Commit(); }

 private:
  MemoryOutput& memory_;
};

}  // namespace

TempFolder::TempFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "quern-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  path_ = pattern;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string AssetsFolder() {
  const char* from_environment = std::getenv("QUERN_ASSETS");
  const std::string folder =
      from_environment ? from_environment : std::string(QUERN_SOURCE_DIR) + "/../shared/assets";
  return std::filesystem::is_directory(folder) ? folder : "";
}

MetaFiles InMemory(const std::vector<FileBytes>& files) {
  MetaFiles meta;
  meta.name = "(made)";
  for (const FileBytes& file : files) {
    if (file.name == "params.json") {
      meta.params_file = file.name;
      meta.params_text.assign(file.bytes.begin(), file.bytes.end());
    } else if (file.name == "tokenizer.model") {
      meta.tokenizer_file = file.name;
      meta.tokenizer_bytes.assign(file.bytes.begin(), file.bytes.end());
    } else {
      meta.shards.push_back(std::make_shared<OwnedBytes>(file.bytes, file.name));
    }
  }
  return meta;
}

std::vector<uint8_t> ReadAll(const TensorStore& store, size_t tensor, uint64_t rows_at_once) {
  const TensorInfo& info = store.manifest().tensors[tensor];
  std::vector<uint8_t> bytes(info.size_bytes());
  for (uint64_t row = 0; row < info.rows(); row += rows_at_once) {
    const uint64_t n = std::min(rows_at_once, info.rows() - row);
    store.ReadRows(tensor, row, n,
                   MutableByteView(bytes).subspan(row * info.row_bytes(), n * info.row_bytes()));
  }
  return bytes;
}

std::vector<uint8_t> GgufBytes(const TensorStore& store) {
  MemoryOutput memory;
  auto sink = MakeGgufWriter(std::make_unique<SharedOutput>(memory));
  StoreWalk walk(store);
  std::vector<uint8_t> buffer(1u << 16);
  sink->Begin(store.manifest());
  while (const auto band = walk.Next(buffer)) sink->Put(*band);
  sink->Finish();
  return memory.bytes();
}

void ExpectError(const Error& error, ErrorCode code, const std::string& id,
                 const std::vector<std::string>& words) {
  EXPECT_EQ(error.code(), code) << error.what();
  EXPECT_EQ(error.id(), id) << error.what();
  const std::string text = std::string(error.what()) + "\nhint: " + error.hint();
  for (const std::string& word : words) {
    EXPECT_NE(text.find(word), std::string::npos) << "'" << word << "' is not in: " << text;
  }
}

}  // namespace quern::testing
