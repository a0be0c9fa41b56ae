// quern inspect: what is in a file or folder, everything validated but the weights.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "converters/converters.h"
#include "converters/tokenizer_import.h"
#include "formats/formats.h"
#include "formats/imatrix_file.h"
#include "formats/json_limits.h"
#include "formats/safetensors.h"
#include "formats/sentencepiece_model.h"
#include "formats/torch_checkpoint.h"
#include "tools/command.h"
#include "tools/describe.h"
#include "tools/io_args.h"
#include "tools/report_target.h"
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

using Json = nlohmann::ordered_json;

// Each of these returns what one kind of input shows: a text for reading, or JSON.

std::string ShowModel(const Manifest& manifest, bool as_json) {
  return as_json ? ManifestJson(manifest).dump(2) : DescribeManifest(manifest);
}

std::string ShowTokenizer(const Tokenizer& tokenizer, std::string_view schema, bool as_json) {
  if (!as_json) return DescribeTokenizer(tokenizer);
  Json json = TokenizerJson(tokenizer);
  json["schema"] = schema;
  return json.dump(2);
}

std::string ShowSentencePiece(const std::string& path, bool as_json) {
  const std::string bytes = ReadWholeFile(path, kMaxSideFileBytes);
  const SentencePieceModel model = ParseSentencePieceModel(AsBytes(bytes), path);
  return ShowTokenizer(model.tokenizer, "quern.sentencepiece/1", as_json);
}

std::string ShowTiktoken(const std::string& path, bool as_json) {
  const std::string bytes = ReadWholeFile(path, kMaxSideFileBytes);
  const Tokenizer tokenizer = ReadTiktokenModel(AsBytes(bytes), path, TiktokenNames::kLlama31);
  return ShowTokenizer(tokenizer, "quern.tiktoken/1", as_json);
}

// One shard by itself: its tensors as PyTorch stored them.
std::string ShowTorch(const std::string& path, bool as_json) {
  const InputFile file(path);
  const TorchCheckpoint checkpoint = TorchCheckpoint::Open(file);
  if (as_json) {
    Json json = {{"schema", "quern.torch/1"}, {"n_storages", checkpoint.storages().size()}};
    json["tensors"] = Json::array();
    for (const TorchTensor& tensor : checkpoint.tensors()) {
      json["tensors"].push_back({{"name", Escaped(tensor.name)},
                                 {"type", tensor.dtype_name},
                                 {"shape", tensor.shape},
                                 {"strides", tensor.strides},
                                 {"bytes", tensor.size_bytes()}});
    }
    return json.dump(2);
  }
  Table table({{"tensor"}, {"type"}, {"shape"}, {"strides"}, {"bytes", Align::kRight}});
  uint64_t n_bytes = 0;
  for (const TorchTensor& tensor : checkpoint.tensors()) {
    n_bytes += tensor.size_bytes();
    table.AddRow(
        {Escaped(tensor.name), std::string(tensor.dtype_name),
         fmt::format("[{}]", fmt::join(tensor.shape, ", ")),
         tensor.is_contiguous() ? "" : fmt::format("[{}]", fmt::join(tensor.strides, ", ")),
         fmt::format("{}", tensor.size_bytes())});
  }
  return fmt::format("PyTorch checkpoint: {} tensors in {} storages, {}\n\n{}",
                     checkpoint.tensors().size(), checkpoint.storages().size(), HumanBytes(n_bytes),
                     table.ToString());
}

// One safetensors file by itself: its tensors in the order of their bytes.
std::string ShowSafetensors(const std::string& path, bool as_json) {
  const InputFile bytes(path);
  const SafetensorsFile file = SafetensorsFile::Open(bytes);
  if (as_json) {
    Json json = {{"schema", "quern.safetensors/1"}, {"tensors", Json::array()}};
    for (const SafetensorsTensor& tensor : file.tensors()) {
      json["tensors"].push_back({{"name", Escaped(tensor.name)},
                                 {"type", tensor.dtype_name},
                                 {"shape", tensor.shape},
                                 {"bytes", tensor.size_bytes}});
    }
    return json.dump(2);
  }
  Table table({{"tensor"}, {"type"}, {"shape"}, {"bytes", Align::kRight}});
  uint64_t n_bytes = 0;
  for (const SafetensorsTensor& tensor : file.tensors()) {
    n_bytes += tensor.size_bytes;
    table.AddRow({Escaped(tensor.name), std::string(tensor.dtype_name),
                  fmt::format("[{}]", fmt::join(tensor.shape, ", ")),
                  fmt::format("{}", tensor.size_bytes)});
  }
  return fmt::format("safetensors: {} tensors, {}\n\n{}", file.tensors().size(),
                     HumanBytes(n_bytes), table.ToString());
}

