#include "tools/report_json.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "formats/core/error.h"
#include "formats/core/file.h"
#include "formats/core/hash.h"
#include "formats/json_limits.h"
#include "verify/gates.h"

namespace quern {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kSchema = "quern.perplexity/1";
constexpr std::string_view kSeveralSchema = "quern.perplexities/1";
constexpr size_t kMaxName = 4096;

// JSON knows no infinity and no NaN: null.
Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json ToJson(const Estimate& estimate) {
  return {{"value", Number(estimate.value)}, {"stderr", Number(estimate.standard_error)}};
}

Json ToJson(const Distribution& distribution) {
  Json json = ToJson(distribution.mean);
  json["minimum"] = Number(distribution.minimum);
  json["maximum"] = Number(distribution.maximum);
  json["percentiles"] = Json::array();
  for (const Percentile& p : distribution.percentiles) {
    json["percentiles"].push_back({{"percent", p.percent},
                                   {"value", Number(p.estimate.value)},
                                   {"stderr", Number(p.estimate.standard_error)}});
  }
  return json;
}

Json ToJson(const Divergence& divergence) {
  return {{"model", Escaped(divergence.reference.name, kMaxName)},
          {"fingerprint", HexOf(divergence.reference.fingerprint)},
          {"source", divergence.reference.is_logits ? "logits" : "model"},
          {"perplexity", ToJson(divergence.reference_perplexity)},
          {"ln_perplexity_ratio", ToJson(divergence.ln_perplexity_ratio)},
          {"perplexity_ratio", ToJson(divergence.perplexity_ratio)},
          {"mean_kld_nats", ToJson(divergence.kld)},
          {"delta_p", ToJson(divergence.delta_p)},
          {"rms_delta_p", ToJson(divergence.rms_delta_p)},
          {"top1_agreement", ToJson(divergence.top1_agreement)},
          {"flips", ToJson(divergence.flips)},
          {"lost", ToJson(divergence.lost)},
          {"gained", ToJson(divergence.gained)}};
}

Json ToJson(const BaselineComparison& baseline) {
  return {{"report", Escaped(baseline.report_name, kMaxName)},
          {"model", Escaped(baseline.model_name, kMaxName)},
          {"perplexity", ToJson(baseline.perplexity)},
          {"ln_perplexity_ratio", ToJson(baseline.ln_perplexity_ratio)}};
}

Json ToJson(const Verdict& verdict) {
  Json json = {{"decision", NameOf(verdict.decision)},
               {"confidence", verdict.confidence},
               {"gates", Json::array()}};
  for (const GateResult& result : verdict.gates) {
    json["gates"].push_back(
        {{"gate", AllGates()[static_cast<size_t>(result.gate.kind)].name},
         {"limit", result.gate.limit},
         {"tolerated", result.tolerated},
         {"decision", NameOf(result.decision)},
         {"windows", result.windows},
         {"value", Number(result.value)},
         {"interval", Json::array({Number(result.lower), Number(result.upper)})},
         {"reason", result.reason}});
  }
  return json;
}

Json ToJson(const PerTensorReport& report) {
  Json json = Json::array();
  for (const TensorEffect& effect : report.effects) {
    json.push_back({{"tensor", Escaped(effect.name)},
                    {"reference_type", NameOf(effect.reference_type)},
                    {"model_type", NameOf(effect.model_type)},
                    {"model_bytes", effect.model_bytes},
                    {"mean_kld_nats", ToJson(effect.mean_kld)},
                    {"ln_perplexity_ratio", ToJson(effect.ln_perplexity_ratio)}});
  }
  return json;
}

Json ToJson(const WindowSeries& series) {
  Json json = {{"place", series.place}, {"mean_nll_nats", series.nll}};
  if (series.reference_nll.empty()) return json;
  json["reference_mean_nll_nats"] = series.reference_nll;
  json["mean_kld_nats"] = series.kld;
  json["delta_p"] = series.delta_p;
  json["top1_agreement"] = series.top1_agreement;
  return json;
}

Json ToJson(const Predictions& predictions) {
  Json json = {{"nll_nats", predictions.nll}};
  if (predictions.reference_nll.empty()) return json;
  json["reference_nll_nats"] = predictions.reference_nll;
  json["kld_nats"] = predictions.kld;
  json["top1"] = predictions.top1;
  return json;
}

Json ToJson(const Report& report, bool with_predictions) {
  Json json;
  json["schema"] = kSchema;
  json["model"] = Escaped(report.model_name, kMaxName);
  json["model_bytes"] = report.model_bytes;
  json["model_weights"] = report.model_weights;
  json["model_fingerprint"] = HexOf(report.model_fingerprint);
  json["perplexity"] = report.perplexity.value;
  json["stderr"] = report.perplexity.standard_error;
  json["mean_nll_nats"] = ToJson(report.mean_nll);
  json["tokens"] = report.tokens;
  json["windows"] = report.windows;
  json["text_windows"] = report.text_windows;
  json["part"] = report.part;
  json["parts"] = report.parts;
  json["protocol"] = NameOf(report.protocol);
  json["context"] = report.context;
  json["compute"] = NameOf(report.compute);
  json["text_bytes"] = report.text_bytes;
  json["text_tokens"] = report.text_tokens;
  json["text_xxh3"] = HexOf(report.text_xxh3);
  json["seconds"] = report.seconds;
  if (report.divergence) json["reference"] = ToJson(*report.divergence);
  if (report.baseline) json["baseline"] = ToJson(*report.baseline);
  if (report.verdict) json["verdict"] = ToJson(*report.verdict);
  if (report.per_tensor) {
    json["per_tensor_windows"] = report.per_tensor->windows;
    json["per_tensor"] = ToJson(*report.per_tensor);
  }
  json["series"] = ToJson(report.series);
  if (with_predictions || report.parts > 1) json["predictions"] = ToJson(report.predictions);
  return json;
}

// As dump(2), but arrays of plain values take one line.
void Print(const Json& json, std::string indent, std::string& out) {
  const bool plain_array =
      json.is_array() &&
      std::all_of(json.begin(), json.end(), [](const Json& item) { return !item.is_structured(); });
  if (!json.is_structured() || json.empty() || plain_array) {
    out += json.dump();
    return;
  }
  const std::string outer = indent;
  indent += "  ";
  out += json.is_array() ? '[' : '{';
  const char* separator = "\n";
  for (auto item = json.begin(); item != json.end(); ++item) {
    out += separator + indent;
    if (json.is_object()) out += Json(item.key()).dump() + ": ";
    Print(*item, indent, out);
    separator = ",\n";
  }
  out += "\n" + outer + (json.is_array() ? ']' : '}');
}

// One report in a file.
class ReportReader {
 public:
  explicit ReportReader(const std::string& file) : file_(file) {}

