#include "converters/meta_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "converters/llama_names.h"
#include "formats/core/half.h"
#include "formats/gguf_metadata.h"
#include "formats/model_file.h"
#include "tests/converters/test_support.h"

namespace quern {
namespace testing {

std::string_view NameOf(Generation generation) {
  switch (generation) {
    case Generation::kLlama1: return "Llama1";
    case Generation::kLlama2: return "Llama2";
    case Generation::kCodeLlama: return "CodeLlama";
    case Generation::kLlama3: return "Llama3";
    case Generation::kLlama31: return "Llama31";
    case Generation::kLlama32Tied: return "Llama32Tied";
  }
  return "?";
}
void PrintTo(Generation generation, std::ostream* out) { *out << NameOf(generation); }

}  // namespace testing

namespace {

using testing::Caught;
using testing::CheckpointRecipe;
using testing::ExpectError;
using testing::FileBytes;
using testing::Generation;
using testing::InMemory;
using testing::MakeCheckpoint;
using testing::ReadAll;
using testing::StorageStyle;
using testing::TempFolder;

// Collects warnings.
class WarningLog final : public Log {
 public:
  void Warn(std::string_view message) override { text += std::string(message) + "\n"; }
  void Info(std::string_view) override {}
  std::string text;
};

std::unique_ptr<TensorStore> OpenMade(const CheckpointRecipe& recipe,
                                      const CheckpointOptions& options = {}) {
  return OpenMetaFiles(InMemory(MakeCheckpoint(recipe)), options);
}

size_t IndexOf(const Manifest& manifest, const std::string& name) {
  for (size_t i = 0; i < manifest.tensors.size(); ++i) {
    if (manifest.tensors[i].name == name) return i;
  }
  ADD_FAILURE() << "no tensor " << name;
  return 0;
}

float ElementAt(DType type, const std::vector<uint8_t>& bytes, size_t i) {
  if (type == DType::kF32) return LoadLE<float>(&bytes[i * 4]);
  const auto bits = LoadLE<uint16_t>(&bytes[i * 2]);
  return type == DType::kF16 ? F16ToF32(bits) : BF16ToF32(bits);
}

// Expects every tensor of the store to hold the weights that the recipe was made of.
void ExpectWeights(const TensorStore& store, const CheckpointRecipe& recipe) {
  for (const testing::WholeTensor& whole : testing::MakeWeights(recipe)) {
    const auto parts = ParseMetaTensorName(whole.name);
    if (!parts) continue;  // rope.freqs
    if (parts->kind->role == TensorRole::kOutput && store.manifest().spec->tied_embeddings) continue;
    const size_t index = IndexOf(store.manifest(), TensorName(parts->kind->role, parts->layer));
    const TensorInfo& info = store.manifest().tensors[index];
    ASSERT_EQ(info.shape.n_elems(), whole.values.size()) << whole.name;
    const auto bytes = ReadAll(store, index, 7);
    for (size_t i = 0; i < whole.values.size(); ++i) {
      ASSERT_EQ(ElementAt(info.dtype, bytes, i), whole.values[i]) << whole.name << " " << i;
    }
  }
}

struct MadeCase {
  const char* name;
  CheckpointRecipe recipe;
};

CheckpointRecipe Recipe(Generation generation) {
  CheckpointRecipe recipe;
  recipe.generation = generation;
  if (generation == Generation::kLlama1) recipe.dtype = DType::kF16;  // the others are bfloat16
  return recipe;
}

class Generations : public ::testing::TestWithParam<Generation> {};

TEST_P(Generations, GiveTheSameModelInAnyNumberOfShards) {
  CheckpointRecipe recipe = Recipe(GetParam());
  recipe.shape.n_heads = 32;  // heads of 2; with 16 KV heads each of 16 shards has one
  recipe.shape.n_kv_heads = 16;
  const auto whole = OpenMade(recipe);
  ExpectWeights(*whole, recipe);
  const auto whole_gguf = testing::GgufBytes(*whole);
  for (const uint32_t n_shards : {2u, 4u, 8u, 16u}) {
    SCOPED_TRACE(n_shards);
    recipe.n_shards = n_shards;
    const auto store = OpenMade(recipe);
    EXPECT_EQ(store->manifest(), whole->manifest());
    ExpectWeights(*store, recipe);
    EXPECT_TRUE(testing::GgufBytes(*store) == whole_gguf);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Generations,
                         ::testing::Values(Generation::kLlama1, Generation::kLlama2,
                                           Generation::kCodeLlama, Generation::kLlama3,
                                           Generation::kLlama31, Generation::kLlama32Tied),
                         [](const auto& row) { return std::string(testing::NameOf(row.param)); });

TEST(MetaCheckpoint, ReadsEveryStorageStyleAndType) {
  for (const StorageStyle storage : {StorageStyle::kOwn, StorageStyle::kShared,
                                     StorageStyle::kTransposed, StorageStyle::kPadded}) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      for (const uint32_t n_shards : {1u, 4u}) {
        CheckpointRecipe recipe = Recipe(Generation::kLlama2);
        recipe.storage = storage;
        recipe.dtype = dtype;
        recipe.n_shards = n_shards;
        recipe.mixed_dtypes = dtype == DType::kBF16;
        recipe.rope_freqs = true;
        const auto store = OpenMade(recipe);
        ExpectWeights(*store, recipe);
        EXPECT_EQ(store->manifest().tensors[0].dtype, dtype);
        const Manifest& manifest = store->manifest();
        const DType norm = manifest.tensors[IndexOf(manifest, "output_norm.weight")].dtype;
        EXPECT_EQ(norm, recipe.mixed_dtypes ? DType::kF32 : dtype);
      }
    }
  }
}

TEST(MetaCheckpoint, UnwrapsCommunityFiles) {
  CheckpointRecipe recipe = Recipe(Generation::kLlama2);
  const auto plain = OpenMade(recipe);
  recipe.file.wrapper = "model";
  recipe.file.prefix = "_orig_mod.";
  EXPECT_EQ(OpenMade(recipe)->manifest(), plain->manifest());
  recipe.file = {};
  recipe.file.ordered_dict = true;
  EXPECT_EQ(OpenMade(recipe)->manifest(), plain->manifest());
}

TEST(MetaCheckpoint, HasTheNumbersOfItsGeneration) {
  struct Want {
    Generation generation;
    float theta, eps;
    uint32_t context, vocab;
    bool scaled, tied;
  };
  for (const Want& want : {Want{Generation::kLlama1, 1e4f, 1e-6f, 2048, 512, false, false},
                           Want{Generation::kLlama2, 1e4f, 1e-5f, 4096, 512, false, false},
                           Want{Generation::kCodeLlama, 1e6f, 1e-5f, 16384, 512, false, false},
                           Want{Generation::kLlama3, 5e5f, 1e-5f, 8192, 640, false, false},
                           Want{Generation::kLlama31, 5e5f, 1e-5f, 131072, 640, true, false},
                           Want{Generation::kLlama32Tied, 5e5f, 1e-5f, 131072, 640, true, true}}) {
    const auto store = OpenMade(Recipe(want.generation));
    const Manifest& manifest = store->manifest();
    const ModelSpec& spec = *manifest.spec;
    EXPECT_EQ(spec.arch, "llama");
    EXPECT_EQ(spec.rope_theta, want.theta);
    EXPECT_EQ(spec.norm_eps, want.eps);
    EXPECT_EQ(spec.context_length, want.context);
    EXPECT_EQ(spec.vocab_size, want.vocab);
    EXPECT_EQ(spec.tied_embeddings, want.tied);
    EXPECT_EQ(spec.d_ff, testing::FeedForwardSize({}));
    EXPECT_EQ(spec.head_dim, 4u);
    EXPECT_EQ(manifest.tokenizer.tokens.size(), want.vocab);
    EXPECT_EQ(manifest.provenance.source_format, "");
    EXPECT_FALSE(manifest.provenance.quern_version.empty());
    EXPECT_TRUE(manifest.provenance.context_length_source.starts_with("rule: "));
    const size_t n_tensors = 2 + 9 * 2 + (want.tied ? 0u : 1u) + (want.scaled ? 1u : 0u);
    EXPECT_EQ(manifest.tensors.size(), n_tensors);
    EXPECT_EQ(manifest.tensors.back().role == TensorRole::kRopeFreqs, want.scaled);
    if (want.scaled) {
      // Heads of 4 have the frequencies 1 and theta^-1/2: wavelengths 6.3 and 4443.
      const auto bytes = ReadAll(*store, manifest.tensors.size() - 1, 1);
      ASSERT_EQ(bytes.size(), 8u);
      EXPECT_EQ(LoadLE<float>(&bytes[0]), 1.0f);
      EXPECT_NEAR(LoadLE<float>(&bytes[4]), 2.69453, 1e-5);
    }
    EXPECT_EQ(manifest.tokenizer.fim_prefix_id.has_value(),
              want.generation == Generation::kCodeLlama);
  }
}

TEST(MetaCheckpoint, OptionsReplaceNameAndContext) {
  CheckpointOptions options;
  options.name = "tiny";
  options.context_length = 77;
  const auto store = OpenMade(Recipe(Generation::kLlama2), options);
  EXPECT_EQ(store->manifest().name, "tiny");
  EXPECT_EQ(store->manifest().spec->context_length, 77u);
  EXPECT_EQ(store->manifest().provenance.context_length_source, "");
}

TEST(MetaCheckpoint, ManifestSurvivesTheGgufHeader) {
  for (const Generation generation : {Generation::kCodeLlama, Generation::kLlama32Tied}) {
    const auto store = OpenMade(Recipe(generation));
    Manifest manifest = store->manifest();
    EXPECT_EQ(ManifestFromGguf(MetadataFromManifest(manifest), manifest.tensors, "x"), manifest);
  }
}

TEST(MetaCheckpoint, CountsKvHeadsInTheTensors) {
  CheckpointRecipe recipe = Recipe(Generation::kLlama2);
  recipe.shape.n_kv_heads = 4;
  auto files = MakeCheckpoint(recipe);
  std::string params(files[0].bytes.begin(), files[0].bytes.end());
  const size_t at = params.find("\"n_kv_heads\": 4");
  ASSERT_NE(at, std::string::npos);
  params.replace(at, 15, "\"n_kv_heads\": 8");
  files[0].bytes.assign(params.begin(), params.end());
  WarningLog log;
  CheckpointOptions options;
  options.log = &log;
  const auto store = OpenMetaFiles(InMemory(files), options);
  EXPECT_EQ(store->manifest().spec->n_kv_heads, 4u);
  EXPECT_NE(log.text.find("KV heads"), std::string::npos) << log.text;
  EXPECT_NE(log.text.find("[meta.params-differ]"), std::string::npos) << log.text;
}

TEST(MetaCheckpoint, PadsTheVocabulary) {
  auto files = MakeCheckpoint(Recipe(Generation::kLlama2));
  files[1].bytes = testing::MakeSentencePieceModel({"a", "b"});
  const auto store = OpenMetaFiles(InMemory(files), {});
  ASSERT_EQ(store->manifest().tokenizer.tokens.size(), 512u);
  EXPECT_EQ(store->manifest().tokenizer.tokens[511], "[PAD511]");
  files[1].bytes = testing::MakeSentencePieceModel(std::vector<std::string>(1, "a"));
  std::vector<std::string> many;
  for (int i = 0; i < 300; ++i) many.push_back("p" + std::to_string(i));
  files[1].bytes = testing::MakeSentencePieceModel(many);
  ExpectError(Caught([&] { OpenMetaFiles(InMemory(files), {}); }), ErrorCode::kData,
              "tokenizer.too-long", {"tokenizer.model", "559", "512"});
}

// Faults of whole sets of files. `change` spoils a good checkpoint of two shards.
using Change = void (*)(std::vector<FileBytes>&);
Error ErrorAfter(Change change, CheckpointRecipe recipe = {}) {
  recipe.n_shards = 2;
  auto files = MakeCheckpoint(recipe);
  change(files);
  return Caught([&] { OpenMetaFiles(InMemory(files), {}); });
}

std::vector<uint8_t> ShardOf(const CheckpointRecipe& recipe, uint32_t rank) {
  return MakeCheckpoint(recipe).at(2 + rank).bytes;
}

// Puts `to` in place of `from`, of the same length, everywhere in the pickle; its CRC is mended by
// turning the check off in the tests that use it.
void Rename(std::vector<uint8_t>& bytes, const std::string& from, const std::string& to) {
  ASSERT_EQ(from.size(), to.size());
  auto at = std::search(bytes.begin(), bytes.end(), from.begin(), from.end());
  ASSERT_NE(at, bytes.end());
  std::copy(to.begin(), to.end(), at);
}

Error ErrorAfterRename(const std::string& from, const std::string& to, bool both_shards) {
  CheckpointRecipe recipe;
  recipe.n_shards = 2;
  auto files = MakeCheckpoint(recipe);
  Rename(files[3].bytes, from, to);
  if (both_shards) Rename(files[2].bytes, from, to);
  CheckpointOptions options;
  options.verify_crc = false;
  return Caught([&] { OpenMetaFiles(InMemory(files), options); });
}

TEST(MetaCheckpointErrors, MissingLastShard) {
  ExpectError(ErrorAfter([](auto& files) { files.pop_back(); }), ErrorCode::kData,
              "meta.shard-missing", {"consolidated.00.pth", "consolidated.01.pth", "wq.weight"});
}

TEST(MetaCheckpointErrors, SurplusShard) {
  ExpectError(ErrorAfter([](auto& files) {
                files.push_back(files.back());
                files.back().name = "consolidated.02.pth";
              }),
              ErrorCode::kData, "meta.shard-surplus", {"3 shards", "consolidated.02.pth"});
}

TEST(MetaCheckpointErrors, ShardOfAnotherSize) {
  ExpectError(ErrorAfter([](auto& files) {
                CheckpointRecipe other;
                other.n_shards = 2;
                other.shape.dim = 96;
                files[3].bytes = ShardOf(other, 1);
              }),
              ErrorCode::kData, "meta.shard-mismatch",
              {"consolidated.01.pth", "'tok_embeddings.weight'", "consolidated.00.pth", "[512, 48]",
               "[512, 32]"});
}

TEST(MetaCheckpointErrors, ShardOfAnotherType) {
  ExpectError(ErrorAfter([](auto& files) {
                CheckpointRecipe other;
                other.n_shards = 2;
                other.dtype = DType::kF16;
                files[3].bytes = ShardOf(other, 1);
              }),
              ErrorCode::kData, "meta.shard-mismatch",
              {"consolidated.01.pth", "float16", "bfloat16"});
}

TEST(MetaCheckpointErrors, ShardOfAnotherModelOfTheSameShape) {
  ExpectError(ErrorAfter([](auto& files) {
                CheckpointRecipe other;
                other.n_shards = 2;
                other.seed = 2;
                files[3].bytes = ShardOf(other, 1);
              }),
              ErrorCode::kData, "meta.shard-foreign",
              {"consolidated.01.pth", "attention_norm.weight", "element 0"});
}

TEST(MetaCheckpointErrors, MissingTensorsAreAllNamed) {
  const Error all = ErrorAfterRename("layers.1.attention.wq.weight", "layers.1.attention.wx.weight",
                                     true);
  ExpectError(all, ErrorCode::kData, "meta.unknown-tensor",
              {"consolidated.00.pth", "'layers.1.attention.wx.weight'"});
  CheckpointRecipe recipe;
  auto files = MakeCheckpoint(recipe);
  std::string params(files[0].bytes.begin(), files[0].bytes.end());
  params.replace(params.find("\"n_layers\": 2"), 13, "\"n_layers\": 5");
  files[0].bytes.assign(params.begin(), params.end());
  ExpectError(Caught([&] { OpenMetaFiles(InMemory(files), {}); }), ErrorCode::kData,
              "meta.tensor-missing", {"'layers.2.*', 'layers.3.*', 'layers.4.*'", "n_layers"});
}

TEST(MetaCheckpointErrors, TensorMissingInOneShard) {
  CheckpointRecipe recipe;
  recipe.n_shards = 2;
  auto files = MakeCheckpoint(recipe);
  Rename(files[3].bytes, "layers.1.attention.wo.weight", "layers.1.attention.inner.xxx");
  const TempFolder folder;
  testing::WriteFiles(folder.path(), files);
  const auto findings =
      CheckCheckpoint(folder.path(), {.context_length = {}, .name = "", .verify_crc = false});
  const auto found = std::ranges::find(findings, "meta.shard-mismatch", &Finding::id);
  ASSERT_NE(found, findings.end());
  for (const char* word : {"consolidated.01.pth", "'layers.1.attention.wo.weight'"}) {
    EXPECT_NE(found->line.find(word), std::string::npos) << found->line;
  }
}

TEST(MetaCheckpointErrors, MoreLayersThanParamsSay) {
  ExpectError(ErrorAfter([](auto& files) {
                std::string params(files[0].bytes.begin(), files[0].bytes.end());
                params.replace(params.find("\"n_layers\": 2"), 13, "\"n_layers\": 1");
                files[0].bytes.assign(params.begin(), params.end());
              }),
              ErrorCode::kData, "meta.unknown-tensor",
              {"'layers.1.attention.wq.weight'", "n_layers", "1 layers"});
}

TEST(MetaCheckpointErrors, ParamsOfAnotherModel) {
  ExpectError(ErrorAfter([](auto& files) {
                CheckpointRecipe other;
                other.shape.dim = 128;
                files[0] = MakeCheckpoint(other)[0];
              }),
              ErrorCode::kData, "meta.params-mismatch",
              {"128", "dim in params.json", "layers.0.attention.wq.weight"});
}

TEST(MetaCheckpointErrors, OtherReleasesAreNamed) {
  ExpectError(ErrorAfterRename("layers.1.attention.wq.weight", "layers.1.attention.wq.scales", true),
              ErrorCode::kUnsupported, "meta.release",
              {"int4", "'layers.1.attention.wq.scales'", "bf16"});
}

TEST(MetaCheckpointErrors, DamagedShardsAreNamed) {
  ExpectError(ErrorAfter([](auto& files) { files[3].bytes.resize(files[3].bytes.size() - 9); }),
              ErrorCode::kData, "zip.eocd", {"consolidated.01.pth"});
  const std::string lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n";
  ExpectError(ErrorAfter([](auto& files) {
                const std::string text =
                    "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n";
                files[3].bytes.assign(text.begin(), text.end());
              }),
              ErrorCode::kData, "input.lfs-pointer", {"consolidated.01.pth", "Git LFS"});
  for (const size_t side_file : {0u, 1u}) {
    auto files = MakeCheckpoint({});
    files[side_file].bytes.assign(lfs.begin(), lfs.end());
    ExpectError(Caught([&] { OpenMetaFiles(InMemory(files), {}); }), ErrorCode::kData,
                "input.lfs-pointer", {files[side_file].name, "Git LFS"});
  }
}

TEST(MetaCheckpointErrors, CrcIsCheckedUnlessToldNot) {
  auto files = MakeCheckpoint({});
  files[2].bytes[files[2].bytes.size() / 2] ^= 1;  // inside some matrix
  const auto read_all = [&](bool verify_crc) {
    CheckpointOptions options;
    options.verify_crc = verify_crc;
    const auto store = OpenMetaFiles(InMemory(files), options);
    for (size_t i = 0; i < store->manifest().tensors.size(); ++i) ReadAll(*store, i, 64);
  };
  read_all(false);
  ExpectError(Caught([&] { read_all(true); }), ErrorCode::kData, "zip.crc",
              {"consolidated.00.pth", "consolidated.00/data/"});
}

// The place of an element holds the element's bytes, however the tensor is split and laid out.
TEST(MetaCheckpoint, KnowsWhereElementsAreStored) {
  for (const Generation generation : {Generation::kLlama2, Generation::kLlama31}) {
    for (const StorageStyle storage :
         {StorageStyle::kShared, StorageStyle::kTransposed, StorageStyle::kPadded}) {
      CheckpointRecipe recipe = Recipe(generation);
      recipe.storage = storage;
      recipe.n_shards = 2;
      const auto files = MakeCheckpoint(recipe);
      const auto store = OpenMetaFiles(InMemory(files), {});
      for (size_t i = 0; i < store->manifest().tensors.size(); ++i) {
        const TensorInfo& info = store->manifest().tensors[i];
        const uint64_t row = info.rows() * 2 / 3, col = info.cols() * 3 / 4;
        const StoredPlace place = store->PlaceOf(i, row, col);
        if (info.role == TensorRole::kRopeFreqs) {
          EXPECT_FALSE(place.byte_offset);
          continue;
        }
        const auto& shard = place.file == files[2].name ? files[2] : files[3];
        ASSERT_EQ(place.file, shard.name);
        const auto bytes = ReadAll(*store, i, 100);
        ASSERT_LE(*place.byte_offset + 2, shard.bytes.size());
        EXPECT_EQ(LoadLE<uint16_t>(&shard.bytes[*place.byte_offset]),
                  LoadLE<uint16_t>(&bytes[row * info.row_bytes() + col * 2]))
            << info.name;
      }
    }
  }
}

TEST(MetaFolders, SoundPartsCanBeReadWhereTheWholeIsDamaged) {
  const TempFolder folder;
  CheckpointRecipe recipe;
  recipe.n_shards = 2;
  recipe.storage = StorageStyle::kPadded;
  const auto files = MakeCheckpoint(recipe);
  testing::WriteFiles(folder.path(), files);
  std::filesystem::resize_file(folder / "consolidated.00.pth", 100);
  EXPECT_THROW(OpenCheckpoint(folder.path()), Error);
  const auto parts = OpenSoundParts(folder.path());
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_EQ(parts[0]->name(), folder / "consolidated.01.pth");
  const size_t index = IndexOf(parts[0]->manifest(), "layers.1.feed_forward.w2.weight");
  const TensorInfo& info = parts[0]->manifest().tensors[index];
  EXPECT_EQ(info.cols(), testing::FeedForwardSize({}) / 2);
  const auto bytes = ReadAll(*parts[0], index, 3);
  const StoredPlace place = parts[0]->PlaceOf(index, 5, 6);
  EXPECT_EQ(LoadLE<uint16_t>(&files[3].bytes.at(*place.byte_offset)),
            LoadLE<uint16_t>(&bytes[5 * info.row_bytes() + 12]));
  EXPECT_TRUE(OpenSoundParts(std::string(QUERN_TEST_DATA) + "/stories260K/stories260K-f32.gguf").empty());
}

TEST(MetaFolders, EverySumIsCompared) {
  const TempFolder folder;
  CheckpointRecipe recipe;
  recipe.n_shards = 2;
  auto files = MakeCheckpoint(recipe);
  testing::WriteFiles(folder.path(), files);
  EXPECT_TRUE(CheckSums(folder.path()).empty());
  const auto store = OpenCheckpoint(folder.path());
  for (const std::string name : {"blk.0.ffn_up.weight", "blk.1.attn_q.weight"}) {
    const StoredPlace place = store->PlaceOf(IndexOf(store->manifest(), name), 0, 0);
    ASSERT_EQ(place.file, folder / files[2].name);
    files[2].bytes[*place.byte_offset] ^= 1;
  }
  testing::WriteFiles(folder.path(), files);
  const auto findings = CheckSums(folder.path());
  ASSERT_EQ(findings.size(), 2u);
  for (const Finding& finding : findings) {
    EXPECT_EQ(finding.id, "zip.crc");
    EXPECT_NE(finding.line.find("consolidated.00.pth"), std::string::npos) << finding.line;
  }
}

// Returns the offset of `text` in the bytes.
size_t OffsetOf(const std::vector<uint8_t>& bytes, std::string_view text) {
  const size_t offset = AsText(bytes).find(text);
  EXPECT_NE(offset, std::string_view::npos) << text;
  return offset;
}

TEST(MetaFolders, SumsOfTheDescriptionAreComparedToo) {
  const TempFolder folder;
  const auto sound = MakeCheckpoint({});
  ASSERT_EQ(sound[2].name, "consolidated.00.pth");
  struct Flip {
    std::string_view text;
    std::string entry;
  };
  // Each leaves a file that says the same of its tensors: only the sum tells.
  for (const Flip& flip : {Flip{"cpu", "consolidated.00/data.pkl"},
                           Flip{"3\nPK", "consolidated.00/version"}}) {
    auto files = sound;
    files[2].bytes[OffsetOf(files[2].bytes, flip.text)] ^= 1;
    testing::WriteFiles(folder.path(), files);
    CheckpointOptions no_sums;
    no_sums.verify_crc = false;
    EXPECT_TRUE(CheckCheckpoint(folder.path(), no_sums).empty());
    const auto findings = CheckSums(folder.path());
    ASSERT_EQ(findings.size(), 1u) << flip.entry;
    EXPECT_EQ(findings[0].id, "zip.crc");
    EXPECT_NE(findings[0].line.find("'" + flip.entry + "'"), std::string::npos) << findings[0].line;
    testing::ExpectError(testing::Caught([&] { OpenCheckpoint(folder.path()); }), ErrorCode::kData,
                         "zip.crc", {flip.entry});
  }
}

TEST(MetaFolders, FilesWithoutSumsAreReadWithAWarning) {
  const TempFolder folder;
  CheckpointRecipe recipe;
  recipe.file.sums = false;
  testing::WriteFiles(folder.path(), MakeCheckpoint(recipe));
  class Warnings final : public Log {
   public:
    void Info(std::string_view) override {}
    void Warn(std::string_view message) override { lines.emplace_back(message); }
    std::vector<std::string> lines;
  } log;
  CheckpointOptions options;
  options.log = &log;
  ExpectWeights(*OpenCheckpoint(folder.path(), options), recipe);
  ASSERT_EQ(log.lines.size(), 1u);
  EXPECT_NE(log.lines[0].find("consolidated.00.pth: file has no sums"), std::string::npos);
  EXPECT_NE(log.lines[0].find("[zip.no-sums]"), std::string::npos);
  const auto findings = CheckSums(folder.path());
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].id, "zip.no-sums");
  EXPECT_EQ(findings[0].severity, Finding::Severity::kWarning);
  log.lines.clear();
  options.verify_crc = false;
  OpenCheckpoint(folder.path(), options);
  EXPECT_TRUE(log.lines.empty());  // nobody asked for sums
}

