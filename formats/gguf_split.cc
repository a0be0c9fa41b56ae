#include "formats/gguf_split.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "formats/core/check.h"
#include "formats/core/file.h"
#include "formats/core/name_list.h"
#include "formats/duplicates.h"
#include "formats/formats.h"
#include "formats/gguf_format.h"
#include "formats/gguf_reader.h"
#include "formats/qpack_reader.h"

namespace quern {
namespace {

Error SplitError(std::string_view what, const std::string& file) {
  return DataError("gguf.split", what)
      .File(Escaped(file, 4096))
      .Hint("all parts must come from the same splitting of the same model");
}

class SplitGguf final : public TensorStore {
 public:
  SplitGguf(const std::string& path, const GgufSplit& split) : name_(path) {
    const auto workspace = MakeQpackWorkspace();
    std::vector<MetadataEntry> metadata;
    std::vector<TensorInfo> tensors;
    const std::vector<std::string> paths = SplitPartPaths(path, split);
    RequireParts(paths);
    for (const std::string& part_path : paths) {
      auto file = std::make_shared<const InputFile>(part_path);
      RequireModel(*file);
      auto bytes = GgufBytesIn(std::move(file), workspace);
      reading_bytes_ = std::max(reading_bytes_, bytes->reading_bytes());
      GgufHeader header = ReadGgufHeader(*bytes);
      CheckPart(part_path, header, split);
      for (size_t i = 0; i < header.tensors.size(); ++i) {
        places_.push_back({parts_.size(), i});
        tensors.push_back(header.tensors[i]);
      }
      if (parts_.empty()) metadata = header.metadata;
      parts_.push_back(std::make_unique<GgufFile>(std::move(bytes), std::move(header)));
      if (tensors.size() > split.n_tensors) break;
    }
    CheckTensors(tensors, split);
    manifest_ = ManifestFromGguf(std::move(metadata), std::move(tensors), name_);
  }

  const Manifest& manifest() const override { return manifest_; }
  const std::string& name() const override { return name_; }

  void ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const override {
    QUERN_CHECK(tensor < places_.size());
    PartOf(tensor).ReadRows(places_[tensor].tensor, begin, count, out);
  }
  StoredPlace PlaceOf(size_t tensor, uint64_t row, uint64_t col) const override {
    return PartOf(tensor).PlaceOf(places_[tensor].tensor, row, col);
  }
  // Each part has its own trailer, or none.
  std::vector<std::optional<uint64_t>> TensorHashes() const override {
    std::vector<std::optional<uint64_t>> hashes;
    for (const auto& part : parts_) {
      auto own = part->TensorHashes();
      own.resize(part->manifest().tensors.size());
      hashes.insert(hashes.end(), own.begin(), own.end());
    }
    return hashes;
  }
  uint64_t HashTensor(size_t tensor) const override {
    return PartOf(tensor).HashTensor(places_[tensor].tensor);
  }
  void VerifyFrame() const override {
    for (const auto& part : parts_) part->VerifyFrame();
  }
  uint64_t reading_bytes() const override { return reading_bytes_; }

 private:
  struct Place {
    size_t part;
    size_t tensor;  // in that part
  };
  const GgufFile& PartOf(size_t tensor) const { return *parts_[places_[tensor].part]; }

  // Throws naming every part that is not there.
  void RequireParts(const std::vector<std::string>& paths) const {
    NameList missing;
    for (const std::string& path : paths) {
      std::error_code error;
      if (!std::filesystem::exists(path, error)) {
        missing.Add(std::filesystem::path(path).filename().string());
      }
    }
    if (missing.empty()) return;
    throw DataError("gguf.part-missing", "parts of the split model are missing")
        .File(Escaped(name_, 4096))
        .Found(fmt::format("{} of {} parts", paths.size() - missing.size(), paths.size()))
        .Expected("also " + missing.ToString())
        .Hint("download the missing files into the same folder");
  }

  // Throws for what was saved in place of a part.
  static void RequireModel(const InputFile& file) {
    const auto head = file.ReadVector(0, std::min<uint64_t>(kDetectBytes, file.size_bytes()));
    const FileKind kind = DetectKind(head, file.name());
    if (kind != FileKind::kGguf && kind != FileKind::kQpack)
      throw WrongKind(kind, head, file.name(), "a part of a split model");
  }

  void CheckPart(const std::string& path, const GgufHeader& header, const GgufSplit& split) const {
    const auto own = SplitOf(header.metadata, path);
    if (own && own->index == parts_.size() && own->n_parts == split.n_parts &&
        own->n_tensors == split.n_tensors) {
      return;
    }
    throw SplitError("file is not the part that its name says", path)
        .Found(own ? fmt::format("part {} of {} with {} tensors", own->index + 1, own->n_parts,
                                 own->n_tensors)
                   : std::string("a whole model"))
        .Expected(fmt::format("part {} of {} with {} tensors", parts_.size() + 1, split.n_parts,
                              split.n_tensors));
  }

  void CheckTensors(const std::vector<TensorInfo>& tensors, const GgufSplit& split) const {
    if (tensors.size() != split.n_tensors) {
      throw SplitError("parts have not as many tensors as the model", name_)
          .Found(std::to_string(tensors.size()))
          .Expected(std::to_string(split.n_tensors));
    }
    const auto name = [&](size_t i) -> std::string_view { return tensors[i].name; };
    if (const auto i = FirstDuplicate(tensors.size(), name)) {
      throw DataError("gguf.duplicate-tensor", "tensor appears in two parts")
          .File(Escaped(parts_[places_[*i].part]->name(), 4096))
          .Tensor(tensors[*i].name);
    }
  }

  std::string name_;
  std::vector<std::unique_ptr<const GgufFile>> parts_;
  uint64_t reading_bytes_ = 0;
  std::vector<Place> places_;  // of each tensor
  Manifest manifest_;
};

constexpr std::string_view kExtensions[] = {".gguf", ".qpack"};

std::string PartSuffix(uint32_t number, uint32_t n_parts, std::string_view extension) {
  return fmt::format("-{:05}-of-{:05}{}", number, n_parts, extension);
}

}  // namespace

std::vector<std::string> SplitPartPaths(const std::string& path, const GgufSplit& split) {
  for (const std::string_view extension : kExtensions) {
    const std::string suffix = PartSuffix(split.index + 1, split.n_parts, extension);
    if (!path.ends_with(suffix)) continue;
    const std::string prefix = path.substr(0, path.size() - suffix.size());
    std::vector<std::string> paths;
    for (uint32_t i = 1; i <= split.n_parts; ++i) {
      paths.push_back(prefix + PartSuffix(i, split.n_parts, extension));
    }
    return paths;
  }
  throw UnsupportedError("gguf.split-name",
                         "part of a split model has another name than its place asks for")
      .File(Escaped(path, 4096))
      .Expected("a name that ends in " +
                Quoted(PartSuffix(split.index + 1, split.n_parts, kExtensions[0])))
      .Hint("rename the parts as they were published, in one folder");
}

std::unique_ptr<TensorStore> OpenSplitGguf(const std::string& path, const GgufSplit& split) {
  return std::make_unique<SplitGguf>(path, split);
}

}  // namespace quern
