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
  // Requires: `manifest` outlives the walk.
  RenamedWalk(std::unique_ptr<TensorSource> walk, const Manifest& manifest)
      : walk_(std::move(walk)), manifest_(manifest) {}
  const Manifest& manifest() const override { return manifest_; }
  const std::string& name() const override { return walk_->name(); }
  std::optional<TensorBand> Next(MutableByteView out) override { return walk_->Next(out); }
  void SkipTensors(size_t n, MutableByteView scratch) override { walk_->SkipTensors(n, scratch); }
  uint64_t reading_bytes() const override { return walk_->reading_bytes(); }

 private:
  std::unique_ptr<TensorSource> walk_;
  const Manifest& manifest_;
};

// A store with some of its manifest replaced by flags.
class RenamedModel final : public TensorStore {
 public:
  RenamedModel(std::unique_ptr<TensorStore> model, const CheckpointOptions& options)
      : model_(std::move(model)), manifest_(model_->manifest()) {
    if (!options.name.empty()) manifest_.name = options.name;
    if (options.context_length && manifest_.spec) {
      manifest_.spec->context_length = *options.context_length;
      manifest_.provenance.context_length_source.clear();  // what is stated needs no rule
    }
  }
  const Manifest& manifest() const override { return manifest_; }
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
  Manifest manifest_;
};

std::unique_ptr<TensorStore> Open(const std::string& path, const CheckpointOptions& options) {
  std::optional<VerifyOptions> verify;
  if (options.verify_crc) verify.emplace(VerifyOptions{options.trust_metadata});
  auto model = OpenModelFile(path, verify);
  if (options.name.empty() && !options.context_length) return model;
  return std::make_unique<RenamedModel>(std::move(model), options);
}

}  // namespace

const ConverterInfo kGgufConverter = {
    .name = "gguf",
    .description = "a model in one file: GGUF or QPACK",
    .recognizes = Recognizes,
    .open = Open,
    .input_files = ModelFilesOf,
};

}  // namespace quern
