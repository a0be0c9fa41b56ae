#include "converters/gguf_checkpoint.h"

#include <utility>

#include "formats/formats.h"
#include "formats/model_file.h"

namespace quern {
namespace {

bool Recognizes(const std::string& path) { return FindContainer(DetectKind(path)) != nullptr; }

// A store with some of its manifest replaced by flags.
class RenamedModel final : public TensorStore {
 public:
  RenamedModel(std::unique_ptr<TensorStore> model, const CheckpointOptions& options)
      : model_(std::move(model)), manifest_(model_->manifest()) {
    if (!options.name.empty()) manifest_.name = options.name;
    if (options.context_length && manifest_.spec) {
      manifest_.spec->context_length = *options.context_length;
      manifest_.provenance.context_length_source = "--context";
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

 private:
  std::unique_ptr<TensorStore> model_;
  Manifest manifest_;
};

std::unique_ptr<TensorStore> Open(const std::string& path, const CheckpointOptions& options) {
  auto model = OpenModelFile(path);
  if (options.name.empty() && !options.context_length) return model;
  return std::make_unique<RenamedModel>(std::move(model), options);
}

}  // namespace

const ConverterInfo kGgufConverter = {"gguf", "a model in one file: GGUF", Recognizes, Open,
                                      ModelFilesOf};

}  // namespace quern
