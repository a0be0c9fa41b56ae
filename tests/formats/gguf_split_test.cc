#include "formats/gguf_split.h"

#include <filesystem>
#include <fstream>

#include "formats/model_file.h"
#include "tests/formats/gguf_builder.h"
#include "tests/formats/testing.h"

namespace quern {
namespace {

namespace fs = std::filesystem;
using testing::Bytes;
using testing::ExpectError;
using testing::GgufBuilder;

// Parts of SmallLlama in a folder of their own, which goes with the object.
class Parts {
 public:
  explicit Parts(const std::string& test)
      : folder_(fs::path(::testing::TempDir()) /
                ("quern-split-" + test + std::to_string(getpid()))) {
    fs::create_directories(folder_);
  }
  ~Parts() { fs::remove_all(folder_); }

  std::string Path(int number, const std::string& of = "00003") const {
    return (folder_ / ("m-0000" + std::to_string(number) + "-of-" + of + ".gguf")).string();
  }
  void Write(const std::string& path, const Bytes& bytes) const {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }

 private:
  fs::path folder_;
};

// Returns part `index` of three: the first has the metadata and no tensor, or some.
GgufBuilder Part(uint16_t index, size_t n_first, uint32_t version = 3) {
  const GgufBuilder whole = testing::SmallLlama(version, index == 1 ? 64 : 32);
  const size_t begins[] = {0, n_first, 12, whole.infos.size()};
  GgufBuilder b;
  b.version = version;
  if (index == 0) b.keys = whole.keys;
  b.alignment = whole.alignment;
  if (b.alignment != 32) b.U32("general.alignment", static_cast<uint32_t>(b.alignment));
  b.Key("split.no", 2, index).Key("split.count", 2, uint16_t{3});
  b.Key("split.tensors.count", 5, static_cast<int32_t>(whole.infos.size()));
  const Bytes file = whole.Build();
  const GgufFile model(testing::InMemory(file));
  for (size_t i = begins[index]; i < begins[index + 1]; ++i) {
    const TensorInfo& info = model.manifest().tensors[i];
    std::vector<uint64_t> ne;
    for (size_t d = info.shape.rank(); d-- > 0;) ne.push_back(info.shape.dim(d));
    b.Tensor(info.name, ne, LayoutOf(info.dtype).gguf_id, testing::TensorBytes(model, i));
  }
  return b;
}

// Returns the same with an integrity trailer.
Bytes SealedPart(uint16_t index) {
  const Bytes plain = Part(index, 5).Build();
  const GgufHeader header = ReadGgufHeader(*testing::InMemory(plain));
  const GgufFile file(testing::InMemory(plain));
  Manifest m;
  m.metadata = header.metadata;
  m.tensors = header.tensors;
  std::erase_if(m.metadata, [](const MetadataEntry& entry) {
    return entry.key == "general.quantization_version" || entry.key == kGgufAlignmentKey;
  });
  m.alignment = static_cast<uint32_t>(header.alignment);
  Bytes out;
  const auto sink = MakeGgufWriter(std::make_unique<testing::VectorOutput>(out), {.trailer = true});
  sink->Begin(m);
  for (size_t i = 0; i < m.tensors.size(); ++i) {
    sink->Put({i, 0, m.tensors[i].rows(), testing::TensorBytes(file, i)});
  }
  sink->Finish();
  return out;
}

// Each part is compared with its own trailer; those without one are taken as they are.
TEST(GgufSplit, EachPartIsComparedWithItsTrailer) {
  const Parts parts("sealed");
  parts.Write(parts.Path(1), SealedPart(0));
  parts.Write(parts.Path(2), SealedPart(1));
  parts.Write(parts.Path(3), Part(2, 5).Build());
  const auto Walk = [&] { testing::WriteGguf(*OpenModelFile(parts.Path(1)), 200); };
  EXPECT_FALSE(testing::ErrorOf(Walk).has_value());
  EXPECT_TRUE(CheckModelFile(parts.Path(3), true).empty());

  Bytes second = SealedPart(1);
  const GgufFile file(testing::InMemory(second));
  const std::string name = file.manifest().tensors[2].name;
  second[file.tensor_offset(2)] ^= 1;
  parts.Write(parts.Path(2), second);
  ExpectError(Walk, ErrorCode::kData, "trailer.tensor", {name, "00002-of-00003"});
  const auto store = OpenModelFile(parts.Path(1));
  testing::TensorBytes(*store, 5 + 1);
  ExpectError([&] { testing::TensorBytes(*store, 5 + 2); }, ErrorCode::kData, "trailer.tensor",
              {name});
  const auto findings = CheckModelFile(parts.Path(1), true);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].tensor, name);

  // The trailer itself.
  second = SealedPart(1);
  second[second.size() - 20] ^= 1;
  parts.Write(parts.Path(2), second);
  ExpectError(Walk, ErrorCode::kData, "trailer.damaged", {"00002-of-00003"});
}

TEST(GgufSplit, ReadsAsTheWholeModelFromAnyPart) {
  const Bytes whole_bytes = testing::SmallLlama().Build();
  const GgufFile whole(testing::InMemory(whole_bytes));
  for (const size_t n_first : {0U, 5U}) {
    const Parts parts("whole");
    for (uint16_t i = 0; i < 3; ++i) {
      parts.Write(parts.Path(i + 1), Part(i, n_first, n_first == 0 ? 3 : 2).Build());
    }
    for (int i = 1; i <= 3; ++i) {
      const auto store = OpenModelFile(parts.Path(i));
      EXPECT_EQ(store->manifest(), whole.manifest());
      EXPECT_EQ(testing::WriteGguf(*store, 200), testing::WriteGguf(whole));
      const StoredPlace place = store->PlaceOf(20, 0, 0);  // output.weight is in the last part
      EXPECT_EQ(place.file, parts.Path(3));
      EXPECT_EQ(*place.byte_offset % 32, 0U);
      EXPECT_EQ(ModelFilesOf(parts.Path(i)),
                (std::vector<std::string>{parts.Path(1), parts.Path(2), parts.Path(3)}));
    }
  }
}

