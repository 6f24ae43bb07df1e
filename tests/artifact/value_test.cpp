#include "pgolf/artifact/value.h"

#include <gtest/gtest.h>

#include "support.h"

namespace pgolf {
namespace {

using artifact_test::expect_bad_input;

TEST(RawTensor, SizesAndNames) {
  EXPECT_EQ(dtype_size(DType::float64), 8u);
  EXPECT_EQ(dtype_size(DType::bfloat16), 2u);
  EXPECT_EQ(dtype_size(DType::boolean), 1u);
  EXPECT_STREQ(dtype_name(DType::float16), "float16");
  EXPECT_STREQ(dtype_name(DType::boolean), "bool");
  EXPECT_EQ((RawTensor{DType::int8, {2, 3, 4}, nullptr}.numel()), 24);
  EXPECT_EQ((RawTensor{DType::int8, {}, nullptr}.numel()), 1);
  EXPECT_EQ((RawTensor{DType::int8, {5, 0}, nullptr}.numel()), 0);
}

TEST(Value, DictKeepsInsertionOrderAndReplacesInPlace) {
  Dict dict;
  dict.set(text("b"), 1);
  dict.set(text("a"), 2);
  dict.set(text("b"), 3);
  ASSERT_EQ(dict.size(), 2u);
  EXPECT_EQ(*dict.entries()[0].key, "b");
  EXPECT_EQ(dict.find("b")->as_int("x"), 3);
  EXPECT_EQ(dict.find("c"), nullptr);

  Dict copy = dict;
  copy.set(text("a"), text("new"));
  EXPECT_EQ(dict.find("a")->as_int("x"), 2);
  const Dict moved = std::move(copy);
  EXPECT_EQ(moved.find("a")->as_text("x"), "new");
}

TEST(Value, AccessorErrorsNameLocationAndTypes) {
  expect_bad_input([] { Value().as_dict("f.pt: top"); }, "f.pt: top has type None; expected dict");
  expect_bad_input([] { Value(true).as_int("f"); }, "f has type bool; expected int");
  expect_bad_input([] { Value(0.5).as_text("f"); }, "f has type float; expected str");
  expect_bad_input([] { Value(Tuple{}).as_tensor("f\n\x1b[2J"); }, "f??[2J has type tuple; expected tensor");
}

}  // namespace
}  // namespace pgolf
