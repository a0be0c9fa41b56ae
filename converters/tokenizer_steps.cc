#include "converters/tokenizer_steps.h"

#include <vector>

namespace quern {
namespace {

constexpr std::string_view kSpaceMark = "▁";

// Cuts text as Llama 3 does.
constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// One of the steps, with the words that errors about it have in common.
class Step {
 public:
  Step(JsonValue value, std::string_view id, std::string_view key, std::string_view file)
      : value_(std::move(value)), id_(id), key_(key), file_(file) {
    type_ = OptionalString(value_, "type", file).value_or("");
  }

  const JsonValue& value() const { return value_; }
  const std::string& type() const { return type_; }

  // Returns the error for a step that is not read.
  Error Refused(std::string_view what) const {
    return UnsupportedStep(id_, what, file_, key_, Quoted(type_));
  }
  // Returns the error for a member with a value that is not read.
  Error Refused(std::string_view what, std::string_view member, std::string_view found) const {
    return UnsupportedStep(id_, what, file_, std::string(key_) + " " + type_ + "." + std::string(member),
                           found);
  }
  // Checks that a member, or its default, is the text or switch that is read.
  void RequireText(std::string_view member, std::string_view wanted, std::string_view what) const {
    const auto found = OptionalString(value_, member, file_);
    if (found == wanted) return;
    throw Refused(what, member, found ? Quoted(*found) : "none").Expected(Quoted(wanted));
  }
  void RequireBool(std::string_view member, bool otherwise, bool wanted,
                   std::string_view what) const {
    const auto found = OptionalBool(value_, member, file_);
    if (found.value_or(otherwise) == wanted) return;
    throw Refused(what, member, found ? (*found ? "true" : "false") : "none")
        .Expected(wanted ? "true" : "false");
  }
  // Checks that the pattern is a text, or an expression, and that very one.
  void RequirePattern(std::string_view kind, std::string_view wanted, std::string_view what) const {
    const auto pattern = OptionalObject(value_, "pattern", file_);
    const auto found = pattern ? OptionalString(*pattern, kind, file_) : std::nullopt;
    if (found == wanted) return;
    throw Refused(what, "pattern",
                  found     ? Quoted(*found)
                  : pattern ? pattern->ToString()
                            : std::string("none"))
        .Expected(std::string(kind) + " " + Quoted(wanted));
  }

