#include "tools/describe.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "formats/core/error.h"
#include "tools/listing.h"
#include "tools/table.h"
#include "tools/terminal.h"

namespace quern {
namespace {

std::string_view NameOf(Tokenizer::Kind kind) {
  switch (kind) {
    case Tokenizer::Kind::kNone:
      return "none";
    case Tokenizer::Kind::kSentencePiece:
      return "sentencepiece";
    case Tokenizer::Kind::kBytePair:
      return "byte-pair";
    case Tokenizer::Kind::kOther:
      return "other";
  }
  return "?";
}

double BitsPerWeight(const Manifest& manifest) {
  const uint64_t n_elems = manifest.n_elems();
  return n_elems == 0
             ? 0
             : 8.0 * static_cast<double>(manifest.tensor_bytes()) / static_cast<double>(n_elems);
}

// Returns the double that prints as `value` does: 1e-05, not 9.999999747378752e-06.
double ShortestDouble(float value) { return std::stod(fmt::format("{}", value)); }

struct TypeSum {
  uint64_t n_tensors = 0, n_elems = 0, n_bytes = 0;
};

std::map<DType, TypeSum> SumByType(const Manifest& manifest) {
  std::map<DType, TypeSum> sums;
  for (const TensorInfo& tensor : manifest.tensors) {
    TypeSum& sum = sums[tensor.dtype];
    ++sum.n_tensors;
    sum.n_elems += tensor.shape.n_elems();
    sum.n_bytes += tensor.size_bytes();
  }
  return sums;
}

// How the context length was found: by which rule, if nothing said it.
std::string ContextSource(const Provenance& provenance) {
  return provenance.context_length_source.empty() ? "stated"
                                                  : Escaped(provenance.context_length_source);
}

// Llama 3.1's scaling is no number but a tensor.
bool HasRopeDivisors(const Manifest& manifest) {
  return std::ranges::any_of(manifest.tensors, [](const TensorInfo& tensor) {
    return tensor.role == TensorRole::kRopeFreqs;
  });
}

std::string DescribeSpec(const ModelSpec& spec, const Provenance& provenance) {
  const std::string context =
      fmt::format("{}  ({})", spec.context_length, ContextSource(provenance));
  std::string out = fmt::format(
      "architecture    {}\n"
      "layers          {}\n"
      "width           {}\n"
      "feed-forward    {}\n"
      "heads           {} (key/value {}), {} wide\n"
      "vocabulary      {}\n"
      "context         {}\n"
      "norm epsilon    {}\n"
      "rope base       {}\n",
      Escaped(spec.arch), spec.n_layers, spec.d_model, spec.d_ff, spec.n_heads, spec.n_kv_heads,
      spec.head_dim, spec.vocab_size, context, spec.norm_eps, spec.rope_theta);
  if (spec.rope_linear_factor)
    out += fmt::format("rope scaling    linear, {}\n", *spec.rope_linear_factor);
  if (spec.tied_embeddings) out += "output          tied to the token embedding\n";
  return out;
}

}  // namespace

std::string DescribeTokenizer(const Tokenizer& tokenizer) {
  if (tokenizer.kind == Tokenizer::Kind::kNone) return "tokenizer       none\n";
  std::string out =
      fmt::format("tokenizer       {}, {} tokens",
                  tokenizer.kind == Tokenizer::Kind::kOther ? Quoted(tokenizer.model_name)
                                                            : std::string(NameOf(tokenizer.kind)),
                  tokenizer.tokens.size());
  if (!tokenizer.merges.empty()) out += fmt::format(", {} merges", tokenizer.merges.size());
  const auto special = [&](std::string_view name, const std::optional<uint32_t>& id) {
    if (!id) return;
    const std::string text =
        *id < tokenizer.tokens.size() ? " " + Quoted(tokenizer.tokens[*id], 40) : "";
    out += fmt::format(", {} {}{}", name, *id, text);
  };
  special("begin", tokenizer.bos_id);
  special("end", tokenizer.eos_id);
  special("unknown", tokenizer.unk_id);
  return out + "\n";
}

nlohmann::ordered_json TokenizerJson(const Tokenizer& tokenizer) {
  nlohmann::ordered_json json;
  json["kind"] = NameOf(tokenizer.kind);
  json["n_tokens"] = tokenizer.tokens.size();
  json["n_merges"] = tokenizer.merges.size();
  const auto set = [&](const char* key, const std::optional<uint32_t>& id) {
    if (id) json[key] = *id;
  };
  set("bos_id", tokenizer.bos_id);
  set("eos_id", tokenizer.eos_id);
  set("unk_id", tokenizer.unk_id);
  set("pad_id", tokenizer.pad_id);
  set("eot_id", tokenizer.eot_id);
  set("eom_id", tokenizer.eom_id);
  set("fim_prefix_id", tokenizer.fim_prefix_id);
  set("fim_suffix_id", tokenizer.fim_suffix_id);
  set("fim_middle_id", tokenizer.fim_middle_id);
  const auto set_flag = [&](const char* key, const std::optional<bool>& flag) {
    if (flag) json[key] = *flag;
  };
  set_flag("add_bos", tokenizer.add_bos);
  set_flag("add_eos", tokenizer.add_eos);
  set_flag("add_space_prefix", tokenizer.add_space_prefix);
  json["has_chat_template"] = !tokenizer.chat_template.empty();
  return json;
}

std::string DescribeManifest(const Manifest& manifest) {
  std::string out;
  if (!manifest.name.empty()) out += fmt::format("name            {}\n", Escaped(manifest.name));
  if (manifest.spec) out += DescribeSpec(*manifest.spec, manifest.provenance);
  if (manifest.alignment != 32) out += fmt::format("alignment       {}\n", manifest.alignment);
  if (HasRopeDivisors(manifest)) out += "rope scaling    llama3, divisors in rope_freqs.weight\n";
  out += DescribeTokenizer(manifest.tokenizer);
  if (!manifest.provenance.quern_version.empty()) {
    out += fmt::format("provenance      quern {}{}\n", Escaped(manifest.provenance.quern_version),
                       manifest.provenance.source_format.empty()
                           ? ""
                           : ", from " + Escaped(manifest.provenance.source_format));
  }
  out += fmt::format("weights         {} in {} tensors, {:.2f} bits each, {}\n", manifest.n_elems(),
                     manifest.tensors.size(), BitsPerWeight(manifest),
                     HumanBytes(manifest.tensor_bytes()));
  Table types(
      {{"type"}, {"tensors", Align::kRight}, {"weights", Align::kRight}, {"bytes", Align::kRight}});
  for (const auto& [type, sum] : SumByType(manifest)) {
    types.AddRow({std::string(quern::NameOf(type)), fmt::format("{}", sum.n_tensors),
                  fmt::format("{}", sum.n_elems), fmt::format("{}", sum.n_bytes)});
  }
  if (!manifest.tensors.empty()) out += "\n" + types.ToString();
  if (!manifest.metadata.empty()) {
    const auto row = [](const MetadataEntry& entry) -> std::vector<std::string> {
      return {Escaped(entry.key), entry.value.ToString()};
    };
    out += "\n" + ListRows({{"other metadata"}, {"value"}}, manifest.metadata,
                           manifest.metadata.size(), row)
                      .ToString();
  }
  if (!manifest.tensors.empty()) {
    const auto row = [](const TensorInfo& tensor) -> std::vector<std::string> {
      return {Escaped(tensor.name), std::string(quern::NameOf(tensor.dtype)),
              tensor.shape.ToString(), fmt::format("{}", tensor.size_bytes())};
    };
    out += "\n" + ListRows({{"tensor"}, {"type"}, {"shape"}, {"bytes", Align::kRight}},
                           manifest.tensors, manifest.tensors.size(), row)
                      .ToString();
  }
  return out;
}

nlohmann::ordered_json ManifestJson(const Manifest& manifest) {
  nlohmann::ordered_json json;
  json["schema"] = "quern.model/1";
  if (!manifest.name.empty()) json["name"] = Escaped(manifest.name);
  if (manifest.spec) {
    const ModelSpec& spec = *manifest.spec;
    json["spec"] = {{"arch", Escaped(spec.arch)},
                    {"n_layers", spec.n_layers},
                    {"n_heads", spec.n_heads},
                    {"n_kv_heads", spec.n_kv_heads},
                    {"head_dim", spec.head_dim},
                    {"d_model", spec.d_model},
                    {"d_ff", spec.d_ff},
                    {"vocab_size", spec.vocab_size},
                    {"context_length", spec.context_length},
                    {"context_length_source", ContextSource(manifest.provenance)},
                    {"norm_eps", ShortestDouble(spec.norm_eps)},
                    {"rope_theta", ShortestDouble(spec.rope_theta)},
                    {"tied_embeddings", spec.tied_embeddings}};
    if (spec.rope_linear_factor)
      json["spec"]["rope_linear_factor"] = ShortestDouble(*spec.rope_linear_factor);
    if (HasRopeDivisors(manifest)) json["spec"]["rope_scaling"] = "llama3";
  }
  json["tokenizer"] = TokenizerJson(manifest.tokenizer);
  json["provenance"] = {{"quern_version", Escaped(manifest.provenance.quern_version)},
                        {"source_format", Escaped(manifest.provenance.source_format)}};
  if (manifest.alignment != 32) json["alignment"] = manifest.alignment;
  json["n_weights"] = manifest.n_elems();
  json["tensor_bytes"] = manifest.tensor_bytes();
  json["bits_per_weight"] = BitsPerWeight(manifest);
  // A list, not an object: ordered objects look every key up among all before it.
  using Json = nlohmann::ordered_json;
  ListItems(json, "metadata", manifest.metadata, manifest.metadata.size(),
            [](const MetadataEntry& entry) -> Json {
              return {{"key", Escaped(entry.key)}, {"value", entry.value.ToString(200)}};
            });
  ListItems(json, "tensors", manifest.tensors, manifest.tensors.size(),
            [](const TensorInfo& tensor) -> Json {
              Json shape = Json::array();
              for (size_t i = 0; i < tensor.shape.rank(); ++i) shape.push_back(tensor.shape.dim(i));
              return {{"name", Escaped(tensor.name)},
                      {"type", quern::NameOf(tensor.dtype)},
                      {"shape", shape},
                      {"bytes", tensor.size_bytes()}};
            });
  return json;
}

}  // namespace quern
