#include "verify/tokenize.h"

#include <string>

#include "formats/core/error.h"
#include "verify/pre_tokenizer.h"
#include "verify/tokenizer_bpe.h"
#include "verify/tokenizer_spm.h"

namespace quern {
namespace {

// Texts are indexed with 32 bits while they are encoded, and every space may become three bytes.
constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;

std::unique_ptr<TextTokenizer::Encoder> MakeEncoder(const Tokenizer& tokenizer) {
  switch (tokenizer.kind) {
    case Tokenizer::Kind::kSentencePiece:
      return MakeSpmEncoder(tokenizer);
    case Tokenizer::Kind::kNone:
      throw UnsupportedError("tokenizer.none", "the model has no vocabulary to read text with")
          .Hint("convert it again with its tokenizer file beside the weights");
    case Tokenizer::Kind::kBytePair:
      if (const PreTokenizer* pre = FindPreTokenizer(tokenizer.pre)) {
        return MakeBpeEncoder(tokenizer, *pre);
      }
      throw UnsupportedError("tokenizer.pre", "quern does not know this vocabulary's pre-tokenizer")
          .Found(Quoted(tokenizer.pre))
          .Expected("llama-bpe or gpt-2");
    case Tokenizer::Kind::kOther:
      break;
  }
  throw UnsupportedError("tokenizer.kind", "quern cannot encode text with this vocabulary")
      .Found(Quoted(tokenizer.model_name))
      .Expected("SentencePiece (\"llama\") or byte-level BPE (\"gpt2\")");
}

// llama.cpp's defaults where the vocabulary is silent.
struct SpecialDefaults {
  uint32_t bos, eos;
  bool add_bos;
};

SpecialDefaults DefaultsOf(const Tokenizer& tokenizer) {
  if (tokenizer.kind == Tokenizer::Kind::kBytePair) {
    const PreTokenizer* pre = FindPreTokenizer(tokenizer.pre);
    return {11, 11, pre != nullptr && pre->adds_bos};
  }
  return {1, 2, true};
}

std::optional<int32_t> SpecialToken(bool wanted, std::optional<uint32_t> id, uint32_t fallback,
                                    size_t n_tokens) {
  if (!wanted) return std::nullopt;
  const uint32_t token = id && *id < n_tokens ? *id : fallback;
  if (token >= n_tokens) return std::nullopt;
  return static_cast<int32_t>(token);
}

}  // namespace

TextTokenizer::TextTokenizer(const Tokenizer& tokenizer) : encoder_(MakeEncoder(tokenizer)) {
  const SpecialDefaults defaults = DefaultsOf(tokenizer);
  const size_t n_tokens = tokenizer.tokens.size();
  begin_token_ = SpecialToken(tokenizer.add_bos.value_or(defaults.add_bos), tokenizer.bos_id,
                              defaults.bos, n_tokens);
  end_token_ = SpecialToken(tokenizer.add_eos.value_or(false), tokenizer.eos_id, defaults.eos,
                            n_tokens);
}

TextTokenizer::~TextTokenizer() = default;
TextTokenizer::TextTokenizer(TextTokenizer&&) noexcept = default;
TextTokenizer& TextTokenizer::operator=(TextTokenizer&&) noexcept = default;

std::vector<int32_t> TextTokenizer::Encode(std::string_view text, bool add_special) const {
  if (text.size() > kMaxTextBytes) {
    throw UnsupportedError("text.too-large", "the text is too large to encode")
        .Found(std::to_string(text.size()) + " bytes")
        .Expected("at most " + std::to_string(kMaxTextBytes) + " bytes");
  }
  std::vector<int32_t> ids;
  if (add_special && begin_token_) ids.push_back(*begin_token_);
  encoder_->Encode(text, ids);
  if (add_special && end_token_) ids.push_back(*end_token_);
  return ids;
}

std::optional<int32_t> TextTokenizer::begin_token() const { return begin_token_; }
std::optional<int32_t> TextTokenizer::end_token() const { return end_token_; }

std::vector<int32_t> Tokenize(const Tokenizer& tokenizer, std::string_view text, bool add_special) {
  return TextTokenizer(tokenizer).Encode(text, add_special);
}

}  // namespace quern