  Report Read(const JsonValue& json) const {
    Report report;
    report.model_name = String(json, "model");
    report.model_bytes = RequireUint(json, "model_bytes", UINT64_MAX, file_);
    report.model_weights = RequireUint(json, "model_weights", UINT64_MAX, file_);
    report.model_fingerprint = Hash(json, "model_fingerprint");
    report.protocol = OneOf(json, "protocol", {Protocol::kLlamaCpp, Protocol::kPapers});
    report.compute = OneOf(json, "compute", {Compute::kF32, Compute::kBF16});
    report.context = RequireUint(json, "context", UINT32_MAX, file_);
    report.tokens = RequireUint(json, "tokens", UINT64_MAX, file_);
    report.windows = RequireUint(json, "windows", UINT32_MAX, file_);
    report.text_windows = RequireUint(json, "text_windows", UINT32_MAX, file_);
    report.parts = RequireUint(json, "parts", UINT32_MAX, file_);
    report.part = RequireUint(json, "part", report.parts, file_);
    report.text_bytes = RequireUint(json, "text_bytes", UINT64_MAX, file_);
    report.text_tokens = RequireUint(json, "text_tokens", UINT64_MAX, file_);
    report.text_xxh3 = Hash(json, "text_xxh3");
    report.seconds = RequireDouble(json, "seconds", file_);
    if (const auto reference = json.Find("reference"); reference && reference->is_object()) {
      report.divergence.emplace();
      report.divergence->reference.name = String(*reference, "model");
      report.divergence->reference.fingerprint = Hash(*reference, "fingerprint");
      const auto source = OptionalString(*reference, "source", file_);
      report.divergence->reference.is_logits = source == "logits";
    }
    ReadSeries(Object(json, "series"), report);
    if (const auto predictions = json.Find("predictions"); predictions) {
      if (!predictions->is_object()) Refuse("predictions", predictions->ToString(), "an object");
      ReadPredictions(*predictions, report);
    }
    return report;
  }

