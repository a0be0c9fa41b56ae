#include "tools/table.h"

#include <gtest/gtest.h>

namespace quern {
namespace {

TEST(Table, AlignsByCodePoints) {
  Table table({{"name"}, {"n", Align::kRight}, {"note"}});
  table.AddRow({"±", "1", ""});
  table.AddRow({"long name", "1000", "x"});
  EXPECT_EQ(table.ToString(),
            "name          n  note\n"
            "±             1\n"
            "long name  1000  x\n");
}

}  // namespace
}  // namespace quern
