#include "converters/hf_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "converters/hf_config.h"
#include "converters/hf_folder.h"
#include "converters/hf_layout.h"
#include "converters/hf_tokenizer.h"
#include "converters/side_file.h"
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
// Cost: reads both matrices up to the first difference.
void DropTiedOutput(HfLayout& layout) {
  if (layout.tensors.back().role != TensorRole::kOutput) return;
  const TensorInfo& embedding = layout.tensors.front();
  const TensorInfo& output = layout.tensors.back();
  if (embedding.dtype != output.dtype || embedding.shape != output.shape) return;
  // A few rows settle it for untied models.
  const uint64_t row_bytes = output.row_bytes();
  uint64_t rows_at_once = 1;
  std::vector<uint8_t> left, right;
  for (uint64_t row = 0; row < output.rows();) {
    const uint64_t n = std::min(rows_at_once, output.rows() - row);
    left.resize(n * row_bytes);
    right.resize(n * row_bytes);
    ReadHfRows(layout.sources.front(), row, n, left);
    ReadHfRows(layout.sources.back(), row, n, right);
    if (left != right) return;
    row += n;
    rows_at_once = std::clamp<uint64_t>((1u << 20) / row_bytes, 1, rows_at_once * 2);
  }
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
  HfTokenizerFiles tokenizer_files;
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
  std::optional<Tokenizer> tokenizer;
  faults.Try([&] { tokenizer = ReadHfTokenizer(parts.tokenizer_files, parts.folder.folder); });
  HfLayout layout;
  if (parts.config && parts.files_complete && !parts.files.empty()) {
    faults.Try([&] {
      layout = PlanHfLayout(*parts.config, parts.folder, parts.files,
                            options.ignore_unknown_tensors, faults);
    });
  }
  if (faults.any()) return nullptr;
  if (!faults.Try([&] { DropTiedOutput(layout); })) return nullptr;
  const std::string vocabulary_file = parts.tokenizer_files.tokenizer_model
                                          ? parts.tokenizer_files.tokenizer_model->path
                                          : parts.tokenizer_files.tokenizer_json->path;
  if (!faults.Try([&] { PadTokenizer(*tokenizer, layout.spec.vocab_size, vocabulary_file); })) {
    return nullptr;
  }
  auto store =
      std::make_unique<HfCheckpoint>(parts.folder.path, std::move(parts.files), std::move(layout));
  Manifest& manifest = store->mutable_manifest();
  manifest.name = options.name;
  manifest.tokenizer = std::move(*tokenizer);
  if (options.context_length) manifest.spec->context_length = *options.context_length;
  // No word on the layout: a model saved in Meta's gives the same bytes.
  manifest.provenance = {QUERN_VERSION, "",
                         options.context_length ? "--context" : "stated by the checkpoint"};
  if (parts.config->rope_frequency_scaling) {
    store->AddRopeDivisors(RopeDivisors(parts.config->rope_theta, parts.config->head_dim,
                                        *parts.config->rope_frequency_scaling));
  }
  return store;
}

// Reads the side files that the folder has. Each that cannot be read is a fault.
void ReadSideFiles(Parts& parts, Faults& faults) {
  HfTokenizerFiles& files = parts.tokenizer_files;
  struct Row {
    std::string_view name, wanted;
    uint64_t max_bytes;
    std::optional<TextFile>* file;
  };
  const Row rows[] = {
      {"config.json", "config.json", kMaxConfigBytes, &files.config},
      {"tokenizer.model", "a tokenizer.model", kMaxVocabularyBytes, &files.tokenizer_model},
      {"tokenizer.json", "a tokenizer.json", kMaxVocabularyBytes, &files.tokenizer_json},
      {"tokenizer_config.json", "a JSON file", kMaxConfigBytes, &files.tokenizer_config},
      {"special_tokens_map.json", "a JSON file", kMaxConfigBytes, &files.special_tokens_map},
      {"added_tokens.json", "a JSON file", kMaxConfigBytes, &files.added_tokens},
      {"generation_config.json", "a JSON file", kMaxConfigBytes, &files.generation_config},
      {"chat_template.jinja", "a chat template", kMaxConfigBytes, &files.chat_template},
  };
  for (const Row& row : rows) {
    const auto path = parts.folder.Find(row.name);
    if (!path) continue;
    faults.Try([&] {
      *row.file = TextFile{*path, ReadSideFile(*path, row.max_bytes, row.wanted)};
    });
  }
}

void ParseConfig(Parts& parts, Faults& faults) {
  if (!parts.tokenizer_files.config) {
    if (parts.folder.Find("config.json")) return;  // a fault already
    faults.Add(DataError("hf.config-missing", "no config.json")
                   .File(parts.folder.folder)
                   .Expected("config.json beside the weights")
                   .Hint("copy it from the same release as the weights"));
    return;
  }
  const TextFile& config = *parts.tokenizer_files.config;
  faults.Try([&] { parts.config = ParseHfConfig(config.text, config.path); });
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
  for (const std::string_view name :
       {"config.json", "generation_config.json", "tokenizer.model", "tokenizer.json",
        "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
        "chat_template.jinja"}) {
    if (auto file = folder.Find(name)) files.push_back(std::move(*file));
  }
  return files;
}

}  // namespace

std::unique_ptr<TensorStore> TryOpenHfPath(const std::string& path,
                                           const CheckpointOptions& options, Faults& faults) {
  Parts parts;
  if (!faults.Try([&] { parts.folder = ListHfFolder(path, faults); })) return nullptr;
  // What the model is comes before what its weights are: another architecture is named as such.
  ReadSideFiles(parts, faults);
  ParseConfig(parts, faults);
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
