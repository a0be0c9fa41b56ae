#include "tools/flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "formats/core/error.h"
#include "tools/command.h"
#include "tools/suggest.h"

namespace quern {

// What CLI11 found of one flag or argument, and where it goes.
struct Flags::Holder {
  CLI::Option* option = nullptr;
  std::vector<std::string> found;
  std::string* value = nullptr;                // of a flag that is given once
  std::vector<std::string>* values = nullptr;  // of one that may be repeated
};

namespace {

// "-o,--output" as help shows it.
std::string ShownNames(const std::string& names) {
  const size_t comma = names.find(',');
  return comma == std::string::npos ? names
                                    : names.substr(0, comma) + ", " + names.substr(comma + 1);
}

}  // namespace

Flags::Flags() : app_(std::make_unique<CLI::App>()) {
  app_->set_help_flag();  // Ours, so that -h works beside other mistakes.
}
Flags::~Flags() = default;

Flags::Holder& Flags::Add(const std::string& names, const std::string& description, bool repeats) {
  Holder& holder = *holders_.emplace_back(std::make_unique<Holder>());
  holder.option = app_->add_option(names, holder.found, description);
  const bool is_argument = !names.starts_with('-');
  holder.option->expected(is_argument && repeats ? -1 : 1);
  // A vector would swallow the words that follow too.
  holder.option->allow_extra_args(is_argument && repeats);
  // All values, so that two where one is wanted are seen.
  if (!is_argument) holder.option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  return holder;
}

void Flags::Switch(const std::string& names, bool& value, const std::string& description) {
  app_->add_flag(names, value, description);
  rows_.push_back({ShownNames(names), description, common_});
}

void Flags::Value(const std::string& names, std::string& value, const std::string& metavar,
                  const std::string& description) {
  Add(names, description, false).value = &value;
  rows_.push_back({ShownNames(names) + " " + metavar, description, common_});
}

void Flags::Values(const std::string& names, std::vector<std::string>& values,
                   const std::string& metavar, const std::string& description) {
  Add(names, description, true).values = &values;
  rows_.push_back({ShownNames(names) + " " + metavar, description, common_});
}

void Flags::ValueOr(const std::string& name, const std::string& bare, std::string& value,
                    const std::string& metavar, const std::string& description) {
  app_->add_flag(fmt::format("{}{{{}}}", name, bare), value, description);
  rows_.push_back({fmt::format("{}[={}]", name, metavar), description, common_});
}

void Flags::Argument(const std::string& name, std::string& value) {
  Add(name, "", false).value = &value;
}
void Flags::Arguments(const std::string& name, std::vector<std::string>& values) {
  Add(name, "", true).values = &values;
}

std::vector<Flags::Row> Flags::Rows() const { return rows_; }

std::vector<std::string> Flags::Names() const {
  std::vector<std::string> names;
  for (const CLI::Option* option : std::as_const(*app_).get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

void Flags::Split(const std::vector<std::string>& arguments) {
  try {
    // CLI11 takes them from the back.
    app_->parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string text = error.what();  // "--text: 1 required FILE missing"
    throw UsageError("usage.flag-value", text.substr(0, text.find(':')) + " needs a value");
  } catch (const CLI::ParseError& error) {
    // Only misuse of a switch's value can happen: everything else is text and nothing is required.
    throw UsageError("usage.flag-value", Escaped(error.what(), 300));
  }
  const std::vector<std::string> names = Names();
  for (const auto& holder : holders_) {
    const std::string name = holder->option->get_name();
    const bool is_argument = holder->option->get_positional();
    if (holder->value != nullptr && holder->found.size() > 1) {
      throw UsageError("usage.repeated-flag", name + " is given more than once")
          .Found(Quoted(holder->found[0]) + " and " + Quoted(holder->found[1]));
    }
    for (const std::string& found : holder->found) {
      if (found.empty()) {
        throw UsageError("usage.empty-value",
                         is_argument ? "an argument is empty" : name + " is given an empty value")
            .Hint("is a variable of the shell unset?");
      }
      if (!is_argument &&
          std::ranges::find(names, found.substr(0, found.find('='))) != names.end()) {
        throw UsageError("usage.flag-value", name + " needs a value")
            .Found("the flag " + Quoted(found));
      }
    }
    if (holder->found.empty()) continue;
    if (holder->value != nullptr) *holder->value = holder->found[0];
    if (holder->values != nullptr) *holder->values = holder->found;
  }
}

void Flags::RefuseExtras(std::string_view command) const {
  const std::string help =
      command.empty() ? "see quern --help" : fmt::format("see quern {} --help", command);
  for (const std::string& extra : app_->remaining()) {
    if (extra == "--") continue;
    if (extra.size() > 1 && extra[0] == '-') {
      const std::string flag = extra.substr(0, extra.find('='));
      const std::string nearest = NearestWord(flag, Names());
      throw UsageError("usage.unknown-flag", "unknown flag " + Quoted(flag))
          .Hint(nearest.empty() ? help : fmt::format("did you mean {}?", nearest));
    }
    throw UsageError("usage.extra-argument", "unexpected argument " + Quoted(extra)).Hint(help);
  }
}

void Flags::Parse(const std::vector<std::string>& arguments, std::string_view command) {
  app_->allow_extras();
  Split(arguments);
  RefuseExtras(command);
}

std::vector<std::string> Flags::ParseLeading(const std::vector<std::string>& arguments) {
  app_->prefix_command();
  Split(arguments);
  std::vector<std::string> rest = app_->remaining();
  if (!rest.empty() && rest[0].size() > 1 && rest[0][0] == '-') RefuseExtras("");
  return rest;
}

}  // namespace quern
