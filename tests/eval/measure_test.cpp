#include "pgolf/eval/measure.h"

#include <nlohmann/json.hpp>

#include "pgolf/config/cache_size.h"
#include "pgolf/eval/measured_tables.h"
#include "pgolf/validation/bpb.h"
#include "support/dataset.h"
#include "support/models.h"

namespace pgolf::testing {
namespace {

using MeasureRows = std::vector<nlohmann::ordered_json>;

/// Rows of a kind whose fields have the given values.
MeasureRows rows_where(const MeasureRows& rows, const nlohmann::json& fields) {
  MeasureRows found;
  for (const auto& row : rows) {
    const bool fits = std::all_of(fields.items().begin(), fields.items().end(), [&](const auto& field) {
      return row.contains(field.key()) && nlohmann::json(row.at(field.key())) == field.value();
    });
    if (fits) found.push_back(row);
  }
  return found;
}

class Measure : public ::testing::Test {
 protected:
  Measure() {
    config_.vocab_size = Dataset::vocab_size;
    config_.rope_dims = 4;
    file_.format = {};
    file_.stored.train_seq_len = 32;
    options_.seq_lens = {16, 32, 64};
    options_.val_files = Dataset::get().val_files();
    options_.eval_tokens = 400;
    options_.batch_tokens = 100;
    options_.retrieval_items = 3;
    options_.probe_windows = 2;
  }
  MeasureRows measure(Gpt model) { return measure_model(model, file_, "m.pt", tokenizer_, options_); }
  MeasureRows measure(OpsPath path = OpsPath::reference) { return measure(make_random_model(config_, 5, path)); }

  ModelConfig config_ = tiny_config();
  ModelFile file_;
  MeasureOptions options_;
  Tokenizer tokenizer_{Dataset::get().tokenizer_path()};
};

TEST_F(Measure, FirstRowIsTheModel) {
  file_.assumed = {"ROPE_DIMS=4"};
  const auto row = measure().front();
  EXPECT_EQ(row.dump(), format("{\"kind\":\"measures\",\"version\":1,\"checkpoint\":\"m.pt\",\"format\":\"torch\","
                               "\"train_seq_len\":32,\"head_dim\":8,\"num_layers\":2,\"num_heads\":4,\"num_kv_heads\":2,"
                               "\"rope_dims\":\"4\",\"rope_layers\":\"same\",\"parameters\":%lld,\"assumed\":[\"ROPE_DIMS=4\"]}",
                               static_cast<long long>(config_.parameter_count())));
}

TEST_F(Measure, AllLengthsScoreTheSameTargets) {
  const auto rows = measure();
  const auto lengths = rows_where(rows, {{"kind", "length"}});
  ASSERT_EQ(lengths.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(lengths[i].at("seq_len"), options_.seq_lens[i]);
    EXPECT_EQ(lengths[i].at("tokens"), 384) << "six windows of 64";
    EXPECT_EQ(lengths[i].at("bytes"), lengths[0].at("bytes"));
    EXPECT_EQ(lengths[i].at("rope_table_bytes"), 2 * options_.seq_lens[i] * 2 * 4);
    EXPECT_EQ(lengths[i].at("rope_table_bytes_computed"), lengths[i].at("rope_table_bytes"));
    EXPECT_EQ(lengths[i].at("kv_cache_bytes"), 2 * 2 * 2 * 8 * options_.seq_lens[i] * 2);
    const auto buckets = rows_where(rows, {{"kind", "position"}, {"seq_len", options_.seq_lens[i]}});
    ASSERT_EQ(buckets.size(), 5u + i);
    double sum = 0;
    for (const auto& bucket : buckets) sum += bucket.at("loss").get<double>() * bucket.at("tokens").get<double>();
    EXPECT_NEAR(sum / 384, lengths[i].at("val_loss").get<double>(), 1e-12);
    EXPECT_EQ(buckets.back().at("loss"), lengths[i].at("last_bucket_loss"));
  }
  EXPECT_NE(lengths[0].at("val_loss"), lengths[1].at("val_loss"));
}

TEST_F(Measure, TheTrainingLengthHasEvaluatesLoss) {
  Gpt model = make_random_model(config_);
  const ValidationSet validation(options_.val_files, 32, 384, Dataset::vocab_size);
  EvalOptions eval;
  eval.seq_len = 32;
  const auto expected = evaluate(model, validation, ByteCounts(tokenizer_, Dataset::vocab_size), eval);
  const auto length = rows_where(measure(model), {{"kind", "length"}, {"seq_len", 32}}).at(0);
  EXPECT_EQ(length.at("bytes"), expected.bytes);
  EXPECT_NEAR(length.at("val_loss").get<double>(), expected.val_loss, 1e-6);
  EXPECT_NEAR(length.at("val_bpb").get<double>(), expected.val_bpb, 1e-6);
}

TEST_F(Measure, RetrievalHasARowPerTaskLengthAndDistance) {
  const auto rows = measure();
  std::vector<std::string> seen;
  for (const auto& row : rows_where(rows, {{"kind", "retrieval"}})) {
    seen.push_back(format("%s %d %d", row.at("task").get<std::string>().c_str(), row.at("seq_len").get<int>(),
                          row.at("distance").get<int>()));
    EXPECT_EQ(row.at("items"), 3);
    EXPECT_GT(row.at("loss"), 0);
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"induction 64 8", "induction 64 16", "induction 64 32", "passkey 16 8",
                                            "passkey 32 8", "passkey 32 16", "passkey 64 8", "passkey 64 16", "passkey 64 32"}));
  options_.retrieval_items = 0;
  EXPECT_EQ(rows_where(measure(), {{"kind", "retrieval"}}).size(), 0u);
}

