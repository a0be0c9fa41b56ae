#include "tests/converters/make_checkpoint.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "formats/core/half.h"

namespace quern::testing {
namespace {

bool HasTiktoken(Generation generation) { return generation >= Generation::kLlama3; }

// Small exact values: n / 128 with |n| < 128 has seven bits; f16 and bf16 hold eight.
class Values {
 public:
  explicit Values(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  float Next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(static_cast<int64_t>(state_ >> 56) - 128 + (state_ >> 63 ? 0 : 1)) /
           128.0f;
  }

 private:
  uint64_t state_;
};

WholeTensor Matrix(std::string name, uint64_t rows, uint64_t cols, Values& values) {
  WholeTensor tensor{std::move(name), rows, cols, false, {}};
  tensor.values.resize(rows * cols);
  for (float& value : tensor.values) value = values.Next() / 4;
  return tensor;
}

WholeTensor NormVector(std::string name, uint64_t size, Values& values) {
  WholeTensor tensor{std::move(name), 1, size, true, {}};
  tensor.values.resize(size);
  for (float& value : tensor.values) value = 1 + values.Next();  // 1 ± n / 128: eight bits
  return tensor;
}

// One shard's part of a tensor.
struct Slice {
  uint64_t row_begin, row_count, col_begin, col_count;
};

Slice SliceOf(const WholeTensor& tensor, const CheckpointRecipe& recipe, uint32_t rank) {
  const uint64_t n = recipe.n_shards;
  const auto ends = [&](std::string_view suffix) { return tensor.name.ends_with(suffix); };
  const bool by_cols = ends("wo.weight") || ends("w2.weight") ||
                       (ends("tok_embeddings.weight") && !HasTiktoken(recipe.generation));
  if (tensor.is_vector) return {0, 1, 0, tensor.cols};
  if ((by_cols ? tensor.cols : tensor.rows) % n != 0) {
    throw std::logic_error(tensor.name + " does not divide by the number of shards");
  }
  if (by_cols) return {0, tensor.rows, tensor.cols / n * rank, tensor.cols / n};
  return {tensor.rows / n * rank, tensor.rows / n, 0, tensor.cols};
}

DType TypeOf(const WholeTensor& tensor, const CheckpointRecipe& recipe) {
  if (!recipe.mixed_dtypes) return recipe.dtype;
  if (tensor.is_vector) return DType::kF32;
  return tensor.name.find("feed_forward") != std::string::npos ? DType::kF16 : recipe.dtype;
}

uint64_t ElemBytes(DType type) { return type == DType::kF32 ? 4 : 2; }

const char* TorchClass(DType type) {
  if (type == DType::kF32) return "FloatStorage";
  return type == DType::kF16 ? "HalfStorage" : "BFloat16Storage";
}

void StoreValue(DType type, float value, uint8_t* out) {
  if (type == DType::kF32) {
    std::memcpy(out, &value, 4);
  } else {
    const uint16_t bits = type == DType::kF16 ? F32ToF16(value) : F32ToBF16(value);
    std::memcpy(out, &bits, 2);
  }
}

// Collects a shard's tensors and storages.
class ShardBuilder {
 public:
  ShardBuilder(const CheckpointRecipe& recipe, uint32_t rank) : recipe_(recipe), rank_(rank) {}

