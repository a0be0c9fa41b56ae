// Files that a real PyTorch wrote (tests/data/torch/make_torch_files.py): every tensor's name,
// shape, type and bytes, or the refusal that such a file deserves.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "formats/json_limits.h"
#include "formats/torch_checkpoint.h"
#include "tests/formats/testing.h"
#include "tests/formats/torch_builder.h"

namespace quern {
namespace {

void ExpectTensor(const TorchCheckpoint& checkpoint, const TorchTensor& tensor,
                  const JsonValue& expected, const std::string& file) {
  const std::string where = file + ": " + tensor.name;
  EXPECT_EQ(tensor.name, expected.Find("name")->String()) << where;
  EXPECT_EQ(tensor.dtype_name, expected.Find("dtype")->String()) << where;
  std::vector<uint64_t> shape;
  for (const auto& [key, size] : expected.Find("shape")->items()) shape.push_back(size.Uint());
  EXPECT_EQ(tensor.shape, shape) << where;
  std::vector<uint8_t> bytes(tensor.size_bytes());
  checkpoint.ReadRows(tensor, 0, tensor.rows(), bytes);
  EXPECT_EQ(testing::Crc32(AsText(bytes)), expected.Find("crc32")->Uint()) << where;
}

TEST(TorchFilesTest, WhatPyTorchWroteIsRead) {
  const std::string folder = QUERN_TEST_DATA "/torch/";
  const std::string text = ReadWholeFile(folder + "expected.json", uint64_t{1} << 20);
  size_t n_files = 0;
  for (const auto& [file, expected] : ParseJson(text, "expected.json").items()) {
    ++n_files;
    const InputFile bytes(folder + std::string(file));
    if (const auto id = expected.Find("error")) {
      const auto error = testing::ErrorOf([&] { TorchCheckpoint::Open(bytes); });
      ASSERT_TRUE(error.has_value()) << file;
      EXPECT_EQ(error->id(), id->String()) << error->what();
      EXPECT_FALSE(error->hint().empty()) << error->what();
      continue;
    }
    const TorchCheckpoint checkpoint = TorchCheckpoint::Open(bytes);
    const JsonValue tensors = *expected.Find("tensors");
    ASSERT_EQ(checkpoint.tensors().size(), tensors.size()) << file;
    size_t i = 0;
    for (const auto& item : tensors.items()) {
      ExpectTensor(checkpoint, checkpoint.tensors()[i++], item.value, std::string(file));
    }
    checkpoint.VerifyAllCrcs();
  }
  EXPECT_EQ(n_files, 16u);
}

}  // namespace
}  // namespace quern
