// Where rope_dims shows in the model, and what the tables are.
#include "support/models.h"

namespace pgolf::testing {
namespace {

ModelConfig config_with_rope(int rope_dims, int layers = 2) {
  ModelConfig config = tiny_config();
  config.num_layers = layers;
  config.rope_dims = rope_dims;
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
  const auto table = model->blocks[0]->attn->rotary->table(20, at::kCPU);
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
  const auto table = model->blocks[0]->attn->rotary->table(16, at::kCPU);
  for (const auto& block : model->blocks) EXPECT_EQ(block->attn->rotary->table(16, at::kCPU), table);
  EXPECT_EQ(model->rope_table_bytes(), one_table);
}

TEST(Rotary, CastingTheModelLeavesTheTablesFloat32) {
  Gpt model = make_model(config_with_rope(4)), untouched = make_model(config_with_rope(4));
  model->logits(random_ids(1, 600, 48));
  model->to(at::kBFloat16);
  EXPECT_EQ(model->blocks[0]->attn->c_q->weight.scalar_type(), at::kBFloat16);
  for (const int64_t length : {600, 601}) {  // made before the cast and after it
    const auto table = model->blocks[1]->attn->rotary->table(length, at::kCPU);
    const auto expected = untouched->blocks[1]->attn->rotary->table(length, at::kCPU);
    EXPECT_EQ(table->cos.scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(table->cos, expected->cos));
    EXPECT_TRUE(at::equal(table->sin, expected->sin));
  }
}

TEST(Rotary, Bfloat16TablesConfuseDistantPositionsAndFloat32OnesDoNot) {
  ModelConfig config = config_with_rope(8);
  const auto neighbors_equal = [](const ops::RopeTable& table, int64_t position) {
    return at::equal(table.cos[position], table.cos[position + 1]) && at::equal(table.sin[position], table.sin[position + 1]);
  };
  Gpt exact = make_model(config);
  const auto float32 = exact->blocks[0]->attn->rotary->table(1024, at::kCPU);
  for (int64_t position = 0; position + 1 < 1024; ++position) ASSERT_FALSE(neighbors_equal(*float32, position)) << position;
  config.rope.table_dtype = RopeTableDtype::bfloat16;
  Gpt rounded = make_model(config);
  const auto bfloat16 = rounded->blocks[0]->attn->rotary->table(1024, at::kCPU);
  EXPECT_EQ(bfloat16->cos.scalar_type(), at::kBFloat16);
  EXPECT_FALSE(neighbors_equal(*bfloat16, 200));
  EXPECT_TRUE(neighbors_equal(*bfloat16, 256)) << "bfloat16 has no 257";
}

TEST(Rotary, EveryLayerCanHaveItsOwnRopeDims) {
  ModelConfig config = config_with_rope(8, 3);
  const std::vector<int> layers{8, 0, 4};
  config.rope_dims = layers;
  Gpt model = make_model(config);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(model->blocks[i]->attn->rotary->rope_dims(), layers[i]);
  model->logits(random_ids(1, 16, 48));
  EXPECT_EQ(model->rope_table_bytes(), 2 * 16 * (4 + 2) * 4) << "one table for 8 dims and one for 4";
  config.rope_dims = {4, 4, 4};
  const auto ids = random_ids(2, 16, 48);
  torch::NoGradGuard no_grad;
  EXPECT_TRUE(make_random_model(config, 5)->logits(ids).equal(make_random_model(config_with_rope(4, 3), 5)->logits(ids)));
}

/// Reorders the dims of every query and key head.
void reorder_heads(Gpt& model, const std::vector<int64_t>& order) {
  torch::NoGradGuard no_grad;
  const auto index = torch::tensor(order, at::kLong);
  for (auto& block : model->blocks) {
    for (auto* linear : {&block->attn->c_q, &block->attn->c_k}) {
      auto& weight = (*linear)->weight;
      weight.copy_(weight.view({-1, index.numel(), weight.size(1)}).index_select(1, index).reshape(weight.sizes()));
    }
  }
}

/// How far the logits of two models are apart, the second one's heads reordered; positions up to 599.
double distance_after(const ModelConfig& a, const ModelConfig& b, const std::vector<int64_t>& order, OpsPath path) {
  torch::NoGradGuard no_grad;
  const auto ids = random_ids(1, 600, 48);
  Gpt first = make_random_model(a, 5, path), second = make_random_model(b, 5, path);
  reorder_heads(second, order);
  return distance(second->logits(ids), first->logits(ids));
}

TEST(Rotary, InterleavedIsHalfSplitAfterReorderingTheWeights) {
  const std::vector<int64_t> same{0, 1, 2, 3, 4, 5, 6, 7}, of_four{0, 2, 1, 3, 4, 5, 6, 7}, of_eight{0, 4, 1, 5, 2, 6, 3, 7};
  for (const OpsPath path : {OpsPath::reference, OpsPath::fast}) {
    for (const auto& [rope_dims, order] : {std::pair{4, of_four}, {8, of_eight}}) {
      const ModelConfig half = config_with_rope(rope_dims);
      ModelConfig interleaved = half;
      interleaved.rope.style = RopeStyle::interleaved;
      EXPECT_LT(distance_after(half, interleaved, order, path), 1e-4) << rope_dims;
      EXPECT_GT(distance_after(half, interleaved, same, path), 1e-2) << rope_dims;
    }
  }
}

TEST(Rotary, ProportionalIsPrefixWithAnotherBaseAfterReorderingTheWeights) {
  for (const OpsPath path : {OpsPath::reference, OpsPath::fast}) {
    ModelConfig high = config_with_rope(4), prefix = high;
    high.rope.select = RopeSelect::high;
    prefix.rope.base = std::pow(high.rope.base, 4.0 / 8.0);
    EXPECT_LT(distance_after(high, prefix, {0, 1, 4, 5, 2, 3, 6, 7}, path), 1e-3);
    prefix.rope.base = high.rope.base;
    EXPECT_GT(distance_after(high, prefix, {0, 1, 4, 5, 2, 3, 6, 7}, path), 1e-2);
  }
}

TEST(Rotary, WithoutQkNormTheSizeOfQueriesMatters) {
  torch::NoGradGuard no_grad;
  const auto ids = random_ids(1, 16, 48);
  for (const bool qk_norm : {true, false}) {
    ModelConfig config = config_with_rope(4);
    config.qk_norm = qk_norm;
    Gpt model = make_random_model(config, 5), reference = make_random_model(config, 5, OpsPath::reference);
    EXPECT_LT(distance(model->logits(ids), reference->logits(ids)), 1e-4);
    const auto before = model->logits(ids);
    for (auto& block : model->blocks) block->attn->c_q->weight.mul_(3);
    EXPECT_EQ(distance(model->logits(ids), before) > 1e-3, !qk_norm);
  }
}

TEST(ParallelBlock, BothBranchesReadTheSameInput) {
  torch::NoGradGuard no_grad;
  for (const OpsPath path : {OpsPath::reference, OpsPath::fast}) {
    ModelConfig config = config_with_rope(4, 1);
    config.parallel_block = true;
    Gpt model = make_random_model(config, 5, path);
    auto& block = model->blocks[0];
    const auto x = torch::randn({2, 16, config.model_dim}), x0 = torch::randn({2, 16, config.model_dim});
    const auto mixed = block->resid_mix[0] * x + block->resid_mix[1] * x0;
    const auto normed = mixed / (mixed.square().mean(-1, true) + 1.1920929e-07).sqrt();
    const auto expected = mixed + block->attn_scale * block->attn(normed) + block->mlp_scale * block->mlp(normed);
    EXPECT_LT(distance(block(x, x0), expected), 1e-4) << "fast float32 products are within 2^-17 of each term";
    config.parallel_block = false;
    EXPECT_GT(distance(make_random_model(config, 5, path)->blocks[0](x, x0), expected), 1e-3);
  }
}

}  // namespace
}  // namespace pgolf::testing
