#include "formats/model_tensors.h"

#include <algorithm>
#include <string>

#include "formats/core/check.h"
#include "formats/core/error.h"
#include "formats/core/name_list.h"
#include "formats/duplicates.h"
#include "formats/gguf_metadata.h"

namespace quern {
namespace {

constexpr size_t kRoles = static_cast<size_t>(TensorRole::kOther);

// Collects what is wrong with one model.
class StructureCheck {
 public:
  StructureCheck(const Manifest& manifest, std::string_view file)
      : manifest_(manifest), file_(Escaped(file, 4096)) {}

  std::vector<Finding> Run() {
    CheckVocabulary();
    if (manifest_.spec) {
      CheckTensors(*manifest_.spec);
    } else {
      CheckKeys();
    }
    return std::move(findings_);
  }

 private:
  void Add(Error error, Finding::Severity severity = Finding::Severity::kError) {
    findings_.push_back(FindingFrom(error.File(file_), severity));
  }

  // Why there is no spec. Files of other architectures need not have what quern computes with.
  void CheckKeys() {
    const auto arch =
        std::ranges::find(manifest_.metadata, "general.architecture", &MetadataEntry::key);
    if (arch == manifest_.metadata.end() || arch->value != MetadataValue::Text("llama")) return;
    try {
      RequireSpec(manifest_, file_);
    } catch (const Error& error) {
      const bool is_damage = error.code() == ErrorCode::kData;
      findings_.push_back(
          FindingFrom(error, is_damage ? Finding::Severity::kError : Finding::Severity::kNote));
    }
  }

  void CheckVocabulary() {
    const StringList& tokens = manifest_.tokenizer.tokens;
    const auto token = [&](size_t i) { return tokens[i]; };
    if (const auto i = FirstDuplicate(tokens.size(), token)) {
      Add(DataError("tokenizer.duplicate-token", "two tokens have one text")
              .Where("token " + std::to_string(*i))
              .Found(Quoted(tokens[*i], 60))
              .Hint("llama.cpp aborts on such a vocabulary; convert the checkpoint again"));
    }
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i].find('\0') == tokens[i].npos) continue;
      Add(DataError("tokenizer.token", "a token holds a NUL byte")
              .Where("token " + std::to_string(i))
              .Found(Quoted(tokens[i], 60))
              .Hint("llama.cpp aborts on such a vocabulary; convert the checkpoint again"));
      break;
    }
    const bool has_embedding = std::ranges::any_of(manifest_.tensors, [](const TensorInfo& tensor) {
      return tensor.role == TensorRole::kTokenEmbedding;
    });
    if (!manifest_.spec || tokens.empty() || !has_embedding) return;
    if (tokens.size() == manifest_.spec->vocab_size) return;
    Add(DataError("tokenizer.length", "the vocabulary has not one token for each embedding row")
            .Found(std::to_string(tokens.size()) + " tokens")
            .Expected(std::to_string(manifest_.spec->vocab_size) + ", or llama.cpp does not load it"),
        Finding::Severity::kWarning);
  }

  void CheckTensors(const ModelSpec& spec) {
    std::vector<bool> has(spec.n_layers * kRoles);
    NameList unknown;
    for (const TensorInfo& tensor : manifest_.tensors) {
      const uint32_t layer = tensor.layer.value_or(0);
      if (tensor.role == TensorRole::kOther || layer >= spec.n_layers) {
        unknown.Add(tensor.name);
        continue;
      }
      has[layer * kRoles + static_cast<size_t>(tensor.role)] = true;
      const Shape expected = ShapeOfRole(spec, tensor.role);
      if (tensor.shape == expected) continue;
      Add(DataError("gguf.tensor-role", "tensor has another shape than the model's numbers ask for")
              .Tensor(tensor.name)
              .Found(tensor.shape.ToString())
              .Expected(expected.ToString()));
    }
    NameList missing;
    const auto require = [&](TensorRole role, uint32_t layer) {
      if (has[layer * kRoles + static_cast<size_t>(role)]) return;
      missing.Add(TensorName(role, IsPerLayer(role) ? std::optional(layer) : std::nullopt));
    };
    for (size_t i = 0; i < kRoles; ++i) {
      const auto role = static_cast<TensorRole>(i);
      // Without an output matrix the embedding serves; divisors are for some models only.
      if (role == TensorRole::kOutput || role == TensorRole::kRopeFreqs) continue;
      const uint32_t n = IsPerLayer(role) ? spec.n_layers : 1;
      for (uint32_t layer = 0; layer < n; ++layer) require(role, layer);
    }
    if (!missing.empty()) {
      Add(DataError("gguf.tensor-missing", "the model lacks tensors")
              .Found(std::to_string(manifest_.tensors.size()) + " tensors")
              .Expected("also " + missing.ToString())
              .Hint("fetch the file again, or convert the checkpoint again"));
    }
    if (!unknown.empty()) {
      Add(DataError("gguf.tensor-unknown", "the model has tensors that no Llama has")
              .Found(unknown.ToString())
              .Expected("the tensors of " + std::to_string(spec.n_layers) + " layers, without biases"),
          Finding::Severity::kWarning);
    }
  }

  const Manifest& manifest_;
  std::string file_;
  std::vector<Finding> findings_;
};

}  // namespace

Shape ShapeOfRole(const ModelSpec& spec, TensorRole role) {
  const auto shape = [](std::initializer_list<uint64_t> dims) {
    return Shape::Make(dims).value_or(Shape());
  };
  const uint64_t d = spec.d_model, q = uint64_t{spec.n_heads} * spec.head_dim;
  const uint64_t kv = uint64_t{spec.n_kv_heads} * spec.head_dim;
  switch (role) {
    case TensorRole::kTokenEmbedding:
    case TensorRole::kOutput:
      return shape({spec.vocab_size, d});
    case TensorRole::kAttnQ:
      return shape({q, d});
    case TensorRole::kAttnK:
    case TensorRole::kAttnV:
      return shape({kv, d});
    case TensorRole::kAttnOutput:
      return shape({d, q});
    case TensorRole::kFfnGate:
    case TensorRole::kFfnUp:
      return shape({spec.d_ff, d});
    case TensorRole::kFfnDown:
      return shape({d, spec.d_ff});
    case TensorRole::kAttnNorm:
    case TensorRole::kFfnNorm:
    case TensorRole::kOutputNorm:
      return shape({d});
    case TensorRole::kRopeFreqs:
      return shape({spec.head_dim / 2});
    case TensorRole::kOther:
      break;
  }
  QUERN_CHECK(role != TensorRole::kOther);
  return {};
}

std::vector<Finding> CheckModelTensors(const Manifest& manifest, std::string_view file) {
  return StructureCheck(manifest, file).Run();
}

}  // namespace quern
