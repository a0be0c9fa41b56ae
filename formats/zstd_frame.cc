// Estimates of memory are not among what zstd promises to keep: tests/formats/zstd_frame_test.cc
// holds them to what is really taken.
#define ZSTD_STATIC_LINKING_ONLY
#include "formats/zstd_frame.h"

#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <new>
#include <string>

#include "formats/core/check.h"
#include "formats/core/error.h"

namespace quern {
namespace {

void Require(size_t result) {
  if (ZSTD_isError(result) == 0) return;
  if (ZSTD_getErrorCode(result) == ZSTD_error_memory_allocation) throw std::bad_alloc();
  throw Error(ErrorCode::kBug, "bug.zstd",
              std::string("zstd refuses what it should do: ") + ZSTD_getErrorName(result))
      .Hint("this is a defect of quern or of the zstd library; please report it");
}

}  // namespace

struct ZstdEncoder::State {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  State() {
    if (context == nullptr) throw std::bad_alloc();
  }
  ~State() { ZSTD_freeCCtx(context); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

ZstdEncoder::ZstdEncoder() : state_(std::make_unique<State>()) {}
ZstdEncoder::~ZstdEncoder() = default;
ZstdEncoder::ZstdEncoder(ZstdEncoder&&) noexcept = default;

size_t ZstdEncoder::Bound(size_t n_bytes) { return ZSTD_compressBound(n_bytes); }

uint64_t ZstdEncoder::MemoryBytes(int level, size_t n_bytes) {
  uint64_t most = 0;
  for (int i = 1; i <= level; ++i) {
    most = std::max<uint64_t>(
        most, ZSTD_estimateCCtxSize_usingCParams(ZSTD_getCParams(i, n_bytes, 0)));
  }
  return most;
}

size_t ZstdEncoder::Encode(ByteView content, int level, MutableByteView out) {
  QUERN_CHECK(out.size() >= Bound(content.size()));
  ZSTD_CCtx* context = state_->context;
  Require(ZSTD_CCtx_reset(context, ZSTD_reset_session_and_parameters));
  Require(ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level));
  const size_t n_bytes =
      ZSTD_compress2(context, out.data(), out.size(), content.data(), content.size());
  Require(n_bytes);
  return n_bytes;
}

struct ZstdDecoder::State {
  ZSTD_DCtx* context = ZSTD_createDCtx();
  State() {
    if (context == nullptr) throw std::bad_alloc();
  }
  ~State() { ZSTD_freeDCtx(context); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

ZstdDecoder::ZstdDecoder() : state_(std::make_unique<State>()) {}
ZstdDecoder::~ZstdDecoder() = default;
ZstdDecoder::ZstdDecoder(ZstdDecoder&&) noexcept = default;

bool ZstdDecoder::Decode(ByteView frame, MutableByteView out) {
  // The library would also take frames of formats before 1.0, skippable frames, and many frames.
  if (frame.size() < 4 || LoadLE<uint32_t>(frame.data()) != ZSTD_MAGICNUMBER) return false;
  if (ZSTD_getFrameContentSize(frame.data(), frame.size()) != out.size()) return false;
  if (ZSTD_findFrameCompressedSize(frame.data(), frame.size()) != frame.size()) return false;
  return ZSTD_decompressDCtx(state_->context, out.data(), out.size(), frame.data(), frame.size()) ==
         out.size();
}

}  // namespace quern