// A configuration by itself: its members, and those that quern reads checked for kind.
std::string ShowJson(const std::string& path, bool as_json) {
  const std::string text = ReadWholeFile(path, kMaxSideFileBytes);
  const JsonValue root = ParseJson(text, path);
  if (!root.is_object()) {
    if (as_json) return Json({{"schema", "quern.json/1"}, {"value", root.ToString()}}).dump(2);
    return fmt::format("JSON: {}\n", root.ToString());
  }
  CheckConfig(root, path);
  if (as_json) {
    Json json = {{"schema", "quern.json/1"}, {"members", Json::array()}};
    for (const auto& [key, value] : root.items()) {
      json["members"].push_back({{"key", Escaped(key)}, {"value", value.ToString()}});
    }
    return json.dump(2);
  }
  Table table({{"key"}, {"value"}});
  for (const auto& [key, value] : root.items()) table.AddRow({Escaped(key), value.ToString()});
  return fmt::format("JSON: an object of {} members\n\n{}", root.size(), table.ToString());
}

double MeanOf(const std::vector<float>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::string ShowImatrix(const std::string& path, bool as_json) {
  const Imatrix imatrix = ReadImatrix(path);
  if (as_json) {
    Json json = {{"schema", "quern.imatrix/1"},
                 {"layout", imatrix.is_gguf ? "gguf" : "legacy"},
                 {"datasets", Json::array()}};
    for (size_t i = 0; i < imatrix.datasets.size(); ++i)
      json["datasets"].push_back(Escaped(imatrix.datasets[i], 4096));
    if (imatrix.n_chunks) json["n_chunks"] = *imatrix.n_chunks;
    if (imatrix.chunk_size) json["chunk_size_tokens"] = *imatrix.chunk_size;
    json["entries"] = Json::array();
    for (const ImatrixEntry& entry : imatrix.entries) {
      json["entries"].push_back({{"name", Escaped(entry.name, kImatrixMaxNameBytes)},
                                 {"n_values", entry.values.size()},
                                 {"count", entry.count},
                                 {"mean", MeanOf(entry.values)},
                                 {"max", *std::ranges::max_element(entry.values)},
                                 {"all_zero", entry.all_zero}});
    }
    return json.dump(2);
  }
  Table table({{"weight"},
               {"columns", Align::kRight},
               {imatrix.is_gguf ? "rows seen" : "calls", Align::kRight},
               {"mean", Align::kRight},
               {"max", Align::kRight},
               {""}});
  for (const ImatrixEntry& entry : imatrix.entries) {
    table.AddRow({Escaped(entry.name), fmt::format("{}", entry.values.size()),
                  fmt::format("{}", entry.count), fmt::format("{:.6g}", MeanOf(entry.values)),
                  fmt::format("{:.6g}", *std::ranges::max_element(entry.values)),
                  entry.all_zero ? "all zero" : ""});
  }
  std::string head = fmt::format("importance matrix ({}): {} entries",
                                 imatrix.is_gguf ? "GGUF" : "legacy", imatrix.entries.size());
  if (imatrix.n_chunks) head += fmt::format(", {} chunks", *imatrix.n_chunks);
  if (imatrix.chunk_size) head += fmt::format(" of {} tokens", *imatrix.chunk_size);
  for (size_t i = 0; i < imatrix.datasets.size(); ++i)
    head += (i == 0 ? ", from " : ", ") + Escaped(imatrix.datasets[i]);
  return head + "\n\n" + table.ToString();
}

class InspectCommand final : public Command {
 public:
  void AddFlags(Flags& flags) override { flags.Argument("path", path_); }

  int Run(Session& session) override {
    const std::string path = ResolveInput(path_);
    if (path != "-") UseInput(session, path);
    const std::string shown = Show(path, session);
    if (session.wants_json())
      WriteJson(session, shown);
    else
      PrintOut(shown);
    return 0;
  }

 private:
  static std::string Show(const std::string& path, Session& session) {
    const bool as_json = session.wants_json();
    if (path == "-") return ShowModel(OpenSource(path, {}).manifest(), as_json);
    if (IsImatrix(path)) return ShowImatrix(path, as_json);
    switch (DetectKind(path)) {
      case FileKind::kTorchZip:
      case FileKind::kTorchLegacy:
      case FileKind::kTar:
        return ShowTorch(path, as_json);
      case FileKind::kSafetensors:
        return ShowSafetensors(path, as_json);
      case FileKind::kSentencePiece:
        return ShowSentencePiece(path, as_json);
      case FileKind::kTiktoken:
        return ShowTiktoken(path, as_json);
      case FileKind::kJson:
        return ShowJson(path, as_json);
      default:
        return ShowModel(
            OpenCheckpoint(path, {.context_length = {}, .name = "", .log = &session.terminal})
                ->manifest(),
            as_json);
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
        "  quern inspect consolidated.00.pth           one shard; also model.safetensors\n"
        "  quern inspect tokenizer.model\n"
        "  quern inspect imatrix.gguf                  importance of columns, either layout\n",
    .notes =
        "Everything but the tensors' bytes is validated; without PATH, a GGUF stream from standard "
        "input.\n",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<InspectCommand>()); },
};

}  // namespace quern