TEST(GgufSplit, PartsMustBelongTogether) {
  using enum ErrorCode;
  const Parts parts("bad");
  const auto WriteAll = [&] {
    for (uint16_t i = 0; i < 3; ++i) parts.Write(parts.Path(i + 1), Part(i, 5).Build());
  };
  const auto Refuse = [&](const std::string& path, ErrorCode code, std::string_view id,
                          const std::vector<std::string>& words) {
    ExpectError([&] { OpenModelFile(path); }, code, id, words);
    WriteAll();
  };
  WriteAll();
  fs::remove(parts.Path(2));
  Refuse(parts.Path(1), kData, "gguf.part-missing",
         {"2 of 3 parts", "m-00002-of-00003.gguf"});
  fs::remove(parts.Path(1));
  fs::remove(parts.Path(2));
  Refuse(parts.Path(3), kData, "gguf.part-missing",
         {"1 of 3 parts", "m-00001-of-00003.gguf", "m-00002-of-00003.gguf"});
  std::ofstream(parts.Path(2)) << "version https://git-lfs.github.com/spec/v1\noid sha256:0\n";
  Refuse(parts.Path(1), kData, "input.lfs-pointer", {"m-00002-of-00003.gguf", "LFS"});
  fs::rename(parts.Path(1), parts.Path(1) + ".gguf");
  Refuse(parts.Path(1) + ".gguf", kUnsupported, "gguf.split-name", {"-00001-of-00003.gguf"});
  parts.Write(parts.Path(2), Part(2, 5).Build());
  Refuse(parts.Path(1), kData, "gguf.split",
         {"m-00002-of-00003.gguf", "part 3 of 3", "part 2 of 3"});
  parts.Write(parts.Path(3), testing::SmallLlama().Build());
  Refuse(parts.Path(1), kData, "gguf.split", {"m-00003-of-00003.gguf", "a whole model"});
  auto duplicate = Part(2, 5);
  duplicate.infos.clear();
  duplicate.data.clear();
  duplicate.Tensor("token_embd.weight", {1}, 0, testing::Pattern(4));
  for (int i = 0; i < 8; ++i)
    duplicate.Tensor("extra" + std::to_string(i), {1}, 0, testing::Pattern(4));
  parts.Write(parts.Path(3), duplicate.Build());
  Refuse(parts.Path(2), kData, "gguf.duplicate-tensor",
         {"m-00003-of-00003.gguf", "token_embd.weight"});
  auto fewer = Part(2, 5);
  fewer.infos.pop_back();
  parts.Write(parts.Path(3), fewer.Build());
  Refuse(parts.Path(1), kData, "gguf.split", {"found 20", "expected 21"});
  const auto more = Part(2, 5).Tensor("more", {1}, 0, testing::Pattern(4)).Build();
  parts.Write(parts.Path(3), more);
  Refuse(parts.Path(1), kData, "gguf.split", {"found 22", "expected 21"});
  auto truncated = Part(2, 5).Build();
  truncated.resize(truncated.size() - 100);
  parts.Write(parts.Path(3), truncated);
  Refuse(parts.Path(1), kData, "gguf.tensor-past-eof", {"m-00003-of-00003.gguf", "output.weight"});
}

TEST(GgufSplit, KeysMustMakeSense) {
  const auto Split = [](uint16_t no, uint16_t count, int32_t n_tensors) {
    GgufBuilder b;
    b.Key("split.no", 2, no).Key("split.count", 2, count).Key("split.tensors.count", 5, n_tensors);
    return ReadGgufHeader(*testing::InMemory(b.Build())).metadata;
  };
  EXPECT_FALSE(SplitOf(Split(0, 1, 5), "f").has_value());
  EXPECT_FALSE(SplitOf({}, "f").has_value());
  EXPECT_EQ(SplitOf(Split(1, 2, 5), "f")->n_tensors, 5U);
  ExpectError([&] { SplitOf(Split(2, 2, 5), "f"); }, ErrorCode::kData, "gguf.split",
              {"part 2 of 2"});
  ExpectError([&] { SplitOf(Split(0, 2, -5), "f"); }, ErrorCode::kData, "gguf.split",
              {"-5 tensors"});
  const Bytes wrong = GgufBuilder().U32("split.count", 2).Build();
  ExpectError([&] { OpenGguf(testing::InMemory(wrong)); }, ErrorCode::kData, "gguf.key-type",
              {"split.count", "UINT32", "UINT16"});
}

TEST(GgufSplit, APartAloneIsNoStream) {
  const Bytes part = Part(1, 5).Build();
  ExpectError([&] { ReadGgufStream(std::make_unique<testing::MemoryStream>(part)); },
              ErrorCode::kUnsupported, "gguf.split", {"part 2 of 3"});
}

TEST(GgufSplit, AWholeFileWithSplitKeysLosesThem) {
  const Bytes bytes = testing::SmallLlama().Key("split.count", 2, uint16_t{1}).Build();
  const Bytes plain = testing::SmallLlama().Build();
  EXPECT_EQ(OpenGguf(testing::InMemory(bytes))->manifest(),
            GgufFile(testing::InMemory(plain)).manifest());
}

}  // namespace
}  // namespace quern
