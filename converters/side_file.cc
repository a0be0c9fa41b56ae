#include "converters/side_file.h"

#include "formats/core/file.h"
#include "formats/formats.h"

namespace quern {

void RefuseForeign(std::string_view text, const std::string& file, std::string_view wanted) {
  const ByteView head = AsBytes(text.substr(0, kDetectBytes));
  switch (const FileKind kind = DetectKind(head, file)) {
    case FileKind::kGitLfsPointer:
    case FileKind::kHtml:
    case FileKind::kForeign:
      throw WrongKind(kind, head, file, wanted);
    default:
      break;  // the parser says what is wrong
  }
}

std::string ReadSideFile(const std::string& path, uint64_t max_bytes, std::string_view wanted) {
  std::string text = ReadWholeFile(path, max_bytes);
  RefuseForeign(text, path, wanted);
  return text;
}

}  // namespace quern
