// Attacks on quern's own formats, one test each (formats/ATTACKS.md): files made to deceive, with
// every hash repaired. Each is refused, by a store, a stream and a check, in 64 MiB + twice the
// file.
#include <set>

#include "formats/core/hash.h"
#include "formats/integrity_trailer.h"
#include "formats/qpack_format.h"
#include "formats/zstd_frame.h"
#include "tests/formats/count_memory.h"
#include "tests/formats/qpack_testing.h"

namespace quern {
namespace {

using testing::Bytes;
using testing::ErrorOf;
using testing::InMemory;
using testing::Packed;
using testing::PutLE;

constexpr uint64_t kAllowedBytes = uint64_t{64} << 20;

// A segment from its parts, with right hashes.
struct Segment {
  uint32_t raw_bytes = 0;
  Bytes raw;      // for the hash
  Bytes payload;  // the piece as it is, or table and planes
  bool is_stored = false;
  std::optional<uint64_t> index;

  static Segment Stored(const Bytes& raw) {
    return {static_cast<uint32_t>(raw.size()), raw, raw, true, {}};
  }
  // Of one plane.
  static Segment Frame(const Bytes& raw, const Bytes& frame) {
    Segment segment{static_cast<uint32_t>(raw.size()), raw, {}, false, {}};
    PutLE(segment.payload, static_cast<uint32_t>(frame.size()) | kQpackZstdFlag);
    segment.payload.insert(segment.payload.end(), frame.begin(), frame.end());
    return segment;
  }
};

Bytes FrameOf(const Bytes& raw) {
  Bytes frame(ZstdEncoder::Bound(raw.size()));
  frame.resize(ZstdEncoder().Encode(raw, 3, frame));
  return frame;
}

// A whole file from its parts; what is not set is as it must be.
struct Qpack {
  uint32_t segment_bytes = 1 << 20;
  uint64_t header_bytes = 0;
  std::vector<Segment> segments;
  uint64_t gguf_bytes = 0;
  std::optional<uint64_t> n_segments;
  std::optional<std::vector<uint32_t>> directory;