TEST(MetaFolders, AreReadAndTheirFaultsFound) {
  const TempFolder parent;
  const std::string folder = parent / "7B";
  CheckpointRecipe recipe;
  recipe.n_shards = 4;
  testing::WriteFiles(folder, MakeCheckpoint(recipe));
  const auto store = OpenCheckpoint(folder);
  ExpectWeights(*store, recipe);
  EXPECT_TRUE(CheckCheckpoint(folder).empty());
  const auto inputs = InputFilesOf(folder);
  EXPECT_EQ(inputs.size(), 6u);
  EXPECT_EQ(inputs[3], folder + "/consolidated.03.pth");

  // The vocabulary of Llama 1 and 2 lies one level above.
  std::filesystem::rename(folder + "/tokenizer.model", parent / "tokenizer.model");
  EXPECT_EQ(OpenCheckpoint(folder)->manifest(), store->manifest());
  std::filesystem::remove(parent / "tokenizer.model");
  ExpectError(Caught([&] { OpenCheckpoint(folder); }), ErrorCode::kData, "meta.tokenizer-missing",
              {folder, "tokenizer.model"});

  std::filesystem::remove(folder + "/consolidated.02.pth");
  std::filesystem::resize_file(folder + "/consolidated.01.pth", 1000);
  std::ofstream(folder + "/consolidated.00 (1).pth") << "copy";
  std::filesystem::remove(folder + "/params.json");
  const auto findings = CheckCheckpoint(folder);
  std::vector<std::string> ids;
  for (const Finding& finding : findings) ids.push_back(finding.id);
  EXPECT_EQ(ids, (std::vector<std::string>{"meta.foreign-file", "meta.shard-missing", "zip.eocd",
                                           "meta.params-missing", "meta.tokenizer-missing"}));
  EXPECT_NE(findings[1].line.find("consolidated.02.pth"), std::string::npos) << findings[1].line;
  EXPECT_NE(findings[2].line.find("consolidated.01.pth"), std::string::npos) << findings[2].line;
}

