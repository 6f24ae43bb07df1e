#include "pgolf/config/block_order.h"

#include <gtest/gtest.h>

namespace pgolf {
namespace {

using Layers = std::vector<int>;

void expect_order(const BlockOrder& order, const Layers& encoder, const Layers& decoder) {
  EXPECT_EQ(order.encoder, encoder);
  EXPECT_EQ(order.decoder, decoder);
  EXPECT_EQ(order.passes(), static_cast<int64_t>(encoder.size() + decoder.size()));
  EXPECT_EQ(order.skips(), static_cast<int64_t>(encoder.size()));
}

TEST(BlockOrder, WithoutLoopsHalfOfTheLayersIsTheEncoder) {
  expect_order(block_order(1, -1, -1, 0), {}, {0});
  expect_order(block_order(2, -1, -1, 0), {0}, {1});
  expect_order(block_order(5, -1, -1, 0), {0, 1}, {2, 3, 4});
  expect_order(block_order(5, 1, 3, 0), {0, 1}, {2, 3, 4});
}

TEST(BlockOrder, LoopedLayersRunOncePerPass) {
  expect_order(block_order(5, 2, 3, 1), {0, 1, 2}, {3, 2, 3, 4});
  expect_order(block_order(5, 2, 3, 2), {0, 1, 2, 3}, {2, 3, 2, 3, 4});
  expect_order(block_order(5, 2, 3, 3), {0, 1, 2, 3, 2}, {3, 2, 3, 2, 3, 4});
  expect_order(block_order(11, 4, 5, 2), {0, 1, 2, 3, 4, 5, 4}, {5, 4, 5, 6, 7, 8, 9, 10});
  expect_order(block_order(11, 3, 5, 2), {0, 1, 2, 3, 4, 5, 3, 4}, {5, 3, 4, 5, 6, 7, 8, 9, 10});
}

TEST(BlockOrder, ALoopMayBeOneLayerOrAllOfThem) {
  expect_order(block_order(5, 3, 3, 2), {0, 1, 2}, {3, 3, 3, 4});
  expect_order(block_order(5, 0, 4, 1), {0, 1, 2, 3, 4}, {0, 1, 2, 3, 4});
  expect_order(block_order(1, 0, 0, 2), {0}, {0, 0});
  expect_order(block_order(3, 2, 2, 1), {0, 1}, {2, 2});
}

TEST(BlockOrder, PassesOfALayerAreCounted) {
  const BlockOrder order = block_order(5, 1, 3, 2);
  EXPECT_EQ(order.passes_of(0), 1);
  for (const int layer : {1, 2, 3}) EXPECT_EQ(order.passes_of(layer), 3);
  EXPECT_EQ(order.passes_of(4), 1);
}

}  // namespace
}  // namespace pgolf
