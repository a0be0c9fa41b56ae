#include "converters/converters.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <optional>

#include "converters/checklist.h"
#include "converters/gguf_checkpoint.h"
#include "converters/hf_checkpoint.h"
#include "converters/hf_config.h"
#include "converters/hf_folder.h"
#include "converters/meta_checkpoint.h"
#include "converters/meta_folder.h"
#include "converters/params_json.h"
#include "converters/paths.h"
#include "converters/shard_store.h"
#include "formats/formats.h"
#include "formats/json_limits.h"
#include "formats/torch_checkpoint.h"
#include "formats/zip_archive.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const ConverterInfo*, 3> kConverters = {&kHfConverter, &kMetaConverter,
                                                              &kGgufConverter};

const ConverterInfo* FindConverter(const std::string& path) {
  const auto found = std::find_if(kConverters.begin(), kConverters.end(),
                                  [&](const ConverterInfo* c) { return c->recognizes(path); });
  return found == kConverters.end() ? nullptr : *found;
}

// Returns the first subfolder that is a checkpoint in Meta's layout, for a hint; or "".
std::string MetaSubfolder(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (it->is_directory(ignored)) names.push_back(it->path().string());
  }
  std::sort(names.begin(), names.end());
  const auto found = std::find_if(names.begin(), names.end(), [](const std::string& name) {
    try {
      return IsMetaFolder(name);
    } catch (const Error&) {
      return false;  // not readable: no help
    }
  });
  return found == names.end() ? "" : *found;
}

// Returns the folder that the file at `path` is in, by a name that can be opened.
std::string NamedFolderOf(const std::string& path) {
  std::string folder = FolderOf(path);
  return folder.empty() ? "." : folder;
}

// Layouts that are known by a file in the folder, and refused by name.
struct OtherLayout {
  std::string_view file, description;
};
constexpr std::array<OtherLayout, 3> kOtherLayouts = {{
    {"consolidated.safetensors", "weights in consolidated.safetensors (Mistral's layout)"},
    {"adapter_config.json", "a LoRA adapter (PEFT)"},
    {".metadata", "a distributed checkpoint of torch.distributed"},
}};

// Returns what `open` opens, or nothing where the file is malformed: CheckCheckpoint says so.
template <typename Open>
auto IfSound(const Open& open) -> std::optional<decltype(open())> {
  try {
    return open();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kSystem) throw;
    return std::nullopt;
  }
}

// Compares the sums of one zip archive.
void CheckSumsOf(const std::string& path, Progress* progress, Faults& faults) {
  const InputFile file(path);
  // As a checkpoint it knows which tensor an entry is of; where only its pickle is damaged, the
  // archive still has sums.
  const auto checkpoint =
      IfSound([&] { return TorchCheckpoint::Open(file, {.verify_crc = false}); });
  const auto alone = checkpoint ? std::nullopt : IfSound([&] { return ZipArchive::Open(file); });
  if (!checkpoint && !alone) return;
  const ZipArchive& archive = checkpoint ? checkpoint->archive() : *alone;
  if (!archive.has_sums()) return faults.Warn(NoZipSums(path));
  for (const ZipEntry& entry : archive.entries()) {
    if (entry.method == 0) {
      faults.Try([&] { checkpoint ? checkpoint->VerifyCrc(entry) : archive.VerifyCrc(entry); });
    }
    if (progress) progress->Advance(entry.size_bytes);
  }
}

Error CheckedByItself(const std::string& path) {
  return DataError("check.lone-shard", "a file of weights, checked by itself")
      .File(path)
      .Hint("give the checkpoint's folder to have shards, names and shapes checked together");
}

// Returns the error for a folder that no converter reads.
Error UnknownFolder(const std::string& folder) {
  const std::string meta = MetaSubfolder(folder);
  std::string hint = "give a folder with params.json, consolidated.00.pth and tokenizer.model, or with "
                     "config.json and model.safetensors";
  if (!meta.empty()) hint = "did you mean " + Quoted(meta) + "?";
  for (const OtherLayout& layout : kOtherLayouts) {
    if (!IsFile(JoinPath(folder, layout.file))) continue;
    return UnsupportedError("checkpoint.layout", "this folder has " + std::string(layout.description))
        .File(folder)
        .Found(layout.file)
        .Expected("Meta's or Hugging Face's layout, which is what this version reads")
        .Hint(hint);
  }
  return DataError("input.unknown-format", "no checkpoint in this folder")
      .File(folder)
      .Expected("params.json and consolidated.NN.pth, or config.json and model.safetensors")
      .Hint(hint);
}

// Returns the error for a path that no converter reads.
Error UnknownPath(const std::string& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return UnknownFolder(path);
  const InputFile file(path);
  const std::vector<uint8_t> head =
      file.ReadVector(0, std::min<uint64_t>(file.size_bytes(), kDetectBytes));
  const FileKind kind = DetectKind(head, path);
  if (kind == FileKind::kSafetensors) {
    return UnsupportedError("checkpoint.layout", "this is a safetensors file")
        .File(path)
        .Expected("config.json beside it")
        .Hint("copy config.json and the tokenizer from the same release, and give their folder");
  }
  Error wrong = WrongKind(kind, head, path, "a checkpoint");
  const bool is_side_file = kind == FileKind::kJson || kind == FileKind::kSentencePiece ||
                            kind == FileKind::kTiktoken;
  if (!is_side_file) return wrong;
  // A part of a checkpoint was given for the whole.
  const std::string folder = NamedFolderOf(path);
  return wrong.Hint(FindConverter(folder) != nullptr
                        ? "give its folder: " + Quoted(folder)
                        : "give the folder that holds it and the weights, or a GGUF file");
}