 private:
  JsonValue value_;
  std::string_view id_, key_, file_;
  std::string type_;
};

// Returns a part of the tokenizer and, where it is a Sequence, the parts in it.
std::vector<Step> StepsOf(const JsonValue& tokenizer, std::string_view key, std::string_view member,
                          std::string_view id, std::string_view file) {
  const auto whole = OptionalObject(tokenizer, key, file);
  if (!whole) return {};
  Step step(*whole, id, key, file);
  if (step.type() != "Sequence") return {std::move(step)};
  const auto list = whole->Find(member);
  if (!list || !list->is_array()) {
    ThrowConfigValue(file, member, list ? list->ToString() : "nothing", "an array of steps");
  }
  constexpr size_t kMaxSteps = 16;  // real ones have two or three
  if (list->size() > kMaxSteps) ThrowConfigValue(file, member, list->ToString(), "a few steps");
  std::vector<Step> steps;
  for (const auto& item : list->items()) {
    if (!item.value.is_object()) ThrowConfigValue(file, member, item.value.ToString(), "objects");
    steps.emplace_back(item.value, id, key, file);
  }
  return steps;
}

std::vector<Step> NormalizersOf(const JsonValue& tokenizer, std::string_view file) {
  return StepsOf(tokenizer, "normalizer", "normalizers", "tokenizer.normalizer", file);
}
std::vector<Step> PreTokenizersOf(const JsonValue& tokenizer, std::string_view file) {
  return StepsOf(tokenizer, "pre_tokenizer", "pretokenizers", "tokenizer.pre-tokenizer", file);
}

// Returns true if Metaspace puts a space before the text.
bool ReadMetaspace(const Step& step, std::string_view file) {
  step.RequireText("replacement", kSpaceMark, "spaces are marked in another way");
  // Files of before the member existed mean true: text is then cut at every mark.
  step.RequireBool("split", true, false, "text is cut at spaces before it is looked up");
  const auto scheme = OptionalString(step.value(), "prepend_scheme", file);
  if (!scheme) return OptionalBool(step.value(), "add_prefix_space", file).value_or(true);
  if (*scheme == "always" || *scheme == "first") return true;
  if (*scheme == "never") return false;
  throw step.Refused("a space is put before the text in an unknown way", "prepend_scheme",
                     Quoted(*scheme));
}

}  // namespace

Error UnsupportedStep(std::string_view id, std::string_view what, std::string_view file,
                      std::string_view key, std::string_view found) {
  return UnsupportedError(id, what)
      .File(file)
      .Where("key " + Quoted(key))
      .Found(found)
      .Hint("give the tokenizer.model of the same release, if it has one");
}

std::optional<JsonValue> OptionalObject(const JsonValue& parent, std::string_view key,
                                        std::string_view file) {
  auto value = parent.Find(key);
  if (!value || value->kind() == JsonValue::Kind::kNull) return std::nullopt;
  if (!value->is_object()) ThrowConfigValue(file, key, value->ToString(), "an object");
  return value;
}

bool ReadSpmSteps(const JsonValue& tokenizer, std::string_view file) {
  constexpr std::string_view kWanted = "Prepend and Replace of spaces by '▁', or Metaspace";
  bool prepends = false, replaces = false;
  for (const Step& step : NormalizersOf(tokenizer, file)) {
    if (step.type() == "Prepend" && !prepends) {
      step.RequireText("prepend", kSpaceMark, "text is put before the text");
      prepends = true;
    } else if (step.type() == "Replace" && !replaces) {
      step.RequirePattern("String", " ", "text is changed before it is cut");
      step.RequireText("content", kSpaceMark, "spaces are marked in another way");
      replaces = true;
    } else {
      throw step.Refused("text is changed before it is cut").Expected(kWanted);
    }
  }
  bool has_metaspace = false;
  for (const Step& step : PreTokenizersOf(tokenizer, file)) {
    if (step.type() != "Metaspace" || has_metaspace || replaces || prepends) {
      throw step.Refused("text is cut in a way that is not read")
          .Expected(replaces || prepends ? "none beside the normalizer" : "none, or Metaspace");
    }
    prepends = ReadMetaspace(step, file);
    has_metaspace = true;
  }
  if (!replaces && !has_metaspace) {
    throw UnsupportedStep("tokenizer.normalizer", "nothing marks the spaces of the text", file,
                          "normalizer", "no such step")
        .Expected(kWanted);
  }
  return prepends;
}

std::string ReadByteLevelSteps(const JsonValue& tokenizer, std::string_view file) {
  for (const Step& step : NormalizersOf(tokenizer, file)) {
    throw step.Refused("text is changed before it is cut").Expected("none");
  }
  const std::vector<Step> steps = PreTokenizersOf(tokenizer, file);
  if (steps.empty()) {
    throw UnsupportedStep("tokenizer.pre-tokenizer", "text is not cut", file, "pre_tokenizer", "none")
        .Expected("Split and ByteLevel");
  }
  const bool splits = steps.front().type() == "Split";
  if (splits) {
    const Step& split = steps.front();
    split.RequirePattern("Regex", kLlama3Pattern, "text is cut by an unknown pattern");
    split.RequireText("behavior", "Isolated", "text is cut in a way that is not read");
    split.RequireBool("invert", false, false, "text is cut in a way that is not read");
  }
  const size_t n_wanted = splits ? 2 : 1;
  if (steps.size() < n_wanted) {
    throw steps.back().Refused("text is cut in a way that is not read").Expected("ByteLevel behind it");
  }
  const Step& byte_level = steps[n_wanted - 1];
  if (byte_level.type() != "ByteLevel" || steps.size() > n_wanted) {
    const Step& odd = byte_level.type() != "ByteLevel" ? byte_level : steps[n_wanted];
    throw odd.Refused("text is cut in a way that is not read").Expected("Split and ByteLevel");
  }
  byte_level.RequireBool("add_prefix_space", true, false, "a space is put before the text");
  // ByteLevel has GPT-2's own pattern built in.
  byte_level.RequireBool("use_regex", true, !splits, "text is cut in a way that is not read");
  return splits ? "llama-bpe" : "gpt-2";
}

TextTemplate ReadTemplate(const JsonValue& tokenizer, std::string_view file) {
  constexpr std::string_view kId = "tokenizer.post-processor";
  TextTemplate result;
  bool has_template = false;
  for (const Step& step : StepsOf(tokenizer, "post_processor", "processors", kId, file)) {
    if (step.type() == "ByteLevel") continue;  // trims offsets, which are no part of the ids
    if (step.type() != "TemplateProcessing" || has_template) {
      throw step.Refused("tokens are put around the text in a way that is not read")
          .Expected("TemplateProcessing");
    }
    has_template = true;
    const auto single = step.value().Find("single");
    if (!single || !single->is_array()) {
      ThrowConfigValue(file, "single", single ? single->ToString() : "nothing", "an array");
    }
    bool before_text = true;
    for (const auto& item : single->items()) {
      if (!item.value.is_object()) {
        ThrowConfigValue(file, "single", item.value.ToString(), "objects");
      }
      const auto special = OptionalObject(item.value, "SpecialToken", file);
      if (!special) {
        if (!before_text || !item.value.Find("Sequence")) {
          throw step.Refused("tokens are put around the text in a way that is not read", "single",
                             single->ToString())
              .Expected("the text once, one token before it and one behind it at most");
        }
        before_text = false;
        continue;
      }
      auto& place = before_text ? result.before : result.behind;
      if (place) {
        throw step.Refused("several tokens are put around the text", "single", single->ToString())
            .Expected("one before it and one behind it at most");
      }
      place = OptionalString(*special, "id", file).value_or("");
    }
    if (before_text) {
      throw step.Refused("the text itself is left out", "single", single->ToString())
          .Expected("the text once, one token before it and one behind it at most");
    }
  }
  return result;
}

}  // namespace quern
