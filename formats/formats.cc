#include "formats/formats.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>

#include "formats/core/ascii.h"
#include "formats/gguf_reader.h"
#include "formats/gguf_writer.h"
#include "formats/integrity_trailer.h"
#include "formats/logits_file.h"
#include "formats/qpack_format.h"
#include "formats/qpack_reader.h"
#include "formats/qpack_writer.h"
#include "formats/sentencepiece_model.h"

namespace quern {
namespace {

std::unique_ptr<TensorSink> MakeGguf(std::unique_ptr<Output> output,
                                     const ModelWriteOptions& options) {
  return MakeGgufWriter(std::move(output), {.trailer = options.trailer});
}

std::unique_ptr<TensorSink> MakeQpack(std::unique_ptr<Output> output,
                                      const ModelWriteOptions& options) {
  return MakeGgufWriter(
      MakeQpackOutput(std::move(output),
                      {.level = options.level, .memory_bytes = options.memory_bytes}),
      {.trailer = options.trailer});
}

std::vector<Finding> CheckGguf(std::shared_ptr<const RandomAccessBytes> bytes, bool hash_tensors,
                               Progress* progress) {
  return CheckGgufIntegrity(GgufFile(std::move(bytes)), hash_tensors, progress);
}

constexpr Container kContainers[] = {
    {FileKind::kGguf, "gguf", OpenGguf, ReadGgufStream, MakeGguf, CheckGguf},
    {FileKind::kQpack, "qpack", OpenQpack, ReadQpackStream, MakeQpack, CheckQpack},
};

constexpr std::string_view kDescriptions[] = {
    "a GGUF file",
    "a QPACK file",
    "a PyTorch zip file (.pth)",
    "a PyTorch file of before version 1.6, a bare pickle",
    "a tar file",
    "a safetensors file",
    "a SentencePiece model",
    "a tiktoken vocabulary",
    "a JSON file",
    "an importance matrix (legacy imatrix.dat)",
    "a file of base logits",
    "a Git LFS pointer",
    "an HTML page",
    "a QPACK file that was changed like a text",
    "a file of ggml's formats before GGUF",
    "a file of another kind",
    "a folder",
    "a file of unknown kind",
};
static_assert(std::size(kDescriptions) == static_cast<size_t>(FileKind::kUnknown) + 1);

// What quern knows by its first bytes. Rows are tried in order.
struct Magic {
  std::string_view bytes;
  size_t offset;
  FileKind kind;
  std::string_view name;  // for old and foreign formats
};
using std::string_view_literals::operator""sv;
constexpr Magic kMagics[] = {
    {"GGUF"sv, 0, FileKind::kGguf, ""},
    {kQpackMagic, 0, FileKind::kQpack, ""},
    {kLogitsMagic, 0, FileKind::kLogits, ""},
    {"QPACK\n"sv, 0, FileKind::kMangledQpack, ""},
    {"QPACK\r"sv, 0, FileKind::kMangledQpack, ""},
    {"PK\3\4"sv, 0, FileKind::kTorchZip, ""},
    {"PK\5\6"sv, 0, FileKind::kTorchZip, ""},
    // The magic number with which torch.save began, as a pickle of protocol 2.
    {"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"sv, 0, FileKind::kTorchLegacy, ""},
    {"\x80\x02"sv, 0, FileKind::kTorchLegacy, ""},
    {"\x80\x03"sv, 0, FileKind::kTorchLegacy, ""},
    {"\x80\x04"sv, 0, FileKind::kTorchLegacy, ""},
    {"\x80\x05"sv, 0, FileKind::kTorchLegacy, ""},
    {"ustar"sv, 257, FileKind::kTar, ""},
    {"version https://git-lfs"sv, 0, FileKind::kGitLfsPointer, ""},
    {"lmgg"sv, 0, FileKind::kOldGgml, "ggml (unversioned)"},
    {"fmgg"sv, 0, FileKind::kOldGgml, "ggmf"},
    {"tjgg"sv, 0, FileKind::kOldGgml, "ggjt"},
    {"algg"sv, 0, FileKind::kOldGgml, "ggla (LoRA)"},
    {"7z\xbc\xaf\x27\x1c"sv, 0, FileKind::kForeign, "7z archive"},
    {"Rar!\x1a\x07"sv, 0, FileKind::kForeign, "RAR archive"},
    {"\x1f\x8b"sv, 0, FileKind::kForeign, "gzip file"},
    {"BZh"sv, 0, FileKind::kForeign, "bzip2 file"},
    {"\xfd"
     "7zXZ\0"sv,
     0, FileKind::kForeign, "xz file"},
    {"\x28\xb5\x2f\xfd"sv, 0, FileKind::kForeign, "zstd file"},
    {"\x89HDF\r\n\x1a\n"sv, 0, FileKind::kForeign, "HDF5 file"},
    {"\x93NUMPY"sv, 0, FileKind::kForeign, "NumPy array"},
    {"\x7f"
     "ELF"sv,
     0, FileKind::kForeign, "ELF program"},
    {"%PDF-"sv, 0, FileKind::kForeign, "PDF document"},
};

const Magic* FindMagic(ByteView head) {
  const std::string_view text = AsText(head);
  for (const Magic& magic : kMagics) {
    if (text.size() >= magic.offset && text.substr(magic.offset).starts_with(magic.bytes))
      return &magic;
  }
  return nullptr;
}

std::string_view WithoutLeadingSpace(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  return begin == std::string_view::npos ? std::string_view() : text.substr(begin);
}

// Returns the text from the first element on, without what may stand before it in HTML and XML: a
// byte order mark, comments, declarations.
std::string_view WithoutProlog(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  struct Bracket {
    std::string_view begin, end;
  };
  for (;;) {
    text = WithoutLeadingSpace(text);
    const Bracket bracket = text.starts_with("<!--")   ? Bracket{"<!--", "-->"}
                            : text.starts_with("<?xml") ? Bracket{"<?xml", "?>"}
                                                        : Bracket{};
    if (bracket.begin.empty()) return text;
    const size_t end = text.find(bracket.end);
    if (end == text.npos) return text;
    text.remove_prefix(end + bracket.end.size());
  }
}

// An answer of a storage service (Amazon's S3 and its like): <Error><Code>AccessDenied</Code>…
bool LooksLikeXmlError(std::string_view text) { return WithoutProlog(text).starts_with("<Error>"); }

bool LooksLikeHtml(std::string_view text) {
  const std::string lower = AsciiLower(WithoutProlog(text).substr(0, 64));
  return lower.starts_with("<!doctype html") || lower.starts_with("<html") ||
         lower.starts_with("<head") || lower.starts_with("<body") ||
         // A comment that is longer than what was read: whatever follows, it is markup.
         lower.starts_with("<!--") || LooksLikeXmlError(text);
}

// Returns what stands between <Code> and </Code>, or "".
std::string_view XmlErrorCode(std::string_view text) {
  constexpr std::string_view kBegin = "<Code>", kEnd = "</Code>";
  const size_t begin = text.find(kBegin);
  if (begin == text.npos) return {};
  text.remove_prefix(begin + kBegin.size());
  return text.substr(0, std::min(text.find(kEnd), text.size()));
}

// A safetensors file begins with the length of its JSON header.
bool LooksLikeSafetensors(ByteView head) { return head.size() >= 9 && head[8] == '{'; }
bool IsSafetensors(ByteView head) {
  constexpr uint64_t kMaxHeaderBytes = 100'000'000;
  return LooksLikeSafetensors(head) && LoadLE<uint64_t>(head.data()) <= kMaxHeaderBytes;
}

// llama.cpp's imatrix.dat has no magic: a count, then the length and the name of a tensor.
bool LooksLikeImatrix(ByteView head) {
  if (head.size() < 12) return false;
  const uint32_t n_entries = LoadLE<uint32_t>(head.data());
  const uint32_t name_bytes = LoadLE<uint32_t>(head.data() + 4);
  if (n_entries == 0 || n_entries > 100000 || name_bytes == 0 || name_bytes > 256) return false;
  const std::string_view name = AsText(head.subspan(8)).substr(0, name_bytes);
  return name.size() == name_bytes && name.ends_with(".weight") &&
         std::ranges::all_of(name, [](char c) { return c > 0x20 && c < 0x7F; });
}

FileKind KindOfExtension(std::string_view path, bool is_empty) {
  struct Row {
    std::string_view extension;
    FileKind kind;
    bool only_empty;  // Bytes that do not begin as this format must are something else.
  };
  constexpr Row kRows[] = {
      {".gguf", FileKind::kGguf, true},
      {".qpack", FileKind::kQpack, true},
      {".pth", FileKind::kTorchZip, true},
      {".pt", FileKind::kTorchZip, true},
      {".bin", FileKind::kTorchZip, true},
      {".safetensors", FileKind::kSafetensors, false},
      {".model", FileKind::kSentencePiece, false},
      {".json", FileKind::kJson, false},
      {".dat", FileKind::kImatrix, false},
      {".imatrix", FileKind::kImatrix, false},
  };
  const std::string lower = AsciiLower(path);
  for (const Row& row : kRows) {
    if (lower.ends_with(row.extension) && (is_empty || !row.only_empty)) return row.kind;
  }
  return FileKind::kUnknown;
}

std::string HintFor(FileKind kind, std::string_view wanted) {
  switch (kind) {
    case FileKind::kGitLfsPointer:
      return "the real file was not downloaded: run `git lfs pull` in its folder, or fetch it from "
             "the site";
    case FileKind::kHtml:
      return "a web page was saved in place of the file, often a login or error page: fetch it "
             "again";
    case FileKind::kOldGgml:
      return "convert the original checkpoint again; quern reads GGUF";
    case FileKind::kTorchZip:
    case FileKind::kSafetensors:
    case FileKind::kDirectory:
      return "a checkpoint is turned into a model with `quern convert`";
    case FileKind::kTorchLegacy:
    case FileKind::kTar:
      return "load it with PyTorch and save it again with torch.save";
    case FileKind::kSentencePiece:
    case FileKind::kTiktoken:
      return "this is a vocabulary only; give the model or the folder that holds both";
    case FileKind::kLogits:
      return "what a model predicted goes to `quern perplexity --reference-logits`";
    case FileKind::kMangledQpack:
      return "transfer it again as it is: binary mode of FTP, `-text` in .gitattributes";
    default:
      if (wanted.find("checkpoint") == std::string_view::npos) {
        return fmt::format("give {}", wanted);
      }
      return "give a GGUF or QPACK file, a .pth or .safetensors file, a tokenizer.model, or a "
             "checkpoint folder";
  }
}

}  // namespace

bool LooksLikeTiktoken(std::string_view text) {
  text = text.substr(std::min(text.find_first_not_of("\r\n"), text.size()));
  const size_t space = text.find(' ');
  const size_t end = text.find('\n');
  if (space == 0 || space == std::string_view::npos || end == std::string_view::npos ||
      end <= space + 1)
    return false;
  const auto is_base64 = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '+' || c == '/' || c == '=';
  };
  const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || c == '\r'; };
  return std::ranges::all_of(text.substr(0, space), is_base64) &&
         std::ranges::all_of(text.substr(space + 1, end - space - 1), is_digit);
}