TEST_F(Measure, RetrievalOfALengthDoesNotDependOnTheOthers) {
  const nlohmann::json wanted{{"task", "passkey"}, {"seq_len", 32}};
  options_.eval_tokens = 384;
  const auto all = rows_where(measure(), wanted);
  options_.seq_lens = {32};
  EXPECT_EQ(rows_where(measure(), wanted), all);
  options_.seed = 5;
  EXPECT_NE(rows_where(measure(), wanted), all);
}

TEST_F(Measure, AttentionHasARowPerHead) {
  const auto rows = measure();
  EXPECT_EQ(rows_where(rows, {{"kind", "attention"}}).size(), 8u);
  EXPECT_EQ(rows_where(rows, {{"kind", "attention"}, {"layer", 1}, {"head", 3}}).size(), 1u);
  EXPECT_EQ(rows_where(rows, {{"kind", "logit_share"}}).size(), 8u);
  const auto pairs = rows_where(rows, {{"kind", "pair_share"}, {"layer", 1}, {"head", 3}});
  ASSERT_EQ(pairs.size(), 2u);  // 4 dims rotate, 4 pass
  double sum = 0;
  for (size_t pair = 0; pair < 2; ++pair) {
    EXPECT_EQ(pairs[pair].at("pair"), pair);
    EXPECT_NEAR(pairs[pair].at("wavelength").get<double>(), 6.2831853 * std::pow(100.0, pair), 1e-3);
    sum += pairs[pair].at("share").get<double>();
  }
  EXPECT_GT(sum, 0);
  EXPECT_LT(sum, 1);
  const auto shifts = rows_where(rows, {{"kind", "relative_shift"}});
  ASSERT_EQ(shifts.size(), 4u);
  EXPECT_LT(shifts[0].at("max_change").get<double>(), 3e-5 * shifts[0].at("max_logit").get<double>());
  options_.probe_windows = 0;
  const auto without = measure();
  EXPECT_EQ(without.size(), rows.size() - 8 - 8 - 8 * pairs.size() - 4);
}

TEST_F(Measure, EqualInputGivesEqualBytes) {
  const auto text = [&] {
    std::string lines;
    for (const auto& row : measure(OpsPath::fast)) lines += row.dump();
    return lines;
  };
  EXPECT_EQ(text(), text());
}

TEST_F(Measure, TableBytesAreRightAtEveryLength) {
  config_.rope_dims = {4, 6};
  Gpt model = make_random_model(config_);
  // An odd number of tables first: with two a length, some length is then measured while the model drops those it has.
  model->blocks[0]->attn->rotary->table(1000, model->tok_emb->weight.device());
  for (int64_t length = 1; length < 100; ++length) {
    EXPECT_EQ(measured_rope_table_bytes(model, length), rope_table_bytes(config_, length)) << length;
  }
}

TEST_F(Measure, TakesEverySpecificationAndPath) {
  std::vector<ModelConfig> configs(5, config_);
  configs[0].rope_dims = 0;
  configs[1].rope_dims = {0, 6};
  configs[2].rope.select = RopeSelect::high;
  configs[2].rope.style = RopeStyle::interleaved;
  configs[3].rope.scaling = RopeScaling::yarn;
  configs[3].rope.scaling_factor = 4;
  configs[3].rope.original_seq_len = 32;
  configs[3].qk_norm = false;
  configs[4].parallel_block = true;
  configs[4].num_kv_heads = 1;
  configs[4].rope.table_dtype = RopeTableDtype::bfloat16;
  for (size_t i = 0; i < configs.size(); ++i) {
    config_ = configs[i];
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      std::vector<double> losses;
      for (const auto path : {OpsPath::reference, OpsPath::fast}) {
        Gpt model = make_random_model(config_, 5, path);
        set_parameter_precision(model, dtype, OptimConfig().control_patterns);
        const auto rows = measure(model);
        losses.push_back(rows_where(rows, {{"kind", "length"}, {"seq_len", 64}}).at(0).at("val_loss"));
        EXPECT_EQ(rows_where(rows, {{"kind", "attention"}}).size(), 8u);
        const auto share = rows_where(rows, {{"kind", "logit_share"}, {"layer", 0}}).at(0).at("rotated").get<double>();
        EXPECT_EQ(share == 0, i < 2) << i;
      }
      EXPECT_NEAR(losses[0], losses[1], dtype == at::kFloat ? 1e-4 : 0.1) << i;
    }
  }
}

TEST_F(Measure, AChangedLossAtTheTrainingLengthIsAnInternalError) {
  Gpt model = make_random_model(config_);
  options_.progress = [&](const std::string& what, int64_t, int64_t) {
    torch::NoGradGuard no_grad;
    if (what == "length 64") model->blocks[0]->attn->q_gain.add_(0.1);
  };
  expect_error(ExitCode::internal, {"training length"}, [&] { measure(model); });
}

TEST_F(Measure, InvalidRequestsAreRefused) {
  options_.eval_tokens = 63;
  expect_error(ExitCode::usage, {"EVAL_TOKENS=63", "64"}, [&] { measure(); });
  options_.eval_tokens = 0;
  options_.seq_lens = {32, 100'000};
  expect_error(ExitCode::bad_input, {"100000", options_.val_files}, [&] { measure(); });
  options_.seq_lens = {32};
  Gpt model = make_random_model(config_);
  torch::NoGradGuard no_grad;
  model->blocks[0]->attn_scale.fill_(NAN);
  expect_error(ExitCode::non_finite, {"target 0", "nan"}, [&] { measure(model); });
}

}  // namespace
}  // namespace pgolf::testing
