#include "pgolf/run/training_state.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/files.h"

namespace pgolf::testing {
namespace {

using nlohmann::json;

TrainingState sample() {
  TrainingState state;
  state.step = 400;
  state.training_time_ms = 1234.5;
  state.loader_file = 2;
  state.loader_position = int64_t{1} << 40;
  state.micro_steps = 6;
  state.extra_passes = 1;
  state.best_val_loss = 2.625;
  state.best_step = 300;
  state.config = {{"ROPE_DIMS", "16"}, {"RUN_ID", "a \"b\""}};
  state.model = {{"NUM_LAYERS", "9"}};
  state.data = {{"first", "abc"}};
  state.arithmetic = {{"dtype", "float32"}};
  return state;
}

TEST(TrainingState, ReadsWhatItWrites) {
  const std::string text = training_state_text(sample());
  const TrainingState read = parse_training_state(text, "x");
  EXPECT_EQ(training_state_text(read), text);
  EXPECT_EQ(read.loader_position, int64_t{1} << 40);
  EXPECT_EQ(read.config.at("RUN_ID"), "a \"b\"");
}

TEST(TrainingState, OlderFilesLackSomeFields) {
  json state = json::parse(training_state_text(sample()));
  for (const char* name : {"micro_steps", "extra_passes", "data", "arithmetic"}) state.erase(name);
  const TrainingState read = parse_training_state(state.dump(), "x");
  EXPECT_EQ(read.micro_steps, kMicroSteps);
  EXPECT_EQ(read.extra_passes, 0);
  EXPECT_TRUE(read.data.empty());
  state.erase("step");
  expect_error(ExitCode::bad_input, {"x: unreadable state", "step"}, [&] { parse_training_state(state.dump(), "x"); });
}

// Numbers that would become others when converted.
TEST(TrainingState, CountsAreCounts) {
  for (const char* name : {"step", "loader_file", "loader_position", "micro_steps", "extra_passes", "best_step"}) {
    for (const char* value : {"-1", "1.5", "1e300", "true", "null", "\"1\"", "18446744073709551615"}) {
      json state = json::parse(training_state_text(sample()));
      state[name] = json::parse(value);
      expect_error(ExitCode::bad_input, {"x: unreadable state", name}, [&] { parse_training_state(state.dump(), "x"); });
    }
  }
  for (const char* name : {"micro_steps", "extra_passes"}) {
    json state = json::parse(training_state_text(sample()));
    state[name] = int64_t{1} << 32;
    expect_error(ExitCode::bad_input, {"x: unreadable state", name}, [&] { parse_training_state(state.dump(), "x"); });
  }
}

}  // namespace
}  // namespace pgolf::testing