  void Add(const WholeTensor& tensor) {
    const Slice slice = SliceOf(tensor, recipe_, rank_);
    const DType type = TypeOf(tensor, recipe_);
    const uint64_t rows = slice.row_count, cols = slice.col_count;
    const bool transposed = recipe_.storage == StorageStyle::kTransposed && !tensor.is_vector;
    const bool padded = recipe_.storage == StorageStyle::kPadded && !tensor.is_vector;
    WrittenTensor written{tensor.name, StorageFor(type), 0, {}, {}};
    std::vector<uint8_t>& bytes = storages_[written.storage].bytes;
    const uint64_t elem = ElemBytes(type), row_stride = padded ? cols + 3 : transposed ? 1 : cols;
    const uint64_t col_stride = transposed ? rows : 1;
    written.offset_elems = bytes.size() / elem + (padded ? 5 : 0);
    written.shape = tensor.is_vector ? std::vector{cols} : std::vector{rows, cols};
    written.strides = tensor.is_vector ? std::vector<uint64_t>{1} : std::vector{row_stride, col_stride};
    const uint64_t extent = (rows - 1) * row_stride + (cols - 1) * col_stride + 1;
    bytes.resize((written.offset_elems + extent) * elem, 0xee);
    for (uint64_t row = 0; row < rows; ++row) {
      for (uint64_t col = 0; col < cols; ++col) {
        const uint64_t at = written.offset_elems + row * row_stride + col * col_stride;
        const float value =
            tensor.values[(slice.row_begin + row) * tensor.cols + slice.col_begin + col];
        StoreValue(type, value, &bytes[at * elem]);
      }
    }
    tensors_.push_back(std::move(written));
  }

  std::vector<uint8_t> Finish(const TorchFileStyle& style) const {
    return WriteTorchFile(storages_, tensors_, style);
  }

 private:
  size_t StorageFor(DType type) {
    if (recipe_.storage == StorageStyle::kShared) {
      for (size_t i = 0; i < storages_.size(); ++i) {
        if (storages_[i].torch_class == TorchClass(type)) return i;
      }
    }
    storages_.push_back({TorchClass(type), ElemBytes(type), {}});
    return storages_.size() - 1;
  }

  const CheckpointRecipe& recipe_;
  uint32_t rank_;
  std::vector<WrittenStorage> storages_;
  std::vector<WrittenTensor> tensors_;
};

std::string ParamsJson(const CheckpointRecipe& recipe) {
  const CheckpointShape& shape = recipe.shape;
  const Generation generation = recipe.generation;
  std::string json = "{\"dim\": " + std::to_string(shape.dim) +
                     ", \"multiple_of\": " + std::to_string(shape.multiple_of) +
                     ", \"n_heads\": " + std::to_string(shape.n_heads) +
                     ", \"n_layers\": " + std::to_string(shape.n_layers);
  if (shape.n_kv_heads != shape.n_heads) {
    json += ", \"n_kv_heads\": " + std::to_string(shape.n_kv_heads);
  }
  if (shape.ffn_dim_multiplier != 0) {
    json += ", \"ffn_dim_multiplier\": " + std::to_string(shape.ffn_dim_multiplier);
  }
  json += generation == Generation::kLlama1 ? ", \"norm_eps\": 1e-06" : ", \"norm_eps\": 1e-05";
  if (generation == Generation::kCodeLlama) json += ", \"rope_theta\": 1000000";
  if (HasTiktoken(generation)) {
    json += ", \"rope_theta\": 500000.0, \"vocab_size\": " +
            std::to_string(shape.vocab_size ? shape.vocab_size : VocabularySize(generation));
  } else if (generation != Generation::kCodeLlama) {
    json += ", \"vocab_size\": -1";
  }
  if (generation >= Generation::kLlama31) json += ", \"use_scaled_rope\": true";
  return json + "}";
}

std::vector<std::string> ExtraPieces(Generation generation) {
  if (HasTiktoken(generation)) {
    std::vector<std::string> ranks = {"th", "he", "the", " t", " th", " the", "in", "an",
                                      "er", " a",  "nd",  "re", "and", " and", "ing", "on"};
    for (char c = 'a'; c <= 'z'; ++c) {
      for (const char* vowel : {"a", "e", "i", "o", "u"}) {
        const std::string pair = std::string(1, c) + vowel;
        if (pair != "he" && pair != "re") ranks.push_back(pair);
      }
    }
    ranks.resize(128);
    return ranks;  // 256 + 128 + 256 special = 640
  }
  std::vector<std::string> pieces = {"▁", "▁▁"};
  for (char c = '!'; c <= '~'; ++c) pieces.push_back(std::string(1, c));
  for (const char* piece : {"▁t", "he", "▁the", "in", "▁a", "er", "on", "an", "▁s", "re"}) {
    pieces.push_back(piece);
  }
  for (char c = 'a'; pieces.size() < 253 - 16; c = c == 'z' ? 'a' : static_cast<char>(c + 1)) {
    pieces.push_back("▁" + std::string(pieces.size() / 26 - 2, c) + "q");
  }
  if (generation == Generation::kCodeLlama) {
    for (const char* piece : {"▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"}) pieces.push_back(piece);
  }
  while (pieces.size() < 253) pieces.push_back("x" + std::to_string(pieces.size()));
  return pieces;  // 259 + 253 = 512
}

// Protobuf fields, as far as a SentencePiece model needs them.
std::string Varint(uint64_t value) {
  std::string out;
  for (; value > 127; value >>= 7) out.push_back(static_cast<char>((value & 127) | 128));
  return out + static_cast<char>(value);
}
std::string NumberField(int number, uint64_t value) {
  return Varint(static_cast<uint64_t>(number) << 3) + Varint(value);
}
std::string BytesField(int number, const std::string& bytes) {
  return Varint(static_cast<uint64_t>(number) << 3 | 2) + Varint(bytes.size()) + bytes;
}
std::string Piece(const std::string& text, float score, int type) {
  char score_bytes[4];
  std::memcpy(score_bytes, &score, 4);
  std::string piece = BytesField(1, text) + "\x15" + std::string(score_bytes, 4);
  if (type != 1) piece += NumberField(3, static_cast<uint64_t>(type));
  return BytesField(1, piece);
}

std::string Base64(const std::string& bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t j = 0; j < 3; ++j) {
      bits = bits << 8 | (i + j < bytes.size() ? static_cast<uint8_t>(bytes[i + j]) : 0u);
    }
    for (size_t j = 0; j < 4; ++j) {
      out += i + j <= bytes.size() ? kDigits[bits >> (18 - 6 * j) & 63] : '=';
    }
  }
  return out;
}

