#include "formats/torch_checkpoint.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "formats/core/half.h"
#include "formats/torch_state_dict.h"
#include "tests/formats/testing.h"
#include "tests/formats/torch_builder.h"
#include "tests/formats/torch_golden.h"

namespace quern {
namespace {

namespace fs = std::filesystem;
using testing::BuildCheckpoint;
using testing::BuildZip;
using testing::CheckpointParts;
using testing::ExpectError;
using testing::PkDict;
using testing::PkGlobal;
using testing::PkInt;
using testing::PkInts;
using testing::PkPersistentId;
using testing::PkStateDict;
using testing::PkTensor;
using testing::PkText;
using testing::PkTuple;
using testing::TorchPart;
using testing::ZipPart;

// A checkpoint over bytes that it keeps.
struct Opened {
  explicit Opened(std::string file, TorchOpenOptions options = {})
      : text(std::move(file)),
        bytes(AsBytes(text), "test.pth"),
        checkpoint(TorchCheckpoint::Open(bytes, options)) {}
  std::string text;
  MemoryBytes bytes;
  TorchCheckpoint checkpoint;

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const TorchTensor& tensor : checkpoint.tensors()) all.push_back(tensor.name);
    return all;
  }
  std::vector<uint8_t> Rows(const TorchTensor& tensor, uint64_t begin, uint64_t count) const {
    std::vector<uint8_t> out(count * tensor.row_bytes());
    checkpoint.ReadRows(tensor, begin, count, out);
    return out;
  }
  std::vector<float> Floats(std::string_view name) const {
    const TorchTensor* tensor = checkpoint.Find(name);
    if (tensor == nullptr) return {};
    const std::vector<uint8_t> raw = Rows(*tensor, 0, tensor->rows());
    std::vector<float> floats(raw.size() / 4);
    for (size_t i = 0; i < floats.size(); ++i) floats[i] = LoadLE<float>(&raw[4 * i]);
    return floats;
  }
};

TEST(TorchCheckpointTest, ReadsWhatPyTorchWrote) {
  const Opened opened(testing::TinyPth());
  const auto tensors = opened.checkpoint.tensors();
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "tok_embeddings.weight");
  EXPECT_EQ(tensors[0].dtype, DType::kF16);
  EXPECT_EQ(tensors[0].dtype_name, "float16");
  EXPECT_EQ(tensors[0].shape, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(tensors[0].strides, (std::vector<uint64_t>{3, 1}));
  EXPECT_TRUE(tensors[0].is_contiguous());
  EXPECT_EQ(tensors[1].name, "norm.weight");
  EXPECT_EQ(tensors[1].dtype, DType::kBF16);
  EXPECT_EQ(tensors[1].shape, (std::vector<uint64_t>{3}));
  EXPECT_EQ(tensors[1].rows(), 1u);
  ASSERT_EQ(opened.checkpoint.storages().size(), 2u);
  EXPECT_EQ(opened.checkpoint.storages()[0].entry, "tiny/data/0");
  EXPECT_EQ(opened.checkpoint.storages()[0].file_offset, 0x1C0u);
  EXPECT_EQ(opened.checkpoint.storages()[1].file_offset, 0x240u);
  EXPECT_EQ(opened.checkpoint.storages()[1].crc32, 0x7a3c1979u);
  // 3, 4, 5 as binary16; 1, 2, 3 as bfloat16.
  EXPECT_EQ(opened.Rows(tensors[0], 1, 1), (std::vector<uint8_t>{0, 0x42, 0, 0x44, 0, 0x45}));
  EXPECT_EQ(opened.Rows(tensors[1], 0, 1), (std::vector<uint8_t>{0x80, 0x3F, 0, 0x40, 0x40, 0x40}));
  opened.checkpoint.VerifyAllCrcs();
  EXPECT_EQ(opened.checkpoint.Find("absent"), nullptr);
}