std::string_view DescriptionOf(FileKind kind) { return kDescriptions[static_cast<size_t>(kind)]; }

FileKind DetectKind(ByteView head, std::string_view path) {
  // Its count of entries may look like any magic, but nothing else has a name of a weight there.
  if (LooksLikeImatrix(head)) return FileKind::kImatrix;
  // A header's length may look like a magic of two to four bytes: 640 like a pickle's.
  if (IsSafetensors(head)) return FileKind::kSafetensors;
  if (const Magic* magic = FindMagic(head)) return magic->kind;
  const std::string_view text = AsText(head);
  if (LooksLikeHtml(text)) return FileKind::kHtml;
  if (LooksLikeSafetensors(head)) return FileKind::kSafetensors;
  const std::string_view trimmed = WithoutLeadingSpace(text);
  if (trimmed.starts_with('{') || trimmed.starts_with('[')) return FileKind::kJson;
  if (LooksLikeSentencePiece(head)) return FileKind::kSentencePiece;
  if (LooksLikeTiktoken(text)) return FileKind::kTiktoken;
  return KindOfExtension(path, head.empty());
}

FileKind DetectKind(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return FileKind::kDirectory;
  const InputFile file(path);
  return DetectKind(file.ReadVector(0, std::min<uint64_t>(kDetectBytes, file.size_bytes())), path);
}

