#include "formats/model_file.h"

#include <algorithm>

#include "formats/buffered_stream.h"
#include "formats/formats.h"
#include "formats/gguf_reader.h"
#include "formats/gguf_split.h"
#include "formats/model_tensors.h"
#include "formats/qpack_reader.h"

namespace quern {
namespace {

constexpr std::string_view kWanted = "a model file (GGUF or QPACK)";

// A stream whose first bytes were looked at: it owns what BufferedStream only refers to.
class PeekedStream final : public ByteStream {
 public:
  explicit PeekedStream(std::unique_ptr<ByteStream> inner)
      : inner_(std::move(inner)), buffered_(*inner_) {}
  const std::string& name() const override { return inner_->name(); }
  std::optional<uint64_t> size_bytes() const override { return inner_->size_bytes(); }
  uint64_t reading_bytes() const override { return inner_->reading_bytes(); }
  size_t Read(MutableByteView out) override {
    const size_t n = buffered_.Read(out);
    position_ += n;
    return n;
  }
  ByteView Peek(size_t n) { return buffered_.Peek(n); }

 private:
  std::unique_ptr<ByteStream> inner_;
  BufferedStream buffered_;
};

const Container& RequireContainer(FileKind kind, ByteView head, const std::string& path) {
  const Container* container = FindContainer(kind);
  if (container == nullptr) throw WrongKind(kind, head, path, kWanted);
  return *container;
}

struct FileAndContainer {
  std::shared_ptr<const InputFile> file;
  const Container& container;
};

FileAndContainer OpenFile(const std::string& path) {
  if (DetectKind(path) == FileKind::kDirectory) {
    throw WrongKind(FileKind::kDirectory, {}, path, kWanted);
  }
  auto file = std::make_shared<const InputFile>(path);
  const auto head = file->ReadVector(0, std::min<uint64_t>(kDetectBytes, file->size_bytes()));
  const Container& container = RequireContainer(DetectKind(head, path), head, path);
  return {std::move(file), container};
}

}  // namespace

std::unique_ptr<TensorStore> OpenModelFile(const std::string& path,
                                           const std::optional<VerifyOptions>& verify) {
  auto [file, container] = OpenFile(path);
  auto store = container.open(std::move(file));
  if (!verify) return store;
  return std::make_unique<VerifyingStore>(std::move(store), *verify);
}

std::vector<std::string> ModelFilesOf(const std::string& path) {
  if (FindContainer(DetectKind(path)) == nullptr) return {path};
  const auto bytes = GgufBytesIn(std::make_shared<const InputFile>(path));
  const auto split = SplitOf(ReadGgufHeader(*bytes).metadata, path);
  return split ? SplitPartPaths(path, *split) : std::vector<std::string>{path};
}

std::vector<Finding> CheckModelFile(const std::string& path, bool hash_tensors,
                                    Progress* progress) {
  std::vector<Finding> findings;
  const auto Add = [&](Finding finding) {
    if (std::ranges::find(findings, finding) == findings.end())
      findings.push_back(std::move(finding));
  };
  // A fault may be met by every step; it hides nothing that the others find.
  const auto Try = [&](const auto& step) {
    try {
      step();
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kData && error.code() != ErrorCode::kUnsupported) throw;
      Add(FindingFrom(error));
    }
  };
  std::vector<std::string> parts = {path};
  OpenFile(path);  // throws where it is no model file
  try {
    parts = ModelFilesOf(path);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kData && error.code() != ErrorCode::kUnsupported) throw;
    // Opening it as a model, below, says so again.
  }
  for (const std::string& part : parts) {
    Try([&] {
      auto [file, container] = OpenFile(part);
      for (Finding& finding : container.check(std::move(file), hash_tensors, progress)) {
        findings.push_back(std::move(finding));
      }
    });
  }
  // What the header says of the model, for all parts together.
  Try([&] {
    const auto model = OpenModelFile(path, std::nullopt);
    for (Finding& finding : CheckModelTensors(model->manifest(), model->name())) {
      findings.push_back(std::move(finding));
    }
  });
  return findings;
}

std::unique_ptr<TensorSource> ReadModelStream(std::unique_ptr<ByteStream> stream) {
  auto peeked = std::make_unique<PeekedStream>(std::move(stream));
  const ByteView head = peeked->Peek(kDetectBytes);
  // An empty stream was to be a model: say that it ends, rather than that it is of unknown kind.
  const FileKind kind = head.empty() ? FileKind::kGguf : DetectKind(head, peeked->name());
  return RequireContainer(kind, head, peeked->name()).read_stream(std::move(peeked));
}

}  // namespace quern
