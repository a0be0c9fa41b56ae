// Malformed and hostile files of our own making through the program itself: exit code, stable id,
// words of the message, peak memory, CPU time. What the readers do with them is tested beside the
// readers; here is what a user of the program sees, and what files cost that claim or hold a lot.
#include <cstdint>
#include <functional>
#include <limits>

#include "tests/formats/gguf_builder.h"
#include "tests/formats/sentencepiece_builder.h"
#include "tests/formats/torch_builder.h"
#include "tests/tools/run_quern.h"

namespace quern {
namespace {

using namespace testing;  // NOLINT: builders of four formats
using std::string_literals::operator""s;

struct HostileFile {
  std::string name;  // with its extension
  std::string bytes;
  int exit_code = 3;
  std::string id;                       // stable id of the message; "" for exit code 0
  std::vector<std::string> words = {};  // of the message
};
// The same of a file that takes memory to make.
struct LargeFile {
  std::string name;
  std::function<std::string()> bytes;
  int exit_code = 0;
  std::string id = "";
};

std::string Repeated(size_t n, const std::string& text) {
  std::string out;
  out.reserve(n * text.size());
  for (size_t i = 0; i < n; ++i) out += text;
  return out;
}
// Returns text(0) + text(1) + … + text(n - 1).
template <typename TextOf>
std::string Joined(size_t n, const TextOf& text) {
  std::string out;
  for (size_t i = 0; i < n; ++i) out += text(i);
  return out;
}
// Returns the number with six digits.
std::string Six(size_t i) {
  const std::string digits = std::to_string(i);
  return std::string(6 - digits.size(), '0') + digits;
}
std::string Text(const Bytes& bytes) { return {bytes.begin(), bytes.end()}; }

void ExpectAsListed(const HostileFile& file, const RunResult& result, const std::string& path) {
  EXPECT_EQ(result.exit_code, file.exit_code) << result.err;
  if (file.exit_code == 0) return;
  for (const std::string& word : file.words) {
    EXPECT_NE(result.err.find(word), std::string::npos) << word << "\n" << result.err;
  }
  EXPECT_NE(result.err.find("[" + file.id + "]"), std::string::npos) << file.id << "\n"
                                                                     << result.err;
  EXPECT_NE(result.err.find(path + ": "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("\nhint: "), std::string::npos) << result.err;
}

// Shows the file as a table and as JSON. (What is refused is so before anything is shown.)
void ExpectAsListed(const HostileFile& file, const std::filesystem::path& path,
                    const std::filesystem::path& err_path) {
  SCOPED_TRACE(path.filename());
  RunResult result = RunQuern({"inspect", path}, err_path);
  ExpectAsListed(file, result, path);
  ExpectWithinBounds(result, std::filesystem::file_size(path));
  if (file.exit_code != 0) return;
  result = RunQuern({"inspect", path, "--json"}, err_path);
  ExpectAsListed(file, result, path);
  ExpectWithinBounds(result, std::filesystem::file_size(path));
}

void ExpectEach(const std::vector<HostileFile>& files) {
  const ScratchFolder folder;
  for (size_t i = 0; i < files.size(); ++i) {
    const auto path = folder / (std::to_string(i) + "-" + files[i].name);
    std::ofstream(path, std::ios::binary) << files[i].bytes;
    ExpectAsListed(files[i], path, folder / "err");
  }
}

void ExpectEach(const std::vector<LargeFile>& files) {
  const ScratchFolder folder;
  for (const LargeFile& file : files) {
    const auto path = folder / file.name;
    // In a process of its own: the peak of a program counts what its process had before it.
    const pid_t maker = fork();
    if (maker == 0) {
      std::ofstream(path, std::ios::binary) << file.bytes();
      _exit(0);
    }
    int status = 0;
    waitpid(maker, &status, 0);
    ASSERT_TRUE(WIFEXITED(status) && std::filesystem::file_size(path) > 0) << file.name;
    ExpectAsListed({file.name, "", file.exit_code, file.id}, path, folder / "err");
    std::filesystem::remove(path);
  }
}

// --- GGUF
// -----------------------------------------------------------------------------------------

GgufBuilder Gguf() {
  GgufBuilder b;
  b.Text("general.architecture", "llama");
  return b;
}
// One tensor of 8 × 4 f32.
GgufBuilder GgufWithTensor() { return Gguf().Tensor("t.weight", {8, 4}, 0, Bytes(128)); }
HostileFile BadGguf(const std::string& name, const GgufBuilder& b, const std::string& id,
                    const std::vector<std::string>& words, int exit_code = 3) {
  return {name + ".gguf", Text(b.Build()), exit_code, id, words};
}

TEST(HostileFiles, Gguf) {
  std::vector<HostileFile> files;
  const std::string good = Text(GgufWithTensor().Build());
  files.push_back({"cut-12.gguf", good.substr(0, 12), 3, "gguf.truncated", {}});
  files.push_back({"cut-4.gguf", good.substr(0, 4), 3, "gguf.truncated", {}});
  files.push_back({"empty.gguf", "", 3, "gguf.truncated", {"0 bytes"}});
  files.push_back({"lower.gguf", "gguf" + good.substr(4), 3, "input.unknown-format", {"gguf"}});
  files.push_back({"ggjt.gguf", "tjgg" + good.substr(4), 4, "input.unknown-format", {"ggjt"}});
  const auto version = [&](uint32_t v) { return "GGUF" + Le32(v) + good.substr(8); };
  files.push_back({"version-0.gguf", version(0), 3, "gguf.version", {"0"}});
  files.push_back({"version-4.gguf", version(4), 4, "gguf.version", {"4"}});
  const auto counts = [&](uint64_t tensors, uint64_t keys) {
    return good.substr(0, 8) + Le64(tensors) + Le64(keys) + good.substr(24);
  };
  for (const uint64_t n : {uint64_t{1} << 32, uint64_t{1} << 62, UINT64_MAX}) {
    files.push_back({"tensors.gguf", counts(n, 1), 3, "gguf.count", {"tensor_count"}});
    files.push_back({"keys.gguf", counts(1, n), 3, "gguf.count", {"metadata_kv_count"}});
  }
  const auto key = [&](const std::string& name) { return GgufWithTensor().U32(name, 1); };
  files.push_back(BadGguf("key-nul", key("a\0b"s), "gguf.key", {"NUL", "a\\x00b"}));
  files.push_back(BadGguf("key-escape", key("k\x1b[2J"), "gguf.key", {"\\x1b"}));
  files.push_back(BadGguf("key-utf8", key("\xff\xfe"), "gguf.key", {"UTF-8"}));
  files.push_back(BadGguf("key-long", key(std::string(65536, 'a')), "gguf.key", {"65536"}));
  files.push_back(BadGguf("key-empty", key(""), "gguf.key", {}));
  files.push_back(BadGguf("key-twice", key("general.architecture"), "gguf.duplicate-key",
                          {"general.architecture"}));
  const auto array = [](uint32_t type, uint64_t n, const Bytes& data = {}) {
    GgufBuilder b = Gguf();
    Bytes value = b.KeyAndType("x", 9);
    PutLE(value, type);
    PutLE(value, n);
    value.insert(value.end(), data.begin(), data.end());
    b.keys.push_back(value);
    return b;
  };
  for (const uint32_t type : {0u, 7u, 8u, 10u, 12u}) {
    for (const uint64_t n : {uint64_t{1} << 40, uint64_t{1} << 61, UINT64_MAX}) {
      files.push_back(BadGguf("array", array(type, n), "gguf.array-length", {"'x'"}));
    }
  }
  files.push_back(BadGguf("array-type", array(99, 1, Bytes(8)), "gguf.value-type", {"'x'", "99"}));
  files.push_back(BadGguf("array-bool", array(7, 3, {1, 0, 7}), "gguf.bool", {"'x'"}));
  Bytes nested;
  for (int i = 0; i < 100000; ++i) PutLE<uint32_t>(nested, 9), PutLE<uint64_t>(nested, 1);
  files.push_back(BadGguf("array-deep", array(9, 1, nested), "gguf.nested-array", {"'x'"}, 4));
  GgufBuilder text = Gguf();
  text.keys.push_back(text.KeyAndType("x", 8));
  PutLE<uint64_t>(text.keys.back(), 1000);
  files.push_back(BadGguf("text-long", text, "gguf.string-length", {"'x'", "1000"}));
  for (const uint32_t alignment : {0u, 3u, 31u, 48u}) {
    files.push_back(BadGguf("alignment", GgufWithTensor().U32("general.alignment", alignment),
                            "gguf.alignment", {"general.alignment", std::to_string(alignment)}));
  }
  const auto info = [](const std::string& name, const std::vector<uint64_t>& ne, uint32_t type = 0,
                       uint64_t offset = 0) {
    GgufBuilder b = Gguf().Info(name, ne, type, offset);
    b.data = Bytes(128);
    return b;
  };
  const auto dims = [&](const std::vector<uint64_t>& ne, const std::string& id) {
    return BadGguf("dims", info("t", ne), id, {"tensor 't'"});
  };
  files.push_back(dims({8, 4, 1, 1, 1}, "gguf.n-dims"));
  files.push_back(dims(std::vector<uint64_t>(100000, 1), "gguf.n-dims"));
  files.push_back(dims({UINT64_MAX, 4}, "gguf.tensor-size-overflow"));
  files.push_back(dims({uint64_t{1} << 63, 2}, "gguf.tensor-size-overflow"));
  files.push_back(dims({uint64_t{1} << 30, uint64_t{1} << 31}, "gguf.tensor-size-overflow"));
  files.push_back(BadGguf("row-q8", info("t", {33, 4}, 8), "gguf.tensor-shape", {"'t'", "32"}));
  files.push_back(BadGguf("row-q4k", info("t", {100, 4}, 12), "gguf.tensor-shape", {"'t'", "256"}));
  files.push_back(
      BadGguf("offset", info("t", {8, 4}, 0, UINT64_MAX - 31), "gguf.tensor-offset", {"'t'"}));
  for (const uint32_t type : {4u, 5u, 31u, 36u, 99u, 0xFFFFFFFFu}) {
    files.push_back(BadGguf("type", info("t", {256}, type), "gguf.tensor-type",
                            {"'t'", std::to_string(type)}, 4));
  }
  files.push_back(BadGguf("name-long", info(std::string(1000000, 't'), {8, 4}), "gguf.tensor-name",
                          {"1000000"}));
  files.push_back(BadGguf("name-line", info("a\nb", {8, 4}), "gguf.tensor-name", {"\\x0a"}));
  files.push_back(BadGguf("name-nul", info("a\0b"s, {8, 4}), "gguf.tensor-name", {"NUL"}));
  files.push_back(BadGguf("name-empty", info("", {8, 4}), "gguf.tensor-name", {}));
  files.push_back(BadGguf("name-twice", info("t", {8, 4}).Info("t", {8, 4}, 0, 128),
                          "gguf.duplicate-tensor", {"'t'"}));
  files.push_back(BadGguf("overlap", info("a", {8, 4}).Info("b", {8, 4}, 0, 64),
                          "gguf.tensor-offset", {"'b'"}));
  ExpectEach(files);
}

// Few bytes, many things: each takes more memory to read and to show than it takes in the file.
TEST(HostileFiles, GgufOfManySmallThings) {
  std::vector<LargeFile> files;
  // `fill` adds the many things to a file with one tensor.
  const auto add = [&](const std::string& name, std::function<void(GgufBuilder&)> fill) {
    files.push_back({name + ".gguf", [fill = std::move(fill)] {
                       GgufBuilder b = GgufWithTensor();
                       fill(b);
                       return Text(b.Build());
                     }});
  };
  for (const size_t length : {8u, 63u}) {
    add("tensors-" + std::to_string(length), [length](GgufBuilder& b) {
      b = Gguf();
      for (size_t i = 0; i < 120000; ++i) b.Info(Six(i) + std::string(length - 6, 'x'), {0}, 0, 0);
    });
  }
  for (const size_t length : {0u, 8u, 120u}) {
    add("texts-" + std::to_string(length), [length](GgufBuilder& b) {
      for (size_t i = 0; i < 262000; ++i) b.Text(Six(i), std::string(length, '\1'));
    });
  }
  add("numbers", [](GgufBuilder& b) {
    for (size_t i = 0; i < 262000; ++i) b.Key<uint8_t>(Six(i), 0, 0);
  });
  add("arrays", [](GgufBuilder& b) {
    for (size_t i = 0; i < 262000; ++i) b.Array<uint8_t>(Six(i), 0, {255, 255, 255, 255});
  });
  add("lists", [](GgufBuilder& b) {
    for (size_t i = 0; i < 200000; ++i) b.Strings(Six(i), {std::string(8, '\1')});
  });
  add("strings", [](GgufBuilder& b) { b.Strings("x", std::vector<std::string>(1000000, "a")); });
  add("strings-empty", [](GgufBuilder& b) { b.Strings("x", std::vector<std::string>(4000000)); });
  add("bools", [](GgufBuilder& b) { b.Array<uint8_t>("x", 7, std::vector<uint8_t>(10000000, 1)); });
  add("template",
      [](GgufBuilder& b) { b.Text("tokenizer.chat_template", Repeated(5000000, "{{")); });
  ExpectEach(files);
}

// --- PyTorch's zip files
// --------------------------------------------------------------------------

// A checkpoint with one tensor 'w' of 2 × 2 f32.
std::string Good() { return PkStateDict({{"w", PkTensor()}}); }
template <typename Change>
HostileFile BadZip(const std::string& name, const std::string& id,
                   const std::vector<std::string>& words, const Change& change, int exit_code = 3) {
  std::vector<ZipPart> parts = CheckpointParts(Good());
  ZipStyle style;
  change(parts, style);
  return {name + ".pth", BuildZip(parts, style), exit_code, id, words};
}
ZipPart Part(const std::string& name, const std::string& data) {
  ZipPart part;
  part.name = name;
  part.data = data;
  return part;
}

TEST(HostileFiles, Zip) {
  using Parts = std::vector<ZipPart>;
  const std::string storage = "'archive/data/0'";
  const std::string good = BuildCheckpoint(Good());
  std::vector<HostileFile> files = {
      {"empty.pth", "", 3, "zip.eocd", {"0 bytes"}},
      {"begins.pth", "PK\3\4", 3, "zip.eocd", {"4 bytes"}},
      {"half.pth", good.substr(0, good.size() / 2), 3, "zip.eocd", {"end of central directory"}},
      {"two.pth", good + good, 3, "zip.eocd", {"end of central directory"}},
      {"trailing.pth", good + "x", 3, "input.trailing-data", {"1 bytes"}},
      {"ends.pth", "PK\3\4" + Repeated(40000, "PK\5\6" + std::string(18, '\0')), 3, "zip.eocd", {}},
      {"zeros.pth", std::string(4096, '\0'), 3, "input.unknown-format", {}},
      {"html.pth", "\xEF\xBB\xBF<!-- x --><html>", 3, "input.html", {"HTML"}},
      {"s3.pth",
       "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code></Error>",
       3,
       "input.html",
       {"'AccessDenied'"}},
      {"lfs.pth",
       "version https://git-lfs.github.com/spec/v1\r\noid",
       3,
       "input.lfs-pointer",
       {"Git LFS"}},
      {"gz.pth", "\x1f\x8b\x08", 4, "input.unknown-format", {"gzip"}},
      {"tar.pth", std::string(257, '\0') + "ustar\0"s, 4, "torch.tar-format", {"tar"}},
      {"legacy.pth",
       "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e",
       4,
       "torch.legacy-format",
       {"1.6"}},
      BadZip("crc-pickle", "zip.crc", {"'archive/data.pkl'"},
             [](Parts& p, ZipStyle&) { p[0].crc = 1; }),
      BadZip(
          "deflate", "zip.method", {storage, "8"}, [](Parts& p, ZipStyle&) { p[1].method = 8; }, 4),
      BadZip("method-local", "zip.local-mismatch", {storage},
             [](Parts& p, ZipStyle&) { p[1].local_method = 8; }),
      BadZip("flags", "zip.flags", {storage}, [](Parts& p, ZipStyle&) { p[1].flags = 0x2000; }),
      BadZip("encrypted", "zip.flags", {storage, "encrypted"},
             [](Parts& p, ZipStyle&) { p[1].flags = 1; }),
      BadZip("size-local", "zip.local-mismatch", {storage},
             [](Parts& p, ZipStyle&) { p[1].local_size = p[1].local_stored_size = 999; }),
      BadZip("descriptor", "zip.local-mismatch", {storage, "descriptor"},
             [](Parts& p, ZipStyle&) { p[1].flags = 8, p[1].descriptor = std::string(16, '\0'); }),
      BadZip("signature", "zip.local-mismatch", {storage},
             [](Parts& p, ZipStyle&) { p[1].local_signature = "PK\3\5"; }),
      BadZip("name-local", "zip.local-mismatch", {storage},
             [](Parts& p, ZipStyle&) { p[1].local_name = "archive/data/1"; }),
      BadZip("sizes", "zip.directory", {storage}, [](Parts& p, ZipStyle&) { p[1].size = 99999; }),
      BadZip("offset", "zip.entry-past-eof", {storage},
             [](Parts& p, ZipStyle&) { p[1].local_offset = 0x7FFFFFF0; }),
      BadZip("same-offset", "zip.overlap", {},
             [](Parts& p, ZipStyle&) { p[2].local_offset = 0, p[2].has_local = false; }),
      BadZip("hidden", "zip.hidden-bytes", {},
             [](Parts& p, ZipStyle&) { p[1].in_directory = false; }),
      BadZip("disk", "zip.multi-disk", {storage}, [](Parts& p, ZipStyle&) { p[1].disk = 1; }),
      BadZip("n-entries", "zip.directory", {}, [](Parts&, ZipStyle& s) { s.n_entries = 65535; }),
      BadZip("directory-offset", "zip.eocd", {"2147483647"},
             [](Parts&, ZipStyle& s) { s.directory_offset = 0x7FFFFFFF; }),
      BadZip("directory-size", "zip.eocd", {},
             [](Parts&, ZipStyle& s) { s.directory_size = 0xFFFFFFF0; }),
      BadZip("zip64-n", "zip.directory", {"1099511627776"},
             [](Parts&, ZipStyle& s) {
               s.has_zip64 = true, s.zip64_n = uint64_t{1} << 40, s.n_entries = 0xFFFF;
             }),
      BadZip("zip64-offset", "zip.zip64", {},
             [](Parts&, ZipStyle& s) { s.has_zip64 = true, s.zip64_offset = uint64_t{1} << 63; }),
      BadZip("zip64-locator", "zip.zip64", {"7"},
             [](Parts&, ZipStyle& s) { s.has_zip64 = true, s.zip64_locator = 7; }),
      BadZip("storage-short", "torch.storage-size", {"'w'", storage},
             [](Parts& p, ZipStyle&) { p[1].data.pop_back(); }),
      BadZip("storage-none", "torch.storage-missing", {"'w'", storage},
             [](Parts& p, ZipStyle&) { p.erase(p.begin() + 1); }),
      BadZip("no-pickle", "torch.no-data-pkl", {"data.pkl"},
             [](Parts& p, ZipStyle&) { p.erase(p.begin()); }),
      BadZip(
          "version", "torch.version", {"99"}, [](Parts& p, ZipStyle&) { p[2].data = "99\n"; }, 4),
      BadZip("version-long", "torch.version", {},
             [](Parts& p, ZipStyle&) { p[2].data = std::string(5 << 20, '9'); }),
  };
  const auto extra = [&](const std::string& name, const std::string& id,
                         const std::vector<std::string>& words, int exit_code = 3,
                         const std::string& data = "x") {
    files.push_back(BadZip(
        "extra", id, words, [&](Parts& p, ZipStyle&) { p.push_back(Part(name, data)); },
        exit_code));
  };
  for (const std::string& name : std::vector<std::string>{"/abs", "a/../../b", "..", "C:/x", "a\\b",
                                                          "archive/data/../../x", "a/\xff"}) {
    extra(name, "zip.name", {});
  }
  extra("archive/data.pkl\0.txt"s, "zip.name", {"NUL"});
  extra("archive/data/0", "zip.duplicate-entry", {storage});
  extra("other/data.pkl", "torch.ambiguous", {"'other/data.pkl'"}, 3, Good());
  extra("archive/constants.pkl", "torch.torchscript", {"TorchScript"}, 4);
  extra("archive/byteorder", "torch.byteorder", {"big"}, 4, "big");
  extra("archive/byteorder", "torch.byteorder", {"middle"}, 3, "middle");
  ExpectEach(files);
}

std::string ZipOfEntries(size_t n) {
  std::vector<ZipPart> parts = CheckpointParts(Good());
  for (size_t i = 0; i < n; ++i) parts.push_back(Part("archive/x/" + Six(i), ""));
  ZipStyle style;
  style.has_zip64 = n > 65535;
  if (style.has_zip64) style.n_entries = 0xFFFF;
  return BuildZip(parts, style);
}
std::string ZipOfStorages(size_t n) {
  const auto entry = [](size_t i) {
    return PkText(Six(i)) + PkTensor({"FloatStorage", std::to_string(i), 1}, 0, {}, {});
  };
  std::vector<ZipPart> parts = {Part("archive/data.pkl", "\x80\2}(" + Joined(n, entry) + "u.")};
  for (size_t i = 0; i < n; ++i) {
    parts.push_back(Part("archive/data/" + std::to_string(i), std::string(4, '\0')));
  }
  return BuildZip(parts);
}

TEST(HostileFiles, ZipOfManyEntries) {
  ExpectEach(std::vector<LargeFile>{
      {"entries.pth", [] { return ZipOfEntries(60000); }},
      {"more-entries.pth", [] { return ZipOfEntries(300000); }},
      {"storages.pth", [] { return ZipOfStorages(60000); }},
  });
}

// --- pickles
// --------------------------------------------------------------------------------------

HostileFile BadPickle(const std::string& name, const std::string& pickle, const std::string& id,
                      const std::vector<std::string>& words, int exit_code = 3) {
  return {name + ".pth", BuildCheckpoint(pickle), exit_code, id, words};
}

TEST(HostileFiles, Pickles) {
  std::vector<HostileFile> files;
  const auto bad = [&](const std::string& body, const std::string& id,
                       const std::vector<std::string>& words, int exit_code = 3) {
    files.push_back(
        BadPickle("pickle" + std::to_string(files.size()), "\x80\2"s + body, id, words, exit_code));
  };
  for (const auto& [module, name] :
       std::vector<std::pair<std::string, std::string>>{{"os", "system"},
                                                        {"posix", "system"},
                                                        {"builtins", "eval"},
                                                        {"builtins", "getattr"},
                                                        {"torch", "load"},
                                                        {"torch.hub", "load"},
                                                        {"numpy", "load"},
                                                        {"collections", "namedtuple"},
                                                        {"torch", "FloatStorage.from_file"},
                                                        {"runpy", "_run_code"},
                                                        {"a\x1b[2J", "b"},
                                                        {std::string(100000, 'm'), "n"}}) {
    bad(PkGlobal(module, name) + ")R.", "pickle.global", {});
  }
  bad("\x8c\5posix\x8c\6system\x93.", "pickle.global", {"posix.system"});
  for (const auto& [bytes, name] :
       std::vector<std::pair<std::string, std::string>>{{"i", "INST"},
                                                        {"o", "OBJ"},
                                                        {"\x92", "NEWOBJ_EX"},
                                                        {"\x82\1", "EXT1"},
                                                        {"P0\n", "PERSID"},
                                                        {"S'a'\n", "STRING"},
                                                        {"I1\n", "INT"},
                                                        {"\x97", "NEXT_BUFFER"}}) {
    bad(bytes + ".", "pickle.opcode", {name, "byte offset"});
  }
  bad("\xff.", "pickle.opcode", {"0xff"});
  bad("0.", "pickle.stack", {"POP"});
  bad(".", "pickle.stack", {"STOP"});
  bad("Nt.", "pickle.stack", {"TUPLE"});
  bad("}(Nu.", "pickle.stack", {"SETITEMS"});
  bad("NNa.", "pickle.container", {"APPEND"});
  bad("N)R.", "pickle.call", {"REDUCE"});
  bad("N}b.", "pickle.build", {"BUILD"});
  bad("Nr\xff\xff\xff\xff.", "pickle.memo", {"4294967295"});
  bad("j\xff\xff\xff\x7f.", "pickle.memo", {"2147483647"});
  bad("T\xff\xff\xff\xff.", "pickle.truncated", {"BINSTRING"});
  bad("\x8d" + Le64(uint64_t{1} << 63) + "abc.", "pickle.truncated", {"BINUNICODE8"});
  bad("\x8b\xff\xff\xff\x7f", "pickle.truncated", {"LONG4"});
  bad("ctorch", "pickle.truncated", {"GLOBAL"});
  bad("\x95" + Le64(UINT64_MAX) + "N.", "pickle.frame", {"FRAME"});
  bad("N.N", "input.trailing-data", {});
  bad("X\2\0\0\0\xc0\x80."s, "text.utf8", {"byte offset"});
  bad("\x80\6N.", "pickle.protocol", {"6"}, 4);
  bad(Repeated(100000, "(") + Repeated(100000, "t") + ".", "pickle.depth", {"depth"});
  bad(Repeated(100000, "]") + Repeated(99999, "a") + ".", "pickle.depth", {"depth"});
  bad("]q\0h\0a."s, "pickle.cycle", {});
  // A list of four times the list before it, sixty times.
  bad("]q\0"s +
          Joined(60,
                 [](size_t i) {
                   const std::string get = "h" + Le(i, 1);
                   return "](" + get + get + get + get + "eq" + Le(i + 1, 1);
                 }) +
          ".",
      "pickle.stack", {});
  bad("N.", "torch.root", {}, 4);
  bad("}.", "torch.no-tensors", {});
  for (const std::string& id : {PkTuple({PkText("storage")}), PkInt(7), "N"s}) {
    bad(PkDict({{"w", id + "Q"}}) + ".", "torch.persistent-id", {"byte offset"});
  }
  const auto tensor = [&](const std::string& value, const std::string& id,
                          const std::vector<std::string>& words, int exit_code = 3) {
    std::vector<std::string> all = words;
    all.push_back("tensor 'w'");
    bad(PkDict({{"w", value}}) + ".", id, all, exit_code);
  };
  const auto storage = [](const std::string& c, const std::string& key, int64_t n) {
    return PkTensor({c, key, n});
  };
  tensor(storage("FloatStorage", "0", -4), "torch.storage-size", {"-4"});
  tensor(storage("FloatStorage", "0", INT64_MAX), "torch.storage-size", {"9223372036854775807"});
  tensor(storage("FloatStorage", "../../etc/passwd", 4), "torch.storage-missing", {});
  tensor(storage("FloatStorage", std::string(100000, '0'), 4), "torch.storage-missing", {});
  tensor(storage("QInt8Storage", "0", 16), "torch.dtype", {"QInt8Storage"}, 4);
  const auto extent = [&](int64_t offset, const std::vector<int64_t>& shape,
                          const std::vector<int64_t>& strides, const std::string& id,
                          const std::vector<std::string>& words = {}) {
    tensor(PkTensor({}, offset, shape, strides), id, words);
  };
  const int64_t two32 = int64_t{1} << 32, two62 = int64_t{1} << 62;
  extent(-1, {2, 2}, {2, 1}, "torch.bounds", {"-1"});
  extent(1, {2, 2}, {2, 1}, "torch.bounds");
  extent(two62, {2, 2}, {2, 1}, "torch.bounds", {"4611686018427387904"});
  extent(0, {2, 2}, {two62, two62}, "torch.stride", {"4611686018427387904"});
  extent(0, {-2, 2}, {2, 1}, "torch.shape", {"-2"});
  extent(0, {two32, two32}, {0, 0}, "torch.tensor-too-large");
  extent(0, {two62}, {0}, "torch.tensor-too-large", {"4611686018427387904"});
  extent(0, {1000000000}, {0}, "torch.tensor-too-large");
  extent(0, std::vector<int64_t>(100, 1), std::vector<int64_t>(100, 1), "torch.rank", {"100"});
  extent(0, {2, 2}, {2}, "torch.stride");
  ExpectEach(files);
}

TEST(HostileFiles, PicklesOfManyValues) {
  std::vector<LargeFile> files;
  const auto bad = [&](const std::string& name, const std::string& id, int exit_code,
                       std::function<std::string()> body) {
    files.push_back({name + ".pth",
                     [body = std::move(body)] { return BuildCheckpoint("\x80\2" + body() + "."); },
                     exit_code, id});
  };
  const std::string budget = "pickle.budget", root = "torch.root";
  bad("none", budget, 3, [] { return std::string(10000000, 'N'); });
  bad("tuples", budget, 3, [] { return std::string(10000000, ')'); });
  bad("lists", budget, 3, [] { return std::string(10000000, ']'); });
  bad("dup", budget, 3, [] { return "N" + std::string(10000000, '2'); });
  bad("items", budget, 3, [] { return "](" + std::string(15000000, 'N') + "e"; });
  bad("popped", root, 4, [] { return Repeated(12000000, "N0") + "N"; });
  bad("popped-lists", budget, 3, [] { return Repeated(12000000, "]0") + "N"; });
  bad("texts", root, 4, [] { return Repeated(5000000, "U\1a0") + "N"; });
  bad("long-text", root, 4, [] { return "X" + Le32(30000000) + std::string(30000000, 'a'); });
  bad("globals", root, 4,
      [] { return Repeated(1000000, PkGlobal("torch", "quint2x4") + "0") + "N"; });
  bad("calls", budget, 3, [] {
    return PkGlobal("torch", "Size") + "q\0)q\1"s + "00" + Repeated(4000000, "h\0h\1R0"s) + "N";
  });
  bad("memo", root, 4,
      [] { return "N" + Joined(3000000, [](size_t i) { return "r" + Le32(i); }); });
  bad("memo-leaps", budget, 3,
      [] { return "N" + Joined(400, [](size_t i) { return "r" + Le32(i * 65535); }); });
  bad("pairs", budget, 3, [] {
    return PkGlobal("collections", "OrderedDict") + "q\0]q\1("s + Repeated(700000, "NN\x86") +
           "e\x85q\2"s + "R0" + Repeated(200, "h\0h\2R0"s) + "N";
  });
  ExpectEach(files);
}

// The names of one tensor, as many as a file may have.
TEST(HostileFiles, PicklesOfManyTensors) {
  std::vector<LargeFile> files;
  const auto add = [&](const std::string& name, size_t n, const std::string& tensor,
                       const std::string& before, const std::string& behind) {
    files.push_back({name + ".pth", [=] {
                       const auto entry = [&](size_t i) {
                         return PkText(before + Six(i) + behind) +
                                (i == 0 ? tensor + "q\0"s : "h\0"s);
                       };
                       return BuildCheckpoint("\x80\2}(" + Joined(n, entry) + "u.");
                     }});
  };
  const std::vector<int64_t> ones(8, 1), large(8, int64_t{1} << 40);
  const std::string rank8 = PkTensor({}, 0, ones, ones), far = PkTensor({}, 0, ones, large);
  add("rank-8", 131000, rank8, "", "");
  add("strides", 131000, far, "", "");
  add("escapes", 131000, rank8, "", std::string(10, '\1'));
  add("more-escapes", 131000, rank8, "", std::string(40, '\1'));
  add("long-names", 10000, PkTensor(), std::string(2000, 'p'), "");
  add("wrapped-names", 10000, PkTensor(), Repeated(200, "_orig_mod."), "");
  files.push_back({"infix.pth", [] {
                     const std::string name = Repeated(500000, "_fsdp_wrapped_module.") + "x";
                     return BuildCheckpoint(PkStateDict({{name, PkTensor()}}));
                   }});
  ExpectEach(files);
}

// --- vocabularies
// ---------------------------------------------------------------------------------

TEST(HostileFiles, SentencePieceModels) {
  const std::string base = FivePieces() + LlamaSettings();
  std::vector<HostileFile> files;
  const auto bad = [&](const std::string& more, const std::string& id,
                       const std::vector<std::string>& words = {}, int exit_code = 3) {
    files.push_back(
        {"v" + std::to_string(files.size()) + ".model", base + more, exit_code, id, words});
  };
  bad("\x0a", "protobuf.truncated");
  bad("\x0a" + Varint(UINT64_MAX) + "x", "protobuf.truncated");
  bad("\x0a" + Varint(uint64_t{1} << 63) + "x", "protobuf.truncated");
  bad(std::string(20, '\xff'), "protobuf.varint");
  bad("\x0e"s, "protobuf.tag");
  bad(std::string(100000, '\x0b'), "protobuf.depth", {"depth"});
  bad(Piece("z", std::numeric_limits<float>::quiet_NaN()), "spm.score", {"'z'"});
  bad(Piece("z", 0, 7), "spm.piece-type", {"'z'", "7"});
  bad(Piece(""), "spm.piece-length");
  bad(Piece("\xff\xfe"), "text.utf8");
  bad(Piece("a"), "spm.duplicate-piece", {"'a'"});
  bad(BytesField(3, BytesField(2, Le32(1000) + "abc")), "spm.charsmap");
  ExpectEach(files);
}

TEST(HostileFiles, SentencePieceModelsOfManyFields) {
  const auto with = [](const std::string& more) {
    return FivePieces() + BytePieces() + LlamaSettings() + more;
  };
  const auto piece = [](size_t i) { return BytesField(1, BytesField(1, Six(i))); };
  ExpectEach(std::vector<LargeFile>{
      {"most.model", [&] { return with(Joined(999999, piece)); }},
      {"empty.model", [&] { return with(Repeated(5000000, "\x0a\0"s)); }, 3, "spm.piece-length"},
      {"unknown.model", [&] { return with(Repeated(5000000, "\xc0\x0c\1")); }},
      {"settings.model", [&] { return with(BytesField(2, Repeated(5000000, "\x18\2"))); }},
      {"twice.model", [&] { return with(Repeated(500000, Piece("a", -1))); }, 3,
       "spm.duplicate-piece"},
  });
}

std::string Base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k) {
      bits = bits << 8 | (i + k < bytes.size() ? static_cast<uint8_t>(bytes[i + k]) : 0);
    }
    for (size_t k = 0; k < 4; ++k) {
      out += k <= bytes.size() - i ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
    }
  }
  return out;
}
// A vocabulary of all bytes and `tokens`.
std::string Tiktoken(const std::vector<std::string>& tokens) {
  std::string out;
  for (size_t i = 0; i < 256 + tokens.size(); ++i) {
    const std::string token = i < 256 ? std::string(1, static_cast<char>(i)) : tokens[i - 256];
    out += Base64(token) + " " + std::to_string(i) + "\n";
  }
  return out;
}

