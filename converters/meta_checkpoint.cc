#include "converters/meta_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>

#include "converters/meta_folder.h"
#include "converters/meta_layout.h"
#include "converters/params_json.h"
#include "converters/rope_scaling.h"
#include "converters/side_file.h"
#include "converters/tokenizer_import.h"
#include "formats/core/check.h"
#include "formats/formats.h"
#include "formats/gguf_metadata.h"
#include "formats/torch_checkpoint.h"

namespace quern {
namespace {

// Real ones have a few hundred bytes and at most 2.2 MB.
constexpr uint64_t kMaxParamsBytes = 1u << 20;
constexpr uint64_t kMaxTokenizerBytes = 16u << 20;

class MetaCheckpoint final : public TensorStore {
 public:
  MetaCheckpoint(std::string name, std::vector<std::shared_ptr<const RandomAccessBytes>> files,
                 std::vector<TorchCheckpoint> shards, MetaLayout layout)
      : name_(std::move(name)),
        files_(std::move(files)),
        shards_(std::move(shards)),
        merged_(std::move(layout.merged)) {
    manifest_.spec = std::move(layout.spec);
    manifest_.tensors = std::move(layout.tensors);
  }

  const Manifest& manifest() const override { return manifest_; }
  const std::string& name() const override { return name_; }

  void ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const override {
    const TensorInfo& info = manifest_.tensors.at(tensor);
    QUERN_CHECK(begin <= info.rows() && count <= info.rows() - begin);
    QUERN_CHECK(out.size() == count * info.row_bytes());
    if (tensor < merged_.size()) {
      ReadMergedRows(merged_[tensor], shards_, begin, count, out);
    } else if (count > 0) {
      std::memcpy(out.data(), rope_divisors_.data(), out.size());
    }
  }

