#include <random>

#include "formats/formats.h"
#include "formats/integrity_trailer.h"
#include "formats/qpack_format.h"
#include "tests/formats/qpack_testing.h"

namespace quern {
namespace {

using testing::Bytes;
using testing::ErrorOf;
using testing::ExpectError;
using testing::InMemory;
using testing::Packed;
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
  for (size_t i = 0; i + 32 < bytes.size(); i += 31) {
    if (bytes[i] == 0) continue;
  }
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
  EXPECT_NE(std::string(error->what()).find(file.manifest().tensors[5].name), std::string::npos);
}

// A part of a split model is packed and unpacked, but not read as if it were the whole.
TEST(Qpack, PartsOfSplitModels) {
  auto b = testing::SmallLlama();
  b.Key<uint16_t>("split.no", 2, 0).Key<uint16_t>("split.count", 2, 2);
  b.Key<int32_t>("split.tensors.count", 5, 30);
  const Bytes gguf = b.Build();
  const Bytes qpack = Packed(gguf);
  EXPECT_EQ(Unpacked(qpack), gguf);
  ExpectError([&] { OpenQpack(InMemory(qpack)); }, ErrorCode::kUnsupported, "qpack.split",
              {"part 1 of 2"});
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
    ExpectError([&] { Unpacked(part); }, ErrorCode::kData, "qpack.truncated");
  }
  Bytes longer = qpack;
  longer.push_back(0);
  EXPECT_FALSE(Ids(longer).empty());
  ExpectError([&] { Unpacked(longer); }, ErrorCode::kData, "qpack.directory");
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
}

TEST(Qpack, HeadersThatWouldBeBombsAreStored) {
  // 8 MiB of one number pack to almost nothing: too much for what they would unpack to.
  testing::GgufBuilder b;
  b.Array<uint8_t>("zeros", 0, Bytes(8 << 20, 0));
  const Bytes gguf = b.Build();
  const Bytes qpack = Packed(gguf);
  EXPECT_EQ(Unpacked(qpack), gguf);
  EXPECT_EQ(UnpackedAtRandom(qpack), gguf);
  EXPECT_GT(qpack.size(), (gguf.size() - kQpackFreeHeaderBytes) / kQpackMaxHeaderRatio);
  EXPECT_LT(qpack.size(), gguf.size() / 2);
}

TEST(Qpack, GrowsLittle) {
  const Bytes gguf =
      testing::GgufBuilder().Tensor("a", {4 << 20}, 24, testing::Pattern(4 << 20)).Build();
  std::mt19937_64 random(5);
  Bytes noise = gguf;
  for (size_t i = 64; i < noise.size(); ++i) noise[i] = static_cast<uint8_t>(random());
  const GgufHeader header = ReadGgufHeader(*InMemory(gguf));
  std::copy(gguf.begin(), gguf.begin() + static_cast<ptrdiff_t>(header.data_offset), noise.begin());
  EXPECT_LE(Packed(noise).size(), noise.size() + noise.size() / 1000);
}

}  // namespace
}  // namespace quern
