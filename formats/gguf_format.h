// GGUF as numbers: what formats/GGUF.md specifies and both reader and writer need.
#pragma once

#include <cstdint>
#include <string_view>

namespace quern {

inline constexpr uint32_t kGgufMagic = 0x46554747;  // "GGUF" on disk
inline constexpr uint32_t kGgufVersion = 3;         // what quern writes
inline constexpr uint64_t kGgufAlignment = 32;      // without general.alignment

// Limits of quern's reader, far above any real file, so that memory stays bounded (GGUF.md,
// Limits).
inline constexpr uint64_t kGgufMaxKeys = 262144;
inline constexpr uint64_t kGgufMaxTensors = 262144;
inline constexpr uint64_t kGgufMaxHeaderBytes = uint64_t{128} << 20;
inline constexpr uint64_t kGgufMaxAlignment = uint64_t{1} << 24;
inline constexpr uint64_t kGgufMaxKeyBytes = 65535;
inline constexpr uint64_t kGgufMaxTensorNameBytes = 63;  // ggml's buffer of 64 holds a final NUL

inline constexpr std::string_view kGgufAlignmentKey = "general.alignment";

// The header's own hash, where an integrity trailer follows the data (formats/integrity_trailer.h).
inline constexpr std::string_view kGgufTrailerKey = "quern.trailer";

// The version of every quantized block layout that exists since GGUF does (GGML_QNT_VERSION).
inline constexpr uint32_t kGgufQuantizationVersion = 2;

}  // namespace quern