 private:
  [[noreturn]] void Refuse(std::string_view key, std::string_view found,
                           std::string_view expected) const {
    ThrowConfigValue(file_, key, found, expected);
  }

  std::string String(const JsonValue& object, std::string_view key) const {
    const auto value = OptionalString(object, key, file_);
    if (!value) Refuse(key, "nothing", "a string");
    return *value;
  }

  uint64_t Hash(const JsonValue& object, std::string_view key) const {
    const std::string text = String(object, key);
    if (text.size() != 16 || text.find_first_not_of("0123456789abcdef") != std::string::npos) {
      Refuse(key, Quoted(text), "16 hex digits");
    }
    return std::stoull(text, nullptr, 16);
  }

  template <typename Enum>
  Enum OneOf(const JsonValue& object, std::string_view key, std::initializer_list<Enum> all) const {
    const std::string name = String(object, key);
    std::string known;
    for (const Enum value : all) {
      if (name == NameOf(value)) return value;
      known += (known.empty() ? "" : " or ") + std::string(NameOf(value));
    }
    Refuse(key, Quoted(name), known);
  }

  JsonValue Object(const JsonValue& object, std::string_view key) const {
    const auto value = object.Find(key);
    if (!value || !value->is_object()) {
      Refuse(key, value ? value->ToString() : "nothing", "an object");
    }
    return *value;
  }

  // Returns the numbers at `key`, which must be `count`; nothing where the key is absent.
  std::vector<double> Numbers(const JsonValue& object, std::string_view key, uint64_t count) const {
    const auto array = object.Find(key);
    if (!array) return {};
    if (!array->is_array() || array->size() != count) {
      Refuse(key, array->ToString(), "an array of " + std::to_string(count) + " numbers");
    }
    std::vector<double> numbers;
    for (const auto& [unused, value] : array->items()) {
      const bool is_number = value.kind() == JsonValue::Kind::kUint ||
                             value.kind() == JsonValue::Kind::kInt ||
                             value.kind() == JsonValue::Kind::kDouble;
      // No logit of a float makes a log-probability as large; larger ones would make no sums.
      constexpr double kMost = 1e12;
      if (!is_number || !(std::abs(value.Number()) <= kMost)) {
        Refuse(key, value.ToString(), "a number of at most 1e12");
      }
      numbers.push_back(value.Number());
    }
    return numbers;
  }

  // The same for keys that must be there.
  std::vector<double> RequireNumbers(const JsonValue& object, std::string_view key,
                                     uint64_t count) const {
    if (!object.Find(key)) Refuse(key, "nothing", "an array");
    return Numbers(object, key, count);
  }

  // Returns negative log-likelihoods, which rounding makes no less than -1.
  std::vector<double> LikelihoodsOf(const JsonValue& object, std::string_view key,
                                    uint64_t count) const {
    std::vector<double> values = RequireNumbers(object, key, count);
    for (const double value : values) {
      if (value < -1) Refuse(key, fmt::format("{}", value), "negative log-likelihoods");
    }
    return values;
  }