std::vector<uint8_t> Bytes(const std::string& text) { return {text.begin(), text.end()}; }

}  // namespace

uint32_t FeedForwardSize(const CheckpointShape& shape) {
  auto hidden = static_cast<uint32_t>(2 * (4 * shape.dim) / 3);
  if (shape.ffn_dim_multiplier != 0) {
    hidden = static_cast<uint32_t>(shape.ffn_dim_multiplier * hidden);
  }
  return (hidden + shape.multiple_of - 1) / shape.multiple_of * shape.multiple_of;
}

uint32_t VocabularySize(Generation generation) { return HasTiktoken(generation) ? 640 : 512; }

std::vector<WholeTensor> MakeWeights(const CheckpointRecipe& recipe) {
  const CheckpointShape& shape = recipe.shape;
  const uint64_t dim = shape.dim, kv = uint64_t{shape.n_kv_heads} * shape.head_dim();
  const uint64_t ffn = FeedForwardSize(shape);
  const uint64_t vocab = shape.vocab_size ? shape.vocab_size : VocabularySize(recipe.generation);
  Values values(recipe.seed);
  std::vector<WholeTensor> weights;
  weights.push_back(Matrix("tok_embeddings.weight", vocab, dim, values));
  weights.push_back(NormVector("norm.weight", dim, values));
  weights.push_back(Matrix("output.weight", vocab, dim, values));
  if (recipe.generation == Generation::kLlama32Tied) weights[2].values = weights[0].values;
  for (uint32_t i = 0; i < shape.n_layers; ++i) {
    const std::string layer = "layers." + std::to_string(i) + ".";
    weights.push_back(Matrix(layer + "attention.wq.weight", dim, dim, values));
    weights.push_back(Matrix(layer + "attention.wk.weight", kv, dim, values));
    weights.push_back(Matrix(layer + "attention.wv.weight", kv, dim, values));
    weights.push_back(Matrix(layer + "attention.wo.weight", dim, dim, values));
    weights.push_back(Matrix(layer + "feed_forward.w1.weight", ffn, dim, values));
    weights.push_back(Matrix(layer + "feed_forward.w2.weight", dim, ffn, values));
    weights.push_back(Matrix(layer + "feed_forward.w3.weight", ffn, dim, values));
    weights.push_back(NormVector(layer + "attention_norm.weight", dim, values));
    weights.push_back(NormVector(layer + "ffn_norm.weight", dim, values));
  }
  if (recipe.rope_freqs) weights.push_back(NormVector("rope.freqs", shape.head_dim() / 2, values));
  return weights;
}

