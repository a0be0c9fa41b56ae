#include "tools/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "formats/core/file.h"

namespace quern {
namespace {

constexpr auto kRedrawInterval = std::chrono::milliseconds(160);

// Standard error is best effort: there is nowhere to report its own failure.
void WriteStderr(std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = write(STDERR_FILENO, text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return;
    text.remove_prefix(static_cast<size_t>(put));
  }
}

std::string HumanTime(double seconds) {
  const auto whole = static_cast<uint64_t>(std::clamp(seconds, 0.0, 359999.0) + 0.5);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02} min", whole / 60, whole % 60);
  return fmt::format("{}:{:02} h", whole / 3600, whole / 60 % 60);
}

}  // namespace

bool IsTerminal(int fd) { return isatty(fd) == 1; }

std::string HumanBytes(uint64_t n_bytes) {
  constexpr std::string_view kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (n_bytes < 1024) return fmt::format("{} B", n_bytes);
  double value = static_cast<double>(n_bytes);
  size_t unit = 0;
  for (value /= 1024; value >= 1023.95 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

void PrintOut(std::string_view text) {
  FdOutput(STDOUT_FILENO, "standard output")->Write(AsBytes(text));
}

void Terminal::Line(std::string_view label, std::string_view text) {
  const std::scoped_lock lock(mutex_);
  EraseProgress();
  WriteStderr(fmt::format("quern{}{}: {}{}\n", command_.empty() ? "" : " ", command_, label, text));
}

void Terminal::Warn(std::string_view message) {
  if (options_.quiet) return;
  Line(options_.color ? "\x1b[33mwarning:\x1b[0m " : "warning: ", message);
}

void Terminal::Info(std::string_view message) {
  if (options_.verbose && !options_.quiet) Line("", message);
}

void Terminal::Note(std::string_view message) {
  if (!options_.quiet) Line("", message);
}

void Terminal::Text(std::string_view lines) {
  const std::scoped_lock lock(mutex_);
  EraseProgress();
  WriteStderr(lines);
}

void Terminal::ShowError(std::string_view message, std::string_view hint) {
  Line(options_.color ? "\x1b[31merror:\x1b[0m " : "error: ", message);
  if (!hint.empty()) WriteStderr(fmt::format("hint: {}\n", hint));
}

void Terminal::Begin(std::string_view phase, uint64_t total, std::string_view unit) {
  const std::scoped_lock lock(mutex_);
  EraseProgress();
  phase_ = phase;
  unit_ = unit;
  total_ = total;
  done_ = 0;
  begun_ = drawn_ = Clock::now();
  active_ = true;
}

void Terminal::Advance(uint64_t n) {
  const std::scoped_lock lock(mutex_);
  done_ += n;
  if (!options_.progress || !active_) return;
  const auto now = Clock::now();
  if (now - drawn_ >= kRedrawInterval) DrawProgress(now);
}

void Terminal::End() {
  const std::scoped_lock lock(mutex_);
  EraseProgress();
  active_ = false;
}

void Terminal::EraseProgress() {
  if (on_screen_) WriteStderr("\r\x1b[K");
  on_screen_ = false;
}

void Terminal::DrawProgress(Clock::time_point now) {
  drawn_ = now;
  const double seconds = std::chrono::duration<double>(now - begun_).count();
  const double rate = static_cast<double>(done_) / std::max(seconds, 1e-3);
  const bool in_bytes = unit_ == "bytes";
  const auto amount = [&](uint64_t n) {
    return in_bytes ? HumanBytes(n) : fmt::format("{} {}", n, unit_);
  };
  std::string line = fmt::format("\r\x1b[K{} ", phase_);
  if (total_ != 0) {
    const uint64_t shown = std::min(done_, total_);
    line += fmt::format("{:3.0f} %  {} of {}",
                        100.0 * static_cast<double>(shown) / static_cast<double>(total_),
                        in_bytes ? HumanBytes(shown) : fmt::format("{}", shown), amount(total_));
  } else {
    line += amount(done_);
  }
  line += in_bytes ? fmt::format("  {}/s", HumanBytes(static_cast<uint64_t>(rate)))
                   : fmt::format("  {:.2f} {}/s", rate, unit_);
  if (total_ > done_ && rate > 0) {
    line += fmt::format("  {} left", HumanTime(static_cast<double>(total_ - done_) / rate));
  }
  WriteStderr(line);
  on_screen_ = true;
}

}  // namespace quern
