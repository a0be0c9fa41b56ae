#include "formats/integrity_trailer.h"

#include <algorithm>
#include <atomic>
#include <random>
#include <set>
#include <thread>

#include "formats/verifying_store.h"
#include "tests/formats/gguf_builder.h"
#include "tests/formats/testing.h"

namespace quern {
namespace {

using testing::Bytes;
using testing::ErrorOf;
using testing::ExpectError;
using testing::InMemory;

// Returns the model in `plain` as quern writes it with a trailer.
Bytes Seal(const Bytes& plain) {
  const GgufFile file(InMemory(plain));
  Bytes out, buffer(1000);
  const auto sink = MakeGgufWriter(std::make_unique<testing::VectorOutput>(out), {.trailer = true});
  sink->Begin(file.manifest());
  StoreWalk walk(file);
  while (const auto band = walk.Next(buffer)) sink->Put(*band);
  sink->Finish();
  EXPECT_EQ(out.size(), GgufFileBytes(file.manifest(), {.trailer = true}));
  return out;
}
Bytes Sealed() { return Seal(testing::SmallLlama().Build()); }

// A file small enough for trying every bit: all keys, an f16 and a q8_0 tensor, both padded.
Bytes SmallSealed() {
  auto b = testing::SmallLlama();
  b.infos.clear();
  b.data.clear();
  b.Tensor("token_embd.weight", {2, 5}, 1, testing::Pattern(20))
      .Tensor("output.weight", {32}, 8, testing::Pattern(34));
  return Seal(b.Build());
}

std::vector<Finding> Check(const Bytes& bytes) {
  return CheckGgufIntegrity(GgufFile(InMemory(bytes)));
}

// Returns the ids of what `check` would find, whether the file opens or not.
std::vector<std::string> Ids(const Bytes& bytes) {
  std::vector<std::string> ids;
  const auto error = ErrorOf([&] {
    for (const Finding& finding : Check(bytes)) ids.push_back(finding.id);
  });
  if (error) ids.push_back(error->id());
  return ids;
}

// Reads a source to its end.
void Drain(TensorSource& source) {
  Bytes buffer(1 << 16);
  while (source.Next(buffer)) {
  }
}
std::unique_ptr<VerifyingStore> OpenVerifying(const Bytes& bytes,
                                              const VerifyOptions& options = {}) {
  return std::make_unique<VerifyingStore>(std::make_unique<GgufFile>(InMemory(bytes)), options);
}
std::optional<Error> ErrorOfWalk(const Bytes& bytes) {
  return ErrorOf([&] { Drain(*OpenVerifying(bytes)->Walk()); });
}
// Reads one row of each tensor.
std::optional<Error> ErrorOfReading(const Bytes& bytes) {
  return ErrorOf([&] {
    const auto store = OpenVerifying(bytes);
    const auto& tensors = store->manifest().tensors;
    for (size_t i = 0; i < tensors.size(); ++i) {
      Bytes row(tensors[i].row_bytes());
      store->ReadRows(i, tensors[i].rows() - 1, 1, row);
    }
  });
}
std::optional<Error> ErrorOfStream(const Bytes& bytes) {
  return ErrorOf([&] { Drain(*ReadGgufStream(std::make_unique<testing::MemoryStream>(bytes))); });
}

TEST(IntegrityTrailer, EncodesAndParses) {
  const IntegrityTrailer trailer{0x1122334455667788, 0x99, {1, 2, ~uint64_t{0}}};
  Bytes bytes = EncodeTrailer(trailer);
  ASSERT_EQ(bytes.size(), TrailerBytes(3));
  EXPECT_EQ(FindTrailer(bytes), trailer);
  for (size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_FALSE(FindTrailer(ByteView(bytes).first(n)).has_value());
    EXPECT_FALSE(FindTrailer(ByteView(bytes).last(n)).has_value());
  }
  for (size_t i = 0; i < bytes.size() * 8; ++i) {
    bytes[i / 8] ^= static_cast<uint8_t>(1 << (i % 8));
    EXPECT_FALSE(FindTrailer(bytes).has_value()) << i;
    bytes[i / 8] ^= static_cast<uint8_t>(1 << (i % 8));
  }
}

TEST(IntegrityTrailer, FilesProveThemselves) {
  const Bytes bytes = Sealed();
  EXPECT_TRUE(Check(bytes).empty());
  EXPECT_FALSE(ErrorOfWalk(bytes).has_value());
  EXPECT_FALSE(ErrorOfReading(bytes).has_value());
  EXPECT_FALSE(ErrorOfStream(bytes).has_value());
  // The model is the same as without, and so is what is written of it without.
  const Bytes plain_bytes = testing::SmallLlama().Build();
  const GgufFile plain(InMemory(plain_bytes)), sealed(InMemory(bytes));
  EXPECT_EQ(sealed.manifest(), plain.manifest());
  EXPECT_EQ(testing::WriteGguf(sealed), testing::WriteGguf(plain));
  EXPECT_EQ(sealed.trailing_bytes(), TrailerBytes(21));
}

TEST(IntegrityTrailer, FilesWithoutOneAreNotFoundFaultWith) {
  const Bytes plain = testing::SmallLlama().Build();
  EXPECT_TRUE(Check(plain).empty());
  EXPECT_FALSE(ErrorOfWalk(plain).has_value());
}

TEST(IntegrityTrailer, EveryFlippedBitIsFound) {
  Bytes bytes = SmallSealed();
  for (size_t i = 0; i < bytes.size() * 8; ++i) {
    bytes[i / 8] ^= static_cast<uint8_t>(1 << (i % 8));
    bool is_error = false;
    const auto refused = ErrorOf([&] {
      for (const Finding& finding : Check(bytes)) {
        is_error = is_error || finding.severity == Finding::Severity::kError;
      }
    });
    ASSERT_TRUE(is_error || refused) << "bit " << i;
    bytes[i / 8] ^= static_cast<uint8_t>(1 << (i % 8));
  }
}

// In a file of 16 MiB. A tensor's hash knows nothing of the other tensors, so one check answers for
// one flip in each of them, by name; what hits no tensor is checked alone.
TEST(IntegrityTrailer, AHundredThousandRandomFlipsAreFound) {
  constexpr size_t kTensors = 260, kTensorBytes = 65500;  // no multiple of 32: padding behind each
  auto b = testing::SmallLlama();
  b.infos.clear();
  b.data.clear();
  for (size_t i = 0; i < kTensors; ++i) {
    b.Tensor(std::to_string(i), {655, kTensorBytes / 655}, 24,
             testing::Pattern(kTensorBytes, static_cast<uint32_t>(i)));
  }
  Bytes bytes = Seal(b.Build());
  ASSERT_GT(bytes.size(), size_t{16} << 20);
  std::vector<uint64_t> begins;
  {
    const GgufFile file(InMemory(bytes));
    for (size_t i = 0; i < kTensors; ++i) begins.push_back(file.tensor_offset(i));
  }
  const auto Flip = [&](uint64_t bit) { bytes[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8)); };

