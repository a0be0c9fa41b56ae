// make_checkpoint: synthetic checkpoints of the real shapes, in Meta's layout, for measurements.
//
//   make_checkpoint OUT --model 7b [--layers N] [--shards N] [--dtype bf16|f16|f32] [--sparse]
//                   [--seed N] [--tokenizer FILE]
//
// Weights are Gaussian with standard deviation 1/sqrt(fan_in), norms are 1. The same arguments give
// the same bytes. A 64-bit hash of (seed, tensor, position) yields four weights, each a 16-bit
// quantile of the normal distribution from a table. --sparse leaves all weights of a tensor but the
// first as holes (zeros). Source: the layout is that of torch.save (inline_container.cc of
// pytorch/pytorch).
#include <fcntl.h>
#include <fmt/format.h>
#include <libdeflate.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "formats/core/bytes.h"
#include "formats/core/file.h"
#include "formats/core/half.h"

namespace quern {
namespace {

struct ModelShape {
  std::string_view name;
  uint32_t dim, n_layers, n_heads, n_kv_heads, ffn, vocab, shards;
  bool tiktoken;
  std::string_view params;  // params.json without "n_layers"
  bool tied = false;        // the output matrix has the embedding's weights
};

constexpr ModelShape kModels[] = {
    {"7b", 4096, 32, 32, 32, 11008, 32000, 1, false,
     R"("dim": 4096, "multiple_of": 256, "n_heads": 32, "norm_eps": 1e-05, "vocab_size": -1)"},
    {"13b", 5120, 40, 40, 40, 13824, 32000, 2, false,
     R"("dim": 5120, "multiple_of": 256, "n_heads": 40, "norm_eps": 1e-05, "vocab_size": -1)"},
    {"33b", 6656, 60, 52, 52, 17920, 32000, 4, false,
     R"("dim": 6656, "multiple_of": 256, "n_heads": 52, "norm_eps": 1e-06, "vocab_size": -1)"},
    {"65b", 8192, 80, 64, 64, 22016, 32000, 8, false,
     R"("dim": 8192, "multiple_of": 256, "n_heads": 64, "norm_eps": 1e-05, "vocab_size": -1)"},
    {"70b", 8192, 80, 64, 8, 28672, 32000, 8, false,
     R"("dim": 8192, "multiple_of": 4096, "ffn_dim_multiplier": 1.3, "n_heads": 64, "n_kv_heads": 8, "norm_eps": 1e-05, "vocab_size": -1)"},
    {"code-llama-34b", 8192, 48, 64, 8, 22016, 32000, 4, false,
     R"("dim": 8192, "n_heads": 64, "n_kv_heads": 8, "multiple_of": 256, "ffn_dim_multiplier": 1.0, "norm_eps": 1e-5, "rope_theta": 1000000)"},
    {"llama-3-8b", 4096, 32, 32, 8, 14336, 128256, 1, true,
     R"("dim": 4096, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256, "multiple_of": 1024, "ffn_dim_multiplier": 1.3, "norm_eps": 1e-05, "rope_theta": 500000.0)"},
    {"llama-3-70b", 8192, 80, 64, 8, 28672, 128256, 8, true,
     R"("dim": 8192, "n_heads": 64, "n_kv_heads": 8, "vocab_size": 128256, "multiple_of": 4096, "ffn_dim_multiplier": 1.3, "norm_eps": 1e-05, "rope_theta": 500000.0)"},
    {"llama-3.1-8b", 4096, 32, 32, 8, 14336, 128256, 1, true,
     R"("dim": 4096, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256, "multiple_of": 1024, "ffn_dim_multiplier": 1.3, "norm_eps": 1e-05, "rope_theta": 500000.0, "use_scaled_rope": true)"},
    {"llama-3.1-70b", 8192, 80, 64, 8, 28672, 128256, 8, true,
     R"("dim": 8192, "n_heads": 64, "n_kv_heads": 8, "vocab_size": 128256, "multiple_of": 4096, "ffn_dim_multiplier": 1.3, "norm_eps": 1e-05, "rope_theta": 500000.0, "use_scaled_rope": true)"},
    {"llama-3.1-405b", 16384, 126, 128, 8, 53248, 128256, 8, true,
     R"("dim": 16384, "n_heads": 128, "n_kv_heads": 8, "vocab_size": 128256, "multiple_of": 4096, "ffn_dim_multiplier": 1.2, "norm_eps": 1e-05, "rope_theta": 500000.0, "use_scaled_rope": true)"},
    {"llama-3.2-1b", 2048, 16, 32, 8, 8192, 128256, 1, true,
     R"("dim": 2048, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256, "multiple_of": 256, "ffn_dim_multiplier": 1.5, "norm_eps": 1e-05, "rope_theta": 500000.0, "use_scaled_rope": true)",
     true},
    {"llama-3.2-3b", 3072, 28, 24, 8, 8192, 128256, 1, true,
     R"("dim": 3072, "n_heads": 24, "n_kv_heads": 8, "vocab_size": 128256, "multiple_of": 256, "ffn_dim_multiplier": 1.0, "norm_eps": 1e-05, "rope_theta": 500000.0, "use_scaled_rope": true)",
     true},
};

struct Tensor {
  std::string name;
  std::vector<uint64_t> shape;  // of one shard
  double deviation = 0;         // 0: all ones
  uint64_t key = 0;             // tensors with the same key have the same weights
  uint64_t n_elems() const { return shape.size() == 1 ? shape[0] : shape[0] * shape[1]; }
};

// Returns the tensors of one shard, split as Meta splits them.
std::vector<Tensor> TensorsOf(const ModelShape& model, uint32_t n_layers, uint32_t shards) {
  std::vector<Tensor> tensors;
  const uint64_t dim = model.dim, ffn = model.ffn;
  const uint64_t kv = uint64_t{model.n_kv_heads} * (dim / model.n_heads);
  const auto rows = [&](std::string name, uint64_t r, uint64_t c) {
    tensors.push_back({std::move(name), {r / shards, c}, 1 / std::sqrt(static_cast<double>(c))});
  };
  const auto cols = [&](std::string name, uint64_t r, uint64_t c) {
    tensors.push_back({std::move(name), {r, c / shards}, 1 / std::sqrt(static_cast<double>(c))});
  };
  const auto vector = [&](std::string name) { tensors.push_back({std::move(name), {dim}, 0}); };
  if (model.tiktoken)
    rows("tok_embeddings.weight", model.vocab, dim);
  else
    cols("tok_embeddings.weight", model.vocab, dim);
  vector("norm.weight");
  rows("output.weight", model.vocab, dim);
  for (uint32_t layer = 0; layer < n_layers; ++layer) {
    const std::string prefix = fmt::format("layers.{}.", layer);
    rows(prefix + "attention.wq.weight", dim, dim);
    rows(prefix + "attention.wk.weight", kv, dim);
    rows(prefix + "attention.wv.weight", kv, dim);
    cols(prefix + "attention.wo.weight", dim, dim);
    rows(prefix + "feed_forward.w1.weight", ffn, dim);
    cols(prefix + "feed_forward.w2.weight", dim, ffn);
    rows(prefix + "feed_forward.w3.weight", ffn, dim);
    vector(prefix + "attention_norm.weight");
    vector(prefix + "ffn_norm.weight");
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].key = model.tied && tensors[i].name == "output.weight" ? 0 : i;
  }
  return tensors;
}

// The number formats of a checkpoint.
struct Format {
  std::string_view name, storage_class;
  uint32_t elem_bytes;
  uint32_t (*encode)(float);
};
constexpr Format kFormats[] = {
    {"bf16", "BFloat16Storage", 2, [](float f) -> uint32_t { return F32ToBF16(f); }},
    {"f16", "HalfStorage", 2, [](float f) -> uint32_t { return F32ToF16(f); }},
    {"f32", "FloatStorage", 4, [](float f) -> uint32_t { return std::bit_cast<uint32_t>(f); }},
};

// Returns the quantile of the normal distribution at `p` in (0, 1), by bisection of its
// distribution function: slow, exact to a float, and used 65,536 times a tensor kind.
double NormalQuantile(double p) {
  double low = -10, high = 10;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

uint64_t SplitMix(uint64_t z) {
  z += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

class Generator {
 public:
  Generator(const Format& format, uint64_t seed) : format_(format), seed_(seed) {
    quantiles_.resize(65536);
    for (size_t i = 0; i < quantiles_.size(); ++i) {
      quantiles_[i] = static_cast<float>(NormalQuantile((static_cast<double>(i) + 0.5) / 65536));
    }
  }

  // Fills `out` with elements [begin, begin + n) of a tensor. Requires: begin is a multiple of 4.
  void Fill(uint64_t key, double deviation, uint64_t begin, MutableByteView out) const {
    if (format_.elem_bytes == 2)
      FillAs<uint16_t>(key, deviation, begin, out);
    else
      FillAs<uint32_t>(key, deviation, begin, out);
  }

 private:
  template <typename T>
  void FillAs(uint64_t key, double deviation, uint64_t begin, MutableByteView out) const {
    std::vector<T> table(deviation == 0 ? 0 : 65536);
    for (size_t i = 0; i < table.size(); ++i) {
      table[i] = static_cast<T>(format_.encode(quantiles_[i] * static_cast<float>(deviation)));
    }
    const T one = static_cast<T>(format_.encode(1.0f));
    const uint64_t n = out.size() / sizeof(T);
    for (uint64_t i = 0; i < n; i += 4) {
      const uint64_t bits = SplitMix(SplitMix(seed_ ^ key) + (begin + i) / 4);
      for (uint64_t k = 0; k < std::min<uint64_t>(4, n - i); ++k) {
        StoreLE<T>(out.data() + (i + k) * sizeof(T),
                   table.empty() ? one : table[(bits >> (16 * k)) & 0xFFFF]);
      }
    }
  }

  const Format& format_;
  uint64_t seed_;
  std::vector<float> quantiles_;
};

// --- the pickle of a state dict -----------------------------------------------------------------

void PutText(std::string& out, std::string_view text) {
  out += 'X';
  const auto n = static_cast<uint32_t>(text.size());
  out.append(reinterpret_cast<const char*>(&n), 4);
  out += text;
}

void PutInt(std::string& out, uint64_t value) {
  out += '\x8a';
  out += '\x08';
  out.append(reinterpret_cast<const char*>(&value), 8);
}

std::string PickleOf(const std::vector<Tensor>& tensors, const Format& format) {
  std::string out = "\x80\x02}(";
  for (size_t i = 0; i < tensors.size(); ++i) {
    PutText(out, tensors[i].name);
    out += "ctorch._utils\n_rebuild_tensor_v2\n((";
    PutText(out, "storage");
    out += fmt::format("ctorch\n{}\n", format.storage_class);
    PutText(out, std::to_string(i));
    PutText(out, "cpu");
    PutInt(out, tensors[i].n_elems());
    out += "tQ";
    PutInt(out, 0);
    out += "(";
    for (const uint64_t dim : tensors[i].shape) PutInt(out, dim);
    out += "t(";
    if (tensors[i].shape.size() == 2) PutInt(out, tensors[i].shape[1]);
    PutInt(out, 1);
    out +=
        "t\x89"
        "ccollections\nOrderedDict\n)RtR";
  }
  return out + "u.";
}

// --- the zip container ---------------------------------------------------------------------------

// Writes one .pth file front to back.
class TorchFile {
 public:
  TorchFile(const std::string& path, std::string prefix, bool sparse)
      : path_(path), prefix_(std::move(prefix)), sparse_(sparse) {
    fd_ = open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666);
    if (fd_ < 0) throw SystemError("output.open", "create", path, errno);
  }
  ~TorchFile() { close(fd_); }

  void AddSmall(std::string_view name, std::string_view data) {
    BeginEntry(name, data.size());
    Put(AsBytes(data));
    EndEntry();
  }
  void BeginEntry(std::string_view name, uint64_t size) {
    entries_.push_back({fmt::format("{}/{}", prefix_, name), position_, size, 0});
    const std::string& full = entries_.back().name;
    std::string zip64;
    if (size >= 0xFFFFFFFF) AppendFields(zip64, {uint16_t{1}, uint16_t{16}}, {size, uint64_t{0}});
    const uint64_t unpadded = position_ + 30 + full.size() + zip64.size() + 4;
    const auto padding = static_cast<uint16_t>((64 - unpadded % 64) % 64);
    std::string header("PK\3\4\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0", 18);
    const uint32_t shown = size >= 0xFFFFFFFF ? 0xFFFFFFFF : 0;
    Append(header, shown);
    Append(header, shown);
    Append(header, static_cast<uint16_t>(full.size()));
    Append(header, static_cast<uint16_t>(zip64.size() + 4 + padding));
    header += full + zip64 + "FB";
    Append(header, padding);
    header.append(padding, 'Z');
    Write(AsBytes(header));
  }
  void Put(ByteView bytes) {
    if (bytes.empty()) return;  // libdeflate begins anew where it is given no buffer
    entries_.back().crc = libdeflate_crc32(entries_.back().crc, bytes.data(), bytes.size());
    Write(bytes);
  }
  // Leaves a hole of the entry's size; its checksum is that of zeros.
  void Skip(uint64_t size) {
    static const std::vector<uint8_t> zeros(1 << 20);
    for (uint64_t done = 0; done < size;) {
      const uint64_t n = std::min<uint64_t>(zeros.size(), size - done);
      entries_.back().crc = libdeflate_crc32(entries_.back().crc, zeros.data(), n);
      done += n;
    }
    position_ += size;
    if (lseek(fd_, static_cast<off_t>(position_), SEEK_SET) < 0)
      throw SystemError("output.write", "seek in", path_, errno);
  }
  bool sparse() const { return sparse_; }
  void EndEntry() {
    const Entry& entry = entries_.back();
    std::string descriptor("PK\7\x08", 4);
    Append(descriptor, entry.crc);
    if (entry.size >= 0xFFFFFFFF)
      AppendFields(descriptor, {}, {entry.size, entry.size});
    else
      for (int i = 0; i < 2; ++i) Append(descriptor, static_cast<uint32_t>(entry.size));
    Write(AsBytes(descriptor));
  }

  void Finish() {
    const uint64_t directory = position_;
    for (const Entry& entry : entries_) {
      std::string zip64;
      if (entry.size >= 0xFFFFFFFF) AppendFields(zip64, {}, {entry.size, entry.size});
      if (entry.offset >= 0xFFFFFFFF) AppendFields(zip64, {}, {entry.offset});
      const auto clamp = [](uint64_t v) {
        return static_cast<uint32_t>(std::min<uint64_t>(v, 0xFFFFFFFF));
      };
      std::string row("PK\1\2\0\0\0\0\x08\x08\0\0\0\0\0\0", 16);
      for (const uint32_t field : {entry.crc, clamp(entry.size), clamp(entry.size)})
        Append(row, field);
      Append(row, static_cast<uint16_t>(entry.name.size()));
      Append(row, static_cast<uint16_t>(zip64.empty() ? 0 : zip64.size() + 4));
      row.append(10, '\0');
      Append(row, clamp(entry.offset));
      row += entry.name;
      if (!zip64.empty()) AppendFields(row, {uint16_t{1}, static_cast<uint16_t>(zip64.size())}, {});
      Write(AsBytes(row + zip64));
    }
    const uint64_t size = position_ - directory, end = position_, n = entries_.size();
    std::string tail("PK\6\6", 4);
    AppendFields(tail, {}, {uint64_t{44}});
    AppendFields(tail, {uint16_t{0x031E}, uint16_t{45}, 0, 0, 0, 0}, {n, n, size, directory});
    tail += std::string("PK\6\7\0\0\0\0", 8);
    AppendFields(tail, {}, {end});
    Append(tail, uint32_t{1});
    tail += std::string("PK\5\6\0\0\0\0", 8);
    for (int i = 0; i < 2; ++i) Append(tail, static_cast<uint16_t>(std::min<uint64_t>(n, 0xFFFF)));
    Append(tail, static_cast<uint32_t>(std::min<uint64_t>(size, 0xFFFFFFFF)));
    Append(tail, static_cast<uint32_t>(std::min<uint64_t>(directory, 0xFFFFFFFF)));
    Append(tail, uint16_t{0});
    Write(AsBytes(tail));
  }

 private:
  struct Entry {
    std::string name;
    uint64_t offset, size;
    uint32_t crc;
  };
  template <typename T>
  static void Append(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static void AppendFields(std::string& out, std::initializer_list<uint16_t> small,
                           std::initializer_list<uint64_t> large) {
    for (const uint16_t value : small) Append(out, value);
    for (const uint64_t value : large) Append(out, value);
  }
  void Write(ByteView bytes) {
    position_ += bytes.size();
    while (!bytes.empty()) {
      const ssize_t put = write(fd_, bytes.data(), bytes.size());
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) throw SystemError("output.write", "write", path_, errno);
      bytes = bytes.subspan(static_cast<size_t>(put));
    }
  }

  std::string path_, prefix_;
  bool sparse_;
  int fd_ = -1;
  uint64_t position_ = 0;
  std::vector<Entry> entries_;
};

void WriteShard(const std::string& folder, uint32_t shard, const std::vector<Tensor>& tensors,
                const Format& format, const Generator& generator, bool sparse) {
  const std::string prefix = fmt::format("consolidated.{:02}", shard);
  TorchFile file(folder + "/" + prefix + ".pth", prefix, sparse);
  file.AddSmall("data.pkl", PickleOf(tensors, format));
  constexpr uint64_t kPieceElems = uint64_t{1} << 22;
  const unsigned n_threads = std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::vector<uint8_t>> pieces(n_threads);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& tensor = tensors[i];
    const uint64_t n = tensor.n_elems();
    file.BeginEntry(fmt::format("data/{}", i), n * format.elem_bytes);
    // Vectors are replicated: the same in every shard.
    const uint64_t key = SplitMix(tensor.key * 64 + (tensor.shape.size() == 1 ? 0 : shard + 1));
    if (sparse && tensor.deviation != 0) {
      // The first weight tells shards apart, of which no two may hold the same.
      pieces[0].resize(format.elem_bytes);
      generator.Fill(key, tensor.deviation, 0, pieces[0]);
      file.Put(pieces[0]);
      file.Skip((n - 1) * format.elem_bytes);
    } else {
      for (uint64_t begin = 0; begin < n; begin += kPieceElems * n_threads) {
        std::vector<std::jthread> workers;
        for (unsigned t = 0; t < n_threads; ++t) {
          const uint64_t first = std::min(n, begin + t * kPieceElems);
          pieces[t].resize(std::min(kPieceElems, n - first) * format.elem_bytes);
          workers.emplace_back(
              [&, t, first] { generator.Fill(key, tensor.deviation, first, pieces[t]); });
        }
        workers.clear();  // Joins.
        for (const auto& piece : pieces) file.Put(piece);
      }
    }
    file.EndEntry();
  }
  file.AddSmall("version", "3\n");
  file.Finish();
}

// --- side files ----------------------------------------------------------------------------------

void PutField(std::string& out, char tag, std::string_view bytes) {
  out += tag;
  for (size_t n = bytes.size();; n >>= 7) {
    out += static_cast<char>((n & 127) | (n > 127 ? 128 : 0));
    if (n <= 127) break;
  }
  out += bytes;
}

// Returns a SentencePiece model with Llama's settings whose pieces beyond bytes are numbered words.
std::string SyntheticSentencePiece(uint32_t vocab) {
  std::string model;
  const auto piece = [&](std::string_view text, float score, char type) {
    std::string message;
    PutField(message, '\x0a', text);
    message += '\x15';
    message.append(reinterpret_cast<const char*>(&score), 4);
    message += '\x18';
    message += type;
    PutField(model, '\x0a', message);
  };
  piece("<unk>", 0, 2);
  piece("<s>", 0, 3);
  piece("</s>", 0, 3);
  for (int byte = 0; byte < 256; ++byte) piece(fmt::format("<0x{:02X}>", byte), 0, 6);
  for (uint32_t id = 259; id < vocab; ++id)
    piece(fmt::format("\u2581w{}", id), -static_cast<float>(id - 259), 1);
  std::string trainer("\x18\x02\xc8\x01\x01\xd0\x01\x01\x98\x02\x01",
                      11);  // BPE, digits split, byte fallback
  trainer += std::string("\xc0\x02\x00\xc8\x02\x01\xd0\x02\x02", 9);  // unk 0, bos 1, eos 2
  PutField(model, '\x12', trainer);
  std::string normalizer;
  PutField(normalizer, '\x0a', "identity");
  normalizer += std::string("\x18\x01\x20\x00", 4);  // dummy prefix, whitespace kept
  PutField(model, '\x1a', normalizer);
  return model;
}

std::string Base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k)
      group = group << 8 | (i + k < bytes.size() ? static_cast<uint8_t>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k)
      out += i + k > bytes.size() ? '=' : kDigits[group >> (18 - 6 * k) & 63];
  }
  return out;
}

