#include "converters/llama_names.h"

#include <gtest/gtest.h>

namespace quern {
namespace {

TEST(MetaTensorNames, RoundTripOverTheWholeTable) {
  for (const MetaTensorKind& kind : AllMetaTensors()) {
    for (const uint32_t layer : {0u, 7u, 125u, 65535u}) {
      const auto parts = ParseMetaTensorName(MetaTensorName(kind, layer));
      ASSERT_TRUE(parts) << kind.name;
      EXPECT_EQ(parts->kind, &kind);
      EXPECT_EQ(parts->layer.has_value(), kind.per_layer);
      if (kind.per_layer) {
        EXPECT_EQ(*parts->layer, layer);
      }
    }
  }
}

TEST(MetaTensorNames, AreInCanonicalOrder) {
  const auto kinds = AllMetaTensors();
  for (size_t i = 1; i < kinds.size(); ++i) EXPECT_LT(kinds[i - 1].role, kinds[i].role);
}

TEST(MetaTensorNames, RefuseWhatIsNearlyOne) {
  for (const char* name :
       {"", "layers", "layers.", "layers.0", "layers.0.", "layers..attention.wq.weight",
        "layers.00.attention.wq.weight", "layers.01.attention.wq.weight",
        "layers.-1.attention.wq.weight", "layers.65536.attention.wq.weight",
        "layers.99999999999999999999.attention.wq.weight", "layers.0.attention.wq",
        "layers.0x1.attention.wq.weight", "layers.0.norm.weight", "attention.wq.weight",
        "layers.0.output.weight", "output.bias", "xnorm.weight"}) {
    EXPECT_FALSE(ParseMetaTensorName(name)) << name;
  }
}

TEST(MetaTensorNames, IgnoreOnlyTheRotationTables) {
  EXPECT_TRUE(IsIgnoredMetaTensor("rope.freqs"));
  EXPECT_TRUE(IsIgnoredMetaTensor("layers.31.attention.inner_attention.rope.freqs"));
  EXPECT_FALSE(IsIgnoredMetaTensor("layers.31.rope.freqs"));
  EXPECT_FALSE(IsIgnoredMetaTensor("norm.weight"));
}

TEST(UnsupportedMetaTensor, NamesTheKind) {
  EXPECT_EQ(UnsupportedMetaTensor("vision_model.conv1.weight")->what, "a vision model");
  EXPECT_NE(UnsupportedMetaTensor("layers.0.attention.wq.scales")->what.find("int4"),
            std::string_view::npos);
  EXPECT_NE(UnsupportedMetaTensor("layers.0.attention.wq.adaptor.A.weight")->what.find("int4"),
            std::string_view::npos);
  EXPECT_EQ(UnsupportedMetaTensor("layers.0.block_sparse_moe.gate.weight")->what,
            "a mixture of experts");
  EXPECT_NE(UnsupportedMetaTensor("model.layers.0.self_attn.q_proj.weight")->what.find("Hugging"),
            std::string_view::npos);
  for (const MetaTensorKind& kind : AllMetaTensors()) {
    EXPECT_FALSE(UnsupportedMetaTensor(MetaTensorName(kind, 3)));
  }
}

}  // namespace
}  // namespace quern
