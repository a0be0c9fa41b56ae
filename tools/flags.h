// The flags and arguments of a command line. CLI11 splits the line; what the pieces mean and every
// message about them is ours, and flags.cc is the only file that knows CLI11.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace quern {

// Values are kept as text, for commands to understand: a flag that was not given leaves its
// variable as it was, and none can be given an empty value. Variables must outlive the Flags.
class Flags {
 public:
  Flags();
  ~Flags();

  // Adds flags; `names` are written like "-o,--output", `metavar` stands for the value in help.
  void Switch(const std::string& names, bool& value, const std::string& description);
  void Value(const std::string& names, std::string& value, const std::string& metavar,
             const std::string& description);
  // May be given several times; each adds a value.
  void Values(const std::string& names, std::vector<std::string>& values,
              const std::string& metavar, const std::string& description);
  // "--name" alone stands for `bare`, else "--name=VALUE".
  void ValueOr(const std::string& name, const std::string& bare, std::string& value,
               const std::string& metavar, const std::string& description);
  // Adds what is no flag: one, or all that follow.
  void Argument(const std::string& name, std::string& value);
  void Arguments(const std::string& name, std::vector<std::string>& values);
  // Flags added from here on are those common to all commands: help lists them apart.
  void BeginCommon() { common_ = true; }

  // Sets the variables from `arguments`. `command` is for hints.
  // Throws: Error kUsage: an unknown flag, an argument too many, a value that is missing, empty or
  // given twice.
  void Parse(const std::vector<std::string>& arguments, std::string_view command);
  // The same for the flags before the first other word; returns that word and what follows it.
  std::vector<std::string> ParseLeading(const std::vector<std::string>& arguments);

  // What help shows of a flag.
  struct Row {
    std::string flag;  // "-o, --output FILE"
    std::string description;
    bool common;
  };
  std::vector<Row> Rows() const;

 private:
  struct Holder;
  Holder& Add(const std::string& names, const std::string& description, bool repeats);
  void Split(const std::vector<std::string>& arguments);
  void RefuseExtras(std::string_view command) const;
  std::vector<std::string> Names() const;

  std::unique_ptr<CLI::App> app_;
  std::vector<std::unique_ptr<Holder>> holders_;
  std::vector<Row> rows_;
  bool common_ = false;
};

}  // namespace quern