Error WrongKind(FileKind kind, ByteView head, std::string_view path, std::string_view wanted) {
  const auto Compose = [&](Error error) {
    return error.File(Escaped(path, 4096)).Expected(wanted).Hint(HintFor(kind, wanted));
  };
  switch (kind) {
    case FileKind::kGitLfsPointer:
      return Compose(DataError("input.lfs-pointer", "file is only a Git LFS pointer"));
    case FileKind::kHtml:
      if (LooksLikeXmlError(AsText(head))) {
        return Compose(DataError("input.html", "file is a web server's error message"))
            .Found(Quoted(XmlErrorCode(AsText(head))));
      }
      return Compose(DataError("input.html", "file is an HTML page"));
    case FileKind::kMangledQpack:
      return Compose(DataError("qpack.line-ends", "a transfer as text changed line ends in a QPACK"))
          .Found("first bytes " + Quoted(AsText(head.first(std::min<size_t>(head.size(), 8)))))
          .Offset(5);
    case FileKind::kOldGgml:
    case FileKind::kForeign: {
      const Magic* magic = FindMagic(head);
      return Compose(UnsupportedError("input.unknown-format",
                                      "file is of a kind that quern does not read"))
          .Found(magic == nullptr ? DescriptionOf(kind) : magic->name);
    }
    case FileKind::kUnknown: {
      if (head.empty()) return Compose(DataError("input.empty", "file is empty")).Found("0 bytes");
      return Compose(DataError("input.unknown-format", "file is of no kind that quern knows"))
          .Found("first bytes " + Quoted(AsText(head.first(std::min<size_t>(head.size(), 8)))));
    }
    default:
      return Compose(UnsupportedError("input.kind", "input is of another kind"))
          .Found(DescriptionOf(kind));
  }
}

std::span<const Container> AllContainers() { return kContainers; }

const Container* FindContainer(FileKind kind) {
  for (const Container& container : kContainers) {
    if (container.kind == kind) return &container;
  }
  return nullptr;
}

const Container* FindContainer(std::string_view name) {
  for (const Container& container : kContainers) {
    if (container.name == name) return &container;
  }
  return nullptr;
}

}  // namespace quern