// What is wrong with some shards hides nothing that the others tell.
TEST(MetaFolders, FaultsAreFoundBesideOthers) {
  const TempFolder folder;
  CheckpointRecipe recipe;
  recipe.n_shards = 4;
  auto files = MakeCheckpoint(recipe);
  CheckpointRecipe other = recipe;
  other.seed = 2;
  files[5].bytes = ShardOf(other, 3);
  files[3].bytes.resize(1000);
  files[1].bytes.resize(10);
  testing::WriteFiles(folder.path(), files);
  const auto places = [&] {
    std::vector<std::string> out;
    for (const Finding& finding : CheckCheckpoint(folder.path())) {
      const std::string& line = finding.line;
      const size_t name = line.rfind('/', line.find(':')) + 1;
      out.push_back(finding.id + " " + line.substr(name, line.find(':') - name));
    }
    return out;
  };
  const std::string foreign = "meta.shard-foreign consolidated.0";
  auto found = places();
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0], "zip.eocd consolidated.01.pth");
  EXPECT_EQ(found[1], foreign + "3.pth");
  EXPECT_TRUE(found[2].ends_with(" tokenizer.model")) << found[2];

  // A gap: the number of files says nothing, the files that are there still do.
  std::filesystem::remove(folder / "consolidated.01.pth");
  found = places();
  ASSERT_EQ(found.size(), 3u);
  EXPECT_TRUE(found[0].starts_with("meta.shard-missing ")) << found[0];
  EXPECT_EQ(found[1], foreign + "3.pth");

  // One too many, with another unreadable.
  testing::WriteFiles(folder.path(), {{"consolidated.01.pth", {1}}, {"consolidated.04.pth", {1}}});
  found = places();
  ASSERT_EQ(found.size(), 4u);
  EXPECT_EQ(found[2], "meta.shard-surplus consolidated.00.pth");
}

