// What a run shows of its model during training, and its event file.
#include "../../src/train/snapshots.h"
#include "support/event_reader.h"
#include "support/training.h"

namespace pgolf::testing {
namespace {

std::vector<fs::path> event_files(const RunFolder& folder) {
  return glob_sorted(folder.path / "events.out.tfevents.*");
}

TEST(Histogram, CountsFiniteValues) {
  const float inf = std::numeric_limits<float>::infinity();
  const auto found = histogram_of(torch::tensor({-1.0F, 0.5F, 3.0F, inf, 3.0F}));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->count, 4);
  EXPECT_EQ(found->min, -1);
  EXPECT_EQ(found->max, 3);
  EXPECT_DOUBLE_EQ(found->sum, 5.5);
  EXPECT_DOUBLE_EQ(found->sum_squares, 1 + 0.25 + 9 + 9);
  double total = 0;
  for (size_t i = 0; i < found->counts.size(); ++i) {
    total += found->counts[i];
    if (found->limits[i] < 0.5) {
      EXPECT_EQ(total, 1);
    }
  }
  EXPECT_EQ(total, 4);
  EXPECT_EQ(found->counts.back(), 2);
  EXPECT_EQ(found->limits.back(), 3);
  EXPECT_EQ(histogram_of(torch::ones({3}))->counts, (std::vector<double>{3}));
  EXPECT_FALSE(histogram_of(torch::full({2}, inf)));
}

TEST(TensorBoard, HasWhatMetricsHave) {
  TinyRun run({{"LOGGERS", "tensorboard"}, {"ITERATIONS", "3"}, {"VAL_LOSS_EVERY", "2"}, {"HISTOGRAM_EVERY", "3"}});
  ASSERT_EQ(run.train(), ExitCode::ok);
  const auto files = event_files(run.folder());
  ASSERT_EQ(files.size(), 1u);
  const auto scalars = read_scalars(files[0]);
  int train = 0, val = 0;
  for (const auto& line : read_metrics(run.folder().metrics())) {
    const auto expect = [&](const char* tag, const char* field) {
      EXPECT_EQ(scalars.at({line.at("step"), tag}), line.at(field).get<float>()) << tag;
    };
    if (line.at("kind") == "train") {
      ++train;
      expect("train/loss", "train_loss");
      expect("train/grad_norm", "grad_norm");
      expect("train/lr_scale", "lr_scale");
      const float rate = scalars.at({line.at("step"), "train/matrix_lr"});
      EXPECT_FLOAT_EQ(rate, static_cast<float>(run.command().config.optim.matrix_lr) * line.at("lr_scale").get<float>());
      EXPECT_GT(scalars.at({line.at("step"), "train/tokens_per_second"}), 0);
    } else if (line.at("kind") == "val") {
      ++val;
      expect("val/loss", "val_loss");
      expect("val/bpb", "val_bpb");
      EXPECT_GT(scalars.at({line.at("step"), "memory/peak_allocated_bytes"}), 0);
    }
  }
  EXPECT_EQ(train, 3);
  EXPECT_EQ(val, 3);  // before steps 1 and 3, and at the end
  size_t histograms = 0;
  for (auto& event : read_events(files[0])) {
    ReadMessage summary = event.message(5);
    for (const auto& value : summary.all(1)) histograms += ReadMessage(value).all(5).size();
  }
  EXPECT_EQ(histograms, run.trainer().model()->parameters().size());
}

TEST(TensorBoard, ResumedRunBeginsAnotherFile) {
  const Variables settings{{"LOGGERS", "tensorboard"}, {"ITERATIONS", "4"}, {"SAVE_EVERY", "2"}};
  TinyRun whole(settings), continued(settings);
  whole.train();
  continued.trainer().restore(whole.checkpoint(2));
  continued.train();
  const auto files = event_files(continued.folder());
  ASSERT_EQ(files.size(), 1u);
  auto events = read_events(files[0]);
  EXPECT_EQ(events[1].integer(2), 3);  // forget what there is from step 3 on
  const auto scalars = read_scalars(files[0]);
  EXPECT_FALSE(scalars.contains({2, "train/loss"}));
  EXPECT_TRUE(scalars.contains({3, "train/loss"}));
}

TEST(Samples, ChangeNothingAndAreTheSameEveryTime) {
  const Variables plain{{"ITERATIONS", "4"}};
  const Variables sampled{{"ITERATIONS", "4"}, {"SAMPLE_EVERY", "2"}, {"SAMPLE_TOKENS", "5"}, {"SAMPLE_PROMPT", "the"}};
  TinyRun without(plain), with(sampled), again(sampled);
  without.train();
  with.train();
  again.train();
  expect_same_tensors(with.weights(), without.weights());
  const auto texts_of = [](const TinyRun& run) {
    std::vector<std::string> texts;
    for (const auto& line : read_metrics(run.folder().metrics())) {
      if (line.at("kind") == "sample") texts.push_back(line.at("text"));
    }
    return texts;
  };
  const auto texts = texts_of(with);
  ASSERT_EQ(texts.size(), 2u);
  for (const auto& text : texts) EXPECT_TRUE(text.starts_with("the")) << text;
  EXPECT_EQ(texts_of(again), texts);
  EXPECT_TRUE(event_files(with.folder()).empty());
}

TEST(Samples, OptionsThatWouldDoNothingAreRefused) {
  const auto refused = [](const Variables& changes, const std::vector<std::string>& words) {
    expect_error(ExitCode::usage, words, [&] { tiny_command(changes); });
  };
  refused({{"HISTOGRAM_EVERY", "1"}}, {"HISTOGRAM_EVERY", "LOGGERS"});
  refused({{"SAMPLE_PROMPT", "the"}}, {"SAMPLE_PROMPT", "SAMPLE_EVERY"});
  refused({{"SAMPLE_TOKENS", "5"}}, {"SAMPLE_TOKENS", "SAMPLE_EVERY"});
}

}  // namespace
}  // namespace pgolf::testing
