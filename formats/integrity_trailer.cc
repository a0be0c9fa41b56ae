#include "formats/integrity_trailer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "formats/core/check.h"

namespace quern {
namespace {

constexpr std::string_view kMagic = "QUERNTRL";
constexpr uint32_t kTrailerVersion = 1;
constexpr size_t kReadBytes = size_t{4} << 20;

// Finishes the comparison of a file all of whose bands went by.
TrailerVerdict FinishWith(const GgufFile& file, TrailerVerifier& verifier) {
  const uint64_t n_bytes = file.bytes().size_bytes();
  const uint64_t n_behind =
      verifier.HeaderIsChanged() ? n_bytes - file.layout().header_bytes : file.trailing_bytes();
  const uint64_t n_last = std::min(n_behind, kMaxTrailerBytes);
  return verifier.Finish(file.bytes().ReadVector(n_bytes - n_last, n_last), file.trailing_bytes());
}

class WalkWithTrailer final : public TensorSource {
 public:
  explicit WalkWithTrailer(const GgufFile& file)
      : file_(file), walk_(file), verifier_(file.layout(), file.manifest(), file.name()) {}
  const Manifest& manifest() const override { return file_.manifest(); }
  const std::string& name() const override { return file_.name(); }

  std::optional<TensorBand> Next(MutableByteView out) override {
    if (is_finished_) return std::nullopt;
    const auto band = walk_.Next(out);
    if (band) {
      verifier_.Add(*band);
      return band;
    }
    is_finished_ = true;
    const TrailerVerdict verdict = FinishWith(file_, verifier_);
    if (!verdict.errors.empty()) throw verdict.errors.front();
    return std::nullopt;
  }
  // What is to be compared with a trailer must be read.
  void SkipTensors(size_t n, MutableByteView scratch) override {
    if (file_.layout().trailer_key)
      TensorSource::SkipTensors(n, scratch);
    else
      walk_.SkipTensors(n, scratch);
  }

