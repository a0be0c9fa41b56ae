// main() of a fuzz harness where there is no libFuzzer: runs the harness once on every file given
// and every file in every folder given. Fails if there is none.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// Custom mutators refer to it; only libFuzzer itself ever calls them.
extern "C" size_t LLVMFuzzerMutate(uint8_t*, size_t size, size_t);
extern "C" size_t LLVMFuzzerMutate(uint8_t*, size_t size, size_t) { return size; }

namespace {

void Replay(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot be opened");
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  // An exact copy on the heap, so that a read past the end is one past the allocation.
  const std::vector<uint8_t> input(bytes.begin(), bytes.end());
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

}  // namespace

int main(int argc, char** argv) {
  size_t n_files = 0;
  std::filesystem::path current;
  try {
    for (int i = 1; i < argc; ++i) {
      current = argv[i];
      if (!std::filesystem::is_directory(current)) {
        Replay(current);
        ++n_files;
        continue;
      }
      for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
        if (!entry.is_regular_file()) continue;
        current = entry.path();
        Replay(current);
        ++n_files;
      }
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: the harness let an exception out: %s\n", current.c_str(), e.what());
    return 1;
  }
  std::printf("%zu inputs replayed\n", n_files);
  return n_files == 0 ? 1 : 0;
}
