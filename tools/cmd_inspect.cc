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
#include "formats/logits_file.h"
#include "formats/qpack_reader.h"
#include "formats/safetensors.h"
#include "formats/sentencepiece_model.h"
#include "formats/torch_checkpoint.h"
#include "tools/command.h"
#include "tools/describe.h"
#include "tools/io_args.h"
#include "tools/listing.h"
#include "tools/report_format.h"
#include "tools/report_target.h"
#include "tools/table.h"
#include "tools/terminal.h"

namespace quern {
namespace {

// Side files of checkpoints are small; what is larger is no side file.
constexpr uint64_t kMaxSideFileBytes = uint64_t{256} << 20;

using Json = nlohmann::ordered_json;

// Each of these returns what one kind of input shows: a text for reading, or JSON.

std::string ShowModel(const Manifest& manifest, bool as_json) {
  return as_json ? ManifestJson(manifest).dump(2) : DescribeManifest(manifest);
}

// A packed model: as the GGUF inside, and what packing saved.
std::string ShowPacked(const std::string& path, const Manifest& manifest, bool as_json) {
  const auto file = std::make_shared<const InputFile>(path);
  const QpackBytes bytes(file);
  if (as_json) {
    Json json = ManifestJson(manifest);
    json["container"] = "qpack";
    json["gguf_bytes"] = bytes.size_bytes();
    json["packed_bytes"] = bytes.packed_bytes();
    return json.dump(2);
  }
  return fmt::format("packed (QPACK): {} of {} bytes, {} segments\n", bytes.packed_bytes(),
                     bytes.size_bytes(), bytes.n_segments()) +
         DescribeManifest(manifest);
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
    ListItems(json, "tensors", checkpoint.tensors(), checkpoint.tensors().size(),
              [](const TorchTensor& tensor) -> Json {
                return {{"name", Escaped(tensor.name)},
                        {"type", tensor.dtype_name},
                        {"shape", tensor.shape},
                        {"strides", tensor.strides},
                        {"bytes", tensor.size_bytes()}};
              });
    return json.dump(2);
  }
  const auto row = [](const TorchTensor& tensor) -> std::vector<std::string> {
    return {Escaped(tensor.name), std::string(tensor.dtype_name),
            fmt::format("[{}]", fmt::join(tensor.shape, ", ")),
            tensor.is_contiguous() ? "" : fmt::format("[{}]", fmt::join(tensor.strides, ", ")),
            fmt::format("{}", tensor.size_bytes())};
  };
  const Table table =
      ListRows({{"tensor"}, {"type"}, {"shape"}, {"strides"}, {"bytes", Align::kRight}},
               checkpoint.tensors(), checkpoint.tensors().size(), row);
  uint64_t n_bytes = 0;
  for (const TorchTensor& tensor : checkpoint.tensors()) n_bytes += tensor.size_bytes();
  return fmt::format("PyTorch checkpoint: {} tensors in {} storages, {}{}\n\n{}",
                     checkpoint.tensors().size(), checkpoint.storages().size(), HumanBytes(n_bytes),
                     checkpoint.has_sums() ? "" : ", without sums", table.ToString());
}

// One safetensors file by itself: its tensors in the order of their bytes.
std::string ShowSafetensors(const std::string& path, bool as_json) {
  const InputFile bytes(path);
  const SafetensorsFile file = SafetensorsFile::Open(bytes);
  if (as_json) {
    Json json = {{"schema", "quern.safetensors/1"}};
    ListItems(json, "tensors", file.tensors(), file.tensors().size(),
              [](const SafetensorsTensor& tensor) -> Json {
                return {{"name", Escaped(tensor.name)},
                        {"type", tensor.dtype_name},
                        {"shape", tensor.shape},
                        {"bytes", tensor.size_bytes}};
              });
    return json.dump(2);
  }
  const auto row = [](const SafetensorsTensor& tensor) -> std::vector<std::string> {
    return {Escaped(tensor.name), std::string(tensor.dtype_name),
            fmt::format("[{}]", fmt::join(tensor.shape, ", ")),
            fmt::format("{}", tensor.size_bytes)};
  };
  const Table table = ListRows({{"tensor"}, {"type"}, {"shape"}, {"bytes", Align::kRight}},
                               file.tensors(), file.tensors().size(), row);
  uint64_t n_bytes = 0;
  for (const SafetensorsTensor& tensor : file.tensors()) n_bytes += tensor.size_bytes;
  return fmt::format("safetensors: {} tensors, {}\n\n{}", file.tensors().size(),
                     HumanBytes(n_bytes), table.ToString());
}

// A configuration by itself: its members, and those that quern reads checked for kind.
std::string ShowJson(const std::string& path, bool as_json, Log& log) {
  const std::string text = ReadWholeFile(path, kMaxSideFileBytes);
  const JsonValue root = ParseJson(text, path);
  if (!root.is_object()) {
    if (as_json) return Json({{"schema", "quern.json/1"}, {"value", root.ToString()}}).dump(2);
    return fmt::format("JSON: {}\n", root.ToString());
  }
  try {
    CheckConfigFile(text, path);
  } catch (const Error& error) {
    // What is valid and not read can be shown.
    if (error.code() != ErrorCode::kUnsupported) throw;
    log.Warn(error.what());
  }
  if (as_json) {
    Json json = {{"schema", "quern.json/1"}};
    ListItems(json, "members", root.items(), root.size(), [](const auto& item) -> Json {
      return {{"key", Escaped(item.key)}, {"value", item.value.ToString()}};
    });
    return json.dump(2);
  }
  const auto row = [](const auto& item) -> std::vector<std::string> {
    return {Escaped(item.key), item.value.ToString()};
  };
  const Table table = ListRows({{"key"}, {"value"}}, root.items(), root.size(), row);
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
    ListItems(json, "entries", imatrix.entries, imatrix.entries.size(),
              [](const ImatrixEntry& entry) -> Json {
                return {{"name", Escaped(entry.name, kImatrixMaxNameBytes)},
                        {"n_values", entry.values.size()},
                        {"count", entry.count},
                        {"mean", MeanOf(entry.values)},
                        {"max", *std::ranges::max_element(entry.values)},
                        {"all_zero", entry.all_zero}};
              });
    return json.dump(2);
  }
  const auto row = [](const ImatrixEntry& entry) -> std::vector<std::string> {
    return {Escaped(entry.name), fmt::format("{}", entry.values.size()),
            fmt::format("{}", entry.count), fmt::format("{:.6g}", MeanOf(entry.values)),
            fmt::format("{:.6g}", *std::ranges::max_element(entry.values)),
            entry.all_zero ? "all zero" : ""};
  };
  const Table table = ListRows({{"weight"},
                                {"columns", Align::kRight},
                                {imatrix.is_gguf ? "rows seen" : "calls", Align::kRight},
                                {"mean", Align::kRight},
                                {"max", Align::kRight},
                                {""}},
                               imatrix.entries, imatrix.entries.size(), row);
  std::string head = fmt::format("importance matrix ({}): {} entries",
                                 imatrix.is_gguf ? "GGUF" : "legacy", imatrix.entries.size());
  if (imatrix.n_chunks) head += fmt::format(", {} chunks", *imatrix.n_chunks);
  if (imatrix.chunk_size) head += fmt::format(" of {} tokens", *imatrix.chunk_size);
  for (size_t i = 0; i < imatrix.datasets.size(); ++i)
    head += (i == 0 ? ", from " : ", ") + Escaped(imatrix.datasets[i]);
  return head + "\n\n" + table.ToString();
}

