#include "converters/hf_checkpoint.h"

#include <array>
#include <cstring>
#include <utility>

#include "converters/hf_config.h"
#include "converters/hf_folder.h"
#include "converters/hf_layout.h"
#include "converters/hf_tokenizer.h"
#include "converters/side_file.h"
#include "converters/tied_output.h"
#include "converters/tokenizer_import.h"
#include "converters/weight_file.h"
#include "formats/core/check.h"
#include "formats/core/file.h"
#include "formats/gguf_metadata.h"
#include "formats/zip_archive.h"

namespace quern {
namespace {

class HfCheckpoint final : public TensorStore {
 public:
  HfCheckpoint(std::string name, std::vector<std::unique_ptr<WeightFile>> files, HfLayout layout)
      : name_(std::move(name)), files_(std::move(files)), sources_(std::move(layout.sources)) {
    manifest_.spec = std::move(layout.spec);
    manifest_.tensors = std::move(layout.tensors);
  }

  const Manifest& manifest() const override { return manifest_; }
  const std::string& name() const override { return name_; }

  void ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const override {
    const TensorInfo& info = manifest_.tensors.at(tensor);
    QUERN_CHECK(begin <= info.rows() && count <= info.rows() - begin);
    QUERN_CHECK(out.size() == count * info.row_bytes());
    if (tensor < sources_.size()) {
      ReadHfRows(sources_[tensor], begin, count, out);
    } else if (count > 0) {
      std::memcpy(out.data(), rope_divisors_.data(), out.size());
    }
  }

  StoredPlace PlaceOf(size_t tensor, uint64_t row, uint64_t col) const override {
    if (tensor >= sources_.size()) return {name_, std::nullopt};  // computed, not stored
    return PlaceOfHf(sources_[tensor], row, col);
  }

  // For whoever builds it: the manifest is complete before the store is handed out.
  Manifest& mutable_manifest() { return manifest_; }
  void AddRopeDivisors(std::vector<float> divisors) {
    rope_divisors_ = std::move(divisors);
    manifest_.tensors.push_back({TensorName(TensorRole::kRopeFreqs), TensorRole::kRopeFreqs,
                                 std::nullopt, DType::kF32, Shape{rope_divisors_.size()}});
  }

