// A list of strings in two allocations: vocabularies have hundreds of thousands of short ones, and
// memory must follow the bytes of the file, not the number of strings in it.
#pragma once

#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace quern {

class StringList {
 public:
  StringList() = default;
  StringList(std::initializer_list<std::string_view> items) {
    for (const auto item : items) push_back(item);
  }
  void reserve(size_t n, size_t n_bytes) {
    ends_.reserve(n);
    bytes_.reserve(n_bytes);
  }
  void push_back(std::string_view text) {
    bytes_.append(text);
    ends_.push_back(bytes_.size());
  }
  size_t size() const { return ends_.size(); }
  bool empty() const { return ends_.empty(); }
  uint64_t n_bytes() const { return bytes_.size(); }
  std::string_view operator[](size_t i) const {
    const uint64_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(bytes_).substr(begin, ends_[i] - begin);
  }
  bool operator==(const StringList&) const = default;

 private:
  std::string bytes_;
  std::vector<uint64_t> ends_;
};

}  // namespace quern
