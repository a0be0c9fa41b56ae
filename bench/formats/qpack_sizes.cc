// qpack_sizes [--check] [GGUF...]: prints a table of sizes: the files given, and Gaussian weights
// in every type: as they are, packed at each level, the entropy bound, and plain zstd at levels 3
// and 19. With --check it leaves out what takes long, and fails where QPACK is not what it
// promises: at most 1 % over the bound, at most 0.1 % longer than the GGUF, and of bf16 28 % saved.
//
// The bound is the order-0 entropy of the bytes of each field of each tensor (of each plane of
// numbers), as if every byte were coded by itself in as many bits as it is worth. In brackets the
// bound where fields that shrink by less than 1/64 count as they are, which is what a writer may
// store.
#include <fmt/format.h>
#include <zstd.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "bench/formats/model_in_memory.h"
#include "formats/gguf_reader.h"
#include "formats/plane_split.h"
#include "formats/qpack_writer.h"

namespace quern {
namespace {

using Bytes = std::vector<uint8_t>;

double EntropyBytes(ByteView bytes) {
  std::array<uint64_t, 256> counts{};
  for (const uint8_t byte : bytes) ++counts[byte];
  double bits = 0;
  for (const uint64_t count : counts) {
    if (count != 0) {
      bits -= static_cast<double>(count) *
              std::log2(static_cast<double>(count) / static_cast<double>(bytes.size()));
    }
  }
  return bits / 8;
}

struct Bound {
  double bytes = 0, with_stored = 0;
  void Add(ByteView plane) {
    const double entropy = EntropyBytes(plane);
    const auto n = static_cast<double>(plane.size());
    bytes += entropy;
    with_stored += entropy > n * 63 / 64 ? n : entropy;
  }
};

Bound BoundOf(const Bytes& gguf) {
  const GgufFile file(std::make_shared<MemoryBytes>(gguf, "(memory)"));
  Bound bound;
  bound.Add(ByteView(gguf).first(file.layout().header_bytes));
  bound.Add(ByteView(gguf).subspan(file.layout().data_end));
  for (size_t i = 0; i < file.manifest().tensors.size(); ++i) {
    const TensorInfo& tensor = file.manifest().tensors[i];
    const PlaneSplit& split = PlaneSplit::Of(tensor.dtype);
    Bytes planes(tensor.size_bytes());
    split.Split(ByteView(gguf).subspan(file.tensor_offset(i), planes.size()), planes);
    ByteView rest = planes;
    for (size_t k = 0; k < split.n_planes(); ++k) {
      const uint64_t n = split.plane_bytes(k, planes.size() / split.block_bytes());
      bound.Add(rest.first(n));
      rest = rest.subspan(n);
    }
  }
  return bound;
}

size_t PackedBytes(const Bytes& gguf, int level) {
  Bytes out;
  const auto output = MakeQpackOutput(std::make_unique<IntoVector>(out), {.level = level});
  output->Write(gguf);
  output->Commit();
  return out.size();
}

size_t ZstdBytes(const Bytes& gguf, int level) {
  Bytes out(ZSTD_compressBound(gguf.size()));
  return ZSTD_compress(out.data(), out.size(), gguf.data(), gguf.size(), level);
}

// Prints a row; returns false if it breaks a promise.
bool PrintRow(const std::string& name, const Bytes& gguf, bool is_check) {
  const auto Percent = [&](auto bytes) {
    return 100 * static_cast<double>(bytes) / static_cast<double>(gguf.size());
  };
  const Bound bound = BoundOf(gguf);
  const size_t packed = PackedBytes(gguf, 1);
  const double over = 100 * (static_cast<double>(packed) / bound.with_stored - 1);
  fmt::print("| {} | {} | {:.2f} | {:.2f} ({:.2f}) | {:+.2f} |", name, gguf.size(),
             Percent(packed), Percent(bound.bytes), Percent(bound.with_stored), over);
  if (!is_check) {
    fmt::print(" {:.2f} | {:.2f} | {:.2f} |", Percent(PackedBytes(gguf, 3)),
               Percent(ZstdBytes(gguf, 3)), Percent(ZstdBytes(gguf, 19)));
  }
  const double most = name.find("bf16") == std::string::npos ? 100.1 : 72;
  const bool is_kept = over <= 1 && Percent(packed) <= most;
  fmt::print("{}\n", is_kept ? "" : " <- too long");
  std::fflush(stdout);
  return is_kept;
}

}  // namespace
}  // namespace quern

int main(int argc, char** argv) {
  using namespace quern;
  const bool is_check = argc > 1 && std::string_view(argv[1]) == "--check";
  fmt::print("| model | raw bytes | packed, % | entropy (or stored), % | packed over it, % |{}\n",
             is_check ? "" : " --level 3, % | zstd -3, % | zstd -19, % |");
  fmt::print("|---|---|---|---|---|{}\n", is_check ? "" : "---|---|---|");
  bool is_kept = true;
  for (int i = is_check ? 2 : 1; i < argc; ++i) {
    const std::string text = ReadWholeFile(argv[i], uint64_t{1} << 30);
    const std::string name = std::filesystem::path(argv[i]).stem().string();
    is_kept &= PrintRow(name, Bytes(text.begin(), text.end()), is_check);
  }
  for (const BlockCodec* codec : AllCodecs()) {
    is_kept &= PrintRow("Gaussian " + std::string(NameOf(codec->type)),
                        GaussianModel(codec->type, 256), is_check);
  }
  return is_check && !is_kept ? 1 : 0;
}
