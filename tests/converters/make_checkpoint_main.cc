// quern_make_checkpoint OUT [GENERATION [SHARDS [DTYPE [STORAGE]]]]: writes a small checkpoint in Meta's
// layout into the folder OUT, for shell tests and the checks against other programs.
// quern_make_checkpoint --fuzz-corpus OUT: writes the seeds of the harness convert_fuzz.
#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string_view>

#include "tests/converters/make_checkpoint.h"

namespace quern::testing {
namespace {

constexpr std::array<std::string_view, 6> kGenerations = {"llama1", "llama2",  "codellama",
                                                          "llama3", "llama31", "llama32tied"};
constexpr std::array<std::string_view, 4> kStorages = {"own", "shared", "transposed", "padded"};

template <size_t N>
size_t IndexIn(const std::array<std::string_view, N>& names, std::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) throw std::invalid_argument("unknown word " + std::string(name));
  return static_cast<size_t>(found - names.begin());
}

// Returns params.json, vocabulary and shards behind their lengths, as convert_fuzz cuts them.
std::vector<uint8_t> FuzzSeed(const CheckpointRecipe& recipe, const std::vector<uint8_t>& vocabulary,
                              uint8_t flags) {
  std::vector<uint8_t> seed = {flags};
  for (FileBytes& file : MakeCheckpoint(recipe)) {
    const auto& bytes = file.name == "tokenizer.model" ? vocabulary : file.bytes;
    for (int shift = 0; shift < 32; shift += 8) {
      seed.push_back(static_cast<uint8_t>(bytes.size() >> shift));
    }
    seed.insert(seed.end(), bytes.begin(), bytes.end());
  }
  return seed;
}

void WriteFuzzCorpus(const std::string& folder) {
  CheckpointRecipe tiny;
  tiny.shape = {.dim = 8, .n_layers = 1, .n_heads = 4, .n_kv_heads = 2, .multiple_of = 4,
                .ffn_dim_multiplier = 0.5, .vocab_size = 8};
  const auto pieces = MakeSentencePieceModel({"a", "b"}, false);
  std::vector<FileBytes> seeds;
  for (const uint32_t n_shards : {1u, 2u}) {
    for (size_t storage = 0; storage < kStorages.size(); ++storage) {
      tiny.n_shards = n_shards;
      tiny.storage = static_cast<StorageStyle>(storage);
      tiny.mixed_dtypes = storage % 2 == 1;
      tiny.rope_freqs = storage == 0;
      seeds.push_back({"spm-" + std::string(kStorages[storage]) + "-" + std::to_string(n_shards),
                       FuzzSeed(tiny, pieces, static_cast<uint8_t>(storage & 1))});
    }
  }
  tiny.file.wrapper = "model";
  tiny.file.prefix = "_orig_mod.";
  seeds.push_back({"wrapped", FuzzSeed(tiny, pieces, 2)});
  tiny.file = {};
  tiny.n_shards = 1;
  tiny.generation = Generation::kLlama32Tied;
  seeds.push_back({"scaled-tied", FuzzSeed(tiny, pieces, 0)});
  tiny.shape.vocab_size = 520;
  tiny.shape.dim = 4;
  tiny.shape.n_heads = 2;
  seeds.push_back({"tiktoken", FuzzSeed(tiny, MakeTiktokenRanks({"ab", "abc"}), 0)});
  WriteFiles(folder, seeds);
}

void Run(int argc, char** argv) {
  const auto word = [&](int i, const char* fallback) { return argc > i ? argv[i] : fallback; };
  if (argc == 3 && std::string_view(argv[1]) == "--fuzz-corpus") return WriteFuzzCorpus(argv[2]);
  if (argc < 2) {
    throw std::invalid_argument("usage: quern_make_checkpoint OUT [llama1|llama2|codellama|llama3|"
                                "llama31|llama32tied [SHARDS [f32|f16|bf16 [own|shared|transposed|"
                                "padded]]]]");
  }
  CheckpointRecipe recipe;
  recipe.shape = {.dim = 256, .n_layers = 2, .n_heads = 16, .n_kv_heads = 16, .multiple_of = 256,
                  .ffn_dim_multiplier = 0, .vocab_size = 0};
  recipe.generation = static_cast<Generation>(IndexIn(kGenerations, word(2, "llama2")));
  if (recipe.generation >= Generation::kLlama3) {  // as the releases: grouped heads, wider layers
    recipe.shape.n_heads = 32;
    recipe.shape.ffn_dim_multiplier = 1.3;
  }
  recipe.n_shards = static_cast<uint32_t>(std::stoul(word(3, "1")));
  recipe.dtype = DTypeFromName(word(4, "bf16")).value();
  recipe.storage = static_cast<StorageStyle>(IndexIn(kStorages, word(5, "own")));
  WriteFiles(argv[1], MakeCheckpoint(recipe));
}

}  // namespace
}  // namespace quern::testing

int main(int argc, char** argv) {
  try {
    quern::testing::Run(argc, argv);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "quern_make_checkpoint: %s\n", error.what());
    return 2;
  }
}
