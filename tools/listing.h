// Long lists, for reading and as JSON. A file of a few megabytes can hold a million items, each of
// which takes more memory to show than to read: only the first ones are shown, and how many more
// there are is said.
#pragma once

#include <cstddef>
#include <string>

#include "tools/table.h"

namespace quern {

// Nobody reads more rows.
inline constexpr size_t kMaxRowsShown = 1000;
// The largest Llama has 1,138 tensors: what real files have is complete.
inline constexpr size_t kMaxItemsInJson = 4096;

// Returns a table with a row for each of the first kMaxRowsShown of `n` items.
template <typename Items, typename RowOf>
Table ListRows(std::vector<Column> columns, const Items& items, size_t n, const RowOf& row_of) {
  Table table(std::move(columns));
  size_t n_shown = 0;
  for (const auto& item : items) {
    if (n_shown == kMaxRowsShown) break;
    table.AddRow(row_of(item));
    ++n_shown;
  }
  table.SetRowsLeftOut(n - n_shown);
  return table;
}

// Sets json[key] to a list of the first kMaxItemsInJson of `n` items; where there are more,
// json["n_more_" + key] is how many. Requires: Json is nlohmann's, ordered or not.
template <typename Json, typename Items, typename ItemOf>
void ListItems(Json& json, const std::string& key, const Items& items, size_t n,
               const ItemOf& item_of) {
  Json list = Json::array();
  for (const auto& item : items) {
    if (list.size() == kMaxItemsInJson) break;
    list.push_back(item_of(item));
  }
  const size_t n_more = n - list.size();
  json[key] = std::move(list);
  if (n_more > 0) json["n_more_" + key] = n_more;
}

}  // namespace quern