  void ReadSeries(const JsonValue& json, Report& report) const {
    WindowSeries& series = report.series;
    const uint64_t n = report.windows;
    if (n == 0 || report.tokens == 0 || report.tokens % n != 0) {
      Refuse("tokens", std::to_string(report.tokens), "the same number for each window");
    }
    uint64_t next = 0;
    for (const double place : RequireNumbers(json, "place", n)) {
      const bool whole = place >= static_cast<double>(next) && place == std::floor(place) &&
                         place < static_cast<double>(report.text_windows);
      if (!whole) Refuse("place", std::to_string(place), "rising places of windows in the text");
      series.place.push_back(static_cast<uint64_t>(place));
      next = series.place.back() + 1;
    }
    series.nll = RequireNumbers(json, "mean_nll_nats", n);
    if (!report.divergence) return;
    series.reference_nll = RequireNumbers(json, "reference_mean_nll_nats", n);
    series.kld = RequireNumbers(json, "mean_kld_nats", n);
    series.delta_p = RequireNumbers(json, "delta_p", n);
    series.top1_agreement = RequireNumbers(json, "top1_agreement", n);
  }

  void ReadPredictions(const JsonValue& json, Report& report) const {
    Predictions& predictions = report.predictions;
    predictions.nll = LikelihoodsOf(json, "nll_nats", report.tokens);
    if (!report.divergence) return;
    predictions.reference_nll = LikelihoodsOf(json, "reference_nll_nats", report.tokens);
    predictions.kld = RequireNumbers(json, "kld_nats", report.tokens);
    for (const double bits : RequireNumbers(json, "top1", report.tokens)) {
      if (bits < 0 || bits > 7 || bits != std::floor(bits)) {
        Refuse("top1", std::to_string(bits), "a whole number from 0 to 7");
      }
      predictions.top1.push_back(static_cast<uint8_t>(bits));
    }
  }

  const std::string& file_;
};

}  // namespace

std::string ReportsToJson(std::span<const Report> reports, bool with_predictions) {
  std::string out;
  if (reports.size() == 1) {
    Print(ToJson(reports[0], with_predictions), "", out);
    return out;
  }
  Json json = {{"schema", kSeveralSchema}, {"reports", Json::array()}};
  for (const Report& report : reports) json["reports"].push_back(ToJson(report, with_predictions));
  Print(json, "", out);
  return out;
}

std::vector<Report> ReportsFromJson(std::string_view text, const std::string& file) {
  const JsonValue json = ParseJson(text, file);
  const auto schema = json.is_object() ? json.Find("schema") : std::nullopt;
  const std::string_view name = schema && schema->is_string() ? schema->String() : "";
  const ReportReader reader(file);
  if (name == kSchema) return {reader.Read(json)};
  const auto all = name == kSeveralSchema ? json.Find("reports") : std::nullopt;
  if (!all || !all->is_array() || all->size() == 0) {
    throw DataError("report.schema", "this is no report of quern perplexity")
        .File(file)
        .Found(name.empty() ? "no schema" : Quoted(name))
        .Expected(std::string(kSchema) + " or " + std::string(kSeveralSchema))
        .Hint("make one with quern perplexity --json=FILE");
  }
  std::vector<Report> reports;
  for (const auto& [unused, value] : all->items()) {
    if (!value.is_object()) ThrowConfigValue(file, "reports", value.ToString(), "an object");
    reports.push_back(reader.Read(value));
  }
  return reports;
}

std::optional<Report> ReadBaseline(const std::string& file) {
  if (file.empty()) return std::nullopt;
  std::vector<Report> reports = ReportsFromJson(ReadWholeFile(file, kMaxReportBytes), file);
  if (reports.size() == 1) return std::move(reports[0]);
  throw DataError("baseline.several", "the baseline measured several models")
      .File(file)
      .Found(std::to_string(reports.size()) + " reports")
      .Expected("one")
      .Hint("measure the model to compare with alone");
}

}  // namespace quern
