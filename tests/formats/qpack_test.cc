#include <random>

#include "formats/formats.h"
#include "formats/gguf_outline.h"
#include "formats/integrity_trailer.h"
#include "formats/qpack_format.h"
#include "formats/verifying_store.h"
#include "tests/formats/qpack_testing.h"

namespace quern {
namespace {

using testing::Bytes;
using testing::ErrorOf;
using testing::ExpectError;
using testing::InMemory;
using testing::Packed;
using testing::PutLE;
using testing::Unpacked;
using testing::UnpackedAtRandom;

constexpr QpackWriteOptions kSmallSegments{.level = 1, .segment_bytes = kQpackMinSegmentBytes};

Bytes WithTrailer(const Bytes& plain) {
  const GgufFile file(InMemory(plain));
  Bytes out, buffer(1 << 16);
  const auto sink = MakeGgufWriter(std::make_unique<testing::VectorOutput>(out), {.trailer = true});
  sink->Begin(file.manifest());
  StoreWalk walk(file);
  while (const auto band = walk.Next(buffer)) sink->Put(*band);
  sink->Finish();
  return out;
}

// GGUF files of every kind that a reader may meet, ours or not.
std::vector<std::pair<std::string, Bytes>> ManyFiles() {
  std::vector<std::pair<std::string, Bytes>> files;
  const auto Add = [&](std::string name, Bytes bytes) {
    files.emplace_back(std::move(name), std::move(bytes));
  };
  for (const uint32_t version : {1u, 2u, 3u}) {
    Add("version " + std::to_string(version), testing::SmallLlama(version).Build());
  }
  Add("aligned to 64", testing::SmallLlama(3, 64).Build());
  Add("aligned to 1", testing::SmallLlama(3, 1).Build());
  Add("aligned to 65536", testing::SmallLlama(3, 65536).Build());
  Add("every type", testing::EveryType(7).Build());
  Add("every type, many segments", testing::EveryType(300).Build());
  Add("trailer", WithTrailer(testing::SmallLlama().Build()));
  Add("no tensors", testing::GgufBuilder().U32("a", 1).Build());
  Add("nothing", testing::GgufBuilder().Build());
  Add("empty tensors", testing::GgufBuilder()
                           .Tensor("a", {8, 0}, 0, {})
                           .Tensor("b", {3}, 0, testing::Pattern(12))
                           .Tensor("c", {0}, 0, {})
                           .Build());
  Add("only empty tensors", testing::GgufBuilder().Tensor("a", {0}, 0, {}).Build());
  Bytes bytes = testing::GgufBuilder().Tensor("a", {0}, 0, {}).Header();
  Add("no padding behind the header", bytes);
  bytes = testing::SmallLlama().Build();
  bytes.resize(bytes.size() - 22);
  Add("no padding behind the last tensor", bytes);
  bytes = testing::SmallLlama().Build();
  const GgufFile file(InMemory(bytes));
  bytes[file.layout().header_bytes] = 9;
  bytes[bytes.size() - 1] = 7;
  Add("padding that is not zero", bytes);
  bytes = testing::SmallLlama().Build();
  const Bytes more = testing::Pattern(10000);
  bytes.insert(bytes.end(), more.begin(), more.end());
  Add("bytes behind the tensors", bytes);
  bytes.resize(testing::SmallLlama().Build().size() + 2 * kQpackMinSegmentBytes - 22);
  Add("a tail of whole segments", bytes);
  testing::GgufBuilder odd;
  odd.Text("general.architecture", "mamba").F32("quern.trailer", 1);
  odd.Text("tokenizer.ggml.model", "what").U32("llama.context_length", 0);
  Add("metadata that quern would refuse", odd.Build());
  return files;
}

// Files that quern does not read as models; `has_outline`: where their tensors lie is clear.
struct OddFile {
  std::string name;
  Bytes bytes;
  bool has_outline = true;
};
std::vector<OddFile> OddFiles() {
  std::vector<OddFile> files;
  const auto AddTo = [&](testing::GgufBuilder b, std::string name, bool has_outline = true) {
    b.Tensor("last", {5000}, 30, testing::Pattern(10000));
    files.push_back({std::move(name), b.Build(), has_outline});
  };
  const auto Nested = [](int depth) {
    testing::GgufBuilder b;
    Bytes key = b.KeyAndType("nested", 9);
    for (int i = 1; i < depth; ++i) {
      PutLE(key, uint32_t{9});
      PutLE(key, uint64_t{1});
    }
    PutLE(key, uint32_t{4});
    PutLE(key, uint64_t{2});
    PutLE(key, uint64_t{77});
    b.keys.push_back(key);
    return b;
  };
  AddTo(Nested(2), "arrays of arrays");
  AddTo(Nested(8), "eight arrays deep");
  AddTo(Nested(9), "nine arrays deep", false);
  AddTo(testing::GgufBuilder().Tensor("a", {64}, 99, testing::Pattern(256)), "an unknown type");
  AddTo(testing::GgufBuilder().Key<uint32_t>("a", 13, 1), "an unknown type of value", false);
  AddTo(testing::GgufBuilder().U32("a", 1).U32("a", 2), "a key twice");
  AddTo(testing::GgufBuilder().Text("\xff", "\xfe"), "bytes that are no text");
  AddTo(testing::GgufBuilder().Key<uint8_t>("b", 7, 2), "a boolean of two");
  AddTo(testing::GgufBuilder().Key<uint64_t>("general.alignment", 10, 32), "alignment as UINT64");
  AddTo(testing::GgufBuilder().Key<int32_t>("general.alignment", 5, 32), "signed alignment", false);
  AddTo(testing::GgufBuilder().U32("general.alignment", 48), "alignment to 48", false);
  AddTo(testing::GgufBuilder().Tensor("a", {}, 0, testing::Pattern(4)), "a scalar");
  AddTo(testing::GgufBuilder().Tensor("a", {2, 2, 2, 2, 4}, 0, testing::Pattern(256)), "five axes");
  AddTo(testing::GgufBuilder().Tensor("a", {16, 2}, 8, testing::Pattern(34)), "rows of half blocks");
  AddTo(testing::GgufBuilder().Tensor("a", {31}, 8, testing::Pattern(34)), "half a block");
  AddTo(testing::GgufBuilder().Info("a", {uint64_t{1} << 40, 1 << 30}, 0, 0), "2^70 elements");
  AddTo(testing::GgufBuilder().Info("a", {1 << 30}, 0, ~uint64_t{0}), "an offset of 2^64");
  AddTo(testing::GgufBuilder().Tensor(std::string(64, 'a'), {8}, 0, testing::Pattern(32)),
        "a long name");
  testing::GgufBuilder gap;
  gap.Tensor("a", {3000}, 0, testing::Pattern(12000)).data.resize(20000);
  AddTo(gap.Tensor("b", {3000}, 30, testing::Pattern(6000)), "a gap between tensors");
  testing::GgufBuilder order;
  order.Info("b", {5000}, 30, 12800).Info("a", {3000}, 0, 0).data = testing::Pattern(22816);
  AddTo(order, "another order");
  testing::GgufBuilder overlap;
  overlap.Info("a", {3000}, 0, 0).Info("b", {3000}, 0, 6000).Info("c", {100}, 30, 12000).data =
      testing::Pattern(12224);
  AddTo(overlap, "tensors that overlap");
  testing::GgufBuilder big_endian;
  big_endian.version = 3U << 24;
  AddTo(big_endian, "big-endian", false);
  testing::GgufBuilder version_4;
  version_4.version = 4;
  AddTo(version_4, "version 4", false);
  testing::GgufBuilder many;
  many.n_tensors_more = uint64_t{1} << 40;
  AddTo(many, "2^40 tensors", false);
  files.push_back({"the magic alone and noise", {'G', 'G', 'U', 'F', 9, 8, 7, 6, 5}, false});
  return files;
}

TEST(Qpack, WhateverBeginsAsGgufComesBack) {
  for (const OddFile& file : OddFiles()) {
    SCOPED_TRACE(file.name);
    testing::MemoryStream stream(file.bytes);
    EXPECT_EQ(ReadGgufOutline(stream).has_value(), file.has_outline);
    for (const uint32_t segment_bytes : {kQpackMinSegmentBytes, kQpackSegmentBytes}) {
      const Bytes qpack = Packed(file.bytes, {.segment_bytes = segment_bytes});
      EXPECT_EQ(Unpacked(qpack), file.bytes);
      EXPECT_EQ(Unpacked(qpack, 7), file.bytes);
      EXPECT_EQ(UnpackedAtRandom(qpack), file.bytes);
      // Whatever is refused in it is refused packed and unpacked.
      const auto plain = ErrorOf([&] { GgufFile model(InMemory(file.bytes)); });
      const auto packed = ErrorOf([&] { OpenQpack(InMemory(qpack)); });
      EXPECT_EQ(plain.has_value(), packed.has_value());
      if (plain && packed) {
        EXPECT_EQ(plain->id(), packed->id());
      }
    }
  }
}

TEST(Qpack, GivesBackTheVeryBytes) {
  for (const auto& [name, gguf] : ManyFiles()) {
    SCOPED_TRACE(name);
    for (const int level : {1, 2, 3}) {
      for (const uint32_t segment_bytes : {kQpackMinSegmentBytes, kQpackSegmentBytes}) {
        const Bytes qpack = Packed(gguf, {.level = level, .segment_bytes = segment_bytes});
        EXPECT_EQ(DetectKind(qpack, ""), FileKind::kQpack);
        EXPECT_EQ(Unpacked(qpack), gguf);
        EXPECT_EQ(Unpacked(qpack, 7), gguf);
        EXPECT_EQ(UnpackedAtRandom(qpack), gguf);
      }
    }
  }
}

TEST(Qpack, TheSinkWritesWhatPackMakesOfTheGguf) {
  const Bytes plain = testing::SmallLlama().Build();
  const GgufFile file(InMemory(plain));
  const Container* container = FindContainer("qpack");
  ASSERT_NE(container, nullptr);
  for (const bool trailer : {false, true}) {
    Bytes out, buffer(300);
    const auto sink =
        container->make_writer(std::make_unique<testing::VectorOutput>(out), {.trailer = trailer});
    sink->Begin(file.manifest());
    StoreWalk walk(file);
    while (const auto band = walk.Next(buffer)) sink->Put(*band);
    sink->Finish();
    const Bytes gguf = trailer ? WithTrailer(plain) : testing::WriteGguf(file);
    EXPECT_EQ(out, Packed(gguf));
    EXPECT_EQ(Unpacked(out), gguf);
  }
}

TEST(Qpack, ReadsAnywhere) {
  const Bytes gguf = testing::EveryType(300).Build();
  const Bytes qpack = Packed(gguf, kSmallSegments);
  const QpackBytes bytes(InMemory(qpack));
  ASSERT_EQ(bytes.size_bytes(), gguf.size());
  EXPECT_GT(bytes.n_segments(), 100U);
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    const size_t begin = random() % (gguf.size() + 1);
    const size_t n = random() % std::min<size_t>(gguf.size() - begin + 1, 20000);
    EXPECT_EQ(bytes.ReadVector(begin, n), Bytes(gguf.begin() + static_cast<ptrdiff_t>(begin),
                                                gguf.begin() + static_cast<ptrdiff_t>(begin + n)));
  }
  ExpectError([&] { bytes.ReadVector(gguf.size(), 1); }, ErrorCode::kData, "input.truncated");
}

TEST(Qpack, IsAModelLikeTheGgufInside) {
  const Bytes gguf = WithTrailer(testing::SmallLlama().Build());
  const Bytes qpack = Packed(gguf, kSmallSegments);
  const GgufFile plain(InMemory(gguf));
  const auto store = OpenQpack(InMemory(qpack));
  EXPECT_EQ(store->manifest(), plain.manifest());
  for (size_t i = 0; i < plain.manifest().tensors.size(); ++i) {
    EXPECT_EQ(testing::TensorBytes(*store, i), testing::TensorBytes(plain, i));
  }
  EXPECT_EQ(testing::WriteGguf(*ReadQpackStream(std::make_unique<testing::MemoryStream>(qpack))),
            testing::WriteGguf(plain));
  EXPECT_TRUE(CheckQpack(InMemory(qpack)).empty());
}

TEST(Qpack, WorkersAndMemoryDoNotChangeTheBytes) {
  const Bytes gguf = testing::EveryType(1000).Build();
  const Bytes expected = Packed(gguf, kSmallSegments);
  for (const uint64_t memory_bytes : {uint64_t{1}, uint64_t{60} << 20, uint64_t{1} << 40}) {
    QpackWriteOptions options = kSmallSegments;
    options.memory_bytes = memory_bytes;
    EXPECT_EQ(Packed(gguf, options), expected);
  }
}

TEST(Qpack, DoesNotPackWhatIsDamaged) {
  Bytes gguf = WithTrailer(testing::SmallLlama().Build());
  const auto Pack = [](const Bytes& bytes) {
    Bytes out;
    bool committed = false;
    testing::MemoryStream stream(bytes);
    const auto error = ErrorOf(
        [&] { PackGguf(stream, std::make_unique<testing::VectorOutput>(out, &committed), {}); });
    EXPECT_FALSE(committed);
    return error;
  };
  const GgufFile file(InMemory(gguf));
  gguf[file.tensor_offset(3)] ^= 1;
  EXPECT_EQ(Pack(gguf)->id(), "trailer.tensor");
  gguf[file.tensor_offset(3)] ^= 1;
  gguf.resize(file.tensor_offset(5) + 3);
  const auto error = Pack(gguf);
  EXPECT_EQ(error->id(), "gguf.tensor-past-eof");
  EXPECT_EQ(error->tensor(), file.manifest().tensors[5].name);
  gguf.resize(100);
  EXPECT_EQ(Pack(gguf)->id(), "gguf.truncated");
  EXPECT_EQ(Pack({'G', 'G', 'M', 'L', 1, 2, 3, 4})->id(), "input.unknown-format");
}

// A part of a split model is packed and unpacked, but not read as if it were the whole.
TEST(Qpack, PartsOfSplitModels) {
  auto b = testing::SmallLlama();
  b.Key<uint16_t>("split.no", 2, 0).Key<uint16_t>("split.count", 2, 2);
  b.Key<int32_t>("split.tensors.count", 5, 30);
  const Bytes gguf = b.Build();
  const Bytes qpack = Packed(gguf);
  EXPECT_EQ(Unpacked(qpack), gguf);
  ExpectError([&] { OpenQpack(InMemory(qpack)); }, ErrorCode::kUnsupported, "gguf.split-name");
  ExpectError([&] { ReadQpackStream(std::make_unique<testing::MemoryStream>(qpack)); },
              ErrorCode::kUnsupported, "gguf.split", {"part 1 of 2"});
}

// Returns the ids that `check` gives, whether the file opens or not.
std::vector<std::string> Ids(const Bytes& qpack) {
  std::vector<std::string> ids;
  const auto error = ErrorOf([&] {
    for (const Finding& finding : CheckQpack(InMemory(qpack))) ids.push_back(finding.id);
  });
  if (error) ids.push_back(error->id());
  return ids;
}

Bytes SmallFile() {
  return testing::GgufBuilder()
      .U32("general.quantization_version", 2)
      .Tensor("a", {64}, 8, testing::Pattern(68))
      .Tensor("b", {300}, 30, Bytes(600, 3))
      .Build();
}

TEST(Qpack, EveryFlippedBitIsFound) {
  Bytes qpack = Packed(SmallFile());
  ASSERT_TRUE(Ids(qpack).empty());
  for (size_t i = 0; i < qpack.size() * 8; ++i) {
    qpack[i / 8] ^= static_cast<uint8_t>(1 << (i % 8));
    EXPECT_FALSE(Ids(qpack).empty()) << "bit " << i;
    const auto error = ErrorOf([&] { Unpacked(qpack); });
    EXPECT_TRUE(error.has_value()) << "bit " << i;
    if (error) {
      EXPECT_TRUE(error->has_file());
    }
    qpack[i / 8] ^= static_cast<uint8_t>(1 << (i % 8));
  }
}

TEST(Qpack, EveryTruncationIsFound) {
  const Bytes qpack = Packed(SmallFile());
  for (size_t n = 0; n < qpack.size(); ++n) {
    const Bytes part(qpack.begin(), qpack.begin() + static_cast<ptrdiff_t>(n));
    EXPECT_FALSE(Ids(part).empty()) << n;
    EXPECT_EQ(Ids(part).front(), "qpack.truncated") << n;
    ExpectError([&] { Unpacked(part); }, ErrorCode::kData, "qpack.truncated");
  }
  Bytes longer = qpack;
  longer.push_back(0);
  EXPECT_FALSE(Ids(longer).empty());
  ExpectError([&] { Unpacked(longer); }, ErrorCode::kData, "qpack.directory");
}

// Returns where in a QPACK segment `index` begins, by its directory.
uint64_t QpackOffsetOf(const Bytes& qpack, size_t index) {
  const uint64_t n = LoadLE<uint64_t>(&qpack[qpack.size() - 24]);
  uint64_t offset = kQpackPrologueBytes;
  for (size_t i = 0; i < index; ++i) {
    offset += LoadLE<uint32_t>(&qpack[qpack.size() - kQpackFooterBytes - 4 * (n - i)]);
  }
  return offset;
}

TEST(Qpack, EveryDamagedSegmentIsAFinding) {
  const Bytes gguf = testing::EveryType(300).Build();
  Bytes qpack = Packed(gguf, kSmallSegments);
  qpack[qpack.size() / 2] ^= 1;
  qpack[qpack.size() / 4] ^= 1;
  EXPECT_EQ(Ids(qpack), (std::vector<std::string>{"qpack.segment", "qpack.segment"}));
  const auto findings = CheckQpack(InMemory(qpack));
  EXPECT_NE(findings[0].line.find("tensor '"), std::string::npos) << findings[0].line;
  EXPECT_NE(findings[0].line.find("segment "), std::string::npos) << findings[0].line;
  // What is not touched by it is read.
  const auto store = OpenQpack(InMemory(qpack));
  size_t n_damaged = 0;
  for (size_t i = 0; i < store->manifest().tensors.size(); ++i) {
    n_damaged += ErrorOf([&] { testing::TensorBytes(*store, i); }).has_value() ? 1 : 0;
  }
  EXPECT_EQ(n_damaged, 2U);
}

// Where somebody else looks at the tensors, all other segments are read; where nobody can, all.
TEST(Qpack, ChecksWhatNoTensorHas) {
  Bytes gguf = testing::GgufBuilder().Tensor("t", {1 << 16}, 24, testing::Pattern(1 << 16)).Build();
  gguf.resize(gguf.size() + kMaxTrailerBytes + (1 << 20), 7);
  Bytes qpack = Packed(gguf, kSmallSegments);
  const auto HasDamage = [&] {
    for (const Finding& finding : CheckQpack(InMemory(qpack), /*hash_tensors=*/false)) {
      if (finding.id == "qpack.segment") return true;
    }
    return false;
  };
  EXPECT_FALSE(HasDamage());
  qpack[QpackOffsetOf(qpack, 20)] ^= 1;  // the tail begins with segment 17 or 18
  EXPECT_TRUE(HasDamage());

  Bytes unknown = testing::EveryType(300).Build();
  unknown[AsText(unknown).find("q4_k") + 4 + 4 + 8] = 200;  // the type
  qpack = Packed(unknown, kSmallSegments);
  EXPECT_FALSE(HasDamage());
  qpack[QpackOffsetOf(qpack, 30)] ^= 1;
  EXPECT_TRUE(HasDamage());
}

// Where the directory is gone, a check reads on in order, to name the tensor at which the file
// breaks.
TEST(Qpack, DamageIsNamedWithoutADirectory) {
  const Bytes qpack = Packed(testing::EveryType(300).Build(), kSmallSegments);
  const auto Breaks = [](const Bytes& bytes) {
    const auto findings = CheckQpack(InMemory(bytes));
    EXPECT_EQ(findings.size(), 2U);
    return findings.back();
  };
  Bytes cut(qpack.begin(), qpack.begin() + static_cast<ptrdiff_t>(qpack.size() / 2));
  EXPECT_EQ(Breaks(cut).id, "qpack.truncated");
  EXPECT_FALSE(Breaks(cut).tensor.empty());
  EXPECT_TRUE(Breaks(cut).offset.has_value());
  Bytes damaged = qpack;
  damaged[qpack.size() - 50] ^= 1;  // the directory
  damaged[qpack.size() / 3] ^= 1;
  EXPECT_EQ(Breaks(damaged).id, "qpack.segment");
  EXPECT_FALSE(Breaks(damaged).tensor.empty());
  // The directory alone.
  damaged[qpack.size() / 3] ^= 1;
  EXPECT_EQ(Ids(damaged), std::vector<std::string>{"qpack.directory"});
}

// The trailer of the GGUF file inside is compared too: hashes of QPACK say only that nothing
// changed since it was packed.
TEST(Qpack, TheTrailerInsideIsCompared) {
  Bytes gguf = WithTrailer(testing::SmallLlama().Build());
  const GgufFile file(InMemory(gguf));
  gguf[file.tensor_offset(3)] ^= 1;
  Bytes qpack;
  const auto output = MakeQpackOutput(std::make_unique<testing::VectorOutput>(qpack));
  output->Write(gguf);
  output->Commit();
  EXPECT_EQ(Unpacked(qpack), gguf);
  EXPECT_EQ(Ids(qpack), std::vector<std::string>{"trailer.tensor"});
  ExpectError(
      [&] { testing::WriteGguf(*ReadQpackStream(std::make_unique<testing::MemoryStream>(qpack))); },
      ErrorCode::kData, "trailer.tensor");
  const VerifyingStore store(OpenQpack(InMemory(qpack)));
  testing::TensorBytes(store, 2);
  ExpectError([&] { testing::TensorBytes(store, 3); }, ErrorCode::kData, "trailer.tensor");
  Bytes unpacked;
  bool committed = false;
  ExpectError(
      [&] {
        UnpackQpack(std::make_unique<testing::MemoryStream>(qpack),
                    std::make_unique<testing::VectorOutput>(unpacked, &committed));
      },
      ErrorCode::kData, "trailer.tensor");
  EXPECT_FALSE(committed);
}

TEST(Qpack, HeadersThatWouldBeBombsAreStored) {
  // 12 MiB of one number pack to almost nothing: too much for what they would unpack to.
  testing::GgufBuilder b;
  b.Array<uint8_t>("zeros", 0, Bytes(12 << 20, 0));
  const Bytes gguf = b.Build();
  const Bytes qpack = Packed(gguf);
  EXPECT_EQ(Unpacked(qpack), gguf);
  EXPECT_EQ(UnpackedAtRandom(qpack), gguf);
  EXPECT_GE(qpack.size(), gguf.size() - kQpackFreeHeaderBytes);
  EXPECT_LT(qpack.size(), gguf.size() / 2);
}

Bytes Noise(size_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes out(n);
  for (uint8_t& byte : out) byte = static_cast<uint8_t>(random());
  return out;
}

// A file does not grow by more than 0.1 %, however small and many its tensors are; beside what a
// file of a few bytes takes.
TEST(Qpack, GrowsLittle) {
  struct Row {
    const char* name;
    size_t n_tensors;
    uint64_t n_elems;
    uint32_t type;
    size_t n_bytes;  // of each
    uint64_t alignment;
  };
  constexpr Row kRows[] = {
      {"one large tensor", 1, 4 << 20, 24, 4 << 20, 32},
      {"many norms", 2000, 64, 0, 256, 32},
      {"many small tensors with padding", 2000, 100, 24, 100, 32},
      {"tensors of one byte", 30000, 1, 24, 1, 1},
      {"blocks of eight planes", 500, 128, 28, 1024, 32},
      {"tensors a little longer than a segment", 8, (1 << 20) + 300, 24, (1 << 20) + 300, 32},
  };
  for (const Row& row : kRows) {
    testing::GgufBuilder b;
    b.alignment = row.alignment;
    if (row.alignment != 32) b.U32("general.alignment", static_cast<uint32_t>(row.alignment));
    for (size_t i = 0; i < row.n_tensors; ++i) {
      b.Tensor("t" + std::to_string(i), {row.n_elems}, row.type, Noise(row.n_bytes, i));
    }
    const Bytes gguf = b.Build();
    const Bytes qpack = Packed(gguf);
    EXPECT_LE(qpack.size(), gguf.size() + gguf.size() / 1000) << row.name;
  }
  // Types take turns in every segment.
  testing::GgufBuilder mixed;
  for (size_t i = 0; i < 40; ++i) {
    for (const BlockLayout& layout : AllLayouts()) {
      mixed.Tensor(std::string(layout.name) + std::to_string(i), {uint64_t{8} * layout.block_elems},
                   layout.gguf_id, Noise(8 * layout.block_bytes, i));
    }
  }
  const Bytes gguf = mixed.Build();
  EXPECT_LE(Packed(gguf).size(), gguf.size() + gguf.size() / 1000);
  // What the smallest file takes.
  const Bytes nothing = testing::GgufBuilder().Build();
  EXPECT_EQ(Packed(nothing).size(), nothing.size() + 28 + 72);
}

}  // namespace
}  // namespace quern