// The shard that differs from most is the foreign one, also where it is the first.
TEST(MetaFolders, TheRareShardIsTheForeignOne) {
  CheckpointRecipe recipe, other, narrow;
  recipe.n_shards = other.n_shards = narrow.n_shards = 4;
  other.seed = 2;
  narrow.shape.ffn_dim_multiplier = 2;
  for (const auto& [wrong, id] : {std::pair{other, "meta.shard-foreign"},
                                  std::pair{narrow, "meta.shard-mismatch"}}) {
    for (const uint32_t rank : {0u, 2u}) {
      const TempFolder folder;
      auto files = MakeCheckpoint(recipe);
      files[2 + rank].bytes = ShardOf(wrong, rank);
      testing::WriteFiles(folder.path(), files);
      const std::string name = "consolidated.0" + std::to_string(rank) + ".pth: ";
      bool is_found = false;
      for (const Finding& finding : CheckCheckpoint(folder.path())) {
        EXPECT_NE(finding.line.find(name), std::string::npos) << finding.line;
        is_found |= finding.id == id;
        EXPECT_NE(finding.line.find("(byte offset "), std::string::npos) << finding.line;
      }
      EXPECT_TRUE(is_found) << id << " " << rank;
    }
  }
}

TEST(MetaFolders, CopiesAndSwappedShardsAreSeen) {
  CheckpointRecipe recipe;
  recipe.n_shards = 2;
  auto files = MakeCheckpoint(recipe);
  const TempFolder copies, swapped;
  const auto second = files[3].bytes;
  files[3].bytes = files[2].bytes;
  testing::WriteFiles(copies.path(), files);
  ExpectError(Caught([&] { OpenCheckpoint(copies.path()); }), ErrorCode::kData,
              "meta.shard-duplicate", {"consolidated.01.pth", "consolidated.00.pth"});
  files[2].bytes = second;
  testing::WriteFiles(swapped.path(), files);
  WarningLog log;
  CheckpointOptions options;
  options.log = &log;
  OpenCheckpoint(swapped.path(), options);
  for (const char* word : {"consolidated.00.pth", "consolidated.01.pth", "another number"}) {
    EXPECT_NE(log.text.find(word), std::string::npos) << log.text;
  }
}

