// train_gpt from the outside: arguments and environment in; exit code, messages and files out.
#include "pgolf/artifact/codec.h"
#include "pgolf/config/train_options.h"
#include "pgolf/data/shard.h"
#include "pgolf/model_io/model_file.h"
#include "support/training.h"

namespace pgolf::testing {
namespace {

constexpr const char* kRunId = "the_run";

/// The tiny run as a process, in its own folder.
class TrainGpt : public ::testing::Test {
 protected:
  Variables variables(const Variables& changes = {}) const {
    Variables all = tiny_variables({{"OUT_DIR", out_dir().string()}});
    for (const auto& [name, value] : changes) all[name] = value;
    return all;
  }
  ProgramResult train(const std::vector<std::string>& arguments, const Variables& changes = {}) const {
    return run_program("train_gpt", arguments, variables(changes));
  }
  ProgramResult train_named(std::vector<std::string> arguments, const Variables& changes = {}) const {
    arguments.insert(arguments.end(), {"--run-id", kRunId});
    return train(arguments, changes);
  }
  fs::path out_dir() const { return folder_ / "runs"; }
  RunFolder run() const { return {out_dir() / kRunId}; }
  int steps_done() const {
    if (!fs::exists(run().metrics())) return 0;
    int steps = 0;
    for (const auto& line : split(read_text(run().metrics()), '\n'))
      steps += line.find("\"kind\":\"train\"") != std::string::npos ? 1 : 0;
    return steps;
  }

