// Where rope_dims shows in the model, and what the tables are.
#include "support/models.h"

namespace pgolf::testing {
namespace {

ModelConfig config_with_rope(int rope_dims, int layers = 2) {
  ModelConfig config = tiny_config();
  config.num_layers = layers;
  config.rope.rope_dims = rope_dims;
  return config;
}

at::Tensor logits_with_rope(int rope_dims, const at::Tensor& ids, OpsPath path) {
  torch::NoGradGuard no_grad;
  return make_random_model(config_with_rope(rope_dims), 5, path)->logits(ids);
}

TEST(Rotary, EveryBlockTellsItsRopeDims) {
  for (const int rope_dims : {0, 4, 8}) {
    Gpt model = make_model(config_with_rope(rope_dims, 3));
    ASSERT_EQ(model->blocks.size(), 3u);
    for (const auto& block : model->blocks) EXPECT_EQ(block->attn->rotary->rope_dims(), rope_dims);
  }
}

TEST(Rotary, FullIsRopeDimsOfTheWholeHead) {
  std::string warning;
  const auto ids = random_ids(2, 16, 48);
  for (const OpsPath path : {OpsPath::reference, OpsPath::fast}) {
    const auto full = logits_with_rope(parse_rope_dims("full", 8, &warning), ids, path);
    EXPECT_TRUE(at::equal(full, logits_with_rope(parse_rope_dims("8", 8, &warning), ids, path)));
    EXPECT_TRUE(at::equal(full, logits_with_rope(parse_rope_dims("0", 8, &warning), ids, path)));
  }
}

TEST(Rotary, EveryRopeDimsGivesAnotherModel) {
  const auto ids = random_ids(2, 16, 48);
  for (const OpsPath path : {OpsPath::reference, OpsPath::fast}) {
    std::vector<at::Tensor> logits;
    for (const int rope_dims : {0, 2, 4, 6, 8}) logits.push_back(logits_with_rope(rope_dims, ids, path));
    for (size_t a = 0; a < logits.size(); ++a) {
      for (size_t b = 0; b < a; ++b) EXPECT_GT(distance(logits[a], logits[b]), 1e-3) << a << " and " << b;
    }
  }
}

TEST(Rotary, WithoutRotationOneLayerSeesNoOrder) {
  torch::NoGradGuard no_grad;
  const auto ids = random_ids(1, 10, 48);
  const auto shuffled = ids.index_select(1, torch::tensor({4, 2, 7, 0, 1, 8, 3, 6, 5, 9}, at::kLong));  // the last token stays
  for (const OpsPath path : {OpsPath::reference, OpsPath::fast}) {
    Gpt none = make_random_model(config_with_rope(0, 1), 5, path), partial = make_random_model(config_with_rope(4, 1), 5, path);
    EXPECT_LT(distance(none->logits(ids)[0][9], none->logits(shuffled)[0][9]), 1e-4);
    EXPECT_GT(distance(partial->logits(ids)[0][9], partial->logits(shuffled)[0][9]), 1e-3);
  }
}

TEST(Rotary, TableHasHalfWidthAndIsTheFormula) {
  Gpt model = make_model(config_with_rope(4));
  const auto* table = model->blocks[0]->attn->rotary->table(20, at::kCPU);
  ASSERT_NE(table, nullptr);
  ASSERT_EQ(table->cos.sizes(), at::IntArrayRef({20, 2}));
  ASSERT_EQ(table->sin.sizes(), at::IntArrayRef({20, 2}));
  for (int position = 0; position < 20; ++position) {
    for (int i = 0; i < 2; ++i) {
      const double angle = position * std::pow(10000.0, -2.0 * i / 4.0);
      EXPECT_NEAR(table->cos[position][i].item<float>(), std::cos(angle), 1e-5);
      EXPECT_NEAR(table->sin[position][i].item<float>(), std::sin(angle), 1e-5);
    }
  }
}

TEST(Rotary, WithoutRotationThereIsNoTable) {
  Gpt model = make_model(config_with_rope(0));
  EXPECT_EQ(model->blocks[0]->attn->rotary->table(20, at::kCPU), nullptr);
  model->logits(random_ids(1, 20, 48));
  EXPECT_EQ(model->rope_table_bytes(), 0);
}

TEST(Rotary, AllLayersShareOneTable) {
  Gpt model = make_model(config_with_rope(4, 3));
  EXPECT_EQ(model->rope_table_bytes(), 0);
  const auto ids = random_ids(2, 16, 48);
  model->logits(ids);
  const int64_t one_table = 2 * 16 * 2 * 4;  // cos and sin, positions, pairs, bytes
  EXPECT_EQ(model->rope_table_bytes(), one_table);
  model->logits(ids);
  EXPECT_EQ(model->rope_table_bytes(), one_table);
  const auto* table = model->blocks[0]->attn->rotary->table(16, at::kCPU);
  for (const auto& block : model->blocks) EXPECT_EQ(block->attn->rotary->table(16, at::kCPU), table);
  EXPECT_EQ(model->rope_table_bytes(), one_table);
}

TEST(Rotary, CastingTheModelLeavesTheTablesFloat32) {
  Gpt model = make_model(config_with_rope(4)), untouched = make_model(config_with_rope(4));
  model->logits(random_ids(1, 600, 48));
  model->to(at::kBFloat16);
  EXPECT_EQ(model->blocks[0]->attn->c_q->weight.scalar_type(), at::kBFloat16);
  for (const int64_t length : {600, 601}) {  // made before the cast and after it
    const auto* table = model->blocks[1]->attn->rotary->table(length, at::kCPU);
    const auto* expected = untouched->blocks[1]->attn->rotary->table(length, at::kCPU);
    EXPECT_EQ(table->cos.scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(table->cos, expected->cos));
    EXPECT_TRUE(at::equal(table->sin, expected->sin));
  }
}

TEST(Rotary, Bfloat16TablesConfuseDistantPositionsAndFloat32OnesDoNot) {
  ModelConfig config = config_with_rope(8);
  const auto neighbours_equal = [](const ops::RopeTable& table, int64_t position) {
    return at::equal(table.cos[position], table.cos[position + 1]) && at::equal(table.sin[position], table.sin[position + 1]);
  };
  Gpt exact = make_model(config);
  const auto* float32 = exact->blocks[0]->attn->rotary->table(1024, at::kCPU);
  for (int64_t position = 0; position + 1 < 1024; ++position) ASSERT_FALSE(neighbours_equal(*float32, position)) << position;
  config.rope.table_dtype = RopeTableDtype::bfloat16;
  Gpt rounded = make_model(config);
  const auto* bfloat16 = rounded->blocks[0]->attn->rotary->table(1024, at::kCPU);
  EXPECT_EQ(bfloat16->cos.scalar_type(), at::kBFloat16);
  EXPECT_FALSE(neighbours_equal(*bfloat16, 200));
  EXPECT_TRUE(neighbours_equal(*bfloat16, 256)) << "bfloat16 has no 257";
}

}  // namespace
}  // namespace pgolf::testing