// What a model predicted: the numbers of its header, the tokens checked, the rows not looked at.
std::string ShowLogits(const std::string& path, bool as_json) {
  const LogitsFile file(std::make_unique<InputFile>(path));
  const LogitsLayout& layout = file.layout();
  for (uint64_t window = 0; window < layout.n_windows; ++window) file.Tokens(window, 1);
  if (as_json) {
    return Json({{"schema", "quern.logits/1"},
                 {"windows", layout.n_windows},
                 {"context", layout.context},
                 {"vocabulary", layout.vocab_size},
                 {"predictions", layout.n_windows * layout.rows_per_window()}})
        .dump(2);
  }
  return fmt::format("base logits     {} of {} tokens, {} predictions, vocabulary {}\n",
                     Counted(layout.n_windows, "window"), layout.context,
                     layout.n_windows * layout.rows_per_window(), layout.vocab_size);
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
        return ShowJson(path, as_json, session.terminal);
      case FileKind::kLogits:
        return ShowLogits(path, as_json);
      case FileKind::kQpack:
        return ShowPacked(path, Open(path, session)->manifest(), as_json);
      default:
        return ShowModel(Open(path, session)->manifest(), as_json);
    }
  }

  static std::unique_ptr<TensorStore> Open(const std::string& path, Session& session) {
    return OpenCheckpoint(path, {.context_length = {}, .name = "", .log = &session.terminal});
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
        "input.\nOf long lists, the first 1000 rows are shown, and 4096 items with --json, and how "
        "many more there are\n(n_more_tensors and the like).\n",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<InspectCommand>()); },
};

}  // namespace quern
