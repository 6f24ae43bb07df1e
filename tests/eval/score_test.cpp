// Every target is scored once for any windows; and the summaries of the losses.
#include "pgolf/eval/score.h"

#include <cmath>

#include "pgolf/config/cache_size.h"
#include "pgolf/eval/measured_tables.h"
#include "support/dataset.h"
#include "support/models.h"

namespace pgolf::testing {
namespace {

ModelConfig score_config() {
  ModelConfig config = tiny_config();
  config.vocab_size = Dataset::vocab_size;
  config.rope_dims = 4;
  return config;
}

std::vector<uint16_t> random_stream(size_t tokens, int64_t seed = 3) {
  const auto ids = random_ids(1, static_cast<int64_t>(tokens), Dataset::vocab_size, seed)[0].contiguous();
  return {ids.const_data_ptr<int64_t>(), ids.const_data_ptr<int64_t>() + ids.numel()};
}

ScoreOptions windows_of(int64_t seq_len, int64_t stride) {
  ScoreOptions options;
  options.seq_len = seq_len;
  options.stride = stride;
  options.batch_tokens = 3 * seq_len;
  return options;
}

TEST(PlanWindows, ScoresEveryTargetOnceForEveryLengthAroundWindowAndStride) {
  for (const int64_t seq_len : {1, 2, 5, 8}) {
    for (int64_t stride = 1; stride <= seq_len; ++stride) {
      for (int64_t targets = 1; targets <= 4 * seq_len + 3; ++targets) {
        SCOPED_TRACE(format("%lld targets, windows of %lld, stride %lld", static_cast<long long>(targets),
                            static_cast<long long>(seq_len), static_cast<long long>(stride)));
        std::vector<int> times(static_cast<size_t>(targets));
        int64_t begin = 0;
        for (const auto& window : plan_windows(targets, seq_len, stride)) {
          ASSERT_EQ(window.begin, begin);
          begin += stride;
          ASSERT_LE(window.length, seq_len);
          ASSERT_GT(window.scored(), 0);
          ASSERT_LE(window.begin + window.length, targets);
          for (int64_t i = window.first_scored; i < window.length; ++i) ++times[static_cast<size_t>(window.begin + i)];
          // After the first window every target has a context of a window minus the stride.
          if (window.begin > 0) {
            ASSERT_GE(window.first_scored, seq_len - stride);
          }
        }
        ASSERT_EQ(times, std::vector<int>(times.size(), 1));
      }
    }
  }
}

TEST(ScoreStream, EachLossIsThatOfTheTargetAfterItsContext) {
  torch::NoGradGuard no_grad;
  const auto tokens = random_stream(31);
  for (const auto path : {OpsPath::reference, OpsPath::fast}) {
    Gpt model = make_random_model(score_config(), 5, path);
    for (const auto& [seq_len, stride] : {std::pair<int64_t, int64_t>{8, 8}, {8, 3}, {8, 1}, {64, 5}}) {
      const StreamScore score = score_stream(model, tokens, windows_of(seq_len, stride));
      ASSERT_EQ(score.losses.size(), 30u);
      for (size_t i = 0; i < 30; ++i) {
        const auto context = static_cast<size_t>(score.positions[i]) + 1;
        ASSERT_LE(context, i + 1);
        const std::vector<int64_t> before(tokens.begin() + static_cast<std::ptrdiff_t>(i + 1 - context),
                                          tokens.begin() + static_cast<std::ptrdiff_t>(i + 1));
        const auto logits = model->logits(torch::tensor(before).view({1, -1}))[0][-1];
        const double expected = -at::log_softmax(logits.to(at::kDouble), -1)[tokens[i + 1]].item<double>();
        EXPECT_NEAR(score.losses[i], expected, 2e-5) << i << ", stride " << stride;
      }
    }
  }
}

TEST(ScoreStream, WholeWindowsAreWhatEvaluateScores) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const auto path : {OpsPath::reference, OpsPath::fast}) {
      Gpt model = make_random_model(score_config(), 5, path);
      set_parameter_precision(model, dtype, OptimConfig().control_patterns);
      const Tokenizer tokenizer(Dataset::get().tokenizer_path());
      const ByteCounts byte_counts(tokenizer, Dataset::vocab_size);
      const ValidationSet validation(Dataset::get().val_files(), 16, 11 * 16, Dataset::vocab_size);
      EvalOptions options;
      options.seq_len = 16;
      options.batch_sequences = 4;
      const EvalResult expected = evaluate(model, validation, byte_counts, options);
      const auto total =
          summarize(score_stream(model, validation.tokens(), windows_of(16, 16)), validation.tokens(), byte_counts, 16).total;
      EXPECT_EQ(total.tokens, expected.tokens);
      EXPECT_EQ(total.bytes, expected.bytes);
      EXPECT_NEAR(total.val_loss, expected.val_loss, 1e-6 * expected.val_loss);
      EXPECT_NEAR(total.val_bpb, expected.val_bpb, 1e-6 * expected.val_bpb);
    }
  }
}

