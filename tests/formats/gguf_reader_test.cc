#include "formats/gguf_reader.h"

#include <fmt/format.h>

#include <chrono>

#include "formats/buffered_stream.h"
#include "tests/formats/gguf_builder.h"
#include "tests/formats/testing.h"

namespace quern {
namespace {

using testing::ErrorOf;
using testing::ExpectError;
using testing::GgufBuilder;
using testing::InMemory;
using testing::MemoryStream;
using testing::Pattern;
using testing::SmallLlama;

GgufHeader HeaderOf(ByteView bytes) {
  MemoryStream stream(bytes, bytes.size());
  return ReadGgufHeader(stream);
}

void ExpectRefused(const GgufBuilder& builder, ErrorCode code, std::string_view id,
                   const std::vector<std::string>& words = {}) {
  const auto bytes = builder.Build();
  ExpectError([&] { HeaderOf(bytes); }, code, id, words);
  // Through a pipe of unknown length everything but the extents is refused alike.
  const auto on_stream = ErrorOf([&] {
    MemoryStream stream(bytes);
    ReadGgufHeader(stream);
  });
  if (on_stream) {
    EXPECT_TRUE(on_stream->code() == code) << on_stream->what();
  } else {
    EXPECT_EQ(id, "gguf.tensor-past-eof");
  }
}

TEST(GgufHeader, ReadsEveryFieldOfTheWorkedExample) {
  // 224 bytes, checked by hand and with another reader: two scalars, an array of strings, one
  // tensor.
  GgufBuilder b;
  b.Text("general.architecture", "llama").U32("a.u32", 7).Strings("a.arr", {"x", "yz"});
  testing::Bytes values;
  for (int i = 0; i < 6; ++i) testing::PutLE(values, static_cast<float>(i));
  b.Tensor("t", {3, 2}, 0, values);
  const auto bytes = b.Build();
  ASSERT_EQ(bytes.size(), 224U);
  const GgufHeader header = HeaderOf(bytes);
  EXPECT_EQ(header.version, 3U);
  EXPECT_EQ(header.alignment, 32U);
  ASSERT_EQ(header.metadata.size(), 3U);
  EXPECT_EQ(header.metadata[1], (MetadataEntry{"a.u32", MetadataValue::U32(7)}));
  EXPECT_EQ(header.metadata[2].value.array().strings, (StringList{"x", "yz"}));
  ASSERT_EQ(header.tensors.size(), 1U);
  EXPECT_EQ(header.tensors[0].shape, (Shape{2, 3}));
  EXPECT_EQ(header.header_bytes, 0xB3U);
  EXPECT_EQ(header.data_offset, 0xC0U);
  EXPECT_EQ(header.data_end, 224U);
}

TEST(GgufHeader, KeepsTheBitsOfEveryScalarType) {
  GgufBuilder b;
  b.Key("u8", 0, uint8_t{200})
      .Key("i8", 1, int8_t{-3})
      .Key("u16", 2, uint16_t{60000})
      .Key("i16", 3, int16_t{-4});
  b.Key("u32", 4, uint32_t{4000000000})
      .Key("i32", 5, int32_t{-5})
      .Key("f32", 6, -0.5F)
      .Key("bool", 7, uint8_t{1});
  b.Key("u64", 10, ~uint64_t{0}).Key("i64", 11, int64_t{-6}).Key("f64", 12, 0.1);
  const GgufHeader header = HeaderOf(b.Build());
  const std::vector<std::string> expected = {
      "200", "-3", "60000", "-4", "4000000000", "-5", "-0.5", "true", "18446744073709551615",
      "-6",  "0.1"};
  ASSERT_EQ(header.metadata.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_EQ(header.metadata[i].value.ToString(), expected[i]);
}

TEST(GgufHeader, ReadsArraysOfEveryScalarType) {
  GgufBuilder b;
  for (const uint32_t type : {0U, 1U, 2U, 3U, 4U, 5U, 6U, 7U, 10U, 11U, 12U}) {
    const uint32_t width = ScalarBytes(static_cast<MetadataType>(type));
    b.Array<uint8_t>(fmt::format("a{}", type), type, {});
    // Three elements, whose bytes are all 0 or 1 so that they serve as booleans too.
    auto& key = b.keys.back();
    key[key.size() - 8] = 3;
    for (uint32_t i = 0; i < 3 * width; ++i) key.push_back(static_cast<uint8_t>(i % 2));
  }
  const GgufHeader header = HeaderOf(b.Build());
  ASSERT_EQ(header.metadata.size(), 11U);
  for (const auto& entry : header.metadata) EXPECT_EQ(entry.value.array().size(), 3U) << entry.key;
}

TEST(GgufHeader, RefusesWhatTheSpecificationForbids) {
  using enum ErrorCode;
  const auto With = [](auto change) {
    GgufBuilder b = SmallLlama();
    change(b);
    return b;
  };
  ExpectRefused(With([](auto& b) { b.magic = "GGUX"; }), kData, "input.unknown-format", {"GGUX"});
  ExpectRefused(With([](auto& b) { b.version = 0; }), kData, "gguf.version", {"version 0"});
  ExpectRefused(With([](auto& b) { b.version = 4; }), kUnsupported, "gguf.version", {"version 4"});
  ExpectRefused(With([](auto& b) { b.version = 0x02000000; }), kUnsupported, "gguf.endianness",
                {"big-endian"});
  ExpectRefused(With([](auto& b) { b.n_keys_more = ~uint64_t{0} - 1000; }), kData, "gguf.count",
                {"metadata_kv_count"});
  ExpectRefused(With([](auto& b) { b.n_tensors_more = uint64_t{1} << 62; }), kData, "gguf.count",
                {"tensor_count"});
  ExpectRefused(With([](auto& b) { b.U32("", 1); }), kData, "gguf.key", {"empty key"});
  ExpectRefused(With([](auto& b) { b.U32(std::string(65536, 'k'), 1); }), kData, "gguf.key",
                {"65536"});
  ExpectRefused(With([](auto& b) { b.U32(std::string_view("a\0b", 3), 1); }), kData, "gguf.key");
  ExpectRefused(With([](auto& b) { b.U32("a\xC3(", 1); }), kData, "gguf.key", {"UTF-8", "\\xc3"});
  ExpectRefused(With([](auto& b) { b.U32("x", 1).U32("y", 1).U32("x", 2); }), kData,
                "gguf.duplicate-key", {"'x'"});
  ExpectRefused(With([](auto& b) { b.Key("x", 13, uint32_t{0}); }), kData, "gguf.value-type",
                {"'x'", "13"});
  ExpectRefused(With([](auto& b) { b.Key("x", 9, uint32_t{9}).keys.back().resize(64); }),
                kUnsupported, "gguf.nested-array", {"'x'"});
  ExpectRefused(With([](auto& b) { b.Key("x", 7, uint8_t{2}); }), kData, "gguf.bool", {"'x'", "2"});
  ExpectRefused(With([](auto& b) {
                  b.template Array<uint8_t>("x", 7, {0, 1, 3});
                }),
                kData, "gguf.bool", {"'x'", "3"});
  for (const uint32_t bad : {0U, 3U, 24U, 0xFFFFFFFFU}) {
    ExpectRefused(With([&](auto& b) { b.U32("general.alignment", bad); }), kData, "gguf.alignment",
                  {"general.alignment", std::to_string(bad)});
  }
  ExpectRefused(With([](auto& b) { b.U32("general.alignment", 1U << 25); }), kUnsupported,
                "gguf.limit", {"general.alignment", "33554432", "16777216"});
  ExpectRefused(With([](auto& b) { b.Key("general.alignment", 10, uint64_t{32}); }), kData,
                "gguf.alignment", {"UINT64"});
  ExpectRefused(With([](auto& b) { b.Info("x", {}, 0, 0); }), kData, "gguf.n-dims", {"'x'"});
  ExpectRefused(With([](auto& b) {
                  b.Info("x", {1, 1, 1, 1, 1}, 0, 0);
                }),
                kData, "gguf.n-dims", {"'x'", "5"});
  ExpectRefused(With([](auto& b) { b.Info("", {1}, 0, 0); }), kData, "gguf.tensor-name");
  ExpectRefused(With([](auto& b) { b.Info(std::string(64, 'n'), {1}, 0, 0); }), kData,
                "gguf.tensor-name", {"64"});
  ExpectRefused(With([](auto& b) { b.Info("a\x1b[2J", {1}, 0, 0); }), kData, "gguf.tensor-name",
                {"\\x1b"});
  ExpectRefused(With([](auto& b) { b.Tensor("output.weight", {1}, 0, Pattern(4)); }), kData,
                "gguf.duplicate-tensor", {"'output.weight'"});
  for (const uint32_t retired : {4U, 5U, 31U, 32U, 33U, 36U, 37U, 38U, 43U, 0xFFFFFFFFU}) {
    ExpectRefused(With([&](auto& b) { b.Info("x", {32}, retired, 0); }), kUnsupported,
                  "gguf.tensor-type", {"'x'", std::to_string(retired)});
  }
  ExpectRefused(With([](auto& b) {
                  b.Info("x", {33, 2}, 8, 0);
                }),
                kData, "gguf.tensor-shape", {"'x'", "33", "32"});
}

TEST(GgufHeader, RefusesSizesThatOverflow) {
  const auto Refuse = [](const std::vector<uint64_t>& ne, uint32_t type, std::string_view id) {
    GgufBuilder b;
    b.Info("first", {1}, 0, 0).Info("t", ne, type, 32);
    b.data.resize(64);
    ExpectRefused(b, ErrorCode::kData, id, {"'t'"});
  };
  constexpr std::string_view kOverflow = "gguf.tensor-size-overflow";
  Refuse({uint64_t{1} << 32, uint64_t{1} << 32}, 0, kOverflow);
  Refuse({~uint64_t{0}}, 24, kOverflow);  // -1 elements
  Refuse({uint64_t{1} << 63}, 24, kOverflow);
  Refuse({4, (uint64_t{1} << 30) - 1, (uint64_t{1} << 30) + 1, 1}, 0,
         kOverflow);                             // 2^64 - 16 bytes
  Refuse({uint64_t{1} << 62, 0}, 0, kOverflow);  // a zero hides nothing
  Refuse({0, uint64_t{1} << 40, uint64_t{1} << 40}, 0, kOverflow);
  Refuse({uint64_t{1} << 61}, 27, kOverflow);          // 2^64 bytes
  Refuse({uint64_t{1} << 60}, 27, kOverflow);          // 2^63 bytes
  Refuse({32, 0x8000001}, 2, "gguf.tensor-past-eof");  // 32 bits would wrap to 18 bytes
}

TEST(GgufHeader, WantsOffsetsThatAreTheRunningSum) {
  using enum ErrorCode;
  const auto WithOffset = [](uint64_t offset) {
    GgufBuilder b;
    b.Info("a", {9}, 0, 0).Info("b", {1}, 0, offset);
    b.data.resize(8192);
    return b;
  };
  EXPECT_NO_THROW(HeaderOf(WithOffset(64).Build()));
  for (const uint64_t offset :
       {uint64_t{0}, uint64_t{32}, uint64_t{36}, uint64_t{65}, uint64_t{96}, uint64_t{4096},
        uint64_t{1} << 40, uint64_t{1} << 63, ~uint64_t{0} - 31}) {
    ExpectRefused(WithOffset(offset), kData, "gguf.tensor-offset",
                  {"'b'", std::to_string(offset), "64"});
  }
  GgufBuilder first;
  first.Info("a", {1}, 0, 32);
  first.data.resize(64);
  ExpectRefused(first, kData, "gguf.tensor-offset", {"'a'"});
}

TEST(GgufHeader, ClaimsBeyondTheFileAreRefusedBeforeAnythingIsAllocated) {
  const auto WithLength = [](uint32_t type, uint64_t length) {
    GgufBuilder b;
    auto key = b.KeyAndType("x", type);
    if (type == 9) testing::PutLE<uint32_t>(key, 8);
    testing::PutLE(key, length);
    key.resize(key.size() + 40);
    b.keys.push_back(key);
    return b;
  };
  for (const uint64_t length : {uint64_t{41}, uint64_t{1} << 20, uint64_t{1} << 40, ~uint64_t{0}}) {
    ExpectRefused(WithLength(8, length), ErrorCode::kData, "gguf.string-length",
                  {"'x'", std::to_string(length)});
  }
  for (const uint64_t length : {uint64_t{6}, uint64_t{1} << 30, uint64_t{1} << 61, ~uint64_t{0}}) {
    const auto bytes = WithLength(9, length).Build();
    ExpectError([&] { HeaderOf(bytes); }, ErrorCode::kData, "gguf.array-length",
                {"'x'", std::to_string(length)});
  }
  GgufBuilder key;
  key.keys.push_back({255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0});
  ExpectRefused(key, ErrorCode::kData, "gguf.string-length", {"key 0", "18446744073709551615"});
}

TEST(GgufHeader, LimitsAreNamedAsSuch) {
  GgufBuilder b;
  b.n_keys_more = kGgufMaxKeys + 1;
  auto bytes = b.Build();
  bytes.resize(16 << 20);  // so that the count could be true
  ExpectError([&] { HeaderOf(bytes); }, ErrorCode::kUnsupported, "gguf.limit",
              {"metadata_kv_count", "262145"});
  GgufBuilder t;
  t.n_tensors_more = kGgufMaxTensors + 1;
  bytes = t.Build();
  bytes.resize(16 << 20);
  ExpectError([&] { HeaderOf(bytes); }, ErrorCode::kUnsupported, "gguf.limit", {"tensor_count"});
}

TEST(GgufHeader, ReadsTwoHundredThousandKeys) {
  GgufBuilder b;
  for (int i = 0; i < 200000; ++i) b.Key(fmt::format("k{:07}", i), 0, uint8_t{0});
  const auto bytes = b.Build();
  EXPECT_EQ(HeaderOf(bytes).metadata.size(), 200000U);
  b.keys.back() = b.keys[100000];
  ExpectRefused(b, ErrorCode::kData, "gguf.duplicate-key", {"k0100000"});
}

TEST(GgufHeader, ReadsAnyAlignment) {
  for (const uint64_t alignment : {1U, 2U, 8U, 16U, 32U, 64U, 4096U, 65536U}) {
    const auto bytes = SmallLlama(3, alignment).Build();
    const GgufHeader header = HeaderOf(bytes);
    EXPECT_EQ(header.alignment, alignment);
    EXPECT_EQ(header.data_offset % alignment, 0U);
    EXPECT_EQ(header.data_end, bytes.size());
  }
}

TEST(GgufHeader, ReadsAllVersionsAlike) {
  const GgufHeader v3 = HeaderOf(SmallLlama(3).Build());
  GgufHeader v2 = HeaderOf(SmallLlama(2).Build());
  GgufHeader v1 = HeaderOf(SmallLlama(1).Build());
  EXPECT_EQ(v1.version, 1U);
  EXPECT_LT(v1.header_bytes, v2.header_bytes);
  EXPECT_NE(v2.header_hash, v3.header_hash);
  v2.version = 3;
  v2.header_hash = v3.header_hash;
  v2.seal = v3.seal;
  EXPECT_EQ(v2, v3);
  EXPECT_EQ(v1.metadata, v3.metadata);
  EXPECT_EQ(v1.tensors, v3.tensors);
  EXPECT_EQ(v1.offsets, v3.offsets);
}

TEST(GgufHeader, TellsAWrongVersionNumberFromVersionOne) {
  // The layout of version 3 with a 1 in the version field: seen as version 1 it has no keys.
  auto bytes = SmallLlama(3).Build();
  bytes[4] = 1;
  ExpectError([&] { HeaderOf(bytes); }, ErrorCode::kUnsupported, "gguf.version", {"version 1"});
}

TEST(GgufHeader, EmptyTensorsTakeNoSpace) {
  GgufBuilder b;
  b.Tensor("a", {8, 0}, 0, {}).Tensor("b", {2}, 0, Pattern(8)).Tensor("c", {0}, 8, {});
  const auto bytes = b.Build();
  const GgufHeader header = HeaderOf(bytes);
  EXPECT_EQ(header.offsets, (std::vector<uint64_t>{0, 0, 32}));
  EXPECT_EQ(header.tensors[0].shape, (Shape{0, 8}));
}

TEST(GgufHeader, EveryTruncationIsRefused) {
  const auto bytes = SmallLlama().Build();
  const GgufHeader whole = HeaderOf(bytes);
  const uint64_t last_byte =
      whole.data_offset + whole.offsets.back() + whole.tensors.back().size_bytes();
  for (size_t n = 0; n < bytes.size(); ++n) {
    const ByteView part = ByteView(bytes).first(n);
    const auto error = ErrorOf([&] { GgufFile file(InMemory(part)); });
    if (n >= last_byte) {
      // Only padding is missing, as other writers leave it out.
      EXPECT_FALSE(error.has_value()) << n << ": " << error->what();
      continue;
    }
    ASSERT_TRUE(error.has_value()) << n;
    EXPECT_EQ(error->code(), ErrorCode::kData) << n << ": " << error->what();
    EXPECT_TRUE(error->has_file()) << n;
    const auto on_stream = ErrorOf([&] {
      const auto source = ReadGgufStream(std::make_unique<MemoryStream>(part));
      std::vector<uint8_t> buffer(256);
      while (source->Next(buffer)) {
      }
    });
    ASSERT_TRUE(on_stream.has_value()) << n;
    EXPECT_EQ(on_stream->code(), ErrorCode::kData) << n << ": " << on_stream->what();
    EXPECT_EQ(on_stream->id() == "gguf.tensor-past-eof", n >= whole.header_bytes) << n;
  }
}

TEST(GgufHeader, EveryFlippedBitIsAnErrorOrAnotherManifest) {
  for (const uint32_t version : {1U, 2U, 3U}) {
    auto bytes = SmallLlama(version).Build();
    const GgufHeader whole = HeaderOf(bytes);
    // Compared as bytes, since 0 == -0 as numbers.
    const auto header = EncodeGgufHeader(GgufFile(InMemory(bytes)).manifest());
    size_t n_same = 0;
    for (size_t i = 0; i < whole.header_bytes * 8; ++i) {
      bytes[i / 8] ^= static_cast<uint8_t>(1 << (i % 8));
      const auto error = ErrorOf([&] {
        const GgufFile file(InMemory(bytes));
        const bool is_same =
            EncodeGgufHeader(file.manifest()) == header && file.layout().version == version;
        n_same += is_same ? 1 : 0;
      });
      EXPECT_TRUE(!error || error->code() == ErrorCode::kData ||
                  error->code() == ErrorCode::kUnsupported)
          << error->what();
      bytes[i / 8] ^= static_cast<uint8_t>(1 << (i % 8));
    }
    EXPECT_EQ(n_same, 0U) << "version " << version;
  }
}

TEST(GgufHeader, ReadByteByByteEqualsReadAtOnce) {
  const auto bytes = SmallLlama().Build();
  MemoryStream plain(bytes), below(bytes);
  BufferedStream buffered(below, 1);
  EXPECT_EQ(ReadGgufHeader(plain), ReadGgufHeader(buffered));
  EXPECT_EQ(plain.position(), buffered.position());
}

TEST(BufferedStream, MakesFewReadsOfMany) {
  const auto bytes = Pattern(300000);
  MemoryStream below(bytes);
  BufferedStream buffered(below, 4096);
  std::vector<uint8_t> out;
  EXPECT_EQ(buffered.Peek(10).size(), 10U);
  for (size_t n = 0; buffered.position() < bytes.size(); n = (n + 7) % 50) {
    std::vector<uint8_t> piece(n == 49 ? 10000 : n);
    piece.resize(buffered.Read(piece));
    out.insert(out.end(), piece.begin(), piece.end());
    ASSERT_EQ(buffered.position(), out.size());
  }
  EXPECT_EQ(out, bytes);
  EXPECT_LT(below.n_reads(), 200U);
  uint8_t more[2];
  EXPECT_EQ(buffered.Read(more), 0U);
}

TEST(GgufFile, GivesTheRowsOfItsTensors) {
  const auto builder = SmallLlama(3, 64);
  const auto bytes = builder.Build();
  const GgufFile file(InMemory(bytes));
  const auto& tensors = file.manifest().tensors;
  ASSERT_EQ(tensors.size(), 21U);
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ(testing::TensorBytes(file, i),
              Pattern(tensors[i].size_bytes(), static_cast<uint32_t>(i)))
        << i;
  }
  std::vector<uint8_t> two_rows(2 * 34);
  file.ReadRows(2, 5, 2, two_rows);
  const auto all = Pattern(32 * 34, 2);
  EXPECT_EQ(two_rows, std::vector<uint8_t>(all.begin() + 5 * 34, all.begin() + 7 * 34));
  EXPECT_EQ(file.trailing_bytes(), 0U);
  // Row 5, column 31 of the q8_0 matrix: the first block of that row.
  EXPECT_EQ(file.PlaceOf(2, 5, 31).byte_offset, file.tensor_offset(2) + 5 * 34);
  EXPECT_EQ(file.PlaceOf(0, 1, 3).byte_offset, file.tensor_offset(0) + 64 + 6);
  EXPECT_EQ(file.PlaceOf(0, 1, 3).file, file.name());
  EXPECT_EQ(ErrorOf([&] { file.ReadRows(2, 31, 2, two_rows); })->code(), ErrorCode::kBug);
  EXPECT_EQ(ErrorOf([&] { file.ReadRows(2, 0, 1, two_rows); })->code(), ErrorCode::kBug);
  EXPECT_EQ(ErrorOf([&] { file.ReadRows(21, 0, 1, two_rows); })->code(), ErrorCode::kBug);
}

TEST(GgufFile, CountsBytesBehindTheData) {
  auto bytes = SmallLlama().Build();
  bytes.resize(bytes.size() + 5);
  EXPECT_EQ(GgufFile(InMemory(bytes)).trailing_bytes(), 5U);
}

TEST(GgufStreamSource, EqualsTheWalkOverTheFile) {
  auto bytes = SmallLlama(2, 128).Build();
  bytes.resize(bytes.size() + 100000);  // bytes behind the data must be read too
  const GgufFile file(InMemory(bytes));
  for (const size_t buffer_bytes : {136U, 1000U, 1U << 20}) {
    auto stream = std::make_unique<MemoryStream>(bytes);
    const MemoryStream& progress = *stream;
    const auto source = ReadGgufStream(std::move(stream));
    EXPECT_EQ(source->manifest(), file.manifest());
    StoreWalk walk(file);
    std::vector<uint8_t> a(buffer_bytes), b(buffer_bytes);
    for (;;) {
      const auto band_a = source->Next(a), band_b = walk.Next(b);
      ASSERT_EQ(band_a.has_value(), band_b.has_value());
      if (!band_a) break;
      EXPECT_EQ(band_a->tensor, band_b->tensor);
      EXPECT_EQ(band_a->row_begin, band_b->row_begin);
      ASSERT_TRUE(std::ranges::equal(band_a->bytes, band_b->bytes));
    }
    EXPECT_EQ(progress.position(), bytes.size());
    EXPECT_FALSE(source->Next(a).has_value());
  }
}

TEST(GgufStreamSource, NamesTheTensorInWhichTheStreamEnds) {
  const auto bytes = SmallLlama().Build();
  const auto header = HeaderOf(bytes);
  const auto part = ByteView(bytes).first(header.data_offset + header.offsets[4] + 100);
  const auto source = ReadGgufStream(std::make_unique<MemoryStream>(part));
  std::vector<uint8_t> buffer(1 << 20);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(source->Next(buffer));
  ExpectError([&] { source->Next(buffer); }, ErrorCode::kData, "gguf.tensor-past-eof",
              {"blk.0.attn_v.weight"});
}

TEST(GgufFile, OpensARealFileOfVersionOne) {
  const GgufFile file(
      std::make_shared<InputFile>(QUERN_TEST_DATA "/stories260K/stories260K-f32.gguf"));
  EXPECT_EQ(file.layout().version, 1U);
  ASSERT_TRUE(file.manifest().spec.has_value());
  const ModelSpec& spec = *file.manifest().spec;
  EXPECT_EQ(spec.n_layers, 5U);
  EXPECT_EQ(spec.d_model, 64U);
  EXPECT_EQ(spec.n_heads, 8U);
  EXPECT_EQ(spec.n_kv_heads, 4U);
  EXPECT_EQ(spec.head_dim, 8U);
  EXPECT_EQ(spec.d_ff, 172U);
  EXPECT_EQ(spec.vocab_size, 512U);
  EXPECT_EQ(spec.rope_theta, 10000.0F);
  EXPECT_EQ(file.manifest().tokenizer.kind, Tokenizer::Kind::kSentencePiece);
  EXPECT_EQ(file.manifest().tokenizer.tokens.size(), 512U);
  EXPECT_EQ(file.manifest().n_elems() - (spec.tied_embeddings ? 0 : 512 * 64), 260032U);
  EXPECT_EQ(file.trailing_bytes(), 0U);
}

TEST(GgufFile, OpensRealVocabularies) {
  const std::string folder = testing::AssetsFolder() + "/tokenizer-vectors/";
  if (!FileIdOf(folder)) GTEST_SKIP() << "assets are missing: " << folder;
  const GgufFile spm(std::make_shared<InputFile>(folder + "ggml-vocab-llama-spm.gguf"));
  EXPECT_EQ(spm.manifest().tokenizer.kind, Tokenizer::Kind::kSentencePiece);
  EXPECT_EQ(spm.manifest().tokenizer.tokens.size(), 32000U);
  EXPECT_EQ(spm.manifest().tokenizer.bos_id, 1U);
  const GgufFile neox(std::make_shared<InputFile>(folder + "ggml-vocab-gpt-neox.gguf"));
  EXPECT_EQ(neox.manifest().tokenizer.kind, Tokenizer::Kind::kBytePair);
  EXPECT_FALSE(neox.manifest().spec.has_value());
  EXPECT_FALSE(neox.manifest().tokenizer.merges.empty());
}

}  // namespace
}  // namespace quern
