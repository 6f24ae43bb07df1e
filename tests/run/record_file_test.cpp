// Records to JSON lines and back, and where final files go.
#include "pgolf/run/record_file.h"

#include <gtest/gtest.h>

#include <limits>

#include "pgolf/base/text.h"
#include "pgolf/run/final_files.h"
#include "support/files.h"

namespace pgolf::testing {
namespace {

TEST(RecordFile, DropsLinesLaterThanTheCheckpoint) {
  const TempFolder folder;
  const auto path = folder / "metrics.jsonl";
  RecordFile first(path);
  first.write(RunRecord{.run_id = "r"});
  for (int64_t step = 1; step <= 4; ++step) first.write(TrainRecord{.step = step});
  first.write(ValRecord{.step = 2});  // measured again by the resumed run
  first.write(FinalRecord{});
  write_file(path, read_text(path) + "{\"kind\":\"tr");
  RecordFile again(path, 2);
  again.write(TrainRecord{.step = 3});
  std::vector<std::string> kinds;
  std::vector<int64_t> steps;
  const auto read = [&] {
    kinds.clear();
    steps.clear();
    return read_records(path, [&](const auto& line) {
      kinds.push_back(line.at("kind"));
      if (const auto record = as<TrainRecord>(line)) steps.push_back(record->step);
    });
  };
  EXPECT_FALSE(read().cut);
  EXPECT_EQ(kinds, (std::vector<std::string>{"run", "train", "train", "train"}));
  EXPECT_EQ(steps, (std::vector<int64_t>{1, 2, 3}));
  RecordFile appended(path);
  appended.write(EndRecord{});
  read();
  EXPECT_EQ(kinds.size(), 5u);
}

TEST(RecordFile, KeepsWhatItCannotWrite) {
  const TempFolder folder;
  RecordFile records(folder / "later/metrics.jsonl");
  records.write(TrainRecord{.step = 1});
  records.write(TrainRecord{.step = 2});
  EXPECT_EQ(split(trim(records.unwritten()), '\n').size(), 2u);
  std::filesystem::create_directory(folder / "later");
  records.write(TrainRecord{.step = 3});
  EXPECT_TRUE(records.unwritten().empty());
  std::vector<int64_t> steps;
  read_records(records.path(), [&](const nlohmann::json& line) { steps.push_back(line.at("step")); });
  EXPECT_EQ(steps, (std::vector<int64_t>{1, 2, 3}));
}

TEST(FinalFiles, GoElsewhereWhereTheyCannotBeWritten) {
  const TempFolder folder;
  write_atomic(folder / "file", std::string_view("in the way"));
  const RunFolder run{folder / "file/run"};
  const std::string text = "model";
  FinalFiles files(run, folder / "other");
  EXPECT_NO_THROW(files.require_complete());
  const auto saved = files.save(run.model(), as_bytes(text));
  EXPECT_EQ(saved.filename(), "final_model.pt");
  EXPECT_EQ(saved.parent_path().parent_path(), folder / "other");
  EXPECT_EQ(read_text(saved), text);
  RecordFile records(run.metrics());
  records.write(TrainRecord{.step = 1});
  files.save_rest(records);
  EXPECT_EQ(read_text(saved.parent_path() / "metrics.jsonl"), records.unwritten());
  expect_error(ExitCode::io, {run.path.string()}, [&] { files.require_complete(); });

  FinalFiles nowhere(run, folder / "file");
  expect_error(ExitCode::io, {"file/run", "nor elsewhere"}, [&] { nowhere.save(run.model(), as_bytes(text)); });
  FinalFiles fine(RunFolder{folder.path()}, folder / "unused");
  EXPECT_EQ(fine.save(folder / "final_model.pt", as_bytes(text)), folder / "final_model.pt");
  EXPECT_NO_THROW(fine.require_complete());
  EXPECT_FALSE(std::filesystem::exists(folder / "unused"));
}

TEST(Records, KeepTheOrderOfTheirFields) {
  const TrainRecord record{
      .step = 3, .train_loss = 2.5, .lr_scale = 1, .muon_momentum = 0.85, .grad_norm = 0.5, .tokens = 24, .train_time_ms = 7};
  EXPECT_EQ(to_json(record).dump(),
            "{\"kind\":\"train\",\"step\":3,\"train_loss\":2.5,\"lr_scale\":1.0,\"muon_momentum\":0.85,\"grad_norm\":0.5,"
            "\"tokens\":24,\"train_time_ms\":7.0}");
}

TEST(Records, RoundTrip) {
  const RunRecord run{.run_id = "a", .rope_dims = 16, .config = {{"SEED", "1"}}};
  const auto back = as<RunRecord>(to_json(run));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->config, run.config);
  EXPECT_EQ(back->rope_dims, 16);
  const LengthRecord length{.seq_len = 64, .tokens = 640, .val_loss = std::numeric_limits<double>::quiet_NaN()};
  const auto line = nlohmann::json::parse(to_json(length).dump());
  EXPECT_TRUE(line.at("val_loss").is_null()) << "JSON has no NaN";
  const auto measured = as<LengthRecord>(line);
  ASSERT_TRUE(measured);
  EXPECT_EQ(measured->tokens, 640);
  EXPECT_FALSE(measured->val_loss || measured->val_bpb);
}

TEST(Records, ALineOfAnotherKindIsNullopt) {
  const auto line = to_json(TrainRecord{.step = 1});
  EXPECT_FALSE(as<ValRecord>(line));
  EXPECT_FALSE(as<TrainRecord>(nlohmann::json{{"step", 1}}));
  EXPECT_FALSE(as<TrainRecord>(nlohmann::json{{"kind", 7}}));
}

TEST(Records, LinesThatLackANumberAreSkippedAndReported) {
  const TempFolder folder;
  const auto path = folder / "metrics.jsonl";
  write_file(path,
             "{\"kind\":\"train\",\"step\":1,\"train_loss\":\"x\"}\n[1]\n\n"
             "{\"kind\":\"train\",\"step\":2,\"train_loss\":3,\"tokens\":\"many\",\"other\":[]}\n{\"kind\":\"tr");
  std::vector<TrainRecord> records;
  const auto problems = read_records(path, [&](const auto& line) {
    if (const auto record = as<TrainRecord>(line)) records.push_back(*record);
  });
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].tokens, 0);
  EXPECT_TRUE(problems.cut);
  ASSERT_EQ(problems.lines.size(), 2u);
  EXPECT_NE(problems.lines[0].find("metrics.jsonl:1 has no number for train_loss"), std::string::npos) << problems.lines[0];
  EXPECT_NE(problems.lines[1].find("metrics.jsonl:2 is not a JSON object"), std::string::npos) << problems.lines[1];
}

}  // namespace
}  // namespace pgolf::testing
