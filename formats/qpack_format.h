// QPACK as numbers: what formats/QPACK.md specifies and both reader and writer need.
#pragma once

#include <cstdint>
#include <string_view>

namespace quern {

using std::string_view_literals::operator""sv;

inline constexpr std::string_view kQpackMagic = "QPACK\r\n\x1A"sv;
inline constexpr std::string_view kQpackEndMagic = "QPACKEND"sv;
inline constexpr uint32_t kQpackVersion = 1;

inline constexpr uint64_t kQpackPrologueBytes = 32;
inline constexpr uint64_t kQpackEndMarkBytes = 8;
inline constexpr uint64_t kQpackFooterBytes = 32;
// A segment around its payload: 16 bytes in front, 8 behind.
inline constexpr uint64_t kQpackSegmentHeadBytes = 16;
inline constexpr uint64_t kQpackSegmentFrameBytes = 24;
// An entry of a payload's table of planes.
inline constexpr uint64_t kQpackPlaneEntryBytes = 4;
// In an entry of the table: the plane is a zstd frame.
inline constexpr uint32_t kQpackZstdFlag = uint32_t{1} << 31;
// In a segment's packed_bytes: the payload is the piece as it is.
inline constexpr uint32_t kQpackStoredFlag = uint32_t{1} << 31;

// Bytes of GGUF in a segment: what quern writes, what it reads.
inline constexpr uint32_t kQpackSegmentBytes = uint32_t{1} << 20;
inline constexpr uint32_t kQpackMinSegmentBytes = uint32_t{1} << 12;
inline constexpr uint32_t kQpackMaxSegmentBytes = uint32_t{1} << 22;

// The header of a GGUF file is held in memory: it may be this long, and longer by its packed bytes.
inline constexpr uint64_t kQpackFreeHeaderBytes = uint64_t{8} << 20;

inline constexpr int kQpackMinLevel = 1;
inline constexpr int kQpackMaxLevel = 3;

}  // namespace quern