// Returns 128,000 ranks: the bytes in GPT-2's order, then strings of letters that merge pairwise.
std::string SyntheticTiktoken() {
  std::vector<std::string> tokens;
  const auto printable = [](int b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
  };
  for (int b = 0; b < 256; ++b)
    if (printable(b)) tokens.emplace_back(1, static_cast<char>(b));
  for (int b = 0; b < 256; ++b)
    if (!printable(b)) tokens.emplace_back(1, static_cast<char>(b));
  std::vector<std::string> previous;
  for (char c = 'a'; c <= 'z'; ++c) previous.emplace_back(1, c);
  while (tokens.size() < 128000) {
    std::vector<std::string> longer;
    for (const auto& stem : previous)
      for (char c = 'a'; c <= 'z' && tokens.size() < 128000; ++c)
        tokens.push_back(longer.emplace_back(stem + c));
    previous = std::move(longer);
  }
  std::string out;
  for (size_t rank = 0; rank < tokens.size(); ++rank)
    out += fmt::format("{} {}\n", Base64(tokens[rank]), rank);
  return out;
}

void WriteFile(const std::string& path, std::string_view bytes) {
  const auto output =
      OpenOutput(path, {.force = true, .inputs = {}, .expected_bytes = bytes.size()});
  output->Write(AsBytes(bytes));
  output->Commit();
}