TEST(MetaFolders, AcceptOneFileWithItsNeighbours) {
  const TempFolder folder;
  CheckpointRecipe recipe;
  testing::WriteFiles(folder.path(), MakeCheckpoint(recipe));
  EXPECT_EQ(OpenCheckpoint(folder / "consolidated.00.pth")->manifest(),
            OpenCheckpoint(folder.path())->manifest());
  std::filesystem::rename(folder / "consolidated.00.pth", folder / "stories.pth");
  ExpectWeights(*OpenCheckpoint(folder.path()), recipe);
  EXPECT_EQ(InputFilesOf(folder / "stories.pth").size(), 3u);
  // One shard of several says what is missing.
  recipe.n_shards = 2;
  testing::WriteFiles(folder.path(), MakeCheckpoint(recipe));
  ExpectError(Caught([&] { OpenCheckpoint(folder / "consolidated.00.pth"); }), ErrorCode::kData,
              "meta.shard-missing", {"consolidated.01.pth", "give the folder"});
}

TEST(MetaFolders, RefuseTheFp8Release) {
  const TempFolder folder;
  testing::WriteFiles(folder.path(), MakeCheckpoint({}));
  std::ofstream(folder / "fp8_scales_0.pt") << "x";
  ExpectError(Caught([&] { OpenCheckpoint(folder.path()); }), ErrorCode::kUnsupported,
              "meta.release", {"fp8", "fp8_scales_0.pt", "MP16"});
}