  std::mt19937_64 random(7);
  std::vector<uint64_t> elsewhere;
  std::vector<std::vector<uint64_t>> rounds;  // of each, at most one bit in a tensor
  std::vector<size_t> n_flips(kTensors);
  for (int i = 0; i < 100000; ++i) {
    const uint64_t bit = random() % (bytes.size() * 8);
    const auto after = std::upper_bound(begins.begin(), begins.end(), bit / 8);
    if (after == begins.begin() || bit / 8 - *(after - 1) >= kTensorBytes) {
      elsewhere.push_back(bit);
      continue;
    }
    const size_t round = n_flips[static_cast<size_t>(after - begins.begin()) - 1]++;
    if (round == rounds.size()) rounds.emplace_back();
    rounds[round].push_back(bit);
  }
  EXPECT_GT(elsewhere.size(), 50U);
  for (const std::vector<uint64_t>& bits : rounds) {
    std::set<std::string> expected, found;
    for (const uint64_t bit : bits) {
      Flip(bit);
      const auto after = std::upper_bound(begins.begin(), begins.end(), bit / 8);
      expected.insert("'" + std::to_string(after - begins.begin() - 1) + "'");
    }
    for (const Finding& finding : Check(bytes)) {
      ASSERT_EQ(finding.id, "trailer.tensor");
      const size_t begin = finding.line.find("tensor '") + 7;
      found.insert(finding.line.substr(begin, finding.line.find('\'', begin + 1) + 1 - begin));
    }
    for (const uint64_t bit : bits) Flip(bit);
    ASSERT_EQ(found, expected);
  }
  for (const uint64_t bit : elsewhere) {
    Flip(bit);
    bool is_error = false;
    const auto refused = ErrorOf([&] {
      for (const Finding& finding : Check(bytes)) {
        is_error = is_error || finding.severity == Finding::Severity::kError;
      }
    });
    ASSERT_TRUE(is_error || refused) << "bit " << bit;
    Flip(bit);
  }
  EXPECT_TRUE(Check(bytes).empty());
}

TEST(IntegrityTrailer, EveryTruncationIsFound) {
  const Bytes bytes = SmallSealed();
  for (size_t n = 0; n < bytes.size(); ++n) {
    const Bytes part(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
    ASSERT_FALSE(Ids(part).empty()) << n;
    ASSERT_TRUE(ErrorOfWalk(part).has_value()) << n;
    ASSERT_TRUE(ErrorOfReading(part).has_value()) << n;
    ASSERT_TRUE(ErrorOfStream(part).has_value()) << n;
  }
}

TEST(IntegrityTrailer, NoPassTakesADamagedModel) {
  // All bits but those of padding, which carries nothing.
  const Bytes sealed = Sealed();
  Bytes bytes = sealed;
  const GgufFile whole(InMemory(sealed));
  const auto& tensors = whole.manifest().tensors;
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    const size_t i = random() % tensors.size();
    const uint64_t at = whole.tensor_offset(i) + random() % tensors[i].size_bytes();
    bytes[at] ^= static_cast<uint8_t>(1U << random() % 8);
    for (const auto& error : {ErrorOfWalk(bytes), ErrorOfReading(bytes), ErrorOfStream(bytes)}) {
      ASSERT_TRUE(error.has_value());
      EXPECT_EQ(error->id(), "trailer.tensor");
      EXPECT_EQ(error->tensor(), tensors[i].name);
    }
    EXPECT_EQ(Ids(bytes), std::vector<std::string>{"trailer.tensor"});
    bytes = sealed;
  }
}

TEST(IntegrityTrailer, NamesWhatIsWrong) {
  const Bytes sealed = Sealed();
  const GgufFile file(InMemory(sealed));
  const auto With = [&](auto change) {
    Bytes bytes = sealed;
    change(bytes);
    return bytes;
  };
  const uint64_t end = file.layout().data_end;
  using Strings = std::vector<std::string>;
  EXPECT_EQ(Ids(With([&](Bytes& b) { b.resize(end); })), Strings{"trailer.missing"});
  EXPECT_EQ(Ids(With([&](Bytes& b) { b.resize(end + 9); })), Strings{"trailer.damaged"});
  EXPECT_EQ(Ids(With([&](Bytes& b) { b[end + 30] ^= 1; })), Strings{"trailer.damaged"});
  EXPECT_EQ(Ids(With([&](Bytes& b) { b.push_back(0); })), Strings{"trailer.damaged"});
  EXPECT_EQ(Ids(With([&](Bytes& b) { b.insert(b.begin() + static_cast<ptrdiff_t>(end), 7, 0); })),
            Strings{"trailer.place"});
  // The last letter of "tiny", which changes nothing but the name.
  EXPECT_EQ(Ids(With([&](Bytes& b) {
              const std::string_view text = AsText(b);
              b[text.find("tiny") + 3] = 'x';
            })),
            Strings{"trailer.metadata"});
  // A letter of a tensor's name.
  EXPECT_EQ(Ids(With([&](Bytes& b) {
              const std::string_view text = AsText(b);
              b[text.find("blk.1.ffn_up") + 4] = '7';
            })),
            Strings{"trailer.header"});
  EXPECT_EQ(Ids(With([&](Bytes& b) { b[file.layout().data_offset - 1] = 1; })),
            Strings{"gguf.padding"});
  EXPECT_EQ(Ids(With([&](Bytes& b) {
              b[file.tensor_offset(0)] ^= 1;
              b[file.tensor_offset(20) + 7] ^= 128;
            })),
            (Strings{"trailer.tensor", "trailer.tensor"}));
}

// What another tool makes of a file that it reads and writes anew: the keys are copied, the trailer
// is not.
Bytes RewrittenByAnotherTool(const Bytes& sealed, bool with_a_new_key) {
  const GgufHeader header = ReadGgufHeader(*InMemory(sealed));
  Manifest m;
  m.metadata = header.metadata;
  if (with_a_new_key) m.metadata.push_back({"general.author", MetadataValue::Text("somebody")});
  m.tensors = header.tensors;
  std::erase_if(m.metadata,
                [](const MetadataEntry& e) { return e.key == "general.quantization_version"; });
  Bytes out = EncodeGgufHeader(m);
  out.insert(out.end(), sealed.begin() + static_cast<ptrdiff_t>(header.data_offset),
             sealed.begin() + static_cast<ptrdiff_t>(header.data_end));
  return out;
}

TEST(IntegrityTrailer, RewritingIsToldFromDamage) {
  for (const bool with_a_new_key : {false, true}) {
    const Bytes rewritten = RewrittenByAnotherTool(Sealed(), with_a_new_key);
    const auto findings = Check(rewritten);
    ASSERT_EQ(findings.size(), 1U);
    EXPECT_EQ(findings[0].id, "trailer.rewritten");
    EXPECT_EQ(findings[0].severity, Finding::Severity::kNote);
    EXPECT_FALSE(ErrorOfWalk(rewritten).has_value());
    EXPECT_FALSE(ErrorOfStream(rewritten).has_value());
  }
}

// PyPI's gguf-new-metadata, told to change nothing, copies every key in its order, but for
// general.architecture, which it writes first: quern's own first key is the trailer's.
TEST(IntegrityTrailer, RewritingWithoutChangesIsToldFromALostTrailer) {
  const Bytes sealed = Sealed();
  const GgufHeader header = ReadGgufHeader(*InMemory(sealed));
  ASSERT_EQ(header.metadata[0].key, kGgufTrailerKey);
  ASSERT_EQ(header.metadata[1].key, "general.architecture");
  const GgufFile file(InMemory(sealed));
  const Bytes cut(sealed.begin(),
                  sealed.begin() + static_cast<ptrdiff_t>(file.layout().data_end));
  EXPECT_EQ(Ids(cut), std::vector<std::string>{"trailer.missing"});
  Bytes rewritten = cut;
  const size_t first = 24, second = first + 8 + kGgufTrailerKey.size() + 4 + 8;
  const size_t third = second + 8 + std::string_view("general.architecture").size() + 4 + 8 + 5;
  std::rotate(rewritten.begin() + static_cast<ptrdiff_t>(first),
              rewritten.begin() + static_cast<ptrdiff_t>(second),
              rewritten.begin() + static_cast<ptrdiff_t>(third));
  ASSERT_EQ(ReadGgufHeader(*InMemory(rewritten)).metadata[0].key, "general.architecture");
  EXPECT_EQ(Ids(rewritten), std::vector<std::string>{"trailer.rewritten"});
}

// A tool that edits metadata in place keeps the trailer, which no longer agrees: told from all
// damage but that of metadata, which looks the same. Only who edited it can tell, and says so.
TEST(IntegrityTrailer, EditingInPlaceIsToldFromDamagedWeights) {
  Bytes bytes = Sealed();
  bytes[AsText(bytes).find("tiny")] = 'T';
  const auto findings = Check(bytes);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].id, "trailer.metadata");
  EXPECT_NE(findings[0].hint.find("--trust-metadata"), std::string::npos);
  EXPECT_EQ(ErrorOfWalk(bytes)->id(), "trailer.metadata");
  EXPECT_EQ(ErrorOfReading(bytes)->id(), "trailer.metadata");
  const auto trusting = OpenVerifying(bytes, {.trust_metadata = true});
  Drain(*trusting->Walk());
  EXPECT_EQ(testing::TensorBytes(*trusting, 3), testing::TensorBytes(GgufFile(InMemory(bytes)), 3));
  // Tensors are compared all the same, and nothing but metadata is taken on trust.
  Bytes both = bytes;
  both[GgufFile(InMemory(both)).tensor_offset(3)] ^= 1;
  ASSERT_EQ(Check(both).size(), 2U);
  EXPECT_EQ(Check(both)[1].id, "trailer.tensor");
  ExpectError([&] { Drain(*OpenVerifying(both, {.trust_metadata = true})->Walk()); },
              ErrorCode::kData, "trailer.tensor");
  Bytes renamed = bytes;
  renamed[AsText(renamed).find("blk.1.ffn_up") + 4] = '7';
  ExpectError([&] { Drain(*OpenVerifying(renamed, {.trust_metadata = true})->Walk()); },
              ErrorCode::kData, "trailer.header");
}