std::vector<FileBytes> MakeCheckpoint(const CheckpointRecipe& recipe) {
  const auto extra = ExtraPieces(recipe.generation);
  std::vector<FileBytes> files;
  files.push_back({"params.json", Bytes(ParamsJson(recipe))});
  files.push_back({"tokenizer.model", HasTiktoken(recipe.generation) ? MakeTiktokenRanks(extra)
                                                                      : MakeSentencePieceModel(extra)});
  const std::vector<WholeTensor> weights = MakeWeights(recipe);
  for (uint32_t rank = 0; rank < recipe.n_shards; ++rank) {
    ShardBuilder shard(recipe, rank);
    for (const WholeTensor& tensor : weights) shard.Add(tensor);
    const std::string name =
        std::string("consolidated.") + (rank < 10 ? "0" : "") + std::to_string(rank);
    TorchFileStyle style = recipe.file;
    style.archive = name;
    files.push_back({name + ".pth", shard.Finish(style)});
  }
  return files;
}

void WriteFiles(const std::string& folder, const std::vector<FileBytes>& files) {
  std::filesystem::create_directories(folder);
  for (const FileBytes& file : files) {
    std::ofstream out(folder + "/" + file.name, std::ios::binary);
    out.write(reinterpret_cast<const char*>(file.bytes.data()),
              static_cast<std::streamsize>(file.bytes.size()));
    if (!out.flush()) throw std::runtime_error("cannot write " + folder + "/" + file.name);
  }
}

std::vector<uint8_t> MakeSentencePieceModel(const std::vector<std::string>& extra,
                                            bool with_bytes) {
  std::string model = Piece("<unk>", 0, 2) + Piece("<s>", 0, 3) + Piece("</s>", 0, 3);
  constexpr char kHex[] = "0123456789ABCDEF";
  for (int byte = 0; with_bytes && byte < 256; ++byte) {
    model += Piece(std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + ">", 0, 6);
  }
  float score = 0;
  for (const std::string& piece : extra) model += Piece(piece, score--, 1);
  const std::string trainer = NumberField(3, 2) + NumberField(25, 1) + NumberField(35, 1);
  const std::string normalizer = BytesField(1, "identity") + NumberField(3, 1) + NumberField(4, 0);
  return Bytes(model + BytesField(2, trainer) + BytesField(3, normalizer));
}

std::vector<uint8_t> MakeTiktokenRanks(const std::vector<std::string>& extra) {
  std::vector<std::string> tokens;
  const auto add_range = [&](int begin, int end) {
    for (int byte = begin; byte <= end; ++byte) {
      tokens.push_back(std::string(1, static_cast<char>(byte)));
    }
  };
  add_range(0x21, 0x7e);
  add_range(0xa1, 0xac);
  add_range(0xae, 0xff);
  add_range(0x00, 0x20);
  add_range(0x7f, 0xa0);
  add_range(0xad, 0xad);
  tokens.insert(tokens.end(), extra.begin(), extra.end());
  std::string text;
  for (size_t rank = 0; rank < tokens.size(); ++rank) {
    text += Base64(tokens[rank]) + " " + std::to_string(rank) + "\n";
  }
  return Bytes(text);
}

}  // namespace quern::testing
