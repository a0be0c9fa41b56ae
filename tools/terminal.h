// What the user sees on standard error: warnings, notes, one line of progress.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <new>
#include <string>
#include <string_view>

#include "formats/core/log.h"

namespace quern {

class Terminal final : public Log, public Progress {
 public:
  struct Options {
    bool quiet = false;
    bool verbose = false;
    bool color = false;
    bool progress = false;
  };
  explicit Terminal(std::string command) : command_(std::move(command)) {}
  ~Terminal() override { End(); }
  void Configure(const Options& options) { options_ = options; }

  void Warn(std::string_view message) override;
  void Info(std::string_view message) override;

  // What was done, shown unless -q.
  void Note(std::string_view message);
  // The same for an output that is in its place: where there is no memory for words, nothing has
  // failed. `make_text` returns the message.
  template <typename MakeText>
  void NoteDone(const MakeText& make_text) {
    try {
      Note(make_text());
    } catch (const std::bad_alloc&) {
    }
  }
  // Lines as they are: a report that could not go to standard output.
  void Text(std::string_view lines);

  // One line, redrawn at most six times a second, with rate and time left; erased by End.
  void Begin(std::string_view phase, uint64_t total, std::string_view unit) override;
  void Advance(uint64_t n) override;
  void End() override;

  // Writes "quern CMD: error: …" and the hint.
  void ShowError(std::string_view message, std::string_view hint);

 private:
  using Clock = std::chrono::steady_clock;
  void Line(std::string_view label, std::string_view text);
  void EraseProgress();
  void DrawProgress(Clock::time_point now);

  std::string command_;
  Options options_;
  std::mutex mutex_;
  std::string phase_, unit_;
  uint64_t total_ = 0, done_ = 0;
  Clock::time_point begun_, drawn_;
  bool active_ = false, on_screen_ = false;
};

// Returns whether the descriptor is a terminal.
bool IsTerminal(int fd);

// Returns the bytes as one would say them: "512 B", "4.1 MiB", "3.8 GiB".
std::string HumanBytes(uint64_t n_bytes);

// Writes `text` to standard output.
// Throws: Error kSystem "output.write" if that fails (a full disk, a closed descriptor).
void PrintOut(std::string_view text);

}  // namespace quern