// Whatever a later version keeps there, it keeps whole; the model can be read without.
TEST(IntegrityTrailer, ANewerTrailerIsNoDamage) {
  Bytes bytes = Sealed();
  const size_t begin = bytes.size() - TrailerBytes(21);
  bytes[begin + 8] = 2;
  StoreLE(&bytes[bytes.size() - 8],
          Xxh3(ByteView(bytes).subspan(begin, TrailerBytes(21) - 8)));
  const auto findings = Check(bytes);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].id, "trailer.version");
  EXPECT_EQ(findings[0].code, ErrorCode::kUnsupported);
  EXPECT_FALSE(ErrorOfWalk(bytes).has_value());
  EXPECT_FALSE(ErrorOfReading(bytes).has_value());
  EXPECT_FALSE(ErrorOfStream(bytes).has_value());
  bytes[begin + 20] ^= 1;
  EXPECT_EQ(Ids(bytes), std::vector<std::string>{"trailer.damaged"});
}

// What a changed bit of the trailer says is not that its length is right.
TEST(IntegrityTrailer, SaysHowTheTrailerIsDamaged) {
  Bytes bytes = Sealed();
  bytes[bytes.size() - 30] ^= 1;
  EXPECT_NE(Check(bytes)[0].line.find("found bytes of hash "), std::string::npos);
  bytes.resize(bytes.size() - 1);
  EXPECT_NE(Check(bytes)[0].line.find("found 215 bytes, expected 216 bytes"), std::string::npos)
      << Check(bytes)[0].line;
}

