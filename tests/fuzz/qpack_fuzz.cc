// QPACK, from bytes to the GGUF file inside. Beyond "no crash": a store and a stream that both take
// a file give the same bytes, what comes out is packed and unpacked again without change, and what
// is allocated stays bounded, whatever the file says. The mutator repairs hashes, directory and
// footer, so that damage gets past them.
#include <memory>

#include "formats/core/hash.h"
#include "formats/qpack_format.h"
#include "formats/qpack_reader.h"
#include "formats/qpack_writer.h"
#include "tests/fuzz/fuzz_support.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
extern "C" {
int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void*, size_t),
                                              void (*free_hook)(const volatile void*));
}
#define QUERN_COUNT_ALLOCATIONS 1
#endif
#endif

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

using namespace quern;
using fuzz::Bytes;
using fuzz::Require;

// What a harness unpacks at most: more only takes time.
constexpr uint64_t kMaxGgufBytes = uint64_t{8} << 20;

size_t g_largest_allocation = 0;
#ifdef QUERN_COUNT_ALLOCATIONS
const int g_hooked = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, size_t size) {
      if (size > g_largest_allocation) g_largest_allocation = size;
    },
    [](const volatile void*) {});
#endif

template <typename Action>
auto OrRefused(const Action& action) -> std::optional<decltype(action())> {
  try {
    return action();
  } catch (const Error& error) {
    Require(fuzz::IsRefusal(error));
    return std::nullopt;
  }
}

// Both give the GGUF file inside, as far as kMaxGgufBytes, or nothing where it is refused.
std::optional<Bytes> ThroughStore(ByteView qpack) {
  return OrRefused([&] {
    const QpackBytes bytes(std::make_shared<MemoryBytes>(qpack, "file"));
    return bytes.ReadVector(0, std::min(bytes.size_bytes(), kMaxGgufBytes));
  });
}
std::optional<Bytes> ThroughStream(ByteView qpack, size_t step) {
  return OrRefused([&] {
    const auto stream = UnpackStream(std::make_unique<fuzz::Pipe>(qpack));
    Bytes out, buffer(step);
    while (out.size() < kMaxGgufBytes) {
      const size_t n = stream->Read(
          MutableByteView(buffer).first(std::min<size_t>(step, kMaxGgufBytes - out.size())));
      if (n == 0) break;
      out.insert(out.end(), buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(n));
    }
    return out;
  });
}

Bytes Repacked(ByteView gguf, uint32_t segment_bytes) {
  Bytes out;
  const auto output = MakeQpackOutput(std::make_unique<fuzz::IntoVector>(out),
                                      {.level = 1, .segment_bytes = segment_bytes});
  output->Write(gguf);
  output->Commit();
  return out;
}

// Makes all hashes, the directory and the footer those of the segments as they are.
Bytes Repaired(ByteView qpack) {
  Bytes out(qpack.begin(), qpack.end());
  if (out.size() < kQpackPrologueBytes) return out;
  StoreLE(&out[24], Xxh3(ByteView(out).first(24)));
  std::vector<uint32_t> directory;
  uint64_t at = kQpackPrologueBytes, gguf_bytes = 0;
  while (out.size() - at >= kQpackSegmentFrameBytes) {
    const uint32_t raw_bytes = LoadLE<uint32_t>(&out[at]);
    const uint64_t packed_bytes = LoadLE<uint32_t>(&out[at + 4]);
    if (raw_bytes == 0 && packed_bytes == 0) break;
    if (packed_bytes > out.size() - at - kQpackSegmentFrameBytes) break;
    // The hash of a single stored plane is known.
    if (packed_bytes == uint64_t{raw_bytes} + 4) {
      StoreLE(&out[at + 8], Xxh3(ByteView(out).subspan(at + 20, raw_bytes)));
    }
    Bytes hashed(out.begin() + static_cast<ptrdiff_t>(at),
                 out.begin() + static_cast<ptrdiff_t>(at + 16 + packed_bytes));
    hashed.resize(hashed.size() + 8);
    StoreLE(&hashed[hashed.size() - 8], uint64_t{directory.size()});
    StoreLE(&out[at + 16 + packed_bytes], Xxh3(hashed));
    directory.push_back(static_cast<uint32_t>(kQpackSegmentFrameBytes + packed_bytes));
    gguf_bytes += raw_bytes;
    at += kQpackSegmentFrameBytes + packed_bytes;
  }
  out.resize(at + kQpackEndMarkBytes);
  std::fill(out.end() - kQpackEndMarkBytes, out.end(), uint8_t{0});
  const size_t begin = out.size();
  const auto Put = [&](auto value) {
    out.resize(out.size() + sizeof value);
    StoreLE(&out[out.size() - sizeof value], value);
  };
  for (const uint32_t bytes : directory) Put(bytes);
  Put(gguf_bytes);
  Put(uint64_t{directory.size()});
  Put(Xxh3(ByteView(out).subspan(begin)));
  out.insert(out.end(), kQpackEndMagic.begin(), kQpackEndMagic.end());
  return out;
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  size = LLVMFuzzerMutate(data, size, max_size);
  if (seed % 8 == 0) return size;
  const Bytes repaired = Repaired({data, size});
  if (repaired.size() > max_size) return size;
  std::copy(repaired.begin(), repaired.end(), data);
  return repaired.size();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteView qpack(data, size);
  g_largest_allocation = 0;
  const auto stored = ThroughStore(qpack);
  const auto streamed = ThroughStream(qpack, 1 << 16);
  // A header takes 4 MiB + 16 times its packed bytes, in vectors that double; what is unpacked
  // ahead takes 16 MiB.
  Require(g_largest_allocation <= (size_t{32} << 20) + 64 * size);
  Require(ThroughStream(qpack, 17).has_value() == streamed.has_value());
  if (stored && streamed) Require(*stored == *streamed);
  OrRefused([&] { return CheckQpack(std::make_shared<MemoryBytes>(qpack, "file")).size(); });
  OrRefused([&] { return OpenQpack(std::make_shared<MemoryBytes>(qpack, "file"))->name(); });
  if (!stored || stored->size() == kMaxGgufBytes) return 0;
  for (const uint32_t segment_bytes : {kQpackMinSegmentBytes, kQpackSegmentBytes}) {
    const Bytes again = Repacked(*stored, segment_bytes);
    Require(ThroughStore(again) == stored);
    Require(ThroughStream(again, 4096) == stored);
    Require(CheckQpack(std::make_shared<MemoryBytes>(again, "file")).empty() ||
            !CheckQpack(std::make_shared<MemoryBytes>(qpack, "file")).empty());
  }
  return 0;
}
