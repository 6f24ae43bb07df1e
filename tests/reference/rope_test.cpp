// Rotary tables and rotated queries and keys, at small positions and beyond 1000.
#include "pgolf/ops/rope.h"

#include "pgolf/base/format.h"
#include "support.h"

namespace pgolf::reference {
namespace {

using Rope = ReferenceTest;

RopeSpec spec(int rope_dims, RopeTableDtype dtype = RopeTableDtype::float32) {
  return {64, rope_dims, {.table_dtype = dtype}};
}

// reference/README.md: same bits everywhere except for vectorized pow, 1.4e-6 of the largest entry.
constexpr double tolerance = 2e-6;

TEST_F(Rope, FullTables) {
  const auto recorded = load_tensors("rope/rope_full.safetensors");
  const auto rows = recorded.at("positions").to(at::kLong);  // 0..7 and 1000..1031
  const auto table = ops::make_rope_table(spec(64), 1032, at::kCPU);
  expect_equal(table.cos.index_select(0, rows), recorded.at("cos.fp32"), tolerance, "cos");
  expect_equal(table.sin.index_select(0, rows), recorded.at("sin.fp32"), tolerance, "sin");
  const auto rounded = ops::make_rope_table(spec(64, RopeTableDtype::bfloat16), 1032, at::kCPU);
  EXPECT_TRUE(at::equal(rounded.cos.index_select(0, rows), recorded.at("cos.bf16_buffer")));
  EXPECT_TRUE(at::equal(rounded.sin.index_select(0, rows), recorded.at("sin.bf16_buffer")));
}

TEST_F(Rope, FullRotation) {
  const auto recorded = load_tensors("rope/rope_full.safetensors");
  const auto table = ops::make_rope_table(spec(64), 32, at::kCPU);
  expect_equal(ops::apply_rope(recorded.at("apply.q"), table), recorded.at("apply.out"), tolerance, "rotated q");
}

TEST_F(Rope, PartialRotationAtBothRangesOfPositions) {
  const auto recorded = load_tensors("rope/rope_partial.safetensors");
  for (const int rope_dims : {2, 6, 8, 16, 32, 48, 64}) {
    for (const int first : {0, 1000}) {
      const auto table = ops::make_rope_table(spec(rope_dims), 32, at::kCPU, first);
      for (const char* operand : {"q", "k"}) {
        const auto name = format("R%d.pos%d_%d.%s", rope_dims, first, first + 31, operand);
        const auto rotated = ops::apply_rope(recorded.at(operand).transpose(1, 2), table).transpose(1, 2);
        expect_equal(rotated, recorded.at(name), tolerance, name);
        EXPECT_TRUE(at::equal(rotated.slice(-1, rope_dims), recorded.at(operand).slice(-1, rope_dims)))
            << "dims beyond R, " << name;
      }
    }
  }
}

}  // namespace
}  // namespace pgolf::reference