// Tensors are compared once each, also where many threads ask for their rows.
TEST(VerifyingStore, ManyThreadsReadWhatIsVerified) {
  const Bytes bytes = Sealed();
  const auto store = OpenVerifying(bytes);
  const GgufFile plain(InMemory(bytes));
  std::vector<std::thread> threads;
  std::atomic<int> n_wrong = 0;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (size_t k = 0; k < 21; ++k) {
        const size_t i = (k + static_cast<size_t>(t)) % 21;
        if (testing::TensorBytes(*store, i) != testing::TensorBytes(plain, i)) ++n_wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(n_wrong, 0);
}

TEST(IntegrityTrailer, ForeignBytesBehindTheDataAreAFinding) {
  Bytes bytes = testing::SmallLlama().Build();
  bytes.resize(bytes.size() + 1000, 7);
  const auto findings = Check(bytes);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].id, "gguf.trailing-data");
  EXPECT_EQ(findings[0].severity, Finding::Severity::kWarning);
  EXPECT_FALSE(ErrorOfStream(bytes).has_value());
}

TEST(IntegrityTrailer, TheKeyMustBeOfItsType) {
  const Bytes bytes = testing::GgufBuilder().U32("quern.trailer", 1).Build();
  ExpectError([&] { GgufFile file(InMemory(bytes)); }, ErrorCode::kData, "gguf.key-type",
              {"quern.trailer", "UINT64"});
}

