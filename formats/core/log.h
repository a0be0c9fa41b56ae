// Interfaces through which libraries tell the user things; tools/terminal implements them.
#pragma once

#include <cstdint>
#include <string_view>

namespace quern {

class Log {
 public:
  virtual ~Log() = default;
  virtual void Warn(std::string_view message) = 0;  // shown unless -q
  virtual void Info(std::string_view message) = 0;  // shown with -v
};

class Progress {
 public:
  virtual ~Progress() = default;
  // Begins a phase of `total` units ("bytes", "windows").
  virtual void Begin(std::string_view phase, uint64_t total, std::string_view unit) = 0;
  // Thread-safe.
  virtual void Advance(uint64_t n) = 0;
  virtual void End() = 0;
};

// Both say nothing: for tests and for callers that do not care.
class NullLog final : public Log {
 public:
  void Warn(std::string_view) override {}
  void Info(std::string_view) override {}
};
class NullProgress final : public Progress {
 public:
  void Begin(std::string_view, uint64_t, std::string_view) override {}
  void Advance(uint64_t) override {}
  void End() override {}
};

}  // namespace quern