TEST(HostileFiles, TiktokenVocabularies) {
  const std::string base = Tiktoken({});
  std::vector<HostileFile> files = {{"good.model", base, 0, "", {}}};
  for (const std::string& line : std::vector<std::string>{
           "eHg= 257", "eHg= -1", "eHg= 4294967296", "eHg= 99999999999999999999", "e*g= 256",
           "eHg 256", "eHg=256", "eHg=\t256", " 256", "eHg=  256", "eHg= +256"}) {
    const bool is_rank = line == "eHg= 257";  // a number, but not the next
    files.push_back({"line.model",
                     base + line + "\n",
                     3,
                     is_rank ? "tiktoken.rank" : "tiktoken.line",
                     {"line 257"}});
  }
  files.push_back({"nul.model", base + std::string(100, '\0'), 3, "tiktoken.line", {"line 257"}});
  files.push_back({"long.model",
                   base + std::string(4000000, 'A') + " 256\n",
                   3,
                   "tiktoken.token-length",
                   {"line 257"}});
  files.push_back({"cut.model", base.substr(0, 900), 3, "tiktoken.line", {}});
  files.push_back(
      {"fewer.model", base.substr(0, base.find('\n', 900) + 1), 3, "tiktoken.byte-missing", {}});
  // Tokens whose every split is in two tokens: more merges than any vocabulary has.
  std::vector<std::string> runs, powers;
  for (char c = 'c'; c < 'z'; ++c) {
    for (size_t i = 1; i < 200; ++i) runs.push_back(std::string(1, c) + std::string(i, 'b'));
  }
  for (size_t i = 2; i < 200; ++i) runs.push_back(std::string(i, 'b'));
  files.push_back({"merges.model", Tiktoken(runs), 4, "tiktoken.merges", {}});
  for (size_t n = 2; n < 16; ++n) {
    for (size_t bits = 0; bits < size_t{1} << n; ++bits) {
      std::string& token = powers.emplace_back();
      for (size_t i = 0; i < n; ++i) token += "ab"[bits >> i & 1];
    }
  }
  files.push_back({"powers.model", Tiktoken(powers), 4, "tiktoken.merges", {}});
  ExpectEach(files);
}

