#include "formats/integrity_trailer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace quern {
namespace {

constexpr std::string_view kMagic = "QUERNTRL";
constexpr uint32_t kTrailerVersion = 1;
constexpr size_t kReadBytes = size_t{4} << 20;

// What every version has: magic and version in front; length and hash at the end.
struct AnyTrailer {
  uint32_t version = 0;
  ByteView bytes;
};

std::optional<AnyTrailer> FindAnyTrailer(ByteView tail) {
  constexpr uint64_t kLeastBytes = 12 + 16;
  if (tail.size() < kLeastBytes) return std::nullopt;
  const uint64_t n_bytes = LoadLE<uint64_t>(&tail[tail.size() - 16]);
  if (n_bytes < kLeastBytes || n_bytes > tail.size()) return std::nullopt;
  const ByteView bytes = tail.last(n_bytes);
  if (!AsText(bytes).starts_with(kMagic) ||
      LoadLE<uint64_t>(&bytes[n_bytes - 8]) != Xxh3(bytes.first(n_bytes - 8))) {
    return std::nullopt;
  }
  return AnyTrailer{LoadLE<uint32_t>(&bytes[8]), bytes};
}

std::optional<IntegrityTrailer> Parse(const AnyTrailer& found) {
  const ByteView bytes = found.bytes;
  if (found.version != kTrailerVersion || bytes.size() < TrailerBytes(0)) return std::nullopt;
  const uint64_t n_tensors = LoadLE<uint32_t>(&bytes[12]);
  if (bytes.size() != TrailerBytes(n_tensors)) return std::nullopt;
  IntegrityTrailer trailer{LoadLE<uint64_t>(&bytes[16]), LoadLE<uint64_t>(&bytes[24]), {}};
  for (uint64_t i = 0; i < n_tensors; ++i) {
    trailer.tensor_hashes.push_back(LoadLE<uint64_t>(&bytes[32 + 8 * i]));
  }
  return trailer;
}

Error Wrong(const std::string& file, std::string_view id, std::string_view what) {
  Error error = DataError(id, what);
  error.File(Escaped(file, 4096));
  error.Hint("the file was damaged after quern wrote it; fetch or make it again");
  return error;
}

// Compares the trailer with the header and with its own place.
std::vector<Error> CompareFrame(const GgufHeader& header, size_t n_tensors,
                                const IntegrityTrailer& trailer, uint64_t n_trailing_bytes,
                                const std::string& file) {
  std::vector<Error> errors;
  const uint64_t n_bytes = TrailerBytes(trailer.tensor_hashes.size());
  const bool is_placed =
      n_trailing_bytes == n_bytes && trailer.tensor_hashes.size() == n_tensors;
  if (trailer.header_hash != header.header_hash) {
    const bool is_metadata = is_placed && trailer.infos_hash == header.infos_hash;
    Error error = is_metadata ? Wrong(file, "trailer.metadata", "metadata are not what was written")
                              : Wrong(file, "trailer.header", "header is not what was written");
    error.Where("header").Offset(0).Found(HexOf(header.header_hash));
    error.Expected(HexOf(trailer.header_hash));
    if (is_metadata) {
      error.Hint(
          "the tensors are named and placed as written: if a tool edited the metadata in place, "
          "quern convert --trust-metadata writes the file anew; else it was damaged");
    }
    errors.push_back(std::move(error));
  } else if (header.trailer_key != header.seal) {
    errors.push_back(
        Wrong(file, "trailer.key", "header does not announce the trailer that follows"));
  }
  if (n_trailing_bytes != n_bytes) {
    errors.push_back(Wrong(file, "trailer.place", "trailer does not follow the tensor data")
                         .Offset(header.data_end)
                         .Found(fmt::format("{} bytes behind the data", n_trailing_bytes))
                         .Expected(fmt::format("{} bytes", n_bytes)));
  }
  // Where the header agrees, only a forged trailer can say what follows.
  if (trailer.tensor_hashes.size() != n_tensors && errors.empty()) {
    errors.push_back(Wrong(file, "trailer.damaged", "trailer is not for as many tensors")
                         .Found(fmt::format("{}", trailer.tensor_hashes.size()))
                         .Expected(fmt::format("{}", n_tensors)));
  }
  if (trailer.infos_hash != header.infos_hash && errors.empty()) {
    errors.push_back(Wrong(file, "trailer.damaged", "trailer has another hash of the tensor infos")
                         .Found(HexOf(trailer.infos_hash))
                         .Expected(HexOf(header.infos_hash)));
  }
  return errors;
}

// Returns what is wrong where an announced trailer is not found whole.
Error NotWhole(const GgufHeader& header, size_t n_tensors, ByteView tail,
               uint64_t n_trailing_bytes, const std::string& file) {
  const uint64_t n_bytes = TrailerBytes(n_tensors);
  Error error = n_trailing_bytes == 0
                    ? Wrong(file, "trailer.missing", "file ends where its trailer should begin")
                    : Wrong(file, "trailer.damaged", "trailer is damaged");
  error.Offset(header.data_end);
  if (n_trailing_bytes != n_bytes) {
    return error.Found(fmt::format("{} bytes", n_trailing_bytes))
        .Expected(fmt::format("{} bytes", n_bytes));
  }
  const uint64_t hash = Xxh3(tail.last(n_bytes).first(n_bytes - 8));
  const auto expected = LoadLE<uint64_t>(&tail[tail.size() - 8]);
  if (hash == expected) return error.Found("another structure in bytes of the right hash");
  return error.Found("bytes of hash " + HexOf(hash)).Expected(HexOf(expected));
}

// Adds a finding if the padding [begin, end) of the file, as far as it exists, is not zero.
void CheckPadding(const GgufFile& file, uint64_t begin, uint64_t end, const Error& named,
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
    Error error = named;
    error.File(Escaped(file.name(), 4096))
        .Offset(at + static_cast<uint64_t>(bad - bytes.begin()))
        .Found(fmt::format("byte {}", *bad));
    findings.push_back(FindingFrom(error, severity));
    return;
  }
}