TEST(Fixture, OneShardAndTwoAreTheSameModel) {
  QUERN_REQUIRE_ASSETS();
  const auto two = OpenCheckpoint(std::string(QUERN_TEST_DATA) + "/fixture/meta-2");
  const auto one = OpenCheckpoint(testing::AssetsFolder() + "/fixture/meta-1");
  EXPECT_EQ(one->manifest(), two->manifest());
  for (size_t i = 0; i < one->manifest().tensors.size(); ++i) {
    EXPECT_TRUE(ReadAll(*one, i, 1000) == ReadAll(*two, i, 3)) << one->manifest().tensors[i].name;
  }
}

TEST(Fixture, HasItsNumbers) {
  const auto store = OpenCheckpoint(std::string(QUERN_TEST_DATA) + "/fixture/meta-2");
  const Manifest& manifest = store->manifest();
  const ModelSpec want{.arch = "llama", .n_layers = 4, .n_heads = 8, .n_kv_heads = 4,
                       .head_dim = 32, .d_model = 256, .d_ff = 768, .vocab_size = 1024,
                       .context_length = 512, .norm_eps = 1e-5f, .rope_theta = 1e4f,
                       .rope_linear_factor = std::nullopt, .tied_embeddings = false};
  EXPECT_EQ(*manifest.spec, want);
  EXPECT_EQ(manifest.n_elems(), 3672320u);
  EXPECT_EQ(manifest.provenance.context_length_source, "");
  EXPECT_EQ(manifest.tokenizer.tokens.size(), 1024u);
}

