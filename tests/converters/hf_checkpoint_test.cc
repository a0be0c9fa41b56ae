#include "converters/hf_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <fstream>

#include "converters/float8.h"
#include "converters/params_json.h"
#include "formats/core/half.h"
#include "formats/gguf_metadata.h"
#include "tests/converters/hf_writer.h"
#include "tests/converters/test_support.h"

namespace quern {
namespace {

using testing::Caught;
using testing::ExpectError;
using testing::FileBytes;
using testing::GgufBytes;
using testing::HfConfigOf;
using testing::HfStyle;
using testing::HfTensorsOf;
using testing::SavedTensor;
using testing::SaveWeights;
using testing::TempFolder;

const std::string kData = QUERN_SOURCE_DIR "/tests/data/";

std::string Text(const std::string& path) { return ReadWholeFile(path, 1u << 26); }

// Writes a model that lies in Meta's layout as a Hugging Face folder.
void SaveAsHf(const std::string& meta, const std::string& folder, const HfStyle& style = {},
              const std::string& more = "") {
  const auto model = OpenCheckpoint(meta);
  std::vector<FileBytes> files = SaveWeights(HfTensorsOf(*model), style);
  files.push_back(testing::TextFileBytes("config.json", HfConfigOf(*model, more)));
  files.push_back(testing::TextFileBytes("tokenizer.model", Text(meta + "/tokenizer.model")));
  testing::WriteFiles(folder, files);
}

void Put(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

TEST(HfCheckpoint, TheFixtureGivesTheSameBytesAsInMetasLayout) {
  const std::string meta = kData + "fixture/meta-2";
  const auto expected = GgufBytes(*OpenCheckpoint(meta));
  for (const HfStyle style : {HfStyle{}, HfStyle{.torch = true}, HfStyle{.n_shards = 3},
                              HfStyle{.torch = true, .n_shards = 2}}) {
    const TempFolder folder;
    SaveAsHf(meta, folder.path(), style);
    EXPECT_TRUE(CheckCheckpoint(folder.path()).empty());
    EXPECT_EQ(GgufBytes(*OpenCheckpoint(folder.path())), expected)
        << style.torch << " " << style.n_shards;
  }
}

// The Meta folder of this model does not say its context length.
TEST(HfCheckpoint, StoriesGiveTheSameBytesAsInMetasLayout) {
  const auto expected = GgufBytes(*OpenCheckpoint(kData + "stories260K/meta-f32",
                                                  {.context_length = 512, .name = ""}));
  EXPECT_EQ(GgufBytes(*OpenCheckpoint(kData + "stories260K/hf")), expected);
  const TempFolder folder;  // without the safetensors, the .bin is read
  for (const char* file : {"config.json", "tokenizer.model", "pytorch_model.bin"}) {
    Put(folder / file, Text(kData + "stories260K/hf/" + file));
  }
  EXPECT_EQ(GgufBytes(*OpenCheckpoint(folder.path())), expected);
}

TEST(HfCheckpoint, RowsDoNotDependOnHowManyAreAskedFor) {
  const auto model = OpenCheckpoint(kData + "stories260K/hf");
  const auto meta = OpenCheckpoint(kData + "stories260K/meta-f32");
  for (size_t i = 0; i < model->manifest().tensors.size(); ++i) {
    const auto expected = testing::ReadAll(*meta, i, 1u << 20);
    for (const uint64_t rows : {1u, 2u, 3u, 5u, 8u, 13u, 64u}) {
      ASSERT_EQ(testing::ReadAll(*model, i, rows), expected)
          << model->manifest().tensors[i].name << " " << rows;
    }
  }
}

TEST(HfCheckpoint, PlacesAreThoseOfTheFile) {
  const std::string path = kData + "stories260K/hf/model.safetensors";
  const auto model = OpenCheckpoint(kData + "stories260K/hf");
  const std::string file = Text(path);
  for (size_t i = 0; i < model->manifest().tensors.size(); ++i) {
    const TensorInfo& info = model->manifest().tensors[i];
    const auto bytes = testing::ReadAll(*model, i, 64);
    for (uint64_t row = 0; row < info.rows(); row += 3) {
      const StoredPlace place = model->PlaceOf(i, row, 5);
      EXPECT_EQ(place.file, path);
      ASSERT_TRUE(place.byte_offset.has_value());
      EXPECT_EQ(std::memcmp(&bytes[row * info.row_bytes() + 20], &file[*place.byte_offset], 4), 0);
    }
  }
}

// All generations, with every feature of their configurations, beside Meta's files of the same
// model.
TEST(HfCheckpoint, GenerationsGiveTheSameBytes) {
  using testing::Generation;
  struct Case {
    Generation generation;
    const char* more;
  };
  const char* const kLlama3Rope =
      R"(, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})";
  for (const Case& c :
       {Case{Generation::kLlama1, ""}, Case{Generation::kLlama2, ""},
        Case{Generation::kCodeLlama, ""}, Case{Generation::kLlama3, ""},
        Case{Generation::kLlama31, kLlama3Rope}, Case{Generation::kLlama32Tied, kLlama3Rope}}) {
    testing::CheckpointRecipe recipe;
    recipe.generation = c.generation;
    recipe.n_shards = 2;
    recipe.shape.n_kv_heads = 8;
    const TempFolder meta, hf;
    testing::WriteFiles(meta.path(), testing::MakeCheckpoint(recipe));
    SaveAsHf(meta.path(), hf.path(), {.n_shards = 2}, c.more);
    const CheckpointOptions options{.context_length = 256, .name = "x"};
    const auto expected = OpenCheckpoint(meta.path(), options);
    const auto found = OpenCheckpoint(hf.path(), options);
    EXPECT_EQ(found->manifest().spec, expected->manifest().spec);
    EXPECT_EQ(found->manifest().tensors, expected->manifest().tensors);
    // Names of special tokens in a tiktoken file are a matter of the layout.
    if (c.generation == Generation::kLlama3) continue;
    EXPECT_EQ(GgufBytes(*found), GgufBytes(*expected)) << static_cast<int>(c.generation);
  }
}

TEST(HfCheckpoint, Float8IsWidenedByItsScales) {
  const std::string meta = kData + "stories260K/meta-f32";
  const auto model = OpenCheckpoint(meta);
  struct Case {
    std::string config;
    std::vector<uint64_t> (*scales)(uint64_t rows, uint64_t cols);
    const char* suffix;
    uint64_t rows, cols;  // that share a scale; 0: all
  };
  const Case cases[] = {
      {R"({"quant_method": "fbgemm_fp8"})",
       [](uint64_t rows, uint64_t) {
         return std::vector<uint64_t>{rows, 1};
       },
       "_scale", 1, 0},
      {R"({"quant_method": "compressed-tensors", "format": "float-quantized"})",
       [](uint64_t, uint64_t) { return std::vector<uint64_t>{1}; }, "_scale", 0, 0},
      {R"({"quant_method": "fp8", "weight_block_size": [16, 24]})",
       [](uint64_t rows, uint64_t cols) {
         return std::vector<uint64_t>{(rows + 15) / 16, (cols + 23) / 24};
       },
       "_scale_inv", 16, 24},
  };
  for (const Case& c : cases) {
    std::vector<SavedTensor> tensors;
    std::vector<std::vector<uint8_t>> codes;
    for (const SavedTensor& tensor : HfTensorsOf(*model)) {
      tensors.push_back(tensor);
      if (tensor.name.find("_proj") == std::string::npos) continue;
      SavedTensor& weight = tensors.back();
      weight.dtype = "F8_E4M3";
      for (size_t i = 0; i < weight.bytes.size() / 4; ++i) {
        weight.bytes[i] = static_cast<uint8_t>((i * 37 + tensor.name.size()) % 126);
      }
      weight.bytes.resize(weight.bytes.size() / 4);
      SavedTensor scales{
          tensor.name + c.suffix, "BF16", c.scales(tensor.shape[0], tensor.shape[1]), {}};
      uint64_t n = 1;
      for (const uint64_t dim : scales.shape) n *= dim;
      for (uint64_t i = 0; i < n; ++i) {
        const uint16_t half = F32ToBF16(0.5f + static_cast<float>(i));
        scales.bytes.push_back(static_cast<uint8_t>(half));
        scales.bytes.push_back(static_cast<uint8_t>(half >> 8));
      }
      tensors.push_back(std::move(scales));
    }
    const TempFolder folder;
    auto files = SaveWeights(tensors, {});
    files.push_back(testing::TextFileBytes(
        "config.json", HfConfigOf(*model, ", \"quantization_config\": " + c.config)));
    files.push_back(testing::TextFileBytes("tokenizer.model", Text(meta + "/tokenizer.model")));
    testing::WriteFiles(folder.path(), files);
    const auto opened = OpenCheckpoint(folder.path());
    size_t n_checked = 0;
    for (size_t t = 0; t < opened->manifest().tensors.size(); ++t) {
      const TensorInfo& info = opened->manifest().tensors[t];
      if (info.role != TensorRole::kFfnDown && info.role != TensorRole::kAttnK) continue;
      EXPECT_EQ(info.dtype, DType::kF32);
      const std::string stem =
          info.role == TensorRole::kAttnK ? "self_attn.k_proj" : "mlp.down_proj";
      const std::string name =
          "model.layers." + std::to_string(*info.layer) + "." + stem + ".weight";
      const auto rows = testing::ReadAll(*opened, t, 7);
      for (uint64_t row = 0; row < info.rows(); ++row) {
        for (uint64_t col = 0; col < info.cols(); ++col) {
          uint64_t stored = row;  // of 8 rows of a head, 0 2 4 6 lie before 1 3 5 7
          if (info.role == TensorRole::kAttnK) stored = row / 8 * 8 + row % 2 * 4 + row % 8 / 2;
          const uint64_t run = c.rows == 0 ? 0 : stored / c.rows;
          const uint64_t scale = c.cols == 0 ? run : run * ((info.cols() + 23) / 24) + col / 24;
          const auto code =
              static_cast<uint8_t>(((stored * info.cols() + col) * 37 + name.size()) % 126);
          const float expected = E4M3ToF32(code) * (0.5f + static_cast<float>(scale));
          ASSERT_EQ(LoadLE<float>(&rows[(row * info.cols() + col) * 4]),
                    BF16ToF32(F32ToBF16(0.5f + static_cast<float>(scale))) * E4M3ToF32(code))
              << expected;
        }
      }
      ++n_checked;
    }
    EXPECT_EQ(n_checked, 10u);
    // Without a word on the scales they are refused.
    Put(folder / "config.json", HfConfigOf(*model));
    ExpectError(Caught([&] { OpenCheckpoint(folder.path()); }), ErrorCode::kUnsupported, "hf.dtype",
                {"F8_E4M3", "quantization_config"});
  }
}

TEST(Float8, ValuesAreThoseOfTheStandard) {
  EXPECT_EQ(E4M3ToF32(0x00), 0.0f);
  EXPECT_EQ(E4M3ToF32(0x01), 0x1p-9f);
  EXPECT_EQ(E4M3ToF32(0x07), 0x1.cp-7f);
  EXPECT_EQ(E4M3ToF32(0x08), 0x1p-6f);
  EXPECT_EQ(E4M3ToF32(0x38), 1.0f);
  EXPECT_EQ(E4M3ToF32(0x7e), 448.0f);
  EXPECT_EQ(E4M3ToF32(0xfe), -448.0f);
  EXPECT_TRUE(E4M3ToF32(0x7f) != E4M3ToF32(0x7f));
  EXPECT_EQ(E5M2ToF32(0x3c), 1.0f);
  EXPECT_EQ(E5M2ToF32(0x7b), 57344.0f);
  EXPECT_EQ(E5M2ToF32(0x81), -0x1p-16f);
}

// A vocabulary that was made larger, a template: what derivatives do.
TEST(HfCheckpoint, ResizedVocabulariesAndTemplates) {
  const TempFolder folder;
  const auto model = OpenCheckpoint(kData + "stories260K/hf");
  auto tensors = HfTensorsOf(*model);
  SavedTensor& embedding = tensors.front();
  ASSERT_EQ(embedding.name, "model.embed_tokens.weight");
  embedding.shape[0] += 2;
  embedding.bytes.resize(embedding.bytes.size() + 2 * 256);
  auto files = SaveWeights(tensors, {});
  files.push_back(testing::TextFileBytes("config.json", HfConfigOf(*model)));
  files.push_back(
      testing::TextFileBytes("tokenizer.model", Text(kData + "stories260K/hf/tokenizer.model")));
  files.push_back(testing::TextFileBytes("added_tokens.json", R"({"[PAD]": 512})"));
  files.push_back(testing::TextFileBytes(
      "tokenizer_config.json",
      R"({"pad_token": "[PAD]", "bos_token": {"content": "<s>"}, "eos_token": "",
          "added_tokens_decoder": {"0": {"content": "<unk>", "special": true}},
          "chat_template": [{"name": "tool_use", "template": "no"},
                            {"name": "default", "template": "{{ messages }}"}]})"));
  testing::WriteFiles(folder.path(), files);
  const auto opened = OpenCheckpoint(folder.path());
  const Tokenizer& t = opened->manifest().tokenizer;
  ASSERT_EQ(t.tokens.size(), 514u);
  EXPECT_EQ(opened->manifest().spec->vocab_size, 514u);
  EXPECT_EQ(t.tokens[512], "[PAD]");
  EXPECT_EQ(t.types[512], TokenType::kControl);  // it has a name, so it is no text
  EXPECT_EQ(t.tokens[513], "[PAD513]");
  EXPECT_EQ(t.types[513], TokenType::kUnused);
  EXPECT_EQ(t.types[0], TokenType::kUnknown);
  EXPECT_EQ(t.pad_id, 512u);
  EXPECT_EQ(t.eos_id, 2u);
  EXPECT_EQ(t.chat_template, "{{ messages }}");
  Put(folder / "chat_template.jinja", "{% x %}");
  EXPECT_EQ(OpenCheckpoint(folder.path())->manifest().tokenizer.chat_template, "{% x %}");
}

// A folder of stories260K with `n_more` rows behind the vocabulary's 512, and these side files.
Tokenizer TokenizerWith(uint64_t n_more, const std::vector<std::pair<std::string, std::string>>& side,
                        std::vector<std::string>* warnings = nullptr) {
  const TempFolder folder;
  const auto model = OpenCheckpoint(kData + "stories260K/hf");
  auto tensors = HfTensorsOf(*model);
  tensors.front().shape[0] += n_more;
  tensors.front().bytes.resize(tensors.front().bytes.size() + n_more * 256);
  testing::WriteFiles(folder.path(), SaveWeights(tensors, {}));
  Put(folder / "config.json", HfConfigOf(*model));
  Put(folder / "tokenizer.model", Text(kData + "stories260K/hf/tokenizer.model"));
  for (const auto& [name, text] : side) Put(folder / name, text);
  if (warnings != nullptr) {
    for (const Finding& finding : CheckCheckpoint(folder.path())) {
      EXPECT_NE(finding.severity, Finding::Severity::kError) << finding.line;
      warnings->push_back(finding.line);
    }
  }
  return OpenCheckpoint(folder.path())->manifest().tokenizer;
}

// tokenizer.model: unknown 0, begin 1, end 2. Each of the four kinds of files, alone and against the
// others.
TEST(HfTokenizer, WhoSaysWhichTokensAreSpecial) {
  const auto config = [&](const std::string& members) {
    return std::pair<std::string, std::string>(
        "config.json",
        HfConfigOf(*OpenCheckpoint(kData + "stories260K/hf"), ", " + members));
  };
  using Side = std::pair<std::string, std::string>;
  const Side texts = {"tokenizer_config.json", R"({"eos_token": "<0x10>", "bos_token": null})"};
  const Side map = {"special_tokens_map.json", R"({"eos_token": {"content": "<0x11>"}})"};
  const Side generation = {"generation_config.json", R"({"eos_token_id": [21, 22, 23]})"};
  const Side numbers = config(R"("eos_token_id": [24, 25], "pad_token_id": 26)");
  const auto eos = [&](const std::vector<Side>& side) { return TokenizerWith(0, side).eos_id; };
  EXPECT_EQ(eos({}), 2u);
  EXPECT_EQ(eos({numbers}), 24u);
  EXPECT_EQ(eos({numbers, generation}), 21u);
  EXPECT_EQ(eos({numbers, generation, map}), 3u + 0x11);
  EXPECT_EQ(eos({numbers, generation, map, texts}), 3u + 0x10);
  // Further ends of generation are those of a turn and of a message.
  Tokenizer t = TokenizerWith(0, {generation});
  EXPECT_EQ(t.eot_id, 22u);
  EXPECT_EQ(t.eom_id, 23u);
  t = TokenizerWith(0, {generation, texts});
  EXPECT_EQ(t.eot_id, 21u);
  EXPECT_EQ(t.eom_id, 22u);
  t = TokenizerWith(0, {numbers});
  EXPECT_EQ(t.eot_id, 25u);
  EXPECT_EQ(t.pad_id, 26u);
  // A copy of config.json adds nothing to it.
  t = TokenizerWith(0, {numbers, {"generation_config.json",
                                  R"({"_from_model_config": true, "eos_token_id": 30})"}});
  EXPECT_EQ(t.eos_id, 24u);
  EXPECT_EQ(t.eot_id, 25u);
  // An id of no token is left out, aloud.
  std::vector<std::string> warnings;
  t = TokenizerWith(0, {config(R"("eos_token_id": 5000)")}, &warnings);
  EXPECT_EQ(t.eos_id, 2u);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("eos_token_id"), std::string::npos) << warnings[0];
  EXPECT_NE(warnings[0].find("token 5000"), std::string::npos) << warnings[0];
}

// The first conversions of LLaMA and the models made of them: the end as the beginning, ids counted
// from another place.
TEST(HfTokenizer, TheVocabularyIsNotContradicted) {
  std::vector<std::string> warnings;
  const auto side = [](const char* config) {
    return std::vector<std::pair<std::string, std::string>>{
        {"special_tokens_map.json",
         R"({"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "[PAD]"})"},
        {"tokenizer_config.json", R"({"bos_token": "", "eos_token": "", "unk_token": ""})"},
        {"added_tokens.json", R"({"[PAD]": 512})"},
        {"generation_config.json", config}};
  };
  const Tokenizer t =
      TokenizerWith(1, side(R"({"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0})"),
                    &warnings);
  EXPECT_EQ(t.bos_id, 1u);
  EXPECT_EQ(t.eos_id, 2u);
  EXPECT_EQ(t.unk_id, 0u);
  EXPECT_EQ(t.pad_id, 512u);
  EXPECT_EQ(t.types[512], TokenType::kControl);
  EXPECT_FALSE(t.eot_id.has_value());
  EXPECT_EQ(warnings.size(), 5u);  // and one on config.json's vocab_size
}