TEST(TorchCheckpointTest, ReadsTheFormOfCurrentPyTorch) {
  std::vector<ZipPart> parts;
  std::string so_far;
  const auto add = [&](const char* name, const std::string& data) {
    parts.push_back(TorchPart(name, data, so_far.size()));
    so_far = BuildZip(parts);
    so_far.resize(so_far.find("PK\x01\x02"));
  };
  add("m/data.pkl", PkStateDict({{"w", PkTensor()}}));
  add("m/.format_version", "1");
  add("m/.storage_alignment", "64");
  add("m/byteorder", "little");
  add("m/data/0", CheckpointParts("")[1].data);
  add("m/version", "3\n");
  add("m/.data/serialization_id", std::string(40, '7'));
  const Opened opened(BuildZip(parts, {.has_zip64 = true}));
  EXPECT_EQ(opened.Floats("w"), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(opened.checkpoint.storages()[0].file_offset % 64, 0u);
}

TEST(TorchCheckpointTest, ReadsRealFiles) {
  const std::string data = QUERN_TEST_DATA;
  for (const std::string& path : {data + "/fixture/meta-2/consolidated.00.pth",
                                  data + "/fixture/meta-2/consolidated.01.pth"}) {
    const InputFile file(path);
    const TorchCheckpoint checkpoint = TorchCheckpoint::Open(file);
    EXPECT_EQ(checkpoint.tensors().size(), 3u + 4 * 9) << path;
    const TorchTensor* wo = checkpoint.Find("layers.3.attention.wo.weight");
    ASSERT_NE(wo, nullptr);
    EXPECT_EQ(wo->shape, (std::vector<uint64_t>{256, 128}));
    EXPECT_EQ(wo->dtype, DType::kBF16);
    uint64_t n_elems = 0;
    for (const TorchTensor& tensor : checkpoint.tensors()) n_elems += tensor.n_elems();
    EXPECT_EQ(n_elems, (3672320u - 2304) / 2 + 2304);  // half the matrices, all norms
    checkpoint.VerifyAllCrcs();
  }
}

// Looks for `path` among the assets, which are not part of the project.
std::optional<std::string> Asset(const std::string& path) {
  const char* assets = std::getenv("QUERN_ASSETS");
  const fs::path file =
      (assets != nullptr ? fs::path(assets) : fs::path(QUERN_SOURCE_DIR) / "../shared/assets") /
      path;
  return fs::exists(file) ? std::optional(file.string()) : std::nullopt;
}

TEST(TorchCheckpointTest, FindsTheModelInATrainingCheckpoint) {
  const auto path = Asset("models/llama2xs/ckpt.pt");
  if (!path) GTEST_SKIP() << "no assets";
  const InputFile file(*path);
  const TorchCheckpoint checkpoint = TorchCheckpoint::Open(file);
  EXPECT_NE(checkpoint.Find("tok_embeddings.weight"), nullptr);
  EXPECT_NE(checkpoint.Find("layers.0.attention.wq.weight"), nullptr);
  for (const TorchTensor& tensor : checkpoint.tensors()) {
    EXPECT_EQ(tensor.name.find("optimizer"), std::string::npos);
    EXPECT_FALSE(tensor.name.starts_with("_orig_mod.")) << tensor.name;
  }
  checkpoint.VerifyAllCrcs();
}

TEST(TorchCheckpointTest, TheFormsOfOneModelAgree) {
  const auto f32 = Asset("models/stories260K/meta/f32/consolidated.00.pth");
  const auto f16 = Asset("models/stories260K/meta/f16/consolidated.00.pth");
  const auto bin = Asset("models/stories260K/hf/pytorch_model.bin");
  if (!f32 || !f16 || !bin) GTEST_SKIP() << "no assets";
  const InputFile file32(*f32), file16(*f16), file_bin(*bin);
  const TorchCheckpoint a = TorchCheckpoint::Open(file32), b = TorchCheckpoint::Open(file16);
  const TorchCheckpoint c = TorchCheckpoint::Open(file_bin);
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (const TorchTensor& tensor : a.tensors()) {
    const TorchTensor* half = b.Find(tensor.name);
    ASSERT_NE(half, nullptr) << tensor.name;
    ASSERT_EQ(half->shape, tensor.shape);
    std::vector<uint8_t> x(tensor.size_bytes()), y(half->size_bytes());
    a.ReadRows(tensor, 0, tensor.rows(), x);
    b.ReadRows(*half, 0, half->rows(), y);
    for (uint64_t i = 0; i < tensor.n_elems(); ++i) {
      ASSERT_EQ(F32ToF16(LoadLE<float>(&x[4 * i])), LoadLE<uint16_t>(&y[2 * i])) << tensor.name;
    }
  }
  EXPECT_NE(c.Find("model.embed_tokens.weight"), nullptr);
}

// --- state dicts
// ----------------------------------------------------------------------------------

std::string OrderedDict(const std::vector<testing::PkItem>& items) {
  std::string out = PkGlobal("collections", "OrderedDict") + ")R(";
  for (const auto& item : items) out += PkText(item.name) + item.value;
  return out + "u";
}

TEST(TorchStateDictTest, UnwrapsTrainingCheckpoints) {
  const std::string inner = OrderedDict({{"w", PkTensor()}});
  const std::string scalar = PkTensor({}, 3, {}, {});
  // Siblings may hold whatever is allowed: lists, floats, unknown tensors, storages that are
  // missing.
  const std::string weird =
      PkDict({{"state", "](K\1K\2" + PkTensor({"LongStorage", "99", 7}, -4, {9}, {-9}) + "e"},
              {"lr", "G" + std::string(8, '\x3F')},
              {"set", "\x8f"},
              {"size", PkGlobal("torch", "Size") + "(" + PkInts({1, 2}) + "tR"},
              {"sparse", PkGlobal("torch._utils", "_rebuild_sparse_tensor") + ")R"},
              {"dtype", PkGlobal("torch", "float16")},
              {"big", "\x8a\x0a" + std::string(10, '\x7F')}});
  for (const char* wrapper :
       {"model", "state_dict", "model_state_dict", "module", "params", "ema"}) {
    const Opened opened(BuildCheckpoint(PkStateDict({{"optimizer", weird},
                                                     {wrapper, inner},
                                                     {"best_loss", scalar},
                                                     {"iter_num", PkInt(70000)}})));
    EXPECT_EQ(opened.names(), std::vector<std::string>{"w"}) << wrapper;
    EXPECT_EQ(opened.Floats("w"), (std::vector<float>{1, 2, 3, 4}));
  }
  const Opened twice(BuildCheckpoint(PkStateDict({{"state_dict", PkDict({{"module", inner}})}})));
  EXPECT_EQ(twice.names(), std::vector<std::string>{"w"});
  // "model" comes before "ema"; a wrapper's name without tensors below it is no wrapper.
  const std::string other = OrderedDict({{"v", PkTensor()}});
  EXPECT_EQ(Opened(BuildCheckpoint(PkStateDict({{"ema", other}, {"model", inner}}))).names(),
            std::vector<std::string>{"w"});
  EXPECT_EQ(
      Opened(BuildCheckpoint(PkStateDict({{"params", PkDict({{"x", "N"}})}, {"w", PkTensor()}})))
          .names(),
      std::vector<std::string>{"w"});
}

TEST(TorchStateDictTest, IgnoresWhatIsNoTensorAndTheMetadataOfModules) {
  const std::string metadata =
      PkDict({{"_metadata", OrderedDict({{"", PkDict({{"version", PkInt(1)}})}})}});
  const Opened opened(BuildCheckpoint(
      testing::kProto2 + OrderedDict({{"w", PkTensor()}, {"_extra_state", "N"}, {"n", PkInt(3)}}) +
      metadata + "b."));
  EXPECT_EQ(opened.names(), std::vector<std::string>{"w"});
}

TEST(TorchStateDictTest, SharedStoragesViewsAndScalars) {
  const Opened opened(BuildCheckpoint(PkStateDict({
      {"base", PkTensor()},
      {"transposed", PkTensor({}, 0, {2, 2}, {1, 2})},
      {"second_row", PkTensor({}, 2, {2}, {1})},
      {"column", PkTensor({}, 1, {2}, {2})},
      {"scalar", PkTensor({}, 3, {}, {})},
      {"expanded", PkTensor({}, 2, {2, 3}, {0, 0})},
      {"empty", PkTensor({}, 4, {0, 5}, {5, 1})},
  })));
  EXPECT_EQ(opened.checkpoint.storages().size(), 1u);
  EXPECT_EQ(opened.Floats("base"), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(opened.Floats("transposed"), (std::vector<float>{1, 3, 2, 4}));
  EXPECT_EQ(opened.Floats("second_row"), (std::vector<float>{3, 4}));
  EXPECT_EQ(opened.Floats("column"), (std::vector<float>{2, 4}));
  EXPECT_EQ(opened.Floats("scalar"), (std::vector<float>{4}));
  EXPECT_EQ(opened.Floats("expanded"), (std::vector<float>{3, 3, 3, 3, 3, 3}));
  EXPECT_EQ(opened.Floats("empty"), std::vector<float>{});
  EXPECT_FALSE(opened.checkpoint.Find("transposed")->is_contiguous());
}

TEST(TorchStateDictTest, EveryWayToMakeATensor) {
  const std::string id = PkPersistentId({});
  const std::string bytes_id =
      PkTuple({PkText("storage"), PkGlobal("torch.storage", "UntypedStorage"), PkText("0"),
               PkText("cuda:0"), PkInt(16)}) +
      "Q";
  const std::string hooks = PkGlobal("collections", "OrderedDict") + ")R";
  const std::string size = PkGlobal("torch", "Size") + "(" + PkInts({4}) + "tR";
  const Opened opened(BuildCheckpoint(PkStateDict({
      {"v1", PkGlobal("torch._utils", "_rebuild_tensor") +
                 PkTuple({id, PkInt(0), PkInts({4}), PkInts({1})}) + "R"},
      {"v2", PkGlobal("torch._utils", "_rebuild_tensor_v2") +
                 PkTuple({id, PkInt(0), size, PkInts({1}), "\x89", hooks, "}"}) + "R"},
      {"v3", PkGlobal("torch._utils", "_rebuild_tensor_v3") +
                 PkTuple({bytes_id, PkInt(8), PkInts({8}), PkInts({1}), "\x89", hooks,
                          PkGlobal("torch", "float8_e4m3fn")}) +
                 "R"},
      {"v3u16", PkGlobal("torch._utils", "_rebuild_tensor_v3") +
                    PkTuple({bytes_id, PkInt(4), PkInts({4}), PkInts({1}), "\x89", hooks,
                             PkGlobal("torch", "uint16")}) +
                    "R"},
      {"parameter",
       PkGlobal("torch._utils", "_rebuild_parameter") + PkTuple({PkTensor(), "\x88", hooks}) + "R"},
      {"with_state", PkGlobal("torch._utils", "_rebuild_parameter_with_state") +
                         PkTuple({PkTensor(), "\x88", hooks, PkDict({{"a", "N"}})}) + "R"},
      {"typed",
       PkGlobal("torch._tensor", "_rebuild_from_type_v2") +
           PkTuple({PkGlobal("torch._utils", "_rebuild_tensor_v2"),
                    PkGlobal("torch.nn.parameter", "Parameter"),
                    PkTuple({id, PkInt(0), PkInts({2, 2}), PkInts({2, 1}), "\x89", hooks}), "}"}) +
           "R"},
  })));
  for (const char* name : {"v1", "v2", "parameter", "with_state", "typed"}) {
    EXPECT_EQ(opened.Floats(name), (std::vector<float>{1, 2, 3, 4})) << name;
  }
  const TorchTensor& v3 = *opened.checkpoint.Find("v3");
  EXPECT_EQ(v3.dtype, std::nullopt);
  EXPECT_EQ(v3.dtype_name, "float8_e4m3fn");
  EXPECT_EQ(v3.size_bytes(), 8u);
  EXPECT_EQ(opened.Rows(v3, 0, 1), (std::vector<uint8_t>{0, 0, 0x40, 0x40, 0, 0, 0x80, 0x40}));
  EXPECT_EQ(opened.checkpoint.Find("v3u16")->elem_bytes, 2u);
}

TEST(TorchStateDictTest, KnowsEveryStorageClass) {
  struct Row {
    const char* torch_class;
    int64_t n_elems;
    const char* name;
    std::optional<DType> dtype;
  };
  for (const Row& row : {Row{"DoubleStorage", 2, "float64", DType::kF64},
                         {"FloatStorage", 4, "float32", DType::kF32},
                         {"HalfStorage", 8, "float16", DType::kF16},
                         {"BFloat16Storage", 8, "bfloat16", DType::kBF16},
                         {"LongStorage", 2, "int64", DType::kI64},
                         {"IntStorage", 4, "int32", DType::kI32},
                         {"ShortStorage", 8, "int16", DType::kI16},
                         {"CharStorage", 16, "int8", DType::kI8},
                         {"ByteStorage", 16, "uint8", {}},
                         {"BoolStorage", 16, "bool", {}},
                         {"ComplexFloatStorage", 2, "complex64", {}},
                         {"ComplexDoubleStorage", 1, "complex128", {}}}) {
    const Opened opened(BuildCheckpoint(PkStateDict(
        {{"w", PkTensor({row.torch_class, "0", row.n_elems}, 0, {row.n_elems}, {1})}})));
    const TorchTensor& tensor = opened.checkpoint.tensors()[0];
    EXPECT_EQ(tensor.dtype_name, row.name);
    EXPECT_EQ(tensor.dtype, row.dtype) << row.name;
    EXPECT_EQ(tensor.size_bytes(), 16u) << row.name;
    EXPECT_EQ(opened.Rows(tensor, 0, 1).size(), 16u);
  }
}

TEST(TorchStateDictTest, StripsPrefixesThatAllNamesShare) {
  const auto names_of = [](const std::vector<std::string>& names) {
    std::vector<testing::PkItem> items;
    for (const std::string& name : names) items.push_back({name, PkTensor()});
    return Opened(BuildCheckpoint(PkStateDict(items))).names();
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names_of({"module._orig_mod.a", "module._orig_mod.b"}), (Names{"a", "b"}));
  EXPECT_EQ(names_of({"_forward_module.module.a"}), Names{"a"});
  EXPECT_EQ(names_of({"module.a", "b"}), (Names{"module.a", "b"}));
  EXPECT_EQ(names_of({"module."}), Names{"module."});
  EXPECT_EQ(names_of({"_fsdp_wrapped_module.layers.0._fsdp_wrapped_module.w"}),
            Names{"layers.0.w"});
  EXPECT_EQ(names_of({"model.tok_embeddings.weight", "model.norm.weight"}),
            (Names{"tok_embeddings.weight", "norm.weight"}));
  EXPECT_EQ(names_of({"model.embed_tokens.weight"}), Names{"model.embed_tokens.weight"});
  ExpectError(
      [&] {
        names_of({"a._fsdp_wrapped_module.b", "a.b"});
      },
      ErrorCode::kData, "torch.duplicate-tensor", {"a.b"});
}

// --- CRC
// ------------------------------------------------------------------------------------------

TEST(TorchCheckpointTest, ChecksTheCrcOfAStorageWhileItIsRead) {
  std::vector<ZipPart> parts =
      CheckpointParts(PkStateDict({{"w", PkTensor()}, {"v", PkTensor({"FloatStorage", "1", 4})}}));
  parts.push_back(parts[1]);
  parts.back().name = "archive/data/1";
  parts.back().crc = 0x12345678;
  const std::string file = BuildZip(parts);
  const Opened opened(file);
  EXPECT_EQ(opened.Floats("w"), (std::vector<float>{1, 2, 3, 4}));
  opened.checkpoint.VerifyStorageCrc(0);
  ExpectError([&] { opened.Floats("v"); }, ErrorCode::kData, "zip.crc",
              {"tensor 'v'", "archive/data/1", "12345678"});
  ExpectError([&] { opened.checkpoint.VerifyStorageCrc(1); }, ErrorCode::kData, "zip.crc");
  ExpectError([&] { opened.checkpoint.VerifyAllCrcs(); }, ErrorCode::kData, "zip.crc",
              {"tensor 'v'", "archive/data/1"});
  const Opened lenient(file, {.verify_crc = false});
  EXPECT_EQ(lenient.Floats("v"), (std::vector<float>{1, 2, 3, 4}));

  // In order, the sum is taken on the way: the last row does not come out, however often one asks.
  const auto read = [&](uint64_t begin, uint64_t count) {
    const Opened fresh(file);
    fresh.Rows(*fresh.checkpoint.Find("v"), begin, count);
  };
  ASSERT_EQ(opened.checkpoint.Find("v")->rows(), 2u);
  read(0, 1);
  ExpectError([&] { read(0, 2); }, ErrorCode::kData, "zip.crc", {"archive/data/1"});
  ExpectError([&] { read(1, 1); }, ErrorCode::kData, "zip.crc", {"archive/data/1"});
  for (int i = 0; i < 2; ++i) {
    ExpectError([&] { opened.Floats("v"); }, ErrorCode::kData, "zip.crc");
  }

  parts = CheckpointParts(PkStateDict({{"w", PkTensor()}}));
  parts[0].crc = 1;
  ExpectError([&] { Opened{BuildZip(parts)}; }, ErrorCode::kData, "zip.crc", {"archive/data.pkl"});
  EXPECT_EQ(Opened(BuildZip(parts), {.verify_crc = false}).names().size(), 1u);
}

}  // namespace
}  // namespace quern