TEST(Stories, AllFormsAreTheModelOfTheGguf) {
  QUERN_REQUIRE_ASSETS();
  const std::string folder = testing::AssetsFolder() + "/models/stories260K/";
  const auto gguf = OpenModelFile(folder + "stories260K-f32.gguf");
  for (const char* form : {"f32", "f16", "bf16"}) {
    const auto meta = OpenCheckpoint(folder + "meta/" + form);
    EXPECT_EQ(meta->manifest().spec->n_kv_heads, 4u);
    EXPECT_EQ(meta->manifest().spec->d_ff, 172u);
    for (size_t i = 0; i < meta->manifest().tensors.size(); ++i) {
      const TensorInfo& info = meta->manifest().tensors[i];
      const size_t other = IndexOf(gguf->manifest(), info.name);
      ASSERT_EQ(info.shape, gguf->manifest().tensors[other].shape) << info.name;
      const auto bytes = ReadAll(*meta, i, 100), want = ReadAll(*gguf, other, 100);
      for (size_t j = 0; j < info.shape.n_elems(); ++j) {
        const float value = ElementAt(DType::kF32, want, j);
        const float rounded = info.dtype == DType::kF32   ? value
                              : info.dtype == DType::kF16 ? F16ToF32(F32ToF16(value))
                                                          : BF16ToF32(F32ToBF16(value));
        ASSERT_EQ(ElementAt(info.dtype, bytes, j), rounded) << info.name << " " << j;
      }
    }
  }
}

// A real training checkpoint of llama2.c: its numbers of heads lie in a pickle that is not executed.
TEST(Llama2xs, SaysWhichParamsToWrite) {
  QUERN_REQUIRE_ASSETS();
  const std::string file = testing::AssetsFolder() + "/models/llama2xs/ckpt.pt";
  ExpectError(Caught([&] { OpenCheckpoint(file); }), ErrorCode::kData, "meta.params-missing",
              {"ckpt.pt", "params.json", "\"dim\": 64", "\"n_layers\": ", "\"n_heads\": N"});
}

}  // namespace
}  // namespace quern
