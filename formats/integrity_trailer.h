// The integrity trailer: hashes behind the tensor data of a GGUF file, by which it proves itself.
// It detects accidents, not forgery.
//
// Other readers of GGUF ignore bytes behind the data. The header announces the trailer with its
// first key, quern.trailer, the hash of the header itself; so a file that lost its trailer is told
// from one that another tool wrote anew. Source: formats/GGUF.md, "Integrity trailer".
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
  uint64_t infos_hash = 0;              // of the tensor infos
  std::vector<uint64_t> tensor_hashes;  // of each tensor's bytes, without padding
  bool operator==(const IntegrityTrailer&) const = default;
};

// Units: bytes of the trailer of a file with that many tensors.
constexpr uint64_t TrailerBytes(uint64_t n_tensors) { return 48 + 8 * n_tensors; }
inline constexpr uint64_t kMaxTrailerBytes = TrailerBytes(kGgufMaxTensors);

std::vector<uint8_t> EncodeTrailer(const IntegrityTrailer& trailer);
// Returns the trailer that `tail` ends with, or nothing if there is none, whole and undamaged, of
// the version that quern knows.
std::optional<IntegrityTrailer> FindTrailer(ByteView tail);

enum class TrailerState : uint8_t {
  kAbsent,        // Neither announced nor there.
  kWhole,         // There, whole, and in agreement with the header.
  kNewer,         // There, whole, of a version that quern does not know.
  kRewritten,     // Announced by a header that was changed since, and not there: another tool's work.
  kForeignBytes,  // Something else is behind the data.
  kWrong,         // Damage: see the errors.
};

// What a file and its trailer say of each other.
struct TrailerVerdict {
  TrailerState state = TrailerState::kAbsent;
  std::vector<Error> errors;                // kData, "trailer.*"; empty unless kWrong
  std::optional<IntegrityTrailer> trailer;  // where it is there, whole
};

// Returns where in the file the bytes begin among which its trailer is looked for: behind the data;
// behind the header if that was changed since it announced a trailer, for then the end of the data
// is in doubt.
uint64_t TrailerSearchBegin(const GgufHeader& header);

// Judges everything but the tensors' bytes. `tail` are the file's last bytes from
// TrailerSearchBegin(header) on; of more than kMaxTrailerBytes, the last ones. `file` is for
// messages.
TrailerVerdict JudgeTrailer(const GgufHeader& header, size_t n_tensors, ByteView tail,
                            uint64_t file_bytes, const std::string& file);

// The same for a file with random access, of which it reads the end.
TrailerVerdict JudgeTrailer(const GgufHeader& header, size_t n_tensors,
                            const RandomAccessBytes& file);

// Returns the error for a tensor that has another hash than its trailer says. `offset` is that of
// its data in `file`.
Error TensorHashError(const std::string& file, std::string_view tensor,
                      std::optional<uint64_t> offset, uint64_t found, uint64_t expected);

// Compares a file with its trailer while its bytes go by.
class TrailerVerifier {
 public:
  // `header` may have lost its tensors to `tensors`. Requires: both outlive the verifier.
  TrailerVerifier(const GgufHeader& header, const std::vector<TensorInfo>& tensors,
                  std::string file);

  // To be called with all bytes behind the header in order: those of tensors, and all others.
  void AddTensor(size_t tensor, ByteView bytes);
  void AddOther(ByteView bytes);
  // Returns what is wrong, the frame first, then tensors in order.
  TrailerVerdict Finish();

 private:
  void Keep(ByteView bytes);
  void CloseTensorsBefore(size_t tensor);

  const GgufHeader& header_;
  const std::vector<TensorInfo>& tensors_;
  std::string file_;
  uint64_t at_ = 0;            // in the file
  std::vector<uint8_t> tail_;  // the last bytes from TrailerSearchBegin on
  Xxh3Stream hash_;            // of the current tensor
  std::vector<uint64_t> tensor_hashes_;
};

// Returns every fault that can be told without knowing what weights mean: padding that is not zero,
// hashes that differ, a trailer that is missing or damaged; and, as a note or a warning, that
// another tool rewrote the file or left bytes behind the data. Without `hash_tensors` it leaves
// out what takes reading the tensors.
std::vector<Finding> CheckGgufIntegrity(const GgufFile& file, bool hash_tensors = true,
                                        Progress* progress = nullptr);

}  // namespace quern