  TempFolder folder_;
};

struct RopeCase {
  std::vector<std::string> arguments;
  int rope_dims;
  std::string origin;
};

TEST_F(TrainGpt, RopeDimsFlagOverridesTheEnvironmentEverywhere) {
  const Variables wide_head{
      {"MODEL_DIM", "64"}, {"NUM_HEADS", "1"}, {"ROPE_DIMS", "32"}, {"ITERATIONS", "1"}, {"SAVE_EVERY", "1"}};
  for (const RopeCase& expected :
       {RopeCase{{"--rope-dims", "16"}, 16, "flag --rope-dims"}, RopeCase{{}, 32, "environment ROPE_DIMS"}}) {
    const auto result = train_named(expected.arguments, wide_head);
    ASSERT_EQ(result.code, 0) << result.err;
    const std::string number = std::to_string(expected.rope_dims),
                      line = "rope_dims:" + number + " of 64 dims from:" + expected.origin + " base:10000.0";
    EXPECT_TRUE(contains(result.out, line)) << result.out;
    EXPECT_TRUE(contains(read_text(run().log()), line));
    EXPECT_TRUE(contains(read_text(run().config()), "\nROPE_DIMS=" + number)) << read_text(run().config());
    const auto metrics = read_metrics(run().metrics());
    EXPECT_EQ(metrics.front().at("rope_dims"), expected.rope_dims);
    EXPECT_EQ(metrics.front().at("rope_dims_from"), expected.origin);
    EXPECT_EQ(metrics.front().at("head_dim"), 64);
    EXPECT_EQ(metrics.back().at("rope_dims"), expected.rope_dims);
    const auto checkpoint = load_newest_checkpoint(run().checkpoints());
    ASSERT_TRUE(checkpoint.has_value());
    EXPECT_EQ(checkpoint->state.config.at("ROPE_DIMS"), number);
    EXPECT_EQ(checkpoint->state.model.at("ROPE_DIMS"), number);
    for (const auto& path : {run().model(), run().artifact(), checkpoint->path}) {
      EXPECT_EQ(read_model_file(path).stored.model.widest_rope().rope_dims, expected.rope_dims) << path;
    }
    fs::remove_all(out_dir());
  }
}

TEST_F(TrainGpt, LeavesACompleteRunFolder) {
  const auto result = train_named({}, {{"VAL_LOSS_EVERY", "1"}, {"WARMUP_STEPS", "1"}, {"ATTENTION_WINDOW", "8,full"}});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "") << "no warnings";
  EXPECT_EQ(names_in(run().path),
            (std::vector<std::string>{"config.env", "final_model.int8.ptz", "final_model.pt", "log.txt", "metrics.jsonl"}));
  const std::string log = read_text(run().log());
  // Upstream's lines.
  for (const char* part :
       {"\nval_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path=", "\ntrain_loader:dataset:shards train_shards:2\n",
        "\nmodel_params:", "\nworld_size:1 grad_accum_steps:8\n", "\nattention_mode:gqa num_heads:2 num_kv_heads:1\n",
        "\ntrain_batch_tokens:128 train_seq_len:16 iterations:2 ", "\nseed:1337\n", "\nwarmup_step:1/1\n",
        "\nstep:0/2 val_loss:", "\nstep:1/2 train_loss:", "\nstep:2/2 val_loss:", "\npeak memory allocated: ",
        "\nSerialized model: ", "\nSerialized model int8+zlib: ", "\nTotal submission size int8+zlib: ",
        "\nfinal_int8_zlib_roundtrip val_loss:", "\nfinal_int8_zlib_roundtrip_exact val_loss:"}) {
    EXPECT_TRUE(contains(log, part)) << part;
  }
  EXPECT_TRUE(contains(log, "\nattention_backend:own\nattention_backend:own window:8\n"));
  for (const auto& line : split(result.out, '\n')) EXPECT_TRUE(contains(log, line)) << line;
}

TEST_F(TrainGpt, ConfigEnvReproducesTheRun) {
  const auto first =
      train_named({"--rope-dims", "6", "--matrix-lr", "0.031"}, {{"WARMDOWN_FRAC", "0.5"}, {"WARMDOWN_ITERS", "1200"}});
  EXPECT_EQ(first.code, 2) << "conflicting options";
  Variables settings = variables({{"SEED", "77"}});
  settings.erase("WARMDOWN_ITERS");
  const auto original = run_program(
      "train_gpt", {"--rope-dims", "6", "--matrix-lr", "0.031", "--warmdown-frac", "0.5", "--run-id", kRunId}, settings);
  ASSERT_EQ(original.code, 0) << original.err;
  const auto again = run_program("train_gpt", {"--config", run().config().string(), "--run-id", "again"});
  ASSERT_EQ(again.code, 0) << again.err;
  const fs::path other = out_dir() / "again";
  EXPECT_EQ(read_bytes(other / "final_model.int8.ptz"), read_bytes(run().artifact()));
  EXPECT_EQ(read_bytes(other / "final_model.pt"), read_bytes(run().model()));
  const auto last_loss = [](const fs::path& folder) {
    return read_metrics(folder / "metrics.jsonl").back().at("val_loss").get<double>();
  };
  EXPECT_EQ(last_loss(other), last_loss(run().path));
}

TEST_F(TrainGpt, TwoRunsNeverShareAFolder) {
  ASSERT_EQ(train_named({}, {{"ITERATIONS", "0"}}).code, 0);
  const std::string log = read_text(run().log());
  const auto again = train_named({}, {{"ITERATIONS", "0"}});
  EXPECT_EQ(again.code, 2);
  EXPECT_TRUE(contains(again.err, run().path.string())) << again.err;
  EXPECT_EQ(read_text(run().log()), log) << "the first run's files are untouched";
  ASSERT_EQ(train({}, {{"ITERATIONS", "0"}}).code, 0);
  ASSERT_EQ(train({}, {{"ITERATIONS", "0"}}).code, 0);
  EXPECT_EQ(names_in(out_dir()).size(), 3u) << "without RUN_ID each run gets its own name";
}

TEST_F(TrainGpt, OverBudgetHasAnExitCodeAndKeepsTheFiles) {
  const auto result = train_named({}, {{"BUDGET_BYTES", "1000"}, {"ITERATIONS", "1"}});
  EXPECT_EQ(result.code, 4);
  EXPECT_TRUE(contains(result.err, "warning: over budget by ")) << result.err;
  EXPECT_TRUE(fs::exists(run().model()));
  EXPECT_TRUE(fs::exists(run().artifact()));
  EXPECT_TRUE(contains(read_text(run().log()), "over budget by "));
}

TEST_F(TrainGpt, StopSignalsSaveAndTheRunContinues) {
  const Variables settings = variables({{"ITERATIONS", "100000"}, {"RUN_ID", kRunId}});
  Program first("train_gpt", {}, settings);
  ASSERT_TRUE(first.wait_for([&] { return steps_done() >= 3; }));
  first.signal(SIGINT);
  const auto interrupted = first.wait();
  EXPECT_EQ(interrupted.code, 130) << interrupted.err;
  EXPECT_TRUE(contains(interrupted.out, "interrupted: signal:2 step:")) << interrupted.out;
  EXPECT_FALSE(fs::exists(run().artifact()));
  const auto saved = load_newest_checkpoint(run().checkpoints());
  ASSERT_TRUE(saved.has_value());
  const auto step = static_cast<int>(saved->state.step);
  EXPECT_EQ(step, steps_done()) << "the current step was finished and saved";
  Program second("train_gpt", {"--resume", "auto"}, settings);
  ASSERT_TRUE(second.wait_for([&] { return steps_done() >= step + 2; }));
  second.signal(SIGTERM);
  const auto terminated = second.wait();
  EXPECT_EQ(terminated.code, 130) << terminated.err;
  EXPECT_TRUE(contains(terminated.out, format("resumed:step:%d ", step))) << terminated.out;
  const auto lines = read_metrics(run().metrics());
  int expected = 0;
  for (const auto& line : lines) {
    if (line.at("kind") == "train") {
      EXPECT_EQ(line.at("step"), ++expected);
    }
  }
  EXPECT_EQ(load_newest_checkpoint(run().checkpoints())->state.step, expected);
}

TEST_F(TrainGpt, ResumeTakesAFolderAPathOrTheNewestRun) {
  ASSERT_EQ(train_named({}, {{"ITERATIONS", "3"}, {"SAVE_EVERY", "1"}}).code, 0);
  const auto artifact = read_bytes(run().artifact());
  const auto checkpoints = list_checkpoints(run().checkpoints());
  ASSERT_EQ(checkpoints.size(), 2u);
  for (const std::string& from :
       {std::string("auto"), run().path.string(), run().checkpoints().string(), checkpoints[0].string()}) {
    fs::remove(run().artifact());
    const auto result = train({"--resume", from}, {{"ITERATIONS", "3"}, {"SAVE_EVERY", "1"}});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_TRUE(contains(result.out, "resumed:step:")) << from;
    EXPECT_EQ(read_bytes(run().artifact()), artifact) << from;
  }
  EXPECT_EQ(names_in(out_dir()), std::vector<std::string>{kRunId});
  const auto other = train({"--resume", "auto"}, {{"ITERATIONS", "3"}, {"SAVE_EVERY", "1"}, {"SEED", "5"}});
  EXPECT_EQ(other.code, 2);
  EXPECT_TRUE(contains(other.err, "SEED: checkpoint has 1337, this run has 5")) << other.err;
  const auto branch =
      train({"--resume", checkpoints[0].string(), "--run-id", "branch"}, {{"ITERATIONS", "3"}, {"SAVE_EVERY", "1"}});
  EXPECT_EQ(branch.code, 0) << branch.err;
  EXPECT_EQ(read_bytes(out_dir() / "branch/final_model.int8.ptz"), artifact);
  const auto wrong_branch = train({"--resume", checkpoints[0].string(), "--run-id", "wrong"}, {{"ITERATIONS", "4"}});
  EXPECT_EQ(wrong_branch.code, 2);
  EXPECT_TRUE(contains(wrong_branch.err, "ITERATIONS: checkpoint has 3, this run has 4")) << wrong_branch.err;
  EXPECT_FALSE(fs::exists(out_dir() / "wrong"));
}

TEST_F(TrainGpt, ResumeRefusesModelsAndKnowsCheckpointsByContent) {
  const Variables steps{{"ITERATIONS", "3"}, {"SAVE_EVERY", "1"}};
  ASSERT_EQ(train_named({}, steps).code, 0);
  const auto artifact = read_bytes(run().artifact());
  for (const auto& [path, kind] : {std::pair(run().model(), "(torch)"), std::pair(run().artifact(), "(int8+zlib)")}) {
    for (const std::vector<std::string>& branch : {std::vector<std::string>{}, {"--run-id", "x"}}) {
      std::vector<std::string> arguments{"--resume", path.string()};
      arguments.insert(arguments.end(), branch.begin(), branch.end());
      const auto refused = train(arguments, steps);
      EXPECT_EQ(refused.code, 3);
      EXPECT_EQ(refused.err, "error: " + path.string() + " is a model " + kind +
                                 " without the state of the optimizers\n  resume from a run folder or from a file in its "
                                 "checkpoints/\n");
    }
  }
  const fs::path renamed = folder_ / "renamed.ptz";
  write_atomic(renamed, compress(Codec::zlib, read_bytes(list_checkpoints(run().checkpoints()).front())));
  const auto nowhere = train({"--resume", renamed.string()}, steps);
  EXPECT_EQ(nowhere.code, 2);
  EXPECT_TRUE(contains(nowhere.err, "not in the checkpoints/ of a run folder") && contains(nowhere.err, "--run-id"))
      << nowhere.err;
  EXPECT_EQ(names_in(out_dir()), std::vector<std::string>{kRunId});
  const auto branch = train({"--resume", renamed.string(), "--run-id", "branch"}, steps);
  EXPECT_EQ(branch.code, 0) << branch.err;
  EXPECT_EQ(read_bytes(out_dir() / "branch/final_model.int8.ptz"), artifact);
}

TEST_F(TrainGpt, ResumeStartsOverWithoutACheckpoint) {
  fs::create_directories(run().path);
  write_file(run().log(), "of a run that was killed early\n");
  write_file(run().metrics(), "{\"kind\":\"run\"}\n{\"kind\":\"tr");
  const auto result = train_named({"--resume"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(count_kind(read_metrics(run().metrics()), "train"), 2);
  EXPECT_FALSE(contains(read_text(run().log()), "killed early"));
  const auto finished = train_named({"--resume"});
  EXPECT_EQ(finished.code, 2);
  EXPECT_TRUE(contains(finished.err, "is finished")) << finished.err;
}

TEST_F(TrainGpt, ADamagedCheckpointIsSkipped) {
  ASSERT_EQ(train_named({}, {{"SAVE_EVERY", "1"}}).code, 0);
  const auto artifact = read_bytes(run().artifact());
  damage_file(list_checkpoints(run().checkpoints()).back());
  const auto result = train_named({"--resume"}, {{"SAVE_EVERY", "1"}});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.err, "warning: ") && contains(result.err, "step_00000002.safetensors")) << result.err;
  EXPECT_TRUE(contains(result.out, "resumed:step:1 ")) << result.out;
  EXPECT_EQ(read_bytes(run().artifact()), artifact);
}

struct Mistake {
  const char* name;
  std::vector<std::string> arguments;
  Variables variables;
  int code;
  std::vector<std::string> parts;
};

std::ostream& operator<<(std::ostream& out, const Mistake& mistake) {
  return out << mistake.name;
}

class TrainGptRefuses : public TrainGpt, public ::testing::WithParamInterface<Mistake> {
 protected:
  void write_data(const std::string& name, const std::vector<uint16_t>& train, const std::vector<uint16_t>& val) const {
    fs::create_directories(folder_ / name);
    for (const auto& [file, tokens] : {std::pair{"fineweb_train_0.bin", train}, {"fineweb_val_0.bin", val}}) {
      ShardWriter writer(folder_ / name / file);
      writer.append(tokens);
      writer.commit();
    }
  }
};

TEST_P(TrainGptRefuses, InOneLineAndLeavesNothingBehind) {
  write_file(folder_ / "garbage.model", "no tokenizer");
  const std::vector<uint16_t> text(5000, 300), no_text(5000, 1);
  auto with_foreign_id = text;
  with_foreign_id[4990] = 320;
  write_data("no_text", text, no_text);
  write_data("foreign_id", with_foreign_id, text);
  write_data("run1", text, text);
  Variables changes = GetParam().variables;
  for (auto& [name, value] : changes) {
    if (value.rfind("@/", 0) == 0) value = (folder_ / value.substr(2)).string();
  }
  const auto result = train(GetParam().arguments, changes);
  EXPECT_EQ(result.code, GetParam().code);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err.rfind("error: ", 0), 0u) << result.err;
  const auto lines = split(trim(result.err), '\n');
  EXPECT_LE(lines.size(), 2u) << "the error and at most one hint: " << result.err;
  for (const auto& part : GetParam().parts)
    EXPECT_TRUE(contains(result.err, part)) << "\"" << part << "\" is not in: " << result.err;
  EXPECT_FALSE(fs::exists(out_dir()));
}