// Returns whether every split dimension is a whole number of parts, as Meta's are.
bool Divides(const ModelShape& model, uint32_t shards) {
  for (const uint32_t n : {model.n_heads, model.n_kv_heads, model.ffn, model.vocab, model.dim}) {
    if (n % shards != 0) return false;
  }
  return true;
}

int Main(int argc, char** argv) {
  std::string folder, model_name = "7b", format_name = "bf16", tokenizer;
  uint32_t n_layers = 0, shards = 0;
  uint64_t seed = 1;
  bool sparse = false;
  std::vector<std::string> models, formats;
  for (const ModelShape& model : kModels) models.emplace_back(model.name);
  for (const Format& format : kFormats) formats.emplace_back(format.name);
  CLI::App app("Writes a synthetic checkpoint of a real shape, in Meta's layout");
  app.add_option("folder", folder, "Folder to write to")->required();
  app.add_option("--model", model_name, "Shape (default: 7b)")->check(CLI::IsMember(models));
  app.add_option("--layers", n_layers, "Number of layers (default: the model's)");
  app.add_option("--shards", shards, "Number of shards (default: the release's)");
  app.add_option("--dtype", format_name, "Type of the weights (default: bf16)")
      ->check(CLI::IsMember(formats));
  app.add_option("--seed", seed, "The same seed gives the same bytes (default: 1)");
  app.add_option("--tokenizer", tokenizer, "tokenizer.model to copy (default: a synthetic one)");
  app.add_flag("--sparse", sparse,
               "Leave all weights of a tensor but the first as holes (zeros), which take no space");
  CLI11_PARSE(app, argc, argv);
  const ModelShape& model = *std::ranges::find(kModels, model_name, &ModelShape::name);
  const Format& format = *std::ranges::find(kFormats, format_name, &Format::name);
  if (n_layers == 0) n_layers = model.n_layers;
  if (shards == 0) shards = model.shards;
  if (!Divides(model, shards)) {
    fmt::print(stderr, "make_checkpoint: {} cannot be split into {} shards\n", model.name, shards);
    return 2;
  }
  std::filesystem::create_directories(folder);
  WriteFile(folder + "/params.json",
            fmt::format("{{{}, \"n_layers\": {}}}\n", model.params, n_layers));
  WriteFile(folder + "/tokenizer.model", !tokenizer.empty()
                                             ? ReadWholeFile(tokenizer, uint64_t{1} << 30)
                                         : model.tiktoken ? SyntheticTiktoken()
                                                          : SyntheticSentencePiece(model.vocab));
  const Generator generator(format, seed);
  for (uint32_t shard = 0; shard < shards; ++shard) {
    WriteShard(folder, shard, TensorsOf(model, n_layers, shards), format, generator, sparse);
  }
  return 0;
}

}  // namespace
}  // namespace quern

int main(int argc, char** argv) {
  try {
    return quern::Main(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "make_checkpoint: {}\n", error.what());
    return 1;
  }
}
