// Aligned tables for reading.
#pragma once

#include <string>
#include <vector>

#include "formats/core/string_list.h"

namespace quern {

enum class Align { kLeft, kRight };

struct Column {
  std::string title;
  Align align = Align::kLeft;
};

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  // Requires: as many cells as columns.
  void AddRow(const std::vector<std::string>& cells) {
    for (const std::string& cell : cells) cells_.push_back(cell);
  }
  // Says in a last line how many rows more there would be.
  void SetRowsLeftOut(size_t n) { n_left_out_ = n; }
  // Returns title line and rows, two spaces between columns, no trailing spaces.
  // Widths count code points, which is right for everything quern prints.
  std::string ToString() const;

 private:
  std::vector<Column> columns_;
  StringList cells_;  // row by row
  size_t n_left_out_ = 0;
};

}  // namespace quern
