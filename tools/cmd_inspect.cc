// quern inspect: what is in a file or folder, everything validated but the weights.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "converters/converters.h"
#include "converters/tokenizer_import.h"
#include "formats/formats.h"
#include "formats/json_limits.h"
#include "formats/sentencepiece_model.h"
#include "formats/torch_checkpoint.h"
#include "tools/command.h"
#include "tools/describe.h"
#include "tools/io_args.h"
#include "tools/table.h"
#include "tools/terminal.h"

namespace quern {
namespace {

// Side files of checkpoints are small; what is larger is no side file.
constexpr uint64_t kMaxSideFileBytes = uint64_t{256} << 20;

// Checks the members that checkpoints of the known kinds have, wherever they stand.
// Throws: Error kData "config.value", "index.path".
void CheckConfig(const JsonValue& root, const std::string& path) {
  constexpr std::string_view kCounts[] = {"dim",
                                          "n_layers",
                                          "n_heads",
                                          "n_kv_heads",
                                          "multiple_of",
                                          "max_seq_len",  // params.json
                                          "hidden_size",
                                          "intermediate_size",
                                          "num_hidden_layers",
                                          "num_attention_heads",
                                          "num_key_value_heads",
                                          "max_position_embeddings",
                                          "head_dim"};  // config.json
  for (const std::string_view key : kCounts) OptionalUint(root, key, UINT32_MAX, path);
  const auto weight_map = root.Find("weight_map");  // model.safetensors.index.json
  if (!weight_map || !weight_map->is_object()) return;
  for (const auto& [tensor, shard] : weight_map->items()) {
    if (!shard.is_string()) ThrowConfigValue(path, tensor, shard.ToString(), "a file name");
    CheckShardName(shard.String(), path);
  }
}

// What one kind of input shows: a text for reading and the same as JSON.
struct Description {
  std::string text;
  nlohmann::ordered_json json;
};

Description DescribeModel(const Manifest& manifest) {
  return {DescribeManifest(manifest), ManifestJson(manifest)};
}

Description DescribeSentencePiece(const std::string& path) {
  const std::string bytes = ReadWholeFile(path, kMaxSideFileBytes);
  const SentencePieceModel model = ParseSentencePieceModel(AsBytes(bytes), path);
  Description description{DescribeTokenizer(model.tokenizer), TokenizerJson(model.tokenizer)};
  description.json["schema"] = "quern.sentencepiece/1";
  return description;
}

Description DescribeTiktoken(const std::string& path) {
  const std::string bytes = ReadWholeFile(path, kMaxSideFileBytes);
  const Tokenizer tokenizer = ReadTiktokenModel(AsBytes(bytes), path, TiktokenNames::kLlama31);
  Description description{DescribeTokenizer(tokenizer), TokenizerJson(tokenizer)};
  description.json["schema"] = "quern.tiktoken/1";
  return description;
}

// One shard by itself: its tensors as PyTorch stored them.
Description DescribeTorch(const std::string& path) {
  const InputFile file(path);
  const TorchCheckpoint checkpoint = TorchCheckpoint::Open(file);
  Description description;
  description.json["schema"] = "quern.torch/1";
  description.json["n_storages"] = checkpoint.storages().size();
  description.json["tensors"] = nlohmann::ordered_json::array();
  Table table({{"tensor"}, {"type"}, {"shape"}, {"strides"}, {"bytes", Align::kRight}});
  uint64_t n_bytes = 0;
  for (const TorchTensor& tensor : checkpoint.tensors()) {
    n_bytes += tensor.size_bytes();
    table.AddRow(
        {Escaped(tensor.name), std::string(tensor.dtype_name),
         fmt::format("[{}]", fmt::join(tensor.shape, ", ")),
         tensor.is_contiguous() ? "" : fmt::format("[{}]", fmt::join(tensor.strides, ", ")),
         fmt::format("{}", tensor.size_bytes())});
    description.json["tensors"].push_back({{"name", Escaped(tensor.name)},
                                           {"type", tensor.dtype_name},
                                           {"shape", tensor.shape},
                                           {"strides", tensor.strides},
                                           {"bytes", tensor.size_bytes()}});
  }
  description.text = fmt::format("PyTorch checkpoint: {} tensors in {} storages, {}\n\n{}",
                                 checkpoint.tensors().size(), checkpoint.storages().size(),
                                 HumanBytes(n_bytes), table.ToString());
  return description;
}

// A configuration by itself: its members, and those that quern reads checked for kind.
Description DescribeJson(const std::string& path) {
  const std::string text = ReadWholeFile(path, kMaxSideFileBytes);
  const JsonValue root = ParseJson(text, path);
  Description description;
  description.json["schema"] = "quern.json/1";
  if (!root.is_object()) {
    description.text = fmt::format("JSON: {}\n", root.ToString());
    return description;
  }
  CheckConfig(root, path);
  Table table({{"key"}, {"value"}});
  for (const auto& [key, value] : root.items()) {
    table.AddRow({Escaped(key), value.ToString()});
    description.json["members"][Escaped(key)] = value.ToString();
  }
  description.text =
      fmt::format("JSON: an object of {} members\n\n{}", root.size(), table.ToString());
  return description;
}

class InspectCommand final : public Command {
 public:
  void AddOptions(CLI::App& app) override { app.add_option("path", path_); }

  int Run(Session& session) override {
    const Description description = Describe(ResolveInput(path_), session);
    if (session.wants_json())
      WriteJson(session, description.json.dump(2));
    else
      PrintOut(description.text);
    return 0;
  }

 private:
  static Description Describe(const std::string& path, Session& session) {
    if (path == "-") return DescribeModel(OpenSource(path, {}).manifest());
    switch (DetectKind(path)) {
      case FileKind::kTorchZip:
      case FileKind::kTorchLegacy:
      case FileKind::kTar:
        return DescribeTorch(path);
      case FileKind::kSentencePiece:
        return DescribeSentencePiece(path);
      case FileKind::kTiktoken:
        return DescribeTiktoken(path);
      case FileKind::kJson:
        return DescribeJson(path);
      default:
        return DescribeModel(
            OpenCheckpoint(path, {.context_length = {}, .name = "", .log = &session.terminal})
                ->manifest());
    }
  }

  std::string path_;
};

}  // namespace

const CommandInfo kInspectCommand = {
    .name = "inspect",
    .summary = "Show what is in a model, checkpoint or tokenizer file",
    .usage = "inspect [PATH] [--json]",
    .examples =
        "  quern inspect q4_0.gguf                     a model: numbers, vocabulary, metadata, "
        "tensors\n"
        "  quern inspect Llama-2-7b/                   a checkpoint folder, as it would be "
        "converted\n"
        "  quern inspect consolidated.00.pth           one shard\n"
        "  quern inspect tokenizer.model\n",
    .notes =
        "Everything but the tensors' bytes is validated; without PATH, a GGUF stream from standard "
        "input.\n",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<InspectCommand>()); },
};

}  // namespace quern
