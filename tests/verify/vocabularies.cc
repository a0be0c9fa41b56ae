#include "tests/verify/vocabularies.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "formats/core/bytes.h"
#include "formats/core/file.h"
#include "formats/sentencepiece_model.h"

namespace quern {
namespace {

constexpr uint64_t kMaxAssetBytes = uint64_t{64} << 20;

}  // namespace

Tokenizer ByteVocabulary() {
  Tokenizer tokenizer;
  tokenizer.kind = Tokenizer::Kind::kSentencePiece;
  tokenizer.tokens = {"<unk>", "<s>", "</s>"};
  tokenizer.types = {TokenType::kUnknown, TokenType::kControl, TokenType::kControl};
  for (unsigned byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof(text), "<0x%02X>", byte);
    tokenizer.tokens.push_back(text);
    tokenizer.types.push_back(TokenType::kByte);
  }
  tokenizer.scores.assign(259, 0.0f);
  tokenizer.bos_id = 1;
  tokenizer.eos_id = 2;
  tokenizer.unk_id = 0;
  return tokenizer;
}

std::string RandomBytes(size_t n, uint64_t seed) {
  std::string bytes(n, '\0');
  uint64_t state = seed;
  for (char& byte : bytes) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<char>(state >> 56);
  }
  return bytes;
}

std::string AssetPath(const std::string& name) {
  const char* root = std::getenv("QUERN_ASSETS");
  return (root != nullptr ? std::string(root) : QUERN_SOURCE_DIR "/../shared/assets") + "/" + name;
}

std::optional<std::string> ReadAsset(const std::string& name) {
  const std::string path = AssetPath(name);
  if (!std::filesystem::exists(path)) return std::nullopt;
  return ReadWholeFile(path, kMaxAssetBytes);
}

std::optional<Tokenizer> Llama2Vocabulary() {
  const auto bytes = ReadAsset("tokenizers/llama2/tokenizer.model");
  if (!bytes) return std::nullopt;
  return ReadSentencePieceModel(AsBytes(*bytes), "tokenizer.model");
}

std::vector<TextAndIds> ReadVectors(const std::string& name) {
  const auto inputs = ReadAsset("tokenizer-vectors/" + name + ".inp");
  const auto outputs = ReadAsset("tokenizer-vectors/" + name + ".out");
  if (!inputs || !outputs) return {};
  const std::string& texts = *inputs;
  std::istringstream ids(*outputs);
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::vector<TextAndIds> vectors;
  for (size_t begin = 0; begin <= texts.size();) {
    const size_t end = std::min(texts.find(separator, begin), texts.size());
    TextAndIds vector{texts.substr(begin, end - begin), {}};
    std::string line;
    std::getline(ids, line);  // The last text is empty, and so is its line, which has no end.
    std::istringstream numbers(line);
    for (int32_t id; numbers >> id;) vector.ids.push_back(id);
    vectors.push_back(std::move(vector));
    begin = end + separator.size();
  }
  return vectors;
}

}  // namespace quern
