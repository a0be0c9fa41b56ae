// The integrity trailer: hashes behind the tensor data of a GGUF file, by which it proves itself.
// It detects accidents, not forgery.
//
// Other readers of GGUF ignore bytes behind the data. The header announces the trailer with the key
// quern.trailer, the hash of the header itself; so a file that lost its trailer is told from one
// that another tool wrote anew. Source: formats/GGUF.md, "Integrity trailer".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/core/bytes.h"
#include "formats/core/error.h"
#include "formats/core/finding.h"
#include "formats/core/hash.h"
#include "formats/core/log.h"
#include "formats/gguf_reader.h"

namespace quern {

struct IntegrityTrailer {
  uint64_t header_hash = 0;             // of the header up to the end of the tensor infos
  std::vector<uint64_t> tensor_hashes;  // of each tensor's bytes, without padding
  bool operator==(const IntegrityTrailer&) const = default;
};

// Units: bytes of the trailer of a file with that many tensors.
constexpr uint64_t TrailerBytes(uint64_t n_tensors) { return 40 + 8 * n_tensors; }
inline constexpr uint64_t kMaxTrailerBytes = TrailerBytes(kGgufMaxTensors);

std::vector<uint8_t> EncodeTrailer(const IntegrityTrailer& trailer);
// Returns the trailer that `tail` ends with, or nothing if there is none, whole and undamaged.
std::optional<IntegrityTrailer> FindTrailer(ByteView tail);

enum class TrailerState : uint8_t {
  kAbsent,     // Neither announced nor there.
  kMatches,    // There, and everything agrees with it.
  kRewritten,  // Announced by a header that was changed since, and not there: another tool's work.
  kForeignBytes,  // Something else is behind the data.
  kWrong,         // Damage: see the errors.
};

struct TrailerVerdict {
  TrailerState state = TrailerState::kAbsent;
  std::vector<Error> errors;  // kData, "trailer.*"; empty unless kWrong
};

// Compares a file with its trailer while its bytes go by: all bands in order, then Finish.
class TrailerVerifier {
 public:
  // `header` is what remained of it after its tensors went into the manifest.
  TrailerVerifier(const GgufHeader& header, const Manifest& manifest, std::string file);

  // True if the header was changed since the trailer was announced. Where the data end is then in
  // doubt: what looks like data may be the trailer.
  bool HeaderIsChanged() const {
    return header_.trailer_key && header_.trailer_key != header_.seal;
  }
  void Add(const TensorBand& band);
  // `last_bytes` are what is behind the data or, if the header is changed, behind the header; of
  // more than kMaxTrailerBytes, the last ones. n_trailing_bytes are behind the data.
  TrailerVerdict Finish(ByteView last_bytes, uint64_t n_trailing_bytes);

 private:
  Error Wrong(std::string_view id, std::string_view what) const;
  void Compare(const IntegrityTrailer& trailer, uint64_t n_trailing_bytes,
               TrailerVerdict& verdict) const;
  void CloseTensorsBefore(size_t tensor);

  const GgufHeader& header_;
  const Manifest& manifest_;
  std::string file_;
  Xxh3Stream hash_;  // of the current tensor
  std::vector<uint64_t> tensor_hashes_;
};

// Returns every fault that can be told without knowing what weights mean: padding that is not zero,
// hashes that differ, a trailer that is missing or damaged; and, as a note or a warning, that
// another tool rewrote the file or left bytes behind the data. Reads the whole file.
std::vector<Finding> CheckGgufIntegrity(const GgufFile& file, Progress* progress = nullptr);

// Returns a walk over the file that ends with an error where the file has a trailer that it does
// not agree with. Requires: `file` outlives the walk.
std::unique_ptr<TensorSource> VerifyingWalk(const GgufFile& file);

}  // namespace quern
