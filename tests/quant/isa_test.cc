#include "quant/isa.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "formats/core/error.h"

namespace quern {
namespace {

TEST(Isa, BestIsTheFirstSupported) {
  CapIsa("best");
  EXPECT_EQ(CurrentIsa(), SupportedIsas().front());
  EXPECT_EQ(SupportedIsas().back(), "scalar");
}

TEST(Isa, CapsAtEverySupportedName) {
  for (const std::string_view isa : SupportedIsas()) {
    CapIsa(isa);
    EXPECT_EQ(CurrentIsa(), isa);
  }
  CapIsa("best");
}

TEST(Isa, ACapAboveTheCpuMeansTheBest) {
  CapIsa(AllIsas().front());
  EXPECT_EQ(CurrentIsa(), SupportedIsas().front());
  CapIsa("best");
}

TEST(Isa, RefusesUnknownNames) {
  try {
    CapIsa("mmx");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "usage.isa");
    EXPECT_NE(std::string(error.what()).find("mmx"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("scalar"), std::string::npos);
  }
}

}  // namespace
}  // namespace quern
