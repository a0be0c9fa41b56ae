// quern_make_hf_folder CHECKPOINT TOKENIZER OUT [HEAD_DIM FACTOR]: writes a checkpoint, given in Meta's layout, into
// the folder OUT as Hugging Face's tools would: config.json, two shards of safetensors with their
// index, and the file TOKENIZER under its own name. TOKENIZER "json" is a tokenizer.json made of
// the checkpoint's vocabulary. With HEAD_DIM, heads are as wide as that, rows repeated or left out;
// positions are divided by FACTOR, unless it is 1.
// quern_make_hf_folder --fuzz-corpus OUT: writes the seeds of the harness hf_fuzz.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "converters/converters.h"
#include "converters/meta_checkpoint.h"
#include "formats/core/bytes.h"
#include "formats/core/file.h"
#include "tests/converters/hf_writer.h"

namespace quern::testing {
namespace {

// Gives the heads of a matrix of f32 another size, by rows (q, k, v) or by columns (o): element i of a
// head is what element i modulo the old size was. Sums over columns keep their size.
void ResizeHeads(SavedTensor& tensor, bool by_columns, uint64_t old_size, uint64_t new_size) {
  const uint64_t elem = tensor.bytes.size() / (tensor.shape[0] * tensor.shape[1]);
  const uint64_t inner = by_columns ? elem : tensor.shape[1] * elem;  // bytes of one element
  const uint64_t n_heads = tensor.bytes.size() / (old_size * inner);  // of all rows, if by columns
  std::vector<uint8_t> bytes(n_heads * new_size * inner);
  for (uint64_t head = 0; head < n_heads; ++head) {
    for (uint64_t i = 0; i < new_size; ++i) {
      std::memcpy(&bytes[(head * new_size + i) * inner],
                  &tensor.bytes[(head * old_size + i % old_size) * inner], inner);
    }
  }
  if (by_columns) {
    const float factor = static_cast<float>(old_size) / static_cast<float>(new_size);
    for (size_t at = 0; at < bytes.size(); at += sizeof(float)) {
      StoreLE(&bytes[at], LoadLE<float>(&bytes[at]) * factor);
    }
  }
  uint64_t& dim = tensor.shape[by_columns ? 1 : 0];
  dim = dim / old_size * new_size;
  tensor.bytes = std::move(bytes);
}

void MakeHfFolder(const std::string& checkpoint, const std::string& tokenizer,
                  const std::string& folder, uint64_t head_dim, const std::string& factor) {
  const auto model = OpenCheckpoint(checkpoint);
  std::vector<SavedTensor> tensors = HfTensorsOf(*model);
  std::string more;
  if (head_dim != 0) {
    more += ", \"head_dim\": " + std::to_string(head_dim);
    for (SavedTensor& tensor : tensors) {
      const bool is_output = tensor.name.ends_with("o_proj.weight");
      if (!is_output && tensor.name.find("self_attn.") == tensor.name.npos) continue;
      if (tensor.dtype != "F32") throw std::invalid_argument("HEAD_DIM needs weights in f32");
      ResizeHeads(tensor, is_output, model->manifest().spec->head_dim, head_dim);
    }
  }
  if (factor != "1") more += ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": " + factor + "}";
  std::vector<FileBytes> files = SaveWeights(tensors, {.n_shards = 2});
  files.push_back(TextFileBytes("config.json", HfConfigOf(*model, more)));
  if (tokenizer == "json") {
    files.push_back(TextFileBytes("tokenizer.json", TokenizerJsonOf(model->manifest().tokenizer)));
  } else {
    files.push_back(TextFileBytes(std::filesystem::path(tokenizer).filename().string(),
                                  ReadWholeFile(tokenizer, 1u << 26)));
  }
  WriteFiles(folder, files);
}

// The parts of a seed of hf_fuzz, in its order; then come the files of weights.
constexpr std::array<std::string_view, 8> kSeedParts = {
    "config.json",           "tokenizer.model",         "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "generation_config.json", "model.safetensors.index.json"};

void AddPart(const std::vector<uint8_t>& bytes, std::vector<uint8_t>& seed) {
  for (int shift = 0; shift < 32; shift += 8) {
    seed.push_back(static_cast<uint8_t>(bytes.size() >> shift));
  }
  seed.insert(seed.end(), bytes.begin(), bytes.end());
}

// Returns the files behind their lengths, as hf_fuzz cuts them; there shard 1 is "w1.safetensors".
std::vector<uint8_t> FuzzSeed(const std::vector<FileBytes>& files) {
  std::vector<uint8_t> seed = {0};
  for (const std::string_view name : kSeedParts) {
    const auto file = std::ranges::find(files, name, &FileBytes::name);
    if (file == files.end()) {
      AddPart({}, seed);
      continue;
    }
    std::string text(file->bytes.begin(), file->bytes.end());
    for (const std::string shard : {"1", "2"}) {
      const std::string old_name = "model-0000" + shard + "-of-00002";
      for (size_t at; (at = text.find(old_name)) != text.npos;) {
        text.replace(at, old_name.size(), "w" + shard);
      }
    }
    AddPart({text.begin(), text.end()}, seed);
  }
  for (const FileBytes& file : files) {
    if (file.name.ends_with(".safetensors")) AddPart(file.bytes, seed);
  }
  return seed;
}

// Gives matrices 8 bits and one factor each.
void MakeFloat8(std::vector<SavedTensor>& tensors) {
  const size_t n = tensors.size();
  for (size_t i = 0; i < n; ++i) {
    SavedTensor& tensor = tensors[i];
    if (tensor.name.find("_proj") == tensor.name.npos) continue;
    tensor.bytes.assign(tensor.shape[0] * tensor.shape[1], 0x31);
    tensor.dtype = "F8_E4M3";
    tensors.push_back({tensor.name + "_scale", "F32", {1}, {0, 0, 0, 0x3f}});
  }
}

void WriteFuzzCorpus(const std::string& folder) {
  CheckpointRecipe tiny;
  tiny.shape = {.dim = 8, .n_layers = 1, .n_heads = 4, .n_kv_heads = 2, .multiple_of = 4,
                .ffn_dim_multiplier = 0.5, .vocab_size = 0};
  std::vector<FileBytes> seeds;
  const auto add = [&](const std::string& name, uint32_t n_shards, bool as_json, bool is_float8,
                       const std::string& more, std::vector<FileBytes> side_files = {}) {
    const auto made = MakeCheckpoint(tiny);
    MetaFiles meta;
    std::vector<uint8_t> vocabulary;
    for (const FileBytes& file : made) {
      if (file.name == "params.json") meta.params_text = {file.bytes.begin(), file.bytes.end()};
      if (file.name.ends_with(".pth")) {
        meta.shards.push_back(std::make_shared<MemoryBytes>(file.bytes, file.name));
      }
      if (file.name == "tokenizer.model") vocabulary = file.bytes;
    }
    meta.tokenizer_bytes = {vocabulary.begin(), vocabulary.end()};
    const auto model = OpenMetaFiles(std::move(meta), {});
    std::vector<SavedTensor> tensors = HfTensorsOf(*model);
    if (is_float8) MakeFloat8(tensors);
    std::vector<FileBytes> files = SaveWeights(tensors, {.n_shards = n_shards});
    std::ranges::move(side_files, std::back_inserter(files));
    files.push_back(TextFileBytes("config.json", HfConfigOf(*model, more)));
    if (as_json) {
      const std::string text = TokenizerJsonOf(model->manifest().tokenizer);
      files.push_back(TextFileBytes("tokenizer.json", text));
    } else {
      files.push_back({"tokenizer.model", vocabulary});
    }
    seeds.push_back({name, FuzzSeed(files)});
  };
  add("spm", 1, false, false, "");
  add("spm-json-shards", 2, true, false, R"(, "rope_scaling": {"type": "linear", "factor": 2.0})");
  add("float8", 1, false, true, R"(, "quantization_config": {"quant_method": "fbgemm_fp8"})");
  tiny.shape.vocab_size = 513;
  add("special", 1, false, false, R"(, "bos_token_id": 1, "eos_token_id": [2, 7])",
      {TextFileBytes("added_tokens.json", R"({"[PAD]": 512})"),
       TextFileBytes("special_tokens_map.json", R"({"pad_token": {"content": "[PAD]"}})"),
       TextFileBytes("tokenizer_config.json",
                     R"({"bos_token": "<s>", "add_bos_token": true, "chat_template": "{{ m }}",)"
                     R"("added_tokens_decoder": {"0": {"content": "<unk>", "special": true}}})"),
       TextFileBytes("generation_config.json", R"({"eos_token_id": [2, 8], "pad_token_id": 0})")});
  tiny.shape.vocab_size = 0;
  tiny.generation = Generation::kLlama32Tied;
  add("llama3", 1, true, false,
      R"(, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,)"
      R"("high_freq_factor": 4.0, "original_max_position_embeddings": 8192})");
  WriteFiles(folder, seeds);
}

}  // namespace
}  // namespace quern::testing

int main(int argc, char** argv) {
  const bool is_corpus = argc == 3 && std::string_view(argv[1]) == "--fuzz-corpus";
  if (!is_corpus && argc != 4 && argc != 6) return 2;
  try {
    if (is_corpus) {
      quern::testing::WriteFuzzCorpus(argv[2]);
      return 0;
    }
    quern::testing::MakeHfFolder(argv[1], argv[2], argv[3],
                                 argc == 6 ? std::strtoull(argv[4], nullptr, 10) : 0,
                                 argc == 6 ? argv[5] : "1");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "quern_make_hf_folder: %s\n", e.what());
    return 1;
  }
  return 0;
}
