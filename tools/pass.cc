#include "tools/pass.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "formats/core/hash.h"
#include "formats/formats.h"
#include "formats/gguf_writer.h"
#include "formats/partial_file.h"
#include "quant/transcode.h"
#include "tools/report_target.h"
#include "tools/table.h"
#include "tools/terminal.h"

namespace quern {
namespace {

// Returns one line per tensor: name, shape, type before and after, bytes after, reason.
std::string PlanTable(const Manifest& before, const Manifest& after, const QuantPlan& plan) {
  Table table({{"tensor"}, {"shape"}, {"from"}, {"to"}, {"bytes", Align::kRight}, {"reason"}});
  for (size_t i = 0; i < before.tensors.size(); ++i) {
    const TensorInfo& tensor = after.tensors[i];
    table.AddRow({Escaped(tensor.name), tensor.shape.ToString(),
                  std::string(NameOf(before.tensors[i].dtype)), std::string(NameOf(tensor.dtype)),
                  fmt::format("{}", tensor.size_bytes()), plan.entries[i].reason});
  }
  return table.ToString();
}

std::string Summary(const Manifest& out, uint64_t file_bytes, const QuantPlan& plan) {
  const uint64_t n_elems = out.n_elems();
  return fmt::format(
      "{}: {} tensors, {} weights, {:.2f} bits each, {} ({} bytes)", plan.preset,
      out.tensors.size(), n_elems,
      n_elems == 0 ? 0.0
                   : 8.0 * static_cast<double>(out.tensor_bytes()) / static_cast<double>(n_elems),
      HumanBytes(file_bytes), file_bytes);
}

nlohmann::ordered_json PassJson(std::string_view command, const Manifest& before,
                                const Manifest& after, uint64_t file_bytes, const QuantPlan& plan,
                                const WriterFlags& flags) {
  nlohmann::ordered_json json;
  json["schema"] = "quern.pass/1";
  json["command"] = command;
  json["type"] = plan.preset;
  json["n_tensors"] = after.tensors.size();
  json["n_weights"] = after.n_elems();
  json["source_tensor_bytes"] = before.tensor_bytes();
  json["tensor_bytes"] = after.tensor_bytes();
  json["file_bytes"] = file_bytes;
  json["dry_run"] = flags.dry_run;
  if (plan.n_requantized != 0) json["requantized_tensors"] = plan.n_requantized;
  if (!plan.warnings.empty()) json["warnings"] = plan.warnings;
  if (flags.explain) {
    for (size_t i = 0; i < after.tensors.size(); ++i) {
      json["tensors"].push_back({{"name", Escaped(after.tensors[i].name)},
                                 {"from", NameOf(before.tensors[i].dtype)},
                                 {"to", NameOf(after.tensors[i].dtype)},
                                 {"bytes", after.tensors[i].size_bytes()},
                                 {"reason", plan.entries[i].reason},
                                 {"fallback", plan.entries[i].fallback}});
    }
  }
  return json;
}

void ShowWarnings(const Manifest& out, const QuantPlan& plan, Terminal& terminal) {
  for (const std::string& warning : plan.warnings) terminal.Warn(warning);
  for (size_t i = 0; i < plan.entries.size(); ++i) {
    if (!plan.entries[i].fallback) continue;
    terminal.Warn(fmt::format("{} becomes {}: {}", Quoted(out.tensors[i].name),
                              NameOf(plan.entries[i].type), plan.entries[i].reason));
  }
}

// Adds what tells two inputs apart: small files whole; of large ones name, size, the times of the
// last change, and the beginning and the end, where formats keep the sums of their data.
void HashInput(const InputFileStamp& input, Xxh3Stream& hash) {
  constexpr uint64_t kEndBytes = uint64_t{1} << 20;
  const std::string name = std::filesystem::path(input.path).filename();
  hash.Update(AsBytes(fmt::format("{}/{}/", name, input.stamp.size_bytes)));
  const InputFile file(input.path);
  if (file.size_bytes() > 2 * kEndBytes) {
    hash.Update(AsBytes(fmt::format("{}/{}/{}/", input.stamp.id.inode, input.stamp.modified_ns,
                                    input.stamp.status_changed_ns)));
  }
  const uint64_t n = std::min(kEndBytes, file.size_bytes());
  hash.Update(file.ReadVector(0, n));
  hash.Update(file.ReadVector(file.size_bytes() - n, n));
}

// Returns the hash of whatever decides about the output's bytes: the inputs; types, metadata and
// version, which are in the header; effort and importance.
uint64_t ResumeKey(const OpenedSource& source, const QuantPlan& plan, ByteView header) {
  Xxh3Stream hash;
  for (const InputFileStamp& input : source.stamps) HashInput(input, hash);
  hash.Update(header);
  hash.Update(AsBytes(fmt::format("effort {}/", static_cast<int>(plan.effort))));
  if (plan.importance) {
    for (const auto& [name, weights] : plan.importance->entries) {
      hash.Update(AsBytes(fmt::format("{} {}/", name, weights.size())));
      hash.Update(
          {reinterpret_cast<const uint8_t*>(weights.data()), weights.size() * sizeof(float)});
    }
  }
  return hash.Digest();
}

// Returns the sink that the flags ask for; `file_bytes` counts what it writes.
std::unique_ptr<TensorSink> OpenSink(const OpenedSource& source, const QuantPlan& plan,
                                     const Manifest& after, uint64_t gguf_bytes,
                                     const ModelWriteOptions& write_options,
                                     const WriterFlags& flags, uint64_t& file_bytes) {
  const Container& container = *FindContainer(flags.format);
  const bool is_packed = container.kind != FileKind::kGguf;
  const OutputOptions options =
      ModelOutputOptions(flags.force, source.input_files, is_packed ? 0 : gguf_bytes);
  if (!flags.resume) {
    return container.make_writer(CountBytes(OpenModelOutput(flags.output, options), file_bytes),
                                 write_options);
  }
  file_bytes = gguf_bytes;
  const GgufWriteOptions gguf_options{.trailer = write_options.trailer};
  return MakeResumableSink(flags.output, options,
                           ResumeKey(source, plan, EncodeGgufHeader(after, gguf_options)),
                           [&](std::unique_ptr<Output> output) {
                             return container.make_writer(std::move(output), write_options);
                           });
}

// Finds out whether the output could be written, without making anything.
void CheckTarget(const OpenedSource& source, const WriterFlags& flags, uint64_t expected_bytes) {
  if (ModelGoesToStdout(flags.output)) return;
  const OutputOptions options = ModelOutputOptions(flags.force, source.input_files, expected_bytes);
  const OutputTarget target = FindOutputTarget(flags.output, options);
  if (target.is_file) CheckSpace(flags.output, target, expected_bytes, expected_bytes);
}

}  // namespace

void SourceFlags::AddTo(Flags& flags) {
  flags.Value("--context", context, "N",
              "Context length to record (default: what the checkpoint says, else a rule)");
  flags.Value("--name", name, "TEXT", "Model name to record (general.name)");
  flags.Switch("--verify", verify, "Compare the files with the folder's checklist.chk first");
  flags.Switch("--no-crc", no_crc, "Do not compare the sums of zip entries (.pth)");
}

CheckpointOptions SourceFlags::Options(Session& session) const {
  CheckpointOptions options{.context_length = {}, .name = name, .log = &session.terminal};
  options.verify_crc = !no_crc;
  if (!context.empty()) {
    options.context_length = static_cast<uint32_t>(ParseCount("--context", context, 1, UINT32_MAX));
  }
  return options;
}

void WriterFlags::AddTo(Flags& flags) {
  flags.Value("-o,--output", output, "FILE",
              "Output file (default: standard output, if that is no terminal)");
  flags.Switch("--force", force, "Replace the output if it exists");
  flags.Switch("--resume", resume,
               "Keep an unfinished output as FILE.partial, and go on with one that is there");
  flags.Switch("-n,--dry-run", dry_run, "Check everything and show the size, write nothing");
  flags.Switch("--explain", explain, "List every tensor with its type and the reason");
  flags.Switch("--no-trailer", no_trailer,
               "Leave out the hashes by which quern check finds damage");
  flags.Value("-f,--format", format, "FORMAT", "Format of the output: gguf (default), qpack");
  flags.Value("--level", level, "N",
              "Patience of -f qpack: 1 (default) to 3 (see quern help pack)");
}

void CheckWriterFlags(const WriterFlags& flags, const Session& session) {
  if (!flags.dry_run) CheckReportHasRoom(session, flags.output);
  if (flags.resume && ModelGoesToStdout(flags.output)) {
    throw UsageError("usage.resume", "--resume needs a file to keep").Hint("name it with -o FILE");
  }
  if (FindContainer(flags.format) == nullptr) {
    throw UsageError("usage.format", "unknown format " + Quoted(flags.format))
        .Expected("gguf or qpack");
  }
  if (flags.resume && flags.format != "gguf") {
    throw UsageError("usage.resume", "--resume goes on with GGUF only")
        .Hint("write GGUF, then quern pack it");
  }
  if (!flags.level.empty() && flags.format == "gguf") {
    throw UsageError("usage.level", "--level is for packing").Hint("add -f qpack");
  }
}

QuantPlan MakePlanFor(const OpenedSource& source, std::string_view preset,
                      const PlanOptions& options) {
  try {
    return MakePlan(source.manifest(), preset, options);
  } catch (Error& error) {
    if (!error.has_file() && error.code() != ErrorCode::kUsage) error.File(source.source->name());
    throw;
  }
}

int RunPass(std::string_view command, OpenedSource& source, const QuantPlan& plan,
            const WriterFlags& flags, Session& session) {
  if (flags.resume && source.store == nullptr) {
    throw UsageError("usage.resume", "--resume cannot tell whether a stream is the same again")
        .Hint("give the input's path");
  }
  UseFiles(session, source.input_files);
  UseFiles(session, {flags.output});
  const Manifest& before = source.manifest();
  const Manifest after = plan.Apply(before);
  ModelWriteOptions write_options{.trailer = !flags.no_trailer,
                                  .level = ParsePackLevel(flags.level)};
  const bool is_packed = FindContainer(flags.format)->kind != FileKind::kGguf;
  TranscodeOptions options{.threads = session.threads, .progress = &session.terminal};
  if (session.memory_bytes) options.memory_bytes = *session.memory_bytes;
  if (is_packed) {
    write_options.memory_bytes =
        PackingShare(write_options.level, session.threads, options.memory_bytes / 2);
    options.memory_bytes -= write_options.memory_bytes;
  }
  const uint64_t gguf_bytes = GgufFileBytes(after, {.trailer = write_options.trailer});
  ShowWarnings(after, plan, session.terminal);
  const auto begun = std::chrono::steady_clock::now();
  nlohmann::ordered_json json;  // empty where nobody asked: it does not survive a lack of memory
  if (session.wants_json()) json = PassJson(command, before, after, gguf_bytes, plan, flags);
  const bool stdout_is_free = flags.dry_run || !ModelGoesToStdout(flags.output);
  if (flags.explain && !(session.json == "-")) {
    const std::string table = PlanTable(before, after, plan);
    if (stdout_is_free)
      PrintOut(table);
    else
      session.terminal.Text(table);
  }
  if (!flags.dry_run) {
    // How much a model shrinks is known once it is packed.
    uint64_t file_bytes = 0;
    const auto writer = OpenSink(source, plan, after, gguf_bytes, write_options, flags, file_bytes);
    try {
      Transcode(*source.source, plan, *writer, options);
    } catch (Error& error) {
      if (!error.has_file()) error.File(source.source->name());
      throw;
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begun;
    if (session.wants_json()) {
      json["file_bytes"] = file_bytes;
      if (is_packed) json["gguf_bytes"] = gguf_bytes;
      json["seconds"] = seconds.count();
    }
    if (!ModelGoesToStdout(flags.output)) {
      session.terminal.NoteDone([&] {
        return fmt::format("wrote {}: {}", Escaped(flags.output), Summary(after, file_bytes, plan));
      });
    }
  } else {
    CheckTarget(source, flags, is_packed ? 0 : gguf_bytes);
    if (!session.wants_json())
      PrintOut(Summary(after, gguf_bytes, plan) + (is_packed ? " before packing\n" : "\n"));
  }
  if (session.wants_json()) WriteJson(session, json.dump(2));
  return 0;
}

}  // namespace quern
