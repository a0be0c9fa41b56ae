// What a hostile file may cost: at most 64 MiB + twice its size of memory at any time, while it is
// refused or read. Every allocation of this program is counted.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "formats/json_limits.h"
#include "formats/torch_checkpoint.h"
#include "tests/formats/count_memory.h"
#include "tests/formats/torch_builder.h"

namespace quern {
namespace {

using testing::BuildCheckpoint;
using testing::BuildZip;
using testing::CheckpointParts;
using testing::Le32;
using testing::PkGlobal;
using testing::PkTensor;
using testing::PkText;
using testing::PkTuple;
using testing::ZipPart;
using std::string_literals::operator""s;

// Returns the memory that `action` had at most, whether it throws or not.
template <typename Action>
size_t PeakOf(const Action& action) {
  return testing::PeakOf([&] {
    try {
      action();
    } catch (const Error&) {
    }
  });
}

constexpr size_t kFree = size_t{64} << 20;

void ExpectBounded(const std::string& file, const char* what) {
  const MemoryBytes bytes(AsBytes(file), "x.pth");
  const size_t peak = PeakOf([&] { TorchCheckpoint::Open(bytes).VerifyAllCrcs(); });
  EXPECT_LE(peak, kFree + 2 * file.size()) << what << " of " << file.size() << " bytes";
}

std::string Times(const std::string& piece, size_t n) {
  std::string out;
  out.reserve(piece.size() * n);
  for (size_t i = 0; i < n; ++i) out += piece;
  return out;
}

TEST(TorchMemoryTest, HostilePickles) {
  for (const size_t n : {size_t{1} << 20, size_t{6} << 20}) {
    for (const std::string& piece :
         {"N"s, "]"s, "}"s, ")"s, ")\x85"s, "K\1\x94"s, "\x94"s, "2"s, "]2a"s, "NN\x86"s, "(t"s,
          "(NNNNt"s, "\x8f"s, "(N\x91"s, "K\1"s, "U\1a"s, "C\1a"s}) {
      const std::string text = "\x80\x02N" + Times(piece, n / piece.size()) + ".";
      ExpectBounded(BuildCheckpoint(text), piece.c_str());
    }
    // Into one list, one dict, one set; one by one and at once.
    ExpectBounded(BuildCheckpoint("\x80\x02]" + Times("Na", n / 2) + "."), "appends");
    ExpectBounded(BuildCheckpoint("\x80\x02](" + std::string(n, 'N') + "e."), "append");
    ExpectBounded(BuildCheckpoint("\x80\x02}(" + std::string(n, 'N') + "u."), "setitems");
    ExpectBounded(BuildCheckpoint("\x80\x02}" + Times("NNs", n / 3) + "."), "setitem");
    ExpectBounded(BuildCheckpoint("\x80\x02(" + std::string(n, 'N') + "t."), "tuple");
    ExpectBounded(BuildCheckpoint("\x80\x02" + PkText(std::string(n, 'x')) + "."), "text");
    const std::string call = PkGlobal("torch", "device") + "q\0)q\1"s;
    ExpectBounded(BuildCheckpoint("\x80\x02" + call + Times("h\0h\1R"s, n / 5) + "."), "calls");
    const std::string dict = PkGlobal("collections", "OrderedDict") + "q\0)q\1"s;
    ExpectBounded(BuildCheckpoint("\x80\x02" + dict + Times("h\0h\1R"s, n / 5) + "."), "dicts");
  }
}

TEST(TorchMemoryTest, HostileStateDicts) {
  // As many tensors as are allowed, of the highest rank, and the rest of the budget for values.
  for (const size_t n : {size_t{131000}, size_t{140000}, size_t{600000}}) {
    const std::vector<int64_t> ones(8, 1);
    std::string text = "\x80\x02}(" + PkText("first") + PkTensor({}, 0, ones, ones) + "q\0"s;
    for (size_t i = 0; i < n; ++i) text += "U\6"s + std::to_string(100000 + i) + "h\0"s;
    const std::string filler = PkText("filler") + "](" + std::string(4 << 20, 'N') + "e";
    ExpectBounded(BuildCheckpoint(text + "u."), "tensors");
    ExpectBounded(BuildCheckpoint(text + filler + "u."), "tensors and values");
  }
  std::string text = "\x80\x02}(" + PkText(std::string(1 << 20, 'x')) + "q\1" + PkTensor() + "q\0"s;
  ExpectBounded(BuildCheckpoint(text + Times("h\1h\0"s, 100000) + "u."), "one long name");
}

TEST(TorchMemoryTest, HostileArchives) {
  // As many entries as bytes allow.
  std::vector<ZipPart> parts(400000);
  for (size_t i = 0; i < parts.size(); ++i) {
    for (size_t rest = i; parts[i].name.size() < 4; rest /= 26) {
      parts[i].name += static_cast<char>('a' + rest % 26);
    }
  }
  ExpectBounded(BuildZip(parts, {.has_zip64 = true, .n_entries = 0xFFFF}), "entries");
  // A directory without entries in the file.
  for (ZipPart& part : parts) part.has_local = false;
  ExpectBounded(BuildZip(parts, {.has_zip64 = true, .n_entries = 0xFFFF}), "directory");
  // Claims without bytes.
  ExpectBounded(BuildZip({}, {.n_entries = 0xFFFE, .directory_size = 0xFFFFFFFE}), "claims");
}

TEST(TorchMemoryTest, HostileJson) {
  for (const size_t n : {size_t{1} << 20, size_t{7} << 20, size_t{30} << 20}) {
    for (const std::string& piece :
         {"0,"s, "[],"s, "{},"s, "\"\","s, "[0],"s, "\"abcdefgh\","s, "1.5,"s, "\"\\u0041\","s,
          "{\"\":0},"s, " "s, "null,"s, "]"s}) {
      const std::string text = "[" + Times(piece, n / piece.size()) + "0]";
      // The caller holds the text itself.
      EXPECT_LE(PeakOf([&] { ParseJson(text, "x.json"); }), kFree + text.size()) << piece << n;
    }
    std::string keys = "{";
    for (size_t i = 0; keys.size() < n; ++i) keys += "\"" + std::to_string(i) + "\":0,";
    keys += "\"\":0}";
    EXPECT_LE(PeakOf([&] { ParseJson(keys, "x.json"); }), kFree + keys.size()) << "keys " << n;
    // Many small values, then the longest string.
    const std::string text = "[" + Times("0,", n / 2) + "\"" + std::string(4 << 20, 'x') + "\"]";
    EXPECT_LE(PeakOf([&] { ParseJson(text, "x.json"); }), kFree + text.size()) << "text " << n;
  }
}

}  // namespace
}  // namespace quern
