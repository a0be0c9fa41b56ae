// quern unpack: QPACK to the very GGUF file that was packed.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <vector>

#include "formats/core/buffer_pool.h"
#include "formats/formats.h"
#include "formats/qpack_reader.h"
#include "formats/run_on_threads.h"
#include "tools/command.h"
#include "tools/io_args.h"
#include "tools/report_target.h"
#include "tools/terminal.h"

namespace quern {
namespace {

// What unpacking takes, whatever the threads, and as much again for a long GGUF header.
constexpr uint64_t kNeededBytes = uint64_t{48} << 20;

class UnpackCommand final : public Command {
 public:
  void AddFlags(Flags& flags) override {
    flags.Argument("input", input_);
    flags.Value("-o,--output", output_, "FILE",
                "Output file (default: standard output, if that is no terminal)");
    flags.Switch("--force", force_, "Replace the output if it exists");
  }

  int Run(Session& session) override {
    CheckReportHasRoom(session, output_);
    const std::string input = ResolveInput(input_);
    const uint64_t memory_bytes = session.memory_bytes.value_or(kDefaultMemoryBytes);
    if (memory_bytes < kNeededBytes) {
      throw MemoryBudgetError("unpacking", kNeededBytes, memory_bytes);
    }
    UseFiles(session, {input, output_});
    const auto begun = std::chrono::steady_clock::now();
    uint64_t gguf_bytes = 0;
    if (input == "-") {
      gguf_bytes =
          Unpack(std::make_unique<FdStream>(STDIN_FILENO, "standard input"), {}, 0, session);
    } else {
      const auto file = std::make_shared<const InputFile>(input);
      RefuseOthers(*file);
      // The directory says how much room the output needs.
      const uint64_t expected_bytes = QpackBytes(file).size_bytes();
      gguf_bytes =
          Unpack(std::make_unique<RandomAccessStream>(*file), {input}, expected_bytes, session);
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begun;
    if (!ModelGoesToStdout(output_)) {
      session.terminal.NoteDone(
          [&] { return fmt::format("wrote {}: {} bytes", Escaped(output_), gguf_bytes); });
    }
    if (session.wants_json()) {
      const nlohmann::ordered_json json = {
          {"schema", "quern.unpack/1"}, {"gguf_bytes", gguf_bytes}, {"seconds", seconds.count()}};
      WriteJson(session, json.dump(2));
    }
    return 0;
  }

 private:
  static void RefuseOthers(const InputFile& file) {
    const auto head = file.ReadVector(0, std::min<uint64_t>(kDetectBytes, file.size_bytes()));
    const FileKind kind = DetectKind(head, file.name());
    if (kind != FileKind::kQpack) throw WrongKind(kind, head, file.name(), "a QPACK file");
  }

  uint64_t Unpack(std::unique_ptr<ByteStream> qpack, const std::vector<std::string>& files,
                  uint64_t expected_bytes, Session& session) const {
    auto output = OpenModelOutput(output_, ModelOutputOptions(force_, files, expected_bytes));
    session.terminal.Begin("unpack", expected_bytes, "bytes");
    uint64_t gguf_bytes = 0;
    RunOnThreads(session.threads, [&] {
      gguf_bytes = UnpackQpack(std::move(qpack), std::move(output),
                               session.memory_bytes.value_or(kDefaultMemoryBytes) / 4,
                               &session.terminal);
    });
    session.terminal.End();
    return gguf_bytes;
  }

  std::string input_, output_;
  bool force_ = false;
};

}  // namespace

const CommandInfo kUnpackCommand = {
    .name = "unpack",
    .summary = "Give back the GGUF file that was packed",
    .usage = "unpack [IN] [-o OUT]",
    .examples =
        "  quern unpack llama-2-7b.qpack -o llama-2-7b.gguf\n"
        "  curl https://example.org/llama-2-7b.qpack | quern unpack > llama-2-7b.gguf\n",
    .notes =
        "IN is a QPACK file, or a QPACK stream from standard input. Every byte is compared with "
        "the hashes that\nquern pack took, and with the GGUF's own; where one differs, no output "
        "appears.\n",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<UnpackCommand>()); },
};

}  // namespace quern