// --- JSON
// -----------------------------------------------------------------------------------------

TEST(HostileFiles, Json) {
  std::vector<HostileFile> files;
  const auto bad = [&](const std::string& text, const std::string& id,
                       const std::vector<std::string>& words = {}) {
    files.push_back({"j" + std::to_string(files.size()) + ".json", text, 3, id, words});
  };
  bad(Repeated(1000000, "{\"a\":") + "1" + Repeated(1000000, "}"), "json.depth", {"depth"});
  bad(std::string(1000000, '['), "json.depth", {"depth"});
  for (const std::string& shard : std::vector<std::string>{
           "../x.safetensors", "a/b", "..\\\\x", "", ".", "..", "/", "m\\u0000", "\\u001b[2J"}) {
    bad("{\"weight_map\":{\"a\":\"" + shard + "\"}}", "index.path");
  }
  bad("{\"weight_map\":{\"a\":5}}", "config.value", {"a"});
  bad("{\"a\":{\"b\":8,\"\\u0062\":9}}", "json.duplicate-key", {"b"});
  for (const std::string& value : std::vector<std::string>{
           "-1", "2.5", "1e30", "99999999999999999999", "4294967296", "\"8\"", "true", "[]"}) {
    bad("{\"model_type\":\"llama\",\"num_attention_heads\":" + value + "}", "config.value",
        {"num_attention_heads"});
  }
  bad("{\"a\":\"\xff\"}", "text.utf8", {"offset"});
  bad("{\"a\":\"\\udc00\"}", "text.utf8", {"offset"});
  for (const std::string& text :
       std::vector<std::string>{"\"[\\", "{\"a\":1}x", "{\"a\":1}{}", "{\"a\":1,}", "{/**/}",
                                "{'a':1}", "{\"a\":\"", "{\"a\":tru}", "{\"a\":08}", "{\"a\":NaN}",
                                "{\"a\":1}\0"s, "{\"a\":\"x\ny\"}", "{\"a\":1e400}"}) {
    bad(text, "json.syntax", {"offset"});
  }
  bad("{\"a\":" + std::string(1000000, '1') + "}", "json.syntax");
  bad("{\"" + std::string(1000000, 'k') + "\":-}", "json.syntax");
  ExpectEach(files);
}

