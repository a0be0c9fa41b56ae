// Malformed and hostile checkpoints as a whole: what each layer lets through, the next must refuse.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "formats/torch_checkpoint.h"
#include "tests/formats/testing.h"
#include "tests/formats/torch_builder.h"
#include "tests/formats/torch_golden.h"

namespace quern {
namespace {

using testing::BuildCheckpoint;
using testing::BuildZip;
using testing::CheckpointParts;
using testing::Le64;
using testing::PkDict;
using testing::PkGlobal;
using testing::PkInt;
using testing::PkInts;
using testing::PkPersistentId;
using testing::PkStateDict;
using testing::PkStorage;
using testing::PkTensor;
using testing::PkText;
using testing::PkTuple;
using testing::ZipPart;
using std::string_literals::operator""s;

void ExpectRefused(const std::string& file, std::string_view id,
                   const std::vector<std::string>& words = {}, ErrorCode code = ErrorCode::kData) {
  const MemoryBytes bytes(AsBytes(file), "x.pth");
  testing::ExpectError([&] { TorchCheckpoint::Open(bytes); }, code, id, words);
}
void ExpectTensorRefused(const std::string& tensor, std::string_view id,
                         const std::vector<std::string>& words = {},
                         ErrorCode code = ErrorCode::kData) {
  std::vector<std::string> all = words;
  all.push_back("'w'");
  ExpectRefused(BuildCheckpoint(PkStateDict({{"w", tensor}})), id, all, code);
}

TEST(HostileTorchTest, OtherContainersAreNamed) {
  const ErrorCode unsupported = ErrorCode::kUnsupported;
  const std::string magic = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e";
  ExpectRefused(magic + "\x80\x02M\xe9\x03."s, "torch.legacy-format", {"1.6"}, unsupported);
  ExpectRefused("\x80\x02}."s, "torch.legacy-format", {}, unsupported);
  ExpectRefused("\x80\x04\x95"s + Le64(2) + "}.", "torch.legacy-format", {}, unsupported);
  ExpectRefused(std::string(257, '\0') + "ustar", "torch.tar-format", {"tar"}, unsupported);
  ExpectRefused("PYTORCH1"s + std::string(100, '\0'), "torch.preview-format", {}, unsupported);
  ExpectRefused("7z\xbc\xaf\x27\x1c"s + std::string(64, '\0'), "input.unknown-format", {"7z"},
                unsupported);
  ExpectRefused("\x1f\x8b\x08"s, "input.unknown-format", {"gzip"}, unsupported);
  ExpectRefused("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "input.lfs-pointer",
                {"Git LFS"});
  ExpectRefused("<!DOCTYPE html><html>", "input.html");
  ExpectRefused("\x02\0\0\0\0\0\0\0{}"s, "input.kind", {"safetensors"}, unsupported);
  ExpectRefused("GGUF\3\0\0\0"s, "input.kind", {"GGUF"}, unsupported);
  ExpectRefused("nothing known", "input.unknown-format");
  ExpectRefused("", "zip.eocd");
  ExpectRefused("#!/bin/sh\n" + BuildZip({}), "zip.eocd");
  const MemoryBytes bytes(AsBytes(magic), "x.pth");
  const auto error = testing::ErrorOf([&] { TorchCheckpoint::Open(bytes); });
  EXPECT_NE(error->hint().find("torch.save"), std::string::npos);
}

TEST(HostileTorchTest, ArchivesThatAreNoCheckpoint) {
  const std::string pickle = PkStateDict({{"w", PkTensor()}});
  const auto with = [&](const std::string& name, const std::string& data, bool first = false) {
    std::vector<ZipPart> parts = CheckpointParts(pickle);
    ZipPart part;
    part.name = name;
    part.data = data;
    parts.insert(first ? parts.begin() : parts.end(), part);
    return BuildZip(parts);
  };
  ExpectRefused(BuildZip({}), "torch.no-data-pkl", {"data.pkl"});
  std::vector<ZipPart> parts = CheckpointParts(pickle);
  parts[0].name = "data.pkl";
  ExpectRefused(BuildZip(parts), "torch.no-data-pkl");
  parts[0].name = "archive/sub/data.pkl";
  ExpectRefused(BuildZip(parts), "torch.no-data-pkl");
  ExpectRefused(with("other/data.pkl", "N."), "torch.ambiguous", {"other/data.pkl"});
  ExpectRefused(with("other/file", "x", true), "torch.ambiguous", {"other/file"});
  ExpectRefused(with("archive/constants.pkl", "N."), "torch.torchscript", {},
                ErrorCode::kUnsupported);
  ExpectRefused(with("archive/byteorder", "big"), "torch.byteorder", {"big"},
                ErrorCode::kUnsupported);
  std::vector<ZipPart> versions = CheckpointParts(pickle);
  for (const std::string& version : {"0\n"s, "x"s, ""s, "3 "s, "-3"s, "999999999"s}) {
    versions[2].data = version;
    ExpectRefused(BuildZip(versions), "torch.version");
  }
  versions[2].data = "11\n";
  ExpectRefused(BuildZip(versions), "torch.version", {"11"}, ErrorCode::kUnsupported);
  for (const std::string& order : {"middle"s, ""s, "little\n"s, "BIG"s, std::string(5000, 'x')}) {
    ExpectRefused(with("archive/byteorder", order), "torch.byteorder");
  }
}

TEST(HostileTorchTest, ObjectsThatAreNoStateDict) {
  const auto refused = [](const std::string& object, std::string_view id,
                          ErrorCode code = ErrorCode::kData) {
    ExpectRefused(BuildCheckpoint("\x80\x02" + object + "."), id, {}, code);
  };
  refused("N", "torch.root", ErrorCode::kUnsupported);
  refused("](" + PkTensor() + "e", "torch.root", ErrorCode::kUnsupported);
  refused(PkTensor(), "torch.root", ErrorCode::kUnsupported);
  refused("}", "torch.no-tensors");
  refused(PkDict({{"w", "N"}}), "torch.no-tensors");
  refused(PkDict({{"model", PkDict({{"a", PkDict({{"w", PkTensor()}})}})}}), "torch.no-tensors");
  refused(PkDict({{"model", PkDict({{"w", PkTensor()}})}, {"model", PkDict({{"v", PkTensor()}})}}),
          "torch.ambiguous");
  refused("}K\1" + PkTensor() + "s", "torch.tensor-name");
  refused(PkDict({{"", PkTensor()}}), "torch.tensor-name");
  refused(PkDict({{"w", PkTensor()}, {"v", PkTensor()}, {"w", PkTensor()}}),
          "torch.duplicate-tensor");
  // The same name by two opcodes.
  refused("}(" + PkText("w") + PkTensor() + "U\1w"s + PkTensor() + "u", "torch.duplicate-tensor");
}

TEST(HostileTorchTest, TensorsBeyondTheirStorage) {
  const auto refused = [](int64_t offset, const std::vector<int64_t>& shape,
                          const std::vector<int64_t>& strides, std::string_view id,
                          const std::vector<std::string>& words = {}) {
    ExpectTensorRefused(PkTensor({}, offset, shape, strides), id, words);
  };
  refused(0, {5}, {1}, "torch.bounds", {"4"});
  refused(1, {2, 2}, {2, 1}, "torch.bounds");
  refused(4, {}, {}, "torch.bounds");
  refused(0, {2}, {4}, "torch.bounds");
  refused(-1, {2}, {1}, "torch.bounds", {"-1"});
  refused(0, {2, 2}, {int64_t{1} << 50, int64_t{1} << 50}, "torch.bounds");
  refused(int64_t{1} << 50, {1}, {1}, "torch.bounds");
  refused(0, {2, 2}, {INT64_MAX, INT64_MAX}, "torch.stride");
  refused(0, {2, 2}, {-2, 1}, "torch.stride", {"-2"});
  refused(0, {2, 2}, {2}, "torch.stride");
  refused(0, {2}, {2, 1}, "torch.stride");
  refused(0, {-2}, {1}, "torch.shape", {"-2"});
  refused(0, {INT64_MAX}, {0}, "torch.tensor-too-large", {"9223372036854775807"});
  refused(0, {INT64_MIN}, {0}, "torch.shape", {"-9223372036854775808"});
  refused(0, {INT32_MAX, INT32_MAX}, {0, 0}, "torch.tensor-too-large");
  refused(0, {int64_t{1} << 32, int64_t{1} << 32}, {0, 0}, "torch.tensor-too-large");
  // A product of 2^64 is 0 in 64 bits.
  refused(0, {int64_t{1} << 40, int64_t{1} << 22}, {0, 0}, "torch.tensor-too-large");
  // No order of dimensions hides the overflow behind a zero.
  refused(0, {int64_t{1} << 40, int64_t{1} << 40, 0}, {0, 0, 0}, "torch.tensor-too-large");
  refused(0, {0, int64_t{1} << 40, int64_t{1} << 40}, {0, 0, 0}, "torch.tensor-too-large");
  refused(0, {int64_t{1} << 25}, {0}, "torch.tensor-too-large");
  refused(0, std::vector<int64_t>(9, 1), std::vector<int64_t>(9, 1), "torch.rank", {"9"});
  refused(0, std::vector<int64_t>(100000, 1), {1}, "torch.rank", {"100000"});
}

TEST(HostileTorchTest, ManyNamesOfOneExpandedTensorAreNoBomb) {
  std::string items = "\x80\x02}(";
  for (int i = 0; i < 100; ++i) {
    items += PkText("t" + std::to_string(i));
    items += i == 0 ? PkTensor({}, 0, {1 << 24}, {0}) + "q\0"s : "h\0"s;
  }
  ExpectRefused(BuildCheckpoint(items + "u."), "torch.tensor-too-large");
}

TEST(HostileTorchTest, ManyTensorsInAFewBytesAreNoBomb) {
  // One tensor under 300,000 names, then the same name 300,000 times.
  const auto with_names = [](const auto& name_of) {
    std::string items = "\x80\x02}(" + PkText("first") + PkTensor() + "q\0"s;
    for (int i = 0; i < 300000; ++i) items += name_of(i) + "h\0"s;
    return BuildCheckpoint(items + "u.");
  };
  ExpectRefused(with_names([](int i) { return PkText(std::to_string(i)); }),
                "torch.too-many-tensors");
  const std::string long_name = PkText(std::string(1 << 20, 'n')) + "q\1";
  ExpectRefused(with_names([&](int i) { return i == 0 ? long_name : "h\1"s; }),
                "torch.too-many-tensors");
  std::string items = "\x80\x02}(" + long_name + PkTensor() + "q\0"s;
  for (int i = 0; i < 100000; ++i) items += "h\1h\0"s;
  ExpectRefused(BuildCheckpoint(items + "u."), "torch.duplicate-tensor");
}

TEST(HostileTorchTest, Storages) {
  const auto refused = [](const PkStorage& storage, std::string_view id,
                          const std::vector<std::string>& words = {},
                          ErrorCode code = ErrorCode::kData) {
    ExpectTensorRefused(PkTensor(storage), id, words, code);
  };
  refused({"FloatStorage", "1", 4}, "torch.storage-missing", {"archive/data/1"});
  refused({"FloatStorage", "../version", 4}, "torch.storage-missing");
  refused({"FloatStorage", std::string(100000, '0'), 4}, "torch.storage-missing");
  refused({"FloatStorage", "0", 5}, "torch.storage-size", {"16", "20"});
  refused({"FloatStorage", "0", 8}, "torch.storage-size");
  refused({"FloatStorage", "0", -4}, "torch.storage-size", {"-4"});
  refused({"FloatStorage", "0", INT64_MAX}, "torch.storage-size");
  refused({"DoubleStorage", "0", 4}, "torch.storage-size");
  refused({"QInt8Storage", "0", 16}, "torch.dtype", {"QInt8Storage"}, ErrorCode::kUnsupported);
  // A dtype where a storage class belongs.
  ExpectTensorRefused(PkTensor({"float32", "0", 4}), "torch.persistent-id");
}

TEST(HostileTorchTest, WaysToMakeATensorThatPyTorchNeverWrites) {
  const std::string id = PkPersistentId({});
  const std::string hooks = PkGlobal("collections", "OrderedDict") + ")R";
  const auto call = [](const std::string& name, const std::vector<std::string>& args) {
    return PkGlobal("torch._utils", name) + PkTuple(args) + "R";
  };
  const std::string sizes = PkInts({2, 2}), strides = PkInts({2, 1});
  const std::string id_args = "_rebuild_tensor_v2";
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{{},
                                             {id},
                                             {id, PkInt(0), sizes, strides},
                                             {PkText("0"), PkInt(0), sizes, strides, "\x89", hooks},
                                             {PkTensor(), PkInt(0), sizes, strides, "\x89", hooks},
                                             {id, PkInt(0), "](K\2e", strides, "\x89", hooks},
                                             {id, PkInt(0), sizes, PkInt(1), "\x89", hooks},
                                             {id, PkInt(0), sizes, "N", "\x89", hooks}}) {
    ExpectTensorRefused(call(id_args, args), "torch.tensor-args");
  }
  ExpectTensorRefused(call(id_args, std::vector<std::string>(100000, "N")), "torch.tensor-args",
                      {"100000"});
  ExpectTensorRefused(call(id_args, {id, PkText("0"), sizes, strides, "\x89", hooks}),
                      "torch.bounds");
  ExpectTensorRefused(
      call(id_args, {id, PkInt(0), PkTuple({PkText("2")}), PkInts({1}), "\x89", hooks}),
      "torch.shape");
  ExpectTensorRefused(call(id_args, {id, PkInt(0), PkTuple({"\x88"}), PkInts({1}), "\x89", hooks}),
                      "torch.shape");
  ExpectTensorRefused(call("_rebuild_tensor_v3", {id, PkInt(0), sizes, strides, "\x89", hooks}),
                      "torch.tensor-args");
  ExpectTensorRefused(
      call("_rebuild_tensor_v3", {id, PkInt(0), sizes, strides, "\x89", hooks, "N"}),
      "torch.tensor-args");
  ExpectTensorRefused(call("_rebuild_tensor_v3", {id, PkInt(0), sizes, strides, "\x89", hooks,
                                                  PkGlobal("torch", "qint8")}),
                      "torch.dtype", {}, ErrorCode::kUnsupported);
  // More arguments than the functions take.
  const std::string v1 = "_rebuild_tensor", dtype = PkGlobal("torch", "float32");
  ExpectTensorRefused(call(v1, {id, PkInt(0), sizes, strides, "\x89"}), "torch.tensor-args");
  ExpectTensorRefused(call(id_args, {id, PkInt(0), sizes, strides, "\x89", hooks, "N", "N"}),
                      "torch.tensor-args");
  ExpectTensorRefused(
      call("_rebuild_tensor_v3", {id, PkInt(0), sizes, strides, "\x89", hooks, dtype, "N", "N"}),
      "torch.tensor-args");
  ExpectTensorRefused(call("_rebuild_parameter", {}), "torch.tensor-args");
  ExpectTensorRefused(call("_rebuild_parameter", {"N", "\x88", hooks}), "torch.tensor-args");
  ExpectTensorRefused(
      PkGlobal("torch._tensor", "_rebuild_from_type_v2") + PkTuple({"N", "N", ")", "}"}) + "R",
      "torch.tensor-args");
  ExpectTensorRefused(PkGlobal("torch._tensor", "_rebuild_from_type_v2") +
                          PkTuple({PkGlobal("torch", "Tensor"), "N", ")", "}"}) + "R",
                      "torch.tensor-args");
  for (const char* name :
       {"_rebuild_sparse_tensor", "_rebuild_qtensor", "_rebuild_meta_tensor_no_storage"}) {
    ExpectTensorRefused(call(name, {}), "torch.unsupported-tensor", {name},
                        ErrorCode::kUnsupported);
  }
}

// A lazy view: the storage has one sign, the tensor the other.
TEST(HostileTorchTest, TensorsThatAreNegatedWhenRead) {
  const std::string dtype = PkGlobal("torch", "float32");
  const auto tensor = [](const std::string& function, const std::vector<std::string>& last) {
    std::vector<std::string> args = {PkPersistentId({}), PkInt(0), PkInts({2, 2}), PkInts({2, 1}),
                                     "\x89", PkGlobal("collections", "OrderedDict") + ")R"};
    args.insert(args.end(), last.begin(), last.end());
    return PkGlobal("torch._utils", function) + PkTuple(args) + "R";
  };
  for (const std::string bit : {"neg", "conj", "something new"}) {
    const std::string metadata = PkDict({{bit, "\x88"}});
    for (const std::string& hostile : {tensor("_rebuild_tensor_v2", {metadata}),
                                       tensor("_rebuild_tensor_v3", {dtype, metadata})}) {
      ExpectTensorRefused(hostile, "torch.unsupported-tensor", {bit}, ErrorCode::kUnsupported);
      const std::string parameter =
          PkGlobal("torch._utils", "_rebuild_parameter") + PkTuple({hostile, "\x88", "N"}) + "R";
      ExpectTensorRefused(parameter, "torch.unsupported-tensor", {bit}, ErrorCode::kUnsupported);
    }
  }
  ExpectTensorRefused(tensor("_rebuild_tensor_v2", {PkInt(1)}), "torch.tensor-args");
  for (const std::string& plain :
       {tensor("_rebuild_tensor_v2", {"N"}), tensor("_rebuild_tensor_v2", {"}"}),
        tensor("_rebuild_tensor_v3", {dtype, "}"})}) {
    const std::string file = BuildCheckpoint(PkStateDict({{"w", plain}}));
    const MemoryBytes bytes(AsBytes(file), "x.pth");
    EXPECT_EQ(TorchCheckpoint::Open(bytes).tensors().size(), 1u);
  }
}

TEST(HostileTorchTest, ElementsThatQuernCannotRead) {
  const std::string hooks = PkGlobal("collections", "OrderedDict") + ")R";
  for (const std::string name : {"float4_e2m1fn_x2", "bits8", "uint4", "quint4x2"}) {
    const std::string tensor =
        PkGlobal("torch._utils", "_rebuild_tensor_v3") +
        PkTuple({PkPersistentId({"UntypedStorage", "0", 16}), PkInt(0), PkInts({4}), PkInts({1}),
                 "\x89", hooks, PkGlobal("torch", name)}) +
        "R";
    ExpectTensorRefused(tensor, "torch.dtype", {"torch." + name}, ErrorCode::kUnsupported);
  }
}

TEST(HostileTorchTest, NamesAreEscapedAndCut) {
  const std::string name = "\x1b]0;pwn\x07" + std::string(10000, 'x');
  const std::string file = BuildCheckpoint(PkStateDict({{name, PkTensor({}, 9)}}));
  const MemoryBytes bytes(AsBytes(file), "x\n.pth");
  const auto error = testing::ErrorOf([&] { TorchCheckpoint::Open(bytes); });
  ASSERT_TRUE(error.has_value());
  const std::string line = error->what();
  EXPECT_NE(line.find("\\x1b]0;pwn\\x07xxx"), std::string::npos) << line;
  EXPECT_EQ(line.find('\x1b'), std::string::npos);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_LT(line.size(), 600u);
}

// What a reader can see of a checkpoint, as one text; or the id of its error.
std::string Outcome(const std::string& file) {
  try {
    const MemoryBytes bytes(AsBytes(file), "x.pth");
    const TorchCheckpoint checkpoint = TorchCheckpoint::Open(bytes);
    std::string seen;
    for (const TorchTensor& tensor : checkpoint.tensors()) {
      std::vector<uint8_t> data(tensor.size_bytes());
      checkpoint.ReadRows(tensor, 0, tensor.rows(), data);
      seen += tensor.name + ::testing::PrintToString(tensor.shape) +
              std::string(tensor.dtype_name) + std::string(AsText(data)) + "\n";
    }
    checkpoint.VerifyAllCrcs();
    return seen;
  } catch (const Error& error) {
    EXPECT_TRUE(error.code() == ErrorCode::kData || error.code() == ErrorCode::kUnsupported)
        << error.what();
    EXPECT_TRUE(error.has_file()) << error.what();
    EXPECT_FALSE(error.hint().empty()) << error.what();
    return "error " + error.id();
  }
}

TEST(HostileTorchTest, EveryTruncationIsAnError) {
  for (const std::string& good :
       {testing::TinyPth(), BuildCheckpoint(PkStateDict({{"w", PkTensor()}}))}) {
    ASSERT_EQ(Outcome(good).find("error"), std::string::npos);
    for (size_t n = 0; n < good.size(); ++n) {
      EXPECT_TRUE(Outcome(good.substr(0, n)).starts_with("error ")) << n;
      EXPECT_TRUE(Outcome(good.substr(n + 1)).starts_with("error ")) << n;
    }
  }
}

TEST(HostileTorchTest, EveryFlippedBitIsSeenOrMeansNothing) {
  const std::string good = testing::TinyPth();
  // What means nothing, on purpose: versions (PyTorch writes 0 and the newest of zip64), times,
  // attributes but for symbolic links (which the byte of the maker's system switches on), padding.
  std::vector<bool> means_nothing(good.size());
  const auto ignore = [&](size_t begin, size_t end) {
    std::fill(means_nothing.begin() + static_cast<ptrdiff_t>(begin),
              means_nothing.begin() + static_cast<ptrdiff_t>(end), true);
  };
  struct Place {
    size_t local, name_bytes, data;
  };
  size_t central = 0x2D2;
  for (const Place& place : {Place{0, 13, 0x40}, Place{0x167, 11, 0x1C0}, Place{0x1DC, 11, 0x240},
                             Place{0x256, 12, 0x2C0}}) {
    ignore(place.local + 4, place.local + 6);
    ignore(place.local + 10, place.local + 14);
    ignore(place.local + 30 + place.name_bytes, place.data);
    ignore(central + 4, central + 8);
    ignore(central + 12, central + 16);
    ignore(central + 36, central + 42);
    central += 46 + place.name_bytes;
  }
  // The last entry has two bytes: its local sizes, left at zero, become the true ones by one bit.
  ignore(0x256 + 18, 0x256 + 19);
  ignore(0x256 + 22, 0x256 + 23);
  ASSERT_EQ(central, 0x3B9u);  // zip64 records: versions, number of disks
  ignore(0x3B9 + 12, 0x3B9 + 16);
  ignore(0x3F1 + 16, 0x3F1 + 20);

  const std::string expected = Outcome(good);
  for (size_t i = 0; i < good.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ 1 << bit);
      const bool is_seen = Outcome(bad) != expected;
      EXPECT_TRUE(is_seen || means_nothing[i]) << "byte " << i << ", bit " << bit;
    }
  }
}

TEST(HostileTorchTest, RandomDamageNeverCrashes) {
  const std::string good = BuildCheckpoint(
      PkStateDict({{"w", PkTensor()}, {"v", PkTensor({}, 0, {4}, {1})}}), {.has_zip64 = true});
  std::mt19937 random(3);
  int n_errors = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bad = good;
    for (uint32_t n = 1 + random() % 4; n > 0; --n) {
      const size_t at = random() % bad.size();
      switch (random() % 4) {
        case 0: bad[at] = static_cast<char>(random()); break;
        case 1: bad.erase(at, 1 + random() % 8); break;
        case 2: bad.insert(at, std::string(1 + random() % 8, static_cast<char>(random()))); break;
        default: bad.replace(at, 4, "\xFF\xFF\xFF\xFF"); break;
      }
      if (bad.empty()) bad = "x";
    }
    n_errors += Outcome(bad).starts_with("error ");
  }
  EXPECT_GT(n_errors, 19000);
}

}  // namespace
}  // namespace quern
