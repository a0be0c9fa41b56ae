// Paths of a checkpoint's files. Whatever cannot be looked at counts as absent: opening it says why.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace quern {

// Returns the path of a file in `folder`; "" is the current one.
inline std::string JoinPath(const std::string& folder, std::string_view name) {
  return (std::filesystem::path(folder) / name).string();
}

// Returns the folder that the file at `path` is in, "" for the current one.
inline std::string FolderOf(const std::string& path) {
  return std::filesystem::path(path).parent_path().string();
}

// Returns the part of a path behind the last slash.
inline std::string_view BaseName(std::string_view path) {
  return path.substr(path.find_last_of('/') + 1);
}

inline bool IsFolder(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

// Returns the sum of the sizes of those `paths` that are there. Units: bytes.
template <typename Paths>
uint64_t TotalBytes(const Paths& paths) {
  uint64_t total_bytes = 0;
  for (const std::string& path : paths) {
    std::error_code error;
    const uint64_t size = std::filesystem::file_size(path, error);
    if (!error) total_bytes += size;
  }
  return total_bytes;
}

// Returns true if there is something at `path`, and no folder.
inline bool IsFile(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error) && !IsFolder(path);
}

}  // namespace quern
