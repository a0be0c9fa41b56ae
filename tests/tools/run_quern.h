// Runs the program itself with limits, for tests of what it does with files of strangers.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

namespace quern::testing {

// AddressSanitizer multiplies memory and time.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kMeasuresMemory = false;
#elif defined(__has_feature)
inline constexpr bool kMeasuresMemory = !__has_feature(address_sanitizer);
#else
inline constexpr bool kMeasuresMemory = true;
#endif

// A folder that disappears with its object.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "quern-bad-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) ADD_FAILURE() << "no folder " << pattern;
    path_ = pattern;
  }
  ~ScratchFolder() { std::filesystem::remove_all(path_); }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

struct RunResult {
  int exit_code = -1;  // 128 + N after signal N
  std::string err;
  uint64_t peak_bytes = 0;
};

// Runs the program with `arguments`, ten seconds of CPU time at most.
inline RunResult RunQuern(const std::vector<std::string>& arguments,
                          const std::filesystem::path& err_path) {
  const pid_t child = fork();
  if (child == 0) {
    const rlim_t seconds = kMeasuresMemory ? 10 : 60;
    const rlimit cpu{seconds, seconds};
    setrlimit(RLIMIT_CPU, &cpu);
    std::ignore = freopen("/dev/null", "r", stdin);
    std::ignore = freopen("/dev/null", "w", stdout);
    std::ignore = freopen(err_path.c_str(), "w", stderr);
    std::vector<char*> argv = {const_cast<char*>(QUERN_EXECUTABLE)};
    for (const std::string& argument : arguments)
      argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    execv(QUERN_EXECUTABLE, argv.data());
    _exit(127);
  }
  int status = 0;
  rusage usage{};
  wait4(child, &status, 0, &usage);
  RunResult result;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.peak_bytes = static_cast<uint64_t>(usage.ru_maxrss) * 1024;
  std::ostringstream text;
  text << std::ifstream(err_path).rdbuf();
  result.err = text.str();
  return result;
}

// Expects what every run over a stranger's file of `file_bytes` must keep: memory in proportion,
// nothing on stderr that a terminal would obey, and no more than anyone reads.
inline void ExpectWithinBounds(const RunResult& result, uint64_t file_bytes) {
  if (kMeasuresMemory) {
    EXPECT_LE(result.peak_bytes, (uint64_t{64} << 20) + 2 * file_bytes);
  }
  EXPECT_TRUE(std::ranges::all_of(result.err, [](char c) {
    return c == '\n' || (c >= ' ' && c != 0x7F) || c < 0;
  })) << "control bytes in the message";
  EXPECT_LT(result.err.size(), 2000u);
}

}  // namespace quern::testing