INSTANTIATE_TEST_SUITE_P(
    Mistakes, TrainGptRefuses,
    ::testing::Values(
        Mistake{"unknown_flag", {"--rope-dim", "16"}, {}, 2, {"unknown flag --rope-dim", "--rope-dims"}},
        Mistake{"stray_argument", {"fast"}, {}, 2, {"fast"}},
        Mistake{"unreadable_number", {}, {{"ITERATIONS", "ten"}}, 2, {"ITERATIONS", "ten", "environment"}},
        Mistake{"odd_rope_dims", {"--rope-dims", "5"}, {}, 2, {"5", "4", "6", "--rope-dims"}},
        Mistake{"batch_of_broken_sequences", {}, {{"TRAIN_BATCH_TOKENS", "100"}}, 2, {"TRAIN_BATCH_TOKENS=100", "128"}},
        Mistake{"run_id_with_slash", {"--run-id", "../elsewhere"}, {}, 2, {"RUN_ID"}},
        Mistake{"no_shards", {}, {{"DATA_PATH", "@/nowhere"}}, 3, {"nowhere/fineweb_val_*.bin", "prepare_data"}},
        Mistake{
            "no_shards_in_a_folder_like_another", {}, {{"DATA_PATH", "@/run[1]"}}, 3, {"run[1]/fineweb_val_*.bin", "no folder"}},
        Mistake{"validation_without_text", {}, {{"DATA_PATH", "@/no_text"}}, 3, {"no byte of text"}},
        Mistake{"an_id_far_in_the_first_shard", {}, {{"DATA_PATH", "@/foreign_id"}}, 3, {"train_0.bin: token 4990 has id 320"}},
        Mistake{"no_tokenizer", {}, {{"TOKENIZER_PATH", "@/missing.model"}}, 3, {"missing.model"}},
        Mistake{"bad_tokenizer", {}, {{"TOKENIZER_PATH", "@/garbage.model"}}, 3, {"garbage.model"}},
        Mistake{"tokenizer_of_other_kind", {}, {{"TOKENIZER_PATH", "@/tokenizer.json"}}, 2, {"tokenizer.json", ".model"}},
        Mistake{"other_vocab_size", {}, {{"VOCAB_SIZE", "400"}}, 2, {"400", "320"}},
        Mistake{"too_few_validation_tokens", {}, {{"EVAL_TOKENS", "8"}}, 2, {"EVAL_TOKENS=8"}},
        Mistake{"no_config_file", {"--config", "missing.env"}, {}, 3, {"missing.env"}},
        Mistake{"nothing_to_resume", {"--resume"}, {}, 3, {"no run under"}},
        Mistake{"resume_from_nowhere", {"--resume", "nowhere"}, {}, 3, {"nowhere does not exist"}},
        Mistake{"min_steps_without_a_cap", {"--min-steps", "5"}, {}, 2, {"MIN_STEPS=5", "MAX_WALLCLOCK_SECONDS=0"}},
        Mistake{"a_launcher_that_says_too_little", {}, {{"RANK", "0"}, {"WORLD_SIZE", "2"}}, 2, {"LOCAL_RANK is missing"}},
        Mistake{"world_size_that_does_not_divide",
                {},
                {{"RANK", "0"},
                 {"WORLD_SIZE", "3"},
                 {"LOCAL_RANK", "0"},
                 {"LOCAL_WORLD_SIZE", "3"},
                 {"MASTER_ADDR", "127.0.0.1"},
                 {"MASTER_PORT", "29500"}},
                2,
                {"WORLD_SIZE=3", "GRAD_ACCUM_STEPS"}},
        Mistake{"nccl_without_a_gpu", {"--dist-backend", "nccl"}, {}, 7, {"DIST_BACKEND=nccl"}},
        Mistake{"an_address_of_no_interface_here",
                {},
                {{"RANK", "0"},
                 {"WORLD_SIZE", "2"},
                 {"LOCAL_RANK", "0"},
                 {"LOCAL_WORLD_SIZE", "2"},
                 {"MASTER_ADDR", "192.0.2.1"},
                 {"MASTER_PORT", "29500"}},
                7,
                {"cannot listen at MASTER_ADDR=192.0.2.1"}}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(TrainGpt, AnOutDirThatCannotBeCreatedIsAnError) {
  write_file(folder_ / "file", "");
  const auto result = train({}, {{"OUT_DIR", (folder_ / "file/runs").string()}});
  EXPECT_EQ(result.code, 6) << result.err;
  EXPECT_TRUE(contains(result.err, "file/runs")) << result.err;
}

TEST_F(TrainGpt, ANameOneTypoAwayWarns) {
  const auto result = train({"--print-config"}, {{"ROPE_DIM", "4"}});
  EXPECT_EQ(result.code, 0);
  EXPECT_TRUE(contains(result.err, "warning: ") && contains(result.err, "ROPE_DIM") && contains(result.err, "ROPE_DIMS"))
      << result.err;
  EXPECT_TRUE(contains(result.out, "ROPE_DIMS=full"));
}

TEST_F(TrainGpt, PrintConfigSaysWhereEachValueComesFrom) {
  write_file(folder_ / "file.env", "SEED=3\nROPE_BASE=500\n");
  const auto result = train({"--print-config", "--config", (folder_ / "file.env").string(), "--rope-dims=6"}, {{"SEED", "4"}});
  EXPECT_EQ(result.code, 0) << result.err;
  const auto line_of = [&](const std::string& name) -> std::string {
    for (const auto& line : split(result.out, '\n')) {
      if (line.rfind(name + "=", 0) == 0) return line;
    }
    return "";
  };
  EXPECT_TRUE(contains(line_of("ROPE_DIMS"), "ROPE_DIMS=6 ") && contains(line_of("ROPE_DIMS"), "flag --rope-dims")) << result.out;
  EXPECT_TRUE(contains(line_of("SEED"), "SEED=4 ") && contains(line_of("SEED"), "environment SEED"));
  EXPECT_TRUE(contains(line_of("ROPE_BASE"), "ROPE_BASE=500.0 ") && contains(line_of("ROPE_BASE"), "file.env:2"));
  EXPECT_TRUE(contains(line_of("ADAM_EPS"), "ADAM_EPS=1e-08 ") && contains(line_of("ADAM_EPS"), "default"));
  EXPECT_FALSE(fs::exists(out_dir()));
}

TEST_F(TrainGpt, DryRunPrintsEstimatesAndExits) {
  const auto result = train({"--dry-run", "--rope-dims", "6"});
  EXPECT_EQ(result.code, 0) << result.err;
  ModelConfig config = tiny_command().config.model;
  for (const std::string& part :
       {std::string("rope_dims: 6 of 16 dims\n"), "parameters: " + with_commas(config.parameter_count()) + "\n",
        std::string("estimated memory: "), std::string("estimated artifact: about "),
        std::string("dataset: 2 training shards with "), std::string("; 512 validation tokens to score\n")}) {
    EXPECT_TRUE(contains(result.out, part)) << part << "\n" << result.out;
  }
  EXPECT_FALSE(fs::exists(out_dir()));
}

TEST_F(TrainGpt, HelpAndVersionNeedNothing) {
  const auto help = run_program("train_gpt", {"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_TRUE(contains(help.out, "--rope-dims") && contains(help.out, "ROPE_DIMS")) << help.out;
  const auto markdown = run_program("train_gpt", {"--help-markdown"});
  EXPECT_EQ(markdown.code, 0);
  EXPECT_TRUE(contains(markdown.out, "|") && contains(markdown.out, "ROPE_DIMS")) << markdown.out;
  const auto version = run_program("train_gpt", {"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_EQ(version.out.rfind("train_gpt ", 0), 0u) << version.out;
  EXPECT_TRUE(contains(version.out, "LibTorch 2."));
}

TEST_F(TrainGpt, WriteSourceWritesTheCountedBundle) {
  const auto path = folder_ / "source.tar.xz";
  const auto result = run_program("train_gpt", {"--write-source", path.string()});
  EXPECT_EQ(result.code, 0) << result.err;
  const std::string bundle = read_text(path);
  EXPECT_EQ(bundle.substr(0, 6), std::string("\xfd"
                                             "7zXZ\0",
                                             6));
  EXPECT_TRUE(contains(result.out, std::to_string(bundle.size()) + " bytes")) << result.out;
  ASSERT_EQ(train_named({}, {{"ITERATIONS", "0"}}).code, 0);
  EXPECT_EQ(read_metrics(run().metrics()).back().at("code_bytes"), bundle.size());
}

}  // namespace
}  // namespace pgolf::testing
