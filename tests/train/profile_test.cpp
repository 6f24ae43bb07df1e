// PROFILE: a trace and a table of some steps of a run, which is otherwise unaffected.
#include "pgolf/run/run_folder.h"
#include "support/training.h"

namespace pgolf::testing {
namespace {

/// An operation's share of the steps' time in the table; -1 if it has no row.
double share_of(const std::string& table, const std::string& operation) {
  for (const auto& line : split(table, '\n')) {
    const size_t end = line.size() - std::min(line.size(), operation.size() + 2);
    if (line.substr(end) == "  " + operation) return std::stod(line);
  }
  return -1;
}

TEST(Profile, WritesATraceAndATable) {
  TempFolder folder;
  const RunFolder run{folder / "run"};
  const auto result = run_program(
      "train_gpt", {"--profile", "2"},
      tiny_variables({{"OUT_DIR", folder.path().string()}, {"RUN_ID", "run"}, {"ITERATIONS", "7"}, {"VAL_LOSS_EVERY", "4"}}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "") << "no warnings";
  EXPECT_EQ(count_kind(read_metrics(run.metrics()), "train"), 7) << "training continued";

  const std::string table = read_text(run.profile_table());
  EXPECT_EQ(table.rfind("profile: 2 steps of ", 0), 0u) << table;
  EXPECT_NE(result.out.find(table), std::string::npos) << "the table is printed too:\n" << result.out;
  // LibTorch's operations, and ours by their names in the code.
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
  for (const auto& event : trace.at("traceEvents")) steps += event.value("name", "") == "(optimizer step)" ? 1 : 0;
  EXPECT_EQ(steps, 2);
}

TEST(Profile, ARunThatIsTooShortWarns) {
  TinyRun run({{"ITERATIONS", "4"}, {"PROFILE", "5"}});
  ::testing::internal::CaptureStderr();
  ASSERT_EQ(run.train(), ExitCode::ok);
  const std::string warning = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(warning.find("PROFILE=5: the run had only 4 steps; profiled 1 after"), std::string::npos) << warning;
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
