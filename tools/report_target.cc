#include "tools/report_target.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "converters/converters.h"
#include "formats/core/check.h"
#include "formats/core/file.h"
#include "tools/terminal.h"

namespace quern {
namespace {

// What a path names, also where there is nothing yet.
struct Place {
  std::optional<FileId> file, directory;
  std::string name;

  explicit Place(const std::string& path) : file(FileIdOf(path)) {
    const size_t slash = path.rfind('/');
    name = path.substr(slash + 1);  // npos + 1 is 0
    directory = FileIdOf(slash == std::string::npos ? "." : path.substr(0, slash + 1));
  }
  bool operator==(const Place& other) const {
    if (file || other.file) return file == other.file;
    return directory && directory == other.directory && name == other.name;
  }
};

bool BeginsWith(const std::string& path, std::string_view signature) {
  const InputFile file(path);
  if (file.size_bytes() == 0) return true;  // mktemp's, or a job summary's
  if (file.size_bytes() < signature.size()) return false;
  const auto head = file.ReadVector(0, signature.size());
  return AsText(head) == signature;
}

}  // namespace

void CheckReportTarget(const std::string& path, std::string_view signature,
                       const std::vector<std::string>& used) {
  const OutputTarget target = FindOutputTarget(path, {.force = true, .inputs = {}});
  if (!target.is_file) return;
  const Place place(target.path);
  for (const std::string& file : used) {
    if (Place(file) != place) continue;
    throw Error(ErrorCode::kSystem, "output.is-input",
                "the report would replace a file of this run")
        .File(Escaped(path, 4096))
        .Found("the file that is read or written as " + Quoted(file))
        .Hint("give the report a name of its own");
  }
  if (access(target.directory().c_str(), W_OK) != 0) {
    throw SystemError("output.open", "create a file in the directory of", path, errno);
  }
  if (place.file && !BeginsWith(target.path, signature)) {
    throw Error(ErrorCode::kSystem, "output.exists", "a report replaces only an earlier report")
        .File(Escaped(path, 4096))
        .Found("another file")
        .Hint("give another name, or remove the file");
  }
}

void WriteReport(const std::string& path, std::string_view signature, const std::string& text,
                 const std::vector<std::string>& used) {
  QUERN_CHECK(text.starts_with(signature));
  CheckReportTarget(path, signature, used);
  const auto output =
      OpenOutput(path, {.force = true, .inputs = {}, .expected_bytes = text.size()});
  output->Write(AsBytes(text));
  output->Commit();
}

void UseFiles(Session& session, const std::vector<std::string>& files) {
  std::ranges::copy_if(files, std::back_inserter(session.used_files),
                       [](const std::string& file) { return !file.empty() && file != "-"; });
  if (session.json.empty() || session.json == "-") return;
  CheckReportTarget(session.json, kJsonSignature, session.used_files);
}

void UseInput(Session& session, const std::string& path) {
  std::vector<std::string> files = {path};
  try {
    files = InputFilesOf(path);
  } catch (const Error&) {
    // What is wrong with it is said when it is opened.
  }
  UseFiles(session, files);
}

void WriteJson(const Session& session, const std::string& json) {
  if (session.json == "-") return PrintOut(json + "\n");
  WriteReport(session.json, kJsonSignature, json + "\n", session.used_files);
}

}  // namespace quern
