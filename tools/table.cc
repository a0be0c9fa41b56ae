#include "tools/table.h"

#include <algorithm>
#include <string_view>

namespace quern {
namespace {

size_t WidthOf(std::string_view text) {
  return static_cast<size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

std::string Table::ToString() const {
  const size_t n_columns = columns_.size();
  std::vector<size_t> widths;
  for (const Column& column : columns_) widths.push_back(WidthOf(column.title));
  for (size_t i = 0; i < cells_.size(); ++i) {
    size_t& width = widths[i % n_columns];
    width = std::max(width, WidthOf(cells_[i]));
  }
  std::string out;
  const auto append = [&](size_t column, std::string_view cell) {
    const size_t padding = widths[column] - WidthOf(cell);
    if (columns_[column].align == Align::kRight) out.append(padding, ' ');
    out += cell;
    if (columns_[column].align == Align::kLeft) out.append(padding, ' ');
    if (column + 1 < n_columns) {
      out += "  ";
      return;
    }
    out.erase(out.find_last_not_of(' ') + 1);
    out += '\n';
  };
  for (size_t column = 0; column < n_columns; ++column) append(column, columns_[column].title);
  for (size_t i = 0; i < cells_.size(); ++i) append(i % n_columns, cells_[i]);
  if (n_left_out_ > 0) out += "and " + std::to_string(n_left_out_) + " more\n";
  return out;
}

}  // namespace quern