// Adds what the state means where it is no damage.
void ReportState(const GgufFile& file, TrailerState state, std::vector<Finding>& findings) {
  const std::string name = Escaped(file.name(), 4096);
  if (state == TrailerState::kRewritten) {
    findings.push_back(FindingFrom(
        DataError("trailer.rewritten", "another tool rewrote the file: its hashes are gone")
            .File(name)
            .Hint("nothing is known to be wrong, but nothing can be proved either"),
        Finding::Severity::kNote));
  } else if (state == TrailerState::kForeignBytes) {
    findings.push_back(FindingFrom(DataError("gguf.trailing-data", "bytes follow the tensor data")
                                       .File(name)
                                       .Offset(file.layout().data_end)
                                       .Found(fmt::format("{} bytes", file.trailing_bytes())),
                                   Finding::Severity::kWarning));
  } else if (state == TrailerState::kNewer) {
    findings.push_back(FindingFrom(
        UnsupportedError("trailer.version", "integrity trailer is of a newer version")
            .File(name)
            .Offset(file.layout().data_end)
            .Expected(std::to_string(kTrailerVersion))
            .Hint("the model can be read, but only a newer quern can compare its hashes")));
  }
}

// Hashes each tensor and compares it with the trailer.
void CheckTensors(const GgufFile& file, const IntegrityTrailer& trailer, Progress* progress,
                  std::vector<Finding>& findings) {
  const auto& tensors = file.manifest().tensors;
  if (progress != nullptr) progress->Begin("hashing", file.manifest().tensor_bytes(), "bytes");
  for (size_t i = 0; i < std::min(tensors.size(), trailer.tensor_hashes.size()); ++i) {
    const uint64_t hash = file.HashTensor(i);
    if (progress != nullptr) progress->Advance(tensors[i].size_bytes());
    if (hash == trailer.tensor_hashes[i]) continue;
    findings.push_back(FindingFrom(TensorHashError(
        file.name(), tensors[i].name, file.tensor_offset(i), hash, trailer.tensor_hashes[i])));
  }
  if (progress != nullptr) progress->End();
}

}  // namespace

