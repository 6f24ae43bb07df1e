// PROFILE: a trace and a table of some steps of a run that goes on as if they were not there.
#include "pgolf/run/run_folder.h"
#include "support/training.h"

namespace pgolf::testing {
namespace {

/// The share of the steps' time that the table gives an operation; -1 if it has no row.
double share_of(const std::string& table, const std::string& operation) {
  for (const auto& line : split(table, '\n')) {
    const size_t end = line.size() - std::min(line.size(), operation.size() + 2);
    if (line.substr(end) == "  " + operation) return std::stod(line);
  }
  return -1;
}

TEST(Profile, WritesATraceAndATableOfTheStepsAskedFor) {
  TempFolder folder;
  const RunFolder run{folder / "run"};
  const auto result = run_program(
      "train_gpt", {"--profile", "2"},
      tiny_variables({{"OUT_DIR", folder.path().string()}, {"RUN_ID", "run"}, {"ITERATIONS", "7"}, {"VAL_LOSS_EVERY", "4"}}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "") << "nothing to warn of";
  EXPECT_EQ(count_kind(read_metrics(run.metrics()), "train"), 7) << "training went on";

  const std::string table = read_text(run.profile_table());
  EXPECT_EQ(table.rfind("profile: 2 steps of ", 0), 0u) << table;
  EXPECT_NE(result.out.find(table), std::string::npos) << "the console has the table too:\n" << result.out;
  // LibTorch's own, and ours by the names that they have in the code.
  for (const char* operation : {"aten::empty", "muon_update_"}) {
    EXPECT_GT(share_of(table, operation), 0) << operation << "\n" << table;
  }
  EXPECT_NE(table.find(" (backward)\n"), std::string::npos) << table;
  for (const char* noise : {"namespace", "autograd::", "evaluate_function"})
    EXPECT_EQ(table.find(noise), std::string::npos) << table;
  double shares = 0;
  for (const auto& line : split(table, '\n')) {
    if (line.find("%  ") != std::string::npos) shares += std::stod(line);
  }
  EXPECT_NEAR(shares, 100, 3) << "one thread, so the self times add up to the steps\n" << table;

  const auto trace = nlohmann::json::parse(read_text(run.profile_trace()));
  int steps = 0;
  for (const auto& event : trace.at("traceEvents")) steps += event.value("name", "") == "(optimiser step)" ? 1 : 0;
  EXPECT_EQ(steps, 2);
}

TEST(Profile, ARunTooShortForItSaysSo) {
  TinyRun run({{"ITERATIONS", "4"}, {"PROFILE", "5"}});
  ::testing::internal::CaptureStderr();
  ASSERT_EQ(run.train(), ExitCode::ok);
  const std::string warning = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(warning.find("PROFILE=5: the run had 4 steps, 1 of which"), std::string::npos) << warning;
  EXPECT_EQ(read_text(run.folder().profile_table()).rfind("profile: 1 steps of ", 0), 0u);
}

TEST(Profile, CountsAreCheckedLikeEveryOption) {
  for (const char* wrong : {"-1", "two", "1001"}) {
    const auto result = run_program("train_gpt", {"--profile", wrong}, tiny_variables());
    EXPECT_EQ(result.code, 2) << wrong;
    EXPECT_NE(result.err.find("PROFILE"), std::string::npos) << result.err;
    EXPECT_NE(result.err.find(wrong), std::string::npos) << result.err;
  }
}

}  // namespace
}  // namespace pgolf::testing