  void Add(Segment segment) {
    gguf_bytes += segment.raw_bytes;
    segments.push_back(std::move(segment));
  }
  Bytes Build() const {
    Bytes out;
    testing::PutText(out, kQpackMagic);
    PutLE(out, kQpackVersion);
    PutLE(out, segment_bytes);
    PutLE(out, header_bytes);
    PutLE(out, Xxh3(out));
    std::vector<uint32_t> sizes;
    for (size_t i = 0; i < segments.size(); ++i) {
      Bytes bytes;
      PutLE(bytes, segments[i].raw_bytes);
      PutLE(bytes, static_cast<uint32_t>(segments[i].payload.size()) |
                       (segments[i].is_stored ? kQpackStoredFlag : 0));
      PutLE(bytes, Xxh3(segments[i].raw));
      bytes.insert(bytes.end(), segments[i].payload.begin(), segments[i].payload.end());
      Bytes hashed = bytes;
      PutLE(hashed, segments[i].index.value_or(i));
      PutLE(bytes, Xxh3(hashed));
      sizes.push_back(static_cast<uint32_t>(bytes.size()));
      out.insert(out.end(), bytes.begin(), bytes.end());
    }
    PutLE(out, uint64_t{0});
    Bytes end;
    for (const uint32_t size : directory.value_or(sizes)) PutLE(end, size);
    PutLE(end, gguf_bytes);
    PutLE(end, n_segments.value_or(segments.size()));
    out.insert(out.end(), end.begin(), end.end());
    PutLE(out, Xxh3(end));
    testing::PutText(out, kQpackEndMagic);
    return out;
  }
};

uint64_t HashOfZeros(uint64_t n_bytes) {
  const Bytes zeros(1 << 20);
  Xxh3Stream hash;
  for (uint64_t at = 0; at < n_bytes; at += zeros.size()) hash.Update(zeros);
  return hash.Digest();
}

// Adds `bytes` in pieces of a segment each.
void AddPieces(const Bytes& bytes, Qpack& qpack) {
  for (size_t at = 0; at < bytes.size(); at += qpack.segment_bytes) {
    const auto begin = bytes.begin() + static_cast<ptrdiff_t>(at);
    const size_t n = std::min<size_t>(qpack.segment_bytes, bytes.size() - at);
    qpack.Add(Segment::Stored(Bytes(begin, begin + static_cast<ptrdiff_t>(n))));
  }
}

// A file of one tensor of bytes and a tail of 10 bytes, in a segment for the header and four for
// the rest, of which the third has nothing but bytes of the tensor; all stored, all right.
Qpack Sound() {
  const Bytes data = testing::Pattern(3 * 4096 - 5);
  const Bytes header = testing::GgufBuilder().Info("t", {data.size()}, 24, 0).Header();
  Qpack qpack;
  qpack.segment_bytes = 4096;
  qpack.header_bytes = header.size();
  qpack.Add(Segment::Stored(header));
  Bytes rest((32 - header.size() % 32) % 32);
  rest.insert(rest.end(), data.begin(), data.end());
  rest.insert(rest.end(), 10, 1);
  AddPieces(rest, qpack);
  return qpack;
}

// A file of that header alone, in as few bytes as a reader may take it from.
Qpack AsSmallAsAllowed(const Bytes& header, const Bytes& rest = {}) {
  Qpack qpack;
  qpack.header_bytes = header.size();
  uint64_t raw = 0, packed = 0;
  for (size_t at = 0; at < header.size(); at += 1 << 20) {
    const auto begin = header.begin() + static_cast<ptrdiff_t>(at);
    const Bytes piece(begin,
                      begin + static_cast<ptrdiff_t>(std::min<size_t>(1 << 20, header.size() - at)));
    Segment segment = Segment::Frame(piece, FrameOf(piece));
    raw += piece.size();
    if (raw > kQpackFreeHeaderBytes + packed + segment.payload.size() + kQpackSegmentFrameBytes) {
      segment = Segment::Stored(piece);
    }
    packed += segment.payload.size() + kQpackSegmentFrameBytes;
    qpack.Add(std::move(segment));
  }
  AddPieces(rest, qpack);
  return qpack;
}

// Expects that every way to read the file ends with one of `ids`, in bounded memory.
void ExpectRefused(const Qpack& qpack, const std::set<std::string>& ids) {
  const Bytes bytes = qpack.Build();
  const auto Refused = [&](const char* way, const std::function<void()>& action) {
    SCOPED_TRACE(way);
    std::optional<Error> error;
    const size_t peak = testing::PeakOf([&] { error = ErrorOf(action); });
    EXPECT_LE(peak, kAllowedBytes + 2 * bytes.size());
    ASSERT_TRUE(error.has_value());
    EXPECT_TRUE(ids.contains(error->id())) << error->what();
    EXPECT_TRUE(error->has_file());
    EXPECT_EQ(error->code(), ErrorCode::kData);
  };
  Refused("store", [&] {
    const auto store = OpenQpack(InMemory(bytes));
    Bytes row;
    for (size_t i = 0; i < store->manifest().tensors.size(); ++i) {
      const TensorInfo& tensor = store->manifest().tensors[i];
      row.resize(tensor.row_bytes());
      for (uint64_t r = 0; r < tensor.rows(); ++r) store->ReadRows(i, r, 1, row);
    }
    // What lies outside of the tensors.
    QpackBytes(InMemory(bytes)).ReadVector(0, std::min<uint64_t>(qpack.gguf_bytes, 1 << 20));
  });
  Refused("stream", [&] {
    const auto stream = UnpackStream(std::make_unique<testing::MemoryStream>(bytes));
    Bytes buffer(1 << 16);
    while (stream->Read(buffer) != 0) {
    }
    // What is sound as bytes is refused as a model.
    ReadQpackStream(std::make_unique<testing::MemoryStream>(bytes));
  });
  Refused("check", [&] {
    for (const Finding& finding : CheckQpack(InMemory(bytes))) {
      if (finding.severity == Finding::Severity::kError)
        throw DataError(finding.id, finding.line).File("(memory)");
    }
  });
}

TEST(QpackAttacks, TheSoundFileIsRead) {
  const Bytes bytes = Sound().Build();
  EXPECT_EQ(testing::Unpacked(bytes), testing::UnpackedAtRandom(bytes));
  const auto findings = CheckQpack(InMemory(bytes));
  ASSERT_EQ(findings.size(), 2U);  // about its tail, which begins in the padding
  EXPECT_EQ(findings[0].id, "gguf.padding");
  EXPECT_EQ(findings[1].id, "gguf.trailing-data");
  for (const Finding& finding : findings) EXPECT_EQ(finding.severity, Finding::Severity::kWarning);
}

TEST(QpackAttacks, HeaderBomb) {
  // 100 MiB of zeros as an array of metadata, in a few kilobytes.
  const Bytes header = testing::GgufBuilder().Array<uint8_t>("z", 0, Bytes(100 << 20, 0)).Header();
  Qpack qpack;
  qpack.header_bytes = header.size();
  for (size_t at = 0; at < header.size(); at += 1 << 20) {
    const auto begin = header.begin() + static_cast<ptrdiff_t>(at);
    const Bytes raw(begin,
                    begin + static_cast<ptrdiff_t>(std::min<size_t>(1 << 20, header.size() - at)));
    qpack.Add(Segment::Frame(raw, FrameOf(raw)));
  }
  EXPECT_LT(qpack.Build().size(), 64000U);
  ExpectRefused(qpack, {"qpack.header-bomb"});
}

// Ends a header with a tensor info that it is refused for, when all else was read.
testing::GgufBuilder& EndBadly(testing::GgufBuilder& b) {
  return b.Info("bad", {0, 1, 1, 1, 1, 1, 1, 1, 1}, 24, 0);
}

TEST(QpackAttacks, LongHeadersThatEndBadly) {
  const std::set<std::string> ids = {"gguf.n-dims"};
  for (const size_t n : {20U << 20, 110U << 20}) {
    testing::GgufBuilder numbers, strings;
    numbers.Array<uint8_t>("z", 0, Bytes(n, 0));
    ExpectRefused(AsSmallAsAllowed(EndBadly(numbers).Header()), ids);
    strings.Strings("z", std::vector<std::string>(n / 8));
    ExpectRefused(AsSmallAsAllowed(EndBadly(strings).Header()), ids);
  }
}

TEST(QpackAttacks, ManySmallThingsInAHeader) {
  const std::set<std::string> ids = {"gguf.n-dims"};
  constexpr int kMany = 262143;
  testing::GgufBuilder tensors, keys, texts, arrays;
  for (int i = 0; i < kMany; ++i) {
    const std::string name = std::to_string(i);
    tensors.Info(name, {0}, 24, 0);
    keys.Key<uint8_t>(name, 0, 0);
    texts.Text(name, "");
    arrays.Array<uint8_t>(name, 0, {});
  }
  for (testing::GgufBuilder* b : {&tensors, &keys, &texts, &arrays}) {
    ExpectRefused(AsSmallAsAllowed(EndBadly(*b).Header()), ids);
  }
  // Tensors of a byte each, all of which are read before the last one is found damaged.
  testing::GgufBuilder bytes;
  bytes.U32("general.alignment", 1);
  constexpr uint64_t kBytes = 130000;
  for (uint64_t i = 0; i < kBytes; ++i) bytes.Info(std::to_string(i), {1}, 24, i);
  Qpack qpack = AsSmallAsAllowed(bytes.Header(), Bytes(kBytes, 7));
  qpack.segments.back().raw[kBytes - 1] ^= 1;
  ExpectRefused(qpack, {"qpack.segment"});
}

TEST(QpackAttacks, TensorsLargerThanTheFile) {
  Qpack qpack = Sound();
  const Bytes header = testing::GgufBuilder().Info("t", {uint64_t{1} << 61}, 24, 0).Header();
  ASSERT_EQ(header.size(), qpack.header_bytes);
  qpack.segments[0] = Segment::Stored(header);
  // The last segment of the tensor is shorter than it should be now.
  ExpectRefused(qpack, {"qpack.directory", "qpack.segment"});
}

TEST(QpackAttacks, AFileOfExabytes) {
  Qpack qpack = Sound();
  qpack.gguf_bytes = uint64_t{1} << 62;
  ExpectRefused(qpack, {"qpack.directory"});
}

TEST(QpackAttacks, MoreSegmentsThanBytes) {
  for (const uint64_t n : {uint64_t{7}, uint64_t{1} << 40, uint64_t{1} << 61, ~uint64_t{0}}) {
    Qpack qpack = Sound();
    qpack.n_segments = n;
    ExpectRefused(qpack, {"qpack.directory"});
  }
}

TEST(QpackAttacks, ADirectoryOfOverlappingSegments) {
  for (const int32_t shift : {1, -1, 1000, -1000}) {
    Qpack qpack = Sound();
    const Bytes bytes = qpack.Build();
    std::vector<uint32_t> sizes;
    for (const Segment& s : qpack.segments)
      sizes.push_back(24 + static_cast<uint32_t>(s.payload.size()));
    sizes[2] += static_cast<uint32_t>(shift);
    sizes[3] -= static_cast<uint32_t>(shift);
    qpack.directory = sizes;
    ExpectRefused(qpack, {"qpack.segment", "qpack.directory"});
  }
}

TEST(QpackAttacks, ADirectoryThatEndsElsewhere) {
  Qpack qpack = Sound();
  qpack.directory = {100, 100, 100, 100, 100, 100};
  ExpectRefused(qpack, {"qpack.directory", "qpack.segment"});
  qpack.directory = {0, 0, 0, 0, 0, 0};
  ExpectRefused(qpack, {"qpack.directory"});
}

TEST(QpackAttacks, SegmentsThatChangedPlaces) {
  Qpack qpack = Sound();
  std::swap(qpack.segments[2], qpack.segments[3]);
  qpack.segments[2].index = 3;
  qpack.segments[3].index = 2;
  ExpectRefused(qpack, {"qpack.segment"});
}

TEST(QpackAttacks, APieceOfAnotherLength) {
  for (const uint32_t raw_bytes : {0u, 1u, 4095u, 4097u, ~0u}) {
    Qpack qpack = Sound();
    qpack.segments[2].raw_bytes = raw_bytes;
    ExpectRefused(qpack, {"qpack.segment"});
  }
}

TEST(QpackAttacks, PlanesThatAreNotOfTheirLength) {
  const Bytes raw(4096, 7);
  const Segment sound = Segment::Frame(raw, FrameOf(raw));
  // The directory too has a payload that is longer than any piece.
  const auto Refuse = [&](const auto& change) {
    Qpack qpack = Sound();
    qpack.segments[2] = sound;
    change(qpack.segments[2]);
    const bool is_longer = qpack.segments[2].payload.size() > raw.size();
    ExpectRefused(qpack, {"qpack.segment", is_longer ? "qpack.directory" : "qpack.segment"});
  };
  for (const uint32_t entry : {0u, 4095u, 4096u, 4097u, 0x7FFFFFFFu, 0x80000000u, 0xFFFFFFFFu}) {
    Refuse([&](Segment& segment) { StoreLE(segment.payload.data(), entry); });
  }
  Refuse([](Segment& segment) { segment.payload.push_back(0); });
  Refuse([](Segment& segment) { segment.payload.clear(); });
  Refuse([](Segment& segment) { segment.is_stored = true; });
  // Stored, and shorter or longer than the piece.
  Refuse([&](Segment& segment) {
    segment = Segment::Stored(raw);
    segment.payload.pop_back();
  });
  Refuse([&](Segment& segment) {
    segment = Segment::Stored(raw);
    segment.payload.push_back(7);
  });
  // Table and plane, though that is longer than the piece.
  Refuse([&](Segment& segment) {
    segment.payload.clear();
    PutLE(segment.payload, uint32_t{4096});
    segment.payload.insert(segment.payload.end(), raw.begin(), raw.end());
  });
}

TEST(QpackAttacks, FramesThatClaimMore) {
  const Bytes raw(4096, 7);
  const Bytes frame = FrameOf(raw);
  const auto Refuse = [&](const Bytes& bad) {
    Qpack qpack = Sound();
    qpack.segments[2] = Segment::Frame(raw, bad);
    ExpectRefused(qpack, {"qpack.segment"});
  };
  // A single segment with a content size of eight bytes: 2^62 of them.
  Bytes huge = {0x28, 0xB5, 0x2F, 0xFD, 0xE0};
  PutLE(huge, uint64_t{1} << 62);
  huge.insert(huge.end(), {0x03, 0x00, 0x10, 0x07});
  Refuse(huge);
  // A window of 2^41 bytes.
  Bytes window = {0x28, 0xB5, 0x2F, 0xFD, 0xC0, 0xF8};
  PutLE(window, uint64_t{4096});
  window.insert(window.end(), {0x03, 0x80, 0x00, 0x07});
  Refuse(window);
  // Other content than promised, more than one frame, a frame in front of others that says nothing.
  Refuse(FrameOf(Bytes(4095, 7)));
  Refuse(FrameOf(Bytes(1 << 22, 7)));
  Refuse(FrameOf(Bytes(4096, 8)));
  Bytes two = frame;
  two.insert(two.end(), frame.begin(), frame.end());
  Refuse(two);
  Bytes skippable = {0x50, 0x2A, 0x4D, 0x18, 1, 0, 0, 0, 0};
  skippable.insert(skippable.end(), frame.begin(), frame.end());
  Refuse(skippable);
}

// Before 1.0 zstd had seven formats, which the library can be built to read, each with its own bugs.
TEST(QpackAttacks, FramesOfOldFormats) {
  const Bytes raw(4096, 7);
  const Bytes frame = FrameOf(raw);
  std::vector<Bytes> magics = {{0xFD, 0x2F, 0xB5, 0x1E}, {0x1E, 0xB5, 0x2F, 0xFD}};  // 0.1
  for (uint8_t version = 0x22; version <= 0x27; ++version) {                         // 0.2 to 0.7
    magics.push_back({version, 0xB5, 0x2F, 0xFD});
  }
  for (const Bytes& magic : magics) {
    Bytes old = frame;
    std::copy(magic.begin(), magic.end(), old.begin());
    Qpack qpack = Sound();
    qpack.segments[2] = Segment::Frame(raw, old);
    ExpectRefused(qpack, {"qpack.segment"});
  }
}

TEST(QpackAttacks, ATailInPieces) {
  // Only the last segment of the tail may be short: else a file could be cut in many ways.
  Qpack qpack = Sound();
  qpack.Add(Segment::Stored(Bytes(10, 1)));
  ExpectRefused(qpack, {"qpack.directory", "qpack.segment"});
}

TEST(QpackAttacks, HeadersOfAnotherLength) {
  for (const uint64_t header_bytes :
       {uint64_t{0}, uint64_t{1}, uint64_t{4096}, uint64_t{128} << 20, ~uint64_t{0}}) {
    Qpack qpack = Sound();
    qpack.header_bytes = header_bytes;
    ExpectRefused(qpack, {"qpack.prologue", "qpack.segment", "qpack.directory", "gguf.truncated"});
  }
}

TEST(QpackAttacks, SegmentsOfImpossibleSize) {
  for (const uint32_t segment_bytes : {0u, 1u, 2048u, 5000u, 1u << 23, 1u << 31, ~0u}) {
    Qpack qpack = Sound();
    qpack.segment_bytes = segment_bytes;
    ExpectRefused(qpack, {"qpack.prologue"});
  }
}

// A gigabyte of zeros in 80 KB is a valid file: what is asked for is unpacked, no more. It may be
// one row.
TEST(QpackAttacks, DataBombsAreReadInBoundedMemory) {
  constexpr uint64_t kPieces = 1024, kPieceBytes = 1 << 20;
  for (const std::vector<uint64_t>& shape :
       {std::vector<uint64_t>{kPieceBytes, kPieces}, std::vector<uint64_t>{kPieceBytes * kPieces}}) {
    // The name is so long that no padding follows.
    const Bytes header =
        testing::GgufBuilder().Info(std::string(shape.size() == 1 ? 8 : 32, 't'), shape, 24, 0)
            .Header();
    ASSERT_EQ(header.size() % 32, 0U);
    Qpack qpack;
    qpack.header_bytes = header.size();
    qpack.Add(Segment::Stored(header));
    const Bytes zeros(kPieceBytes);
    const Segment segment = Segment::Frame(zeros, FrameOf(zeros));
    for (uint64_t i = 0; i < kPieces; ++i) qpack.Add(segment);
    const Bytes bytes = qpack.Build();
    EXPECT_LT(bytes.size(), 130000U);
    const size_t peak = testing::PeakOf([&] {
      const auto store = OpenQpack(InMemory(bytes));
      if (shape.size() == 2) {
        Bytes row(kPieceBytes, 1);
        store->ReadRows(0, kPieces - 1, 1, row);
        EXPECT_EQ(row, zeros);
      }
      EXPECT_EQ(store->HashTensor(0), HashOfZeros(kPieces * kPieceBytes));
      const auto stream = UnpackStream(std::make_unique<testing::MemoryStream>(bytes));
      Bytes buffer(1 << 16);
      for (int i = 0; i < 1000; ++i) stream->Read(buffer);
      EXPECT_TRUE(CheckQpack(InMemory(bytes)).empty());
    });
    EXPECT_LE(peak, kAllowedBytes + 2 * bytes.size());
  }
}

// ---- The integrity trailer ----

Bytes Sealed(const IntegrityTrailer* forged = nullptr) {
  Manifest m;
  TensorInfo tensor;
  tensor.shape = Shape{64};
  tensor.dtype = DType::kI8;
  for (const char* name : {"a", "b"}) {
    tensor.name = name;
    m.tensors.push_back(tensor);
  }
  Bytes out;
  const auto sink = MakeGgufWriter(std::make_unique<testing::VectorOutput>(out), {.trailer = true});
  sink->Begin(m);
  sink->Put({0, 0, 1, testing::Pattern(64)});
  sink->Put({1, 0, 1, testing::Pattern(64, 2)});
  sink->Finish();
  if (forged != nullptr) {
    out.erase(out.end() - ptrdiff_t{TrailerBytes(2)}, out.end());
    const auto trailer = EncodeTrailer(*forged);
    out.insert(out.end(), trailer.begin(), trailer.end());
  }
  return out;
}

std::vector<std::string> TrailerIds(const Bytes& bytes) {
  std::vector<std::string> ids;
  for (const Finding& finding : CheckGgufIntegrity(GgufFile(InMemory(bytes))))
    ids.push_back(finding.id);
  return ids;
}

TEST(TrailerAttacks, FewerHashesThanTensors) {
  const Bytes sound = Sealed();
  EXPECT_TRUE(TrailerIds(sound).empty());
  IntegrityTrailer forged = *FindTrailer(sound);
  forged.tensor_hashes.pop_back();
  EXPECT_EQ(TrailerIds(Sealed(&forged)), std::vector<std::string>{"trailer.damaged"});
  forged.tensor_hashes = {forged.tensor_hashes[0], 1, 2, 3};
  EXPECT_EQ(TrailerIds(Sealed(&forged)).front(), "trailer.damaged");
}

TEST(TrailerAttacks, ATrailerOfExabytes) {
  Bytes bytes = Sealed();
  for (const uint64_t length : {uint64_t{1} << 62, ~uint64_t{0}, uint64_t{47}, uint64_t{0}}) {
    StoreLE(&bytes[bytes.size() - 16], length);
    const Bytes before(bytes.end() - ptrdiff_t{TrailerBytes(2)}, bytes.end() - 8);
    StoreLE(&bytes[bytes.size() - 8], Xxh3(before));
    const size_t peak = testing::PeakOf(
        [&] { EXPECT_EQ(TrailerIds(bytes), std::vector<std::string>{"trailer.damaged"}); });
    EXPECT_LE(peak, kAllowedBytes);
  }
}

TEST(TrailerAttacks, AnotherFilesTrailer) {
  IntegrityTrailer forged = *FindTrailer(Sealed());
  forged.header_hash ^= 1;
  EXPECT_EQ(TrailerIds(Sealed(&forged)), std::vector<std::string>{"trailer.metadata"});
  forged.infos_hash ^= 1;
  EXPECT_EQ(TrailerIds(Sealed(&forged)), std::vector<std::string>{"trailer.header"});
  forged.header_hash ^= 1;
  EXPECT_EQ(TrailerIds(Sealed(&forged)), std::vector<std::string>{"trailer.damaged"});
}

TEST(TrailerAttacks, TwoTrailers) {
  Bytes bytes = Sealed();
  const auto trailer = EncodeTrailer(*FindTrailer(bytes));
  bytes.insert(bytes.end(), trailer.begin(), trailer.end());
  EXPECT_EQ(TrailerIds(bytes), std::vector<std::string>{"trailer.place"});
}

}  // namespace
}  // namespace quern