TEST(ScoreStream, SeveralModelsShareTheWorkAndOneErrorEndsIt) {
  const auto tokens = random_stream(200);
  Gpt one = make_random_model(score_config());
  const StreamScore expected = score_stream(one, tokens, windows_of(8, 3));
  std::vector<Gpt> three;
  for (int i = 0; i < 3; ++i) three.push_back(make_random_model(score_config()));
  int64_t last = 0, calls = 0;
  ScoreOptions options = windows_of(8, 3);
  options.progress = [&](int64_t done, int64_t total) {
    EXPECT_GT(done, last);
    EXPECT_LE(done, total);
    last = done;
    ++calls;
  };
  const StreamScore score = score_stream(three, tokens, options);
  EXPECT_EQ(score.losses, expected.losses);
  EXPECT_EQ(score.positions, expected.positions);
  EXPECT_EQ(calls, 23);  // 64 windows, three at a time, and a shorter one
  torch::NoGradGuard no_grad;
  for (auto& model : three) model->blocks[0]->attn_scale.fill_(std::numeric_limits<float>::quiet_NaN());
  EXPECT_THROW(score_stream(three, tokens, options), Error);
}

TEST(ScoreStream, ANonFiniteLossIsAnError) {
  Gpt model = make_random_model(score_config());
  torch::NoGradGuard no_grad;
  model->blocks[0]->attn_scale.fill_(std::numeric_limits<float>::quiet_NaN());
  try {
    score_stream(model, random_stream(10), windows_of(4, 4));
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::non_finite);
  }
}

/// Losses 1, 2, 3, ... with positions in non-overlapping windows of 4.
StreamScore counted(size_t targets) {
  StreamScore score(targets);
  for (size_t i = 0; i < targets; ++i) {
    score.losses[i] = static_cast<float>(i + 1);
    score.positions[i] = static_cast<int32_t>(i % 4);
  }
  return score;
}

TEST(Summarize, StandardErrorsAreOverChunks) {
  const Tokenizer tokenizer(Dataset::get().tokenizer_path());
  const ByteCounts byte_counts(tokenizer, Dataset::vocab_size);
  const auto validation = ValidationSet(Dataset::get().val_files(), 1, 12, Dataset::vocab_size);
  const auto tokens = validation.tokens();
  const auto summary = summarize(counted(12), tokens, byte_counts, 4);
  EXPECT_DOUBLE_EQ(summary.total.val_loss, 6.5);
  EXPECT_DOUBLE_EQ(summary.stderr_loss, 4 / std::sqrt(3.0)) << "means 2.5, 6.5, 10.5";
  double bytes[3], all = 0, squares = 0;
  for (size_t c = 0; c < 3; ++c) {
    bytes[c] = static_cast<double>(byte_counts.count(tokens, static_cast<int64_t>(4 * c), 4));
    all += bytes[c];
  }
  for (size_t c = 0; c < 3; ++c) {
    const double bits = (10 + 16 * static_cast<double>(c)) / std::log(2.0), residual = bits - summary.total.val_bpb * bytes[c];
    squares += residual * residual;
  }
  EXPECT_NEAR(summary.stderr_bpb, std::sqrt(squares / (3 * 2)) / (all / 3), 1e-12);
  EXPECT_TRUE(std::isnan(summarize(counted(12), tokens, byte_counts, 12).stderr_loss)) << "a single chunk";
}

TEST(Summarize, AShortLastChunkCountsForWhatItHolds) {
  const Tokenizer tokenizer(Dataset::get().tokenizer_path());
  const ByteCounts byte_counts(tokenizer, Dataset::vocab_size);
  const auto validation = ValidationSet(Dataset::get().val_files(), 1, 13, Dataset::vocab_size);
  StreamScore score = counted(13);
  for (auto& loss : score.losses) loss = 3;
  score.losses.back() = 29;  // alone in its chunk: the mean is 5
  // Residuals of the sums: 12 - 5*4 three times, 29 - 5*1; over the mean number of targets, 13/4.
  const double mean_count = 13.0 / 4, squares = 3 * 8 * 8 + 24 * 24;
  EXPECT_DOUBLE_EQ(summarize(score, validation.tokens(), byte_counts, 4).stderr_loss, std::sqrt(squares / (4 * 3)) / mean_count);
}