void RequireUtf8Name(const CheckpointOptions& options) {
  if (IsUtf8(options.name)) return;
  throw Error(ErrorCode::kUsage, "usage.name", "the model's name is no valid UTF-8")
      .Found(Quoted(options.name))
      .Expected("UTF-8, as GGUF has it");
}

}  // namespace

std::span<const ConverterInfo* const> AllConverters() { return kConverters; }

std::unique_ptr<TensorStore> OpenCheckpoint(const std::string& path,
                                            const CheckpointOptions& options) {
  std::error_code error;
  if (!fs::exists(path, error)) {
    throw SystemError("file.open", "open", path, error ? error.value() : ENOENT);
  }
  RequireUtf8Name(options);
  const ConverterInfo* converter = FindConverter(path);
  if (converter == nullptr) throw UnknownPath(path);
  return converter->open(path, options);
}

std::unique_ptr<TensorSource> WithOptions(std::unique_ptr<TensorSource> stream,
                                          const CheckpointOptions& options) {
  RequireUtf8Name(options);
  return RenamedSource(std::move(stream), options);
}

std::vector<std::string> ShardsOf(const std::string& path) {
  const ConverterInfo* converter = FindConverter(path);
  if (converter != nullptr && converter->shards != nullptr) return converter->shards(path);
  return IsLoneShard(path) ? std::vector{path} : std::vector<std::string>();
}

bool IsLoneShard(const std::string& path) {
  const FileKind kind = DetectKind(path);
  if (kind != FileKind::kTorchZip && kind != FileKind::kSafetensors) return false;
  const std::string folder = NamedFolderOf(path);
  const bool has_params =
      kind == FileKind::kTorchZip && IsFile(JoinPath(folder, "params.json"));
  if (!has_params && !IsHfPath(path)) return true;
  const std::vector<std::string> shards = ShardsOf(folder);
  const auto is_same = [&](const std::string& shard) { return BaseName(shard) == BaseName(path); };
  return shards.size() > 1 && std::ranges::any_of(shards, is_same);
}

std::vector<std::string> InputFilesOf(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return {};
  const bool is_folder = fs::is_directory(path, error);
  const ConverterInfo* converter = FindConverter(path);
  if (converter == nullptr) return is_folder ? std::vector<std::string>() : std::vector{path};
  std::vector<std::string> files = converter->input_files(path);
  if (is_folder) std::ranges::move(ChecklistPaths(path), std::back_inserter(files));
  return files;
}

std::vector<Finding> CheckCheckpoint(const std::string& path, const CheckpointOptions& options) {
  Faults faults;
  std::error_code error;
  if (!fs::exists(path, error)) OpenCheckpoint(path, options);  // throws
  if (IsLoneShard(path)) {
    if (faults.Try([&] { OpenShard(path); })) faults.Note(CheckedByItself(path));
    return std::move(faults).TakeFindings();
  }
  const ConverterInfo* converter = FindConverter(path);
  if (converter != nullptr && converter->try_open != nullptr) {
    converter->try_open(path, options, faults);
  } else {
    faults.Try([&] { OpenCheckpoint(path, options); });
  }
  return std::move(faults).TakeFindings();
}

void CheckConfigFile(std::string_view text, const std::string& file) {
  const JsonValue root = ParseJson(text, file);
  if (!root.is_object()) return;
  const auto count = [&](std::span<const std::string_view> keys) {
    return std::ranges::count_if(
        keys, [&](std::string_view key) { return root.Find(key).has_value(); });
  };
  constexpr std::string_view kMetaKeys[] = {"dim",        "n_layers",    "n_heads",
                                            "n_kv_heads", "multiple_of", "norm_eps"};
  constexpr std::string_view kHfCounts[] = {"hidden_size", "intermediate_size", "num_hidden_layers",
                                            "num_attention_heads", "num_key_value_heads"};
  constexpr std::string_view kHfKeys[] = {"rms_norm_eps", "model_type", "architectures"};
  constexpr std::string_view kTokenIds[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
  const auto nested = root.Find("model");  // of params.json, in community files
  // One key may be anybody's; two are a configuration of that kind.
  if (count(kMetaKeys) >= 2 || (nested && nested->is_object() && nested->Find("n_layers"))) {
    ParseMetaParams(text, file);
  } else if (count(kHfCounts) + count(kHfKeys) >= 2) {
    ParseHfConfig(text, file);
  } else if (root.Find("weight_map")) {
    ParseWeightMap(text, file);
  } else {
    // Whatever it is a part of, these are counts.
    for (const std::string_view key : kHfCounts) OptionalUint(root, key, UINT32_MAX, file);
  }
  if (count(kTokenIds) > 0) ParseHfTokenIds(text, file);
}

std::vector<std::unique_ptr<TensorStore>> OpenSoundParts(const std::string& path) {
  std::vector<std::unique_ptr<TensorStore>> parts;
  Faults ignored;  // CheckCheckpoint reports them
  for (const std::string& shard : ShardsOf(path)) {
    ignored.Try([&] { parts.push_back(OpenShard(shard)); });
  }
  return parts;
}

std::vector<Finding> CheckSums(const std::string& path, Progress* progress) {
  const std::vector<std::string> shards = ShardsOf(path);
  const uint64_t total_bytes = TotalBytes(shards);
  if (progress && total_bytes > 0) progress->Begin("compare sums", total_bytes, "bytes");
  Faults faults;
  for (const std::string& shard : shards) {
    faults.Try([&] {
      // safetensors has no sums.
      if (DetectKind(shard) == FileKind::kTorchZip) CheckSumsOf(shard, progress, faults);
    });
  }
  if (progress && total_bytes > 0) progress->End();
  return std::move(faults).TakeFindings();
}

}  // namespace quern
