#include "converters/gguf_checkpoint.h"

#include <optional>
#include <utility>

#include "formats/formats.h"
#include "formats/model_file.h"

namespace quern {
namespace {

bool Recognizes(const std::string& path) { return FindContainer(DetectKind(path)) != nullptr; }

// A walk that shows another manifest than its own.
class RenamedWalk final : public TensorSource {
 public:
  RenamedWalk(std::unique_ptr<TensorSource> walk, std::shared_ptr<const Manifest> manifest)
      : walk_(std::move(walk)), manifest_(std::move(manifest)) {}
  const Manifest& manifest() const override { return *manifest_; }
  const std::string& name() const override { return walk_->name(); }
  std::optional<TensorBand> Next(MutableByteView out) override { return walk_->Next(out); }
  void SkipTensors(size_t n, MutableByteView scratch) override { walk_->SkipTensors(n, scratch); }
  uint64_t reading_bytes() const override { return walk_->reading_bytes(); }

 private:
  std::unique_ptr<TensorSource> walk_;
  std::shared_ptr<const Manifest> manifest_;
};

bool ReplacesAnything(const CheckpointOptions& options) {
  return !options.name.empty() || options.context_length.has_value();
}

// Returns a copy of the manifest with what the flags say in place of what the file says.
std::shared_ptr<const Manifest> Renamed(const Manifest& manifest, const CheckpointOptions& options) {
  auto renamed = std::make_shared<Manifest>(manifest);
  if (!options.name.empty()) renamed->name = options.name;
  if (options.context_length && renamed->spec) {
    renamed->spec->context_length = *options.context_length;
    renamed->provenance.context_length_source.clear();  // what is stated needs no rule
  }
  return renamed;
}

// A store with some of its manifest replaced by flags.
class RenamedModel final : public TensorStore {
 public:
  RenamedModel(std::unique_ptr<TensorStore> model, const CheckpointOptions& options)
      : model_(std::move(model)), manifest_(Renamed(model_->manifest(), options)) {}
  const Manifest& manifest() const override { return *manifest_; }
  const std::string& name() const override { return model_->name(); }
  void ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const override {
    model_->ReadRows(tensor, begin, count, out);
  }
  StoredPlace PlaceOf(size_t tensor, uint64_t row, uint64_t col) const override {
    return model_->PlaceOf(tensor, row, col);
  }
  uint64_t reading_bytes() const override { return model_->reading_bytes(); }
  // The model's own walk, which verifies hashes where the file has them.
  std::unique_ptr<TensorSource> Walk() const override {
    return std::make_unique<RenamedWalk>(model_->Walk(), manifest_);
  }

 private:
  std::unique_ptr<TensorStore> model_;
  std::shared_ptr<const Manifest> manifest_;
};

std::unique_ptr<TensorStore> Open(const std::string& path, const CheckpointOptions& options) {
  std::optional<VerifyOptions> verify;
  if (options.verify_crc) verify.emplace(VerifyOptions{options.trust_metadata});
  auto model = OpenModelFile(path, verify);
  if (!ReplacesAnything(options)) return model;
  return std::make_unique<RenamedModel>(std::move(model), options);
}

}  // namespace

std::unique_ptr<TensorSource> RenamedSource(std::unique_ptr<TensorSource> source,
                                            const CheckpointOptions& options) {
  if (!ReplacesAnything(options)) return source;
  auto manifest = Renamed(source->manifest(), options);
  return std::make_unique<RenamedWalk>(std::move(source), std::move(manifest));
}

const ConverterInfo kGgufConverter = {
    .name = "gguf",
    .description = "a model in one file: GGUF or QPACK",
    .recognizes = Recognizes,
    .open = Open,
    .input_files = ModelFilesOf,
};

}  // namespace quern
