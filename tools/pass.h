// What `convert` and `quantize` share: the flags of a writing command, and the run from a source
// to a model file with its report.
#pragma once

#include <string>
#include <string_view>

#include "converters/converters.h"
#include "quant/plan.h"
#include "tools/command.h"
#include "tools/io_args.h"

namespace quern {

// How the input is read.
struct SourceFlags {
  std::string context, name;
  bool verify = false;
  bool no_crc = false;

  // Adds --context, --name, --verify and --no-crc.
  void AddTo(Flags& flags);
  // Throws: Error kUsage if --context is no count.
  CheckpointOptions Options(Session& session) const;
};

struct WriterFlags {
  std::string output;  // -o
  bool force = false;
  bool resume = false;
  bool dry_run = false;
  bool explain = false;
  bool no_trailer = false;
  std::string format = "gguf";
  std::string level;  // of packing; empty: the format's own

  // Adds -o, --force, --resume, -n/--dry-run, --explain, --no-trailer, -f/--format and --level.
  void AddTo(Flags& flags);
};

// Throws: Error kUsage if the flags contradict each other, ask for reports where the model goes, or
// want to resume what is no file.
void CheckWriterFlags(const WriterFlags& flags, const Session& session);

// Returns the plan for a source. Throws: as MakePlan, with the source's name.
QuantPlan MakePlanFor(const OpenedSource& source, std::string_view preset,
                      const PlanOptions& options);

// Carries `source` through `plan` into the file that the flags name, and reports as they ask.
// Returns the exit code. `command` is the name in the JSON report.
int RunPass(std::string_view command, OpenedSource& source, const QuantPlan& plan,
            const WriterFlags& flags, Session& session);

}  // namespace quern
