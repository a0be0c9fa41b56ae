// SentencePiece models. Beyond "no crash": an accepted model is consistent in itself, its pieces
// written again read as the same model, and memory follows the input's size.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <string>

#include "formats/core/error.h"
#include "formats/sentencepiece_model.h"
#include "tests/formats/sentencepiece_builder.h"
#include "tests/fuzz/require.h"

namespace {

using quern::Error;
using quern::SentencePieceModel;
using quern::Tokenizer;

using quern::fuzz::Require;

void CheckConsistent(const Tokenizer& t, size_t input_bytes) {
  Require(!t.tokens.empty() && t.tokens.size() == t.scores.size() &&
          t.tokens.size() == t.types.size());
  Require(t.tokens.n_bytes() <= input_bytes && t.tokens.size() <= input_bytes);
  std::set<std::string_view> seen;
  for (size_t i = 0; i < t.tokens.size(); ++i) {
    Require(!t.tokens[i].empty() && quern::IsUtf8(t.tokens[i]) && seen.insert(t.tokens[i]).second);
    Require(std::isfinite(t.scores[i]));
    Require(t.types[i] >= quern::TokenType::kNormal && t.types[i] <= quern::TokenType::kByte);
  }
  for (const auto& id : {t.bos_id, t.eos_id, t.unk_id, t.pad_id})
    Require(!id || *id < t.tokens.size());
}

std::string Rewritten(const SentencePieceModel& model) {
  using namespace quern::testing;
  const Tokenizer& t = model.tokenizer;
  std::string out;
  for (size_t i = 0; i < t.tokens.size(); ++i) {
    out += Piece(t.tokens[i], t.scores[i], static_cast<uint64_t>(t.types[i]));
  }
  const auto Signed = [](int32_t value) { return static_cast<uint64_t>(int64_t{value}); };
  out += BytesField(
      2, VarintField(3, Signed(static_cast<int32_t>(model.algorithm))) +
             VarintField(35, model.byte_fallback ? 1 : 0) + VarintField(40, Signed(model.unk_id)) +
             VarintField(41, Signed(model.bos_id)) + VarintField(42, Signed(model.eos_id)) +
             VarintField(43, Signed(model.pad_id)));
  return out + BytesField(3, VarintField(3, model.add_dummy_prefix ? 1 : 0));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const SentencePieceModel model = quern::ParseSentencePieceModel({data, size}, "fuzz");
    CheckConsistent(model.tokenizer, size);
    const std::string again = Rewritten(model);
    Require(quern::ParseSentencePieceModel(quern::AsBytes(again), "again").tokenizer ==
            model.tokenizer);
    quern::RequireLlamaTokenizer(model, "fuzz");
  } catch (const Error& error) {
    Require(error.code() == quern::ErrorCode::kData ||
            error.code() == quern::ErrorCode::kUnsupported);
    Require(error.has_file());
  }
  return 0;
}