  StoredPlace PlaceOf(size_t tensor, uint64_t row, uint64_t col) const override {
    if (tensor >= merged_.size()) return {name_, std::nullopt};  // computed, not stored
    const MergedPlace place = PlaceOfMerged(merged_[tensor], shards_, row, col);
    return {shards_[place.shard].name(), place.byte_offset};
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
  std::vector<std::shared_ptr<const RandomAccessBytes>> files_;  // shards_ refer to them
  std::vector<TorchCheckpoint> shards_;                          // merged_ points into them
  std::vector<MergedTensor> merged_;
  std::vector<float> rope_divisors_;  // the tensor behind the merged ones, if there is one
  Manifest manifest_;
};

MetaParams ReadParams(std::string_view text, const std::string& file) {
  RefuseForeign(text, file, "params.json");
  return ParseMetaParams(text, file);
}

// What Assemble makes a model of. Whatever is absent or incomplete is among the faults already.
struct Parts {
  std::string name;
  std::vector<std::shared_ptr<const RandomAccessBytes>> files;
  std::vector<TorchCheckpoint> shards;  // one per file if complete
  bool shards_complete = false;
  size_t n_files = 0;  // shard files by their names, or 0 where the names have gaps
  std::optional<MetaParams> params;
  std::string tokenizer_file;
  std::optional<std::string> tokenizer_bytes;
};

void OpenShards(Parts& parts, const CheckpointOptions& options, Faults& faults) {
  parts.shards.reserve(parts.files.size());
  for (const auto& file : parts.files) {
    parts.shards_complete &= faults.Try([&] {
      parts.shards.push_back(TorchCheckpoint::Open(*file, {options.verify_crc}));
      if (options.verify_crc && !parts.shards.back().has_sums()) {
        faults.Warn(NoZipSums(file->name()));
      }
    });
  }
}

Tokenizer ReadTokenizer(const Parts& parts) {
  const ByteView bytes = AsBytes(*parts.tokenizer_bytes);
  RefuseForeign(*parts.tokenizer_bytes, parts.tokenizer_file, "a tokenizer.model");
  const bool is_llama31 = parts.params && parts.params->use_scaled_rope;
  return ReadMetaTokenizer(bytes, parts.tokenizer_file,
                           is_llama31 ? TiktokenNames::kLlama31 : TiktokenNames::kLlama3);
}

// Makes the vocabulary as long as the embedding, as soon as both are known.
void FitTokenizer(const MetaLayout& layout, const std::string& file, Tokenizer& tokenizer,
                  Faults& faults) {
  const auto embedding =
      std::ranges::find(layout.tensors, TensorRole::kTokenEmbedding, &TensorInfo::role);
  if (embedding == layout.tensors.end() || embedding->rows() > kMaxVocabularyRows) return;
  const bool is_tiktoken = tokenizer.kind == Tokenizer::Kind::kBytePair;
  PadTokenizer(tokenizer, embedding->rows(),
               is_tiktoken ? kMaxTiktokenPadding : kMaxPaddingTokens, file, faults);
}

// Fills what only params.json, vocabulary and weights together tell.
void CompleteManifest(MetaCheckpoint& store, const MetaParams& params, Tokenizer tokenizer,
                      const CheckpointOptions& options, Faults& faults) {
  Manifest& manifest = store.mutable_manifest();
  const MetaRuleInputs inputs{
      .tiktoken_vocabulary = tokenizer.kind == Tokenizer::Kind::kBytePair,
      .bfloat16_weights = manifest.tensors.front().dtype == DType::kBF16};
  manifest.tokenizer = std::move(tokenizer);
  manifest.name = options.name;
  manifest.spec->rope_theta = static_cast<float>(RopeThetaOf(params, inputs));
  ContextLength context = ContextLengthOf(params, inputs, options.context_length);
  manifest.spec->context_length = context.length;
  if (context.is_doubtful) {
    faults.Warn(DataError("meta.context-length", "nothing says the context length for certain")
                    .File(store.name())
                    .Found(context.rule)
                    .Expected("max_seq_len in params.json")
                    .Hint("give --context if the model was trained with another length than " +
                          std::to_string(context.length)));
  }
  manifest.provenance = {QUERN_VERSION, "", std::move(context.rule)};
  if (params.use_scaled_rope) {
    store.AddRopeDivisors(RopeDivisors(RopeThetaOf(params, inputs), params.head_dim(),
                                       {.factor = RopeScalingFactor(params)}));
  }
}

// Returns false if a few elements show that output matrix and embedding differ. They are read past
// ReadRows, which would compare the CRC-32 of all of both matrices: `inspect` is to be quick.
bool MayBeTied(const MetaLayout& layout, const Parts& parts) {
  const TensorInfo& info = layout.tensors.front();
  if (layout.tensors.back().shape != info.shape) return false;
  const auto element = [&](const MergedTensor& tensor, uint64_t row, uint64_t col) {
    const MergedPlace place = PlaceOfMerged(tensor, parts.shards, row, col);
    return parts.files[place.shard]->ReadVector(place.byte_offset, tensor.slices[0]->elem_bytes);
  };
  const uint64_t row = info.rows() / 2;
  for (uint64_t col = 0; col < std::min<uint64_t>(info.cols(), 16); ++col) {
    if (element(layout.merged.front(), row, col) != element(layout.merged.back(), row, col)) {
      return false;
    }
  }
  return true;
}

// Returns the layout of the shards, of whatever there is of them: to be used if there are no faults.
MetaLayout PlanParts(const Parts& parts, Faults& faults) {
  MetaLayout layout;
  if (!parts.params || parts.shards.empty()) return layout;
  faults.Try([&] {
    if (parts.shards_complete) {
      layout = PlanMetaLayout(*parts.params, parts.shards, faults);
      CheckReplicatedTensors(layout, parts.shards, faults);
    } else {
      CheckSomeShards(*parts.params, parts.shards, parts.n_files, faults);
    }
    CheckShardIdentity(parts.shards, faults);
  });
  return layout;
}

std::unique_ptr<TensorStore> Assemble(Parts parts, const CheckpointOptions& options,
                                      Faults& faults) {
  MetaLayout layout = PlanParts(parts, faults);
  std::optional<Tokenizer> tokenizer;
  if (parts.tokenizer_bytes) faults.Try([&] { tokenizer = ReadTokenizer(parts); });
  if (tokenizer) faults.Try([&] { FitTokenizer(layout, parts.tokenizer_file, *tokenizer, faults); });
  if (faults.any()) return nullptr;
  faults.Try([&] {
    if (MayBeTied(layout, parts)) DropTiedOutput(layout, parts.shards);
  });
  auto store = std::make_unique<MetaCheckpoint>(std::move(parts.name), std::move(parts.files),
                                                std::move(parts.shards), std::move(layout));
  faults.Try([&] {
    CompleteManifest(*store, *parts.params, std::move(*tokenizer), options, faults);
  });
  if (faults.any()) return nullptr;
  return store;
}

// Returns the params.json that fits the weights, as far as they tell, for the hint of an error.
std::string GuessParams(const TorchCheckpoint& shard) {
  const auto rows = [&](std::string_view name) -> uint64_t {
    const TorchTensor* tensor = shard.Find(name);
    return tensor && tensor->shape.size() == 2 ? tensor->shape[0] : 0;
  };
  const TorchTensor* norm = shard.Find("norm.weight");
  uint32_t n_layers = 0;
  for (const TorchTensor& tensor : shard.tensors()) {
    const auto parts = ParseMetaTensorName(tensor.name);
    if (parts && parts->layer) n_layers = std::max(n_layers, *parts->layer + 1);
  }
  const uint64_t q = rows("layers.0.attention.wq.weight"), k = rows("layers.0.attention.wk.weight");
  if (!norm || n_layers == 0 || q == 0 || k == 0) return {};
  std::string text = "{\"dim\": " + std::to_string(norm->n_elems()) +
                     ", \"n_layers\": " + std::to_string(n_layers) + ", \"n_heads\": N";
  if (q > k) text += ", \"n_kv_heads\": N/" + std::to_string(q / k);
  return text + ", \"norm_eps\": 1e-5, \"max_seq_len\": L}";
}

// Compares all sums of a few bytes of weights: that the file is damaged says more than that it is
// alone, but not so much more that anyone would wait for it.
void VerifySmallFiles(const Parts& parts, Faults& faults) {
  constexpr uint64_t kSmallBytes = uint64_t{64} << 20;
  uint64_t total_bytes = 0;
  for (const auto& file : parts.files) total_bytes += file->size_bytes();
  if (total_bytes > kSmallBytes) return;
  for (const TorchCheckpoint& shard : parts.shards) faults.Try([&] { shard.VerifyAllCrcs(); });
}

// The errors for a checkpoint without its side files: what was not found, and what to do.
Error MissingParams(const MetaFolder& folder, const Parts& parts) {
  const std::string guess =
      parts.shards.size() == 1 && parts.files.size() == 1 ? GuessParams(parts.shards[0]) : "";
  std::string hint = "copy it from the release";
  if (!guess.empty()) {
    hint += ", or write it: " + guess +
            ", with the numbers of heads and of positions that the model was trained with (llama2.c "
            "keeps them under 'model_args')";
  }
  return DataError("meta.params-missing", "no params.json")
      .File(folder.path)
      .Expected("params.json beside the weights")
      .Hint(hint);
}
Error MissingTokenizer(const MetaFolder& folder) {
  return DataError("meta.tokenizer-missing", "no tokenizer.model")
      .File(folder.path)
      .Expected("tokenizer.model beside the weights or one level above")
      .Hint("Meta's downloads of Llama 1 and 2 have it beside the models' folders; copy it here");
}

bool IsTorchFile(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return false;
  switch (DetectKind(path)) {
    case FileKind::kTorchZip:
    case FileKind::kTorchLegacy:
    case FileKind::kTar: return true;
    default: return false;
  }
}

bool Recognizes(const std::string& path) { return IsMetaFolder(path) || IsTorchFile(path); }

std::unique_ptr<TensorStore> Open(const std::string& path, const CheckpointOptions& options) {
  Faults faults;
  auto store = TryOpenMetaPath(path, options, faults);
  faults.ThrowFirst();
  if (options.log) faults.LogWarnings(*options.log);
  return store;
}

std::vector<std::string> Shards(const std::string& path) {
  Faults ignored;  // CheckCheckpoint reports them
  return ListMetaFolder(path, ignored).shards;
}

std::vector<std::string> InputFiles(const std::string& path) {
  Faults faults;
  MetaFolder folder = ListMetaFolder(path, faults);
  std::vector<std::string> files = std::move(folder.shards);
  if (folder.params) files.push_back(*folder.params);
  if (folder.tokenizer) files.push_back(*folder.tokenizer);
  return files;
}

}  // namespace

std::unique_ptr<TensorStore> OpenMetaFiles(MetaFiles files, const CheckpointOptions& options) {
  if (files.shards.empty()) throw NoShards(files.name);
  Faults faults;
  const size_t n_files = files.shards.size();
  Parts parts{std::move(files.name), std::move(files.shards), {}, true, n_files, std::nullopt,
              std::move(files.tokenizer_file), std::move(files.tokenizer_bytes)};
  OpenShards(parts, options, faults);
  faults.Try([&] { parts.params = ReadParams(files.params_text, files.params_file); });
  auto store = Assemble(std::move(parts), options, faults);
  faults.ThrowFirst();
  if (options.log) faults.LogWarnings(*options.log);
  return store;
}

std::unique_ptr<TensorStore> TryOpenMetaPath(const std::string& path,
                                             const CheckpointOptions& options, Faults& faults) {
  MetaFolder folder;
  if (!faults.Try([&] { folder = ListMetaFolder(path, faults); })) return nullptr;
  Parts parts;
  parts.name = path;
  parts.shards_complete = folder.gapless;
  parts.n_files = folder.gapless ? folder.shards.size() : 0;
  for (const std::string& shard : folder.shards) {
    parts.shards_complete &=
        faults.Try([&] { parts.files.push_back(std::make_shared<InputFile>(shard)); });
  }
  OpenShards(parts, options, faults);
  if (folder.params) {
    faults.Try([&] {
      parts.params = ReadParams(ReadWholeFile(*folder.params, kMaxParamsBytes), *folder.params);
    });
  } else {
    if (options.verify_crc) VerifySmallFiles(parts, faults);
    faults.Add(MissingParams(folder, parts));
  }
  if (folder.tokenizer) {
    parts.tokenizer_file = *folder.tokenizer;
    faults.Try(
        [&] { parts.tokenizer_bytes = ReadWholeFile(*folder.tokenizer, kMaxTokenizerBytes); });
  } else {
    faults.Add(MissingTokenizer(folder));
  }
  return Assemble(std::move(parts), options, faults);
}

const ConverterInfo kMetaConverter = {
    .name = "meta",
    .description = "Meta's layout: params.json, consolidated.NN.pth, tokenizer.model (Llama 1 to 3.3, Code Llama)",
    .recognizes = Recognizes,
    .open = Open,
    .input_files = InputFiles,
    .try_open = TryOpenMetaPath,
    .shards = Shards,
};

}  // namespace quern
