// quern perplexity: how well a model predicts a text, and how far it is from a reference.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "converters/converters.h"
#include "formats/core/hash.h"
#include "tools/command.h"
#include "tools/io_args.h"
#include "tools/suggest.h"
#include "tools/table.h"
#include "tools/terminal.h"
#include "verify/divergence.h"
#include "verify/perplexity.h"

namespace quern {
namespace {

// A text of more than this is certainly not meant.
constexpr uint64_t kMaxTextBytes = uint64_t{4} << 30;

std::string Plus(const Estimate& estimate, int digits) {
  return fmt::format("{:.{}f} ± {:.{}f}", estimate.value, digits, estimate.standard_error,
                     digits + 1);
}

nlohmann::ordered_json EstimateJson(const Estimate& estimate) {
  return {{"value", estimate.value}, {"stderr", estimate.standard_error}};
}

class PerplexityCommand final : public Command {
 public:
  void AddOptions(CLI::App& app) override {
    app.add_option("model", model_);
    app.add_option("-f,--text", text_, "Text file to predict, taken as bytes")->type_name("FILE");
    app.add_option("--reference", reference_,
                   "Also measure the divergence from this model or checkpoint")
        ->type_name("MODEL");
    app.add_option("-c,--context", context_,
                   "Tokens per window (default: 512, or 2048 with --protocol papers)")
        ->type_name("N");
    app.add_option("--chunks", chunks_, "At most so many windows (default: all)")->type_name("N");
    app.add_option("--protocol", protocol_,
                   "llama.cpp (second half of each window counts) or papers (all of it)")
        ->type_name("NAME");
    app.add_option("--compute", compute_, "Products in f32 (the reference) or bf16")
        ->type_name("TYPE");
  }

  int Run(Session& session) override {
    if (model_.empty())
      throw UsageError("usage.no-input", "no model given")
          .Hint("name a GGUF file or a checkpoint folder");
    if (text_.empty())
      throw UsageError("usage.text", "no text given").Hint("for instance --text wiki.test.raw");
    PerplexityOptions options = Options(session);
    const std::string text = ReadWholeFile(text_, kMaxTextBytes);
    const CheckpointOptions checkpoint{.context_length = {}, .name = "", .log = &session.terminal};
    const auto model = OpenCheckpoint(model_, checkpoint);
    const auto reference = reference_.empty() ? nullptr : OpenCheckpoint(reference_, checkpoint);
    const Report report = reference ? PerplexityAgainst(*model, *reference, text, options)
                                    : Perplexity(*model, text, options);
    session.terminal.End();
    if (session.json != "-") PrintOut(TextReport(report));
    if (session.wants_json()) WriteJson(session, JsonReport(report).dump(2));
    return 0;
  }

 private:
  PerplexityOptions Options(Session& session) const {
    PerplexityOptions options;
    if (protocol_ == "papers") {
      options.protocol = Protocol::kPapers;
    } else if (protocol_ != "llama.cpp") {
      throw UsageError("usage.flag-value",
                       "--protocol takes llama.cpp or papers, not " + Quoted(protocol_));
    }
    if (compute_ == "bf16") {
      options.forward.compute = Compute::kBF16;
    } else if (compute_ != "f32") {
      throw UsageError("usage.flag-value", "--compute takes f32 or bf16, not " + Quoted(compute_));
    }
    if (!context_.empty()) options.context = ParseCount("--context", context_, 4, 1 << 24);
    if (!chunks_.empty()) options.chunks = ParseCount("--chunks", chunks_, 1, UINT32_MAX);
    options.threads = session.threads;
    if (session.memory_bytes) options.memory_bytes = *session.memory_bytes;
    options.progress = &session.terminal;
    return options;
  }

  std::string TextReport(const Report& report) const {
    std::string out = fmt::format("perplexity  {}\n", Plus(report.perplexity, 4));
    if (report.divergence) {
      const Divergence& divergence = *report.divergence;
      out += fmt::format("reference   {}  {}\n", Plus(divergence.reference_perplexity, 4),
                         Escaped(divergence.reference_name));
      out += fmt::format("ln ratio    {}\n", Plus(divergence.ln_perplexity_ratio, 6));
      out += fmt::format("mean KLD    {} nats\n", Plus(divergence.mean_kld, 6));
      out += fmt::format("same top-1  {:.3f} ± {:.3f} %\n", 100 * divergence.top1_agreement.value,
                         100 * divergence.top1_agreement.standard_error);
    }
    out += fmt::format("protocol    {}, {} windows of {}, {} predictions, {}, {:.1f} s\n",
                       NameOf(report.protocol), report.windows, report.context, report.tokens,
                       NameOf(report.compute), report.seconds);
    return out;
  }

  nlohmann::ordered_json JsonReport(const Report& report) const {
    nlohmann::ordered_json json;
    json["schema"] = "quern.perplexity/1";
    json["model"] = Escaped(report.model_name, 4096);
    json["perplexity"] = report.perplexity.value;
    json["stderr"] = report.perplexity.standard_error;
    json["mean_nll_nats"] = EstimateJson(report.mean_nll);
    json["tokens"] = report.tokens;
    json["windows"] = report.windows;
    json["protocol"] = NameOf(report.protocol);
    json["context"] = report.context;
    json["compute"] = NameOf(report.compute);
    json["text_bytes"] = report.text_bytes;
    json["text_tokens"] = report.text_tokens;
    json["text_xxh3"] = HexOf(report.text_xxh3);
    json["seconds"] = report.seconds;
    if (report.divergence) {
      const Divergence& divergence = *report.divergence;
      json["reference"] = {{"model", Escaped(divergence.reference_name, 4096)},
                           {"perplexity", EstimateJson(divergence.reference_perplexity)},
                           {"ln_perplexity_ratio", EstimateJson(divergence.ln_perplexity_ratio)},
                           {"mean_kld_nats", EstimateJson(divergence.mean_kld)},
                           {"top1_agreement", EstimateJson(divergence.top1_agreement)}};
    }
    return json;
  }

  std::string model_, text_, reference_, context_, chunks_;
  std::string protocol_ = "llama.cpp", compute_ = "f32";
};

}  // namespace

const CommandInfo kPerplexityCommand = {
    .name = "perplexity",
    .summary = "Measure how well a model predicts a text, and its distance from a reference",
    .usage = "perplexity MODEL --text FILE [--reference BASE]",
    .examples =
        "  quern perplexity q4_0.gguf --text wiki.test.raw                        perplexity as "
        "llama.cpp defines it\n"
        "  quern perplexity q4_0.gguf --text wiki.test.raw --reference ckpt/      and KL "
        "divergence from the original\n"
        "  quern perplexity m.gguf -f wiki.test.raw --protocol papers -c 2048     whole windows, "
        "as papers report it\n"
        "  quern perplexity m.gguf -f wiki.test.raw --chunks 20 --json            the first 20 "
        "windows, for machines\n",
    .notes =
        "MODEL and BASE are GGUF files or checkpoint folders. With protocol llama.cpp, windows of "
        "512 tokens\n"
        "begin with the begin-of-text token and the second half of each counts; with papers, "
        "windows of 2048\n"
        "stand as they are and all predictions count. Errors are standard errors over "
        "predictions.\n",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<PerplexityCommand>()); },
};

}  // namespace quern
