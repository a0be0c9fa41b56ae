// quern pack: a GGUF file to QPACK, smaller, nothing lost.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "formats/core/buffer_pool.h"
#include "formats/formats.h"
#include "formats/qpack_writer.h"
#include "formats/run_on_threads.h"
#include "tools/command.h"
#include "tools/io_args.h"
#include "tools/report_target.h"
#include "tools/terminal.h"

namespace quern {
namespace {

// What passing a GGUF on takes beside packing it: its header, a step of its bytes.
constexpr uint64_t kCopyingBytes = uint64_t{16} << 20;

class PackCommand final : public Command {
 public:
  void AddFlags(Flags& flags) override {
    flags.Argument("input", input_);
    flags.Value("-o,--output", output_, "FILE",
                "Output file (default: standard output, if that is no terminal)");
    flags.Switch("--force", force_, "Replace the output if it exists");
    flags.Value("--level", level_, "N",
                "Patience: 1 (default) is fast, 2 and 3 also look for repetitions");
  }

  int Run(Session& session) override {
    CheckReportHasRoom(session, output_);
    QpackWriteOptions options{.level = ParsePackLevel(level_)};
    const std::string input = ResolveInput(input_);
    const uint64_t memory_bytes = session.memory_bytes.value_or(kDefaultMemoryBytes);
    const uint64_t needed_bytes = kCopyingBytes + QpackWritingBytes(options, 1);
    if (memory_bytes < needed_bytes) throw MemoryBudgetError("packing", needed_bytes, memory_bytes);
    options.memory_bytes =
        PackingShare(options.level, session.threads, memory_bytes - kCopyingBytes);
    UseFiles(session, {input, output_});
    const auto begun = std::chrono::steady_clock::now();
    uint64_t gguf_bytes = 0, packed_bytes = 0;
    const auto pack = [&](ByteStream& stream, const std::vector<std::string>& files) {
      session.terminal.Begin("pack", stream.size_bytes().value_or(0), "bytes");
      auto output = CountBytes(OpenModelOutput(output_, ModelOutputOptions(force_, files, 0)),
                               packed_bytes, StampsOf({input}));
      RunOnThreads(session.threads, [&] {
        gguf_bytes = PackGguf(stream, std::move(output), options, memory_bytes / 4,
                              &session.terminal);
      });
      session.terminal.End();
    };
    if (input == "-") {
      FdStream stream(STDIN_FILENO, "standard input");
      pack(stream, {});
    } else {
      const InputFile file(input);
      RefuseOthers(file);
      RandomAccessStream stream(file);
      pack(stream, {input});
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begun;
    Report(session, gguf_bytes, packed_bytes, seconds.count());
    return 0;
  }

 private:
  static void RefuseOthers(const InputFile& file) {
    const auto head = file.ReadVector(0, std::min<uint64_t>(kDetectBytes, file.size_bytes()));
    const FileKind kind = DetectKind(head, file.name());
    if (kind != FileKind::kGguf) throw WrongKind(kind, head, file.name(), "a GGUF file");
  }

  void Report(Session& session, uint64_t gguf_bytes, uint64_t packed_bytes, double seconds) const {
    if (!ModelGoesToStdout(output_)) {
      session.terminal.NoteDone([&] {
        const double saved =
            100 - 100 * static_cast<double>(packed_bytes) / static_cast<double>(gguf_bytes);
        return fmt::format("wrote {}: {} of {} bytes, {:.1f} % {}", Escaped(output_), packed_bytes,
                           gguf_bytes, std::abs(saved), saved < 0 ? "longer" : "saved");
      });
    }
    if (!session.wants_json()) return;
    const nlohmann::ordered_json json = {{"schema", "quern.pack/1"},
                                         {"gguf_bytes", gguf_bytes},
                                         {"packed_bytes", packed_bytes},
                                         {"seconds", seconds}};
    WriteJson(session, json.dump(2));
  }

  std::string input_, output_, level_;
  bool force_ = false;
};

}  // namespace

const CommandInfo kPackCommand = {
    .name = "pack",
    .summary = "Make a GGUF file smaller, without loss (QPACK)",
    .usage = "pack [IN] [-o OUT] [--level N]",
    .examples =
        "  quern pack llama-2-7b.gguf -o llama-2-7b.qpack\n"
        "  quern convert Llama-2-7b/ | quern pack | ssh edge 'quern unpack > llama-2-7b.gguf'\n",
    .notes =
        "IN is any GGUF file, or a GGUF stream from standard input. quern unpack gives back its "
        "very bytes.\n"
        "Every command reads QPACK where it reads GGUF; convert and quantize write it with -f "
        "qpack. Weights\n"
        "in bf16 shrink by about a third, f32 and f16 less, quantized types by 1 to 10 %.\n",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<PackCommand>()); },
};

}  // namespace quern