std::vector<uint8_t> EncodeTrailer(const IntegrityTrailer& trailer) {
  const uint64_t n_bytes = TrailerBytes(trailer.tensor_hashes.size());
  std::vector<uint8_t> out(n_bytes);
  std::memcpy(out.data(), kMagic.data(), kMagic.size());
  StoreLE(&out[8], kTrailerVersion);
  StoreLE(&out[12], static_cast<uint32_t>(trailer.tensor_hashes.size()));
  StoreLE(&out[16], trailer.header_hash);
  StoreLE(&out[24], trailer.infos_hash);
  for (size_t i = 0; i < trailer.tensor_hashes.size(); ++i) {
    StoreLE(&out[32 + 8 * i], trailer.tensor_hashes[i]);
  }
  StoreLE(&out[n_bytes - 16], n_bytes);
  StoreLE(&out[n_bytes - 8], Xxh3(ByteView(out).first(n_bytes - 8)));
  return out;
}

std::optional<IntegrityTrailer> FindTrailer(ByteView tail) {
  const auto found = FindAnyTrailer(tail);
  return found ? Parse(*found) : std::nullopt;
}

uint64_t TrailerSearchBegin(const GgufHeader& header) {
  const bool is_changed = header.trailer_key && header.trailer_key != header.seal;
  return is_changed ? header.header_bytes : header.data_end;
}

TrailerVerdict JudgeTrailer(const GgufHeader& header, size_t n_tensors, ByteView tail,
                            uint64_t file_bytes, const std::string& file) {
  const uint64_t n_trailing_bytes = file_bytes - std::min(file_bytes, header.data_end);
  TrailerVerdict verdict;
  const auto found = FindAnyTrailer(tail);
  if (found) verdict.trailer = Parse(*found);
  if (verdict.trailer) {
    verdict.errors =
        CompareFrame(header, n_tensors, *verdict.trailer, n_trailing_bytes, file);
    verdict.state = verdict.errors.empty() ? TrailerState::kWhole : TrailerState::kWrong;
  } else if (found && found->version > kTrailerVersion) {
    verdict.state = TrailerState::kNewer;
  } else if (!header.trailer_key) {
    verdict.state = n_trailing_bytes == 0 ? TrailerState::kAbsent : TrailerState::kForeignBytes;
  } else if (*header.trailer_key != header.seal) {
    verdict.state = TrailerState::kRewritten;
  } else {
    verdict.state = TrailerState::kWrong;
    verdict.errors.push_back(NotWhole(header, n_tensors, tail, n_trailing_bytes, file));
  }
  return verdict;
}

TrailerVerdict JudgeTrailer(const GgufHeader& header, size_t n_tensors,
                            const RandomAccessBytes& file) {
  const uint64_t n_bytes = file.size_bytes();
  const uint64_t begin = std::min(n_bytes, TrailerSearchBegin(header));
  const uint64_t n = std::min(n_bytes - begin, kMaxTrailerBytes);
  return JudgeTrailer(header, n_tensors, file.ReadVector(n_bytes - n, n), n_bytes, file.name());
}

Error TensorHashError(const std::string& file, std::string_view tensor,
                      std::optional<uint64_t> offset, uint64_t found, uint64_t expected) {
  Error error = Wrong(file, "trailer.tensor", "tensor's data is not what was written");
  error.Tensor(tensor).Found(HexOf(found)).Expected(HexOf(expected));
  return offset ? error.Offset(*offset) : error;
}

TrailerVerifier::TrailerVerifier(const GgufHeader& header, const std::vector<TensorInfo>& tensors,
                                 std::string file)
    : header_(header), tensors_(tensors), file_(std::move(file)), at_(header.header_bytes) {}