 private:
  std::string name_;
  std::vector<std::unique_ptr<WeightFile>> files_;  // sources_ point into them
  std::vector<HfTensor> sources_;
  std::vector<float> rope_divisors_;  // the tensor behind the stored ones, if there is one
  Manifest manifest_;
};

// Drops the output matrix where its bytes equal the embedding's, as for Meta's layout.
void DropTiedOutput(HfLayout& layout) {
  const auto read = [&](size_t tensor, uint64_t row, uint64_t n, MutableByteView out) {
    ReadHfRows(layout.sources[tensor], row, n, out);
  };
  if (!OutputIsEmbedding(layout.tensors, read)) return;
  layout.tensors.pop_back();
  layout.sources.pop_back();
  layout.spec.tied_embeddings = true;
}

// What Assemble makes a model of. Whatever is absent or incomplete is among the faults already.
struct Parts {
  HfFolder folder;
  std::vector<std::unique_ptr<WeightFile>> files;
  bool files_complete = true;
  std::optional<HfConfig> config;
  HfTokenizerFiles side_files;
};

void OpenFile(std::shared_ptr<const RandomAccessBytes> bytes, const CheckpointOptions& options,
              Parts& parts, Faults& faults) {
  parts.files_complete &= faults.Try([&] {
    parts.files.push_back(OpenWeightFile(std::move(bytes), options.verify_crc));
    const WeightFile& file = *parts.files.back();
    if (options.verify_crc && file.lacks_sums()) faults.Warn(NoZipSums(file.name()));
  });
}

std::unique_ptr<TensorStore> Assemble(Parts parts, const CheckpointOptions& options,
                                      Faults& faults) {
  if (!parts.config) parts.side_files.config.reset();  // what is wrong with it was said
  HfTokenizer vocabulary;
  const bool has_vocabulary = faults.Try([&] {
    vocabulary = ReadHfTokenizer(std::move(parts.side_files), parts.folder.folder, faults);
  });
  HfLayout layout;
  if (parts.config && !parts.files.empty()) {
    const bool is_complete = parts.files_complete && parts.folder.is_complete;
    faults.Try([&] {
      layout = PlanHfLayout(*parts.config, parts.folder, parts.files, is_complete, faults);
    });
  }
  if (has_vocabulary && layout.has_embedding) {
    faults.Try([&] { FitHfTokenizer(vocabulary, layout.spec.vocab_size, faults); });
  }
  if (faults.any()) return nullptr;
  if (!faults.Try([&] { DropTiedOutput(layout); })) return nullptr;
  auto store =
      std::make_unique<HfCheckpoint>(parts.folder.path, std::move(parts.files), std::move(layout));
  Manifest& manifest = store->mutable_manifest();
  manifest.name = options.name;
  manifest.tokenizer = std::move(vocabulary.tokenizer);
  if (options.context_length) manifest.spec->context_length = *options.context_length;
  // No word on the layout: a model saved in Meta's gives the same bytes.
  manifest.provenance = {QUERN_VERSION, "", ""};
  if (parts.config->rope_frequency_scaling) {
    store->AddRopeDivisors(RopeDivisors(parts.config->rope_theta, parts.config->head_dim,
                                        *parts.config->rope_frequency_scaling));
  }
  return store;
}

// The files beside the weights.
struct SideFile {
  std::string_view name, wanted;
  uint64_t max_bytes;
  std::optional<TextFile> HfTokenizerFiles::*place;
};
constexpr std::array<SideFile, 8> kSideFiles = {{
    {"config.json", "config.json", kMaxConfigBytes, &HfTokenizerFiles::config},
    {"tokenizer.model", "a tokenizer.model", kMaxVocabularyBytes,
     &HfTokenizerFiles::tokenizer_model},
    {"tokenizer.json", "a tokenizer.json", kMaxVocabularyBytes, &HfTokenizerFiles::tokenizer_json},
    {"tokenizer_config.json", "a JSON file", kMaxConfigBytes, &HfTokenizerFiles::tokenizer_config},
    {"special_tokens_map.json", "a JSON file", kMaxConfigBytes,
     &HfTokenizerFiles::special_tokens_map},
    {"added_tokens.json", "a JSON file", kMaxConfigBytes, &HfTokenizerFiles::added_tokens},
    {"generation_config.json", "a JSON file", kMaxConfigBytes,
     &HfTokenizerFiles::generation_config},
    {"chat_template.jinja", "a chat template", kMaxConfigBytes, &HfTokenizerFiles::chat_template},
}};

// Reads those of the side files that the folder has. Each that cannot be read is a fault.
void ReadSideFiles(std::span<const SideFile> rows, Parts& parts, Faults& faults) {
  for (const SideFile& row : rows) {
    const auto path = parts.folder.Find(row.name);
    if (!path) continue;
    faults.Try([&] {
      parts.side_files.*row.place = TextFile{*path, ReadSideFile(*path, row.max_bytes, row.wanted)};
    });
  }
}

void ParseConfig(Parts& parts, Faults& faults) {
  const std::optional<TextFile>& config = parts.side_files.config;
  if (config) faults.Try([&] { parts.config = ParseHfConfig(config->text, config->path); });
}

Error NoConfig(const std::string& folder) {
  return DataError("hf.config-missing", "no config.json")
      .File(folder)
      .Expected("config.json beside the weights")
      .Hint("copy it from the same release as the weights");
}

std::unique_ptr<TensorStore> Open(const std::string& path, const CheckpointOptions& options) {
  Faults faults;
  auto store = TryOpenHfPath(path, options, faults);
  faults.ThrowFirst();
  if (options.log) faults.LogWarnings(*options.log);
  return store;
}

std::vector<std::string> Shards(const std::string& path) {
  Faults ignored;  // CheckCheckpoint reports them
  return ListHfFolder(path, ignored).shards;
}

std::vector<std::string> InputFiles(const std::string& path) {
  Faults ignored;
  const HfFolder folder = ListHfFolder(path, ignored);
  std::vector<std::string> files = folder.shards;
  if (folder.index) files.push_back(*folder.index);
  for (const SideFile& row : kSideFiles) {
    if (auto file = folder.Find(row.name)) files.push_back(std::move(*file));
  }
  return files;
}

}  // namespace

std::unique_ptr<TensorStore> OpenHfFiles(HfFiles files, const CheckpointOptions& options) {
  Faults faults;
  Parts parts;
  parts.folder.path = parts.folder.folder = files.name;
  parts.side_files = std::move(files.side_files);
  ParseConfig(parts, faults);
  if (!parts.side_files.config) faults.Add(NoConfig(files.name));
  if (files.index) {
    parts.folder.index = files.index->path;
    faults.Try([&] { parts.folder.weight_map = ParseWeightMap(files.index->text, files.index->path); });
  }
  for (auto& file : files.weights) OpenFile(std::move(file), options, parts, faults);
  if (parts.files.empty()) {
    faults.Add(DataError("hf.weights-missing", "no weights").File(files.name));
  }
  auto store = Assemble(std::move(parts), options, faults);
  faults.ThrowFirst();
  if (options.log) faults.LogWarnings(*options.log);
  return store;
}

std::unique_ptr<TensorStore> TryOpenHfPath(const std::string& path,
                                           const CheckpointOptions& options, Faults& faults) {
  Parts parts;
  Faults of_files;
  if (!faults.Try([&] { parts.folder = ListHfFolder(path, of_files); })) return nullptr;
  // What the model is comes before what its weights are: another architecture is named as such.
  const std::span<const SideFile> side_files = kSideFiles;
  ReadSideFiles(side_files.first(1), parts, faults);
  ParseConfig(parts, faults);
  faults.Append(std::move(of_files));
  if (!parts.folder.Find("config.json")) faults.Add(NoConfig(parts.folder.folder));
  ReadSideFiles(side_files.subspan(1), parts, faults);
  for (const std::string& shard : parts.folder.shards) {
    std::shared_ptr<const RandomAccessBytes> bytes;
    parts.files_complete &= faults.Try([&] { bytes = std::make_shared<InputFile>(shard); });
    if (bytes) OpenFile(std::move(bytes), options, parts, faults);
  }
  return Assemble(std::move(parts), options, faults);
}

const ConverterInfo kHfConverter = {
    .name = "huggingface",
    .description =
        "Hugging Face's layout: config.json, safetensors or pytorch_model.bin, a tokenizer (Llama)",
    .recognizes = IsHfPath,
    .open = Open,
    .input_files = InputFiles,
    .try_open = TryOpenHfPath,
    .shards = Shards,
};

}  // namespace quern
