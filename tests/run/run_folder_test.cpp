// The folder of a run.
#include "pgolf/run/run_folder.h"

#include <gtest/gtest.h>

#include "support/files.h"

namespace pgolf::testing {
namespace {

namespace fs = std::filesystem;

TEST(RunFolder, OneProcessAtATime) {
  const TempFolder folder;
  const RunFolder run{folder / "deep/run"};
  EXPECT_TRUE(run.create());
  EXPECT_FALSE(run.create());
  run.lock();
  expect_error(ExitCode::usage, {run.path.string(), "another process"}, [&] { run.lock(); });
}

TEST(RunFolder, OnlyTemporaryFilesAreLeftovers) {
  const TempFolder folder;
  const RunFolder run{folder.path()};
  fs::create_directory(run.checkpoints());
  for (const auto& path : {run.log(), run.path / "final_model.pt.tmp.123", run.checkpoints() / "step_00000002.safetensors",
                           run.checkpoints() / "step_00000003.safetensors.tmp.99"}) {
    write_file(path, "x");
  }
  run.remove_leftovers();
  EXPECT_EQ(names_in(run.path), (std::vector<std::string>{"checkpoints", "log.txt"}));
  EXPECT_EQ(names_in(run.checkpoints()), std::vector<std::string>{"step_00000002.safetensors"});
}

}  // namespace
}  // namespace pgolf::testing