// Ends the tensors up to `tensor`; those without elements have no bytes.
void TrailerVerifier::CloseTensorsBefore(size_t tensor) {
  while (tensor_hashes_.size() < tensor) {
    tensor_hashes_.push_back(hash_.Digest());
    hash_ = Xxh3Stream();
  }
}

void TrailerVerifier::AddTensor(size_t tensor, ByteView bytes) {
  if (header_.trailer_key) {
    CloseTensorsBefore(tensor);
    hash_.Update(bytes);
  }
  Keep(bytes);
}

void TrailerVerifier::AddOther(ByteView bytes) { Keep(bytes); }

void TrailerVerifier::Keep(ByteView bytes) {
  at_ += bytes.size();
  const uint64_t begin = TrailerSearchBegin(header_);
  const uint64_t n = std::min({at_ - std::min(at_, begin), uint64_t{bytes.size()},
                               kMaxTrailerBytes});
  if (n == 0) return;
  if (tail_.size() + n > 2 * kMaxTrailerBytes) {
    tail_.erase(tail_.begin(), tail_.end() - ptrdiff_t{kMaxTrailerBytes});
  }
  const ByteView last = bytes.last(n);
  tail_.insert(tail_.end(), last.begin(), last.end());
}

TrailerVerdict TrailerVerifier::Finish() {
  const ByteView tail = ByteView(tail_).last(std::min<size_t>(tail_.size(), kMaxTrailerBytes));
  TrailerVerdict verdict = JudgeTrailer(header_, tensors_.size(), tail, at_, file_);
  if (!header_.trailer_key || !verdict.trailer) return verdict;
  CloseTensorsBefore(tensors_.size());
  const std::vector<uint64_t>& expected = verdict.trailer->tensor_hashes;
  for (size_t i = 0; i < std::min(expected.size(), tensor_hashes_.size()); ++i) {
    if (tensor_hashes_[i] == expected[i]) continue;
    verdict.errors.push_back(TensorHashError(file_, tensors_[i].name,
                                             header_.data_offset + header_.offsets[i],
                                             tensor_hashes_[i], expected[i]));
  }
  if (!verdict.errors.empty()) verdict.state = TrailerState::kWrong;
  return verdict;
}

TrailerVerdict GgufFile::JudgeTrailer() const {
  return quern::JudgeTrailer(header_, manifest_.tensors.size(), *bytes_);
}

std::vector<std::optional<uint64_t>> GgufFile::TensorHashes() const {
  const TrailerVerdict verdict = JudgeTrailer();
  if (!verdict.trailer || verdict.trailer->tensor_hashes.size() != manifest_.tensors.size()) {
    return {};
  }
  return {verdict.trailer->tensor_hashes.begin(), verdict.trailer->tensor_hashes.end()};
}

void GgufFile::VerifyFrame() const {
  const TrailerVerdict verdict = JudgeTrailer();
  if (!verdict.errors.empty()) throw verdict.errors.front();
}

std::vector<Finding> CheckGgufIntegrity(const GgufFile& file, bool hash_tensors,
                                        Progress* progress) {
  const auto& tensors = file.manifest().tensors;
  const GgufHeader& layout = file.layout();
  const auto Padding = [] { return DataError("gguf.padding", "padding is not zero"); };
  std::vector<Finding> findings;
  CheckPadding(file, layout.header_bytes, layout.data_offset,
               Padding().Where("behind the header"), findings);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t begin = file.tensor_offset(i) + tensors[i].size_bytes();
    const uint64_t end = i + 1 < tensors.size() ? file.tensor_offset(i + 1) : layout.data_end;
    CheckPadding(file, begin, end, Padding().Tensor(tensors[i].name, "behind it"), findings);
  }
  const TrailerVerdict verdict = file.JudgeTrailer();
  for (const Error& error : verdict.errors) findings.push_back(FindingFrom(error));
  ReportState(file, verdict.state, findings);
  if (hash_tensors && verdict.trailer) CheckTensors(file, *verdict.trailer, progress, findings);
  return findings;
}

}  // namespace quern