TEST(IntegrityTrailer, ModelsWithoutTensorsHaveOneToo) {
  Manifest m;
  m.metadata = {{"a", MetadataValue::U32(1)}};
  Bytes out;
  const auto sink = MakeGgufWriter(std::make_unique<testing::VectorOutput>(out), {.trailer = true});
  sink->Begin(m);
  sink->Finish();
  EXPECT_EQ(out.size(), GgufFileBytes(m, {.trailer = true}));
  EXPECT_TRUE(Check(out).empty());
  out[out.size() - 50] ^= 1;  // the end of the header
  EXPECT_FALSE(Ids(out).empty());
}

TEST(IntegrityTrailer, EmptyTensorsAreHashedToo) {
  const Bytes plain = testing::GgufBuilder()
                          .Tensor("a", {8, 0}, 0, {})
                          .Tensor("b", {2}, 0, testing::Pattern(8))
                          .Tensor("c", {0}, 0, {})
                          .Build();
  const GgufFile file(InMemory(plain));
  Bytes out;
  const auto sink = MakeGgufWriter(std::make_unique<testing::VectorOutput>(out), {.trailer = true});
  sink->Begin(file.manifest());
  sink->Put({1, 0, 1, testing::Pattern(8)});
  sink->Finish();
  EXPECT_TRUE(Check(out).empty());
  EXPECT_FALSE(ErrorOfStream(out).has_value());
  EXPECT_FALSE(ErrorOfWalk(out).has_value());
  auto trailer = FindTrailer(out);
  ASSERT_TRUE(trailer.has_value());
  EXPECT_EQ(trailer->tensor_hashes,
            (std::vector<uint64_t>{Xxh3({}), Xxh3(testing::Pattern(8)), Xxh3({})}));
  trailer->tensor_hashes[2] ^= 1;
  out.resize(out.size() - TrailerBytes(3));
  const auto forged = EncodeTrailer(*trailer);
  out.insert(out.end(), forged.begin(), forged.end());
  EXPECT_EQ(Ids(out), std::vector<std::string>{"trailer.tensor"});
  EXPECT_EQ(ErrorOfStream(out)->id(), "trailer.tensor");
  EXPECT_EQ(ErrorOfWalk(out)->id(), "trailer.tensor");
}

}  // namespace
}  // namespace quern
