#include "pgolf/run/training_state.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "pgolf/artifact/layout.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {

using nlohmann::json;

std::string training_state_text(const TrainingState& state) {
  json text{{"step", state.step},
            {"training_time_ms", state.training_time_ms},
            {"loader_file", state.loader_file},
            {"loader_position", state.loader_position},
            {"micro_steps", state.micro_steps},
            {"best_val_loss", state.best_val_loss},
            {"best_step", state.best_step},
            {layout::state_config, state.config},
            {layout::state_model, state.model},
            {"data", state.data},
            {"arithmetic", state.arithmetic}};
  if (state.extra_passes != 0) text["extra_passes"] = state.extra_passes;
  return text.dump();
}

TrainingState parse_training_state(const std::string& text, const std::string& where) {
  const auto unreadable = [&where](const std::string& what) {
    return Error(ExitCode::bad_input, format("%s: unreadable state: %s", where.c_str(), printable(what).c_str()));
  };
  const auto count = [&unreadable](const json& value, const char* key) {
    if (!value.is_number_integer() || value < 0 || value > std::numeric_limits<int64_t>::max())
      throw unreadable(format("%s=%s is not a count", key, value.dump().c_str()));
    return value.get<int64_t>();
  };
  const auto small_count = [&](const json& value, const char* key) {
    if (count(value, key) > std::numeric_limits<int>::max()) throw unreadable(format("%s=%s", key, value.dump().c_str()));
    return value.get<int>();
  };
  try {
    const auto meta = json::parse(text);
    TrainingState state;
    state.step = count(meta.at("step"), "step");
    meta.at("training_time_ms").get_to(state.training_time_ms);
    state.loader_file = count(meta.at("loader_file"), "loader_file");
    state.loader_position = count(meta.at("loader_position"), "loader_position");
    state.micro_steps = small_count(meta.value("micro_steps", json(kMicroSteps)), "micro_steps");
    state.extra_passes = small_count(meta.value("extra_passes", json(0)), "extra_passes");
    meta.at("best_val_loss").get_to(state.best_val_loss);
    state.best_step = count(meta.at("best_step"), "best_step");
    meta.at(layout::state_config).get_to(state.config);
    meta.at(layout::state_model).get_to(state.model);
    state.data = meta.value("data", state.data);
    state.arithmetic = meta.value("arithmetic", state.arithmetic);
    return state;
  } catch (const json::exception& e) {
    throw unreadable(e.what());
  }
}

}  // namespace pgolf
