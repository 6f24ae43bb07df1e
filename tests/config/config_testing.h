// Shared by the tests of the configuration.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "pgolf/base/error.h"
#include "pgolf/config/options.h"
#include "pgolf/config/train_options.h"
#include "support/files.h"

namespace pgolf::testing {

/// argv of a program called with these arguments.
class Arguments {
 public:
  explicit Arguments(std::vector<std::string> arguments) : words_(std::move(arguments)) {
    words_.insert(words_.begin(), "program");
    for (const auto& word : words_) pointers_.push_back(word.c_str());
    pointers_.push_back(nullptr);
  }
  int argc() const { return static_cast<int>(words_.size()); }
  const char* const* argv() const { return pointers_.data(); }

 private:
  std::vector<std::string> words_;
  std::vector<const char*> pointers_;
};

inline TrainCommand train(const std::vector<std::string>& arguments, const Environment& environment = {}) {
  const Arguments command_line(arguments);
  return resolve_train_command(command_line.argc(), command_line.argv(), environment);
}

inline std::string preset(const char* name) {
  return std::string(PGOLF_SOURCE_DIR) + "/configs/" + name;
}

/// Rotated dims per layer.
inline std::vector<int> rope_dims_per_layer(const TrainCommand& command) {
  std::vector<int> dims;
  for (int layer = 0; layer < command.config.model.num_layers; ++layer)
    dims.push_back(command.config.model.rope_of(layer).rope_dims);
  return dims;
}

/// The error that body throws; if it throws none, a test failure and nullopt.
template <typename Body>
std::optional<Error> error_of(const Body& body) {
  try {
    body();
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << "one line only: " << e.what();
    return e;
  }
  ADD_FAILURE() << "no error";
  return std::nullopt;
}

inline std::string train_error(const std::vector<std::string>& arguments, const Environment& environment = {}) {
  const auto error = error_of([&] { train(arguments, environment); });
  if (!error) return {};
  EXPECT_EQ(error->code(), ExitCode::usage);
  return std::string(error->what()) + " | " + error->hint();
}

#define EXPECT_CONTAINS(text, part) EXPECT_TRUE(::pgolf::testing::contains(text, part)) << "in: " << (text)

/// A folder that is removed with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() / ("pgolf_config_" + std::to_string(getpid()) + "_" + std::to_string(++count));
    std::filesystem::create_directories(path_);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }

  std::string write(const std::string& name, const std::string& text) const {
    const auto path = path_ / name;
    std::ofstream(path, std::ios::binary) << text;
    return path.string();
  }

 private:
  std::filesystem::path path_;
};

}  // namespace pgolf::testing