TEST(ByPosition, BucketsArePowersOfTwoAndAddUp) {
  const auto buckets = by_position(counted(10), 24);
  ASSERT_EQ(buckets.size(), 3u) << "buckets without targets are left out";
  EXPECT_EQ(buckets[0].to, 1);
  EXPECT_EQ(buckets[1].to, 2);
  EXPECT_EQ(buckets[2].to, 4);
  EXPECT_DOUBLE_EQ(buckets[0].loss, (1 + 5 + 9) / 3.0);
  EXPECT_DOUBLE_EQ(buckets[1].loss, (2 + 6 + 10) / 3.0);
  EXPECT_DOUBLE_EQ(buckets[2].loss, (3 + 4 + 7 + 8) / 4.0);
  EXPECT_EQ(buckets[2].tokens, 4);
  std::vector<std::pair<int64_t, int64_t>> bounds;
  Gpt model = make_model(score_config());
  for (const auto& bucket : by_position(score_stream(model, random_stream(49), windows_of(24, 24)), 24))
    bounds.emplace_back(bucket.from, bucket.to);
  EXPECT_EQ(bounds, (std::vector<std::pair<int64_t, int64_t>>{{0, 1}, {1, 2}, {2, 4}, {4, 8}, {8, 16}, {16, 24}}));
}

TEST(ByDocument, GoesFromBosToBos) {
  const Tokenizer tokenizer(Dataset::get().tokenizer_path());
  const ByteCounts byte_counts(tokenizer, Dataset::vocab_size);
  const auto bos = static_cast<uint16_t>(tokenizer.bos_id());
  const auto words = tokenizer.encode("the river");
  std::vector<uint16_t> tokens{bos};
  for (int document = 0; document < 2; ++document) {
    for (const int id : words) tokens.push_back(static_cast<uint16_t>(id));
    tokens.push_back(bos);
  }
  tokens.push_back(bos);  // an empty one
  const auto targets = tokens.size() - 1;
  const auto documents = by_document(counted(targets), tokens, byte_counts, bos);
  ASSERT_EQ(documents.size(), 2u);
  const auto length = static_cast<int64_t>(words.size());
  EXPECT_EQ(documents[0].begin, 0);
  EXPECT_EQ(documents[0].tokens, length + 1) << "its words, and the BOS that ends it";
  EXPECT_EQ(documents[1].begin, length + 1);
  EXPECT_DOUBLE_EQ(documents[0].loss, static_cast<double>(length + 2) / 2);
  EXPECT_EQ(documents[0].bytes, documents[1].bytes);
  EXPECT_NEAR(
      documents[0].bpb,
      documents[0].loss * static_cast<double>(documents[0].tokens) / std::log(2.0) / static_cast<double>(documents[0].bytes),
      1e-12);
}

TEST(KnownSplit, NeedsTokensAndBytes) {
  EXPECT_EQ(known_split(62'021'632, 151'080'363), "fineweb10B sp1024 validation");
  EXPECT_EQ(known_split(62'021'632, 151'080'364), "");
  EXPECT_EQ(known_split(63'779'840, 155'769'746), "fineweb10B sp1024 validation, older export");
}

TEST(CacheSize, FormulaIsWhatTheTablesHold) {
  ModelConfig config = tiny_config();
  const auto check = [&](int64_t expected) {
    Gpt model = make_model(config);
    EXPECT_EQ(rope_table_bytes(config, 24), expected);
    EXPECT_EQ(measured_rope_table_bytes(model, 24), expected);
    model->logits(random_ids(1, 40, 48));
    EXPECT_EQ(measured_rope_table_bytes(model, 24), expected) << "of that length only";
    EXPECT_EQ(kv_cache_bytes(config, 24), 2 * 2 * 2 * 8 * 24 * 2) << "for any rotation";
    ModelConfig looped = config;
    looped.num_loops = 3, looped.loop_start = looped.loop_end = 1;
    EXPECT_EQ(kv_cache_bytes(looped, 24), 5 * 2 * 2 * 8 * 24 * 2) << "an entry per pass";
  };
  check(2 * 24 * 4 * 4);  // cos and sin, positions, pairs, bytes
  config.rope_dims = 2;
  check(2 * 24 * 1 * 4);
  config.rope.table_dtype = RopeTableDtype::bfloat16;
  check(2 * 24 * 1 * 2);
  config.rope.table_dtype = RopeTableDtype::float32;
  config.rope.select = RopeSelect::high;
  check(2 * 24 * 4 * 4);  // the table includes the pairs that do not rotate
  config.rope.select = RopeSelect::prefix;
  config.rope_dims = {6, 4};
  check(2 * 24 * (3 + 2) * 4);
  config.rope_dims = {0, 4};
  check(2 * 24 * 2 * 4);
  config.rope_dims = 0;
  check(0);
}

}  // namespace
}  // namespace pgolf::testing