TEST(HostileFiles, JsonOfManyValues) {
  // Returns an object of `n` members.
  const auto members = [](size_t n, const std::string& value) {
    const auto member = [&](size_t i) { return "\"" + std::to_string(i) + "\":" + value; };
    return "{" + Joined(n - 1, [&](size_t i) { return member(i) + ","; }) + member(n) + "}";
  };
  const std::string limit = "json.limit";
  ExpectEach(std::vector<LargeFile>{
      {"numbers.json", [&] { return members(1000000, "0"); }},
      {"objects.json", [&] { return members(300000, "{\"a\":[1]}"); }},
      {"index.json",
       [&] { return "{\"weight_map\":" + members(500000, "\"m.safetensors\"") + "}"; }},
      {"texts.json", [] { return "[" + Repeated(2000000, "\"abcdefgh\",") + "0]"; }},
      {"values.json", [] { return "{\"a\":[" + Repeated(5000000, "0,") + "0]}"; }, 4, limit},
      {"arrays.json", [] { return "[" + Repeated(3000000, "[],") + "0]"; }, 4, limit},
      {"text.json", [] { return "{\"a\":\"" + std::string(30000000, 'x') + "\"}"; }, 4, limit},
      {"escapes.json", [] { return "{\"a\":\"" + Repeated(3000000, "\\u0041") + "\"}"; }, 4, limit},
      {"spaces.json", [] { return std::string(20000000, ' ') + "{}"; }, 4, limit},
  });
}

}  // namespace
}  // namespace quern