TEST(HfTokenizer, TokensWithANameAreNoText) {
  const std::pair<std::string, std::string> added = {
      "added_tokens.json", R"({"[PAD]": 512, "<tool>": 513, "<more>": 514})"};
  Tokenizer t = TokenizerWith(3, {added});
  EXPECT_EQ(t.types[512], TokenType::kUserDefined);
  for (const char* file : {"tokenizer_config.json", "special_tokens_map.json"}) {
    t = TokenizerWith(3, {added, {file, R"({"pad_token": {"content": "[PAD]"},
                                            "additional_special_tokens": ["<tool>"]})"}});
    EXPECT_EQ(t.types[512], TokenType::kControl);
    EXPECT_EQ(t.types[513], TokenType::kControl);
    EXPECT_EQ(t.types[514], TokenType::kUserDefined);
    EXPECT_EQ(t.pad_id, 512u);
  }
}

// A token that the vocabulary got after the embedding was trained has no row.
TEST(HfTokenizer, AddedTokensBehindTheLastRowAreLeftOut) {
  std::vector<std::string> warnings;
  const Tokenizer t = TokenizerWith(
      1,
      {{"added_tokens.json", R"({"<a>": 512, "[PAD]": 513, "<b>": 514})"},
       {"special_tokens_map.json", R"({"pad_token": "[PAD]"})"}},
      &warnings);
  ASSERT_EQ(t.tokens.size(), 513u);
  EXPECT_EQ(t.tokens[512], "<a>");
  EXPECT_EQ(t.types.size(), 513u);
  EXPECT_EQ(t.scores.size(), 513u);
  EXPECT_FALSE(t.pad_id.has_value());
  ASSERT_EQ(warnings.size(), 2u);  // the other one is on config.json's vocab_size
  for (const char* word : {"'[PAD]', '<b>'", "513"}) {
    EXPECT_NE(warnings[1].find(word), std::string::npos) << warnings[1];
  }
}

// What can be wrong with a folder. Each case changes one file of a sound folder of three shards.
struct FaultCase {
  const char* name;
  void (*damage)(const TempFolder& folder);
  ErrorCode code;
  const char* id;
  std::vector<std::string> words;
};
void PrintTo(const FaultCase& c, std::ostream* out) { *out << c.name; }

void Replace(const std::string& path, const std::string& what, const std::string& by) {
  std::string text = Text(path);
  const size_t at = text.find(what);
  ASSERT_NE(at, std::string::npos) << what;
  Put(path, text.replace(at, what.size(), by));
}

using std::string_literals::operator""s;

std::vector<uint8_t> Zeros(size_t n) { return std::vector<uint8_t>(n); }
std::string AsString(const std::vector<uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }

constexpr char kIndex[] = "model.safetensors.index.json";
constexpr char kShard2[] = "model-00002-of-00003.safetensors";

class HfFaults : public ::testing::TestWithParam<FaultCase> {};

TEST_P(HfFaults, AreNamed) {
  const FaultCase& c = GetParam();
  const TempFolder folder;
  SaveAsHf(kData + "stories260K/meta-f32", folder.path(), {.n_shards = 3});
  c.damage(folder);
  const Error error = Caught([&] { OpenCheckpoint(folder.path()); });
  ExpectError(error, c.code, c.id, c.words);
  EXPECT_FALSE(CheckCheckpoint(folder.path()).empty());
  if (std::getenv("QUERN_SHOW_MESSAGES") != nullptr) printf("%s\n", error.what());
}

INSTANTIATE_TEST_SUITE_P(
    All, HfFaults,
    ::testing::Values(
        FaultCase{"MissingShard",
                  [](const TempFolder& f) { std::remove((f / kShard2).c_str()); },
                  ErrorCode::kData,
                  "index.shard-missing",
                  {kIndex, kShard2, "2 of 3"}},
        FaultCase{"LfsPointer",
                  [](const TempFolder& f) {
                    Put(f / kShard2, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
                  },
                  ErrorCode::kData,
                  "input.lfs-pointer",
                  {kShard2}},
        FaultCase{"LfsConfig",
                  [](const TempFolder& f) {
                    Put(f / "config.json", "version https://git-lfs.github.com/spec/v1\n");
                  },
                  ErrorCode::kData,
                  "input.lfs-pointer",
                  {"config.json"}},
        FaultCase{"TensorInAnotherShard",
                  [](const TempFolder& f) {
                    Replace(f / kIndex, "model.norm.weight\":\"model-00003",
                            "model.norm.weight\":\"model-00001");
                  },
                  ErrorCode::kData,
                  "index.tensor-missing",
                  {kIndex, "model.norm.weight", "model-00003", "model-00001"}},
        FaultCase{"TensorNowhere",
                  [](const TempFolder& f) {
                    Replace(f / kIndex, "\"model.norm.weight\"", "\"model.norm.height\"");
                  },
                  ErrorCode::kData,
                  "index.tensor-missing",
                  {kIndex, "model.norm.height"}},
        FaultCase{"DuplicateTensor",
                  [](const TempFolder& f) {
                    Put(f / "model-00001-of-00003.safetensors", Text(f / kShard2));
                  },
                  ErrorCode::kData,
                  "hf.duplicate-tensor",
                  {kShard2, "also in"}},
        FaultCase{
            "ShardElsewhere",
            [](const TempFolder& f) { Replace(f / kIndex, kShard2, "../" + std::string(kShard2)); },
            ErrorCode::kData,
            "index.path",
            {kIndex, "../"}},
        FaultCase{"IndexWithoutMap",
                  [](const TempFolder& f) { Put(f / kIndex, "{}"); },
                  ErrorCode::kData,
                  "config.value",
                  {kIndex, "weight_map"}},
        FaultCase{"GptqWithoutAWord",
                  [](const TempFolder& f) {
                    const std::string name = "model.layers.0.self_attn.q_proj.qweight";
                    Put(f / kShard2,
                        AsString(testing::WriteSafetensors({{name, "I32", {2}, Zeros(8)}})));
                  },
                  ErrorCode::kUnsupported,
                  "hf.feature",
                  {kShard2, "qweight", "GPTQ"}},
        FaultCase{"UnderTwoNames",
                  [](const TempFolder& f) {
                    Put(f / kShard2,
                        AsString(testing::WriteSafetensors({{"model.norm.weight", "F32", {1}, Zeros(4)},
                                                            {"norm.weight", "F32", {1}, Zeros(4)}})));
                  },
                  ErrorCode::kData,
                  "hf.duplicate-tensor",
                  {kShard2, "under two names", "'norm.weight'", "also as 'model.norm.weight'"}},
        FaultCase{"OnlyABadConfig",
                  [](const TempFolder& f) {
                    std::remove((f / kIndex).c_str());
                    Put(f / "config.json", "{\"model_type\": \"llama\"}\0{}"s);
                  },
                  ErrorCode::kData,
                  "json.syntax",
                  {"config.json", "byte offset 23"}},
        FaultCase{"NoConfig",
                  [](const TempFolder& f) { std::remove((f / "config.json").c_str()); },
                  ErrorCode::kData,
                  "hf.config-missing",
                  {"config.json"}},
        FaultCase{"NoTokenizer",
                  [](const TempFolder& f) { std::remove((f / "tokenizer.model").c_str()); },
                  ErrorCode::kData,
                  "hf.tokenizer-missing",
                  {"tokenizer.json"}},
        FaultCase{"NoWeights",
                  [](const TempFolder& f) { std::remove((f / kIndex).c_str()); },
                  ErrorCode::kData,
                  "hf.weights-missing",
                  {"model.safetensors"}},
        FaultCase{"WrongShape",
                  [](const TempFolder& f) {
                    Replace(f / "config.json", "\"intermediate_size\": 172",
                            "\"intermediate_size\": 171");
                  },
                  ErrorCode::kData,
                  "hf.tensor-shape",
                  {"[172, 64]", "[171, 64]", "config.json"}},
        FaultCase{"MissingLayer",
                  [](const TempFolder& f) {
                    Replace(f / "config.json", "\"num_hidden_layers\": 5",
                            "\"num_hidden_layers\": 6");
                  },
                  ErrorCode::kData,
                  "hf.tensor-missing",
                  {"model.layers.5.*"}},
        FaultCase{"UnknownLayer",
                  [](const TempFolder& f) {
                    Replace(f / "config.json", "\"num_hidden_layers\": 5",
                            "\"num_hidden_layers\": 4");
                  },
                  ErrorCode::kData,
                  "hf.unknown-tensor",
                  {"model.layers.4.", "num_hidden_layers"}},
        FaultCase{"Truncated",
                  [](const TempFolder& f) {
                    const std::string text = Text(f / kShard2);
                    Put(f / kShard2, text.substr(0, text.size() - 1));
                  },
                  ErrorCode::kData,
                  "safetensors.truncated",
                  {kShard2, "tensor"}}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(HfCheckpoint, BiasesAreRefusedByName) {
  const TempFolder folder;
  const auto model = OpenCheckpoint(kData + "stories260K/hf");
  auto tensors = HfTensorsOf(*model);
  tensors.push_back(
      {"model.layers.0.self_attn.q_proj.bias", "F32", {64}, std::vector<uint8_t>(256)});
  testing::WriteFiles(folder.path(), SaveWeights(tensors, {}));
  Put(folder / "config.json", HfConfigOf(*model));
  Put(folder / "tokenizer.model", Text(kData + "stories260K/hf/tokenizer.model"));
  ExpectError(Caught([&] { OpenCheckpoint(folder.path()); }), ErrorCode::kUnsupported, "hf.feature",
              {"biases", "q_proj.bias"});
}

TEST(HfCheckpoint, OneFileOfWeightsBesideItsConfig) {
  const auto expected = GgufBytes(*OpenCheckpoint(kData + "stories260K/hf"));
  for (const char* file : {"model.safetensors", "pytorch_model.bin"}) {
    EXPECT_EQ(GgufBytes(*OpenCheckpoint(kData + "stories260K/hf/" + file)), expected) << file;
    EXPECT_TRUE(CheckCheckpoint(kData + "stories260K/hf/" + file).empty()) << file;
  }
}

TEST(HfCheckpoint, APartForTheWholeIsNamed) {
  const TempFolder folder;
  SaveAsHf(kData + "stories260K/meta-f32", folder.path(), {.n_shards = 3});
  ExpectError(Caught([&] { OpenCheckpoint(folder / kShard2); }), ErrorCode::kData,
              "index.shard-missing", {kShard2, "one of the shards", "1 of 3", "give the folder"});
  for (const char* file : {"config.json", kIndex, "tokenizer.model"}) {
    ExpectError(Caught([&] { OpenCheckpoint(folder / file); }), ErrorCode::kUnsupported,
                "input.kind", {file, "give its folder: '" + folder.path() + "'"});
  }
}

// Of what follows from one fault nothing is said.
TEST(HfCheckpoint, OnlyRootCausesAreFound) {
  const auto ids = [](const std::string& path) {
    std::vector<std::string> found;
    for (const Finding& finding : CheckCheckpoint(path)) found.push_back(finding.id);
    return found;
  };
  const TempFolder folder;
  SaveAsHf(kData + "stories260K/meta-f32", folder.path(), {.n_shards = 3});
  const std::string shard2 = Text(folder / kShard2);
  std::remove((folder / kShard2).c_str());
  EXPECT_EQ(ids(folder.path()), std::vector<std::string>{"index.shard-missing"});
  Put(folder / kShard2, shard2.substr(0, 100));
  EXPECT_EQ(ids(folder.path()), std::vector<std::string>{"safetensors.header-length"});
  Put(folder / kShard2, shard2);
  Put(folder / "config.json", "{");
  EXPECT_EQ(ids(folder.path()), std::vector<std::string>{"json.syntax"});
  // What has another cause is found beside it.
  Put(folder / "config.json", HfConfigOf(*OpenCheckpoint(kData + "stories260K/hf")));
  std::remove((folder / "tokenizer.model").c_str());
  std::remove((folder / kShard2).c_str());
  Replace(folder / "config.json", "\"intermediate_size\": 172", "\"intermediate_size\": 171");
  const auto all = ids(folder.path());
  EXPECT_EQ(std::ranges::count(all, "index.shard-missing"), 1);
  EXPECT_EQ(std::ranges::count(all, "hf.tokenizer-missing"), 1);
  EXPECT_GE(std::ranges::count(all, "hf.tensor-shape"), 1);
  EXPECT_EQ(std::ranges::count(all, "hf.tensor-missing"), 0);
}

}  // namespace
}  // namespace quern