 private:
  const GgufFile& file_;
  StoreWalk walk_;
  TrailerVerifier verifier_;
  bool is_finished_ = false;
};

// Adds a finding if the padding [begin, end) of the file, as far as it exists, is not zero.
void CheckPadding(const GgufFile& file, uint64_t begin, uint64_t end, const std::string& where,
                  std::vector<Finding>& findings) {
  end = std::min(end, file.bytes().size_bytes());
  std::vector<uint8_t> bytes;
  for (uint64_t at = begin; at < end; at += bytes.size()) {
    bytes = file.bytes().ReadVector(at, std::min<uint64_t>(end - at, kReadBytes));
    const auto bad = std::ranges::find_if(bytes, [](uint8_t byte) { return byte != 0; });
    if (bad == bytes.end()) continue;
    // Other writers may leave anything there; quern writes zeros, and says that it wrote the file.
    const auto severity =
        file.layout().trailer_key ? Finding::Severity::kError : Finding::Severity::kWarning;
    findings.push_back(FindingFrom(DataError("gguf.padding", "padding is not zero")
                                       .File(Escaped(file.name(), 4096))
                                       .Where(where)
                                       .Offset(at + static_cast<uint64_t>(bad - bytes.begin()))
                                       .Found(fmt::format("byte {}", *bad)),
                                   severity));
    return;
  }
}

void ReportState(const GgufFile& file, TrailerState state, std::vector<Finding>& findings) {
  if (state == TrailerState::kRewritten) {
    findings.push_back(FindingFrom(
        DataError("trailer.rewritten", "another tool rewrote the file: its hashes are gone")
            .File(Escaped(file.name(), 4096))
            .Hint("nothing is known to be wrong, but nothing can be proved either"),
        Finding::Severity::kNote));
  }
  if (state == TrailerState::kForeignBytes) {
    findings.push_back(FindingFrom(DataError("gguf.trailing-data", "bytes follow the tensor data")
                                       .File(Escaped(file.name(), 4096))
                                       .Offset(file.layout().data_end)
                                       .Found(fmt::format("{} bytes", file.trailing_bytes())),
                                   Finding::Severity::kWarning));
  }
}

}  // namespace

std::vector<uint8_t> EncodeTrailer(const IntegrityTrailer& trailer) {
  const uint64_t n_bytes = TrailerBytes(trailer.tensor_hashes.size());
  std::vector<uint8_t> out(n_bytes);
  std::memcpy(out.data(), kMagic.data(), kMagic.size());
  StoreLE(&out[8], kTrailerVersion);
  StoreLE(&out[12], static_cast<uint32_t>(trailer.tensor_hashes.size()));
  StoreLE(&out[16], trailer.header_hash);
  for (size_t i = 0; i < trailer.tensor_hashes.size(); ++i) {
    StoreLE(&out[24 + 8 * i], trailer.tensor_hashes[i]);
  }
  StoreLE(&out[n_bytes - 16], n_bytes);
  StoreLE(&out[n_bytes - 8], Xxh3(ByteView(out).first(n_bytes - 8)));
  return out;
}

std::optional<IntegrityTrailer> FindTrailer(ByteView tail) {
  if (tail.size() < TrailerBytes(0)) return std::nullopt;
  const uint64_t n_bytes = LoadLE<uint64_t>(&tail[tail.size() - 16]);
  if (n_bytes < TrailerBytes(0) || n_bytes > tail.size()) return std::nullopt;
  const ByteView bytes = tail.last(n_bytes);
  const uint64_t n_tensors = LoadLE<uint32_t>(&bytes[12]);
  if (!AsText(bytes).starts_with(kMagic) || LoadLE<uint32_t>(&bytes[8]) != kTrailerVersion ||
      n_bytes != TrailerBytes(n_tensors) ||
      LoadLE<uint64_t>(&bytes[n_bytes - 8]) != Xxh3(bytes.first(n_bytes - 8))) {
    return std::nullopt;
  }
  IntegrityTrailer trailer;
  trailer.header_hash = LoadLE<uint64_t>(&bytes[16]);
  for (uint64_t i = 0; i < n_tensors; ++i) {
    trailer.tensor_hashes.push_back(LoadLE<uint64_t>(&bytes[24 + 8 * i]));
  }
  return trailer;
}

TrailerVerifier::TrailerVerifier(const GgufHeader& header, const Manifest& manifest,
                                 std::string file)
    : header_(header), manifest_(manifest), file_(std::move(file)) {}

Error TrailerVerifier::Wrong(std::string_view id, std::string_view what) const {
  Error error = DataError(id, what);
  error.File(Escaped(file_, 4096));
  error.Hint("the file was damaged after quern wrote it; fetch or make it again");
  return error;
}

// Ends the tensors up to `tensor`; those without elements have no bands.
void TrailerVerifier::CloseTensorsBefore(size_t tensor) {
  while (tensor_hashes_.size() < tensor) {
    tensor_hashes_.push_back(hash_.Digest());
    hash_ = Xxh3Stream();
  }
}

void TrailerVerifier::Add(const TensorBand& band) {
  if (!header_.trailer_key) return;
  CloseTensorsBefore(band.tensor);
  hash_.Update(band.bytes);
}

void TrailerVerifier::Compare(const IntegrityTrailer& trailer, uint64_t n_trailing_bytes,
                              TrailerVerdict& verdict) const {
  auto& errors = verdict.errors;
  const uint64_t n_bytes = TrailerBytes(trailer.tensor_hashes.size());
  if (trailer.header_hash != header_.header_hash) {
    errors.push_back(Wrong("trailer.header", "header is not the one that was written")
                         .Where("header")
                         .Offset(0)
                         .Found(HexOf(header_.header_hash))
                         .Expected(HexOf(trailer.header_hash)));
  } else if (header_.trailer_key != header_.seal) {
    errors.push_back(Wrong("trailer.key", "header does not announce the trailer that follows"));
  }
  if (n_trailing_bytes != n_bytes) {
    errors.push_back(Wrong("trailer.place", "trailer does not follow the tensor data")
                         .Offset(header_.data_end)
                         .Found(fmt::format("{} bytes behind the data", n_trailing_bytes))
                         .Expected(fmt::format("{} bytes", n_bytes)));
  }
  // Where the header agrees, only a forged trailer can say so.
  if (trailer.tensor_hashes.size() != tensor_hashes_.size() && errors.empty()) {
    errors.push_back(Wrong("trailer.damaged", "trailer is not for as many tensors")
                         .Found(fmt::format("{}", trailer.tensor_hashes.size()))
                         .Expected(fmt::format("{}", tensor_hashes_.size())));
  }
  const size_t n_tensors = std::min(tensor_hashes_.size(), trailer.tensor_hashes.size());
  for (size_t i = 0; i < n_tensors; ++i) {
    if (trailer.tensor_hashes[i] == tensor_hashes_[i]) continue;
    errors.push_back(Wrong("trailer.tensor", "tensor's data is not what was written")
                         .Where("tensor " + Quoted(manifest_.tensors[i].name))
                         .Offset(header_.data_offset + header_.offsets[i])
                         .Found(HexOf(tensor_hashes_[i]))
                         .Expected(HexOf(trailer.tensor_hashes[i])));
  }
  if (errors.size() == 1 && errors.front().id() == "trailer.header") {
    errors.front().Hint(
        "every tensor is as written; if a tool edited the metadata in place, let it write a new "
        "file instead: that is told from damage");
  }
}

TrailerVerdict TrailerVerifier::Finish(ByteView last_bytes, uint64_t n_trailing_bytes) {
  const size_t n_tensors = manifest_.tensors.size();
  if (header_.trailer_key) CloseTensorsBefore(n_tensors);
  TrailerVerdict verdict;
  if (const auto trailer = FindTrailer(last_bytes)) {
    Compare(*trailer, n_trailing_bytes, verdict);
    verdict.state = verdict.errors.empty() ? TrailerState::kMatches : TrailerState::kWrong;
  } else if (!header_.trailer_key) {
    verdict.state = n_trailing_bytes == 0 ? TrailerState::kAbsent : TrailerState::kForeignBytes;
  } else if (*header_.trailer_key != header_.seal) {
    verdict.state = TrailerState::kRewritten;
  } else {
    verdict.state = TrailerState::kWrong;
    verdict.errors.push_back(
        (n_trailing_bytes == 0
             ? Wrong("trailer.missing", "file ends where its trailer should begin")
             : Wrong("trailer.damaged", "trailer is damaged"))
            .Offset(header_.data_end)
            .Found(fmt::format("{} bytes", n_trailing_bytes))
            .Expected(fmt::format("{} bytes", TrailerBytes(n_tensors))));
  }
  return verdict;
}

std::unique_ptr<TensorSource> VerifyingWalk(const GgufFile& file) {
  return std::make_unique<WalkWithTrailer>(file);
}

std::vector<Finding> CheckGgufIntegrity(const GgufFile& file, Progress* progress) {
  const auto& tensors = file.manifest().tensors;
  const GgufHeader& layout = file.layout();
  std::vector<Finding> findings;
  CheckPadding(file, layout.header_bytes, layout.data_offset, "behind the header", findings);
  TrailerVerifier verifier(layout, file.manifest(), file.name());
  uint64_t buffer_bytes = std::min<uint64_t>(kReadBytes, file.manifest().tensor_bytes());
  for (const TensorInfo& tensor : tensors) {
    if (tensor.size_bytes() != 0) buffer_bytes = std::max(buffer_bytes, tensor.row_bytes());
  }
  std::vector<uint8_t> buffer(buffer_bytes);
  if (progress != nullptr) progress->Begin("hashing", file.manifest().tensor_bytes(), "bytes");
  StoreWalk walk(file);
  while (const auto band = walk.Next(buffer)) {
    verifier.Add(*band);
    if (progress != nullptr) progress->Advance(band->bytes.size());
  }
  if (progress != nullptr) progress->End();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t begin = file.tensor_offset(i) + tensors[i].size_bytes();
    const uint64_t end = i + 1 < tensors.size() ? file.tensor_offset(i + 1) : layout.data_end;
    CheckPadding(file, begin, end, "behind tensor " + Quoted(tensors[i].name), findings);
  }
  const TrailerVerdict verdict = FinishWith(file, verifier);
  for (const Error& error : verdict.errors) findings.push_back(FindingFrom(error));
  ReportState(file, verdict.state, findings);
  return findings;
}

}  // namespace quern
