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

// Returns true if there is something at `path`, and no folder.
inline bool IsFile(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error) && !IsFolder(path);
}

}  // namespace quern
